//! Strategy `readahead`: the order that the GGUF header foretells, taken as it is.

use std::ops::Range;

use super::cycle::Cycle;
use super::{BlockId, BlockTable, Need, Placement, Policy, Touch};

/// The policy: a [`Cycle`] whose order changes only by blocks that it did not foretell.
#[derive(Debug, Default)]
pub struct Readahead {
    cycle: Cycle,
}

/// Every block costs the same: nothing is measured here.
fn cost(_id: BlockId) -> f64 {
    1.0
}

impl Policy for Readahead {
    fn name(&self) -> &'static str {
        "readahead"
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.cycle.mapped(table, ids, order);
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.cycle.unmapped(table, ids, cost);
    }

    fn budget_changed(&mut self, table: &BlockTable) {
        self.cycle.replan(table, cost);
    }

    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, _now_ns: u64) {
        if self.cycle.touched(table, id, touch).needs_plan {
            self.cycle.replan(table, cost);
        }
    }

    fn hinted(&mut self, table: &BlockTable, id: BlockId) {
        self.cycle.hinted(table, id);
    }

    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        self.cycle.filled(table, id)
    }

    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        self.cycle.next_read(table, in_flight)
    }

    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.cycle.victim(table, wanted, need)
    }

    fn cycles(&self) -> u64 {
        self.cycle.ended
    }

    fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        self.cycle.rearm(table)
    }
}

#[cfg(test)]
impl super::Accounts for Readahead {
    fn assert_accounts(&self, table: &BlockTable) {
        self.cycle.assert_accounts(table);
    }
}
