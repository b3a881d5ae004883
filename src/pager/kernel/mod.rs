//! Strategy `kernel`: the honest rival. The view is the ordinary mapping of the file, its frames are
//! the kernel's page cache, and the same policy that drives the pager drives madvise(2) hints.
//!
//! What the pager does by userfaultfd and io_uring is done by asking here:
//!
//! | | pager | here |
//! |---|---|---|
//! | read | io_uring into a frame | `MADV_WILLNEED`: the kernel starts the reads and returns |
//! | evict | UFFDIO_MOVE back | `MADV_DONTNEED`, then `POSIX_FADV_DONTNEED`, which the kernel may refuse |
//! | rearm | UFFDIO_MOVE back | `MADV_DONTNEED` alone: the pages stay in the cache |
//! | touched | a fault's event | an entry in the page table, found by polling |
//! | completed | the ring says so | mincore(2) of the block's last page, or half a second |
//!
//! Nobody waits for us: a thread that is ahead of the hints faults, and the kernel reads as it always
//! does. So the hint thread may be late, wrong or dead, and the bytes are right all the same.
//!
//! Embedding rows are left to the kernel: their blocks are too many to poll, and reading ahead around
//! a random row is a waste, hence `MADV_RANDOM` there.
//!
//! One thread, `ggpager-hints`, lives while there are views. Commands run on the thread that gives
//! them, under the lock that the hint thread holds for one step at a time. Statistics: the fault
//! counters, the rungs and the stalls stay empty, because nothing of that is seen; `read_bytes` are
//! the bytes that were asked for, which the kernel may have had already, and what it reads by itself
//! is not among them; `read_latency_us` is as exact as the polling.

mod commands;
mod hints;
mod look;
mod touched;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mm::Advice;

use super::command::{Choice, Command};
use super::region::advise;
use super::signals::BlockedSignals;
use super::views;
use crate::config::Settings;
use crate::policy::Policy;
use crate::stats::Stats;
use crate::status::Board;
use commands::End;
use hints::Hints;

/// Shortest and longest pause between two polls while the computation is seen to move ...
const PAUSE_MIN: Duration = Duration::from_micros(300);
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// ... and the longest while it is not.
const PAUSE_IDLE: Duration = Duration::from_millis(20);
/// The pause is at least this many times as long as the polling took: 3 % of a core at most.
const PAUSE_PER_POLL: u32 = 32;

/// Hints over more than this say nothing.
const HINT_BYTES_MAX: usize = 16 << 20;

/// See the module's page.
pub struct Kernel {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    bell: Condvar,
    board: Arc<Board>,
}

struct State {
    /// `None` after a panic: what is mapped stays mapped as it is.
    hints: Option<Hints>,
    thread: Option<JoinHandle<()>>,
    /// A thread of an earlier number ends at its next step.
    generation: u64,
    /// A test wants the thread to panic.
    panics: bool,
}

impl Kernel {
    /// Gets ready; the thread starts with the first view.
    pub fn new(settings: &Settings, policy: Box<dyn Policy>, board: Arc<Board>) -> io::Result<Kernel> {
        let hints = Some(Hints::new(settings, policy, board.clone())?);
        let state = State { hints, thread: None, generation: 0, panics: false };
        Ok(Kernel { shared: Arc::new(Shared { state: Mutex::new(state), bell: Condvar::new(), board }) })
    }

    /// Does what `command` asks, on the calling thread. Its sender is dropped without an answer when
    /// the hint thread has failed.
    pub fn obey(&self, command: Command) {
        match command {
            // Not under the lock: hints never wait.
            Command::WillNeed { range } => {
                if range.len() <= HINT_BYTES_MAX {
                    for piece in views::pieces(range.start, range.len()).filter(|piece| piece.in_view) {
                        let _ = advise(piece.start..piece.start + piece.len, Advice::WillNeed);
                    }
                }
            }
            Command::Map { wanted, budget_bytes, governor: _, reply } => {
                let made = self.change(|hints| hints.map(wanted, budget_bytes));
                if let Some(made) = made {
                    let started = made.and_then(|range| match self.start_thread() {
                        Ok(()) => Ok(range),
                        Err(error) => {
                            self.change(|hints| hints.end(range, End::Unmap));
                            Err(error)
                        }
                    });
                    let _ = reply.send(started);
                }
            }
            Command::Unmap { range, reply } => {
                if let Some(done) = self.change(|hints| hints.end(range, End::Unmap)) {
                    let _ = reply.send(done);
                }
            }
            Command::HandOver { range, reply } => {
                if let Some(done) = self.change(|hints| hints.end(range, End::HandOver)) {
                    let _ = reply.send(done);
                }
            }
            Command::Stats { reply } => {
                let stats: Option<Stats> = self.shared.lock().hints.as_mut().map(Hints::stats);
                if let Some(stats) = stats {
                    let _ = reply.send(stats);
                }
            }
            Command::FinishTrace { reply } => {
                self.change(|hints| hints.trace.finish());
                let _ = reply.send(());
            }
            Command::Panic => {
                self.shared.lock().panics = true;
                self.shared.bell.notify_all();
            }
        }
    }

    /// A router has chosen, which is logged.
    pub fn routed(&self, choice: &Choice) {
        self.change(|hints| hints.routed(choice));
    }

    /// Changes the views; waits for the thread's end when none is left.
    fn change<T>(&self, work: impl FnOnce(&mut Hints) -> T) -> Option<T> {
        let mut state = self.shared.lock();
        let done = state.guarded(work);
        let thread = match &state.hints {
            Some(hints) if hints.has_views() => None,
            _ => state.dismiss(),
        };
        drop(state);
        self.shared.join(thread);
        done
    }

    fn start_thread(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.thread.is_none() {
            let (shared, generation) = (self.shared.clone(), state.generation);
            let _signals = BlockedSignals::new();
            let thread =
                std::thread::Builder::new().name("ggpager-hints".into()).spawn(move || shared.run(generation))?;
            state.thread = Some(thread);
        }
        Ok(())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.guarded(Hints::forget_everything);
        let thread = state.dismiss();
        drop(state);
        self.shared.join(thread);
        self.shared.board.withdraw();
    }
}

impl State {
    /// Tells the thread to end; its handle is to be joined without the lock.
    fn dismiss(&mut self) -> Option<JoinHandle<()>> {
        self.generation += 1;
        self.thread.take()
    }

    /// Runs `work`; a panic ends the strategy, not the program: the views are ordinary mappings.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Hints) -> T) -> Option<T> {
        let hints = self.hints.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| work(hints))) {
            Ok(done) => Some(done),
            Err(_) => {
                log::error!("the hints have stopped: a bug (panic); the kernel serves the model alone from now on");
                let _ = catch_unwind(AssertUnwindSafe(|| hints.forget_everything()));
                self.hints = None;
                None
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for the end of a thread that has been dismissed.
    fn join(&self, thread: Option<JoinHandle<()>>) {
        if let Some(thread) = thread {
            self.bell.notify_all();
            let _ = thread.join();
        }
    }

    /// The thread's body.
    fn run(&self, generation: u64) {
        let mut state = self.lock();
        let mut pause = PAUSE_MIN;
        while state.generation == generation {
            let panics = std::mem::take(&mut state.panics);
            let step = state.guarded(|hints| {
                assert!(!panics, "asked to");
                hints.step()
            });
            let Some(step) = step else {
                self.board.withdraw();
                break;
            };
            let polled = step.polling * PAUSE_PER_POLL;
            pause = match step.moved {
                true => polled.clamp(PAUSE_MIN, PAUSE_MAX),
                false => (pause + pause / 8).clamp(polled.min(PAUSE_IDLE), PAUSE_IDLE),
            };
            let (back, _) = self.bell.wait_timeout(state, pause).unwrap_or_else(|poisoned| poisoned.into_inner());
            state = back;
        }
        if let Some(hints) = &mut state.hints {
            hints.thread_ends();
        }
    }
}
