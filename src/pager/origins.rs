//! Why each expert's block is in memory, or is being read: a byte a block.

use crate::policy::BlockId;
use crate::trace::{Foreteller, Why};

/// Why a block is in memory. What was read for any reason and chosen then is there because it has been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// Nobody has asked for it since it was last out of memory.
    #[default]
    Unasked,
    /// A router has chosen it, or a thread has touched a part of its expert: it is read for that, or was in memory
    /// then.
    Used,
    /// It was foretold.
    Guessed(Foreteller),
    /// The drive had nothing better to do.
    Idle,
}

/// The origins of all blocks.
#[derive(Debug, Default)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// There are `blocks` blocks from now on.
    pub fn resize(&mut self, blocks: usize) {
        self.0.resize(blocks, Origin::Unasked);
    }

    /// Block `id` was chosen or touched; gives why it is in memory, if it is.
    pub fn used(&mut self, id: BlockId) -> Origin {
        std::mem::replace(&mut self.0[id as usize], Origin::Used)
    }

    /// Whether block `id` has been asked for since it was last out of memory.
    pub fn is_used(&self, id: BlockId) -> bool {
        self.0[id as usize] == Origin::Used
    }

    /// A read of block `id` begins for `why`; `guessed` has foretold it. Gives the reason.
    pub fn begun(&mut self, id: BlockId, why: Why, guessed: Option<Foreteller>) -> Origin {
        let origin = &mut self.0[id as usize];
        *origin = match (*origin, why) {
            (Origin::Used, _) | (_, Why::Demand) => Origin::Used,
            _ => guessed.map_or(Origin::Idle, Origin::Guessed),
        };
        *origin
    }

    /// Block `id` is out of memory.
    pub fn lost(&mut self, id: BlockId) {
        self.0[id as usize] = Origin::Unasked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_neither_a_guess_nor_idle() {
        let mut origins = Origins::default();
        origins.resize(4);
        let gate = Origin::Guessed(Foreteller::Gate);
        assert_eq!(origins.used(0), Origin::Unasked);
        assert_eq!(origins.begun(0, Why::Readahead, Some(Foreteller::Gate)), Origin::Used);
        assert_eq!(origins.begun(1, Why::Readahead, Some(Foreteller::Gate)), gate);
        assert_eq!(origins.begun(2, Why::Readahead, None), Origin::Idle);
        assert_eq!(origins.begun(3, Why::Demand, Some(Foreteller::Gate)), Origin::Used);
        // It counts once: then it is there because it has been used.
        assert_eq!([origins.used(1), origins.used(1), origins.used(2)], [gate, Origin::Used, Origin::Idle]);
        origins.lost(1);
        assert!(!origins.is_used(1) && origins.is_used(2));
        assert_eq!(origins.begun(1, Why::Readahead, Some(Foreteller::CoOccurrence)), {
            Origin::Guessed(Foreteller::CoOccurrence)
        });
        // Ids are used again.
        origins.resize(2);
        origins.resize(4);
        assert_eq!(origins.used(2), Origin::Unasked);
    }
}
