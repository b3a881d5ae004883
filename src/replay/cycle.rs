//! One cycle of a log: what it uses, in which order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::experts::Experts;
use super::order::Order;
use super::pace::Pace;
use super::recording::{Recording, Touched};
use crate::pager::region::PAGE;
use crate::policy::{BlockId, Role};
use crate::sim::Step;

/// A cycle that can be simulated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle {
    /// What is touched, and how long the threads compute there together.
    pub steps: Vec<Step>,
    /// For each step the blocks that the pager expects to be read then: the rest of an expert.
    pub companions: Vec<Arc<[BlockId]>>,
}

/// A step before its time is known.
#[derive(Debug, Clone)]
pub struct Use {
    /// The block.
    pub block: BlockId,
    /// Bytes of it that are computed with.
    pub bytes: u64,
    companions: Arc<[BlockId]>,
}

impl Cycle {
    /// `uses` at the speed `pace`.
    pub fn new(uses: &[Use], pace: &Pace) -> Cycle {
        let last = uses.len().saturating_sub(1);
        let step = |(at, used): (usize, &Use)| {
            let turn_ns = if at == last { pace.turn_ns } else { 0.0 };
            Step { block: used.block, compute_ns: (used.bytes as f64 * pace.ns_per_byte + turn_ns) as u64 }
        };
        Cycle {
            steps: uses.iter().enumerate().map(step).collect(),
            companions: uses.iter().map(|used| used.companions.clone()).collect(),
        }
    }
}

/// What a cycle shows besides the blocks that all cycles use.
#[derive(Default)]
pub struct Asides {
    /// Rows, each after a place of the order.
    rows: Vec<(usize, BlockId)>,
    /// Indexes of slices.
    pub slices: HashSet<usize>,
    /// The page that was touched first of each expert's block.
    pages: HashMap<BlockId, u64>,
}

impl Asides {
    /// Of a cycle with these touches.
    pub fn of(recording: &Recording, order: &Order, experts: &Experts, touches: &[Touched]) -> Asides {
        let mut found = Asides::default();
        let mut cursor = touches.first().and_then(|touch| order.place(touch.block, 0)).unwrap_or(0);
        for touch in touches {
            let block = &recording.blocks[touch.block as usize];
            match block.role {
                Role::Cyclic => cursor = order.place(touch.block, cursor).unwrap_or(cursor),
                Role::Expert { .. } => {
                    found.pages.entry(touch.block).or_insert(touch.page);
                    if let Some(slice) = experts.slice(touch, block) {
                        cursor = experts.slices[slice].place;
                        found.slices.extend(experts.family(slice));
                    }
                }
                Role::Row if found.rows.iter().any(|&(_, row)| row == touch.block) => {}
                Role::Row => found.rows.push((cursor, touch.block)),
            }
        }
        found
    }

    /// A cycle's steps: the order's blocks, behind them what is used aside.
    pub fn uses(&self, recording: &Recording, order: &Order, experts: &Experts) -> Vec<Use> {
        let none: Arc<[BlockId]> = Arc::new([]);
        let mut behind: Vec<Vec<Use>> = order.ids().iter().map(|_| Vec::new()).collect();
        for &(place, block) in &self.rows {
            if let Some(here) = behind.get_mut(place) {
                here.push(Use { block, bytes: 0, companions: none.clone() });
            }
        }
        let mut slices: Vec<usize> = self.slices.iter().copied().collect();
        slices.sort_unstable();
        for index in slices {
            let slice = &experts.slices[index];
            let Some(here) = behind.get_mut(slice.place) else { continue };
            here.extend(slice.blocks.clone().map(|id| {
                let block = &recording.blocks[id as usize];
                let (start, end) = (block.offset, block.offset + u64::from(block.len));
                let bytes = slice.bytes.end.min(end) - slice.bytes.start.max(start);
                // Where nobody saw the touch: behind a page that another expert begins.
                let page = || slice.bytes.start.max(start).next_multiple_of(PAGE as u64);
                let page = self.pages.get(&id).copied().unwrap_or_else(page);
                let companions = experts.companions(block.view, page).unwrap_or_else(|| none.clone());
                Use { block: id, bytes, companions }
            }));
        }
        let whole = |id: BlockId| u64::from(recording.blocks[id as usize].len) / order.times(id) as u64;
        let dense = order.ids().iter().map(|&block| Use { block, bytes: whole(block), companions: none.clone() });
        dense.zip(behind).flat_map(|(used, behind)| std::iter::once(used).chain(behind)).collect()
    }
}
