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
use crate::policy::{Block, Role};

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
    /// share comes once, with the one before it in the file.
    pub fn by_expert(&self) -> impl Iterator<Item = u32> + '_ {
        self.slices.by_expert().flat_map(|slice| {
            slice.blocks.clone().filter(|&index| self.blocks[index as usize].offset >= slice.bytes.start)
        })
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
mod tests {
    use super::super::piece::{EXPERT_BLOCK, ROW_BLOCK};
    use super::*;

    const M: u64 = HUGE as u64;

    #[test]
    fn a_plain_file_is_read_in_file_order() {
        let layout = Layout::new(0..5 * M + 100, &[]);
        assert_eq!(layout.blocks.len(), 6);
        assert_eq!(layout.blocks[5].len, 4096);
        assert_eq!(layout.order, [0, 1, 2, 3, 4, 5]);
        assert_eq!(layout.index_at(5 * M + 99), Some(5));
        assert_eq!(layout.index_at(6 * M), None);
    }

    #[test]
    fn a_mapping_may_begin_inside_a_cell() {
        let layout = Layout::new(3 * M + 8192..5 * M, &[]);
        assert_eq!(layout.blocks[0].offset, 3 * M + 8192);
        assert_eq!(layout.blocks[0].len as u64, M - 8192);
        assert_eq!(layout.index_at(3 * M + 8192), Some(0));
        assert_eq!(layout.index_at(4 * M), Some(1));
        assert_eq!(layout.index_at(3 * M), None);
    }

    #[test]
    fn embedding_rows_are_small_blocks_where_they_fill_a_cell() {
        let pieces = [
            Piece { bytes: M / 2..3 * M + M / 2, role: Role::Row, expert: None },
            Piece { bytes: 3 * M + M / 2..4 * M, role: Role::Cyclic, expert: None },
        ];
        let layout = Layout::new(0..4 * M, &pieces);
        let per_cell = HUGE / ROW_BLOCK;
        // Three cells of rows (the first with the header's half), one shared with a matrix.
        assert_eq!(layout.blocks.len(), 3 * per_cell + 1);
        for (index, block) in layout.blocks.iter().enumerate() {
            for offset in [block.offset, block.offset + u64::from(block.len) - 1] {
                assert_eq!(layout.index_at(offset), Some(index as u32));
            }
        }
        assert_eq!(layout.order, [3 * per_cell as u32]);
    }

    #[test]
    fn a_grain_cuts_every_block() {
        let pieces = [
            Piece { bytes: 0..2 * M, role: Role::Row, expert: None },
            Piece { bytes: 2 * M + M / 2..4 * M + 5, role: Role::Cyclic, expert: None },
            Piece { bytes: 2 * M..2 * M + M / 2, role: Role::Expert { layer: 0 }, expert: Some(0) },
        ];
        for grain in [4096, 65536] {
            let layout = Layout::with_grain(8192..4 * M + 5, &pieces, grain);
            for (index, block) in layout.blocks.iter().enumerate() {
                let most = if block.role == Role::Row { grain.min(ROW_BLOCK) } else { grain };
                assert!(block.frame_bytes as usize == most && block.len <= block.frame_bytes);
                assert_eq!(layout.index_at(block.offset + u64::from(block.len) - 1), Some(index as u32));
            }
            // Nothing is cyclic that the order does not have.
            let cyclic = layout.blocks.iter().filter(|block| block.role == Role::Cyclic).count();
            assert_eq!(cyclic as u64, (M + M / 2).div_ceil(grain as u64) + 1);
            assert_eq!(layout.order.len(), cyclic);
            assert_eq!(layout.index_at(4 * M), Some(layout.blocks.len() as u32 - 1));
        }
    }

    #[test]
    fn a_block_shared_by_two_tensors_far_apart_is_expected_twice() {
        let pieces = [
            Piece { bytes: 0..20 * M + 5, role: Role::Cyclic, expert: None },
            Piece { bytes: 40 * M..60 * M, role: Role::Cyclic, expert: None },
            Piece { bytes: 20 * M + 5..40 * M, role: Role::Cyclic, expert: None },
        ];
        let layout = Layout::new(0..60 * M, &pieces);
        assert_eq!(layout.order.iter().filter(|&&index| index == 20).count(), 2);
        assert_eq!(layout.order.len(), 61);
    }

    #[test]
    fn an_experts_slices_are_companions() {
        // Three tensors of four experts each, a slice 900 000 bytes, in another order than they are read.
        let slice = 900_000u64;
        let tensor = |start: u64| {
            (0..4u32).map(move |expert| Piece {
                bytes: start + u64::from(expert) * slice..start + u64::from(expert + 1) * slice,
                role: Role::Expert { layer: 7 },
                expert: Some(expert),
            })
        };
        let (down, gate, up) = (0, 2 * M, 4 * M);
        let pieces: Vec<Piece> = tensor(gate).chain(tensor(up)).chain(tensor(down)).collect();
        let layout = Layout::new(0..8 * M, &pieces);
        let covers = |ids: &[u32], bytes: Range<u64>| {
            (bytes.start..bytes.end).step_by(4096).all(|offset| ids.contains(&layout.index_at(offset).unwrap()))
        };
        let of = |tensor: u64, expert: u64| tensor + expert * slice..tensor + (expert + 1) * slice;
        let after_gate: Vec<u32> = layout.companions(gate + slice + 5000).collect();
        for tensor in [gate, up, down] {
            assert!(covers(&after_gate, of(tensor, 1)));
        }
        assert!(after_gate.len() <= 3 * 5, "{after_gate:?}");
        let after_up: Vec<u32> = layout.companions(up + slice + 5000).collect();
        assert!(covers(&after_up, of(down, 1)) && !covers(&after_up, of(gate, 1)));
        assert_eq!(layout.companions(8 * M - 1).count(), 0);
        assert_eq!(layout.companions((up + slice) / 4096 * 4096).count(), 0, "whose page it is, is not known");
    }

    #[test]
    fn slices_are_blocks_and_their_edges_are_apart() {
        let slice = 200_001u64;
        let tensor = |start: u64| {
            (0..4u32).map(move |expert| Piece {
                bytes: start + u64::from(expert) * slice..start + u64::from(expert + 1) * slice,
                role: Role::Expert { layer: 3 },
                expert: Some(expert),
            })
        };
        let cyclic = |bytes: Range<u64>| Piece { bytes, role: Role::Cyclic, expert: None };
        let (gate, up) = (300_000, 300_000 + 4 * slice);
        let end = up + 4 * slice;
        let mut pieces = vec![cyclic(0..gate)];
        pieces.extend(tensor(gate).chain(tensor(up)));
        pieces.push(cyclic(end..3 * M));
        let layout = Layout::new(0..3 * M, &pieces);
        let mut at = 0;
        for (index, block) in layout.blocks.iter().enumerate() {
            assert_eq!(block.offset, at, "no gaps");
            at += u64::from(block.len);
            assert_eq!(layout.index_at(at - 1), Some(index as u32));
            assert!(block.len <= block.frame_bytes && block.len + 4096 >= block.frame_bytes, "{block:?}");
        }
        assert_eq!((at, layout.index_at(at)), (3 * M, None));
        let expert_blocks = |len: &dyn Fn(u32) -> bool| {
            layout.blocks.iter().filter(|block| block.role == Role::Expert { layer: 3 } && len(block.len)).count()
        };
        // Eight slices, seven pages between them; the pages at both ends belong to others as well.
        assert_eq!((expert_blocks(&|len| len > 4096), expert_blocks(&|len| len == 4096)), (8, 7));
        let own = |expert: u64| {
            [gate, up].map(|tensor| layout.index_at(tensor + expert * slice + slice / 2).expect("inside"))
        };
        let chosen: Vec<u32> = layout.chosen(3, &[2, 1]).collect();
        let whole = |index: &u32| layout.blocks[*index as usize].len > 4096;
        let of_slices: Vec<u32> = chosen.iter().copied().filter(whole).collect();
        assert_eq!(of_slices, [own(2)[0], own(1)[0], own(2)[1], own(1)[1]], "tensor by tensor, nobody else's");
        let inner: Vec<u32> = layout.slices().of_expert(3, 2).flat_map(|slice| slice.inner.clone()).collect();
        assert_eq!(inner, own(2), "without edges");
        for offset in (gate + slice..gate + 3 * slice).step_by(4096) {
            assert!(chosen.contains(&layout.index_at(offset).expect("inside")));
        }
        assert_eq!(layout.chosen(4, &[1]).count(), 0);
        // What lies beside slices is in the order.
        let cyclic = layout.blocks.iter().filter(|block| block.role == Role::Cyclic).count();
        assert_eq!(layout.order.len(), cyclic);
        assert!(layout.blocks.iter().any(|block| block.frame_bytes == HUGE as u32));
    }

    #[test]
    fn small_slices_are_no_blocks() {
        let pieces: Vec<Piece> = (0..64u32)
            .map(|expert| Piece {
                bytes: u64::from(expert) * 40_000..u64::from(expert + 1) * 40_000,
                role: Role::Expert { layer: 0 },
                expert: Some(expert),
            })
            .collect();
        let layout = Layout::new(0..2 * M, &pieces);
        assert_eq!(layout.blocks.len(), 2 * HUGE / EXPERT_BLOCK);
        for expert in 0..64 {
            let inner: Vec<_> = layout.slices().of_expert(0, expert).map(|slice| slice.inner.clone()).collect();
            assert!(inner.len() == 1 && !inner[0].is_empty(), "{expert}: what is shared counts");
        }
    }
}
