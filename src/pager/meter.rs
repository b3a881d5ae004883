//! Counters and distributions behind [`Stats`].

use std::time::Instant;

use hdrhistogram::Histogram;

use super::cpu_time;
use super::lookahead::Outcome;
use super::origins::Origin;
use crate::policy::{State, Touch};
use crate::stats::{Percentiles, Stats};
use crate::status::Counters;
use crate::trace::Foreteller;

/// Counts what the pager does; turned into [`Stats`] on demand.
pub struct Meter {
    start: Instant,
    /// Fields that are plain counts live here directly.
    pub stats: Stats,
    read_size_bytes: Histogram<u64>,
    read_latency_us: Histogram<u64>,
    staged_latency_us: Histogram<u64>,
    demand_latency_us: Histogram<u64>,
    mapped_bytes: u64,
    in_flight: u64,
    in_flight_since_ns: u64,
    /// Sum of reads in flight times nanoseconds.
    in_flight_ns: u128,
    reading_ns: u64,
    stall_ns: u64,
    /// Threads asleep, since when there is one, and the time before with at least one.
    waiting: u64,
    waiting_since_ns: u64,
    stalled_ns: u64,
    /// Cycles that have ended, the end of the latest, and its length.
    cycles: u64,
    cycle_end_ns: u64,
    cycle_ns: u64,
}

impl Meter {
    /// Starts the clock.
    pub fn new() -> Meter {
        let histogram = || Histogram::new_with_bounds(1, 1 << 40, 2).expect("constant bounds are valid");
        Meter {
            start: Instant::now(),
            stats: Stats::default(),
            read_size_bytes: histogram(),
            read_latency_us: histogram(),
            staged_latency_us: histogram(),
            demand_latency_us: histogram(),
            mapped_bytes: 0,
            in_flight: 0,
            in_flight_since_ns: 0,
            in_flight_ns: 0,
            reading_ns: 0,
            stall_ns: 0,
            waiting: 0,
            waiting_since_ns: 0,
            stalled_ns: 0,
            cycles: 0,
            cycle_end_ns: 0,
            cycle_ns: 0,
        }
    }

    /// Nanoseconds since the meter was made; the pager's clock.
    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// A view of `bytes` was made.
    pub fn view_added(&mut self, bytes: u64) {
        self.mapped_bytes += bytes;
        self.stats.views += 1;
        self.stats.model_bytes = self.stats.model_bytes.max(self.mapped_bytes);
    }

    /// The last part of a view of `bytes` was unmapped.
    pub fn view_removed(&mut self, bytes: u64) {
        self.mapped_bytes -= bytes;
    }

    /// Bytes of all views.
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes
    }

    /// A read of `bytes` was submitted.
    pub fn read_started(&mut self, bytes: u64) {
        self.tick();
        self.in_flight += 1;
        self.stats.reads += 1;
        self.read_size_bytes.saturating_record(bytes);
    }

    /// A read ended with `bytes` after `latency_ns`.
    pub fn read_done(&mut self, bytes: u64, latency_ns: u64) {
        self.tick();
        self.in_flight -= 1;
        self.stats.read_bytes += bytes;
        self.read_latency_us.saturating_record(latency_ns / 1000);
    }

    fn tick(&mut self) {
        let now = self.now_ns();
        let passed = now - self.in_flight_since_ns;
        self.in_flight_since_ns = now;
        if self.in_flight > 0 {
            self.in_flight_ns += u128::from(passed) * u128::from(self.in_flight);
            self.reading_ns += passed;
        }
    }

    /// A thread touched a hole at `now_ns` and sleeps.
    pub fn fault(&mut self, touch: Touch, now_ns: u64) {
        if self.waiting == 0 {
            self.waiting_since_ns = now_ns;
        }
        self.waiting += 1;
        match touch {
            Touch::Absent => self.stats.faults_demand += 1,
            Touch::Reading => self.stats.faults_in_flight += 1,
            Touch::Staged => self.stats.faults_staged += 1,
        }
    }

    /// A router chose a block of `bytes` in `state`, which is in memory because of `origin`.
    pub fn chosen(&mut self, bytes: u64, state: State, origin: Origin) {
        let experts = &mut self.stats.experts;
        experts.chosen_bytes += bytes;
        let place = match (state, origin) {
            (State::Staged | State::Present, Origin::Guessed(Foreteller::Gate)) => &mut experts.held_gate_bytes,
            (State::Staged | State::Present, Origin::Guessed(Foreteller::CoOccurrence)) => {
                &mut experts.held_co_occurrence_bytes
            }
            (State::Staged | State::Present, Origin::Idle) => &mut experts.held_idle_bytes,
            (State::Staged | State::Present, Origin::Used | Origin::Unasked) => &mut experts.held_used_bytes,
            (State::Reading, _) => &mut experts.in_flight_bytes,
            (State::Absent | State::Poisoned | State::Gone, _) => &mut experts.missing_bytes,
        };
        *place += bytes;
        if state == State::Absent || matches!(origin, Origin::Guessed(_)) {
            experts.needed_bytes += bytes;
        }
    }

    /// A read of an expert's block of `bytes` begins because of `origin`.
    pub fn expert_read(&mut self, bytes: u64, origin: Origin) {
        let experts = &mut self.stats.experts;
        experts.read_bytes += bytes;
        experts.idle_read_bytes += if origin == Origin::Idle { bytes } else { 0 };
    }

    /// A thread touched a block of the latest choice that was not in memory: its read had `begun` before.
    pub fn chosen_absent(&mut self, begun: bool) {
        let experts = &mut self.stats.experts;
        *(if begun { &mut experts.touches_evicted } else { &mut experts.touches_not_begun }) += 1;
    }

    /// What was foretold of a router's choice came out so; who foretold it has paused `pauses` times.
    pub fn guessed(&mut self, outcome: Outcome, pauses: u64) {
        let experts = &mut self.stats.experts;
        let of = match outcome.by {
            Foreteller::Gate => &mut experts.gate,
            Foreteller::CoOccurrence => &mut experts.co_occurrence,
        };
        of.chosen += outcome.chosen;
        of.guesses += outcome.guessed;
        of.right += outcome.right;
        of.read_bytes += outcome.read_bytes;
        of.wasted_bytes += outcome.read_bytes - outcome.used_bytes;
        of.pauses = pauses;
    }

    /// A thread was woken after `wait_ns`.
    pub fn woken(&mut self, touch: Touch, wait_ns: u64) {
        self.stall_ns += wait_ns;
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.stalled_ns += self.now_ns() - self.waiting_since_ns;
        }
        let histogram = match touch {
            Touch::Staged => &mut self.staged_latency_us,
            Touch::Absent | Touch::Reading => &mut self.demand_latency_us,
        };
        histogram.saturating_record(wait_ns / 1000);
    }

    /// Frames hold `bytes` now.
    pub fn held(&mut self, bytes: u64) {
        self.stats.pool_peak_bytes = self.stats.pool_peak_bytes.max(bytes);
    }

    /// The policy has seen `cycles` cycles end until `now_ns`; gives whether that is news.
    pub fn cycles(&mut self, cycles: u64, now_ns: u64) -> bool {
        if cycles == self.cycles {
            return false;
        }
        // The first one has no beginning that anybody saw.
        self.cycle_ns = if self.cycles > 0 { now_ns - self.cycle_end_ns } else { 0 };
        self.cycle_end_ns = now_ns;
        self.cycles = cycles;
        true
    }

    /// The counters for the live page, but for those that are not the meter's. CPU time is that of
    /// the calling thread, which must be the pager's.
    pub fn counters(&mut self) -> Counters {
        self.tick();
        let stalled_now_ns = if self.waiting > 0 { self.now_ns() - self.waiting_since_ns } else { 0 };
        Counters {
            views: self.stats.views,
            model_bytes: self.mapped_bytes,
            budget_bytes: self.stats.budget_bytes,
            held_peak_bytes: self.stats.pool_peak_bytes,
            read_bytes: self.stats.read_bytes,
            reads: self.stats.reads,
            reads_in_flight: self.in_flight,
            in_flight_ns: self.in_flight_ns as u64,
            reading_ns: self.reading_ns,
            faults_demand: self.stats.faults_demand,
            faults_in_flight: self.stats.faults_in_flight,
            faults_staged: self.stats.faults_staged,
            threads_waiting: self.waiting,
            stall_ns: self.stall_ns,
            stalled_ns: self.stalled_ns + stalled_now_ns,
            evictions: self.stats.evictions,
            evictions_untouched: self.stats.evictions_untouched,
            poisoned_pages: self.stats.poisoned_pages,
            cycles: self.cycles,
            cycle_ns: self.cycle_ns,
            pager_cpu_ns: cpu_time::of_this_thread_ns(),
            ..Counters::default()
        }
    }

    /// The summary up to now. CPU time is that of the calling thread, which must be the pager's.
    pub fn summary(&mut self) -> Stats {
        self.tick();
        let seconds = |ns: u64| ns as f64 / 1e9;
        Stats {
            read_size_bytes: Percentiles::from(&self.read_size_bytes),
            read_latency_us: Percentiles::from(&self.read_latency_us),
            staged_latency_us: Percentiles::from(&self.staged_latency_us),
            demand_latency_us: Percentiles::from(&self.demand_latency_us),
            stall_s: seconds(self.stall_ns),
            reading_s: seconds(self.reading_ns),
            reads_in_flight_mean: if self.reading_ns > 0 {
                self.in_flight_ns as f64 / self.reading_ns as f64
            } else {
                0.0
            },
            pager_cpu_s: cpu_time::of_this_thread_ns() as f64 / 1e9,
            wall_s: self.start.elapsed().as_secs_f64(),
            ..self.stats.clone()
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Meter::new()
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
