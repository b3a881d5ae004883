//! What all rounds together say about a contender.

use serde::Serialize;

use super::ceiling::Ceiling;
use super::experts::ExpertFigures;
use super::lane::{Gap, Lane, Span};
use super::pairs::{self, Pairs};
use super::plan::{Cache, Contender, Readahead, Who};
use super::quantile::{median, percentile};
use super::record::{Record, TextMatch};
use super::roofline::{self, Bounds};
use crate::stats::Stats;

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

    fn lane(&self, contender: Contender, lane: usize) -> Option<&Lane> {
        self.good(contender)?.lanes.get(lane)
    }
}

/// What runs are held against.
#[derive(Debug, Clone, Copy)]
pub struct Yardstick<'a> {
    /// The bounds of the lane.
    pub bounds: &'a Bounds,
    /// The lane.
    pub lane: usize,
    /// What the drive was held to, in bytes per second.
    pub drive_limit: Option<u64>,
    /// Tokens of a prompt that one pass over the weights serves.
    pub ubatch: u32,
    /// The readaheads of stock.
    pub stock: &'a [Readahead],
    /// The lane that each turn is held against.
    pub against: Option<usize>,
    /// Gaps left out at the start of each turn.
    pub skip: u32,
}

/// How many times faster than stock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Speedup {
    /// Tokens after the first.
    pub decode: Option<f64>,
    /// The prompt.
    pub prefill: Option<f64>,
    /// From the start to the first token.
    pub first_token: Option<f64>,
}

/// A contender's figures for one lane: medians over the rounds, ratios formed within each round
/// first. Where a draft model is used a step stands for a token.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Who.
    pub contender: Contender,
    /// Counted from 0.
    pub lane: usize,
    /// Runs that count.
    pub runs: usize,
    /// Why the others do not.
    pub failures: Vec<String>,
    /// Tokens per second while decoding; these are tokens, also with a draft model.
    pub tokens_per_s: Option<f64>,
    /// Tokens that a step gave.
    pub tokens_per_step: Option<f64>,
    /// Milliseconds per decoded token.
    pub ms_per_token: Option<f64>,
    /// Median gap between tokens, all rounds together.
    pub gap_p50_ms: Option<f64>,
    /// 99th percentile of the gaps, all rounds together.
    pub gap_p99_ms: Option<f64>,
    /// Part of the speed with everything in memory.
    pub in_memory_share: Option<f64>,
    /// ... that the same reads allow: see [`roofline::overlapped_ms`], with the limit, or the measured ceiling without one.
    pub overlapped_share: Option<f64>,
    /// `T_min / T` with the measured ceiling.
    pub roofline_share: Option<f64>,
    /// `T_min / T` with the limit that was set instead of the ceiling.
    pub roofline_share_of_limit: Option<f64>,
    /// Bytes read per decoded token.
    pub bytes_per_token: Option<f64>,
    /// ... against the least possible.
    pub bytes_ratio: Option<f64>,
    /// Part of the drive's ceiling that decoding used.
    pub drive_share: Option<f64>,
    /// Part of the limit that decoding used.
    pub drive_share_of_limit: Option<f64>,
    /// Experts, in the whole run.
    pub experts: ExpertFigures,
    /// Mean reads in flight while any was, decoding.
    pub reads_in_flight: Option<f64>,
    /// The same of the whole run.
    pub reads_in_flight_of_run: Option<f64>,
    /// Milliseconds that faulting threads slept per decoded token, all of them together.
    pub stall_ms_per_token: Option<f64>,
    /// Seconds that they slept in the whole run.
    pub stall_s_of_run: Option<f64>,
    /// CPU seconds of the pager's threads per GB read while decoding.
    pub pager_cpu_s_per_gb: Option<f64>,
    /// The same of the pager thread and the whole run, start-up included.
    pub pager_cpu_s_per_gb_of_run: Option<f64>,
    /// Tokens of a prompt.
    pub prompt_tokens: Option<f64>,
    /// Milliseconds that a prompt took.
    pub prefill_ms: Option<f64>,
    /// Milliseconds per token of the prompt.
    pub prompt_ms_per_token: Option<f64>,
    /// Bytes read meanwhile.
    pub prefill_bytes: Option<f64>,
    /// ... against the least possible: `bytes_min` for each pass over the weights.
    pub prefill_bytes_ratio: Option<f64>,
    /// `T_min / T` of the prompt, with the measured ceiling.
    pub prefill_roofline_share: Option<f64>,
    /// Seconds from the start (of the first turn) to the first token.
    pub first_token_s: Option<f64>,
    /// Bytes per second at which a cold run read until its first prompt was computed, pauses before and
    /// after left out.
    pub load_bytes_per_s: Option<f64>,
    /// ... as part of the drive's ceiling.
    pub load_drive_share: Option<f64>,
    /// Memory of the control group at its most.
    pub memory_peak_bytes: Option<u64>,
    /// How many times faster than stock at each readahead.
    pub speedups: Vec<(String, Speedup)>,
    /// Time of a token, turn by turn, over that of the other server.
    pub pairs: Option<Pairs>,
    /// The worst text of all rounds.
    pub text: TextMatch,
    /// Token by token: the median over the rounds of each gap of all turns.
    pub gaps: Vec<Gap>,
}

/// Sums up `contender`.
pub fn summarize(rounds: &[Round], contender: Contender, yardstick: Yardstick<'_>) -> Summary {
    let Yardstick { bounds, lane: index, .. } = yardstick;
    let pairs: Vec<(&Round, &Record, &Lane)> = rounds
        .iter()
        .filter_map(|round| Some((round, round.good(contender)?, round.lane(contender, index)?)))
        .collect();
    let over = |value: &dyn Fn(&Round, &Lane) -> Option<f64>| {
        median(pairs.iter().filter_map(|(round, _, lane)| value(round, lane)))
    };
    // One process may serve all lanes.
    let own = |run: &'_ &Record| index.min(run.stats.len().max(1) - 1);
    let stats: Vec<&Stats> = pairs.iter().filter_map(|(_, run, _)| run.stats.get(own(run))).collect();
    let told = |value: &dyn Fn(&Stats) -> Option<f64>| median(stats.iter().filter_map(|stats| value(stats)));
    let decoding = |value: &dyn Fn(Span) -> Option<f64>| over(&|_, lane| value(lane.decode?));
    let prefilling = |value: &dyn Fn(Span) -> Option<f64>| over(&|_, lane| value(lane.prefill?));
    let all = || rounds.iter().flat_map(|round| &round.records).filter(|run| run.contender == contender);
    let ms = |lane: &Lane| lane.decode?.ms_each();
    let ceiling = |round: &Round| round.ceiling.map(|ceiling| ceiling.bytes_per_s);
    let limit = yardstick.drive_limit.map(|limit| limit as f64);
    let least = bounds.bytes_min.filter(|&bytes| bytes > 0).map(|bytes| bytes as f64);
    let in_memory = |round: &Round| round.lane(Contender::in_memory(contender.threads), index).cloned();
    let roofline = |round: &Round, lane: &Lane, drive: Option<f64>| {
        let compute = in_memory(round).as_ref().and_then(ms);
        Some(roofline::t_min_ms(compute, bounds.bytes_min, drive)? / ms(lane)?)
    };
    let overlapped = |round: &Round, lane: &Lane| {
        let compute_ms = ms(&in_memory(round)?)?;
        let bytes: Vec<f64> = lane.counted_gaps().map(|gap| gap.bytes).collect();
        Some(compute_ms / roofline::overlapped_ms(compute_ms, &bytes, limit.or(ceiling(round))?)?)
    };
    let passes = |lane: &Lane| {
        let tokens = lane.prefill?.count / f64::from(lane.prompts);
        Some((tokens / f64::from(yardstick.ubatch)).ceil() * f64::from(lane.prompts))
    };
    let ms_per_token = decoding(&|decode| decode.ms_each());
    let is_bounded = contender.who != Who::InMemory;
    let is_cold = contender.cache == Cache::Cold;
    Summary {
        contender,
        lane: index,
        runs: pairs.len(),
        failures: all().filter_map(|run| run.failure.clone()).collect(),
        tokens_per_s: over(&|_, lane| Some(1e3 / ms(lane)? * lane.tokens_per_step.unwrap_or(1.0))),
        tokens_per_step: over(&|_, lane| lane.tokens_per_step),
        ms_per_token,
        gap_p50_ms: percentile(pairs.iter().flat_map(|(_, _, lane)| lane.gaps_ms()), 0.50),
        gap_p99_ms: percentile(pairs.iter().flat_map(|(_, _, lane)| lane.gaps_ms()), 0.99),
        in_memory_share: over(&|round, lane| Some(ms(&in_memory(round)?)? / ms(lane)?)).filter(|_| is_bounded),
        overlapped_share: over(&overlapped).filter(|_| is_bounded),
        roofline_share: over(&|round, lane| roofline(round, lane, ceiling(round))).filter(|_| is_bounded),
        roofline_share_of_limit: limit
            .and_then(|limit| over(&|round, lane| roofline(round, lane, Some(limit))))
            .filter(|_| is_bounded),
        bytes_per_token: decoding(&|decode| decode.bytes_each()),
        bytes_ratio: decoding(&|decode| Some(decode.bytes_each()? / least?)),
        drive_share: over(&|round, lane| Some(lane.decode?.bytes_per_s()? / ceiling(round)?)),
        drive_share_of_limit: decoding(&|decode| Some(decode.bytes_per_s()? / limit?)).filter(|_| is_bounded),
        reads_in_flight: decoding(&|decode| decode.reads_in_flight()),
        experts: ExpertFigures::of(&stats.iter().map(|stats| &stats.experts).collect::<Vec<_>>()),
        reads_in_flight_of_run: told(&|stats| Some(stats.reads_in_flight_mean)),
        stall_ms_per_token: decoding(&|decode| decode.stall_ms_each()).filter(|_| contender.is_paged()),
        stall_s_of_run: told(&|stats| Some(stats.stall_s)),
        pager_cpu_s_per_gb: decoding(&|decode| decode.pager_cpu_s_per_gb()),
        pager_cpu_s_per_gb_of_run: told(&|stats| {
            (stats.read_bytes > 0).then(|| stats.pager_cpu_s / (stats.read_bytes as f64 / 1e9))
        }),
        prompt_tokens: over(&|_, lane| Some(lane.prefill?.count / f64::from(lane.prompts))),
        prefill_ms: over(&|_, lane| Some(lane.prefill?.ms / f64::from(lane.prompts))),
        prompt_ms_per_token: prefilling(&|prefill| prefill.ms_each()),
        prefill_bytes: over(&|_, lane| Some(lane.prefill?.bytes / f64::from(lane.prompts))),
        prefill_bytes_ratio: over(&|_, lane| Some(lane.prefill?.bytes / passes(lane)? / least?)),
        prefill_roofline_share: over(&|round, lane| {
            let compute = in_memory(round).and_then(|lane| Some(lane.prefill?.ms));
            let bytes = bounds.bytes_min.zip(passes(lane)).map(|(bytes, passes)| (bytes as f64 * passes) as u64);
            Some(roofline::t_min_ms(compute, bytes, ceiling(round))? / lane.prefill?.ms)
        })
        .filter(|_| is_bounded),
        first_token_s: over(&|_, lane| lane.first_token_s),
        load_bytes_per_s: over(&|_, lane| lane.load_bytes_per_s.filter(|_| is_cold)),
        load_drive_share: over(&|round, lane| Some(lane.load_bytes_per_s.filter(|_| is_cold)? / ceiling(round)?)),
        memory_peak_bytes: pairs.iter().filter_map(|(_, run, _)| run.memory_peak_bytes).max(),
        speedups: yardstick
            .stock
            .iter()
            .map(|&readahead| {
                let other = |round: &Round| round.lane(contender.stock(readahead), index).cloned();
                let ratio = |value: &dyn Fn(&Lane) -> Option<f64>| {
                    over(&|round, lane| Some(value(&other(round)?)? / value(lane)?))
                };
                let speedup = Speedup {
                    decode: ratio(&ms),
                    prefill: ratio(&|lane| lane.prefill?.ms_each()),
                    first_token: ratio(&|lane| lane.first_token_s),
                };
                (readahead.to_string(), speedup)
            })
            .collect(),
        pairs: yardstick.against.and_then(|other| {
            let of_run =
                |(_, run, _): &(&Round, &Record, &Lane)| pairs::pairs(&run.turns, index, other, yardstick.skip);
            Pairs::of(&pairs.iter().map(of_run).collect::<Vec<_>>())
        }),
        text: pairs.iter().map(|(_, run, _)| run.text).max_by_key(badness).unwrap_or(TextMatch::Missing),
        gaps: token_by_token(&pairs.iter().map(|(_, _, lane)| &lane.gaps[..]).collect::<Vec<_>>()),
    }
}

/// The median of each gap over the runs that have it.
fn token_by_token(runs: &[&[Gap]]) -> Vec<Gap> {
    let count = runs.iter().map(|gaps| gaps.len()).max().unwrap_or(0);
    let gap = |index: usize| {
        let of = |value: fn(&Gap) -> f64| median(runs.iter().filter_map(|gaps| gaps.get(index).map(value)));
        Some(Gap { ms: of(|gap| gap.ms)?, bytes: of(|gap| gap.bytes)? })
    };
    (0..count).filter_map(gap).collect()
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
#[path = "summary_tests.rs"]
pub(super) mod tests;
