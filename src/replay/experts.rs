//! Mixtures of experts: which of them a cycle uses, where in the order, and which blocks they are.
//!
//! Routers say it where the log has their choices. Elsewhere one touch of any part of an expert, in any of its
//! layer's tensors, shows the use of all the others, which may stay in memory and not report themselves.

use std::collections::HashMap;

use super::order::Order;
use super::recording::{Part, Recording, Touched};
use crate::pager::region::PAGE;
use crate::policy::{BlockId, Role};

/// The blocks of a layer's experts: the view, and the layer.
pub type Layer = (u32, u32);

/// The experts of all views.
#[derive(Debug)]
pub struct Experts<'a> {
    parts: &'a [Part],
    /// The place in the [`Order`] after which a layer's experts are read.
    places: HashMap<Layer, usize>,
    /// Routers' choices are known to be about these views.
    one_mixture: bool,
}

/// A part of an expert that is one block, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The block.
    pub block: BlockId,
    /// Bytes of it that are the expert's.
    pub bytes: u64,
    /// Where in the file whoever computes the expert touches the block first.
    pub page: u64,
}

impl<'a> Experts<'a> {
    /// Of the views of `recording`, whose dense tensors are read in the order `order`.
    pub fn of(recording: &'a Recording, order: &Order) -> Experts<'a> {
        let mut places = HashMap::new();
        let mut place = 0;
        for (view, part) in (0..).zip(&recording.parts) {
            for tensor in &part.view.tensors {
                if tensor.experts > 0 {
                    places.entry((view, tensor.layer.unwrap_or(0))).or_insert(place);
                    continue;
                }
                let last = (tensor.offset + tensor.bytes).saturating_sub(1);
                let id = part.layout.index_at(last).map(|index| part.ids.start + index);
                place = id.and_then(|id| order.place(id, place)).unwrap_or(place);
            }
        }
        Experts { parts: &recording.parts, places, one_mixture: recording.is_one_mixture() }
    }

    /// Where a touch of an expert's block is.
    pub fn place(&self, recording: &Recording, block: BlockId) -> Option<usize> {
        let block = &recording.blocks[block as usize];
        let Role::Expert { layer } = block.role else { return None };
        self.places.get(&(block.view, layer)).copied()
    }

    /// Where the router of `layer` chooses.
    pub fn router(&self, layer: u32) -> Option<usize> {
        self.layers(layer).find_map(|layer| self.places.get(&layer).copied())
    }

    /// The experts that a router of `layer` chooses from, of each view that has some.
    pub fn layers(&self, layer: u32) -> impl Iterator<Item = Layer> + '_ {
        let views = (0..self.parts.len() as u32).filter(|_| self.one_mixture);
        views.map(move |view| (view, layer)).filter(|layer| self.places.contains_key(layer))
    }

    /// All layers with their places, in the order of reading.
    pub fn places(&self) -> Vec<(usize, Layer)> {
        let mut places: Vec<(usize, Layer)> = self.places.iter().map(|(&layer, &place)| (place, layer)).collect();
        places.sort_unstable();
        places
    }

    /// The expert that `touch` is a use of: none where two of them share the page.
    pub fn used(&self, recording: &Recording, touch: &Touched) -> Option<(Layer, u32)> {
        let view = recording.blocks[touch.block as usize].view;
        let slices = self.parts[view as usize].layout.slices();
        let slice = slices.around(touch.page..touch.page + PAGE as u64)?;
        Some(((view, slice.layer), slice.expert))
    }

    /// What is read when `experts` of a layer are computed, in that order.
    pub fn pieces(&self, (view, layer): Layer, experts: &[u32]) -> Vec<Piece> {
        let Part { ids, layout, .. } = &self.parts[view as usize];
        let piece = |index: u32, bytes: &std::ops::Range<u64>| {
            let block = &layout.blocks[index as usize];
            let end = block.offset + u64::from(block.len);
            let is_expert = matches!(block.role, Role::Expert { .. });
            let within = bytes.start.max(block.offset)..bytes.end.min(end);
            // Nobody knows whose a page is that two of them share.
            let page = within.start.next_multiple_of(PAGE as u64).min(end - PAGE as u64);
            is_expert.then_some(Piece { block: ids.start + index, bytes: within.end - within.start, page })
        };
        let slices = layout.slices().chosen(layer, experts).into_iter();
        slices.flat_map(|slice| slice.blocks.clone().filter_map(move |index| piece(index, &slice.bytes))).collect()
    }

    /// The blocks that the pager's policy is told of when the routers have chosen `experts`.
    pub fn chosen(&self, (view, layer): Layer, experts: &[u32]) -> impl Iterator<Item = BlockId> + '_ {
        let Part { ids, layout, .. } = &self.parts[view as usize];
        layout.chosen(layer, experts).map(|index| ids.start + index)
    }

    /// What the pager takes for read soon when a thread touches the page at `page` of `block`'s view.
    pub fn companions(&self, recording: &Recording, block: BlockId, page: u64) -> impl Iterator<Item = BlockId> + '_ {
        let Part { ids, layout, .. } = &self.parts[recording.blocks[block as usize].view as usize];
        layout.companions(page).map(|index| ids.start + index)
    }
}
