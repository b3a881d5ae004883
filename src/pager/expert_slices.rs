//! Expert slices: the part of an expert tensor that one expert is.
//!
//! Who touches a slice will read the rest of it, and the same expert's slices of the layer's other
//! tensors. Slices lie side by side without regard to pages, so neighbours share the page between them:
//! the *edge*. What belongs to one slice alone is its *interior*.

use std::collections::BTreeSet;
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::piece::Piece;
use super::region::PAGE;
use crate::policy::Role;

/// Smaller slices are not worth a read each.
const INTERIOR_MIN: u64 = 64 << 10;

/// Sizes of slices at most, if they are to be blocks: each has slots of its own in the pool.
const SIZES_MAX: usize = 12;

/// The slice of one expert in one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Bytes of the file.
    pub bytes: Range<u64>,
    /// Layer number.
    pub layer: u32,
    /// The expert.
    pub expert: u32,
    /// Indexes of the blocks that hold a part of it; none until [`Slices::place`] has been called.
    pub blocks: Range<u32>,
    /// Those of them that hold more than its edges.
    pub inner: Range<u32>,
}

impl Slice {
    /// The pages that no other slice has a part of.
    pub fn interior(&self) -> Range<u64> {
        let page = PAGE as u64;
        let start = self.bytes.start.next_multiple_of(page);
        start..(self.bytes.end / page * page).max(start)
    }

    /// The most that the interior of a slice of this size can be, wherever it lies.
    pub fn interior_max(&self) -> u64 {
        (self.bytes.end - self.bytes.start) / PAGE as u64 * PAGE as u64
    }
}

/// All slices of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slices {
    /// By offset.
    all: Vec<Slice>,
    /// Indexes of `all` by layer and expert, in the expected order of reading.
    siblings: FxHashMap<(u32, u32), Vec<u32>>,
    /// Experts by layer.
    experts: FxHashMap<u32, usize>,
}

impl Slices {
    /// The slices among `pieces` that lie in `extent` as a whole.
    pub fn of(pieces: &[Piece], extent: &Range<u64>) -> Slices {
        let slice = |piece: &Piece| {
            let Role::Expert { layer } = piece.role else { return None };
            let inside = extent.start <= piece.bytes.start && piece.bytes.end <= extent.end && !piece.bytes.is_empty();
            inside.then_some(Slice {
                bytes: piece.bytes.clone(),
                layer,
                expert: piece.expert?,
                blocks: 0..0,
                inner: 0..0,
            })
        };
        let read_order: Vec<Slice> = pieces.iter().filter_map(slice).collect();
        let mut slices = Slices { all: read_order.clone(), ..Slices::default() };
        slices.all.sort_by_key(|slice| slice.bytes.start);
        for slice in &read_order {
            let index = slices.all.partition_point(|other| other.bytes.start < slice.bytes.start) as u32;
            slices.siblings.entry((slice.layer, slice.expert)).or_default().push(index);
        }
        for (layer, _) in slices.siblings.keys() {
            *slices.experts.entry(*layer).or_default() += 1;
        }
        slices
    }

    /// `blocks_of` says which blocks hold a part of some bytes.
    pub fn place(&mut self, blocks_of: impl Fn(&Range<u64>) -> Range<u32>) {
        for slice in &mut self.all {
            slice.blocks = blocks_of(&slice.bytes);
            let interior = slice.interior();
            slice.inner = if interior.is_empty() { slice.blocks.clone() } else { blocks_of(&interior) };
        }
    }

    /// The slices of each expert: the first one of every layer, then the second.
    pub fn by_expert(&self) -> impl Iterator<Item = impl Iterator<Item = &Slice>> {
        let mut families: Vec<(u32, u32)> = self.siblings.keys().copied().collect();
        families.sort_unstable_by_key(|&(layer, expert)| (expert, layer));
        families.into_iter().map(|(layer, expert)| self.of_expert(layer, expert))
    }

    /// How many experts of `layer` have slices here.
    pub fn experts(&self, layer: u32) -> usize {
        self.experts.get(&layer).copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The slices whose interiors are to be blocks, by offset: none where they are of very many sizes.
    pub fn as_blocks(&self) -> &[Slice] {
        let sizes: BTreeSet<u64> = self.all.iter().map(Slice::interior_max).collect();
        let overlap = self.all.windows(2).any(|pair| pair[0].bytes.end > pair[1].bytes.start);
        let fit = sizes.len() <= SIZES_MAX
            && sizes.first().is_some_and(|&least| least >= INTERIOR_MIN)
            && sizes.last().is_some_and(|&most| most <= u64::from(u32::MAX));
        if fit && !overlap { &self.all } else { &[] }
    }

    /// The slices that have a part of `bytes`.
    pub fn over(&self, bytes: Range<u64>) -> impl Iterator<Item = &Slice> {
        let first = self.all.partition_point(|slice| slice.bytes.end <= bytes.start);
        self.all[first..].iter().take_while(move |slice| slice.bytes.start < bytes.end)
    }

    /// The slice that all of `bytes` lie in: none where two share them, and beside slices.
    pub fn around(&self, bytes: Range<u64>) -> Option<&Slice> {
        self.index_around(bytes).map(|at| &self.all[at])
    }

    fn index_around(&self, bytes: Range<u64>) -> Option<usize> {
        let at = self.all.partition_point(|slice| slice.bytes.end <= bytes.start);
        let slice = self.all.get(at)?;
        let inside = slice.bytes.start <= bytes.start && bytes.start < bytes.end && bytes.end <= slice.bytes.end;
        inside.then_some(at)
    }

    /// The slices that will be read soon by whoever touches the page at file offset `offset` now, in the
    /// expected order: this one and those of the same expert that come after it. None outside of expert
    /// tensors, and where two slices share the page: whose touch it is, the page does not tell.
    pub fn from(&self, offset: u64) -> impl Iterator<Item = &Slice> {
        let page = offset / PAGE as u64 * PAGE as u64;
        let at = self.index_around(page..page + PAGE as u64);
        let slice = at.map(|at| &self.all[at]);
        let family = slice.and_then(|slice| self.siblings.get(&(slice.layer, slice.expert)));
        let later = family.into_iter().flatten().skip_while(move |&&index| Some(index as usize) != at);
        later.map(|&index| &self.all[index as usize])
    }

    /// The slices of `expert` in `layer`, in the expected order of reading.
    pub fn of_expert(&self, layer: u32, expert: u32) -> impl Iterator<Item = &Slice> {
        self.siblings.get(&(layer, expert)).into_iter().flatten().map(|&index| &self.all[index as usize])
    }

    /// The slices that are read when `experts` of `layer` are computed, in that order: tensor by tensor,
    /// as the experts are given.
    pub fn chosen(&self, layer: u32, experts: &[u32]) -> Vec<&Slice> {
        let families = experts.iter().filter_map(|&expert| self.siblings.get(&(layer, expert)));
        let families: Vec<&Vec<u32>> = families.collect();
        let tensors = families.iter().map(|family| family.len()).max().unwrap_or(0);
        let of_tensor = |tensor: usize| families.iter().filter_map(move |family| family.get(tensor));
        (0..tensors).flat_map(of_tensor).map(|&index| &self.all[index as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_in_a_slice_or_between_slices() {
        // Four experts of 100 bytes each, and one that reaches beyond the view.
        let piece = |expert: u32| {
            let start = 1000 + 100 * u64::from(expert);
            Piece { bytes: start..start + 100, role: Role::Expert { layer: 0 }, expert: Some(expert) }
        };
        let slices = Slices::of(&(0..5).map(piece).collect::<Vec<_>>(), &(0..1450));
        let of = |bytes| slices.around(bytes).map(|slice| slice.expert);
        assert_eq!([of(1000..1100), of(1010..1020), of(1300..1400)], [Some(0), Some(0), Some(3)]);
        // Over a border, before the first, behind the last, and empty.
        assert_eq!([of(1099..1101), of(999..1010), of(1399..1401), of(1400..1410), of(1010..1010)], [None; 5]);
        let over = |bytes| slices.over(bytes).map(|slice| slice.expert).collect::<Vec<_>>();
        assert_eq!([over(1099..1201), over(1100..1200), over(0..1001)], [vec![0, 1, 2], vec![1], vec![0]]);
        assert!(over(900..1000).is_empty() && over(1400..1500).is_empty());
    }
}
