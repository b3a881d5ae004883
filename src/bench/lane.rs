//! What a run did with one model: its start, its prompts, its tokens.

use serde::Serialize;

use super::llama::Phase;
use super::sample::{Sample, interpolate, load_bytes_per_s};
use super::workload::Turn;

/// From one arrival to the next. With one token an arrival that is a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gap {
    /// Milliseconds.
    pub ms: f64,
    /// Bytes read from the drive.
    pub bytes: f64,
}

/// A phase of one or several turns: each field is a sum over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Span {
    /// Tokens, or steps.
    pub count: f64,
    /// Milliseconds.
    pub ms: f64,
    /// Bytes read from the drive.
    pub bytes: f64,
    /// CPU time of the pager's threads in seconds.
    pub pager_cpu_s: f64,
    /// Time that faulting threads slept, all of them together, in seconds.
    pub stall_s: f64,
    /// Sum of reads in flight times seconds.
    pub in_flight_s: f64,
    /// Seconds with at least one read in flight.
    pub reading_s: f64,
}

impl Span {
    fn add(&mut self, used: Sample, count: f64, ms: f64) {
        // The phase may be known more exactly than by the arrivals: what was used is in proportion.
        let scale = if used.at_s > 0.0 { ms / 1e3 / used.at_s } else { 1.0 };
        self.count += count;
        self.ms += ms;
        self.bytes += used.read_bytes as f64 * scale;
        self.pager_cpu_s += used.pager_cpu_s * scale;
        self.stall_s += used.stall_s * scale;
        self.in_flight_s += used.in_flight_s * scale;
        self.reading_s += used.reading_s * scale;
    }

    fn each(&self, sum: f64) -> Option<f64> {
        (self.count > 0.0).then(|| sum / self.count)
    }

    /// Milliseconds for each token or step.
    pub fn ms_each(&self) -> Option<f64> {
        self.each(self.ms)
    }

    /// Bytes for each token or step.
    pub fn bytes_each(&self) -> Option<f64> {
        self.each(self.bytes)
    }

    /// Bytes read per second.
    pub fn bytes_per_s(&self) -> Option<f64> {
        (self.ms > 0.0).then(|| self.bytes / (self.ms / 1e3))
    }

    /// Mean reads in flight while any was.
    pub fn reads_in_flight(&self) -> Option<f64> {
        (self.reading_s > 0.0).then(|| self.in_flight_s / self.reading_s)
    }

    /// Milliseconds that faulting threads slept for each token or step, all of them together.
    pub fn stall_ms_each(&self) -> Option<f64> {
        self.each(self.stall_s * 1e3)
    }

    /// CPU seconds of the pager for each GB read: the part of a core that it takes at 1 GB/s.
    pub fn pager_cpu_s_per_gb(&self) -> Option<f64> {
        (self.bytes > 0.0 && self.pager_cpu_s > 0.0).then(|| self.pager_cpu_s / (self.bytes / 1e9))
    }
}

/// The turns of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Lane {
    /// From the start of the first turn to its first token in seconds.
    pub first_token_s: Option<f64>,
    /// Bytes per second at which was read until the first prompt was computed, pauses before and after
    /// left out.
    pub load_bytes_per_s: Option<f64>,
    /// The prompts, from the start of their computation to the first token; the count is of tokens.
    pub prefill: Option<Span>,
    /// Number of prompts.
    pub prompts: u32,
    /// From the first token (or the one `skip` later) of each turn to its last.
    pub decode: Option<Span>,
    /// Tokens that a step gave: more than one where a draft model guessed well.
    pub tokens_per_step: Option<f64>,
    /// Every gap of every turn.
    pub gaps: Vec<Gap>,
    /// Which of them are part of `decode`.
    pub counted: Vec<bool>,
}

impl Lane {
    /// Reads off `turns`; the first `skip` gaps of each are left out of the decode phase.
    ///
    /// A lost last token or two tokens in one arrival falsify nothing: where llama.cpp's own figures
    /// cover the same phase they are taken, with what was used in proportion.
    pub fn of(turns: &[&Turn], timeline: &[Sample], skip: u32) -> Lane {
        let mut lane = Lane::default();
        if let Some((turn, first)) = turns.first().and_then(|turn| Some((turn, turn.arrivals.first()?))) {
            lane.first_token_s = Some(first.at_s - turn.start.at_s);
            let prompt_s = turn.perf.prompt.map_or(0.0, |prompt| prompt.ms / 1e3);
            let within = |at_s: f64| timeline.partition_point(|sample| sample.at_s < at_s);
            let (from, until) = (within(turn.start.at_s), within(first.at_s - prompt_s));
            lane.load_bytes_per_s = load_bytes_per_s(timeline.get(from..until).unwrap_or_default());
        }
        for turn in turns {
            lane.add(turn, timeline, skip as usize);
        }
        let steps: u64 = turns.iter().filter_map(|turn| Some(turn.perf.eval?.count)).sum();
        let taken: u64 = turns.iter().map(|turn| turn.drafted.1).sum();
        lane.tokens_per_step = (steps > 0).then(|| 1.0 + taken as f64 / steps as f64);
        lane
    }

    fn add(&mut self, turn: &Turn, timeline: &[Sample], skip: usize) {
        let Some(&first) = turn.arrivals.first() else { return };
        if let Some(Phase { ms, count }) = turn.perf.prompt
            && let Some(start) = interpolate(timeline, (first.at_s - ms / 1e3).max(turn.start.at_s))
        {
            self.prefill.get_or_insert_default().add(first.since(start), count as f64, ms);
            self.prompts += 1;
        }
        self.gaps.extend(turn.arrivals.windows(2).map(|pair| {
            let used = pair[1].since(pair[0]);
            Gap { ms: used.at_s * 1e3, bytes: used.read_bytes as f64 }
        }));
        let gaps = turn.arrivals.len() - 1;
        self.counted.extend((0..gaps).map(|gap| gap >= skip));
        let (Some(&from), Some(&last)) = (turn.arrivals.get(skip), turn.arrivals.last()) else { return };
        let used = last.since(from);
        if gaps <= skip || used.at_s <= 0.0 {
            return;
        }
        let own = turn.perf.eval.filter(|eval| skip == 0 && eval.count > 0);
        let (count, ms) = own.map_or(((gaps - skip) as f64, used.at_s * 1e3), |eval| (eval.count as f64, eval.ms));
        self.decode.get_or_insert_default().add(used, count, ms);
    }

    /// The gaps of the decode phase in milliseconds.
    pub fn gaps_ms(&self) -> impl Iterator<Item = f64> + '_ {
        self.counted_gaps().map(|gap| gap.ms)
    }

    /// The gaps of the decode phase.
    pub fn counted_gaps(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().zip(&self.counted).filter(|(_, counted)| **counted).map(|(gap, _)| gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::llama::Perf;

    fn samples(points: &[(f64, u64)]) -> Vec<Sample> {
        points
            .iter()
            .map(|&(at_s, read_bytes)| Sample {
                at_s,
                read_bytes,
                pager_cpu_s: at_s / 10.0,
                stall_s: at_s / 4.0,
                in_flight_s: at_s * 6.0,
                reading_s: at_s / 2.0,
            })
            .collect()
    }

    fn turn(points: &[(f64, u64)], perf: Perf) -> Turn {
        Turn { lane: 0, start: Sample::default(), arrivals: samples(points), perf, drafted: (0, 0) }
    }

    fn decode(turn: &Turn, skip: u32) -> Option<(f64, f64)> {
        let decode = Lane::of(&[turn], &turn.arrivals, skip).decode?;
        Some((decode.ms_each()?, decode.bytes_each()?))
    }

    const WHOLE: [(f64, u64); 5] = [(5.0, 100), (6.0, 200), (7.0, 300), (8.0, 400), (9.0, 500)];

    #[test]
    fn a_lost_token_falsifies_nothing() {
        let perf = Perf { eval: Some(Phase { ms: 4000.0, count: 4 }), ..Perf::default() };
        assert_eq!(decode(&turn(&WHOLE, perf), 0), Some((1000.0, 100.0)));
        assert_eq!(decode(&turn(&WHOLE[..3], perf), 0), Some((1000.0, 100.0)));
        assert_eq!(decode(&turn(&WHOLE[..1], perf), 0), None);
        assert_eq!(decode(&turn(&[], perf), 0), None);
        let span = Lane::of(&[&turn(&WHOLE, perf)], &[], 0).decode.unwrap();
        assert_eq!(span.bytes_per_s(), Some(100.0));
        assert_eq!((span.reads_in_flight(), span.stall_ms_each()), (Some(12.0), Some(250.0)));
        assert!((span.pager_cpu_s_per_gb().unwrap() - 1e6).abs() < 1e-3, "{span:?}");
    }

    #[test]
    fn skipped_gaps_do_not_count() {
        let perf = Perf { eval: Some(Phase { ms: 11_000.0, count: 2 }), ..Perf::default() };
        let slow_start = turn(&[(0.0, 0), (10.0, 1000), (11.0, 1100)], perf);
        assert_eq!(decode(&slow_start, 1), Some((1000.0, 100.0)));
        assert_eq!(decode(&slow_start, 2), None);
        assert_eq!(decode(&slow_start, 9), None);
        let lane = Lane::of(&[&slow_start], &[], 1);
        assert_eq!(lane.gaps_ms().collect::<Vec<_>>(), [1000.0]);
        assert_eq!(lane.gaps.iter().map(|gap| gap.bytes).collect::<Vec<_>>(), [1000.0, 100.0]);
    }

    #[test]
    fn a_prompt_is_told_from_the_load_before_it() {
        let perf = Perf { prompt: Some(Phase { ms: 2000.0, count: 8 }), ..Perf::default() };
        let timeline = samples(&[(0.0, 0), (1.0, 1000), (2.0, 1000), (5.0, 1600)]);
        let timeline = [&timeline[..], &samples(&[(6.0, 9000)])].concat();
        let lane = Lane::of(&[&turn(&[(5.0, 1600)], perf)], &timeline, 0);
        // The last two of the three seconds in which 600 bytes were read.
        let prefill = lane.prefill.unwrap();
        assert_eq!((prefill.ms, prefill.bytes, prefill.count), (2000.0, 400.0, 8.0));
        assert_eq!((lane.first_token_s, lane.load_bytes_per_s), (Some(5.0), Some(1000.0)));
    }

    #[test]
    fn turns_add_up() {
        let perf = Perf { prompt: Some(Phase { ms: 500.0, count: 3 }), ..Perf::default() };
        let later = Turn {
            start: Sample { at_s: 9.5, read_bytes: 500, ..Sample::default() },
            ..turn(&[(10.0, 600), (13.0, 900)], perf)
        };
        let lane = Lane::of(&[&turn(&WHOLE, perf), &later], &samples(&WHOLE), 0);
        let decode = lane.decode.unwrap();
        assert_eq!((decode.count, decode.ms, decode.bytes), (5.0, 7000.0, 700.0));
        assert_eq!((lane.prefill.unwrap().ms, lane.prompts, lane.gaps.len()), (1000.0, 2, 5));
        assert_eq!(lane.first_token_s, Some(5.0));
    }
}
