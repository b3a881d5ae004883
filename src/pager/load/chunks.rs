//! The order in which a file is loaded: as the computation will want it, and then the rest.

use std::ops::Range;

use super::super::piece::Piece;
use super::super::region::HUGE;
use crate::policy::Role;

const CHUNK: u64 = HUGE as u64;

/// The chunks of an extent of a file: cut at its multiples of 2 MiB.
#[derive(Debug)]
pub struct Chunks {
    extent: Range<u64>,
    base: u64,
    /// Indexes of all chunks, each once, in the order of loading.
    pub order: Vec<u32>,
}

impl Chunks {
    /// Cuts `extent`, in bytes. Chunks come as the pieces first need them; what holds no piece, and
    /// embedding tables, of which only rows are read, come at the end.
    pub fn new(extent: Range<u64>, pieces: &[Piece]) -> Chunks {
        let base = extent.start / CHUNK * CHUNK;
        let count = (extent.end - base).div_ceil(CHUNK) as usize;
        let mut seen = vec![false; count];
        let needed = pieces.iter().filter(|piece| piece.role != Role::Row).flat_map(|piece| {
            let (from, to) = (piece.bytes.start.max(extent.start), piece.bytes.end.min(extent.end));
            let cells = if from < to { (from - base) / CHUNK..(to - base).div_ceil(CHUNK) } else { 0..0 };
            cells.map(|cell| cell as u32)
        });
        let order = needed.chain(0..count as u32).filter(|&index| !std::mem::replace(&mut seen[index as usize], true));
        let order = order.collect();
        Chunks { extent, base, order }
    }

    /// The bytes of the file that chunk `index` covers.
    pub fn bytes(&self, index: u32) -> Range<u64> {
        let start = self.base + u64::from(index) * CHUNK;
        start.max(self.extent.start)..(start + CHUNK).min(self.extent.end)
    }

    /// The chunks that lie wholly in `bytes` of the file; the last one may end before the page.
    pub fn within(&self, bytes: Range<u64>) -> impl Iterator<Item = u32> + '_ {
        let count = self.order.len() as u32;
        (0..count).filter(move |&index| {
            let own = self.bytes(index);
            bytes.start <= own.start && own.end <= bytes.end
        })
    }
}
