//! Least frequently used since it was taken in; among equals the least recently used.

use std::collections::{BTreeSet, HashMap};

use super::Replacement;
use crate::policy::BlockId;

/// Invariant: `order` holds `(uses, latest use, id)` of each held block, and `held[id]` the first two.
#[derive(Debug, Default)]
pub struct Lfu {
    order: BTreeSet<(u64, u64, BlockId)>,
    held: HashMap<BlockId, (u64, u64)>,
    clock: u64,
}

impl Lfu {
    fn count(&mut self, id: BlockId, uses: u64) {
        self.clock += 1;
        self.order.insert((uses, self.clock, id));
        self.held.insert(id, (uses, self.clock));
    }
}

impl Replacement for Lfu {
    fn hit(&mut self, id: BlockId) {
        if let Some((uses, latest)) = self.held.remove(&id) {
            self.order.remove(&(uses, latest, id));
            self.count(id, uses + 1);
        }
    }

    fn insert(&mut self, id: BlockId, _bytes: u64) {
        self.count(id, 1);
    }

    fn evict(&mut self) -> Option<BlockId> {
        let (_, _, id) = self.order.pop_first()?;
        self.held.remove(&id);
        Some(id)
    }
}
