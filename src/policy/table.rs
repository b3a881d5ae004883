//! The block table: every block of every view, its extent, its role and its state.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Index of a block in the [`BlockTable`]. Blocks of one view are consecutive, in file order.
pub type BlockId = u32;

/// What a block holds, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Read once in every cycle.
    Cyclic,
    /// Rows of an embedding table: a few random ones in a cycle.
    Row,
    /// Expert weights: read when the router chooses them.
    Expert {
        /// Layer number.
        layer: u32,
    },
}

/// Where a block is on its way. Invariants, asserted by [`BlockTable::set_state`]:
///
/// * `Absent -> Reading -> Staged -> Present`, `Present -> Staged` (rearm),
///   `Staged | Present -> Absent` (evict), `Reading -> Absent` (given up), `Absent | Reading -> Poisoned`, `Absent | Poisoned -> Gone`.
/// * Exactly the `Reading`, `Staged` and `Present` blocks hold a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No frame.
    Absent,
    /// A read into a frame is in flight.
    Reading,
    /// In a frame, outside the view.
    Staged,
    /// In the view.
    Present,
    /// Could not be read, or only part of it is still mapped: the kernel answers touches from now on,
    /// through an ordinary mapping of the file.
    Poisoned,
    /// Unmapped or handed over to the kernel; the id waits to be used again.
    Gone,
}

/// One block: a file extent of one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Which view it belongs to (the pager's number for it).
    pub view: u32,
    /// Offset in the file, in bytes; page aligned.
    pub offset: u64,
    /// Length in bytes; a whole number of pages, at most `frame_bytes`.
    pub len: u32,
    /// Size of the frame that holds it, in bytes.
    pub frame_bytes: u32,
    /// What it holds.
    pub role: Role,
}

/// Every block and its state, and what the frames hold together.
#[derive(Debug, Default)]
pub struct BlockTable {
    blocks: Vec<Block>,
    states: Vec<State>,
    waited: Vec<bool>,
    free: Vec<Range<BlockId>>,
    held_bytes: u64,
    budget_bytes: u64,
    /// See [`BlockTable::set_ready`].
    ready_bytes: Option<u64>,
    /// See [`BlockTable::set_waste`].
    waste: f32,
}

impl BlockTable {
    /// Takes in the blocks of a new view, all `Absent`; gives their ids.
    pub fn add(&mut self, blocks: &[Block]) -> Range<BlockId> {
        let count = blocks.len() as BlockId;
        let start = match self.free.iter().position(|gap| gap.end - gap.start >= count) {
            Some(at) => {
                let start = self.free[at].start;
                self.free[at].start += count;
                if self.free[at].is_empty() {
                    self.free.swap_remove(at);
                }
                start
            }
            None => {
                let start = self.blocks.len();
                let end = start + blocks.len();
                assert!(end < BlockId::MAX as usize, "block ids exhausted");
                self.blocks.resize(end, Block { view: 0, offset: 0, len: 0, frame_bytes: 0, role: Role::Cyclic });
                self.states.resize(end, State::Gone);
                self.waited.resize(end, false);
                start as BlockId
            }
        };
        for (id, block) in (start..).zip(blocks) {
            debug_assert_eq!(self.states[id as usize], State::Gone);
            self.blocks[id as usize] = *block;
            self.states[id as usize] = State::Absent;
            self.waited[id as usize] = false;
        }
        start..start + count
    }

    /// Gives ids back; every block of them must be `Gone`.
    pub fn remove(&mut self, ids: Range<BlockId>) {
        assert!(ids.clone().all(|id| self.state(id) == State::Gone), "only gone blocks can be removed");
        if ids.end as usize == self.blocks.len() {
            self.blocks.truncate(ids.start as usize);
            self.states.truncate(ids.start as usize);
            self.waited.truncate(ids.start as usize);
        } else if !ids.is_empty() {
            self.free.push(ids);
        }
    }

    /// Number of ids in use or waiting to be used again: one more than the largest id.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// True when there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block `id`.
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id as usize]
    }

    /// The layer of the expert that `id` is a part of; `None` for what is no expert's.
    pub fn layer(&self, id: BlockId) -> Option<u32> {
        match self.block(id).role {
            Role::Expert { layer } => Some(layer),
            Role::Cyclic | Role::Row => None,
        }
    }

    /// The state of `id`.
    pub fn state(&self, id: BlockId) -> State {
        self.states[id as usize]
    }

    /// True when a thread sleeps on `id`.
    pub fn is_waited_for(&self, id: BlockId) -> bool {
        self.waited[id as usize]
    }

    /// Whether `id` may be named as a victim: it holds a frame, no read writes to it and nobody
    /// sleeps on it.
    pub fn is_evictable(&self, id: BlockId) -> bool {
        matches!(self.state(id), State::Staged | State::Present) && !self.is_waited_for(id)
    }

    /// Bytes of frames held by all blocks together.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The pool's size in bytes.
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Whether a frame for `id` fits without evicting.
    pub fn has_room(&self, id: BlockId) -> bool {
        self.held_bytes + u64::from(self.block(id).frame_bytes) <= self.budget_bytes
    }

    /// Whether a frame for `wanted` fits without evicting; without a block, whether the budget is kept.
    pub fn has_room_for(&self, wanted: Option<BlockId>) -> bool {
        match wanted {
            Some(id) => self.has_room(id),
            None => self.held_bytes <= self.budget_bytes,
        }
    }

    /// Whether a frame for `id` can be had at once: there is memory for it, or it comes from a victim. Else the kernel
    /// has to zero memory first, where that takes longer than a read.
    pub fn is_ready(&self, id: BlockId) -> bool {
        let bytes = u64::from(self.block(id).frame_bytes);
        self.ready_bytes.is_none_or(|ready_bytes| bytes <= ready_bytes) || !self.has_room(id)
    }

    /// Says how much memory beside the held one can be had at once, in bytes; `None` where all of it can.
    pub fn set_ready(&mut self, bytes: Option<u64>) {
        self.ready_bytes = bytes;
    }

    /// What a byte costs that is read and not used, of what it saves to have read one that is; nothing unless said.
    pub fn waste(&self) -> f32 {
        self.waste
    }

    /// See [`BlockTable::waste`].
    pub fn set_waste(&mut self, waste: f32) {
        self.waste = waste;
    }

    /// Sets the pool's size.
    pub fn set_budget(&mut self, bytes: u64) {
        self.budget_bytes = bytes;
    }

    /// Marks whether a thread sleeps on `id`.
    pub fn set_waited_for(&mut self, id: BlockId, waited: bool) {
        self.waited[id as usize] = waited;
    }

    /// Moves `id` to `state` and keeps the held bytes; panics on a transition that [`State`]
    /// forbids.
    pub fn set_state(&mut self, id: BlockId, state: State) {
        use State::*;
        let old = self.states[id as usize];
        let allowed = matches!(
            (old, state),
            (Absent, Reading | Poisoned)
                | (Reading, Staged | Absent | Poisoned)
                | (Staged, Present | Absent)
                | (Present, Staged | Absent)
                | (Absent | Poisoned, Gone)
        );
        assert!(allowed, "block {id} cannot go from {old:?} to {state:?}");
        let frame = u64::from(self.blocks[id as usize].frame_bytes);
        let holds = |state| matches!(state, Reading | Staged | Present);
        match (holds(old), holds(state)) {
            (false, true) => self.held_bytes += frame,
            (true, false) => self.held_bytes -= frame,
            _ => {}
        }
        self.states[id as usize] = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(count: usize) -> Vec<Block> {
        (0..count as u64)
            .map(|i| Block { view: 0, offset: i * 4096, len: 4096, frame_bytes: 4096, role: Role::Cyclic })
            .collect()
    }

    #[test]
    fn ids_are_used_again() {
        let mut table = BlockTable::default();
        let a = table.add(&blocks(4));
        let b = table.add(&blocks(3));
        assert_eq!((a.clone(), b), (0..4, 4..7));
        a.clone().for_each(|id| table.set_state(id, State::Gone));
        table.remove(a);
        assert_eq!(table.add(&blocks(2)), 0..2);
        assert_eq!(table.add(&blocks(3)), 7..10);
    }

    #[test]
    fn held_bytes_follow_the_states() {
        let mut table = BlockTable::default();
        table.add(&blocks(2));
        table.set_budget(4096);
        assert!(table.has_room(0));
        table.set_state(0, State::Reading);
        assert_eq!(table.held_bytes(), 4096);
        assert!(!table.has_room(1));
        table.set_state(0, State::Staged);
        table.set_state(0, State::Present);
        assert_eq!(table.held_bytes(), 4096);
        table.set_state(0, State::Absent);
        assert_eq!(table.held_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "cannot go from Absent to Present")]
    fn a_block_cannot_appear_unread() {
        let mut table = BlockTable::default();
        table.add(&blocks(1));
        table.set_state(0, State::Present);
    }
}
