//! What the next layer's router will choose, foretold from what this layer's router has seen.
//!
//! The state of a token changes little from layer to layer, so the next router, tried on the present
//! state, names most of the experts that it will choose (published recalls: 59 to 89 %). That is known a
//! layer early, while the drive rests because the present layer is computed. A foretold expert is a
//! *guess*; what is read for it and not chosen is wasted.
//!
//! A wasted byte costs at most the time of its read, for which a certain read had to wait, and a used byte
//! saves that much. So guesses are read while they are right more often than wrong ([`Trust`]).

mod gate;
mod gates;
mod trust;

use std::collections::HashMap;

use super::command::Choice;
use crate::policy::BlockId;
use crate::trace::Tensor;

use gates::Gates;
use trust::Trust;

/// Of the experts that a token uses, one in so many is foretold. Of the likelier half nine of ten are chosen, of all
/// of them seven of ten, and a quarter of the bytes read would be for nothing.
const GUESSED_PART: usize = 2;

/// Choices (of layers) after one of which something was missing: so long guessing goes on.
const MISSED_CHOICES: u32 = 64;

/// What has become of a guess.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Experts that were foretold.
    pub guessed: u64,
    /// Those of them that were chosen.
    pub right: u64,
    /// Bytes that were read because of it.
    pub read_bytes: u64,
    /// Those of them that were chosen.
    pub used_bytes: u64,
}

#[derive(Debug, Default)]
struct Guess {
    layer: u32,
    experts: Vec<u32>,
    /// Blocks of these experts, and the bytes of them that were read as guesses.
    read: HashMap<BlockId, u64>,
}

/// Foretells choices and keeps the account of it.
#[derive(Debug, Default)]
pub struct Lookahead {
    gates: Gates,
    /// What the latest router saw, until it is used.
    seen: Option<Choice>,
    guess: Option<Guess>,
    trust: Trust,
    /// Counts down from the last choice that was not all in memory.
    missed: u32,
}

impl Lookahead {
    /// A view came, with `tensors` in its file.
    pub fn mapped(&mut self, view: u32, tensors: &[Tensor]) {
        self.gates.add(view, tensors);
    }

    /// A view has gone.
    pub fn unmapped(&mut self, view: u32) {
        self.gates.remove(view);
        (self.seen, self.guess) = (None, None);
    }

    /// The view's `bytes`, which begin at file offset `offset`, are in memory.
    pub fn read(&mut self, view: u32, offset: u64, bytes: &[u8]) {
        self.gates.take(view, offset, bytes);
    }

    /// A router chose `experts`; `missed` says that some of their blocks were not in memory. The guess at its choice
    /// has had its time: `is_chosen` says which blocks were right.
    pub fn chosen(
        &mut self,
        choice: Choice,
        missed: bool,
        experts: &[u32],
        is_chosen: impl Fn(BlockId) -> bool,
    ) -> Option<Outcome> {
        let guess = self.guess.take();
        self.missed = if missed { MISSED_CHOICES } else { self.missed.saturating_sub(1) };
        let layer = choice.layer;
        self.seen = (self.missed > 0 && !choice.states.is_empty()).then_some(choice);
        let guess = guess.filter(|guess| guess.layer == layer)?;
        let mut outcome = Outcome { guessed: guess.experts.len() as u64, ..Outcome::default() };
        outcome.right = guess.experts.iter().filter(|expert| experts.contains(expert)).count() as u64;
        for (&id, &bytes) in &guess.read {
            outcome.read_bytes += bytes;
            outcome.used_bytes += if is_chosen(id) { bytes } else { 0 };
        }
        self.trust.learn(&outcome);
        Some(outcome)
    }

    /// The experts of the next layer that will be chosen, the likeliest first, and the layer; `None` when
    /// nothing is foretold, or it has been asked for already.
    pub fn foretell(&mut self) -> Option<(u32, Vec<u32>)> {
        let seen = self.seen.take()?;
        if !self.trust.allows() {
            return None;
        }
        let layer = seen.layer + 1;
        let gate = self.gates.of_layer(layer)?;
        let width = seen.states.len() / seen.tokens().max(1);
        let count = (seen.used as usize).div_ceil(GUESSED_PART);
        let favourites: Vec<Vec<u32>> =
            seen.states.chunks_exact(width.max(1)).map(|state| gate.favourites(state, count)).collect();
        let mut experts: Vec<u32> = Vec::new();
        for rank in 0..count {
            for expert in favourites.iter().filter_map(|favourites| favourites.get(rank)) {
                if !experts.contains(expert) {
                    experts.push(*expert);
                }
            }
        }
        self.guess = Some(Guess { layer, experts: experts.clone(), read: HashMap::new() });
        (!experts.is_empty()).then_some((layer, experts))
    }

    /// The guess is about `blocks`.
    pub fn about(&mut self, blocks: &[BlockId]) {
        if let Some(guess) = &mut self.guess {
            guess.read = blocks.iter().map(|&id| (id, 0)).collect();
        }
    }

    /// A read of `bytes` of block `id` begins that nobody waits for.
    pub fn begun(&mut self, id: BlockId, bytes: u64) {
        if let Some(read) = self.guess.as_mut().and_then(|guess| guess.read.get_mut(&id)) {
            *read = bytes;
        }
    }
}
