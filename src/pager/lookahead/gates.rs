//! The routers of a model, gathered while its blocks are read: no byte is read for them alone.
//!
//! What a router multiplies is the state of a token after a norm: divided by its length, and each element
//! multiplied by a weight of the norm. Seen from the layer before, the state has that layer's weights in
//! it, so the next router is tried with the quotient of the two norms' weights.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::gate::{Gate, Weights};
use crate::trace::Tensor;

/// What a layer's router needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Rows,
    Bias,
    ProbabilityBias,
    /// The weights of the norm before the router.
    Norm,
}

/// Names inside of a layer, as `LLM_TENSOR_NAMES` of llama.cpp (`llama-arch.cpp`) has them.
const PARTS: [(&str, Part); 5] = [
    ("ffn_gate_inp.weight", Part::Rows),
    ("ffn_gate_inp.bias", Part::Bias),
    ("exp_probs_b.bias", Part::ProbabilityBias),
    ("ffn_norm.weight", Part::Norm),
    ("post_attention_norm.weight", Part::Norm),
];

/// A tensor that is wanted, as far as it has been seen.
#[derive(Debug)]
struct Wanted {
    view: u32,
    layer: u32,
    part: Part,
    bytes: Range<u64>,
    seen: Vec<u8>,
    /// File offsets at which the parts begin that have been seen.
    starts: Vec<u64>,
    missing: u64,
}

impl Wanted {
    fn new(view: u32, tensor: &Tensor) -> Option<Wanted> {
        let layer = tensor.layer?;
        let name = tensor.name.strip_prefix(&format!("blk.{layer}."))?;
        let (_, part) = PARTS.into_iter().find(|(known, _)| *known == name)?;
        let bytes = tensor.offset..tensor.offset.checked_add(tensor.bytes)?;
        Some(Wanted { view, layer, part, bytes, seen: Vec::new(), starts: Vec::new(), missing: tensor.bytes })
    }

    /// Takes the part of it that lies in `bytes`, which begin at file offset `offset`.
    fn take(&mut self, offset: u64, bytes: &[u8]) {
        let start = self.bytes.start.max(offset);
        let end = self.bytes.end.min(offset + bytes.len() as u64);
        if self.missing == 0 || start >= end || self.starts.contains(&start) {
            return;
        }
        self.seen.resize((self.bytes.end - self.bytes.start) as usize, 0);
        let to = (start - self.bytes.start) as usize..(end - self.bytes.start) as usize;
        self.seen[to].copy_from_slice(&bytes[(start - offset) as usize..(end - offset) as usize]);
        self.starts.push(start);
        self.missing -= end - start;
    }

    fn forget(&mut self) {
        self.starts.clear();
        self.missing = self.bytes.end - self.bytes.start;
    }

    fn values(&self) -> impl Iterator<Item = f32> {
        self.seen.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }
}

/// The routers of all views. Weights are taken for 32-bit numbers, as llama.cpp keeps routers; of others the
/// sizes do not fit, and nothing is foretold.
#[derive(Debug, Default)]
pub struct Gates {
    wanted: Vec<Wanted>,
    made: FxHashMap<u32, Option<Gate>>,
}

impl Gates {
    /// A view came, with `tensors` in its file.
    pub fn add(&mut self, view: u32, tensors: &[Tensor]) {
        if tensors.iter().any(|tensor| tensor.experts > 0) {
            self.wanted.extend(tensors.iter().filter_map(|tensor| Wanted::new(view, tensor)));
        }
    }

    /// A view has gone.
    pub fn remove(&mut self, view: u32) {
        self.wanted.retain(|wanted| wanted.view != view);
        // Rows are kept until a router is made of them; the others' are gathered again.
        self.wanted.iter_mut().filter(|wanted| wanted.seen.is_empty()).for_each(Wanted::forget);
        self.made.clear();
    }

    /// The view's `bytes`, which begin at file offset `offset`, are in memory.
    pub fn take(&mut self, view: u32, offset: u64, bytes: &[u8]) {
        self.wanted.iter_mut().filter(|wanted| wanted.view == view).for_each(|wanted| wanted.take(offset, bytes));
    }

    /// No layer after `layer` has a router.
    pub fn is_last(&self, layer: u32) -> bool {
        self.wanted.iter().all(|wanted| wanted.part != Part::Rows || wanted.layer <= layer)
    }

    /// The router of `layer`, for states that the layer before has seen. None while parts of it have not
    /// been read.
    pub fn of_layer(&mut self, layer: u32) -> Option<&Gate> {
        if !self.made.contains_key(&layer) {
            let gate = self.make(layer)?;
            self.made.insert(layer, gate);
            let rows = self.wanted.iter_mut().filter(|wanted| wanted.layer == layer && wanted.part == Part::Rows);
            rows.for_each(|wanted| wanted.seen = Vec::new());
        }
        self.made[&layer].as_ref()
    }

    /// None while parts are missing; no gate when there are none that fit.
    fn make(&self, layer: u32) -> Option<Option<Gate>> {
        // Of two norms the later one is next to the router.
        let part = |layer: u32, part| self.wanted.iter().rfind(|it| it.layer == layer && it.part == part);
        let before = layer.checked_sub(1).and_then(|before| part(before, Part::Norm));
        let [here, rows, bias, probability_bias] =
            [Part::Norm, Part::Rows, Part::Bias, Part::ProbabilityBias].map(|it| part(layer, it));
        if [before, here, rows, bias, probability_bias].into_iter().flatten().any(|wanted| wanted.missing > 0) {
            return None;
        }
        let (Some(before), Some(here), Some(rows)) = (before, here, rows) else { return Some(None) };
        let quotient = |(before, here): (f32, f32)| if before.abs() > f32::EPSILON { here / before } else { 0.0 };
        let factors: Vec<f32> = before.values().zip(here.values()).map(quotient).collect();
        let all = |wanted: &Wanted| wanted.values().collect::<Vec<f32>>();
        Some(Gate::new(Weights {
            rows: &all(rows),
            factors: &factors,
            bias: bias.map(all).as_deref(),
            probability_bias: probability_bias.map(all).as_deref(),
        }))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const LAYERS: u32 = 3;
    const WIDTH: usize = 8;
    const EXPERTS: usize = 4;

    /// A file of routers and norms, with 16 bytes before each; router `l` has its largest weight in row
    /// `l + 1`, norms double from layer to layer but for the last element, which halves.
    pub fn model() -> (Vec<Tensor>, Vec<u8>) {
        let (mut tensors, mut file) = (Vec::new(), Vec::new());
        let mut add = |name: String, layer: u32, experts: u32, values: &[f32]| {
            file.extend_from_slice(&[0xff; 16]);
            let (offset, bytes) = (file.len() as u64, 4 * values.len() as u64);
            tensors.push(Tensor { name, role: String::new(), layer: Some(layer), offset, bytes, experts });
            values.iter().for_each(|value| file.extend_from_slice(&value.to_le_bytes()));
        };
        for layer in 0..LAYERS {
            let factor = (1 << layer) as f32;
            let mut norm = [factor; WIDTH];
            norm[WIDTH - 1] = 1.0 / factor;
            let mut rows = [0.0; WIDTH * EXPERTS];
            rows[(layer as usize + 1) * WIDTH] = 1.0;
            rows[WIDTH - 1] = 3.0;
            add(format!("blk.{layer}.ffn_norm.weight"), layer, 0, &norm);
            add(format!("blk.{layer}.ffn_gate_inp.weight"), layer, 0, &rows);
            add(format!("blk.{layer}.ffn_up_exps.weight"), layer, EXPERTS as u32, &[0.0; EXPERTS]);
        }
        (tensors, file)
    }

    #[test]
    fn a_router_is_known_once_all_of_it_was_read() {
        let (tensors, file) = model();
        let mut gates = Gates::default();
        gates.add(7, &tensors);
        let state = [1.0; WIDTH];
        let half = file.len() / 2;
        let favourites = |gates: &mut Gates, layer| gates.of_layer(layer).map(|gate| gate.favourites(&state, 2));
        // Another view's bytes, and the same bytes twice, are no progress.
        gates.take(6, 0, &file);
        gates.take(7, 0, &file[..half]);
        gates.take(7, 0, &file[..half]);
        assert_eq!([favourites(&mut gates, 1), favourites(&mut gates, 2)], [None, None]);
        gates.take(7, half as u64, &file[half..]);
        // Row 0 would win by the last element, were it not for the norms: 3 becomes 3 / 2, and 1 becomes 2.
        assert_eq!(favourites(&mut gates, 1), Some(vec![2, 0]));
        assert_eq!(favourites(&mut gates, 2), Some(vec![3, 0]));
        // Nothing comes before the first layer, and there is no fourth.
        assert_eq!([favourites(&mut gates, 0), favourites(&mut gates, 3)], [None, None]);
        // When some view goes, rows that were given up are gathered again.
        gates.remove(9);
        assert_eq!(favourites(&mut gates, 1), None);
        gates.take(7, 0, &file);
        assert_eq!(favourites(&mut gates, 1), Some(vec![2, 0]));
        gates.remove(7);
        assert_eq!(favourites(&mut gates, 1), None);
    }
}
