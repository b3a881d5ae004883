//! What a cycle uses.

use crate::policy::BlockId;
use crate::sim::Foretold;

/// A step before its time is known.
#[derive(Debug, Clone)]
pub struct Use {
    /// The block.
    pub block: BlockId,
    /// Bytes of it that are computed with.
    pub bytes: u64,
    /// What the pager is told then of what comes.
    pub foretold: Foretold,
}

impl Use {
    /// A router has chosen before it.
    pub fn is_chosen(&self) -> bool {
        !self.foretold.routed.is_empty()
    }
}
