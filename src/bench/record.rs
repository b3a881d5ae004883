//! What one run is remembered by.

use serde::Serialize;

use super::cgroup::Paging;
use super::lane::Lane;
use super::plan::Contender;
use super::workload::{Outcome, Turn};
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
    /// What each lane did.
    pub lanes: Vec<Lane>,
    /// All turns, with each arrival.
    pub turns: Vec<Turn>,
    /// Memory of the control group at its most.
    pub memory_peak_bytes: Option<u64>,
    /// How often the OOM killer came.
    pub oom_kills: Option<u64>,
    /// Faults and swap of the control group while it ran.
    pub paging: Option<Paging>,
    /// The pager's own figures, for each process; of the whole run.
    pub stats: Vec<Stats>,
}

impl Record {
    /// Reads off what `outcome` says about `lanes` lanes; the first `skip` gaps of each turn are left
    /// out of the decode phase.
    pub fn new(round: u32, contender: Contender, outcome: &Outcome, lanes: usize, skip: u32) -> Record {
        let lane = |lane| {
            let turns = outcome.turns.iter().filter(|turn| turn.lane == lane);
            Lane::of(&turns.collect::<Vec<_>>(), &outcome.timeline, skip)
        };
        Record {
            round,
            contender,
            failure: None,
            text: TextMatch::Missing,
            wall_s: outcome.wall_s,
            lanes: (0..lanes).map(lane).collect(),
            turns: outcome.turns.clone(),
            memory_peak_bytes: None,
            oom_kills: None,
            paging: None,
            stats: Vec::new(),
        }
    }

    /// A run that gave nothing.
    pub fn failed(round: u32, contender: Contender, failure: String) -> Record {
        Record { failure: Some(failure), ..Record::new(round, contender, &Outcome::default(), 0, 0) }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_by_prefix() {
        assert_eq!(compare(b"one two\n\n", b"one two"), TextMatch::Identical);
        assert_eq!(compare(b"one", b"one two"), TextMatch::Shorter(4));
        assert_eq!(compare(b"one too", b"one two"), TextMatch::Differs(5));
        assert_eq!(compare(b"one two", b"one twi"), TextMatch::Differs(6));
        assert_eq!(compare(b"o", &[b'o'; 100]), TextMatch::Differs(1));
        assert_eq!(compare(b"\n", b"one"), TextMatch::Missing);
    }
}
