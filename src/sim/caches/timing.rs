//! What the misses of a cache cost: threads that read what they miss, and wait for it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::policy::BlockTable;
use crate::sim::{Drive, Server, Step, Totals};

/// How a block that was missed is read.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// The drive.
    pub drive: Drive,
    /// Bytes of a read; `None` is the whole block. The next read is asked for when the thread begins
    /// with what the one before has brought, as the kernel's sequential readahead does it.
    pub readahead_bytes: Option<u64>,
}

/// A thread inside a block that is being read.
#[derive(Debug, Clone, Copy)]
struct Inside {
    /// Bytes that have not been asked for.
    left: u64,
    /// Bytes of the part that is being read.
    part: u64,
    compute_ns_per_byte: f64,
}

/// The totals whenever a thread takes a step of `cuts` (increasing), and at the end. `threads` threads take
/// `steps` in order; `missed` says of each whether the cache had to read its block.
pub fn time(
    table: &BlockTable,
    steps: &[Step],
    missed: &[bool],
    cuts: &[usize],
    threads: usize,
    reads: Reads,
) -> Vec<Totals> {
    let mut totals = Totals::default();
    let mut marks = Vec::with_capacity(cuts.len() + 1);
    let mut server = Server::default();
    let mut next = 0;
    // The moment at which a thread goes on, and where it is.
    let mut inside: Vec<Option<Inside>> = vec![None; threads];
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = (0..threads).map(|thread| Reverse((0, thread))).collect();
    while let Some(Reverse((now_ns, thread))) = due.pop() {
        totals.time_ns = totals.time_ns.max(now_ns);
        let goes_on_ns = match inside[thread] {
            // A part has come: its computation, and meanwhile the read of the next one.
            Some(here) => {
                let computed_ns = now_ns + (here.part as f64 * here.compute_ns_per_byte) as u64;
                let part = here.left.min(reads.readahead_bytes.unwrap_or(here.left));
                let ready_ns = if part > 0 { server.ends_ns(&reads.drive, now_ns, part) } else { 0 };
                totals.read_bytes += part;
                inside[thread] = (part > 0).then_some(Inside { left: here.left - part, part, ..here });
                totals.stall_ns += ready_ns.saturating_sub(computed_ns);
                computed_ns.max(ready_ns)
            }
            None => {
                if cuts.get(marks.len()).is_some_and(|&cut| cut <= next) {
                    marks.push(Totals { time_ns: now_ns, ..totals });
                }
                let Some(step) = steps.get(next) else { continue };
                next += 1;
                if missed[next - 1] {
                    let bytes = u64::from(table.block(step.block).len);
                    let part = bytes.min(reads.readahead_bytes.unwrap_or(bytes));
                    let ready_ns = server.ends_ns(&reads.drive, now_ns, part);
                    totals.read_bytes += part;
                    let compute_ns_per_byte = step.compute_ns as f64 / bytes as f64;
                    inside[thread] = Some(Inside { left: bytes - part, part, compute_ns_per_byte });
                    totals.stall_ns += ready_ns - now_ns;
                    totals.demand += 1;
                    ready_ns
                } else {
                    now_ns + step.compute_ns
                }
            }
        };
        due.push(Reverse((goes_on_ns, thread)));
    }
    marks.push(totals);
    marks
}
