//! Least recently used.

use super::Replacement;
use super::queue::Queue;
use crate::policy::BlockId;

/// Held blocks, the most recently used one last.
#[derive(Debug, Default)]
pub struct Lru(Queue);

impl Replacement for Lru {
    fn hit(&mut self, id: BlockId) {
        self.0.push(id);
    }

    fn insert(&mut self, id: BlockId, _bytes: u64) {
        self.0.push(id);
    }

    fn evict(&mut self) -> Option<BlockId> {
        self.0.pop_oldest()
    }
}
