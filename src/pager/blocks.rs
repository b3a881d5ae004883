//! From a model's tensors to blocks: which file extents are paged as a unit, and in which order the
//! computation is expected to need them.
//!
//! The file is cut at multiples of 2 MiB into *cells*, so that a cell can be one huge page. A cell
//! is one block, except where nothing in it is read from end to end: embedding tables, of which
//! single rows are read, are cut into smaller blocks.
//!
//! Of expert tensors the router chooses [slices](super::expert_slices): the interior of a slice is a block, and
//! the page between two slices another, so that reading one expert reads no other. What of a cell
//! lies beside slices is cut into pieces that are whole frames of a power of two.
//!
//! Strategy `observe` has cells of another size, its grain, and nothing else.

use std::ops::Range;

use super::cells::Cells;
use super::expert_slices::{Slice, Slices};
use super::piece::Piece;
use super::region::{HUGE, PAGE, page_ceil};
use crate::policy::{Block, BlockId, Role};

/// The blocks of one view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// In file order, without gaps; `view` is left 0.
    pub blocks: Vec<Block>,
    /// Indexes of cyclic blocks in the expected order of reading. A block that several tensors
    /// share occurs once for each time that it is expected to be read anew.
    pub order: Vec<u32>,
    slices: Slices,
}

impl Layout {
    /// Cuts the file extent `extent` (start page aligned, end rounded up to a page) into blocks.
    /// Without pieces everything is cyclic, in file order.
    pub fn new(extent: Range<u64>, pieces: &[Piece]) -> Layout {
        Layout::with_grain(extent, pieces, HUGE)
    }

    /// As [`Layout::new`], with no block larger than `grain` bytes: a power of two from a page to 2 MiB.
    pub fn with_grain(extent: Range<u64>, pieces: &[Piece], grain: usize) -> Layout {
        let extent = extent.start..extent.start + page_ceil((extent.end - extent.start) as usize) as u64;
        let mut slices = Slices::of(pieces, &extent);
        let whole = if grain == HUGE { slices.as_blocks() } else { &[] };
        let mut cells = Cells::new(extent.clone(), pieces, grain, whole);
        let mut before: Option<&Slice> = None;
        for slice in whole {
            let interior = slice.interior();
            let role = Role::Expert { layer: slice.layer };
            let gap = cells.at..interior.start;
            match before {
                Some(before) if cells.is_edge(before, slice) => cells.push(gap, PAGE, role),
                _ => cells.cut(gap),
            }
            cells.push(interior, slice.interior_max() as usize, role);
            before = Some(slice);
        }
        cells.cut(cells.at..extent.end);
        let mut layout = Layout { blocks: cells.blocks, order: Vec::new(), slices: Slices::default() };
        slices.place(|bytes| layout.blocks_of(bytes));
        layout.slices = slices;
        layout.order = layout.expected_order(pieces);
        layout
    }

    /// The blocks that will be read soon by whoever touches the page at file offset `offset` now, in the
    /// expected order: the rest of an expert's slice and the slices of the same expert that come after it.
    /// None outside of expert tensors, and where two slices share the page.
    pub fn companions(&self, offset: u64) -> impl Iterator<Item = u32> + '_ {
        self.slices.from(offset).flat_map(|slice| slice.blocks.clone())
    }

    /// The blocks that are read when `experts` of `layer` are computed, in that order: tensor by tensor,
    /// as the experts are given.
    pub fn chosen(&self, layer: u32, experts: &[u32]) -> impl Iterator<Item = u32> + '_ {
        self.slices.chosen(layer, experts).into_iter().flat_map(|slice| slice.blocks.clone())
    }

    /// The blocks of all slices, expert by expert: the first of every layer, then the second. What two slices
    /// share comes once and alone, behind the expert that is before it in the file. The first block of the view is `first`.
    pub fn by_expert(&self, first: BlockId) -> Vec<Vec<BlockId>> {
        let mut experts = Vec::new();
        for family in self.slices.by_expert() {
            let mut own = Vec::new();
            let mut shared = Vec::new();
            for slice in family {
                for index in slice.blocks.clone() {
                    let block = self.blocks[index as usize];
                    let is_shared = block.offset + u64::from(block.len) > slice.bytes.end;
                    if block.offset >= slice.bytes.start {
                        if is_shared { &mut shared } else { &mut own }.push(first + index);
                    }
                }
            }
            experts.extend([own].into_iter().chain(shared.into_iter().map(|index| vec![index])));
        }
        experts
    }

    /// Whether there are expert slices.
    pub fn has_experts(&self) -> bool {
        !self.slices.is_empty()
    }

    /// The expert slices.
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// Indexes of the blocks that hold a part of `bytes`, which are not empty.
    pub fn blocks_of(&self, bytes: &Range<u64>) -> Range<u32> {
        let ends = self.index_at(bytes.start).zip(self.index_at(bytes.end - 1));
        ends.map_or(0..0, |(first, last)| first..last + 1)
    }

    /// The index of the block that holds the byte at file offset `offset`, which must lie in the
    /// extent.
    pub fn index_at(&self, offset: u64) -> Option<u32> {
        let index = self.blocks.partition_point(|block| block.offset <= offset).checked_sub(1)?;
        let block = self.blocks[index];
        (offset < block.offset + u64::from(block.len)).then_some(index as u32)
    }

    fn expected_order(&self, pieces: &[Piece]) -> Vec<u32> {
        let cyclic = |index: u32| self.blocks[index as usize].role == Role::Cyclic;
        if pieces.is_empty() {
            return (0..self.blocks.len() as u32).filter(|&index| cyclic(index)).collect();
        }
        /// Blocks named this recently are still in memory when the next tensor begins.
        const NEAR: usize = 16;
        let mut order: Vec<u32> = Vec::with_capacity(self.blocks.len());
        for piece in pieces.iter().filter(|piece| piece.role == Role::Cyclic && !piece.bytes.is_empty()) {
            let Some(last) = self.index_at(piece.bytes.end - 1) else { continue };
            let first = self.index_at(piece.bytes.start).unwrap_or(0);
            for index in (first..=last).filter(|&index| cyclic(index)) {
                let recent = &order[order.len().saturating_sub(NEAR)..];
                if !recent.contains(&index) {
                    order.push(index);
                }
            }
        }
        order
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
