//! The resident set: the blocks of one stream that stay in memory from cycle to cycle.
//!
//! For a cycle larger than the budget the least bytes are read when as much as possible stays and
//! the rest is streamed once. Which blocks stay does not change the bytes, but it decides when they
//! are read: streamed blocks at even distances of compute time let the drive work without a pause
//! and need the smallest window.

use super::order::Order;
use super::{BlockId, BlockTable};

/// Passes over the ring until the wanted bytes are reached; the last one takes whatever comes.
const PASSES: usize = 4;

/// Which blocks of an [`Order`]'s span are to be resident.
#[derive(Debug)]
pub(super) struct ResidentSet {
    first: BlockId,
    marks: Vec<bool>,
    bytes: u64,
}

impl ResidentSet {
    pub fn new(order: &Order) -> ResidentSet {
        ResidentSet { first: order.span().start, marks: vec![false; order.span().len()], bytes: 0 }
    }

    pub fn contains(&self, id: BlockId) -> bool {
        self.marks[(id - self.first) as usize]
    }

    /// Frame bytes of all marked blocks together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the mark of `id` away.
    pub fn unmark(&mut self, table: &BlockTable, id: BlockId) {
        let mark = &mut self.marks[(id - self.first) as usize];
        if std::mem::take(mark) {
            self.bytes -= u64::from(table.block(id).frame_bytes);
        }
    }

    /// Moves marks so that the streamed bytes lead or lag compute time by `slack` bytes at most.
    /// Changes as few marks as that takes, because each change is a read; may end beside the quota.
    pub fn even_out(&mut self, table: &BlockTable, order: &Order, slack: u64, cost: impl Fn(BlockId) -> f64) {
        let per_cost = self.streamed_per_cost(table, order, &cost);
        let slack = slack as f64;
        let mut lead = 0.0;
        for &id in order.ids() {
            let frame = u64::from(table.block(id).frame_bytes);
            let mark = &mut self.marks[(id - self.first) as usize];
            lead -= cost(id) * per_cost;
            if !*mark && lead + frame as f64 > slack {
                *mark = true;
                self.bytes += frame;
            } else if *mark && lead < -slack {
                *mark = false;
                self.bytes -= frame;
            }
            if !*mark {
                lead += frame as f64;
            }
        }
    }

    /// Bytes to be streamed in one unit of compute time, when that is spread evenly.
    fn streamed_per_cost(&self, table: &BlockTable, order: &Order, cost: &impl Fn(BlockId) -> f64) -> f64 {
        let streamed = order.bytes(table).saturating_sub(self.bytes);
        let total: f64 = order.ids().iter().map(|&id| cost(id)).sum();
        streamed as f64 / total.max(f64::MIN_POSITIVE)
    }

    /// How far the streamed bytes run ahead of compute time, and behind it, at most: what the
    /// readahead would have to hold to keep the drive at one speed. In bytes.
    pub fn unevenness_bytes(&self, table: &BlockTable, order: &Order, cost: impl Fn(BlockId) -> f64) -> u64 {
        let per_cost = self.streamed_per_cost(table, order, &cost);
        let (mut lead, mut lead_min, mut lead_max) = (0.0f64, 0.0f64, 0.0f64);
        for &id in order.ids() {
            if !self.contains(id) {
                lead += f64::from(table.block(id).frame_bytes);
            }
            lead -= cost(id) * per_cost;
            lead_min = lead_min.min(lead);
            lead_max = lead_max.max(lead);
        }
        (lead_max - lead_min) as u64
    }

    /// Marks or unmarks blocks at even distances until at most `quota` bytes are marked, and as
    /// much as fits. Marks that can stay do stay: what is in memory already is not read again.
    /// `cost` is the compute time of a block, in any unit.
    pub fn settle(&mut self, table: &BlockTable, order: &Order, quota: u64, cost: impl Fn(BlockId) -> f64) {
        if self.bytes == 0 && quota > 0 {
            // From nothing: everything, then what is streamed is taken out evenly in time.
            self.flip_evenly(table, order, u64::MAX, true, |_| 1.0);
        }
        if self.bytes > quota {
            self.flip_evenly(table, order, self.bytes - quota, false, cost);
        }
        if self.bytes < quota {
            self.flip_evenly(table, order, quota - self.bytes, true, |_| 1.0);
        }
    }

    /// Sets blocks that are not `mark` yet to `mark`, at even distances of cost: `wanted` bytes at
    /// least when unmarking, `wanted` bytes at most when marking.
    fn flip_evenly(
        &mut self,
        table: &BlockTable,
        order: &Order,
        wanted: u64,
        mark: bool,
        cost: impl Fn(BlockId) -> f64,
    ) {
        let mut left = wanted;
        for pass in 0..PASSES {
            let candidates = || order.ids().iter().copied();
            let total: f64 = candidates().filter(|&id| self.contains(id) != mark).map(&cost).sum();
            let per_cost = left as f64 / total.max(f64::MIN_POSITIVE);
            let mut due = 0.0;
            for id in candidates() {
                if left == 0 {
                    return;
                }
                if self.contains(id) == mark {
                    continue;
                }
                let frame = u64::from(table.block(id).frame_bytes);
                due += cost(id) * per_cost;
                if (due < frame as f64 / 2.0 && pass + 1 < PASSES) || (mark && frame > left) {
                    continue;
                }
                due -= frame as f64;
                left = left.saturating_sub(frame);
                self.marks[(id - self.first) as usize] = mark;
                self.bytes = if mark { self.bytes + frame } else { self.bytes - frame };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Block, Role};

    fn table(count: u32) -> (BlockTable, Order) {
        let block = Block { view: 0, offset: 0, len: 4096, frame_bytes: 4096, role: Role::Cyclic };
        let mut table = BlockTable::default();
        let ids = table.add(&vec![block; count as usize]);
        let order = Order::new(ids.clone(), &ids.collect::<Vec<_>>());
        (table, order)
    }

    fn longest_run(set: &ResidentSet, order: &Order, resident: bool) -> usize {
        let marks: Vec<bool> = order.ids().iter().map(|&id| set.contains(id)).collect();
        marks.split(|&mark| mark != resident).map(<[bool]>::len).max().unwrap_or(0)
    }

    #[test]
    fn the_quota_is_used_and_kept() {
        let (table, order) = table(1000);
        for quota in [0, 1, 4096, 500 * 4096, 800 * 4096 + 17, 1000 * 4096, u64::MAX] {
            let mut set = ResidentSet::new(&order);
            set.settle(&table, &order, quota, |_| 1.0);
            assert_eq!(set.bytes(), quota.min(1000 * 4096) / 4096 * 4096, "quota {quota}");
        }
    }

    #[test]
    fn streamed_blocks_lie_at_even_distances() {
        let (table, order) = table(1000);
        let mut set = ResidentSet::new(&order);
        set.settle(&table, &order, 800 * 4096, |_| 1.0);
        assert_eq!((longest_run(&set, &order, true), longest_run(&set, &order, false)), (4, 1));
        // Small changes keep nearly every mark and nearly the evenness.
        let before: Vec<BlockId> = order.ids().iter().copied().filter(|&id| set.contains(id)).collect();
        set.settle(&table, &order, 780 * 4096, |_| 1.0);
        assert_eq!(before.iter().filter(|&&id| !set.contains(id)).count(), 20);
        set.settle(&table, &order, 800 * 4096, |_| 1.0);
        assert!(longest_run(&set, &order, true) <= 10 && longest_run(&set, &order, false) <= 3);
    }

    #[test]
    fn slow_blocks_get_more_of_the_stream() {
        let (table, order) = table(1000);
        let mut set = ResidentSet::new(&order);
        set.settle(&table, &order, 800 * 4096, |id| if id < 500 { 3.0 } else { 1.0 });
        let streamed = (0..500).filter(|&id| !set.contains(id)).count();
        assert!((140..=160).contains(&streamed), "{streamed} of 200");
    }
    #[test]
    fn evening_out_changes_little_and_suffices() {
        let (table, order) = table(1000);
        let mut set = ResidentSet::new(&order);
        set.settle(&table, &order, 800 * 4096, |_| 1.0);
        let before: Vec<bool> = order.ids().iter().map(|&id| set.contains(id)).collect();
        let cost = |id: BlockId| if id < 500 { 3.0 } else { 1.0 };
        assert!(set.unevenness_bytes(&table, &order, cost) > 40 * 4096);
        set.even_out(&table, &order, 5 * 4096, cost);
        set.settle(&table, &order, 800 * 4096, cost);
        assert!(set.unevenness_bytes(&table, &order, cost) <= 14 * 4096);
        let changes = order.ids().iter().filter(|&&id| before[id as usize] != set.contains(id)).count();
        // 50 of the streamed blocks belong into the first half instead of the second.
        assert!(changes <= 110, "{changes}");
        set.even_out(&table, &order, 5 * 4096, |_| 1.0);
        assert!(set.unevenness_bytes(&table, &order, |_| 1.0) <= 14 * 4096);
    }
}
