//! A guess, from its being made to the choice that it was about.

use rustc_hash::FxHashMap;

use crate::policy::BlockId;
use crate::trace::Foreteller;

/// Experts that a layer will probably choose.
#[derive(Debug)]
pub struct Guess {
    layer: u32,
    experts: Vec<u32>,
    by: Foreteller,
    /// Blocks of these experts, and the bytes of them that were read as guesses.
    read: FxHashMap<BlockId, u64>,
}

/// What has become of a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Who made it.
    pub by: Foreteller,
    /// Experts that were foretold.
    pub guessed: u64,
    /// Those of them that were chosen.
    pub right: u64,
    /// Experts that were chosen, foretold or not.
    pub chosen: u64,
    /// Bytes that were read because of it.
    pub read_bytes: u64,
    /// Those of them that were chosen.
    pub used_bytes: u64,
}

impl Guess {
    /// `by` foretells that `layer` chooses among `experts`, which may be none.
    pub fn new(by: Foreteller, layer: u32, experts: Vec<u32>) -> Guess {
        Guess { layer, experts, by, read: FxHashMap::default() }
    }

    /// It is about `blocks`.
    pub fn about(&mut self, blocks: &[BlockId]) {
        self.read = blocks.iter().map(|&id| (id, 0)).collect();
    }

    /// A read of `bytes` of block `id` begins that nobody waits for; who foretold it, if it is one of the guess's.
    pub fn begun(&mut self, id: BlockId, bytes: u64) -> Option<Foreteller> {
        *self.read.get_mut(&id)? = bytes;
        Some(self.by)
    }

    /// The router of `layer` chose `experts`; `is_chosen` says which blocks belong to them. `None` when the guess was
    /// about another layer.
    pub fn end(self, layer: u32, experts: &[u32], is_chosen: impl Fn(BlockId) -> bool) -> Option<Outcome> {
        if self.layer != layer {
            return None;
        }
        let mut outcome = Outcome {
            by: self.by,
            guessed: self.experts.len() as u64,
            right: self.experts.iter().filter(|expert| experts.contains(expert)).count() as u64,
            chosen: experts.len() as u64,
            read_bytes: 0,
            used_bytes: 0,
        };
        for (&id, &bytes) in &self.read {
            outcome.read_bytes += bytes;
            outcome.used_bytes += if is_chosen(id) { bytes } else { 0 };
        }
        Some(outcome)
    }
}
