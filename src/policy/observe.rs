//! Strategy `observe`: every first touch of every cycle reports itself.
//!
//! Every block is staged until it is touched, and what has been touched is rearmed after a bounded
//! number of further first touches: late enough that threads are done with it, early enough that the
//! next cycle, or the next sweep over a large tensor, reports it again. What does not fit is read
//! ahead and evicted as by `readahead`. The size of the blocks is the user's choice (`GGPAGER_GRAIN`).

use std::collections::VecDeque;
use std::ops::Range;

use super::cycle::Cycle;
use super::{BlockId, BlockTable, FRAMES_MIN, Need, Placement, Policy, State, Touch};

/// Bytes of blocks that are touched before a touched block is rearmed ...
const ARM_BYTES: u64 = 64 << 20;
/// ... but no more than this part of what is mapped: a small model's cycle is soon over.
const ARM_SHARE: u64 = 8;

/// The policy. See the module's page.
#[derive(Debug, Default)]
pub struct Observe {
    cycle: Cycle,
    /// Touched blocks, oldest first, with the number of the touch. One that has been touched again
    /// since has a later entry.
    touched: VecDeque<(BlockId, u64)>,
    /// Frame bytes of `touched`, entries that are out of date included.
    touched_bytes: u64,
    /// Number of the latest touch of each block; 0 for none, and for a block that has gone.
    latest: Vec<u64>,
    touches: u64,
    /// Frame bytes of everything that is mapped, and of its largest block.
    mapped_bytes: u64,
    frame_bytes_max: u64,
}

/// Every block costs the same: nothing is measured here.
fn cost(_id: BlockId) -> f64 {
    1.0
}

impl Observe {
    /// What may have been touched and not been rearmed: threads may be in there.
    fn unarmed_bytes_max(&self) -> u64 {
        ARM_BYTES.min(self.mapped_bytes / ARM_SHARE).max(FRAMES_MIN * self.frame_bytes_max)
    }

    fn frame_bytes(table: &BlockTable, ids: Range<BlockId>) -> impl Iterator<Item = u64> {
        ids.map(|id| u64::from(table.block(id).frame_bytes))
    }
}

impl Policy for Observe {
    fn name(&self) -> &'static str {
        "observe"
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.latest.resize(table.len(), 0);
        self.mapped_bytes += Observe::frame_bytes(table, ids.clone()).sum::<u64>();
        let largest = Observe::frame_bytes(table, ids.clone()).max().unwrap_or(0);
        self.frame_bytes_max = self.frame_bytes_max.max(largest);
        self.cycle.mapped(table, ids, order);
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.mapped_bytes -= Observe::frame_bytes(table, ids.clone()).sum::<u64>();
        self.touched.retain(|(id, _)| !ids.contains(id));
        self.touched_bytes = self.touched.iter().map(|&(id, _)| u64::from(table.block(id).frame_bytes)).sum();
        self.latest[ids.start as usize..ids.end as usize].fill(0);
        self.cycle.unmapped(table, ids, cost);
    }

    fn budget_changed(&mut self, table: &BlockTable) {
        self.cycle.replan(table, cost);
    }

    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, _now_ns: u64) {
        self.touches += 1;
        self.latest[id as usize] = self.touches;
        self.touched.push_back((id, self.touches));
        self.touched_bytes += u64::from(table.block(id).frame_bytes);
        if self.cycle.touched(table, id, touch).needs_plan {
            self.cycle.replan(table, cost);
        }
    }

    fn hinted(&mut self, table: &BlockTable, id: BlockId) {
        self.cycle.hinted(table, id);
    }

    fn filled(&mut self, _table: &BlockTable, _id: BlockId) -> Placement {
        Placement::Stage
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
        while self.touched_bytes > self.unarmed_bytes_max() {
            let (id, touch) = self.touched.pop_front()?;
            self.touched_bytes -= u64::from(table.block(id).frame_bytes);
            // Neither touched again nor evicted nor about to be touched.
            let is_due = self.latest[id as usize] == touch && table.state(id) == State::Present;
            if is_due && !table.is_waited_for(id) {
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
impl super::Accounts for Observe {
    fn assert_accounts(&self, table: &BlockTable) {
        self.cycle.assert_accounts(table);
        let bytes: u64 = self.touched.iter().map(|&(id, _)| u64::from(table.block(id).frame_bytes)).sum();
        assert_eq!(self.touched_bytes, bytes);
    }
}
