//! Second chance: a hand goes round, and takes the first block that was not used since it last came by.

use std::collections::{HashSet, VecDeque};

use super::Replacement;
use crate::policy::BlockId;

/// Held blocks in the order in which the hand comes to them, and those used since it was there.
#[derive(Debug, Default)]
pub struct Clock {
    ring: VecDeque<BlockId>,
    used: HashSet<BlockId>,
}

impl Replacement for Clock {
    fn hit(&mut self, id: BlockId) {
        self.used.insert(id);
    }

    fn insert(&mut self, id: BlockId, _bytes: u64) {
        self.ring.push_back(id);
    }

    fn evict(&mut self) -> Option<BlockId> {
        loop {
            let id = self.ring.pop_front()?;
            if !self.used.remove(&id) {
                return Some(id);
            }
            self.ring.push_back(id);
        }
    }
}
