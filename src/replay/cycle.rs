//! One cycle of a log: what it uses, in which order.

use std::collections::{BTreeMap, BTreeSet};

use super::experts::{Experts, Layer};
use super::order::Order;
use super::pace::Pace;
use super::recording::{Choice, Recording, Touched};
use super::used::Use;
use crate::policy::{BlockId, Role};
use crate::sim::{Foretold, Step};

/// A cycle that can be simulated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle {
    /// What is touched, and how long the threads compute there together.
    pub steps: Vec<Step>,
    /// For each step what the pager is told then of what comes.
    pub foretold: Vec<Foretold>,
}

impl Cycle {
    /// `uses` at the speed `pace`.
    pub fn new(uses: &[Use], pace: &Pace) -> Cycle {
        let last = uses.len().saturating_sub(1);
        let step = |(at, used): (usize, &Use)| {
            let turn_ns = if at == last { pace.turn_ns } else { 0.0 };
            let choice_ns = if used.is_chosen() { pace.choice_ns } else { 0.0 };
            let compute_ns = used.bytes as f64 * pace.ns_per_byte + turn_ns + choice_ns;
            Step { block: used.block, compute_ns: compute_ns as u64 }
        };
        Cycle {
            steps: uses.iter().enumerate().map(step).collect(),
            foretold: uses.iter().map(|used| used.foretold.clone()).collect(),
        }
    }
}

/// What a cycle shows besides the blocks that all cycles use.
#[derive(Default)]
pub struct Asides {
    /// Rows, each after a place of the order.
    rows: Vec<(usize, BlockId)>,
    /// Experts.
    experts: BTreeMap<Layer, BTreeSet<u32>>,
    /// Once a layer's experts were chosen, what was expected of another layer.
    guessed: BTreeMap<Layer, Vec<(u32, u32)>>,
    /// How near a layer's experts came to being chosen: expert and level, in order.
    affine: BTreeMap<Layer, BTreeMap<u32, u8>>,
    /// Routers chose them.
    routed: bool,
}

impl Asides {
    /// Of a cycle with these touches and choices.
    pub fn of(
        recording: &Recording,
        order: &Order,
        experts: &Experts<'_>,
        touches: &[Touched],
        choices: &[Choice],
    ) -> Asides {
        let mut found = Asides::default();
        for choice in choices {
            for layer in experts.layers(choice.layer) {
                found.experts.entry(layer).or_default().extend(&choice.experts);
                found.guessed.entry(layer).or_default().extend(&choice.guessed);
                found.affine.entry(layer).or_default().extend(choice.affine.iter().copied());
                found.routed = true;
            }
        }
        let mut cursor = touches.first().and_then(|touch| order.place(touch.block, 0)).unwrap_or(0);
        for touch in touches {
            match recording.blocks[touch.block as usize].role {
                Role::Cyclic => cursor = order.place(touch.block, cursor).unwrap_or(cursor),
                Role::Expert { .. } => {
                    cursor = experts.place(recording, touch.block).unwrap_or(cursor);
                    if let Some((layer, expert)) = experts.used(recording, touch).filter(|_| !found.routed) {
                        found.experts.entry(layer).or_default().insert(expert);
                    }
                }
                Role::Row if found.rows.iter().any(|&(_, row)| row == touch.block) => {}
                Role::Row => found.rows.push((cursor, touch.block)),
            }
        }
        found
    }

    /// How many experts are used, each once for each layer.
    pub fn experts(&self) -> usize {
        self.experts.values().map(BTreeSet::len).sum()
    }

    /// A cycle's steps: the order's blocks, behind them what is used aside.
    pub fn uses(&self, recording: &Recording, order: &Order, experts: &Experts<'_>) -> Vec<Use> {
        let mut behind: Vec<Vec<Use>> = order.ids().iter().map(|_| Vec::new()).collect();
        for &(place, block) in &self.rows {
            if let Some(here) = behind.get_mut(place) {
                here.push(Use { block, bytes: 0, foretold: Foretold::default() });
            }
        }
        for (place, layer) in experts.places() {
            let (Some(here), Some(used)) = (behind.get_mut(place), self.experts.get(&layer)) else { continue };
            let used: Vec<u32> = used.iter().copied().collect();
            let first = here.len();
            here.extend(experts.pieces(layer, &used).into_iter().map(|piece| {
                let companions = experts.companions(recording, piece.block, piece.page).collect();
                let foretold = Foretold { companions, ..Foretold::default() };
                Use { block: piece.block, bytes: piece.bytes, foretold }
            }));
            if let Some(first) = here.get_mut(first) {
                first.foretold.routed = experts.chosen(layer, &used).collect();
                let affine = self.affine.get(&layer).into_iter().flatten();
                let of_one = |(&expert, &level): (&u32, &u8)| {
                    experts.chosen(layer, &[expert]).map(move |id| (id, level)).collect::<Vec<_>>()
                };
                first.foretold.affine = affine.flat_map(of_one).collect();
                let guessed = self.guessed.get(&layer).into_iter().flatten();
                let of_one = |&(of, expert): &(u32, u32)| experts.chosen((layer.0, of), &[expert]).collect::<Vec<_>>();
                first.foretold.guessed = guessed.flat_map(of_one).collect();
            }
        }
        let whole = |id: BlockId| u64::from(recording.blocks[id as usize].len) / order.times(id) as u64;
        let dense = |&block| Use { block, bytes: whole(block), foretold: Foretold::default() };
        let dense = order.ids().iter().map(dense);
        dense.zip(behind).flat_map(|(used, behind)| std::iter::once(used).chain(behind)).collect()
    }
}
