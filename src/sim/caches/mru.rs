//! Most recently used: nearly the optimum for a cyclic scan, and poor for anything else.

use super::Replacement;
use super::queue::Queue;
use crate::policy::BlockId;

/// Held blocks, the most recently used one last.
#[derive(Debug, Default)]
pub struct Mru(Queue);

impl Replacement for Mru {
    fn hit(&mut self, id: BlockId) {
        self.0.push(id);
    }

    fn insert(&mut self, id: BlockId, _bytes: u64) {
        self.0.push(id);
    }

    fn evict(&mut self) -> Option<BlockId> {
        self.0.pop_newest()
    }
}
