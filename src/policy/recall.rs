//! A stored order, as a view's blocks take it.

use std::ops::Range;

use super::experts::is_expert;
use super::order::Order;
use super::{BlockId, BlockTable, Role};

/// The ring that the file offsets `offsets` describe, for blocks that stand in the ring `prior` now.
/// Offsets that are no block's are passed over, and blocks that do not occur keep their place
/// behind the block that the prior puts before them: a stale order costs demand reads, never more.
/// `None` when it says nothing about these blocks.
pub(super) fn recalled(table: &BlockTable, prior: &Order, offsets: &[u64]) -> Option<Vec<BlockId>> {
    let ids = &prior.span();
    let mut stored: Vec<BlockId> = Vec::with_capacity(offsets.len().min(ids.len()));
    let mut is_stored = vec![false; ids.len()];
    for &offset in offsets {
        if let Some(at) = block_at(table, ids, offset)
            && table.block(at).role == Role::Cyclic
            && !std::mem::replace(&mut is_stored[(at - ids.start) as usize], true)
        {
            stored.push(at);
        }
    }
    if stored.is_empty() {
        return None;
    }
    let missing = |id: &BlockId| !is_stored[(id - ids.start) as usize];
    let mut ring: Vec<BlockId> = prior.ids().iter().copied().take_while(missing).collect();
    for &id in &stored {
        ring.push(id);
        if let Some(place) = prior.place(id) {
            ring.extend(prior.ids()[place + 1..].iter().copied().take_while(missing));
        }
    }
    Some(ring)
}

/// The expert slices among `ids` that begin at the file offsets `offsets`, in that order.
pub(super) fn recalled_experts(table: &BlockTable, ids: &Range<BlockId>, offsets: &[u64]) -> Vec<BlockId> {
    let stored = offsets.iter().filter_map(|&offset| block_at(table, ids, offset));
    stored.filter(|&id| is_expert(table, id)).collect()
}

/// The block of a view's `ids` that begins at a file offset: they stand in file order.
fn block_at(table: &BlockTable, ids: &Range<BlockId>, offset: u64) -> Option<BlockId> {
    let at = ids.start + partition_point(ids.len() as u32, |index| table.block(ids.start + index).offset < offset);
    (at < ids.end && table.block(at).offset == offset).then_some(at)
}

/// First index below `len` for which `below` is false, or `len`.
fn partition_point(len: u32, below: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
