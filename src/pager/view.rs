//! One view: the addresses the program got, the file behind them, and their blocks.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::Layout;
use super::file::ModelFile;
use super::fill::Place;
use crate::orders::{Key, Store};
use crate::policy::{BlockId, BlockTable};
use crate::trace;

/// A view and what is left of it after partial unmapping.
pub struct View {
    /// The addresses it had when it was made; whole pages.
    pub range: Range<usize>,
    /// File offset of the first address.
    pub offset: u64,
    /// The file.
    pub file: Arc<ModelFile>,
    /// Where the file is read, the original first: indexes of [`Drives`](super::drives::Drives).
    pub sources: Vec<usize>,
    /// The blocks, in file order.
    pub layout: Layout,
    /// The ids of the blocks.
    pub ids: Range<BlockId>,
    /// The parts that are still the pager's, ascending and disjoint.
    pub live: Vec<Range<usize>>,
    /// The first shard of the model that the file belongs to.
    pub model: PathBuf,
    /// Where its order is kept, if it is.
    pub kept: Option<Kept>,
}

/// Where the order of a view is kept for the next start.
pub struct Kept {
    /// The user's store.
    pub store: Store,
    /// The model.
    pub key: Key,
    /// What was stored at the last start, as file offsets.
    pub offsets: Vec<u64>,
    /// Revision of the order that the store has.
    pub revision: u64,
}

impl View {
    /// What a fault log says about it; when, it does not know. `tensors` are its file's.
    pub fn traced(&self, tensors: Vec<trace::Tensor>) -> trace::View {
        let identity = self.file.identity();
        trace::View {
            at_ns: 0,
            number: self.layout.blocks.first().map_or(0, |block| block.view),
            path: self.file.path().to_string_lossy().into_owned(),
            file_bytes: self.file.bytes(),
            inode: (identity.dev, identity.ino),
            modified_unix_ns: self.file.modified_ns() as i64,
            offset: self.offset,
            bytes: self.range.len() as u64,
            first_block: self.ids.start,
            blocks: self.layout.blocks.clone(),
            expected_order: self.layout.order.clone(),
            tensors,
        }
    }

    /// The block that holds `addr`, if the pager still serves that address.
    pub fn block_at(&self, addr: usize) -> Option<BlockId> {
        if !self.live.iter().any(|run| run.contains(&addr)) {
            return None;
        }
        let offset = self.offset + (addr - self.range.start) as u64;
        self.layout.index_at(offset).map(|index| self.ids.start + index)
    }

    /// Where block `id` of this view lies.
    pub fn place(&self, table: &BlockTable, id: BlockId) -> Place {
        let block = table.block(id);
        Place {
            addr: self.range.start + (block.offset - self.offset) as usize,
            len: block.len as usize,
            frame_bytes: block.frame_bytes as usize,
        }
    }

    /// The ids of the blocks that `range` (inside the view, not empty) touches.
    pub fn ids_in(&self, range: &Range<usize>) -> Range<BlockId> {
        let index = |addr: usize| {
            let offset = self.offset + (addr - self.range.start) as u64;
            self.ids.start + self.layout.index_at(offset).expect("addresses of a view have blocks")
        };
        index(range.start)..index(range.end - 1) + 1
    }

    /// The file offset of `addr`.
    pub fn offset_of(&self, addr: usize) -> u64 {
        self.offset + (addr - self.range.start) as u64
    }

    /// The live parts of `range`.
    pub fn live_in(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let cut = |run: &Range<usize>| run.start.max(range.start)..run.end.min(range.end);
        self.live.iter().map(cut).filter(|part| !part.is_empty()).collect()
    }

    /// Takes `range` out of the live parts.
    pub fn kill(&mut self, range: &Range<usize>) {
        let mut left = Vec::with_capacity(self.live.len() + 1);
        for run in self.live.drain(..) {
            left.push(run.start..run.end.min(range.start));
            left.push(run.start.max(range.end)..run.end);
        }
        left.retain(|run| !run.is_empty());
        self.live = left;
    }
}
