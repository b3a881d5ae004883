//! Which experts a touch can tell: only a touch of a block that lies wholly inside one expert's slice says
//! which expert is used, since a block that two slices share is touched for either of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;

use crate::trace::Tensor;

/// The expert in whose slice of `tensor` all of `bytes` lies.
pub fn expert_of(tensor: &Tensor, bytes: Range<u64>) -> Option<u32> {
    let slice = tensor.bytes.checked_div(tensor.experts.into()).filter(|&slice| slice > 0)?;
    let index = |byte: u64| Some(byte.checked_sub(tensor.offset)? / slice);
    let (first, last) = (index(bytes.start)?, index(bytes.end.checked_sub(1)?)?);
    (first == last && last < tensor.experts.into()).then_some(first as u32)
}

/// The experts of one layer.
#[derive(Default)]
struct Layer {
    experts: u32,
    /// Those with a block of their own in some tensor.
    told: BTreeSet<u32>,
}

/// The layers with experts.
#[derive(Default)]
pub struct Slices(BTreeMap<u32, Layer>);

impl Slices {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_an_expert_when_it_lies_inside_a_slice() {
        // Four experts of 100 bytes each.
        let tensor = Tensor {
            name: String::new(),
            role: "experts".into(),
            layer: Some(0),
            offset: 1000,
            bytes: 400,
            experts: 4,
        };
        let of = |bytes| expert_of(&tensor, bytes);
        assert_eq!([of(1000..1100), of(1010..1020), of(1300..1400)], [Some(0), Some(0), Some(3)]);
        // Over a border, before the first, behind the last, and empty.
        assert_eq!([of(1099..1101), of(999..1010), of(1399..1401), of(1400..1410), of(1000..1000)], [None; 5]);
        assert_eq!(expert_of(&Tensor { experts: 0, ..tensor.clone() }, 1000..1010), None);
        assert_eq!(expert_of(&Tensor { bytes: 3, ..tensor }, 1000..1001), None);
    }
}
