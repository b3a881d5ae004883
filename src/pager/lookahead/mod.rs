//! What the next layer's router will choose, foretold from what this layer's router has seen and chosen.
//!
//! The state of a token changes little from layer to layer, so the next router, tried on the present
//! state, names most of the experts that it will choose (published recalls: 59 to 89 %): the *gate*. Where that
//! router has not been read yet, or nobody knows the state, there is what was chosen after the present experts
//! so far: *co-occurrence* (published recall: 29 %). Either is known a layer early, while the drive rests because the
//! present layer is computed. A foretold expert is a *guess*; what is read for it and not chosen is wasted.
//!
//! A used byte comes some moments earlier than it would have come anyway; a wasted one takes a part of the drive, of the
//! pager's time and of the memory, and to guess takes processor time itself. So guesses are read while what is used pays
//! for all that ([`Trust`]), for each foreteller on its own.

mod co_occurrence;
mod gate;
mod gates;
mod guess;
mod trust;

pub use guess::Outcome;

use super::command::Choice;
use super::cpu_time;
use crate::policy::BlockId;
use crate::trace::{Foreteller, Tensor};

use co_occurrence::CoOccurrence;
use gates::Gates;
use guess::Guess;
use trust::Trust;

/// Of the experts that a token uses, the gate foretells one in so many. Of the likelier half nine of ten are chosen, of
/// all of them seven of ten, and a quarter of the bytes read would be for nothing. In a large batch what is wrong of one token is right
/// of another, and it foretells all.
const GUESSED_PART: usize = 2;

/// Choices (of layers) after one of which something was missing: so long guessing goes on.
const MISSED_CHOICES: u32 = 64;

/// A choice, foretold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foretold {
    /// Who says so.
    pub by: Foreteller,
    /// Whose choice it is.
    pub layer: u32,
    /// The experts, the likeliest first.
    pub experts: Vec<u32>,
}

/// Foretells choices and keeps the account of it.
#[derive(Debug, Default)]
pub struct Lookahead {
    gates: Gates,
    gate_trust: Trust,
    co_occurrence: CoOccurrence,
    co_occurrence_trust: Trust,
    /// There was a router for what was to be foretold last.
    knows_gate: bool,
    /// The latest choice and what its router saw, until it is used.
    seen: Option<Choice>,
    guess: Option<Guess>,
    /// Counts down from the last choice that was not all in memory.
    missed: u32,
    /// Processor time of this thread when a foreteller was asked last.
    asked_at_ns: u64,
}

impl Lookahead {
    /// A view came, with `tensors` in its file.
    pub fn mapped(&mut self, view: u32, tensors: &[Tensor]) {
        self.gates.add(view, tensors);
        self.co_occurrence.add(view, tensors);
    }

    /// A view has gone.
    pub fn unmapped(&mut self, view: u32) {
        self.gates.remove(view);
        self.co_occurrence.remove(view);
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
        self.co_occurrence.heard(&choice);
        self.gate_trust.pass();
        self.co_occurrence_trust.pass();
        self.missed = if missed { MISSED_CHOICES } else { self.missed.saturating_sub(1) };
        let layer = choice.layer;
        self.seen = (self.missed > 0).then_some(choice);
        let outcome = self.guess.take()?.end(layer, experts, is_chosen)?;
        self.trust(outcome.by).learn(&outcome);
        Some(outcome)
    }

    /// Whether something would be made of the next choice, and of what its router saw.
    pub fn is_ready(&self) -> bool {
        self.missed > 0 && self.gate_trust.allows() && (self.knows_gate || self.co_occurrence_trust.allows())
    }

    /// What the next layer's router will probably choose; `None` when nothing is foretold, or it has been asked for
    /// already.
    pub fn foretell(&mut self) -> Option<Foretold> {
        let seen = self.seen.take()?;
        let layer = seen.layer.checked_add(1)?;
        // Where the guesses of a router do not pay, worse ones do not either.
        if !self.gate_trust.allows() {
            return None;
        }
        self.knows_gate = self.gates.of_layer(layer).is_some();
        let (by, favourites) = match self.by_gate(layer, &seen) {
            Some(favourites) => (Foreteller::Gate, favourites),
            None if seen.is_large() => return None,
            None => (Foreteller::CoOccurrence, self.by_co_occurrence(&seen)?),
        };
        let experts = by_rank(&favourites);
        self.guess = Some(Guess::new(by, layer, experts.clone()));
        (!experts.is_empty()).then_some(Foretold { by, layer, experts })
    }

    /// The next choice to foretell is that of a large batch.
    pub fn sees_batch(&self) -> bool {
        self.seen.as_ref().is_some_and(Choice::is_large)
    }

    /// Token by token; `None` where the gate cannot answer.
    fn by_gate(&mut self, layer: u32, seen: &Choice) -> Option<Vec<Vec<u32>>> {
        let told = seen.tokens().min(Choice::TOLD_MAX);
        let width = seen.states.len().checked_div(told).filter(|&width| width > 0)?;
        // The last layer computes those tokens alone whose output is wanted: of a prompt, one.
        if seen.is_large() && self.gates.is_last(layer) {
            return None;
        }
        let gate = self.gates.of_layer(layer)?;
        // Not before: a router that is asked for the first time is made ready then.
        self.asked_at_ns = cpu_time::of_this_thread_ns();
        let count = (seen.used as usize).div_ceil(if seen.is_large() { 1 } else { GUESSED_PART });
        Some(seen.states.chunks_exact(width).map(|state| gate.favourites(state, count)).collect())
    }

    fn by_co_occurrence(&mut self, seen: &Choice) -> Option<Vec<Vec<u32>>> {
        if !self.co_occurrence.knows(seen) || !self.co_occurrence_trust.allows() {
            return None;
        }
        self.asked_at_ns = cpu_time::of_this_thread_ns();
        self.co_occurrence.foretell(seen)
    }

    /// What `by` has foretold since it was asked is on its way to be read: that was all of its work.
    pub fn ended(&mut self, by: Foreteller) {
        let spent_ns = cpu_time::of_this_thread_ns() - self.asked_at_ns;
        self.trust(by).charge(by, spent_ns);
    }

    /// The guess is about `blocks`.
    pub fn about(&mut self, blocks: &[BlockId]) {
        if let Some(guess) = &mut self.guess {
            guess.about(blocks);
        }
    }

    /// A read of `bytes` of block `id` begins that nobody waits for; who foretold it, if somebody did.
    pub fn begun(&mut self, id: BlockId, bytes: u64) -> Option<Foreteller> {
        self.guess.as_mut()?.begun(id, bytes)
    }

    /// Times that `by` has paused because its guesses wasted more than they brought.
    pub fn pauses(&self, by: Foreteller) -> u64 {
        match by {
            Foreteller::Gate => self.gate_trust.pauses(),
            Foreteller::CoOccurrence => self.co_occurrence_trust.pauses(),
        }
    }

    fn trust(&mut self, by: Foreteller) -> &mut Trust {
        match by {
            Foreteller::Gate => &mut self.gate_trust,
            Foreteller::CoOccurrence => &mut self.co_occurrence_trust,
        }
    }
}

/// Each token's favourite, then each one's second, without repetition.
fn by_rank(favourites: &[Vec<u32>]) -> Vec<u32> {
    let mut experts: Vec<u32> = Vec::new();
    let ranks = favourites.iter().map(Vec::len).max().unwrap_or(0);
    for rank in 0..ranks {
        for expert in favourites.iter().filter_map(|favourites| favourites.get(rank)) {
            if !experts.contains(expert) {
                experts.push(*expert);
            }
        }
    }
    experts
}

#[cfg(test)]
mod tests;
