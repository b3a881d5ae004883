//! Two servers asked by turns: how much longer one of them takes.

use serde::Serialize;

use super::lane::{Lane, Span};
use super::quantile::median;
use super::workload::Turn;

/// Half the width of a 95 % interval of a normal distribution, in standard deviations.
const NORMAL_95: f64 = 1.96;

/// The time of a turn over that of the other server's turn beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pairs {
    /// Pairs of turns.
    pub count: usize,
    /// The median of their ratios.
    pub ratio: f64,
    /// A 95 % interval of that median, by the ranks of the ratios: distribution-free, but it takes pairs for
    /// independent of each other.
    pub interval: (f64, f64),
    /// The median of each round, whose servers are processes of their own.
    pub rounds: Vec<f64>,
    /// How much more processor time the pager's threads took for a token, in milliseconds: the median.
    pub pager_cpu_ms: f64,
}

/// Two turns beside each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Time of a token over that of the other server.
    pub ratio: f64,
    /// Processor time of the pager's threads for a token beyond that of the other server, in milliseconds.
    pub pager_cpu_ms: f64,
}

impl Pairs {
    /// Of the pairs of each round; `None` without any.
    pub fn of(rounds: &[Vec<Pair>]) -> Option<Pairs> {
        let of_round = |round: &Vec<Pair>| median(round.iter().map(|pair| pair.ratio));
        let all = rounds.concat();
        let mut ratios: Vec<f64> = all.iter().map(|pair| pair.ratio).collect();
        ratios.sort_by(f64::total_cmp);
        // Of n values the number below the median is binomial.
        let half = NORMAL_95 * (ratios.len() as f64).sqrt() / 2.0;
        let middle = ratios.len() as f64 / 2.0;
        let low = (middle - half).floor().max(1.0) as usize - 1;
        let high = ((middle + half).ceil() as usize).min(ratios.len().saturating_sub(1));
        Some(Pairs {
            count: all.len(),
            ratio: median(ratios.iter().copied())?,
            interval: (*ratios.get(low)?, *ratios.get(high)?),
            rounds: rounds.iter().filter_map(of_round).collect(),
            pager_cpu_ms: median(all.iter().map(|pair| pair.pager_cpu_ms))?,
        })
    }
}

/// The pairs of a run: each turn of `lane` with that of `other`, without the first `skip` gaps of both.
pub fn pairs(turns: &[Turn], lane: usize, other: usize, skip: u32) -> Vec<Pair> {
    let decoded = |lane: usize| {
        let turns = turns.iter().filter(move |turn| turn.lane == lane);
        turns.map(|turn| Lane::of(&[turn], &[], skip).decode)
    };
    let pair = |(one, other): (Option<Span>, Option<Span>)| {
        let (one, other) = (one?, other?);
        let cpu_ms = |span: &Span| span.pager_cpu_s * 1e3 / span.count;
        Some(Pair { ratio: one.ms_each()? / other.ms_each()?, pager_cpu_ms: cpu_ms(&one) - cpu_ms(&other) })
    };
    decoded(lane).zip(decoded(other)).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::llama::{Perf, Phase};
    use crate::bench::sample::Sample;

    fn turn(lane: usize, ms: f64) -> Turn {
        let perf = Perf { eval: Some(Phase { ms, count: 1 }), ..Perf::default() };
        // The server with the log takes a tenth of the time for its pager, the other a twentieth.
        let cpu_s = ms / 1e3 / if lane == 1 { 10.0 } else { 20.0 };
        let arrivals = [(0.0, 0.0), (ms / 1e3, cpu_s)];
        let arrivals = arrivals.map(|(at_s, pager_cpu_s)| Sample { at_s, pager_cpu_s, ..Sample::default() }).to_vec();
        Turn { lane, start: Sample::default(), arrivals, perf, drafted: (0, 0) }
    }

    #[test]
    fn a_turn_is_held_against_its_neighbour() {
        // There and back, while the machine becomes slower.
        let turns = [(0, 10.0), (1, 11.0), (1, 22.0), (0, 20.0), (0, 40.0)].map(|(lane, ms)| turn(lane, ms));
        let found = pairs(&turns, 1, 0, 0);
        assert_eq!(found.iter().map(|pair| pair.ratio).collect::<Vec<_>>(), [1.1, 1.1]);
        assert!((found[0].pager_cpu_ms - 0.6).abs() < 1e-9, "{found:?}");
        assert_eq!(pairs(&turns, 0, 1, 0).len(), 2);
        assert_eq!(pairs(&turns, 1, 0, 1), []);
    }

    #[test]
    fn the_interval_is_that_of_the_ranks() {
        let round = |ratios: std::ops::RangeInclusive<u32>| -> Vec<Pair> {
            ratios.map(|ratio| Pair { ratio: f64::from(ratio), pager_cpu_ms: 0.5 }).collect()
        };
        assert_eq!(Pairs::of(&[vec![], vec![]]), None);
        let one = Pairs::of(&[round(2..=2)]).unwrap();
        assert_eq!((one.count, one.ratio, one.interval, one.pager_cpu_ms), (1, 2.0, (2.0, 2.0), 0.5));
        // Ranks 40 and 61 of a hundred are 95 % and a little more (binomial).
        let hundred = Pairs::of(&[round(1..=50), round(51..=100)]).unwrap();
        assert_eq!((hundred.count, hundred.ratio, hundred.interval), (100, 50.5, (40.0, 61.0)));
        assert_eq!(hundred.rounds, [25.5, 75.5]);
    }
}
