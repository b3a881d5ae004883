//! A part of a file with one role, and the size of the blocks that it is cut into.

use std::ops::Range;

use super::region::HUGE;
use crate::policy::Role;

/// Size of a block of embedding rows, in bytes.
pub const ROW_BLOCK: usize = 16 << 10;

/// Size of a block of expert tensors whose slices are no blocks, in bytes.
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
