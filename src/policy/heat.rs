//! How warm slices are: how soon their experts will probably be chosen again.
//!
//! Two averages over the passes through the layers, of which recent ones count more, are added: how often a router chose the
//! expert, and how near it came to that ([`affinity`](crate::pager::affinity)), where that is known. The second tells
//! apart what was chosen equally often, and knows experts that nobody has chosen yet. A pass is a token, or a batch of them.

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

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    uses: Average,
    affinity: Average,
    /// The pass in which it was new last, and the clock then; none when it never was.
    new: Option<(u32, u64)>,
}

/// The warmth of all slices.
#[derive(Debug, Default)]
pub(super) struct Heat {
    slices: Vec<Slice>,
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

    /// From 0 to 2.
    pub fn warmth(&self, id: BlockId) -> f32 {
        let Some(slice) = self.slices.get(id as usize) else { return 0.0 };
        slice.uses.at(self.pass, HALF_LIFE_PASSES) + slice.affinity.at(self.pass, AFFINITY_HALF_LIFE_PASSES)
    }

    fn slice(&mut self, id: BlockId) -> &mut Slice {
        if self.slices.len() <= id as usize {
            self.slices.resize(id as usize + 1, Slice::default());
        }
        &mut self.slices[id as usize]
    }

    /// `id` was used, by `share` of the tokens of this pass.
    pub fn used(&mut self, table: &BlockTable, id: BlockId, share: f64) {
        self.clock += 1;
        let layer = table.layer(id).unwrap_or(self.layer);
        let begins = layer < std::mem::replace(&mut self.layer, layer);
        // What counts for nothing makes nothing old.
        self.pass += u32::from(begins && share > 0.0);
        let pass = self.pass;
        self.slice(id).uses.add(pass, HALF_LIFE_PASSES, share as f32);
        self.renew(id);
    }

    /// In this pass the expert of `id` came so near to being chosen.
    pub fn affine(&mut self, id: BlockId, affinity: f32) {
        let pass = self.pass;
        self.slice(id).affinity.add(pass, AFFINITY_HALF_LIFE_PASSES, affinity);
    }

    /// `id` is as new as if it were used now.
    pub fn renew(&mut self, id: BlockId) {
        self.slice(id).new = Some((self.pass, self.clock));
    }

    /// An earlier run used `id`, for which this is as good as `uses` uses, unless something is known of it.
    pub fn recall(&mut self, id: BlockId, uses: f32) {
        if self.slice(id).new.is_none() {
            let pass = self.pass;
            self.slice(id).uses.add(pass, HALF_LIFE_PASSES, uses);
            self.renew(id);
        }
    }

    /// What of `ids` has been used, the warmest first.
    pub fn liked(&self, ids: &Range<BlockId>) -> Vec<BlockId> {
        let is_used = |&id: &BlockId| self.slices.get(id as usize).is_some_and(|slice| slice.uses.value > 0.0);
        let mut liked: Vec<(f32, BlockId)> = ids.clone().filter(is_used).map(|id| (self.warmth(id), id)).collect();
        liked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        liked.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether `id` is in use, or one of the newest; where `held` blocks are held.
    pub fn is_in_use(&self, table: &BlockTable, id: BlockId, held: u64) -> bool {
        let Some((pass, clock)) = self.slices.get(id as usize).and_then(|slice| slice.new) else { return false };
        let computed_now =
            pass == self.pass && table.layer(id).is_some_and(|layer| layer.wrapping_sub(self.layer) <= 1);
        self.clock - clock < if computed_now { held / 2 } else { IN_USE.min(held / 2) }
    }

    /// `ids` are gone.
    pub fn forget(&mut self, ids: &Range<BlockId>) {
        let end = self.slices.len().min(ids.end as usize);
        if let Some(slices) = self.slices.get_mut(ids.start as usize..end) {
            slices.fill(Slice::default());
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

    fn passes(heat: &mut Heat, table: &BlockTable, count: u32, uses: u32) {
        for _ in 0..count {
            for layer in [0, 1] {
                (1..=uses).for_each(|slice| heat.used(table, 10 * layer + slice, 1.0));
            }
        }
    }

    #[test]
    fn an_old_use_counts_half_after_some_passes_however_many_uses_they_have() {
        let table = table();
        for uses in [1, 9] {
            let mut heat = Heat::default();
            [0, 19].iter().for_each(|&slice| heat.used(&table, slice, 1.0));
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
            (11..=15).for_each(|slice| heat.affine(slice, 1.0));
        }
        assert!((heat.warmth(15) - 2.0).abs() < 1e-2 && (heat.warmth(16) - 1.0).abs() < 1e-2);
        assert_eq!(heat.warmth(10), 0.0);
    }

    #[test]
    fn what_was_read_for_the_next_layer_is_in_use_until_that_is_computed() {
        let table = table();
        let mut heat = Heat::default();
        heat.used(&table, 0, 1.0);
        heat.renew(15);
        let many = |heat: &mut Heat, slice| (0..=IN_USE).for_each(|_| heat.used(&table, slice, 1.0));
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
            heat.used(&table, slice, 1.0);
        }
        heat.affine(4, 0.5);
        heat.affine(5, 0.5);
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
