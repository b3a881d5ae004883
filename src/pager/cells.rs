//! Cutting a file into cells, and cells into blocks (see [`super::blocks`]).

use std::ops::Range;

use super::expert_slices::Slice;
use super::piece::{Piece, block_bytes};
use super::region::PAGE;
use crate::policy::{Block, Role};

/// Cuts a file, from its start to its end.
pub(super) struct Cells<'a> {
    extent: Range<u64>,
    /// File offset of the first cell: a multiple of their size.
    base: u64,
    /// Size of a cell, in bytes.
    grain: u64,
    roles: Vec<Role>,
    pieces: &'a [Piece],
    pub blocks: Vec<Block>,
    /// Where the next block begins.
    pub at: u64,
}

impl<'a> Cells<'a> {
    /// `whole` are slices that are blocks of their own: cells know nothing of them.
    pub fn new(extent: Range<u64>, pieces: &'a [Piece], grain: usize, whole: &[Slice]) -> Cells<'a> {
        let base = extent.start / grain as u64 * grain as u64;
        let count = (extent.end - base).div_ceil(grain as u64) as usize;
        let others = pieces.iter().filter(|piece| whole.is_empty() || piece.expert.is_none());
        let roles = cell_roles(base, count, grain, others);
        let at = extent.start;
        Cells { extent, base, grain: grain as u64, roles, pieces, blocks: Vec::new(), at }
    }

    /// The next block, if it is not empty.
    pub fn push(&mut self, bytes: Range<u64>, frame_bytes: usize, role: Role) {
        if !bytes.is_empty() {
            let (len, frame_bytes) = ((bytes.end - bytes.start) as u32, frame_bytes as u32);
            self.blocks.push(Block { view: 0, offset: bytes.start, len, frame_bytes, role });
            self.at = bytes.end;
        }
    }

    /// Whether what lies between two slices is one page that nothing else has a part of.
    pub fn is_edge(&self, before: &Slice, after: &Slice) -> bool {
        let gap = before.interior().end..after.interior().start;
        let overlaps = |piece: &Piece| piece.bytes.start < gap.end && gap.start < piece.bytes.end;
        let is_page = gap.end.checked_sub(gap.start) == Some(PAGE as u64);
        // Neighbours in the same tensor need no look at all pieces.
        let is_tight = before.bytes.end == after.bytes.start;
        is_page && (is_tight || !self.pieces.iter().any(|piece| piece.expert.is_none() && overlaps(piece)))
    }

    /// Cuts `bytes` cell by cell. Where a slice has taken a part of a cell, no frame of a cell's size is
    /// spent on the rest.
    pub fn cut(&mut self, bytes: Range<u64>) {
        while self.at < bytes.end {
            let cell = (self.at - self.base) / self.grain;
            let cell_bytes = self.base + cell * self.grain..self.base + (cell + 1) * self.grain;
            let stop = cell_bytes.end.min(bytes.end);
            let role = self.roles[cell as usize];
            let step = (block_bytes(role) as u64).min(self.grain);
            let whole =
                self.at == cell_bytes.start.max(self.extent.start) && stop == cell_bytes.end.min(self.extent.end);
            while self.at < stop {
                let mut frame = step;
                let mut end = (self.at / step + 1) * step;
                if !whole {
                    while !self.at.is_multiple_of(frame) || self.at + frame > stop {
                        frame /= 2;
                    }
                    end = self.at + frame;
                }
                self.push(self.at..end.min(stop), frame as usize, role);
            }
        }
    }
}

/// The role of each cell: what a cell holds of the most demanding kind. A cell that any cyclic
/// tensor reaches into is cyclic; else experts make it an expert cell; a cell is a row cell only if
/// nothing but embedding rows (or nothing at all) lies in it.
fn cell_roles<'a>(base: u64, count: usize, cell_bytes: usize, pieces: impl Iterator<Item = &'a Piece>) -> Vec<Role> {
    let mut roles: Vec<Option<Role>> = vec![None; count];
    let rank = |role: &Role| match role {
        Role::Cyclic => 2,
        Role::Expert { .. } => 1,
        Role::Row => 0,
    };
    for piece in pieces.filter(|piece| !piece.bytes.is_empty() && piece.bytes.end > base) {
        let first = (piece.bytes.start.max(base) - base) as usize / cell_bytes;
        let last = (piece.bytes.end - 1 - base) as usize / cell_bytes;
        for role in roles.iter_mut().take(last + 1).skip(first) {
            if role.is_none_or(|old| rank(&piece.role) > rank(&old)) {
                *role = Some(piece.role);
            }
        }
    }
    roles.into_iter().map(|role| role.unwrap_or(Role::Cyclic)).collect()
}
