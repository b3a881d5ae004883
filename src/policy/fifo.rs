//! A first-in-first-out list of blocks that knows its bytes.

use std::collections::VecDeque;

use super::{BlockId, BlockTable};

/// Blocks in the order of their arrival, each at most once. Removal from the middle walks the list,
/// so lists stay as short as a window: a few hundred blocks.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    ids: VecDeque<BlockId>,
    bytes: u64,
}

impl Fifo {
    /// Frame bytes of all members together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn contains(&self, id: BlockId) -> bool {
        self.ids.contains(&id)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = BlockId> + '_ {
        self.ids.iter().copied()
    }

    pub fn push(&mut self, table: &BlockTable, id: BlockId) {
        debug_assert!(!self.ids.contains(&id), "block {id} is already a member");
        self.ids.push_back(id);
        self.bytes += u64::from(table.block(id).frame_bytes);
    }

    /// Removes `id`; false when it is no member.
    pub fn remove(&mut self, table: &BlockTable, id: BlockId) -> bool {
        let Some(at) = self.ids.iter().position(|&member| member == id) else { return false };
        self.ids.remove(at);
        self.bytes -= u64::from(table.block(id).frame_bytes);
        true
    }

    /// The oldest member that may be evicted, without removing it. The newest `keep` are passed over.
    pub fn oldest_evictable(&self, table: &BlockTable, keep: usize) -> Option<BlockId> {
        let end = self.ids.len().saturating_sub(keep);
        self.ids.iter().take(end).copied().find(|&id| table.is_evictable(id))
    }

    /// The newest member that may be evicted, without removing it.
    pub fn newest_evictable(&self, table: &BlockTable) -> Option<BlockId> {
        self.ids.iter().rev().copied().find(|&id| table.is_evictable(id))
    }

    /// Removes and gives every member that `leaves` is true for.
    pub fn drain_if(&mut self, table: &BlockTable, mut leaves: impl FnMut(BlockId) -> bool) -> Vec<BlockId> {
        let mut gone = Vec::new();
        self.ids.retain(|&id| {
            let leave = leaves(id);
            if leave {
                gone.push(id);
            }
            !leave
        });
        self.bytes -= gone.iter().map(|&id| u64::from(table.block(id).frame_bytes)).sum::<u64>();
        gone
    }
}
