//! In which layers touches tell the experts: only a touch of a block that lies wholly inside one expert's slice
//! says which expert is used, since a block that two slices share is touched for either of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::trace::Tensor;

/// The experts of one layer.
#[derive(Default)]
struct Layer {
    experts: u32,
    /// Those with a block of their own in some tensor.
    told: BTreeSet<u32>,
}

/// The layers with experts.
#[derive(Default)]
pub struct Layers(BTreeMap<u32, Layer>);

impl Layers {
    /// `tensor` holds experts of its layer.
    pub fn tensor(&mut self, tensor: &Tensor) {
        if let Some(layer) = tensor.layer.filter(|_| tensor.experts > 0) {
            let experts = &mut self.0.entry(layer).or_default().experts;
            *experts = tensor.experts.max(*experts);
        }
    }

    /// A block lies wholly inside a slice of `expert` in `layer`.
    pub fn inside(&mut self, layer: u32, expert: u32) {
        self.0.entry(layer).or_default().told.insert(expert);
    }

    /// Whether touches tell every expert of `layer`; where they tell only some, counts would be too small.
    pub fn are_told(&self, layer: u32) -> bool {
        self.0.get(&layer).is_some_and(Layer::is_told)
    }

    /// How many layers there are, and in how many of them touches tell every expert.
    pub fn count(&self) -> Told {
        let told = self.0.values().filter(|layer| layer.is_told()).count();
        Told { layers: self.0.len(), told }
    }
}

impl Layer {
    fn is_told(&self) -> bool {
        self.experts > 0 && self.told.len() >= self.experts as usize
    }
}

/// In which layers touches tell the experts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Layers with experts.
    pub layers: usize,
    /// Those in which each expert has a block that lies wholly inside one of its slices.
    pub told: usize,
}
