//! Which model an order belongs to.

use std::fmt;
use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::pager::file::ModelFile;
use crate::pager::piece::Piece;
use crate::policy::Role;

/// A model as its order sees it: where its tensors lie. A copy of a model has the model's key; so has
/// another model of the same shape, whose order is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u128);

impl Key {
    /// The key with this number.
    pub fn from_bits(bits: u128) -> Key {
        Key(bits)
    }

    /// The key of the part `extent` (in bytes) of `file`, which holds `pieces`. A file without pieces
    /// (no GGUF) is known by its inode, size and time of change.
    pub fn new(file: &ModelFile, extent: Range<u64>, pieces: &[Piece]) -> Key {
        let mut hash = Xxh3::new();
        let mut number = |value: u64| hash.update(&value.to_le_bytes());
        [file.bytes(), extent.start, extent.end, pieces.len() as u64].into_iter().for_each(&mut number);
        for piece in pieces {
            let role = match piece.role {
                Role::Cyclic => 0,
                Role::Row => 1,
                Role::Expert { layer } => 2 + u64::from(layer),
            };
            [piece.bytes.start, piece.bytes.end, role].into_iter().for_each(&mut number);
        }
        if pieces.is_empty() {
            let identity = file.identity();
            [identity.dev, identity.ino, file.modified_ns()].into_iter().for_each(&mut number);
        }
        Key(hash.digest128())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
