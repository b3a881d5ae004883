//! Reuse distances and miss-ratio curves.
//!
//! The stack distance of a touch is the number of distinct bytes touched since the last touch of the
//! same block, that block included: LRU memory of at least that size hits (R. L. Mattson et al.,
//! "Evaluation techniques for storage hierarchies", 1970). It is counted with a Fenwick tree over the
//! times of the last touches, in O(n log n) (F. Olken, "Efficient methods for calculating the success
//! function of fixed space replacement policies", 1981; P. Bennett and V. Kruskal, 1975).
//!
//! Long logs are sampled by block, not by touch, and distances scaled up (C. Waldspurger et al.,
//! "Efficient MRC construction with SHARDS", 2015).

use std::collections::HashMap;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::blocks::{Blocks, PlaceId};
use super::distribution::{Counter, Distribution};
use crate::policy::{Block, BlockId, BlockTable};
use crate::sim::min_bytes;

/// Touches that are kept at most.
const TOUCHES_MAX: usize = 1 << 19;

/// Memory sizes at which the curves are drawn.
const SIZES: u64 = 20;

/// Collects the touches of the whole log, or of a sample of its blocks.
#[derive(Default)]
pub struct Reuse {
    sequence: Vec<PlaceId>,
    /// One block of 2^halvings is in the sample.
    halvings: u32,
    touches: u64,
    bytes: u64,
}

fn in_sample(place: PlaceId, halvings: u32) -> bool {
    xxh3_64(&place.to_le_bytes()).trailing_zeros() >= halvings
}

impl Reuse {
    /// `place` of `bytes` bytes was touched.
    pub fn touched(&mut self, place: PlaceId, bytes: u32) {
        self.touches += 1;
        self.bytes += u64::from(bytes);
        if !in_sample(place, self.halvings) {
            return;
        }
        self.sequence.push(place);
        while self.sequence.len() > TOUCHES_MAX && self.halvings < 63 {
            self.halvings += 1;
            self.sequence.retain(|&place| in_sample(place, self.halvings));
        }
    }

    /// Bytes of all touches.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The figures.
    pub fn finish(&self, blocks: &Blocks) -> MissRatios {
        let scale = 1u64 << self.halvings;
        let (table, sequence) = dense(blocks, &self.sequence);
        let len = |id: BlockId| u64::from(table.block(id).len);
        let distances = stack_distances(&sequence, table.len(), len);
        let mut distribution = Counter::default();
        let mut first_touches = 0;
        for distance in &distances {
            match distance {
                Some(bytes) => distribution.add(bytes.saturating_mul(scale)),
                None => first_touches += 1,
            }
        }
        let bytes: u64 = sequence.iter().map(|&id| len(id)).sum();
        let footprint: u64 = (0..table.len() as BlockId).map(len).sum();
        let ratio = |missed: u64| if bytes > 0 { missed as f64 / bytes as f64 } else { 0.0 };
        let sizes = (1..=SIZES).map(|step| footprint * step / SIZES);
        let curve = sizes.filter(|_| bytes > 0).map(|size| {
            let missed = |(_, distance): &(&BlockId, &Option<u64>)| distance.is_none_or(|distance| distance > size);
            let lru = sequence.iter().zip(&distances).filter(missed).map(|(&id, _)| len(id)).sum();
            let belady = min_bytes(&table, &sequence, size, &[]).iter().sum();
            RatioAt { memory_bytes: size.saturating_mul(scale), lru: ratio(lru), belady: ratio(belady) }
        });
        MissRatios {
            touches: self.touches,
            touched_bytes: self.bytes,
            footprint_bytes: footprint.saturating_mul(scale),
            sampled_blocks: 1.0 / scale as f64,
            first_touches: first_touches * scale,
            distance_bytes: distribution.finish(),
            curve: curve.collect(),
        }
    }
}

/// The same touches with blocks numbered from 0 on, and their table.
fn dense(blocks: &Blocks, sequence: &[PlaceId]) -> (BlockTable, Vec<BlockId>) {
    let mut ids: HashMap<PlaceId, BlockId> = HashMap::new();
    let mut list = Vec::new();
    let sequence = sequence.iter().map(|&id| {
        *ids.entry(id).or_insert_with(|| {
            let place = blocks.place(id);
            // Frames are as long as what they hold: the curves are of the log's bytes.
            list.push(Block {
                view: 0,
                offset: place.offset,
                len: place.len,
                frame_bytes: place.len,
                role: place.kind,
            });
            list.len() as BlockId - 1
        })
    });
    let sequence = sequence.collect();
    let mut table = BlockTable::default();
    table.add(&list);
    (table, sequence)
}

/// The stack distance of each touch, in bytes; `None` for the first touch of a block. Blocks are
/// numbers below `blocks`.
fn stack_distances(sequence: &[BlockId], blocks: usize, len: impl Fn(BlockId) -> u64) -> Vec<Option<u64>> {
    let mut last = vec![None; blocks];
    let mut tree = Fenwick(vec![0; sequence.len() + 1]);
    let touches = sequence.iter().enumerate().map(|(at, &id)| {
        let before = last[id as usize].replace(at);
        let distance = before.map(|before| {
            let between = tree.sum(at) - tree.sum(before + 1);
            tree.add(before, -(len(id) as i64));
            between as u64 + len(id)
        });
        tree.add(at, len(id) as i64);
        distance
    });
    touches.collect()
}

/// Prefix sums that change (P. M. Fenwick, "A new data structure for cumulative frequency tables",
/// 1994).
struct Fenwick(Vec<i64>);

impl Fenwick {
    fn add(&mut self, at: usize, value: i64) {
        let mut index = at + 1;
        while index < self.0.len() {
            self.0[index] += value;
            index += index & index.wrapping_neg();
        }
    }

    /// Sum of the first `count` values.
    fn sum(&self, count: usize) -> i64 {
        let (mut index, mut sum) = (count, 0);
        while index > 0 {
            sum += self.0[index];
            index &= index - 1;
        }
        sum
    }
}

/// Reuse of blocks, and what memory of each size would have missed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MissRatios {
    /// Touches, those of blocks that stayed in the view included.
    pub touches: u64,
    /// Their bytes.
    pub touched_bytes: u64,
    /// Distinct bytes touched.
    pub footprint_bytes: u64,
    /// Share of the blocks that the figures are of.
    pub sampled_blocks: f64,
    /// Touches of blocks that were not touched before.
    pub first_touches: u64,
    /// Stack distances of the others, in bytes.
    pub distance_bytes: Distribution,
    /// Miss ratios by size of the memory.
    pub curve: Vec<RatioAt>,
}

/// Share of the touched bytes that a memory misses which starts empty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RatioAt {
    /// Size of the memory, in bytes.
    pub memory_bytes: u64,
    /// Of the least recently used blocks.
    pub lru: f64,
    /// The least that any policy can miss (L. A. Belady, 1966).
    pub belady: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::view;
    use crate::trace::Item;
    use proptest::prelude::*;

    fn blocks_of(count: u32) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.follow(&Item::View(Box::new(view(count))));
        blocks
    }

    proptest! {
        /// Against a list of the blocks in the order of their last touches.
        #[test]
        fn distances_are_those_of_a_stack(sequence in prop::collection::vec(0u32..12, 0..200)) {
            let len = |id: BlockId| u64::from(id) % 3 + 1;
            let mut stack: Vec<BlockId> = Vec::new();
            let expected: Vec<Option<u64>> = sequence.iter().map(|&id| {
                let depth = stack.iter().position(|&other| other == id);
                let distance = depth.map(|depth| stack[..=depth].iter().map(|&id| len(id)).sum());
                depth.map(|depth| stack.remove(depth));
                stack.insert(0, id);
                distance
            }).collect();
            prop_assert_eq!(stack_distances(&sequence, 12, len), expected);
        }
    }

    #[test]
    fn a_cycle_larger_than_the_memory_is_the_worst_for_lru() {
        let blocks = blocks_of(10);
        let mut reuse = Reuse::default();
        for place in (0..4).flat_map(|_| 0..10) {
            reuse.touched(place, blocks.place(place).len);
        }
        let found = reuse.finish(&blocks);
        assert_eq!((found.touches, found.first_touches, found.sampled_blocks), (40, 10, 1.0));
        let footprint = found.footprint_bytes;
        // To three digits.
        assert!((found.distance_bytes.min as f64 / footprint as f64 - 1.0).abs() < 2e-3);
        assert!((found.distance_bytes.max as f64 / footprint as f64 - 1.0).abs() < 2e-3);
        let at = |share: f64| found.curve.iter().find(|it| it.memory_bytes as f64 >= share * footprint as f64).unwrap();
        assert_eq!((at(0.5).lru, at(1.0).lru, at(1.0).belady), (1.0, 0.25, 0.25));
        // Of ten blocks nine can be the same ones each time: Belady misses 10 + 3 x (10 - 5 + 1) at most.
        assert!(at(0.5).belady <= 28.0 / 40.0 && at(0.5).belady >= 25.0 / 40.0, "{:?}", at(0.5));
    }

    #[test]
    fn long_logs_are_sampled_by_block() {
        let blocks = blocks_of(4096);
        let mut reuse = Reuse::default();
        for place in (0..200).flat_map(|_| 0..4096) {
            reuse.touched(place, blocks.place(place).len);
        }
        assert!(reuse.sequence.len() <= TOUCHES_MAX);
        let found = reuse.finish(&blocks);
        assert_eq!((found.touches, found.sampled_blocks), (4096 * 200, 0.5));
        let footprint = 4096.0 * f64::from(blocks.place(0).len);
        assert!((found.footprint_bytes as f64 / footprint - 1.0).abs() < 0.1);
        assert!((found.distance_bytes.p50 as f64 / footprint - 1.0).abs() < 0.1);
    }
}
