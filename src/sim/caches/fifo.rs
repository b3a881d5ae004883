//! First in, first out.

use std::collections::VecDeque;

use super::Replacement;
use crate::policy::BlockId;

/// Held blocks, the newest last.
#[derive(Debug, Default)]
pub struct Fifo(VecDeque<BlockId>);

impl Replacement for Fifo {
    fn hit(&mut self, _id: BlockId) {}

    fn insert(&mut self, id: BlockId, _bytes: u64) {
        self.0.push_back(id);
    }

    fn evict(&mut self) -> Option<BlockId> {
        self.0.pop_front()
    }
}
