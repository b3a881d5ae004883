//! From a model's tensors to blocks: which file extents are paged as a unit, and in which order the
//! computation is expected to need them.
//!
//! The file is cut at multiples of 2 MiB into *cells*, so that a cell can be one huge page. A cell
//! is one block, except where nothing in it is read from end to end: embedding tables, of which
//! single rows are read, and expert tensors, of which the router chooses slices, are cut into smaller
//! blocks. Who touches a slice will read the rest of it, and the same expert's slices of the layer's
//! other tensors: the block's *companions*.

use std::collections::HashMap;
use std::ops::Range;

use super::region::{HUGE, page_ceil};
use crate::policy::{Block, Role};

/// Size of a block of embedding rows, in bytes.
pub const ROW_BLOCK: usize = 16 << 10;

/// Size of a block of expert slices, in bytes: small beside a slice (about a megabyte), so that
/// little is read besides it, and large enough for a drive.
pub const EXPERT_BLOCK: usize = 256 << 10;

/// The size of blocks of a role, in bytes.
pub fn block_bytes(role: Role) -> usize {
    match role {
        Role::Cyclic => HUGE,
        Role::Row => ROW_BLOCK,
        Role::Expert { .. } => EXPERT_BLOCK,
    }
}

/// A part of the file with one role, in the expected order of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the file.
    pub bytes: Range<u64>,
    /// What it holds.
    pub role: Role,
    /// The expert whose slice it is, if it is one.
    pub expert: Option<u32>,
}

/// The slice of one expert in one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    bytes: Range<u64>,
    layer: u32,
    expert: u32,
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
    /// Expert slices, by offset.
    slices: Vec<Slice>,
    /// Indexes of `slices` by layer and expert, in the expected order of reading.
    siblings: HashMap<(u32, u32), Vec<u32>>,
}

impl Layout {
    /// Cuts the file extent `extent` (start page aligned, end rounded up to a page) into blocks.
    /// Without pieces everything is cyclic, in file order.
    pub fn new(extent: Range<u64>, pieces: &[Piece]) -> Layout {
        Layout::with_grain(extent, pieces, HUGE)
    }

    /// As [`Layout::new`], with no block larger than `grain` bytes: a power of two from a page to 2 MiB.
    pub fn with_grain(extent: Range<u64>, pieces: &[Piece], grain: usize) -> Layout {
        let end = extent.start + page_ceil((extent.end - extent.start) as usize) as u64;
        let base = extent.start / HUGE as u64 * HUGE as u64;
        let count = (end - base).div_ceil(HUGE as u64) as usize;
        let mut layout = Layout { base, ..Layout::default() };
        let roles = cell_roles(base, count, pieces);
        for (cell, role) in roles.iter().enumerate() {
            layout.cells.push(layout.blocks.len() as u32);
            let start = (base + (cell * HUGE) as u64).max(extent.start);
            let stop = (base + ((cell + 1) * HUGE) as u64).min(end);
            let step = block_bytes(*role).min(grain);
            let mut offset = start;
            while offset < stop {
                let len = (stop - offset).min(step as u64 - offset % step as u64) as u32;
                let frame_bytes = step as u32;
                layout.blocks.push(Block { view: 0, offset, len, frame_bytes, role: *role });
                offset += u64::from(len);
            }
        }
        layout.order = layout.expected_order(pieces);
        layout.take_slices(extent.start..end, pieces);
        layout
    }

    fn take_slices(&mut self, extent: Range<u64>, pieces: &[Piece]) {
        let slice = |piece: &Piece| {
            let Role::Expert { layer } = piece.role else { return None };
            let inside = extent.start <= piece.bytes.start && piece.bytes.end <= extent.end && !piece.bytes.is_empty();
            inside.then_some(Slice { bytes: piece.bytes.clone(), layer, expert: piece.expert? })
        };
        let read_order: Vec<Slice> = pieces.iter().filter_map(slice).collect();
        self.slices = read_order.clone();
        self.slices.sort_by_key(|slice| slice.bytes.start);
        for slice in &read_order {
            let index = self.slices.partition_point(|other| other.bytes.start < slice.bytes.start) as u32;
            self.siblings.entry((slice.layer, slice.expert)).or_default().push(index);
        }
    }

    /// The blocks that will be read soon by whoever touches file offset `offset` now, in the expected
    /// order: the rest of an expert's slice and the slices of the same expert that come after it. None
    /// outside of expert tensors.
    pub fn companions(&self, offset: u64) -> impl Iterator<Item = u32> + '_ {
        let at = self.slices.partition_point(|slice| slice.bytes.end <= offset);
        let touched = self.slices.get(at).filter(|slice| slice.bytes.contains(&offset));
        let family = touched.and_then(|slice| self.siblings.get(&(slice.layer, slice.expert)));
        let later = family.into_iter().flatten().copied().skip_while(move |&index| index as usize != at);
        later.flat_map(|index| {
            let bytes = &self.slices[index as usize].bytes;
            let first = self.index_at(bytes.start);
            let last = self.index_at(bytes.end - 1);
            first.zip(last).map_or(0..0, |(first, last)| first..last + 1)
        })
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
            Piece { bytes: 2 * M..4 * M + 5, role: Role::Cyclic, expert: None },
        ];
        for grain in [4096, 65536] {
            let layout = Layout::with_grain(8192..4 * M + 5, &pieces, grain);
            for (index, block) in layout.blocks.iter().enumerate() {
                let most = if block.role == Role::Row { grain.min(ROW_BLOCK) } else { grain };
                assert!(block.frame_bytes as usize == most && block.len <= block.frame_bytes);
                assert_eq!(layout.index_at(block.offset + u64::from(block.len) - 1), Some(index as u32));
            }
            assert_eq!(layout.order.len() as u64, (2 * M).div_ceil(grain as u64) + 1);
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
        let after_up: Vec<u32> = layout.companions(up + slice).collect();
        assert!(covers(&after_up, of(down, 1)) && !covers(&after_up, of(gate, 1)));
        assert_eq!(layout.companions(8 * M - 1).count(), 0);
    }
}
