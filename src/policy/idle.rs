//! What is read although nobody has chosen it, while the drive is idle: first the likely experts, then those that an earlier run
//! liked, then any.
//!
//! Likely is what came near to being chosen in the last passes: of what is read for that, every second or third is
//! chosen soon, and the first use of an expert is something that nobody else foretells. It may take free memory, and that
//! of a slice that is clearly colder. The others may take free memory alone, and just any are read only where nothing is likely: seldom
//! more than one in five is chosen. Each of them is read while its [`Odds`] are worth what is wasted.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::BlockId;
use super::odds::{For, Odds};

/// The least warmth of what is likely, of two.
pub(super) const LIKELY: f32 = 0.2;

/// What takes the memory of another slice is to be so much warmer.
pub(super) const MARGIN: f32 = 0.1;

/// Likely slices remembered at most: a few layers'.
const LIKELY_MAX: usize = 2048;

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
    /// Read, and not chosen yet: why, how many bytes, and in which pass.
    unproven: FxHashMap<BlockId, (For, u32, u32)>,
    /// The same, the oldest first, with some that have been chosen.
    began: VecDeque<(u32, BlockId)>,
    odds: Odds,
}

impl Idle {
    /// `id` is out of memory and so warm; in the pass `pass`.
    pub fn offer(&mut self, id: BlockId, warmth: f32, pass: u32) {
        if warmth < LIKELY {
            return;
        }
        self.offered_in = Some(pass);
        if self.likely.len() >= LIKELY_MAX {
            self.likely.clear();
        }
        self.likely.push((warmth.to_bits(), id));
    }

    /// The next that is `wanted` in the pass `pass`, and what speaks for it; where a byte that is not used costs `waste` of what
    /// a used one saves.
    pub fn next(&mut self, pass: u32, waste: f32, wanted: impl Fn(BlockId) -> bool) -> Option<(BlockId, For)> {
        self.age(pass);
        while let Some(&(warmth, id)) = self.likely.peek() {
            let why = For::likely(f32::from_bits(warmth));
            if wanted(id) && self.odds.is_worth(why, pass, waste) {
                return Some((id, why));
            }
            self.likely.pop();
        }
        let is_quiet = self.offered_in.is_none_or(|offered_in| pass > offered_in + 1);
        let lists = [(&mut self.liked, For::Liked), (&mut self.any, For::Nothing)];
        let worth = lists.into_iter().take(if is_quiet { 2 } else { 1 });
        let mut worth = worth.filter(|(_, why)| self.odds.is_worth(*why, pass, waste));
        worth.find_map(|(list, why)| first(list, &wanted).map(|id| (id, why)))
    }

    /// None of the likely ones is worth what it costs.
    pub fn drop_likely(&mut self) {
        self.likely.clear();
    }

    /// `id`, of `bytes`, is read for `why`, in the pass `pass`.
    pub fn begun(&mut self, id: BlockId, why: For, bytes: u32, pass: u32) {
        self.odds.begun(why, bytes, pass);
        self.unproven.insert(id, (why, bytes, pass));
        self.began.push_back((pass, id));
    }

    /// `id` was chosen.
    pub fn chosen(&mut self, id: BlockId, pass: u32) {
        self.settle(id, true, pass);
    }

    /// `id` is evicted.
    pub fn lost(&mut self, id: BlockId, pass: u32) {
        self.settle(id, false, pass);
    }

    fn settle(&mut self, id: BlockId, chosen: bool, pass: u32) {
        if !self.unproven.is_empty()
            && let Some((why, bytes, began)) = self.unproven.remove(&id)
        {
            self.odds.ended(why, bytes, began, chosen, pass);
        }
    }

    /// Takes what has waited for too long for unused.
    fn age(&mut self, pass: u32) {
        while let Some(&(began, id)) = self.began.front()
            && Odds::is_late(pass - began)
        {
            self.began.pop_front();
            // It may have been read again since.
            if self.unproven.get(&id).is_some_and(|&(_, _, of_pass)| of_pass == began) {
                self.settle(id, false, pass);
            }
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

    /// `ids` are gone; each of them is [lost](Idle::lost) already.
    pub fn forget(&mut self, ids: &Range<BlockId>) {
        self.liked.retain(|id| !ids.contains(id));
        self.any.retain(|id| !ids.contains(id));
        self.likely.retain(|(_, id)| !ids.contains(id));
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
            idle.offer(id, warmth, 3);
        }
        idle.any([7, 8].into_iter());
        idle.liked([9].into_iter());
        let mut taken = Vec::new();
        for (pass, expected) in [(4, &[2, 4, 1, 9][..]), (5, &[2, 4, 1, 9, 7, 8])] {
            while let Some((id, why)) = idle.next(pass, 0.1, |id| !taken.contains(&id)) {
                assert_eq!(matches!(why, For::Likely(_)), id < 7);
                taken.push(id);
            }
            assert_eq!(taken, expected, "{pass}");
        }
    }

    #[test]
    fn what_costs_more_than_it_brings_is_not_read() {
        let read = |waste: f32| {
            let mut idle = Idle::default();
            idle.any([7].into_iter());
            idle.liked([9].into_iter());
            // What is too dear for now is not forgotten.
            assert_eq!(idle.next(2, 9.0, |_| true), None);
            idle.offer(1, 0.9, 0);
            idle.offer(2, 0.3, 0);
            let mut taken = Vec::new();
            while let Some((id, _)) = idle.next(2, waste, |id| !taken.contains(&id)) {
                taken.push(id);
            }
            taken
        };
        assert_eq!([0.1, 0.7, 1.5, 3.0].map(read), [&[1, 2, 9, 7][..], &[1, 2, 9], &[1], &[]]);
    }

    #[test]
    fn what_is_not_chosen_soon_counts_as_unused() {
        const WHY: For = For::Likely(1);
        type Work = dyn Fn(&mut Idle, BlockId);
        let odds_after = |works: &[&Work]| {
            let mut idle = Idle::default();
            (0..100).for_each(|id| idle.begun(id, WHY, 1 << 20, 1));
            works.iter().for_each(|work| (0..100).for_each(|id| work(&mut idle, id)));
            idle.next(50, 0.1, |_| true);
            (idle.odds.of(WHY, 50), idle.unproven.len() + idle.began.len())
        };
        let choose = |idle: &mut Idle, id| idle.chosen(id, 2);
        let (chosen, left) = odds_after(&[&choose]);
        assert!(chosen > 0.85 && left == 0);
        let (lost, _) = odds_after(&[&|idle, id| idle.lost(id, 2)]);
        assert!(lost < 0.15);
        let (late, left) = odds_after(&[]);
        assert!(late < 0.15 && left == 0);
        // Read again while the first time is still remembered.
        let (again, left) = odds_after(&[&choose, &|idle, id| idle.begun(id, WHY, 1 << 20, 30)]);
        assert!(again > 0.5 && left == 200, "{again}, {left}: the second time is not over yet");
    }
}
