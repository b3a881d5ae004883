//! Mixtures of experts: which expert a touch belongs to, and what else is read of it.
//!
//! An expert is used whole: one touch of any part of it, in any of its layer's tensors, shows the use
//! of all the others, which may stay in memory and not report themselves.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::order::Order;
use super::recording::{Recording, Touched};
use crate::pager::region::PAGE;
use crate::policy::{Block, BlockId, Role};
use crate::trace::Tensor;

/// One expert's part of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Where it lies in the file.
    pub bytes: Range<u64>,
    /// The blocks that hold parts of it and of no dense tensor.
    pub blocks: Range<BlockId>,
    /// The place in the [`Order`] after which it is read.
    pub place: usize,
    view: u32,
    layer: Option<u32>,
    expert: u32,
}

/// The experts of all views.
#[derive(Debug, Default)]
pub struct Experts {
    /// In the order of reading.
    pub slices: Vec<Slice>,
    /// Indexes of `slices` by view and offset.
    by_offset: Vec<usize>,
    /// For each slice the blocks that whoever reads it will read from there on, as the pager hints its
    /// policy (see [`crate::pager::blocks`]).
    companions: Vec<Arc<[BlockId]>>,
    /// Indexes of `slices` of the same expert in a layer.
    families: HashMap<(u32, Option<u32>, u32), Vec<usize>>,
}

impl Experts {
    /// Of the views of `recording`, whose dense tensors are read in the order `order`.
    pub fn of(recording: &Recording, order: &Order) -> Experts {
        let mut slices: Vec<Slice> = Vec::new();
        let mut place = 0;
        for (view, (ids, of_view)) in (0..).zip(&recording.views) {
            let blocks = &recording.blocks[ids.start as usize..ids.end as usize];
            for tensor in &of_view.tensors {
                if tensor.experts == 0 {
                    let last = (tensor.offset + tensor.bytes).saturating_sub(1);
                    let at = blocks.partition_point(|block| block.offset + u64::from(block.len) <= last);
                    let id = Some(ids.start + at as BlockId).filter(|id| ids.contains(id));
                    place = id.and_then(|id| order.place(id, place)).unwrap_or(place);
                }
                slices.extend(slices_of(tensor).map(|(expert, bytes)| {
                    let within = overlapping(blocks, &bytes);
                    let blocks = ids.start + within.start as BlockId..ids.start + within.end as BlockId;
                    Slice { bytes, blocks, place, view, layer: tensor.layer, expert }
                }));
            }
        }
        let mut by_offset: Vec<usize> = (0..slices.len()).collect();
        by_offset.sort_by_key(|&index| (slices[index].view, slices[index].bytes.start));
        let mut families: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, slice) in slices.iter().enumerate() {
            families.entry((slice.view, slice.layer, slice.expert)).or_default().push(index);
        }
        let mut experts = Experts { slices, by_offset, companions: Vec::new(), families };
        let reached = |index| {
            let later = experts.family(index).iter().filter(|&&other| other >= index);
            later.flat_map(|&other| experts.slices[other].blocks.clone()).collect()
        };
        experts.companions = (0..experts.slices.len()).map(reached).collect();
        experts
    }

    /// The slices of the expert of slice `index`, in the order of reading.
    pub fn family(&self, index: usize) -> &[usize] {
        let slice = &self.slices[index];
        &self.families[&(slice.view, slice.layer, slice.expert)]
    }

    /// The slice that `touch` is a use of. A page may hold the end of one and the start of another: a touch
    /// there is the start of the second, unless it is the first page of a block that the first reaches into.
    /// None for a page between two slices that is a block of its own.
    pub fn slice(&self, touch: &Touched, block: &Block) -> Option<usize> {
        if !matches!(block.role, Role::Expert { .. }) {
            return None;
        }
        let end = self.at(block.view, touch.page + PAGE as u64 - 1);
        let start = self.at(block.view, touch.page);
        if block.len as usize == PAGE && start != end {
            return None;
        }
        if touch.page == block.offset { start.or(end) } else { end.or(start) }
    }

    /// Experts among the slices `used`.
    pub fn count(&self, used: &HashSet<usize>) -> usize {
        used.iter().filter(|&&index| self.family(index)[0] == index).count()
    }

    /// What the pager takes for read soon when a thread touches the page at `page` of view `view`; none
    /// outside of experts and where two of them share the page.
    pub fn companions(&self, view: u32, page: u64) -> Option<Arc<[BlockId]>> {
        let slice = self.at(view, page).filter(|&index| page + PAGE as u64 <= self.slices[index].bytes.end);
        slice.map(|index| self.companions[index].clone())
    }

    fn at(&self, view: u32, offset: u64) -> Option<usize> {
        let ends_before = |&index: &usize| (self.slices[index].view, self.slices[index].bytes.end) <= (view, offset);
        let index = *self.by_offset.get(self.by_offset.partition_point(ends_before))?;
        let slice = &self.slices[index];
        (slice.view == view && slice.bytes.contains(&offset)).then_some(index)
    }
}

/// Each expert of `tensor` with its bytes; none of a dense one.
fn slices_of(tensor: &Tensor) -> impl Iterator<Item = (u32, Range<u64>)> {
    let each = tensor.bytes.checked_div(u64::from(tensor.experts)).unwrap_or(0);
    let start = tensor.offset;
    (0..tensor.experts).map(move |expert| {
        let start = start + u64::from(expert) * each;
        (expert, start..start + each)
    })
}

/// The blocks of experts among `blocks` that hold any of `bytes`.
fn overlapping(blocks: &[Block], bytes: &Range<u64>) -> Range<usize> {
    let mut first = blocks.partition_point(|block| block.offset + u64::from(block.len) <= bytes.start);
    let mut end = blocks.partition_point(|block| block.offset < bytes.end).max(first);
    let is_dense = |at: usize| !matches!(blocks[at].role, Role::Expert { .. });
    while first < end && is_dense(first) {
        first += 1;
    }
    while first < end && is_dense(end - 1) {
        end -= 1;
    }
    first..end
}
