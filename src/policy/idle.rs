//! What is read although nobody has chosen it, while the drive is idle: first the likely experts, then those that an earlier run
//! liked, then any.
//!
//! Likely is what came near to being chosen in the last passes: of what is read for that, every second or third is
//! chosen soon, and the first use of an expert is something that nobody else foretells. It may take free memory, and that
//! of a slice that is clearly colder. Where too much of it is evicted again without having been chosen, there is a pause. The others may
//! take free memory alone, and just any are read only where nothing is likely: seldom more than one in five is chosen.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use rustc_hash::FxHashSet;

use super::BlockId;

/// The least warmth of what is likely, of two.
pub(super) const LIKELY: f32 = 0.2;

/// What takes the memory of another slice is to be so much warmer.
pub(super) const MARGIN: f32 = 0.1;

/// Likely slices remembered at most: a few layers'.
const LIKELY_MAX: usize = 2048;

/// Bytes that may be wasted beyond what was used pays for: a used byte comes early by the time that its read takes, a wasted one
/// takes some of the processor and a while of the drive, which was idle.
const CREDIT_BYTES: i64 = 64 << 20;
const PRICE: i64 = 2;

/// Used slices during which nothing is read then, at first and at most: each time it is twice as many.
const PAUSE_MIN: u64 = 1 << 14;
const PAUSE_MAX: u64 = 1 << 20;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// By warmth, as the bits of a positive number, which are in its order.
    likely: BinaryHeap<(u32, BlockId)>,
    /// Next first.
    liked: VecDeque<BlockId>,
    any: VecDeque<BlockId>,
    /// The pass in which something likely was out of memory last.
    offered_in: Option<u32>,
    /// Read for being likely, and not chosen yet.
    unproven: FxHashSet<BlockId>,
    /// What was chosen, less what was not and has gone.
    balance: i64,
    pauses: u32,
    /// The clock at which the last pause ends.
    resumes_at: u64,
}

impl Idle {
    /// `id` is out of memory and so warm; in the pass `pass`, at `clock`.
    pub fn offer(&mut self, id: BlockId, warmth: f32, pass: u32, clock: u64) {
        if warmth < LIKELY || clock < self.resumes_at {
            return;
        }
        self.offered_in = Some(pass);
        if self.likely.len() >= LIKELY_MAX {
            self.likely.clear();
        }
        self.likely.push((warmth.to_bits(), id));
    }

    /// The next that is `wanted` in the pass `pass`, and whether it is for being likely.
    pub fn next(&mut self, pass: u32, wanted: impl Fn(BlockId) -> bool) -> Option<(BlockId, bool)> {
        while let Some(&(_, id)) = self.likely.peek() {
            if wanted(id) {
                return Some((id, true));
            }
            self.likely.pop();
        }
        let is_quiet = self.offered_in.is_none_or(|offered_in| pass > offered_in + 1);
        let lists = [&mut self.liked, &mut self.any].into_iter().take(if is_quiet { 2 } else { 1 });
        lists.flat_map(|list| first(list, &wanted)).next().map(|id| (id, false))
    }

    /// None of the likely ones is worth what it costs.
    pub fn drop_likely(&mut self) {
        self.likely.clear();
    }

    /// `id` is read for being likely.
    pub fn begun(&mut self, id: BlockId) {
        self.unproven.insert(id);
    }

    /// `id`, of `bytes`, was chosen.
    pub fn chosen(&mut self, id: BlockId, bytes: u32) {
        if !self.unproven.is_empty() && self.unproven.remove(&id) {
            self.balance = (self.balance + PRICE * i64::from(bytes)).min(CREDIT_BYTES);
        }
    }

    /// `id`, of `bytes`, is evicted.
    pub fn lost(&mut self, id: BlockId, bytes: u32, clock: u64) {
        if self.unproven.is_empty() || !self.unproven.remove(&id) {
            return;
        }
        self.balance -= i64::from(bytes);
        if self.balance < -CREDIT_BYTES {
            self.balance = 0;
            self.resumes_at = clock + (PAUSE_MIN << self.pauses).min(PAUSE_MAX);
            self.pauses += u32::from(PAUSE_MIN << self.pauses < PAUSE_MAX);
            self.likely.clear();
            log::info!("experts that were nearly chosen are not used enough: none are read for a while");
        }
    }

    /// There are `ids`.
    pub fn any(&mut self, ids: impl Iterator<Item = BlockId>) {
        self.any.extend(ids);
    }

    /// An earlier run liked `ids`, the first most.
    pub fn liked(&mut self, ids: impl Iterator<Item = BlockId>) {
        self.liked.extend(ids);
    }

    /// `ids` are gone.
    pub fn forget(&mut self, ids: &Range<BlockId>) {
        self.liked.retain(|id| !ids.contains(id));
        self.any.retain(|id| !ids.contains(id));
        self.likely.retain(|(_, id)| !ids.contains(id));
        self.unproven.retain(|id| !ids.contains(id));
    }
}

/// The first of `list` that is `wanted`; those before it are taken off.
fn first(list: &mut VecDeque<BlockId>, wanted: impl Fn(BlockId) -> bool) -> Option<BlockId> {
    while let Some(&id) = list.front() {
        if wanted(id) {
            return Some(id);
        }
        list.pop_front();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warmest_comes_first_and_just_any_last() {
        let mut idle = Idle::default();
        for (id, warmth) in [(1, 0.3), (2, 0.9), (3, LIKELY / 2.0), (4, 0.5)] {
            idle.offer(id, warmth, 3, 0);
        }
        idle.any([7, 8].into_iter());
        idle.liked([9].into_iter());
        let mut taken = Vec::new();
        for (pass, expected) in [(4, &[2, 4, 1, 9][..]), (5, &[2, 4, 1, 9, 7, 8])] {
            while let Some((id, likely)) = idle.next(pass, |id| !taken.contains(&id)) {
                assert_eq!(likely, id < 7);
                taken.push(id);
            }
            assert_eq!(taken, expected, "{pass}");
        }
    }

    #[test]
    fn what_is_seldom_chosen_is_not_read_for_a_while() {
        let mut idle = Idle::default();
        let mebibyte = 1 << 20;
        let read = |idle: &mut Idle, used: bool, clock: u64| {
            idle.begun(1);
            if used {
                idle.chosen(1, mebibyte)
            } else {
                idle.lost(1, mebibyte, clock)
            }
            idle.chosen(1, mebibyte);
            idle.offer(2, 1.0, 0, clock);
            let is_offered = idle.next(0, |_| true).is_some();
            idle.drop_likely();
            is_offered
        };
        // One of three pays for two.
        assert!((0..1000).all(|number| read(&mut idle, number % 3 == 0, 5)));
        let wasted = (0..1000).take_while(|_| read(&mut idle, false, 5)).count() as i64;
        assert!((CREDIT_BYTES..=2 * CREDIT_BYTES).contains(&(wasted * i64::from(mebibyte))), "{wasted} MiB");
        assert!(!read(&mut idle, true, 4 + PAUSE_MIN) && read(&mut idle, true, 5 + PAUSE_MIN));
    }
}
