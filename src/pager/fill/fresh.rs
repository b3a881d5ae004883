//! Fresh memory for slots, from threads beside the pager's.
//!
//! The kernel zeroes memory before it gives it to anybody: 0.2 ms for a huge page on most machines, 7 ms
//! in a virtual machine whose host takes free memory back. The pager thread has faults to serve
//! meanwhile, and several processors zero faster than one.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::time::{ClockId, clock_gettime};

use super::super::region::populate;

/// More threads would only take processors from the program.
const THREADS_MAX: usize = 4;
/// They call little.
const STACK_BYTES: usize = 64 << 10;

/// What a thread says of a slot.
type Made = (u32, io::Result<()>);

/// The threads and what they have been asked for.
pub struct Fresh {
    ask: Option<Sender<(u32, Range<usize>)>>,
    made: Receiver<Made>,
    threads: Vec<JoinHandle<()>>,
    cpu_ns: Arc<AtomicU64>,
    pending: usize,
}

impl Fresh {
    /// Starts one thread for each processor, within reason, or as many as can be had. They inherit the
    /// mask of signals.
    pub fn start() -> Fresh {
        let (ask, asked) = unbounded::<(u32, Range<usize>)>();
        let (tell, made) = unbounded();
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let mut fresh = Fresh { ask: Some(ask), made, threads: Vec::new(), cpu_ns, pending: 0 };
        for _ in 0..count {
            let (asked, tell, cpu_ns) = (asked.clone(), tell.clone(), fresh.cpu_ns.clone());
            let serve = move || {
                for (slot, range) in asked {
                    let before = thread_cpu_ns();
                    let result = populate(range);
                    cpu_ns.fetch_add(thread_cpu_ns() - before, Ordering::Relaxed);
                    if tell.send((slot, result)).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("ggpager-fresh".into()).stack_size(STACK_BYTES);
            match thread.spawn(serve) {
                Ok(thread) => fresh.threads.push(thread),
                Err(error) => {
                    log::debug!("{} threads make memory ready: {error}", fresh.threads.len());
                    break;
                }
            }
        }
        fresh
    }

    /// Whether there is any thread to ask.
    pub fn is_there(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Asks for memory in `range`, which is `slot`'s and nobody touches until it is [made](Fresh::made).
    pub fn ask(&mut self, slot: u32, range: Range<usize>) {
        let ask = self.ask.as_ref().expect("open until dropped");
        ask.send((slot, range)).expect("the threads run until then");
        self.pending += 1;
    }

    /// Slots that have been asked for and not been told of.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// A slot that is ready, or what went wrong with it. None when nothing has been asked for.
    pub fn made(&mut self) -> Option<Made> {
        let made = if self.pending > 0 { self.made.recv().ok() } else { None };
        self.pending -= usize::from(made.is_some());
        made
    }

    /// As [`Fresh::made`], without waiting.
    pub fn made_already(&mut self) -> Option<Made> {
        let made = self.made.try_recv().ok();
        self.pending -= usize::from(made.is_some());
        made
    }

    /// CPU time of the threads so far, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Fresh {
    /// Waits for the threads: the slots' addresses may be somebody else's afterwards.
    fn drop(&mut self) {
        self.ask = None;
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
