//! A queue that blocks can also leave from its middle.

use std::collections::{BTreeMap, HashMap};

use crate::policy::BlockId;

/// Blocks in the order in which they were pushed. Invariant: `order[at[id]] == id`, and nothing else.
#[derive(Debug, Default)]
pub struct Queue {
    order: BTreeMap<u64, BlockId>,
    at: HashMap<BlockId, u64>,
    pushed: u64,
}

impl Queue {
    /// Puts `id` at the end, wherever it was before.
    pub fn push(&mut self, id: BlockId) {
        self.remove(id);
        self.pushed += 1;
        self.order.insert(self.pushed, id);
        self.at.insert(id, self.pushed);
    }

    /// Takes `id` out; false when it was not there.
    pub fn remove(&mut self, id: BlockId) -> bool {
        self.at.remove(&id).is_some_and(|at| self.order.remove(&at).is_some())
    }

    /// Takes out what was pushed first.
    pub fn pop_oldest(&mut self) -> Option<BlockId> {
        let (_, id) = self.order.pop_first()?;
        self.at.remove(&id);
        Some(id)
    }

    /// Takes out what was pushed last.
    pub fn pop_newest(&mut self) -> Option<BlockId> {
        let (_, id) = self.order.pop_last()?;
        self.at.remove(&id);
        Some(id)
    }
}
