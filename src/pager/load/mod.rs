//! Models that fit: the ordinary mapping, and threads that bring the file into the page cache.
//!
//! The page cache stays the place of the bytes, so that the next start finds them there. A file that
//! is cached is none of our business: the program gets exactly the call it asked for. For any other
//! the program's mapping comes without MAP_POPULATE, which would read the file in its order, by one
//! stream, while the program waits. Instead a few threads read it in the order of computation, and the
//! program goes on meanwhile.
//!
//! Rooms: [`cached`] asks what the page cache holds, [`chunks`] says in which order to read,
//! [`reader`] reads one chunk, [`run`] is the threads' work.
//!
//! Nobody waits for these threads, and they touch no address of the program: whatever ends them, early
//! or by an error, leaves an ordinary mapping. They end by themselves when the program has unmapped
//! what they have not read yet, when the model no longer fits, and at the first error, which is the
//! program's own to find.

pub mod cached;
mod chunks;
mod reader;
mod run;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::file::ModelFile;
use super::piece::Piece;
use super::region::{HUGE, Region, advise_huge};
use super::signals::BlockedSignals;
use crate::budget::Memory;
use crate::stats::Stats;
use cached::Cached;
use run::Run;

/// Chunks of 2 MiB being read at most, when the user does not say: a thread for each. Eight keep every
/// drive busy that has been measured; a thread more costs a stack.
const DEPTH: u32 = 8;
/// More threads than this are not started, whatever the user says.
const DEPTH_MAX: u32 = 32;

/// Files being loaded by this process. Relaxed: a hook that sees a stale value lets the threads read a
/// little that nobody wants any more.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Whether any file is being loaded. One load of memory.
#[inline]
pub fn any() -> bool {
    RUNNING.load(Ordering::Relaxed) > 0
}

/// A mapping whose model fits, as found by [`super::Pager::map`].
#[derive(Debug)]
pub struct Fitting {
    /// The file, reopened.
    pub(super) file: ModelFile,
    /// Its parts in the expected order of reading.
    pub(super) pieces: Vec<Piece>,
    /// First byte of the mapping in the file; whole pages.
    pub(super) offset: u64,
    /// Bytes of the mapping.
    pub(super) len: usize,
    /// Bytes of the whole model, all shards.
    pub(super) model_bytes: u64,
    /// The memory that it fits into.
    pub(super) memory: Memory,
}

/// Everything that this process loads or has loaded.
#[derive(Default)]
pub struct Loads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<Arc<Run>>,
    /// Sums over those that have ended.
    ended: Stats,
}

impl Loads {
    /// Maps what `fitting` describes and starts to load it. `None` when the page cache has all of it:
    /// then the program's own call serves best.
    ///
    /// # Errors
    /// When there is no room for a mapping, or no thread can be had.
    pub fn start(self: &Arc<Self>, fitting: Fitting, depth: Option<u32>) -> io::Result<Option<*mut u8>> {
        let extent = fitting.offset..(fitting.offset + fitting.len as u64).min(fitting.file.bytes());
        let cached = Cached::ask(fitting.file.buffered(), extent.clone());
        log::debug!("in the page cache before: {cached:?}");
        if extent.is_empty() || cached.is_all() {
            log::info!("the model fits and is in the page cache: the ordinary mapping");
            return Ok(None);
        }
        // Congruent to the file modulo 2 MiB: then a large folio needs one entry in the page table.
        let region = Region::reserve(fitting.len, fitting.offset as usize % HUGE)?;
        fitting.file.map_over(region.range(), fitting.offset)?;
        // What the program touches before we have read it comes in large pieces as well.
        let _ = advise_huge(region.range(), true);
        let address = region.range().start;
        let run = Arc::new(Run::new(fitting, extent, region.range()));
        self.lock().running.push(run.clone());
        RUNNING.fetch_add(1, Ordering::Relaxed);
        let started = self.start_threads(&run, depth.unwrap_or(DEPTH).clamp(1, DEPTH_MAX));
        if let Err(error) = started {
            self.end(&run);
            return Err(error);
        }
        region.leak();
        Ok(Some(address as *mut u8))
    }

    /// Starts as many threads as can be had; an error when that is none.
    fn start_threads(self: &Arc<Self>, run: &Arc<Run>, depth: u32) -> io::Result<()> {
        let _signals = BlockedSignals::new();
        // Counted before they run, so that the first to end does not take itself for the last.
        run.expect(depth);
        for started in 0..depth {
            let (loads, mine) = (self.clone(), run.clone());
            let body = move || {
                if mine.work() {
                    loads.end(&mine);
                }
            };
            let thread = std::thread::Builder::new().name("ggpager-load".into()).stack_size(128 << 10);
            if let Err(error) = thread.spawn(body) {
                let none_left = (started..depth).any(|_| run.is_last());
                match started {
                    0 => return Err(error),
                    _ if none_left => self.end(run),
                    _ => {}
                }
                break;
            }
        }
        Ok(())
    }

    /// The program no longer wants what it has mapped at `start..start + len`.
    pub fn leaving(&self, start: usize, len: usize) {
        self.lock().running.iter().for_each(|run| run.leaving(start..start.saturating_add(len)));
    }

    /// Adds what has been loaded so far to `stats`.
    pub fn report(&self, stats: &mut Stats) {
        let state = self.lock();
        let all = state.running.iter().map(|run| run.report()).fold(state.ended.clone(), add);
        (stats.loads, stats.loads_stopped) = (all.loads, all.loads_stopped);
        (stats.load_bytes, stats.load_read_bytes, stats.load_s) = (all.load_bytes, all.load_read_bytes, all.load_s);
    }

    fn end(&self, run: &Arc<Run>) {
        let mut state = self.lock();
        let before = state.running.len();
        state.running.retain(|other| !Arc::ptr_eq(other, run));
        if state.running.len() < before {
            RUNNING.fetch_sub(1, Ordering::Relaxed);
            state.ended = add(std::mem::take(&mut state.ended), run.report());
        }
    }

    /// Held for moments: never while reading.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn add(sum: Stats, one: Stats) -> Stats {
    Stats {
        loads: sum.loads + one.loads,
        loads_stopped: sum.loads_stopped + one.loads_stopped,
        load_bytes: sum.load_bytes + one.load_bytes,
        load_read_bytes: sum.load_read_bytes + one.load_read_bytes,
        load_s: sum.load_s + one.load_s,
        ..sum
    }
}

#[cfg(test)]
mod tests;
