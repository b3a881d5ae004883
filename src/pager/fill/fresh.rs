//! Fresh memory for slots, from threads beside the pager's.
//!
//! The kernel zeroes memory before it gives it to anybody: 0.2 ms for a huge page on most machines, 7 ms
//! in a virtual machine whose host takes free memory back. The pager thread has faults to serve
//! meanwhile, and several processors zero faster than one.
//!
//! Where single pages are wanted they take the huge pages apart, too, which takes the kernel as long as to zero them.
//!
//! The threads give way to every other one: the program computes meanwhile. So nobody may wait for them; what
//! they have not begun is [taken back](Fresh::take_back) instead.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::mm::Advice;

use super::super::cpu_time;
use super::super::region::{PAGE, advise, mark, populate};
use super::super::time_slice::give_way;

/// More threads would only take processors from the program.
const THREADS_MAX: usize = 4;
/// They call little.
const STACK_BYTES: usize = 64 << 10;

/// Memory that comes slower than this, in bytes per nanosecond of processor time, comes slower than drives read.
const SLOW: f64 = 1.0;

/// How the memory of a slot is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Huge pages.
    Whole,
    /// Single pages, which lie side by side all the same.
    Apart,
}

/// What a thread is asked for, and what it says of a slot.
type Asked = (u32, Range<usize>, Kind);
type Made = (u32, io::Result<Kind>);

/// The threads and what they have been asked for.
pub struct Fresh {
    ask: Option<Sender<Asked>>,
    asked: Receiver<Asked>,
    made: Receiver<Made>,
    threads: Vec<JoinHandle<()>>,
    cpu_ns: Arc<AtomicU64>,
    pending: usize,
    /// Bytes that the threads have made.
    bytes: u64,
    slot_bytes: usize,
}

impl Fresh {
    /// Starts one thread for each processor, within reason, or as many as can be had, for slots of `slot_bytes`. They
    /// inherit the mask of signals.
    pub fn start(slot_bytes: usize) -> Fresh {
        let (ask, asked) = unbounded::<Asked>();
        let (tell, made) = unbounded();
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let (ask, threads) = (Some(ask), Vec::new());
        let mut fresh = Fresh { ask, asked, made, threads, cpu_ns, pending: 0, bytes: 0, slot_bytes };
        for _ in 0..count {
            let (asked, tell, cpu_ns) = (fresh.asked.clone(), tell.clone(), fresh.cpu_ns.clone());
            let serve = move || {
                if let Err(error) = give_way() {
                    log::debug!("threads that make memory ready have an ordinary priority: {error}");
                }
                for (slot, range, kind) in asked {
                    let before = cpu_time::of_this_thread_ns();
                    let made = make(range, kind);
                    cpu_ns.fetch_add(cpu_time::of_this_thread_ns() - before, Ordering::Relaxed);
                    if tell.send((slot, made.map(|()| kind))).is_err() {
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
    pub fn ask(&mut self, slot: u32, range: Range<usize>, kind: Kind) {
        let ask = self.ask.as_ref().expect("open until dropped");
        ask.send((slot, range, kind)).expect("the threads run until then");
        self.pending += 1;
    }

    /// Slots that have been asked for and not been told of.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// A slot that is ready, or what went wrong with it; `None` where there is none yet.
    pub fn made(&mut self) -> Option<Made> {
        let made = self.made.try_recv().ok()?;
        self.pending -= 1;
        self.bytes += if made.1.is_ok() { self.slot_bytes as u64 } else { 0 };
        Some(made)
    }

    /// A slot that has been asked for and that no thread has begun with: it has no memory yet.
    pub fn take_back(&mut self) -> Option<u32> {
        let (slot, ..) = self.asked.try_recv().ok()?;
        self.pending -= 1;
        Some(slot)
    }

    /// Whether memory comes slower than a drive reads. Nobody knows before the first slot is made.
    pub fn is_slow(&self) -> bool {
        self.bytes > 0 && (self.bytes as f64) < SLOW * self.cpu_ns() as f64
    }

    /// Pretends that memory has come at such a rate so far.
    #[cfg(test)]
    pub fn claim(&mut self, rate: Rate) {
        self.bytes = if rate == Rate::Fast { 1 << 62 } else { 1 };
        self.cpu_ns.store(1 << 40, Ordering::Relaxed);
    }

    /// CPU time of the threads so far, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed)
    }
}

/// Gives `range`, which is one huge page, its memory.
fn make(range: Range<usize>, kind: Kind) -> io::Result<()> {
    populate(range.clone())?;
    if kind == Kind::Apart {
        // SAFETY: whoever asked leaves the range alone until it is told.
        unsafe { mark(range.clone()) };
        // An advice for a part of a huge page takes that apart (`madvise_cold_or_pageout_pte_range` in mm/madvise.c, Linux
        // 5.4). Where it does not, the first move does.
        let _ = advise(range.start..range.start + PAGE, Advice::LinuxCold);
    }
    Ok(())
}

/// How fast memory comes, for tests.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Fast,
    Slow,
}

impl Drop for Fresh {
    /// Waits for the threads: the slots' addresses may be somebody else's afterwards.
    fn drop(&mut self) {
        self.ask = None;
        while self.take_back().is_some() {}
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::region::{HUGE, Region, advise_huge, is_resident};
    use super::*;

    /// Bytes in huge pages at `start`, the beginning of a mapping (proc_pid_smaps(5)).
    fn huge_bytes(start: usize) -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&format!("{start:x}-")));
        let line = lines.find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    #[test]
    fn a_huge_page_is_taken_apart_where_it_is() {
        let make_one = |kind| {
            let region = Region::reserve(HUGE, 0).unwrap();
            advise_huge(region.range(), true).unwrap();
            make(region.range(), kind).unwrap();
            assert!(region.range().step_by(PAGE).all(is_resident));
            (huge_bytes(region.start()), region)
        };
        let (bytes, _whole) = make_one(Kind::Whole);
        if bytes == 0 {
            eprintln!("skipped: no huge page was to be had");
            assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
            return;
        }
        assert_eq!(bytes, HUGE);
        let (bytes, _apart) = make_one(Kind::Apart);
        assert_eq!(bytes, 0);
    }
}
