//! How fast one pager thread turns address space over with the `move` rung: huge frames go into the
//! view and come out again.
//!
//! `alone` is the mechanism without faults; in the others threads touch the blocks in a cycle and the
//! pager thread learns of every touch through the userfaultfd, installs the block and evicts the
//! oldest. Every touch checks the block's word at its beginning and its end.
//! Asked: at least 80 GB/s, faults included.

mod common;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{GB, header, median, setting, word};
use ggpager::pager::fill::flip::Flip;
use ggpager::pager::fill::{Fill, Frame, Place};
use ggpager::pager::region::HUGE;
use ggpager::pager::uffd::Uffd;

/// Blocks of the view.
const BLOCKS: usize = 256;
/// Frames of the pool.
const FRAMES: usize = 64;

struct Bench {
    uffd: Arc<Uffd>,
    fill: Flip,
    base: usize,
}

impl Bench {
    fn new() -> io::Result<Bench> {
        let uffd = Arc::new(Uffd::open()?);
        let mut fill = Flip::new(uffd.clone())?;
        let base = fill.open_view(0, BLOCKS * HUGE)?.start;
        Ok(Bench { uffd, fill, base })
    }

    fn place(&self, block: usize) -> Place {
        Place { addr: self.base + block * HUGE, len: HUGE, frame_bytes: HUGE }
    }

    fn install(&mut self, block: usize) -> io::Result<()> {
        let place = self.place(block);
        let frame = self.fill.acquire(&place)?;
        write_word(&frame, 0, word(block as u64));
        write_word(&frame, HUGE - 8, !word(block as u64));
        self.fill.install(&place, frame)
    }

    /// Installs and evicts for `time` with nobody watching; gives bytes turned over.
    fn alone(&mut self, time: Duration) -> io::Result<u64> {
        let (start, mut turned) = (Instant::now(), 0);
        while start.elapsed() < time {
            for block in 0..BLOCKS {
                self.install(block)?;
                self.fill.evict(&self.place(block));
                turned += HUGE as u64;
            }
        }
        Ok(turned)
    }

    /// Serves the touches of `threads` threads for `time`; gives bytes turned over.
    fn served(&mut self, threads: usize, time: Duration) -> io::Result<u64> {
        let stop = AtomicBool::new(false);
        let (base, stop) = (self.base, &stop);
        std::thread::scope(|scope| {
            let touchers: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        // Relaxed: it ends the loop and orders nothing.
                        while !stop.load(Ordering::Relaxed) {
                            for block in (thread..BLOCKS).step_by(threads) {
                                // SAFETY: the view is mapped and only read; the pager serves the fault.
                                let (first, last) = unsafe {
                                    let at = (base + block * HUGE) as *const u64;
                                    (at.read_volatile(), at.add(HUGE / 8 - 1).read_volatile())
                                };
                                assert_eq!((first, last), (word(block as u64), !word(block as u64)));
                            }
                        }
                    })
                })
                .collect();
            let (start, mut turned, mut present) = (Instant::now(), 0, VecDeque::new());
            let mut faults = Vec::with_capacity(64);
            while touchers.iter().any(|toucher| !toucher.is_finished()) {
                if start.elapsed() >= time {
                    stop.store(true, Ordering::Relaxed);
                }
                wait_readable(self.uffd.raw_fd());
                self.uffd.read_faults(&mut faults)?;
                for fault in &faults {
                    let block = (fault.address - base) / HUGE;
                    if present.contains(&block) {
                        self.uffd.wake(self.place(block).range());
                        continue;
                    }
                    self.install(block)?;
                    present.push_back(block);
                    turned += HUGE as u64;
                    if present.len() == FRAMES {
                        let oldest = present.pop_front().expect("not empty");
                        self.fill.evict(&self.place(oldest));
                    }
                }
            }
            for block in present {
                self.fill.evict(&self.place(block));
            }
            Ok(turned)
        })
    }
}

fn write_word(frame: &Frame, at: usize, value: u64) {
    // SAFETY: a frame is writable memory of `HUGE` bytes that nobody else uses.
    unsafe { ((frame.addr + at) as *mut u64).write(value) };
}

/// Waits for an event, at most 10 ms.
fn wait_readable(fd: RawFd) {
    let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised entry.
    unsafe { libc::poll(&mut polled, 1, 10) };
}

/// Kilobytes of this process in huge pages.
fn huge_kb() -> String {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
    line.map_or_else(|| "?".into(), |text| text.trim().to_owned())
}

fn main() -> io::Result<()> {
    header("flip: install + evict of 2 MiB frames on one thread, GB/s of address space turned over");
    let rounds = setting("GGPAGER_BENCH_ROUNDS", 9) as usize;
    let time = Duration::from_millis(setting("GGPAGER_BENCH_MS", 500));
    let mut bench = Bench::new()?;
    bench.served(1, Duration::from_millis(100))?;
    println!("view {} MiB, {FRAMES} frames, {} in huge pages, faults {:?}", BLOCKS * 2, huge_kb(), bench.uffd.mode());
    let mut results: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (threads, result) in results.iter_mut().enumerate() {
            let start = Instant::now();
            let turned = if threads == 0 { bench.alone(time)? } else { bench.served(threads, time)? };
            result.push(turned as f64 / GB / start.elapsed().as_secs_f64());
        }
    }
    for (threads, result) in results.iter_mut().enumerate() {
        let what = ["alone", "1 thread faults", "2 threads fault"][threads];
        let (low, middle, high) = (common::quantile(result, 0.0), median(result), common::quantile(result, 1.0));
        println!("{what:<16} median {middle:8.1} GB/s ({low:.1} to {high:.1}, {rounds} rounds)");
    }
    Ok(())
}
