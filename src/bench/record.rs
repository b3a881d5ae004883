//! What one run is remembered by.

use serde::Serialize;

use super::llama::Perf;
use super::plan::Contender;
use super::workload::{Arrival, Outcome};
use crate::stats::Stats;

/// Text that may be missing at the end: llama-completion now and then exits before its log thread
/// has written the last token or two.
const LOST_BYTES_MAX: usize = 64;

/// How a run's text compares with the reference of its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMatch {
    /// It is the reference.
    Reference,
    /// Byte for byte the same.
    Identical,
    /// The same up to this many bytes that one of the two lacks at its end.
    Shorter(usize),
    /// Different from this byte on.
    Differs(usize),
    /// There is nothing to compare.
    Missing,
}

/// Compares `text` with `reference`.
pub fn compare(text: &[u8], reference: &[u8]) -> TextMatch {
    let (text, reference) = (text.trim_ascii_end(), reference.trim_ascii_end());
    if text.is_empty() || reference.is_empty() {
        return TextMatch::Missing;
    }
    let same = text.iter().zip(reference).take_while(|(a, b)| a == b).count();
    let missing = text.len().max(reference.len()) - same;
    match same == text.len().min(reference.len()) {
        true if missing == 0 => TextMatch::Identical,
        true if missing <= LOST_BYTES_MAX => TextMatch::Shorter(missing),
        _ => TextMatch::Differs(same),
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// Counted from 0.
    pub round: u32,
    /// Who ran.
    pub contender: Contender,
    /// Why it counts for nothing, if it does.
    pub failure: Option<String>,
    /// The text against the round's reference.
    pub text: TextMatch,
    /// From start to end in seconds.
    pub wall_s: f64,
    /// From start to the first token in seconds.
    pub first_token_s: Option<f64>,
    /// llama.cpp's own figures.
    pub perf: Perf,
    /// Each token's arrival.
    pub arrivals: Vec<Arrival>,
    /// Milliseconds per decoded token.
    pub ms_per_token: Option<f64>,
    /// Bytes read from the drive per decoded token.
    pub bytes_per_token: Option<f64>,
    /// Memory of the control group at its most.
    pub memory_peak_bytes: Option<u64>,
    /// How often the OOM killer came.
    pub oom_kills: Option<u64>,
    /// The pager's own figures.
    pub stats: Option<Stats>,
}

impl Record {
    /// Reads off what `outcome` says; the first `skip` gaps between tokens are left out.
    pub fn new(round: u32, contender: Contender, outcome: &Outcome, skip: u32) -> Record {
        let perf = Perf::parse(&outcome.stderr);
        let decode = Decode::of(&outcome.arrivals, perf, skip);
        Record {
            round,
            contender,
            failure: None,
            text: TextMatch::Missing,
            wall_s: outcome.wall_s,
            first_token_s: outcome.arrivals.first().map(|arrival| arrival.at_s),
            perf,
            arrivals: outcome.arrivals.clone(),
            ms_per_token: decode.map(|decode| decode.ms_per_token),
            bytes_per_token: decode.map(|decode| decode.bytes_per_token),
            memory_peak_bytes: None,
            oom_kills: None,
            stats: None,
        }
    }

    /// Milliseconds between arrivals, without the first `skip`. With one token an arrival that is
    /// the time of each token.
    pub fn gaps_ms(&self, skip: u32) -> impl Iterator<Item = f64> + '_ {
        self.arrivals.windows(2).skip(skip as usize).map(|pair| (pair[1].at_s - pair[0].at_s) * 1e3)
    }

    /// Bytes per second that decoding read.
    pub fn bytes_per_s(&self) -> Option<f64> {
        Some(self.bytes_per_token? / (self.ms_per_token? / 1e3))
    }
}

/// The decode phase: from the first token's arrival (or the one `skip` later) to the last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Decode {
    ms_per_token: f64,
    bytes_per_token: f64,
}

impl Decode {
    /// Time per token is llama.cpp's own where it covers the same phase, else the mean gap. Bytes
    /// are those of the phase in proportion to time, so that a lost last token or two tokens in one
    /// arrival falsify neither figure.
    fn of(arrivals: &[Arrival], perf: Perf, skip: u32) -> Option<Decode> {
        let first = arrivals.get(skip as usize)?;
        let last = arrivals.last()?;
        let gaps = arrivals.len() - 1 - skip as usize;
        let time_ms = (last.at_s - first.at_s) * 1e3;
        if gaps == 0 || time_ms <= 0.0 {
            return None;
        }
        let own = perf.eval.and_then(|eval| eval.ms_each()).filter(|_| skip == 0);
        let ms_per_token = own.unwrap_or(time_ms / gaps as f64);
        let bytes = last.read_bytes.saturating_sub(first.read_bytes) as f64;
        Some(Decode { ms_per_token, bytes_per_token: bytes / time_ms * ms_per_token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::llama::Phase;

    #[test]
    fn texts_are_compared_by_prefix() {
        assert_eq!(compare(b"one two\n\n", b"one two"), TextMatch::Identical);
        assert_eq!(compare(b"one", b"one two"), TextMatch::Shorter(4));
        assert_eq!(compare(b"one too", b"one two"), TextMatch::Differs(5));
        assert_eq!(compare(b"one two", b"one twi"), TextMatch::Differs(6));
        assert_eq!(compare(b"o", &[b'o'; 100]), TextMatch::Differs(1));
        assert_eq!(compare(b"\n", b"one"), TextMatch::Missing);
    }

    fn arrivals(points: &[(f64, u64)]) -> Vec<Arrival> {
        points.iter().map(|&(at_s, read_bytes)| Arrival { at_s, read_bytes }).collect()
    }

    #[test]
    fn a_lost_token_falsifies_nothing() {
        let perf = Perf { eval: Some(Phase { ms: 4000.0, count: 4 }), ..Perf::default() };
        let whole = arrivals(&[(5.0, 100), (6.0, 200), (7.0, 300), (8.0, 400), (9.0, 500)]);
        let decode = Decode::of(&whole, perf, 0).unwrap();
        assert_eq!(decode, Decode { ms_per_token: 1000.0, bytes_per_token: 100.0 });
        assert_eq!(Decode::of(&whole[..3], perf, 0), Some(decode));
        assert_eq!(Decode::of(&whole[..1], perf, 0), None);
        assert_eq!(Decode::of(&[], perf, 0), None);
    }

    #[test]
    fn skipped_gaps_do_not_count() {
        let perf = Perf { eval: Some(Phase { ms: 11_000.0, count: 2 }), ..Perf::default() };
        let slow_start = arrivals(&[(0.0, 0), (10.0, 1000), (11.0, 1100)]);
        let decode = Decode::of(&slow_start, perf, 1).unwrap();
        assert_eq!(decode, Decode { ms_per_token: 1000.0, bytes_per_token: 100.0 });
        assert_eq!(Decode::of(&slow_start, perf, 2), None);
        assert_eq!(Decode::of(&slow_start, perf, 9), None);
    }
}
