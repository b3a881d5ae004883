//! Reads: sizes, latencies, what the drive did, and the pauses between.

use std::collections::HashMap;

use serde::Serialize;

use super::busy::Busy;
use super::distribution::{Counter, Distribution};
use crate::trace::Why;

/// A read in flight.
#[derive(Debug, Clone, Copy)]
struct Flying {
    since_ns: u64,
    why: Why,
}

/// Collects what is known of the reads.
#[derive(Default)]
pub struct Requests {
    flying: HashMap<u32, Flying>,
    sizes: [Counter; 2],
    latencies: [Counter; 2],
    gaps: Counter,
    bytes: [u64; 2],
    by_source: Vec<u64>,
    failed: u64,
    unmatched: u64,
    /// Time with a read in flight, reads times time, time with none while a thread waited.
    reading_ns: u64,
    in_flight_ns: u128,
    idle_waiting_ns: u64,
    idle_since_ns: Option<u64>,
    busy: Busy,
}

fn index(why: Why) -> usize {
    match why {
        Why::Demand => 0,
        Why::Readahead => 1,
    }
}

impl Requests {
    /// Read `read` was submitted.
    pub fn started(&mut self, at_ns: u64, read: u32, len: u32, source: u8, why: Why) {
        if let Some(since_ns) = self.idle_since_ns.take() {
            self.gaps.add(at_ns - since_ns);
        }
        self.sizes[index(why)].add(u64::from(len));
        if self.by_source.len() <= usize::from(source) {
            self.by_source.resize(usize::from(source) + 1, 0);
        }
        self.by_source[usize::from(source)] += u64::from(len);
        self.flying.insert(read, Flying { since_ns: at_ns, why });
    }

    /// Read `read` ended with `result`: bytes that came, which count.
    pub fn ended(&mut self, at_ns: u64, read: u32, result: i32) -> u64 {
        let bytes = u64::try_from(result).unwrap_or(0);
        match self.flying.remove(&read) {
            Some(Flying { since_ns, why }) => {
                self.latencies[index(why)].add(at_ns - since_ns);
                self.bytes[index(why)] += bytes;
            }
            None => {
                self.unmatched += 1;
                self.bytes[index(Why::Readahead)] += bytes;
            }
        }
        self.failed += u64::from(result < 0);
        if self.flying.is_empty() {
            self.idle_since_ns = Some(at_ns);
        }
        self.busy.read(at_ns, bytes);
        bytes
    }

    /// From `from_ns` to `to_ns` nothing changed; `waiting` threads slept on the drive.
    pub fn passed(&mut self, from_ns: u64, to_ns: u64, waiting: u32) {
        let passed = to_ns - from_ns;
        self.busy.passed(from_ns, to_ns, self.flying.len());
        if self.flying.is_empty() {
            self.idle_waiting_ns += if waiting > 0 { passed } else { 0 };
        } else {
            self.reading_ns += passed;
            self.in_flight_ns += u128::from(passed) * self.flying.len() as u128;
        }
    }

    /// Reads in flight.
    pub fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// Forgets what is in flight: what follows does not say how it ended.
    pub fn clear(&mut self) {
        self.flying.clear();
        self.idle_since_ns = None;
    }

    /// The figures of a log of `wall_ns`; `drive_bytes_per_s` is what the drive can do, if that is
    /// known.
    pub fn finish(&self, wall_ns: u64, drive_bytes_per_s: Option<f64>) -> Drive {
        let rate = |bytes: u64, ns: u64| if ns > 0 { bytes as f64 / ns as f64 * 1e9 } else { 0.0 };
        let busy_bytes_per_s = self.busy.bytes_per_s();
        let mean_while_reading_bytes_per_s = rate(self.bytes(), self.reading_ns);
        let ceiling = drive_bytes_per_s.or(busy_bytes_per_s).filter(|&rate| rate > 0.0);
        let share = |value: f64| ceiling.map(|ceiling| value / ceiling);
        Drive {
            demand_bytes: self.bytes[0],
            readahead_bytes: self.bytes[1],
            by_source_bytes: self.by_source.clone(),
            failed: self.failed,
            without_start: self.unmatched,
            size_bytes: ByReason::of(&self.sizes),
            latency_ns: ByReason::of(&self.latencies),
            mean_bytes_per_s: rate(self.bytes(), wall_ns),
            mean_while_reading_bytes_per_s,
            busy_bytes_per_s,
            known_bytes_per_s: drive_bytes_per_s,
            share: share(rate(self.bytes(), wall_ns)),
            share_while_reading: share(mean_while_reading_bytes_per_s),
            reading_s: self.reading_ns as f64 / 1e9,
            in_flight: if self.reading_ns > 0 { self.in_flight_ns as f64 / self.reading_ns as f64 } else { 0.0 },
            gap_ns: self.gaps.finish(),
            idle_while_waiting_s: self.idle_waiting_ns as f64 / 1e9,
        }
    }
}

/// Demand reads and readahead apart.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ByReason {
    /// A thread slept on the block.
    pub demand: Distribution,
    /// The policy expected that it would be needed.
    pub readahead: Distribution,
}

impl ByReason {
    fn of([demand, readahead]: &[Counter; 2]) -> ByReason {
        ByReason { demand: demand.finish(), readahead: readahead.finish() }
    }
}

/// What the drive was asked for, and what it did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Drive {
    /// Bytes that demand reads brought.
    pub demand_bytes: u64,
    /// Bytes that readahead brought.
    pub readahead_bytes: u64,
    /// Bytes asked of each copy of the model.
    pub by_source_bytes: Vec<u64>,
    /// Reads that failed.
    pub failed: u64,
    /// Ends of reads whose start is missing in the log.
    pub without_start: u64,
    /// Bytes asked for.
    pub size_bytes: ByReason,
    /// From submission to completion, in nanoseconds.
    pub latency_ns: ByReason,
    /// Bytes read over the length of the log.
    pub mean_bytes_per_s: f64,
    /// Bytes read over the time with a read in flight.
    pub mean_while_reading_bytes_per_s: f64,
    /// The rate in whole seconds in which it was busy, with the deepest queue; none where there are none.
    pub busy_bytes_per_s: Option<f64>,
    /// What the drive can do, where that was said.
    pub known_bytes_per_s: Option<f64>,
    /// Mean rate as a share of what the drive can do, or else of the rate while busy; none where neither is
    /// known.
    pub share: Option<f64>,
    /// The same while a read is in flight.
    pub share_while_reading: Option<f64>,
    /// Time with a read in flight, in seconds.
    pub reading_s: f64,
    /// Mean number of reads in flight while there is one.
    pub in_flight: f64,
    /// Pauses: from the end of the last read in flight to the next submission, in nanoseconds.
    pub gap_ns: Distribution,
    /// Pauses while a thread slept on a block that was not in memory, in seconds.
    pub idle_while_waiting_s: f64,
}
