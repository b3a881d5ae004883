//! The window of one stream: which frames serve what, block by block.
//!
//! The window is three lists. *ahead*: read or being read, not touched yet. *in use*: touched, the
//! tensor that threads are inside of. *spare*: passed over by the computation, or no longer
//! resident; first to go. A block is in the list that its [`Class`] names and in no other.

use std::collections::VecDeque;
use std::ops::Range;

use super::fifo::Fifo;
use super::{BlockId, BlockTable, State};

/// The newest blocks in use may be without a frame because they are about to be read.
const NEWEST: usize = 16;

/// Blocks that left the window most recently, remembered to see whether it was too small.
const GHOSTS: usize = 256;

/// What a block's frame is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// No frame.
    Out,
    Resident,
    Ahead,
    InUse,
    Spare,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Window {
    first: BlockId,
    class: Vec<Class>,
    ahead: Fifo,
    in_use: Fifo,
    spare: Fifo,
    ghosts: VecDeque<BlockId>,
    resident_bytes: u64,
}

impl Window {
    pub fn new(span: Range<BlockId>) -> Window {
        Window {
            first: span.start,
            class: vec![Class::Out; span.len()],
            ahead: Fifo::default(),
            in_use: Fifo::default(),
            spare: Fifo::default(),
            ghosts: VecDeque::new(),
            resident_bytes: 0,
        }
    }

    pub fn class(&self, id: BlockId) -> Class {
        self.class[(id - self.first) as usize]
    }

    /// Frame bytes of every list and the resident blocks together.
    pub fn accounted_bytes(&self) -> u64 {
        self.resident_bytes + self.ahead.bytes() + self.in_use.bytes() + self.spare.bytes()
    }

    pub fn ahead(&self) -> &Fifo {
        &self.ahead
    }

    pub fn in_use(&self) -> &Fifo {
        &self.in_use
    }

    #[cfg(test)]
    pub fn spare(&self) -> &Fifo {
        &self.spare
    }

    /// Moves `id` from the list it is in to that of `class`.
    pub fn set_class(&mut self, table: &BlockTable, id: BlockId, class: Class) {
        let frame = u64::from(table.block(id).frame_bytes);
        let slot = (id - self.first) as usize;
        let old = std::mem::replace(&mut self.class[slot], class);
        if old == class {
            return;
        }
        let was_listed = match old {
            Class::Out => true,
            Class::Resident => {
                self.resident_bytes -= frame;
                true
            }
            Class::Ahead => self.ahead.remove(table, id),
            Class::InUse => self.in_use.remove(table, id),
            Class::Spare => self.spare.remove(table, id),
        };
        debug_assert!(was_listed, "block {id} is not where {old:?} says");
        match class {
            Class::Out => {}
            Class::Resident => self.resident_bytes += frame,
            Class::Ahead => self.ahead.push(table, id),
            Class::InUse => self.in_use.push(table, id),
            Class::Spare => self.spare.push(table, id),
        }
    }

    /// Moves those members of the list of `from` that `moves` is true for to `to`.
    pub fn move_if(&mut self, table: &BlockTable, from: Class, to: Class, moves: impl Fn(BlockId) -> bool) {
        let list = match from {
            Class::Ahead => &mut self.ahead,
            Class::InUse => &mut self.in_use,
            Class::Spare => &mut self.spare,
            Class::Out | Class::Resident => return,
        };
        // They are in no list now, hence `Out`.
        for id in list.drain_if(table, moves) {
            self.class[(id - self.first) as usize] = Class::Out;
            self.set_class(table, id, to);
        }
    }

    /// A block that costs nothing to evict: a spare one, or the oldest in use when those hold more
    /// than `in_use_bytes`, but none of the newest `keep`.
    pub fn surplus(&self, table: &BlockTable, in_use_bytes: u64, keep: usize) -> Option<BlockId> {
        let spare = self.spare.oldest_evictable(table, 0);
        let in_use = || self.in_use.oldest_evictable(table, keep);
        spare.or_else(|| if self.in_use.bytes() > in_use_bytes { in_use() } else { None })
    }

    /// Forgets list members that lost their frames without being named (a read failed): they would
    /// fill the window for ever.
    pub fn purge(&mut self, table: &BlockTable) {
        let lost = |id| !matches!(table.state(id), State::Reading | State::Staged | State::Present);
        let old = self.in_use.len().saturating_sub(NEWEST);
        let gone: Vec<BlockId> = self
            .spare
            .iter()
            .chain(self.in_use.iter().take(old))
            .filter(|&id| lost(id) && !table.is_waited_for(id))
            .collect();
        for id in gone {
            self.set_class(table, id, Class::Out);
        }
    }

    /// `id` is evicted.
    pub fn release(&mut self, table: &BlockTable, id: BlockId) {
        if self.class(id) == Class::InUse {
            if self.ghosts.len() == GHOSTS {
                self.ghosts.pop_front();
            }
            self.ghosts.push_back(id);
        }
        self.set_class(table, id, Class::Out);
    }

    /// Whether `id` has left the window shortly before; if so, that is forgotten.
    pub fn take_ghost(&mut self, id: BlockId) -> bool {
        let found = self.ghosts.iter().position(|&ghost| ghost == id);
        found.is_some_and(|at| self.ghosts.remove(at).is_some())
    }

    pub fn forget_ghosts(&mut self, ids: &Range<BlockId>) {
        self.ghosts.retain(|id| !ids.contains(id));
    }
}
