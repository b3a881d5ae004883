//! What the drive gave while it was kept busy.
//!
//! Short bins overstate it: a drive that is throttled (blkio, io.max) saves up while it is idle and gives it
//! out at once. So it is the rate over whole seconds in which reads were in flight all the time, in the
//! deepest queue that the log has for that long.

use std::collections::VecDeque;

/// Width of a bin, in nanoseconds: windows begin at bins.
const BIN_NS: u64 = 100_000_000;

/// Bins of a window.
const BINS: usize = 10;

/// Share of a window with a read in flight from which on it counts.
const BUSY_SHARE: f64 = 0.95;

/// Windows that are kept at most: those of seven hours.
const WINDOWS_MAX: usize = 1 << 18;

/// What happened within one bin.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    bytes: u64,
    reading_ns: u64,
    /// Reads times time.
    in_flight_ns: f64,
}

/// A window in which the drive was busy.
#[derive(Debug, Clone, Copy)]
struct Window {
    bytes: u64,
    in_flight: f64,
}

/// Collects windows in one pass.
#[derive(Debug, Default)]
pub struct Busy {
    /// The newest bins, the last of which is being filled: bin number `newest`.
    bins: VecDeque<Bin>,
    newest: u64,
    windows: Vec<Window>,
}

impl Busy {
    /// `bytes` came at `at_ns`.
    pub fn read(&mut self, at_ns: u64, bytes: u64) {
        self.bin(at_ns).bytes += bytes;
    }

    /// From `from_ns` to `to_ns` so many reads were in flight.
    pub fn passed(&mut self, from_ns: u64, to_ns: u64, in_flight: usize) {
        if in_flight == 0 {
            return;
        }
        // Of a long time only the last windows count: nothing else happened in it.
        let mut from_ns = from_ns.max(to_ns.saturating_sub(4 * BINS as u64 * BIN_NS));
        while from_ns < to_ns {
            let end_ns = to_ns.min((from_ns / BIN_NS + 1).saturating_mul(BIN_NS));
            let bin = self.bin(from_ns);
            bin.reading_ns += end_ns - from_ns;
            bin.in_flight_ns += (end_ns - from_ns) as f64 * in_flight as f64;
            from_ns = end_ns;
        }
    }

    /// The bin of `at_ns`; what ends before it is complete.
    fn bin(&mut self, at_ns: u64) -> &mut Bin {
        let number = (at_ns / BIN_NS).max(self.newest);
        if number - self.newest > BINS as u64 {
            self.end_bin();
            self.bins.clear();
            self.newest = number;
        }
        while self.newest < number {
            self.end_bin();
            self.bins.push_back(Bin::default());
            self.newest += 1;
        }
        if self.bins.is_empty() {
            self.bins.push_back(Bin::default());
        }
        self.bins.back_mut().expect("it was pushed above")
    }

    /// The newest bin is complete.
    fn end_bin(&mut self) {
        while self.bins.len() > BINS {
            self.bins.pop_front();
        }
        let sum = self.bins.iter().fold(Bin::default(), |sum, bin| Bin {
            bytes: sum.bytes + bin.bytes,
            reading_ns: sum.reading_ns + bin.reading_ns,
            in_flight_ns: sum.in_flight_ns + bin.in_flight_ns,
        });
        let length_ns = (BINS as u64 * BIN_NS) as f64;
        let is_busy = self.bins.len() == BINS && sum.reading_ns as f64 >= BUSY_SHARE * length_ns;
        if is_busy && self.windows.len() < WINDOWS_MAX {
            self.windows.push(Window { bytes: sum.bytes, in_flight: sum.in_flight_ns / length_ns });
        }
    }

    /// Bytes per second: the median of the windows with at least half as many reads in flight as the deepest.
    /// `None` where the drive was never busy for that long.
    pub fn bytes_per_s(&self) -> Option<f64> {
        let deepest = self.windows.iter().map(|window| window.in_flight).fold(0.0, f64::max);
        let deep = self.windows.iter().filter(|window| window.in_flight >= deepest / 2.0);
        let mut bytes: Vec<u64> = deep.map(|window| window.bytes).collect();
        bytes.sort_unstable();
        let median = *bytes.get(bytes.len() / 2)?;
        Some(median as f64 * 1e9 / (BINS as u64 * BIN_NS) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// From `*now` on for `ms`: `in_flight` reads all the time, `mb` MB/s in pieces of a millisecond.
    fn busy(rate: &mut Busy, now: &mut u64, ms: u64, in_flight: usize, mb: u64) {
        for _ in 0..ms {
            rate.passed(*now, *now + MS, in_flight);
            *now += MS;
            rate.read(*now, mb * 1000);
        }
    }

    #[test]
    fn what_a_throttled_drive_saves_up_is_not_its_rate() {
        let (mut rate, mut now) = (Busy::default(), 0);
        for _ in 0..5 {
            // Idle for half a second, then at three times its rate for a tenth, then at its rate.
            now += 500 * MS;
            busy(&mut rate, &mut now, 100, 16, 900);
            busy(&mut rate, &mut now, 4000, 16, 300);
        }
        let found = rate.bytes_per_s().expect("it was busy");
        assert!((found - 300e6).abs() < 3e6, "{found}");
    }

    #[test]
    fn a_short_queue_says_nothing_where_there_is_a_long_one() {
        let (mut rate, mut now) = (Busy::default(), 0);
        busy(&mut rate, &mut now, 20_000, 2, 500);
        busy(&mut rate, &mut now, 3_000, 16, 1500);
        let found = rate.bytes_per_s().expect("it was busy");
        assert!((found - 1500e6).abs() < 15e6, "{found}");
    }

    #[test]
    fn a_drive_with_pauses_has_no_rate() {
        let (mut rate, mut now) = (Busy::default(), 0);
        for _ in 0..50 {
            busy(&mut rate, &mut now, 180, 16, 900);
            now += 20 * MS;
        }
        assert_eq!(rate.bytes_per_s(), None);
        // Neither a broken clock nor a log without reads costs time or memory.
        rate.passed(now, u64::MAX, 1);
        rate.read(u64::MAX, 1);
        assert!(rate.bins.len() <= BINS + 1);
        assert_eq!(Busy::default().bytes_per_s(), None);
    }
}
