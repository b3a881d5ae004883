//! How much is in flight on one drive: enough to keep it busy, and no more.
//!
//! A drive with nothing else to do answers the read of one block after its *base time*; at its best
//! it delivers a certain *rate*. By Little's law, rate x base time is what has to be in flight for
//! that rate. What goes beyond it waits in the drive's queue, and a demand read waits behind it. The
//! two are the quantities that BBR keeps for a network path (Cardwell et al., ACM Queue 14(5), 2016),
//! estimated alike: the rate as the largest of the latest windows, the base time as the least of a
//! few reads that were alone.
//!
//! Both come from the reads that are wanted anyway. Now and then the queue is let run down to single
//! reads, three of them, to see the base time anew; that is all that the measuring costs. Time here
//! is the time during which something was in flight.

use crate::drive::profile::Profile;

/// The block that is counted in, in bytes.
pub const BLOCK: u64 = 2 << 20;
/// Blocks in flight before anything is known.
const START: u64 = 16;
/// Least and most blocks in flight.
const LEAST: u64 = 2;
/// See [`LEAST`].
pub const MOST: u64 = 64;
/// In flight is so many times what Little's law asks for: drives do not come to their full rate at
/// once when the queue grows.
const GAIN: f64 = 3.0;
/// And what the drive delivers in this time, since the pager does not run at once when a read
/// completes: the compute threads have the processors. Grows when the queue runs dry.
const SLACK_NS: f64 = 6e6;
/// See [`SLACK_NS`].
const SLACK_NS_MAX: f64 = 48e6;
/// The slack's growth in a window in which the queue has run dry, and in one in which it has not: on a
/// busy machine it may run dry once in some seven windows.
const SLACK_STEPS: (f64, f64) = (1.25, 0.97);

/// A window: as many bytes and as much time at least, or the time alone when it is ten times that.
const WINDOW_BYTES: u64 = 32 * BLOCK;
/// See [`WINDOW_BYTES`].
const WINDOW_NS: u64 = 100_000_000;
/// Windows of which the fastest counts.
const WINDOWS: usize = 8;

/// Reads that are alone, for one base time.
const SAMPLES: u32 = 3;
/// Single reads are waited for at most this long.
const SAMPLING_NS_MAX: u64 = 1_000_000_000;
/// From one base time to the next: the least after a change, doubled as long as nothing changes.
const PERIOD_NS: u64 = 4_000_000_000;
/// See [`PERIOD_NS`].
const PERIOD_NS_MAX: u64 = 64_000_000_000;

/// See the module's page.
#[derive(Debug)]
pub struct Tuner {
    /// Bytes that may be in flight.
    limit: u64,
    /// The least of them for reads that are certain to be needed.
    certain: u64,
    in_flight: u64,
    reads: u32,
    /// Time during which something was in flight, up to `now`.
    busy_ns: u64,
    now_ns: u64,
    /// The whole block in flight has been alone all its time, which began then.
    alone_since: Option<u64>,
    /// Reads that were alone in this period, and the shortest of them.
    samples: u32,
    shortest_ns: u64,
    base_ns: Option<f64>,
    sampling: bool,
    due_ns: u64,
    period_ns: u64,
    /// The rate when the base time was taken.
    rate_then: f64,
    window_since: u64,
    window_bytes: u64,
    /// Bytes per nanosecond, the newest last.
    rates: std::collections::VecDeque<f64>,
    slack_ns: f64,
    /// As much was in flight as may be when the pager went to sleep.
    full: bool,
    /// Times that the queue ran dry: in all, and before this window.
    ran_dry: u64,
    ran_dry_before: u64,
}

impl Tuner {
    /// Begins with what is remembered of the drive, if anything.
    pub fn new(remembered: Option<&Profile>) -> Tuner {
        let mut tuner = Tuner::fixed(START);
        tuner.due_ns = 0;
        tuner.certain = START * BLOCK;
        if let Some(profile) = remembered {
            tuner.rates.push_back(profile.rate_bytes_per_s / 1e9);
            tuner.rate_then = profile.rate_bytes_per_s / 1e9;
            tuner.base_ns = Some(profile.base_us * 1e3);
            tuner.due_ns = PERIOD_NS;
            tuner.aim();
        }
        tuner
    }

    /// Keeps `blocks` in flight.
    pub fn fixed(blocks: u64) -> Tuner {
        Tuner {
            limit: blocks * BLOCK,
            certain: 0,
            in_flight: 0,
            reads: 0,
            busy_ns: 0,
            now_ns: 0,
            alone_since: None,
            samples: 0,
            shortest_ns: u64::MAX,
            base_ns: None,
            sampling: false,
            due_ns: u64::MAX,
            period_ns: PERIOD_NS,
            rate_then: 0.0,
            window_since: 0,
            window_bytes: 0,
            rates: std::collections::VecDeque::with_capacity(WINDOWS + 1),
            slack_ns: SLACK_NS,
            full: false,
            ran_dry: 0,
            ran_dry_before: 0,
        }
    }

    /// Bytes that may be in flight now.
    pub fn limit_bytes(&self) -> u64 {
        if self.sampling { BLOCK } else { self.limit }
    }

    /// The same for reads that are certain to be needed, and soon: there is nothing that could be read later in their
    /// place, so no queue is kept short for a base time. Most of them are too small to tell one.
    pub fn certain_bytes(&self) -> u64 {
        self.limit.max(self.certain)
    }

    /// Times that the drive ended everything it had while more was to be read.
    pub fn ran_dry(&self) -> u64 {
        self.ran_dry
    }

    /// A block's read of `bytes` begins.
    pub fn started(&mut self, bytes: u64, now_ns: u64) {
        self.pass(now_ns);
        if self.reads == 0 {
            self.sampling = self.busy_ns >= self.due_ns && self.samples < SAMPLES;
        }
        self.alone_since = (self.reads == 0 && bytes == BLOCK).then_some(now_ns);
        self.reads += 1;
        self.in_flight += bytes;
    }

    /// A block's read of `bytes` has ended.
    pub fn ended(&mut self, bytes: u64, now_ns: u64) {
        self.pass(now_ns);
        self.reads -= 1;
        self.in_flight -= bytes;
        self.window_bytes += bytes;
        if let Some(since) = self.alone_since.take() {
            self.samples += 1;
            self.shortest_ns = self.shortest_ns.min(now_ns - since);
        }
        if self.reads == 0 && self.full && !self.sampling {
            self.ran_dry += 1;
        }
        self.sample();
        let window_ns = self.busy_ns - self.window_since;
        if window_ns >= WINDOW_NS && self.window_bytes >= WINDOW_BYTES || window_ns >= 10 * WINDOW_NS {
            self.close_window();
        }
    }

    /// The pager goes to sleep; `full` says that as much is in flight as may be.
    pub fn slept(&mut self, full: bool) {
        self.full = full;
    }

    /// What is worth remembering of the drive: `None` as long as nothing is known. Without the time
    /// of the measurement.
    pub fn profile(&self) -> Option<Profile> {
        let base_ns = self.base_ns.filter(|_| self.busy_ns >= 10 * WINDOW_NS)?;
        Some(Profile { rate_bytes_per_s: self.rate() * 1e9, base_us: base_ns / 1e3, measured_s: 0 })
    }

    fn pass(&mut self, now_ns: u64) {
        if self.reads > 0 {
            self.busy_ns += now_ns.saturating_sub(self.now_ns);
        }
        self.now_ns = now_ns;
    }

    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Takes the base time when it is due.
    fn sample(&mut self) {
        if self.busy_ns < self.due_ns {
            return;
        }
        let late = self.busy_ns - self.due_ns > SAMPLING_NS_MAX;
        if self.samples < SAMPLES && !(late && self.sampling) {
            // Not before the drive has ended what it has: until then no read is alone.
            self.sampling = true;
            return;
        }
        let base_ns = if self.samples > 0 { Some(self.shortest_ns as f64) } else { self.base_ns };
        let near = |a: f64, b: f64| (0.75..=1.33).contains(&(a / b));
        let same = base_ns.zip(self.base_ns).is_none_or(|(now, before)| near(now, before));
        self.period_ns = if same { (self.period_ns * 2).min(PERIOD_NS_MAX) } else { PERIOD_NS };
        self.base_ns = base_ns;
        self.sampling = false;
        (self.samples, self.shortest_ns) = (0, u64::MAX);
        self.due_ns = self.busy_ns + self.period_ns;
        self.rate_then = self.rate();
        // Single reads are no measure of the rate.
        (self.window_since, self.window_bytes, self.ran_dry_before) = (self.busy_ns, 0, self.ran_dry);
        self.aim();
    }

    fn close_window(&mut self) {
        let rate = self.window_bytes as f64 / (self.busy_ns - self.window_since) as f64;
        let dry = self.ran_dry > self.ran_dry_before;
        (self.window_since, self.window_bytes, self.ran_dry_before) = (self.busy_ns, 0, self.ran_dry);
        if self.sampling {
            return;
        }
        self.rates.push_back(rate);
        if self.rates.len() > WINDOWS {
            self.rates.pop_front();
        }
        let step = if dry { SLACK_STEPS.0 } else { SLACK_STEPS.1 };
        self.slack_ns = (self.slack_ns * step).clamp(SLACK_NS, SLACK_NS_MAX);
        if self.base_ns.is_some() && !(0.7..=1.4).contains(&(self.rate() / self.rate_then)) {
            // Another drive than before, as it were: its base time is due soon.
            self.due_ns = self.due_ns.min((self.busy_ns / PERIOD_NS + 1) * PERIOD_NS);
        }
        self.aim();
    }

    /// Sets the limit from what is known. Small changes are not worth their unrest: up by an eighth, down
    /// by a quarter at least.
    fn aim(&mut self) {
        let (Some(base_ns), rate) = (self.base_ns, self.rate()) else { return };
        let blocks = (rate * (GAIN * base_ns + self.slack_ns) / BLOCK as f64).ceil() as u64;
        let wanted = blocks.clamp(LEAST, MOST) * BLOCK;
        if wanted * 8 >= self.limit * 9 || wanted * 4 <= self.limit * 3 {
            self.limit = wanted;
        }
    }
}

#[cfg(test)]
mod tests;
