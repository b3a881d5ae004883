//! Which experts of a layer are chosen after which of the layer before, by the same token: counted while the
//! routers are heard.
//!
//! Each expert of a layer has a row of counts, one for each expert of the next layer. With each use of the row all
//! of its counts lose a sixteenth, and those that were chosen next gain a fixed amount: a row remembers some
//! sixteen uses, and so follows the text from one topic to another. A count over what it would be had its expert
//! followed each time is the part of the uses after which it was chosen. What a token's experts say together, the
//! mean of these parts, is about the probability that an expert comes next.
//!
//! Learned are at most [`TOKENS_MAX`] tokens of a batch. What a choice costs is one pass over a row for each of its
//! experts, twice.

use rustc_hash::FxHashMap;

use crate::pager::command::Choice;
use crate::trace::Tensor;

/// Layers with more experts are not learned.
const EXPERTS_MAX: usize = 512;

/// All counts together take no more than that, in bytes: those of 63 layers of 512 experts.
const BYTES_MAX: usize = 32 << 20;

/// With each use of a row its counts lose one part of two to this power. Of a synthetic model 3 foretells a little
/// more, 5 and 6 less.
const FADING: u32 = 4;

/// What a use adds to a count: counts stay below [`STEP`] << [`FADING`], and rounding does not show.
const STEP: u16 = 1 << 11;

/// A row is believed as if it had had so many more uses, without a successor: one use alone proves nothing.
const DOUBT: f32 = 1.0;

/// Experts less probable than that are not named: of those at 0.40 to 0.45 every other one was chosen, of those above
/// it two of three.
const PROBABLE: f32 = 0.45;

/// Tokens of a batch that are learned, its last ones.
const TOKENS_MAX: usize = 64;

/// What is known of the step from one layer to the next.
#[derive(Debug)]
struct Step {
    /// Experts of the next layer.
    experts: usize,
    /// One row an expert of the layer: a count for each expert of the next, and one for all uses.
    rows: Vec<u16>,
}

impl Step {
    fn row(&self, expert: u32) -> Option<(&[u16], u16)> {
        let row = self.rows.chunks_exact(self.experts + 1).nth(expert as usize)?;
        let (uses, counts) = row.split_last()?;
        Some((counts, *uses))
    }

    /// A token's experts were `before`, and then `after`.
    fn learn(&mut self, before: &[u32], after: &[u32]) {
        for &expert in before {
            let Some(row) = self.rows.chunks_exact_mut(self.experts + 1).nth(expert as usize) else { continue };
            row.iter_mut().for_each(|count| *count -= *count >> FADING);
            let uses = self.experts as u32;
            for &next in after.iter().filter(|&&next| next < uses).chain([&uses]) {
                row[next as usize] = row[next as usize].saturating_add(STEP);
            }
        }
    }

    /// The experts that probably follow `before`, the most probable first, as many at most.
    fn probable(&self, before: &[u32], scores: &mut Vec<f32>) -> Vec<u32> {
        scores.clear();
        scores.resize(self.experts, 0.0);
        for (counts, uses) in before.iter().filter_map(|&expert| self.row(expert)) {
            let part = 1.0 / (f32::from(uses) + DOUBT * f32::from(STEP));
            scores.iter_mut().zip(counts).for_each(|(score, &count)| *score += f32::from(count) * part);
        }
        let enough = PROBABLE * before.len() as f32;
        let mut named: Vec<u32> = (0..self.experts as u32).filter(|&it| scores[it as usize] >= enough).collect();
        named.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        named.truncate(before.len());
        named
    }
}

/// Learns and foretells. Memory is taken when a view comes, none by choices.
#[derive(Debug, Default)]
pub struct CoOccurrence {
    /// View, layer and number of experts.
    known: Vec<(u32, u32, usize)>,
    /// By the layer that steps lead to.
    steps: FxHashMap<u32, Step>,
    /// The latest choice: its layer, the experts of a token, and those of its last tokens.
    latest: (u32, usize, Vec<u32>),
    scores: Vec<f32>,
}

impl CoOccurrence {
    /// A view came, with `tensors` in its file.
    pub fn add(&mut self, view: u32, tensors: &[Tensor]) {
        for tensor in tensors.iter().filter(|tensor| tensor.experts > 0) {
            if let Some(layer) = tensor.layer
                && !self.known.iter().any(|known| (known.0, known.1) == (view, layer))
            {
                self.known.push((view, layer, tensor.experts as usize));
            }
        }
        self.make_steps();
    }

    /// A view has gone. What leads from or to its layers is forgotten, unless another view has them, too.
    pub fn remove(&mut self, view: u32) {
        self.known.retain(|known| known.0 != view);
        let known = |layer: u32| self.known.iter().any(|known| known.1 == layer);
        self.steps.retain(|&layer, _| known(layer) && known(layer - 1));
        self.latest.2.clear();
    }

    fn make_steps(&mut self) {
        let experts = |layer: u32| self.known.iter().find(|known| known.1 == layer).map(|known| known.2);
        let mut bytes: usize = self.steps.values().map(|step| size_of_val(&step.rows[..])).sum();
        for &(_, layer, count) in &self.known {
            let Some(before) = layer.checked_sub(1).and_then(experts) else { continue };
            let counts = before * (count + 1);
            let fits = before.max(count) <= EXPERTS_MAX && bytes + counts * size_of::<u16>() <= BYTES_MAX;
            if fits && !self.steps.contains_key(&layer) {
                bytes += counts * size_of::<u16>();
                self.steps.insert(layer, Step { experts: count, rows: vec![0; counts] });
            }
        }
    }

    /// Whether a choice tells what its router likes. The warm-up run of older llama.cpp chooses all experts.
    fn tells(&self, layer: u32, used: usize) -> bool {
        let experts = self.known.iter().find(|known| known.1 == layer).map_or(0, |known| known.2);
        used > 0 && used < experts
    }

    /// A router chose.
    pub fn heard(&mut self, choice: &Choice) {
        let used = choice.used as usize;
        let (layer, latest_used, latest) = &mut self.latest;
        let step = if layer.checked_add(1) == Some(choice.layer) { self.steps.get_mut(&choice.layer) } else { None };
        if let Some(step) = step
            && used > 0
            && used < step.experts
        {
            // From the last token on: of a prompt, the last layer computes a single token.
            let pairs = latest.rchunks_exact((*latest_used).max(1)).zip(choice.experts.rchunks_exact(used));
            pairs.take(TOKENS_MAX).for_each(|(before, after)| step.learn(before, after));
        }
        latest.clear();
        (*layer, *latest_used) = (choice.layer, used);
        if self.tells(choice.layer, used) {
            let all = &choice.experts;
            self.latest.2.extend(&all[all.len().saturating_sub(TOKENS_MAX * used)..]);
        }
    }

    /// Whether the step from `choice` to the next layer is learned.
    pub fn knows(&self, choice: &Choice) -> bool {
        self.tells(choice.layer, choice.used as usize)
            && choice.layer.checked_add(1).is_some_and(|layer| self.steps.contains_key(&layer))
    }

    /// The experts that the layer after `choice` will probably choose, token by token, the most probable first; `None`
    /// where that is not [known](Self::knows).
    pub fn foretell(&mut self, choice: &Choice) -> Option<Vec<Vec<u32>>> {
        if !self.knows(choice) {
            return None;
        }
        let step = self.steps.get(&choice.layer.checked_add(1)?)?;
        let scores = &mut self.scores;
        let tokens = choice.experts.chunks_exact(choice.used as usize);
        Some(tokens.map(|before| step.probable(before, scores)).collect())
    }
}

#[cfg(test)]
#[path = "co_occurrence_tests.rs"]
mod tests;
