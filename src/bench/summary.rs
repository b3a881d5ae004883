//! What all rounds together say about a contender.

use serde::Serialize;

use super::ceiling::Ceiling;
use super::plan::Contender;
use super::record::{Record, TextMatch};
use super::roofline;

/// One round: everything that was measured within the same minutes.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The drive's ceiling under the round's drive limit.
    pub ceiling: Option<Ceiling>,
    /// The runs, in the order they were made.
    pub records: Vec<Record>,
}

impl Round {
    fn good(&self, contender: Contender) -> Option<&Record> {
        self.records.iter().find(|record| record.contender == contender && record.failure.is_none())
    }

    fn ms(&self, contender: Contender) -> Option<f64> {
        self.good(contender)?.ms_per_token
    }
}

/// A contender's figures: medians over the rounds, ratios formed within each round first.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Who.
    pub contender: Contender,
    /// Runs that count.
    pub runs: usize,
    /// Why the others do not.
    pub failures: Vec<String>,
    /// Tokens per second while decoding.
    pub tokens_per_s: Option<f64>,
    /// Milliseconds per decoded token.
    pub ms_per_token: Option<f64>,
    /// Median gap between tokens, all rounds together.
    pub gap_p50_ms: Option<f64>,
    /// 99th percentile of the gaps, all rounds together.
    pub gap_p99_ms: Option<f64>,
    /// Milliseconds per token of the prompt.
    pub prompt_ms_per_token: Option<f64>,
    /// Seconds from the start to the first token.
    pub first_token_s: Option<f64>,
    /// Bytes read per decoded token.
    pub bytes_per_token: Option<f64>,
    /// ... against the least possible.
    pub bytes_ratio: Option<f64>,
    /// Part of the drive's ceiling that decoding used.
    pub drive_share: Option<f64>,
    /// `T_min / T`.
    pub roofline_share: Option<f64>,
    /// Mean reads in flight while any was.
    pub reads_in_flight: Option<f64>,
    /// Seconds that faulting threads slept, all of them together.
    pub stall_s: Option<f64>,
    /// CPU seconds of the pager per GB read: the part of a core that it takes at 1 GB/s.
    pub pager_cpu_s_per_gb: Option<f64>,
    /// Memory of the control group at its most.
    pub memory_peak_bytes: Option<u64>,
    /// How many times faster than each stock contender.
    pub speedups: Vec<(Contender, Option<f64>)>,
    /// The worst text of all rounds.
    pub text: TextMatch,
}

/// What the roofline needs besides the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// The least bytes of a cycle.
    pub bytes_min: Option<u64>,
    /// Gaps left out at the start of each run.
    pub skip: u32,
}

/// The middle value (the mean of the two middle ones of an even number).
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The nearest-rank percentile: the smallest value that at least `share` of all do not exceed.
pub fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

/// Sums up `contender`.
pub fn summarize(rounds: &[Round], contender: Contender, stock: &[Contender], bounds: Bounds) -> Summary {
    let pairs: Vec<(&Round, &Record)> =
        rounds.iter().filter_map(|round| Some((round, round.good(contender)?))).collect();
    let over = |value: &dyn Fn(&Round, &Record) -> Option<f64>| {
        median(pairs.iter().filter_map(|(round, run)| value(round, run)))
    };
    let gaps = || pairs.iter().flat_map(|(_, run)| run.gaps_ms(bounds.skip));
    let all = || rounds.iter().flat_map(|round| &round.records).filter(|run| run.contender == contender);
    let ms_per_token = over(&|_, run| run.ms_per_token);
    let ceiling = |round: &Round| round.ceiling.map(|ceiling| ceiling.bytes_per_s);
    Summary {
        contender,
        runs: pairs.len(),
        failures: all().filter_map(|run| run.failure.clone()).collect(),
        tokens_per_s: ms_per_token.map(|ms| 1e3 / ms),
        ms_per_token,
        gap_p50_ms: percentile(gaps(), 0.50),
        gap_p99_ms: percentile(gaps(), 0.99),
        prompt_ms_per_token: over(&|_, run| run.perf.prompt?.ms_each()),
        first_token_s: over(&|_, run| run.first_token_s),
        bytes_per_token: over(&|_, run| run.bytes_per_token),
        bytes_ratio: over(&|_, run| {
            let least = bounds.bytes_min.filter(|&bytes| bytes > 0)?;
            Some(run.bytes_per_token? / least as f64)
        }),
        drive_share: over(&|round, run| Some(run.bytes_per_s()? / ceiling(round)?)),
        roofline_share: over(&|round, run| {
            let least = roofline::t_min_ms(round.ms(Contender::InMemory), bounds.bytes_min, ceiling(round))?;
            Some(least / run.ms_per_token?)
        })
        .filter(|_| contender != Contender::InMemory),
        reads_in_flight: over(&|_, run| Some(run.stats.as_ref()?.reads_in_flight_mean)),
        stall_s: over(&|_, run| Some(run.stats.as_ref()?.stall_s)),
        pager_cpu_s_per_gb: over(&|_, run| {
            let stats = run.stats.as_ref().filter(|stats| stats.read_bytes > 0)?;
            Some(stats.pager_cpu_s / (stats.read_bytes as f64 / 1e9))
        }),
        memory_peak_bytes: pairs.iter().filter_map(|(_, run)| run.memory_peak_bytes).max(),
        speedups: stock
            .iter()
            .map(|&other| (other, over(&|round, run| Some(round.ms(other)? / run.ms_per_token?))))
            .collect(),
        text: pairs.iter().map(|(_, run)| run.text).max_by_key(badness).unwrap_or(TextMatch::Missing),
    }
}

fn badness(text: &TextMatch) -> (u8, usize) {
    match *text {
        TextMatch::Reference => (0, 0),
        TextMatch::Identical => (1, 0),
        TextMatch::Shorter(bytes) => (2, bytes),
        TextMatch::Missing => (3, 0),
        TextMatch::Differs(at) => (4, usize::MAX - at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Readahead;
    use crate::bench::workload::Arrival;
    use crate::config::Strategy;

    const STOCK: Contender = Contender::Stock(Readahead::Own);
    const PAGED: Contender = Contender::Paged(Strategy::Learned);

    fn record(contender: Contender, ms: f64, bytes: f64, text: TextMatch) -> Record {
        let arrivals = (0..4).map(|n| Arrival { at_s: f64::from(n) * ms / 1e3, read_bytes: 0 }).collect();
        Record {
            round: 0,
            contender,
            failure: None,
            text,
            wall_s: 1.0,
            first_token_s: Some(0.5),
            perf: Default::default(),
            arrivals,
            ms_per_token: Some(ms),
            bytes_per_token: Some(bytes),
            memory_peak_bytes: None,
            oom_kills: None,
            stats: None,
        }
    }

    fn round(compute_ms: f64, stock_ms: f64, paged_ms: f64, text: TextMatch) -> Round {
        Round {
            ceiling: Some(Ceiling { bytes_per_s: 1e6, bytes: 1, time_s: 1.0 }),
            records: vec![
                record(Contender::InMemory, compute_ms, 0.0, TextMatch::Reference),
                record(STOCK, stock_ms, 2e6, TextMatch::Identical),
                record(PAGED, paged_ms, 1.1e6, text),
            ],
        }
    }

    #[test]
    fn ratios_are_formed_within_a_round() {
        // The machine is twice as slow in the second round: the ratio stays.
        let rounds =
            [round(100.0, 4000.0, 1250.0, TextMatch::Identical), round(200.0, 8000.0, 2500.0, TextMatch::Shorter(3))];
        let bounds = Bounds { bytes_min: Some(1_000_000), skip: 0 };
        let paged = summarize(&rounds, PAGED, &[STOCK], bounds);
        assert_eq!(paged.runs, 2);
        assert_eq!(paged.speedups, [(STOCK, Some(3.2))]);
        assert!((paged.bytes_ratio.unwrap() - 1.1).abs() < 1e-9);
        // T_min is 1000 ms in both rounds: 0.8 and 0.4.
        assert!((paged.roofline_share.unwrap() - 0.6).abs() < 1e-9);
        assert!((paged.drive_share.unwrap() - (0.88 + 0.44) / 2.0).abs() < 1e-9);
        assert_eq!(paged.text, TextMatch::Shorter(3));
        assert_eq!(summarize(&rounds, Contender::InMemory, &[STOCK], bounds).roofline_share, None);
    }

    #[test]
    fn failed_runs_count_for_nothing_but_are_told() {
        let mut rounds =
            [round(100.0, 4000.0, 1250.0, TextMatch::Identical), round(1.0, 1.0, 1.0, TextMatch::Differs(2))];
        rounds[1].records[1].failure = Some("killed".to_owned());
        let bounds = Bounds { bytes_min: None, skip: 0 };
        let stock = summarize(&rounds, STOCK, &[STOCK], bounds);
        assert_eq!((stock.runs, stock.failures.len(), stock.ms_per_token), (1, 1, Some(4000.0)));
        let paged = summarize(&rounds, PAGED, &[STOCK], bounds);
        assert_eq!(paged.speedups, [(STOCK, Some(3.2))]);
        assert_eq!(paged.text, TextMatch::Differs(2));
        assert_eq!(paged.bytes_ratio, None);
    }

    #[test]
    fn medians_and_percentiles() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let hundred = || (1..=100).map(f64::from);
        assert_eq!(percentile(hundred(), 0.99), Some(99.0));
        assert_eq!(percentile(hundred(), 0.5), Some(50.0));
        assert_eq!(percentile([7.0], 0.99), Some(7.0));
        assert_eq!(percentile([], 0.99), None);
    }
}
