//! The log cut at the ends of cycles, and where the time of each went.

use std::collections::HashSet;

use serde::Serialize;

use super::sequence::Sequence;

/// Rows that are kept at most; the rest is counted.
const ROWS_MAX: usize = 100_000;

/// Times that threads slept, by how their touches found the block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sleep {
    /// On a demand read, in seconds.
    pub demand_s: f64,
    /// On a read that was in flight, in seconds.
    pub in_flight_s: f64,
    /// Until a staged block was put into the view, in seconds.
    pub fault_s: f64,
}

impl Sleep {
    /// Everything together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.demand_s + self.in_flight_s + self.fault_s
    }

    fn add(&mut self, kind: usize, seconds: f64) {
        *[&mut self.demand_s, &mut self.in_flight_s, &mut self.fault_s][kind] += seconds;
    }
}

/// One cycle, or what lies before the first or after the last end of a cycle.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cycle {
    /// Number of the cycle; what lies before the first end is 0.
    pub number: u64,
    /// Begin, in seconds of the log.
    pub start_s: f64,
    /// Length, in seconds.
    pub length_s: f64,
    /// Both of its ends are in the log.
    pub complete: bool,
    /// Bytes read, by the ends of the reads.
    pub read_bytes: u64,
    /// Touches that found the block absent, being read, and staged; several threads at one block count
    /// once.
    pub touches: [u64; 3],
    /// Touches of a block on which another thread slept.
    pub joined: u64,
    /// Evictions.
    pub evictions: u64,
    /// Evictions of blocks that nobody had touched.
    pub evictions_untouched: u64,
    /// Threads that touched a hole.
    pub threads: usize,
    /// Time with at least one thread asleep, by the worst that one of them slept on.
    pub wall: Sleep,
    /// Sleep summed over the threads.
    pub summed: Sleep,
    /// Touches in order.
    pub sequence: Sequence,
}

impl Cycle {
    /// Time with no thread asleep, in seconds.
    pub fn compute_s(&self) -> f64 {
        (self.length_s - self.wall.sum_s()).max(0.0)
    }
}

/// Collects cycles.
#[derive(Default)]
pub struct Cycles {
    rows: Vec<Cycle>,
    left_out: u64,
    now: Cycle,
    start_ns: u64,
    threads: HashSet<u32>,
}

impl Cycles {
    /// The cycle that runs now.
    pub fn now(&mut self) -> &mut Cycle {
        &mut self.now
    }

    /// Thread `tid` touched a hole.
    pub fn touched_by(&mut self, tid: u32) {
        self.threads.insert(tid);
    }

    /// `passed_ns` went by with so many threads asleep of each kind.
    pub fn passed(&mut self, passed_ns: u64, asleep: [u32; 3]) {
        let seconds = passed_ns as f64 / 1e9;
        if let Some(worst) = asleep.iter().position(|&count| count > 0) {
            self.now.wall.add(worst, seconds);
        }
        for (kind, count) in asleep.into_iter().enumerate() {
            self.now.summed.add(kind, seconds * f64::from(count));
        }
    }

    /// The log starts at `at_ns`.
    pub fn begin(&mut self, at_ns: u64) {
        self.start_ns = at_ns;
    }

    /// A cycle ended; the next one has `number`.
    pub fn ended(&mut self, at_ns: u64, next_number: u64, sequence: Sequence) {
        let mut row = std::mem::take(&mut self.now);
        row.start_s = self.start_ns as f64 / 1e9;
        row.length_s = (at_ns - self.start_ns) as f64 / 1e9;
        row.threads = self.threads.len();
        row.sequence = sequence;
        self.threads.clear();
        self.start_ns = at_ns;
        self.now = Cycle { number: next_number, complete: true, ..Cycle::default() };
        if self.rows.len() < ROWS_MAX { self.rows.push(row) } else { self.left_out += 1 }
    }

    /// The log ends.
    pub fn finish(mut self, at_ns: u64, sequence: Sequence) -> Vec<Cycle> {
        self.now.complete = false;
        self.ended(at_ns, 0, sequence);
        if self.left_out > 0 {
            log::warn!("{} cycles after the first {ROWS_MAX} are left out", self.left_out);
        }
        self.rows
    }
}

/// Where the time went, on average.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Breakdown {
    /// Cycles in the mean.
    pub cycles: usize,
    /// True when these are complete cycles after the first; else it is the whole log.
    pub steady: bool,
    /// Length of one, in seconds.
    pub length_s: f64,
    /// Bytes read in one.
    pub read_bytes: f64,
    /// No thread asleep, in seconds.
    pub compute_s: f64,
    /// At least one thread asleep.
    pub wall: Sleep,
    /// Sleep summed over the threads.
    pub summed: Sleep,
    /// The most threads that touched holes in one of them.
    pub threads: usize,
}

impl Breakdown {
    /// Of complete cycles but the first of them, which has to learn; of the whole log where there are
    /// none.
    pub fn of(cycles: &[Cycle]) -> Breakdown {
        let complete: Vec<&Cycle> = cycles.iter().filter(|cycle| cycle.complete).collect();
        let steady = complete.len() > 1;
        let rows: Vec<&Cycle> = if steady { complete[1..].to_vec() } else { cycles.iter().collect() };
        let count = if steady { rows.len() } else { 1 };
        let mean = |value: fn(&Cycle) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / count as f64;
        Breakdown {
            cycles: count,
            steady,
            length_s: mean(|row| row.length_s),
            read_bytes: mean(|row| row.read_bytes as f64),
            compute_s: mean(Cycle::compute_s),
            wall: Sleep {
                demand_s: mean(|row| row.wall.demand_s),
                in_flight_s: mean(|row| row.wall.in_flight_s),
                fault_s: mean(|row| row.wall.fault_s),
            },
            summed: Sleep {
                demand_s: mean(|row| row.summed.demand_s),
                in_flight_s: mean(|row| row.summed.in_flight_s),
                fault_s: mean(|row| row.summed.fault_s),
            },
            threads: rows.iter().map(|row| row.threads).max().unwrap_or(0),
        }
    }
}
