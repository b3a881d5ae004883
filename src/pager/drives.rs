//! Which drive to read from, when a model has copies on several.
//!
//! A read goes where it would end first: bytes in flight and its own over the drive's rate, as in the
//! kernel's multipath selector `historical-service-time` (dm-ps-historical-service-time.c). The rate
//! is measured while running: bytes over the time during which the drive had something to do, of the
//! last few reads. Every drive has a depth of its own, see [`super::tuner`].
//!
//! A drive that only ever has few reads in flight looks slow where latency and not the rate is the
//! bound, and would get few because it looks slow. So readahead that finds the best drive full goes to
//! one that needs up to twice as long; and a drive that has nothing to do is thought faster as time
//! passes, until a read of it tells. Reads that a thread waits for take no part in that. A drive that has
//! not been read from yet is tried soon.

use std::path::PathBuf;

use super::file::{Identity, ModelFile};
use super::notes::Notes;
use super::tuner::{BLOCK, Tuner};
use crate::drive::profile::Memory;
use crate::stats::SourceStats;

/// Bytes after which a measurement counts for half or less.
const RATE_BYTES: f64 = (32 << 20) as f64;

/// Readahead takes a drive that needs this many times as long as the best one, which is full.
const SLACK: f64 = 2.0;

/// So many reads of small blocks may be in flight instead of one of a huge block.
pub const SMALL_READS: usize = 4;

/// A drive of which nothing is known yet is thought this many times as fast as the fastest.
const HOPE: f64 = 2.0;

/// An idle drive is thought twice as fast after this time, in nanoseconds.
const DOUBLING_NS: f64 = 4e9;

/// Who wants a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A thread sleeps on it.
    Demand,
    /// A thread will touch it within the present layer.
    Certain,
    /// Nobody yet.
    Readahead,
}

/// A drive, and what is being read from it.
#[derive(Debug)]
struct Drive {
    dev: u64,
    tuner: Tuner,
    notes: Notes,
    blocks: usize,
    bytes: usize,
    /// Reads in flight: parts of blocks.
    reads: usize,
    /// The latest start or end of a read.
    since_ns: u64,
    /// Bytes read lately, and the time that they took.
    lately_bytes: f64,
    lately_ns: f64,
}

/// A file that blocks are read from.
#[derive(Debug)]
struct State {
    identity: Identity,
    path: PathBuf,
    drive: usize,
    read_bytes: u64,
    left_out: bool,
}

/// All drives and the files on them that are read. Files are named by their index: see [`Drives::add`].
#[derive(Debug)]
pub struct Drives {
    /// The user's choice of blocks in flight.
    depth: Option<u32>,
    remember: bool,
    drives: Vec<Drive>,
    sources: Vec<State>,
}

impl Drive {
    fn new(dev: u64, depth: Option<u32>, notes: Notes) -> Drive {
        let tuner = match depth {
            Some(blocks) => Tuner::fixed(u64::from(blocks)),
            None => Tuner::new(notes.load().as_ref()),
        };
        Drive { dev, tuner, notes, blocks: 0, bytes: 0, reads: 0, since_ns: 0, lately_bytes: 0.0, lately_ns: 0.0 }
    }

    fn passed(&mut self, now_ns: u64) {
        if self.reads > 0 {
            self.lately_ns += now_ns.saturating_sub(self.since_ns) as f64;
        }
        self.since_ns = now_ns;
    }

    /// Bytes per nanosecond, `None` before the first completion. A read that does not end makes the
    /// drive slower from moment to moment.
    fn rate(&self, now_ns: u64) -> Option<f64> {
        let waiting = if self.reads > 0 { now_ns.saturating_sub(self.since_ns) as f64 } else { 0.0 };
        (self.lately_bytes > 0.0).then(|| self.lately_bytes / (self.lately_ns + waiting).max(1.0))
    }

    fn idle_ns(&self, now_ns: u64) -> u64 {
        if self.reads > 0 { 0 } else { now_ns.saturating_sub(self.since_ns) }
    }
}

impl Drives {
    /// No drives yet; each will have `depth` blocks in flight, or as many as it needs. What is found out
    /// about a drive is kept for the next process if `remember` says so.
    pub fn new(depth: Option<u32>, remember: bool) -> Drives {
        Drives { depth, remember, drives: Vec::new(), sources: Vec::new() }
    }

    /// Takes in the places where `file` can be read; gives their indexes, the original's first.
    pub fn add(&mut self, file: &ModelFile) -> Vec<usize> {
        let remember = self.remember && self.depth.is_none();
        let sources = file.sources().iter();
        sources
            .map(|source| {
                let notes = || Notes::new(if remember { Memory::of(source.buffered()) } else { None });
                self.add_source(source.identity(), source.path().to_owned(), notes)
            })
            .collect()
    }

    fn add_source(&mut self, identity: Identity, path: PathBuf, notes: impl FnOnce() -> Notes) -> usize {
        let known = self.sources.iter().position(|state| state.identity == identity && state.path == path);
        known.unwrap_or_else(|| {
            let drive = self.drives.iter().position(|drive| drive.dev == identity.dev).unwrap_or_else(|| {
                self.drives.push(Drive::new(identity.dev, self.depth, notes()));
                self.drives.len() - 1
            });
            self.sources.push(State { identity, path, drive, read_bytes: 0, left_out: false });
            self.sources.len() - 1
        })
    }

    /// Whether some drive has room for another read.
    pub fn have_room(&self, urgency: Urgency) -> bool {
        self.drives.iter().any(|drive| Drives::has_room(drive, urgency))
    }

    /// Counted in bytes, since small blocks need more company, but never more than the ring was made for.
    fn has_room(drive: &Drive, urgency: Urgency) -> bool {
        let limit = match urgency {
            Urgency::Demand => return true,
            Urgency::Certain => drive.tuner.certain_bytes(),
            Urgency::Readahead => drive.tuner.limit_bytes(),
        } as usize;
        drive.blocks < limit.div_ceil(BLOCK as usize) * SMALL_READS && drive.bytes < limit
    }

    /// Where of `sources` to read the next `bytes` bytes: a position in `sources`. Always one on
    /// [`Urgency::Demand`]; the first, the original, when all have been left out.
    pub fn choose(&self, sources: &[usize], bytes: usize, urgency: Urgency, now_ns: u64) -> Option<usize> {
        let usable = |&(_, source): &(usize, &usize)| !self.sources[*source].left_out;
        let mut candidates: Vec<(usize, &usize)> = sources.iter().enumerate().filter(usable).collect();
        if candidates.is_empty() {
            candidates.push((0, &sources[0]));
        }
        let drive = |source: &usize| &self.drives[self.sources[*source].drive];
        let known = self.drives.iter().filter_map(|drive| drive.rate(now_ns));
        let fastest = known.max_by(f64::total_cmp).unwrap_or(1.0);
        let ends_after = |source: &usize| {
            let drive = drive(source);
            let rate = drive.rate(now_ns).map_or(fastest * HOPE, |rate| match urgency {
                Urgency::Demand => rate,
                Urgency::Certain | Urgency::Readahead => {
                    fastest.min(rate * (drive.idle_ns(now_ns) as f64 / DOUBLING_NS).exp2())
                }
            });
            (drive.bytes + bytes) as f64 / rate
        };
        let timed = candidates.into_iter().map(|(at, source)| (at, source, ends_after(source)));
        let timed: Vec<(usize, &usize, f64)> = timed.collect();
        let best = timed.iter().map(|&(_, _, time)| time).fold(f64::INFINITY, f64::min);
        let allowed = timed.into_iter().filter(|&(_, source, time)| {
            urgency == Urgency::Demand || (time <= best * SLACK && Drives::has_room(drive(source), urgency))
        });
        allowed.min_by(|a, b| a.2.total_cmp(&b.2)).map(|(at, ..)| at)
    }

    /// The pager goes to sleep.
    pub fn slept(&mut self, now_ns: u64) {
        for drive in &mut self.drives {
            drive.tuner.slept(!Drives::has_room(drive, Urgency::Readahead));
            drop(drive.notes.keep(&drive.tuner, now_ns));
        }
    }

    /// Bytes that may be in flight, and how often the queue ran dry: all drives together.
    pub fn queues(&self) -> (u64, u64) {
        let tuners = || self.drives.iter().map(|drive| &drive.tuner);
        (tuners().map(Tuner::limit_bytes).sum(), tuners().map(Tuner::ran_dry).sum())
    }

    /// A block of `bytes` bytes will be read from `source`.
    pub fn block_started(&mut self, source: usize, bytes: usize, now_ns: u64) {
        let drive = &mut self.drives[self.sources[source].drive];
        drive.tuner.started(bytes as u64, now_ns);
        drive.blocks += 1;
        drive.bytes += bytes;
    }

    /// That block has been read, or could not be.
    pub fn block_ended(&mut self, source: usize, bytes: usize, now_ns: u64) {
        let drive = &mut self.drives[self.sources[source].drive];
        drive.tuner.ended(bytes as u64, now_ns);
        drive.blocks -= 1;
        drive.bytes -= bytes;
    }

    /// A read from `source` was started.
    pub fn read_started(&mut self, source: usize, now_ns: u64) {
        let drive = &mut self.drives[self.sources[source].drive];
        drive.passed(now_ns);
        drive.reads += 1;
    }

    /// It has ended with `bytes` bytes.
    pub fn read_ended(&mut self, source: usize, bytes: u64, now_ns: u64) {
        let state = &mut self.sources[source];
        state.read_bytes += bytes;
        let drive = &mut self.drives[state.drive];
        drive.passed(now_ns);
        drive.reads -= 1;
        drive.lately_bytes += bytes as f64;
        if drive.lately_bytes > RATE_BYTES {
            drive.lately_ns *= RATE_BYTES / drive.lately_bytes;
            drive.lately_bytes = RATE_BYTES;
        }
    }

    /// Reads no more from `source`; false when that has been said before.
    pub fn leave_out(&mut self, source: usize) -> bool {
        !std::mem::replace(&mut self.sources[source].left_out, true)
    }

    /// Whether another of `sources` than `source` is read from.
    pub fn has_other(&self, sources: &[usize], source: usize) -> bool {
        sources.iter().any(|&other| other != source && !self.sources[other].left_out)
    }

    /// What all drives bring together, in bytes per nanosecond.
    pub fn rate(&self, now_ns: u64) -> f64 {
        self.drives.iter().filter_map(|drive| drive.rate(now_ns)).sum()
    }

    /// What has been read from where.
    pub fn summary(&self, now_ns: u64) -> Vec<SourceStats> {
        let of = |state: &State| SourceStats {
            path: state.path.to_string_lossy().into_owned(),
            read_bytes: state.read_bytes,
            drive_bytes_per_s: self.drives[state.drive].rate(now_ns).unwrap_or_default() * 1e9,
            left_out: state.left_out,
        };
        self.sources.iter().map(of).collect()
    }
}

#[cfg(test)]
#[path = "drives_tests.rs"]
mod tests;
