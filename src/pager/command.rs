//! What other threads ask of the pager thread.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::file::ModelFile;
use super::piece::Piece;
use super::view::Kept;
use crate::budget::governor::Governor;
use crate::stats::Stats;
use crate::trace::Tensor;

/// What a view is to show.
pub struct Wanted {
    /// The file.
    pub file: Arc<ModelFile>,
    /// File offset of the first byte; page aligned.
    pub offset: u64,
    /// Length in bytes.
    pub len: usize,
    /// What the file holds, in expected order of reading.
    pub pieces: Vec<Piece>,
    /// Its tensors, in the same order.
    pub tensors: Vec<Tensor>,
    /// The first shard of the model that the file belongs to.
    pub model: PathBuf,
    /// Where its order is kept, if it is.
    pub kept: Option<Kept>,
}

/// What a router has chosen for the tokens of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Layer.
    pub layer: u32,
    /// Experts of a token.
    pub used: u32,
    /// The experts, token by token.
    pub experts: Vec<u32>,
    /// What the router saw of the batch's last tokens, [`Choice::TOLD_MAX`] at most, token by token; empty when that is not known.
    pub states: Vec<f32>,
    /// What it gave every expert for each of these tokens; empty when that is not known.
    pub scores: Vec<f32>,
}

impl Choice {
    /// Tokens of a batch of which more is told than their experts: what comes next resembles the last ones.
    pub const TOLD_MAX: usize = 16;

    /// A batch of more tokens is large: what a few of them will need, one or the other needs for sure.
    pub const SMALL_MAX: usize = 4;

    /// Whether the batch is large.
    pub fn is_large(&self) -> bool {
        self.tokens() > Choice::SMALL_MAX
    }

    /// Tokens of the batch.
    pub fn tokens(&self) -> usize {
        self.experts.len() / self.used.max(1) as usize
    }

    /// The experts in the order of the computation, which is ascending (`ggml_compute_forward_mul_mat_id`), and
    /// the part of the tokens that each was chosen for: 0 where every token has to take all `experts` of the layer,
    /// as in the warm-up run of older llama.cpp, which tells nothing of what the router likes.
    pub fn shares(&self, experts: usize) -> BTreeMap<u32, f64> {
        let (mut shares, mut part) = (BTreeMap::new(), 1.0 / self.tokens().max(1) as f64);
        if self.used as usize >= experts {
            part = 0.0;
        }
        for &expert in &self.experts {
            *shares.entry(expert).or_insert(0.0) += part;
        }
        shares
    }
}

/// A request; each with an answer is waited for by its sender.
pub enum Command {
    /// Make a view.
    Map {
        /// What it shows.
        wanted: Wanted,
        /// The pool's size from now on, in bytes.
        budget_bytes: u64,
        /// Adjusts that while the program runs; `None` keeps it fixed.
        governor: Option<Box<Governor>>,
        /// The addresses.
        reply: Sender<io::Result<Range<usize>>>,
    },
    /// Unmap the live parts of a range; whole pages.
    Unmap {
        /// Addresses.
        range: Range<usize>,
        /// Answer.
        reply: Sender<io::Result<()>>,
    },
    /// Replace the live parts of a range by ordinary mappings.
    HandOver {
        /// Addresses.
        range: Range<usize>,
        /// Answer.
        reply: Sender<io::Result<()>>,
    },
    /// The program will read this soon.
    WillNeed {
        /// Addresses.
        range: Range<usize>,
    },
    /// What has happened so far.
    Stats {
        /// Answer.
        reply: Sender<Stats>,
    },
    /// Write all of the fault log.
    FinishTrace {
        /// Answer.
        reply: Sender<()>,
    },
    /// Panic on the pager thread. Tests see what becomes of the program.
    Panic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_must_take_all_experts_likes_none_of_them() {
        let choice = |used, experts: &[u32]| Choice { used, experts: experts.to_vec(), ..Choice::default() };
        let shares = |choice: Choice| choice.shares(4).into_iter().collect::<Vec<_>>();
        assert_eq!(shares(choice(2, &[3, 1, 1, 0])), [(0, 0.5), (1, 1.0), (3, 0.5)]);
        // Two tokens of a warm-up run; all of them are read all the same.
        let all = choice(4, &[3, 1, 2, 0, 0, 1, 2, 3]);
        assert_eq!(shares(all), [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0)]);
    }
}
