//! From a model's tensors to blocks: which file extents are paged as a unit, and in which order the
//! computation is expected to need them.
//!
//! The file is cut at multiples of 2 MiB into *cells*, so that a cell can be one huge page. A cell
//! is one block, except where an embedding table covers it whole: single rows of that are read at
//! random, so it is cut into small blocks.

use std::ops::Range;

use super::region::{HUGE, page_ceil};
use crate::policy::{Block, Role};

/// Size of a block of embedding rows, in bytes.
pub const ROW_BLOCK: usize = 16 << 10;

/// A part of the file with one role, in the expected order of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the file.
    pub bytes: Range<u64>,
    /// What it holds.
    pub role: Role,
}

/// The blocks of one view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// In file order; `view` is left 0.
    pub blocks: Vec<Block>,
    /// For each cell the index of its first block.
    cells: Vec<u32>,
    /// File offset of the first cell: a multiple of 2 MiB.
    base: u64,
    /// Indexes of cyclic blocks in the expected order of reading. A block that several tensors
    /// share occurs once for each time that it is expected to be read anew.
    pub order: Vec<u32>,
}

impl Layout {
    /// Cuts the file extent `extent` (start page aligned, end rounded up to a page) into blocks.
    /// Without pieces everything is cyclic, in file order.
    pub fn new(extent: Range<u64>, pieces: &[Piece]) -> Layout {
        let end = extent.start + page_ceil((extent.end - extent.start) as usize) as u64;
        let base = extent.start / HUGE as u64 * HUGE as u64;
        let count = (end - base).div_ceil(HUGE as u64) as usize;
        let mut layout = Layout { base, ..Layout::default() };
        let roles = cell_roles(base, count, pieces);
        for (cell, role) in roles.iter().enumerate() {
            layout.cells.push(layout.blocks.len() as u32);
            let start = (base + (cell * HUGE) as u64).max(extent.start);
            let stop = (base + ((cell + 1) * HUGE) as u64).min(end);
            let step = if *role == Role::Row { ROW_BLOCK } else { HUGE };
            let mut offset = start;
            while offset < stop {
                let len = (stop - offset).min(step as u64 - offset % step as u64) as u32;
                let frame_bytes = step as u32;
                layout.blocks.push(Block { view: 0, offset, len, frame_bytes, role: *role });
                offset += u64::from(len);
            }
        }
        layout.order = layout.expected_order(pieces);
        layout
    }

    /// The index of the block that holds the byte at file offset `offset`, which must lie in the
    /// extent.
    pub fn index_at(&self, offset: u64) -> Option<u32> {
        let cell = offset.checked_sub(self.base)? as usize / HUGE;
        let first = *self.cells.get(cell)?;
        let block = self.blocks.get(first as usize)?;
        if block.frame_bytes as usize == HUGE {
            return (offset >= block.offset).then_some(first);
        }
        let step = u64::from(block.frame_bytes);
        let skipped = (offset / step).checked_sub(block.offset / step)?;
        let index = first + skipped as u32;
        ((index as usize) < self.blocks.len()).then_some(index)
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

/// The role of each cell: what a cell holds of the most demanding kind. A cell that any cyclic
/// tensor reaches into is cyclic; else experts make it an expert cell; a cell is a row cell only if
/// nothing but embedding rows (or nothing at all) lies in it.
fn cell_roles(base: u64, count: usize, pieces: &[Piece]) -> Vec<Role> {
    let mut roles: Vec<Option<Role>> = vec![None; count];
    let rank = |role: &Role| match role {
        Role::Cyclic => 2,
        Role::Expert { .. } => 1,
        Role::Row => 0,
    };
    for piece in pieces.iter().filter(|piece| !piece.bytes.is_empty() && piece.bytes.end > base) {
        let first = (piece.bytes.start.max(base) - base) as usize / HUGE;
        let last = (piece.bytes.end - 1 - base) as usize / HUGE;
        for role in roles.iter_mut().take(last + 1).skip(first) {
            if role.is_none_or(|old| rank(&piece.role) > rank(&old)) {
                *role = Some(piece.role);
            }
        }
    }
    roles.into_iter().map(|role| role.unwrap_or(Role::Cyclic)).collect()
}

#[cfg(test)]
mod tests {
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
            Piece { bytes: M / 2..3 * M + M / 2, role: Role::Row },
            Piece { bytes: 3 * M + M / 2..4 * M, role: Role::Cyclic },
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
    fn a_block_shared_by_two_tensors_far_apart_is_expected_twice() {
        let pieces = [
            Piece { bytes: 0..20 * M + 5, role: Role::Cyclic },
            Piece { bytes: 40 * M..60 * M, role: Role::Cyclic },
            Piece { bytes: 20 * M + 5..40 * M, role: Role::Cyclic },
        ];
        let layout = Layout::new(0..60 * M, &pieces);
        assert_eq!(layout.order.iter().filter(|&&index| index == 20).count(), 2);
        assert_eq!(layout.order.len(), 61);
    }
}
