//! A distribution in a few numbers, and in bars to draw.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Bars an octave.
const BARS: f64 = 2.0;

/// Values that are counted, to three digits. Values above 2^42 count as that.
#[derive(Debug, Clone)]
pub struct Counter(Histogram<u64>);

impl Default for Counter {
    fn default() -> Counter {
        Counter(Histogram::new_with_bounds(1, 1 << 42, 3).expect("constant bounds are valid"))
    }
}

impl Counter {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.0.saturating_record(value);
    }

    /// What was counted.
    pub fn finish(&self) -> Distribution {
        if self.0.is_empty() {
            return Distribution::default();
        }
        let mut bars = Vec::new();
        let mut from = 0;
        for step in self.0.iter_log(1, 2f64.powf(1.0 / BARS)) {
            let to = step.value_iterated_to().saturating_add(1);
            if to > from {
                bars.push(Bar { from, to, count: step.count_since_last_iteration() });
            } else if let Some(last) = bars.last_mut() {
                last.count += step.count_since_last_iteration();
            }
            from = to.max(from);
        }
        bars.drain(..bars.iter().take_while(|bar| bar.count == 0).count());
        let quantile = |share| self.0.value_at_quantile(share).min(self.0.max());
        Distribution {
            count: self.0.len(),
            min: self.0.min(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.0.max(),
            mean: self.0.mean(),
            bars,
        }
    }
}

/// What a [`Counter`] counted, to three digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// The smallest.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// The mean.
    pub mean: f64,
    /// Two bars an octave.
    pub bars: Vec<Bar>,
}

/// How many values were at least `from` and less than `to`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    /// The lower bound.
    pub from: u64,
    /// The upper bound, not included.
    pub to: u64,
    /// Values.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar() {
        let mut counter = Counter::default();
        assert_eq!(counter.finish(), Distribution::default());
        let values = [1, 2, 3, 1000, 1000, 4096, 2 << 20, u64::MAX];
        values.iter().for_each(|&value| counter.add(value));
        let found = counter.finish();
        assert_eq!((found.count, found.min, found.p50), (8, 1, 1000));
        assert_eq!(found.bars.iter().map(|bar| bar.count).sum::<u64>(), 8);
        for bar in found.bars.windows(2) {
            assert_eq!(bar[0].to, bar[1].from);
        }
        let of_4096 = found.bars.iter().find(|bar| (bar.from..bar.to).contains(&4096)).unwrap();
        assert_eq!(of_4096.count, 1, "{found:?}");
    }
}
