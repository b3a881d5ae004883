//! How warm slices are: how soon their experts will probably be chosen again.
//!
//! Two averages over the passes through the layers, of which recent ones count more, are added: how often a router chose the
//! expert, and how near it came to that ([`affinity`](crate::pager::affinity)), where that is known. The second tells
//! apart what was chosen equally often, and knows experts that nobody has chosen yet. A pass is a token, or a batch of them.
//!
//! The slices of an expert are chosen together, and share one account.

use std::ops::Range;

use super::{BlockId, BlockTable};

/// After so many passes a choice counts half. From 5 to 10 caches hit about the same; with 40 a cache of 12 % of the experts
/// hits 48 % instead of 52 %.
pub(super) const HALF_LIFE_PASSES: f32 = 8.0;

/// The same for affinities.
pub(super) const AFFINITY_HALF_LIFE_PASSES: f32 = 4.0;

/// What is computed now, or in a moment, is in use and not evicted willingly: the experts that this layer chose in this pass, and what was
/// read for the next one. Neither are so many of the newest blocks. Where few are held, it is the newer half in either case.
pub(super) const IN_USE: u64 = 48;

/// An average over passes, of which older ones count less.
#[derive(Debug, Clone, Copy, Default)]
struct Average {
    value: f32,
    /// The pass that it is of.
    pass: u32,
}

impl Average {
    /// In a later pass, if nothing has been added.
    fn at(self, pass: u32, half_life: f32) -> f32 {
        self.value * (-((pass - self.pass) as f32) / half_life).exp2()
    }

    fn add(&mut self, pass: u32, half_life: f32, value: f32) {
        let part = 1.0 - (-1.0 / half_life).exp2();
        *self = Average { value: self.at(pass, half_life) + part * value, pass };
    }
}

/// What is known of a slice, or of all slices of an expert.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    uses: Average,
    affinity: Average,
    /// The pass in which it was new last, and the clock then; none when it never was.
    new: Option<(u32, u64)>,
    /// What it was told last, by number: what is told of several slices of an expert at once counts once.
    told: u64,
}

/// The warmth of all slices.
#[derive(Debug, Default)]
pub(super) struct Heat {
    /// By the block that it is of.
    accounts: Vec<Account>,
    /// By block, the one whose account it shares: its own, as a rule.
    account_of: Vec<BlockId>,
    /// Counts what is told.
    told: u64,
    /// Counts blocks that were used.
    clock: u64,
    /// Counts passes through the layers.
    pass: u32,
    /// The layer that was used last.
    layer: u32,
}

impl Heat {
    /// Blocks that were used so far, each as often as it was.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// Passes so far.
    pub fn pass(&self) -> u32 {
        self.pass
    }

    /// From 0 to 2; more where touches of one slice after the other are all that is known.
    pub fn warmth(&self, id: BlockId) -> f32 {
        let Some(account) = self.account(id) else { return 0.0 };
        account.uses.at(self.pass, HALF_LIFE_PASSES) + account.affinity.at(self.pass, AFFINITY_HALF_LIFE_PASSES)
    }

    fn account(&self, id: BlockId) -> Option<&Account> {
        self.account_of.get(id as usize).map(|&of| &self.accounts[of as usize])
    }

    fn account_mut(&mut self, id: BlockId) -> &mut Account {
        self.open(id);
        &mut self.accounts[self.account_of[id as usize] as usize]
    }

    /// There are accounts up to that of `id`.
    fn open(&mut self, id: BlockId) {
        let blocks = self.accounts.len();
        if blocks <= id as usize {
            self.accounts.resize(id as usize + 1, Account::default());
            self.account_of.extend(blocks as BlockId..=id);
        }
    }

    /// From now on slices `ids` share an account: nothing is known of any of them.
    pub fn join(&mut self, ids: impl Iterator<Item = BlockId>) {
        let mut first = None;
        for id in ids {
            self.open(id);
            self.account_of[id as usize] = *first.get_or_insert(id);
        }
    }

    /// The account of `id`, unless it has been told the same already.
    fn untold(&mut self, id: BlockId) -> Option<&mut Account> {
        let told = self.told;
        let account = self.account_mut(id);
        (std::mem::replace(&mut account.told, told) != told).then_some(account)
    }

    /// These were used together, each by such a share of the tokens of this pass.
    pub fn used(&mut self, table: &BlockTable, used: impl IntoIterator<Item = (BlockId, f64)>) {
        self.told += 1;
        for (id, share) in used {
            self.clock += 1;
            let layer = table.layer(id).unwrap_or(self.layer);
            let begins = layer < std::mem::replace(&mut self.layer, layer);
            // What counts for nothing makes nothing old.
            self.pass += u32::from(begins && share > 0.0);
            let (pass, clock) = (self.pass, self.clock);
            if let Some(account) = self.untold(id) {
                account.uses.add(pass, HALF_LIFE_PASSES, share as f32);
                account.new = Some((pass, clock));
            }
        }
    }

    /// In this pass the experts of these came so near to being chosen.
    pub fn affine(&mut self, near: impl IntoIterator<Item = (BlockId, f64)>) {
        self.told += 1;
        let pass = self.pass;
        for (id, affinity) in near {
            if let Some(account) = self.untold(id) {
                account.affinity.add(pass, AFFINITY_HALF_LIFE_PASSES, affinity as f32);
            }
        }
    }

    /// `id` is as new as if it were used now.
    pub fn renew(&mut self, id: BlockId) {
        self.account_mut(id).new = Some((self.pass, self.clock));
    }

    /// An earlier run used `id`, for which this is as good as `uses` uses, unless something is known of it.
    pub fn recall(&mut self, id: BlockId, uses: f32) {
        if self.account_mut(id).new.is_none() {
            let pass = self.pass;
            self.account_mut(id).uses.add(pass, HALF_LIFE_PASSES, uses);
            self.renew(id);
        }
    }

    /// What of `ids` has been used, the warmest first.
    pub fn liked(&self, ids: &Range<BlockId>) -> Vec<BlockId> {
        let is_used = |&id: &BlockId| self.account(id).is_some_and(|account| account.uses.value > 0.0);
        let mut liked: Vec<(f32, BlockId)> = ids.clone().filter(is_used).map(|id| (self.warmth(id), id)).collect();
        liked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        liked.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether `id` is in use, or one of the newest; where `held` blocks are held.
    pub fn is_in_use(&self, table: &BlockTable, id: BlockId, held: u64) -> bool {
        let Some((pass, clock)) = self.account(id).and_then(|account| account.new) else { return false };
        let computed_now =
            pass == self.pass && table.layer(id).is_some_and(|layer| layer.wrapping_sub(self.layer) <= 1);
        self.clock - clock < if computed_now { held / 2 } else { IN_USE.min(held / 2) }
    }

    /// `ids` are gone.
    pub fn forget(&mut self, ids: &Range<BlockId>) {
        for id in ids.start..ids.end.min(self.accounts.len() as BlockId) {
            self.accounts[id as usize] = Account::default();
            self.account_of[id as usize] = id;
        }
    }

    /// A number that looks like chance, for a fair sample (Knuth's multiplicative hash).
    pub fn anywhere(&self) -> usize {
        (self.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Block, Role};
    use super::*;

    /// Two layers of ten slices.
    fn table() -> BlockTable {
        let block = |id: u32| {
            let role = Role::Expert { layer: id / 10 };
            Block { view: 0, offset: u64::from(id) << 16, len: 1 << 16, frame_bytes: 1 << 16, role }
        };
        let mut table = BlockTable::default();
        table.add(&(0..20).map(block).collect::<Vec<_>>());
        table
    }

    fn used(heat: &mut Heat, table: &BlockTable, id: BlockId) {
        heat.used(table, [(id, 1.0)]);
    }

    fn passes(heat: &mut Heat, table: &BlockTable, count: u32, uses: u32) {
        for _ in 0..count {
            for layer in [0, 1] {
                (1..=uses).for_each(|slice| used(heat, table, 10 * layer + slice));
            }
        }
    }

    #[test]
    fn an_old_use_counts_half_after_some_passes_however_many_uses_they_have() {
        let table = table();
        for uses in [1, 9] {
            let mut heat = Heat::default();
            [0, 19].iter().for_each(|&slice| used(&mut heat, &table, slice));
            let first = heat.warmth(0);
            passes(&mut heat, &table, HALF_LIFE_PASSES as u32, uses);
            assert!((heat.warmth(0) / first - 0.5).abs() < 1e-3, "{uses} uses");
        }
    }

    #[test]
    fn what_is_chosen_in_every_pass_is_as_warm_as_can_be() {
        let table = table();
        let mut heat = Heat::default();
        for _ in 0..100 {
            passes(&mut heat, &table, 1, 9);
            (11..=15).for_each(|slice| heat.affine([(slice, 1.0)]));
        }
        assert!((heat.warmth(15) - 2.0).abs() < 1e-2 && (heat.warmth(16) - 1.0).abs() < 1e-2);
        assert_eq!(heat.warmth(10), 0.0);
    }

    #[test]
    fn slices_of_an_expert_share_what_is_told_of_one_and_count_once() {
        let table = table();
        let mut heat = Heat::default();
        heat.join([2, 3, 4].into_iter());
        used(&mut heat, &table, 5);
        heat.used(&table, [2, 3, 4].map(|slice| (slice, 1.0)));
        assert_eq!([2, 3, 4].map(|slice| heat.warmth(slice)), [heat.warmth(5); 3]);
        heat.affine([2, 3, 5].map(|slice| (slice, 0.5)));
        assert_eq!(heat.warmth(4), heat.warmth(5));
        assert_eq!(heat.clock(), 4, "blocks are counted all the same");
        heat.recall(3, 1.0);
        assert_eq!(heat.warmth(3), heat.warmth(5), "something is known of it");
        assert_eq!(heat.liked(&(0..20)), [2, 3, 4, 5]);
        // What comes after them under the same numbers is of nobody.
        heat.forget(&(2..5));
        used(&mut heat, &table, 2);
        assert!(heat.warmth(2) > 0.0 && heat.warmth(3) == 0.0);
    }

    #[test]
    fn what_was_read_for_the_next_layer_is_in_use_until_that_is_computed() {
        let table = table();
        let mut heat = Heat::default();
        used(&mut heat, &table, 0);
        heat.renew(15);
        let many = |heat: &mut Heat, slice| (0..=IN_USE).for_each(|_| used(heat, &table, slice));
        many(&mut heat, 1);
        assert!(heat.is_in_use(&table, 15, 1000) && !heat.is_in_use(&table, 15, 2 * IN_USE));
        many(&mut heat, 11);
        many(&mut heat, 1);
        assert!(!heat.is_in_use(&table, 15, 1000), "the next pass");
    }

    #[test]
    fn affinity_tells_apart_what_was_chosen_as_often() {
        let table = table();
        let mut heat = Heat::default();
        for slice in [3, 4] {
            used(&mut heat, &table, slice);
        }
        heat.affine([(4, 0.5)]);
        heat.affine([(5, 0.5)]);
        assert!(heat.warmth(4) > heat.warmth(3) && heat.warmth(5) > 0.0);
        assert_eq!(heat.liked(&(0..20)), [4, 3], "nobody has used the other");
        let ratio = |heat: &Heat| heat.warmth(5) / heat.warmth(3);
        let before = ratio(&heat);
        passes(&mut heat, &table, AFFINITY_HALF_LIFE_PASSES as u32, 1);
        assert!(ratio(&heat) < before, "it is older sooner");
        heat.forget(&(0..5));
        assert!(heat.warmth(4) == 0.0 && heat.warmth(5) > 0.0);
    }
}
