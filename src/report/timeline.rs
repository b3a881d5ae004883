//! Rates over time, in a bounded number of bins: when the log is longer than the bins, two become
//! one.

use serde::Serialize;

/// Bins that are kept at most; after a merge half of them are in use.
const BINS_MAX: usize = 2048;

/// Width of a bin at the start, in nanoseconds.
const WIDTH_NS: u64 = 1_000_000;

/// What happened within one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bin {
    read_bytes: f64,
    in_flight_ns: f64,
    asleep_ns: f64,
    reading_ns: f64,
}

/// Collects a time series in one pass.
#[derive(Debug)]
pub struct Timeline {
    width_ns: u64,
    bins: Vec<Bin>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { width_ns: WIDTH_NS, bins: Vec::new() }
    }
}

impl Timeline {
    /// A read of `bytes` ended at `at_ns`.
    pub fn read(&mut self, at_ns: u64, bytes: u64) {
        let index = self.index(at_ns);
        self.bins[index].read_bytes += bytes as f64;
    }

    /// From `from_ns` to `to_ns` so many reads were in flight and so many threads asleep.
    pub fn passed(&mut self, from_ns: u64, to_ns: u64, in_flight: usize, asleep: u32) {
        if to_ns <= from_ns {
            return;
        }
        let last = self.index(to_ns - 1);
        let first = self.index(from_ns);
        for (index, bin) in self.bins.iter_mut().enumerate().take(last + 1).skip(first) {
            let start = index as u64 * self.width_ns;
            let part = (to_ns.min(start.saturating_add(self.width_ns)) - from_ns.max(start)) as f64;
            bin.in_flight_ns += part * in_flight as f64;
            bin.asleep_ns += part * f64::from(asleep);
            bin.reading_ns += if in_flight > 0 { part } else { 0.0 };
        }
    }

    /// The bin of `at_ns`, which exists from now on.
    fn index(&mut self, at_ns: u64) -> usize {
        while at_ns / self.width_ns >= BINS_MAX as u64 {
            self.width_ns *= 2;
            self.bins = self
                .bins
                .chunks(2)
                .map(|pair| {
                    pair.iter().fold(Bin::default(), |sum, bin| Bin {
                        read_bytes: sum.read_bytes + bin.read_bytes,
                        in_flight_ns: sum.in_flight_ns + bin.in_flight_ns,
                        asleep_ns: sum.asleep_ns + bin.asleep_ns,
                        reading_ns: sum.reading_ns + bin.reading_ns,
                    })
                })
                .collect();
        }
        let index = (at_ns / self.width_ns) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, Bin::default());
        }
        index
    }

    /// The series up to `end_ns`, in at most `points` points.
    pub fn finish(&self, end_ns: u64, points: usize) -> Series {
        let merged = self.bins.len().div_ceil(points).max(1);
        let width_ns = self.width_ns.saturating_mul(merged as u64);
        let points = self.bins.chunks(merged).enumerate().map(|(index, bins)| {
            let start_ns = width_ns.saturating_mul(index as u64);
            let length_ns = end_ns.min(start_ns.saturating_add(width_ns)).saturating_sub(start_ns).max(1) as f64;
            let sum = |value: fn(&Bin) -> f64| bins.iter().map(value).sum::<f64>();
            Point {
                start_s: start_ns as f64 / 1e9,
                bytes_per_s: sum(|bin| bin.read_bytes) / length_ns * 1e9,
                in_flight: sum(|bin| bin.in_flight_ns) / length_ns,
                asleep: sum(|bin| bin.asleep_ns) / length_ns,
                reading: sum(|bin| bin.reading_ns) / length_ns,
            }
        });
        Series { width_s: width_ns as f64 / 1e9, points: points.collect() }
    }
}

/// Rates over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    /// Length of a point, in seconds.
    pub width_s: f64,
    /// The points, one after the other.
    pub points: Vec<Point>,
}

/// Means within one point.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Start, in seconds of the log.
    pub start_s: f64,
    /// Bytes read per second, by the ends of the reads.
    pub bytes_per_s: f64,
    /// Reads in flight.
    pub in_flight: f64,
    /// Threads asleep.
    pub asleep: f64,
    /// Share of the time with a read in flight.
    pub reading: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_merge_and_nothing_is_lost() {
        let mut line = Timeline::default();
        line.passed(500_000, 10_500_000, 4, 1);
        line.read(10_500_000, 1000);
        line.passed(10_500_000, 60_000_000_000, 1, 0);
        line.read(60_000_000_000 - 1, 500);
        assert!(line.bins.len() <= BINS_MAX);
        let series = line.finish(60_000_000_000, 100);
        assert!(series.points.len() <= 100);
        let sum = |value: fn(&Point) -> f64| {
            let length = |point: &Point| series.width_s.min(60.0 - point.start_s);
            series.points.iter().map(|point| value(point) * length(point)).sum::<f64>()
        };
        assert!((sum(|it| it.bytes_per_s) - 1500.0).abs() < 1e-3);
        assert!((sum(|it| it.in_flight) - (0.04 + 59.9895)).abs() < 1e-3);
        assert!((sum(|it| it.asleep) - 0.01).abs() < 1e-3);
        // A broken clock costs no memory.
        line.passed(60_000_000_000, u64::MAX, 1, 1);
        assert!(line.bins.len() <= BINS_MAX);
    }
}
