//! The order in which a cycle uses its blocks, from what a log shows of it.
//!
//! Blocks that stay in the view do not report their uses, so no later cycle shows all of them. The
//! header's order is taken where the touches agree with it; blocks that it did not foretell come where
//! they were touched. Where the touches contradict it, the order is that of the first touches, and what
//! was never touched follows its predecessor in the header's order.

use std::collections::HashMap;

use super::recording::{Part, Recording};
use crate::policy::{BlockId, Role};

/// Threads make the order fuzzy: only a touch further back than so many bytes is disorder.
const FUZZ_BYTES: usize = 32 << 20;
/// The header's order is wrong when more than one in so many touches goes back further.
const DISORDER: usize = 200;

/// A ring of places. A block may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    ids: Vec<BlockId>,
    places: Vec<Vec<u32>>,
}

impl Order {
    fn new(ids: Vec<BlockId>, blocks: usize) -> Order {
        let mut places = vec![Vec::new(); blocks];
        for (place, &id) in (0..).zip(&ids) {
            places[id as usize].push(place);
        }
        Order { ids, places }
    }

    /// The order of the blocks that `is_used` says are used in later cycles, read whole in each of them.
    pub fn of(recording: &Recording, is_used: impl Fn(BlockId) -> bool) -> Order {
        let count = recording.blocks.len();
        let cyclic = |&id: &BlockId| recording.blocks[id as usize].role == Role::Cyclic && is_used(id);
        let foretold = recording.parts.iter().flat_map(Part::expected);
        let foretold = Order::new(foretold.filter(cyclic).collect(), count);
        let touches = recording.touches.iter().filter(|touch| !touch.joined).map(|touch| touch.block);
        let touches: Vec<BlockId> = touches.filter(cyclic).collect();
        let bytes: usize = foretold.ids.iter().map(|&id| recording.blocks[id as usize].len as usize).sum();
        let fuzz = FUZZ_BYTES * foretold.count() / bytes.max(1);
        let mut chain = Chain::default();
        if foretold.is_contradicted(&touches, fuzz) {
            chain.follow(&Order::new(Vec::new(), count), &touches);
            // What was never touched, because it was in the view before, follows its predecessor.
            let mut before = None;
            for &id in &foretold.ids {
                before = Some(chain.node(id).unwrap_or_else(|| chain.insert(before, id)));
            }
        } else {
            for (place, &id) in foretold.ids.iter().enumerate() {
                chain.insert(place.checked_sub(1), id);
            }
            chain.follow(&foretold, &touches);
        }
        Order::new(chain.ids(), count)
    }

    /// Places in the ring.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// The blocks, from the first place on.
    pub fn ids(&self) -> &[BlockId] {
        &self.ids
    }

    /// Places of `id`.
    pub fn times(&self, id: BlockId) -> usize {
        self.places[id as usize].len()
    }

    /// Places from `from` forward to `to`.
    pub fn distance(&self, from: usize, to: usize) -> usize {
        (to + self.count() - from) % self.count()
    }

    /// The place of `id` that is nearest to `cursor`, in either direction.
    pub fn place(&self, id: BlockId, cursor: usize) -> Option<usize> {
        let away = |place: usize| self.distance(cursor, place).min(self.distance(place, cursor));
        self.places[id as usize].iter().map(|&place| place as usize).min_by_key(|&place| away(place))
    }

    fn is_contradicted(&self, touches: &[BlockId], fuzz: usize) -> bool {
        let mut cursor = 0;
        let mut back = 0;
        for &id in touches {
            let Some(place) = self.place(id, cursor) else { continue };
            let behind = self.distance(place, cursor);
            back += usize::from((fuzz..=self.count() / 2).contains(&behind));
            cursor = place;
        }
        back * DISORDER > touches.len()
    }
}

/// An order under construction.
#[derive(Default)]
struct Chain {
    /// Blocks, each with the node that follows it.
    nodes: Vec<(BlockId, Option<usize>)>,
    first: Option<usize>,
    /// A node of each block.
    of: HashMap<BlockId, usize>,
}

impl Chain {
    /// A node of `id`.
    fn node(&self, id: BlockId) -> Option<usize> {
        self.of.get(&id).copied()
    }

    /// Puts `id` behind the node `before`, or at the start; gives its node.
    fn insert(&mut self, before: Option<usize>, id: BlockId) -> usize {
        let node = self.nodes.len();
        let link = match before {
            Some(before) => &mut self.nodes[before].1,
            None => &mut self.first,
        };
        let after = link.replace(node);
        self.nodes.push((id, after));
        self.of.insert(id, node);
        node
    }

    /// Puts touched blocks that have no node behind the block that was touched before. The first nodes
    /// are the places of `known`.
    fn follow(&mut self, known: &Order, touches: &[BlockId]) {
        let (mut before, mut cursor) = (None, 0);
        for &id in touches {
            let place = known.place(id, cursor);
            cursor = place.unwrap_or(cursor);
            before = Some(place.or_else(|| self.node(id)).unwrap_or_else(|| self.insert(before, id)));
        }
    }

    fn ids(&self) -> Vec<BlockId> {
        std::iter::successors(self.first, |&node| self.nodes[node].1).map(|node| self.nodes[node].0).collect()
    }
}
