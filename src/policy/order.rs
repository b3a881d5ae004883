//! The order in which one stream's blocks are read: the single source of truth of the sequence.

use std::ops::Range;

use super::{BlockId, BlockTable};

const NOWHERE: u32 = u32::MAX;

/// A ring of blocks. Positions run from 0 to `len() - 1`; after the last comes the first.
///
/// Invariant: `place(at(p)) == Some(p)` for every position; a block stands in the ring at most once.
#[derive(Debug)]
pub(super) struct Order {
    span: Range<BlockId>,
    ring: Vec<BlockId>,
    places: Vec<u32>,
}

impl Order {
    /// The ring `ids`, all of them out of `span`. A block that comes twice keeps its first place.
    pub fn new(span: Range<BlockId>, ids: &[BlockId]) -> Order {
        let mut order = Order { places: vec![NOWHERE; span.len()], span, ring: Vec::new() };
        order.replace(ids);
        order
    }

    /// The blocks that may stand in the ring.
    pub fn span(&self) -> Range<BlockId> {
        self.span.clone()
    }

    pub fn len(&self) -> usize {
        self.ring.len()
    }

    pub fn ids(&self) -> &[BlockId] {
        &self.ring
    }

    pub fn at(&self, position: usize) -> BlockId {
        self.ring[position]
    }

    pub fn place(&self, id: BlockId) -> Option<usize> {
        match self.places[(id - self.span.start) as usize] {
            NOWHERE => None,
            place => Some(place as usize),
        }
    }

    /// Steps forward from `from` to `to`, 0 to `len() - 1`.
    pub fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.ring.len() - from }
    }

    /// The position `steps` after `from`.
    pub fn step(&self, from: usize, steps: usize) -> usize {
        (from + steps) % self.ring.len()
    }

    /// Frame bytes of all blocks of the ring together.
    pub fn bytes(&self, table: &BlockTable) -> u64 {
        self.ring.iter().map(|&id| u64::from(table.block(id).frame_bytes)).sum()
    }

    /// Puts `id`, which is nowhere yet, at `position`; what stood there and after moves up by one.
    /// Costs a pass over the ring's rest.
    pub fn insert(&mut self, position: usize, id: BlockId) {
        debug_assert_eq!(self.place(id), None);
        self.ring.insert(position, id);
        self.number(position);
    }

    /// Makes `ids` the ring.
    pub fn replace(&mut self, ids: &[BlockId]) {
        self.places.fill(NOWHERE);
        self.ring.clear();
        for &id in ids {
            let place = &mut self.places[(id - self.span.start) as usize];
            if *place == NOWHERE {
                *place = self.ring.len() as u32;
                self.ring.push(id);
            }
        }
    }

    /// Takes the blocks that `leaves` is true for out of the ring.
    pub fn remove(&mut self, leaves: impl Fn(BlockId) -> bool) {
        let kept: Vec<BlockId> = self.ring.iter().copied().filter(|&id| !leaves(id)).collect();
        self.replace(&kept);
    }

    fn number(&mut self, from: usize) {
        for (position, &id) in self.ring.iter().enumerate().skip(from) {
            self.places[(id - self.span.start) as usize] = position as u32;
        }
    }
}
