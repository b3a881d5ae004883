//! Hidden states and choices of routers, as `programs/hidden_states.c` writes them, and what follows from them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ggpager::gguf::Model;

use super::Figures;

/// One layer, token by token.
#[derive(Default)]
struct Layer {
    states: Vec<Vec<f32>>,
    choices: Vec<Vec<u32>>,
}

/// All layers of a run.
pub struct Hidden {
    layers: BTreeMap<u32, Layer>,
}

/// A router with the norm before it.
struct Router {
    norm: Vec<f32>,
    gate: Vec<f32>,
    /// Added to the logits.
    bias: Vec<f32>,
    /// Added to what the sigmoid makes of them.
    correction: Option<Vec<f32>>,
}

impl Router {
    fn of(model: &Model, file: &File, layer: u32) -> Router {
        let find = |stem: &str| {
            let tensor = model.tensor(&format!("blk.{layer}.{stem}"))?;
            let mut bytes = vec![0; tensor.bytes as usize];
            file.read_exact_at(&mut bytes, tensor.offset).expect("as long as it says");
            let words = bytes.as_chunks::<4>().0;
            Some(words.iter().map(|&word| f32::from_le_bytes(word)).collect::<Vec<f32>>())
        };
        Router {
            norm: find("ffn_norm.weight").or_else(|| find("post_attention_norm.weight")).expect("a norm"),
            gate: find("ffn_gate_inp.weight").expect("a router"),
            bias: find("ffn_gate_inp.bias").unwrap_or_default(),
            correction: find("exp_probs_b.bias"),
        }
    }

    /// The `used` experts that it chooses for a hidden state.
    fn choose(&self, state: &[f32], used: usize) -> Vec<u32> {
        let mean_square = state.iter().map(|value| value * value).sum::<f32>() / state.len() as f32;
        let input: Vec<f32> = state.iter().zip(&self.norm).map(|(x, w)| x / (mean_square + 1e-5).sqrt() * w).collect();
        let rows = self.gate.chunks_exact(state.len()).enumerate();
        let scores: Vec<f32> = rows
            .map(|(expert, row)| {
                let logit: f32 = row.iter().zip(&input).map(|(w, x)| w * x).sum();
                let logit = logit + self.bias.get(expert).unwrap_or(&0.0);
                self.correction.as_ref().map_or(logit, |correction| 1.0 / (1.0 + (-logit).exp()) + correction[expert])
            })
            .collect();
        let mut experts: Vec<u32> = (0..scores.len() as u32).collect();
        experts.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        experts.truncate(used);
        experts
    }
}

fn shared(one: &[u32], other: &[u32]) -> f64 {
    one.iter().filter(|expert| other.contains(expert)).count() as f64 / one.len() as f64
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    assert!(count > 0, "nothing to average");
    sum / f64::from(count)
}

/// The Gini coefficient.
fn unevenness(mut uses: Vec<f64>) -> f64 {
    uses.sort_by(f64::total_cmp);
    let (n, sum) = (uses.len() as f64, uses.iter().sum::<f64>());
    let weighted: f64 = uses.iter().zip(1..).map(|(uses, rank)| uses * f64::from(rank)).sum();
    2.0 * weighted / (n * sum) - (n + 1.0) / n
}

impl Hidden {
    pub fn read(path: &Path) -> Hidden {
        let bytes = std::fs::read(path).expect("written by the watcher");
        let mut words = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word));
        let mut layers = BTreeMap::<u32, Layer>::new();
        while let Some(layer) = words.next() {
            let (kind, count) = (words.next().expect("a kind"), words.next().expect("a number"));
            let content: Vec<u32> = words.by_ref().take(count as usize).collect();
            let layer = layers.entry(layer).or_default();
            match kind {
                0 => layer.states.push(content.into_iter().map(f32::from_bits).collect()),
                _ => layer.choices.push(content),
            }
        }
        Hidden { layers }
    }

    /// What the run of `model`, which lies in `file`, comes to. Requires that all states are finite and that the
    /// routers are understood: applied to their own states they choose what was chosen.
    pub fn figures(&self, model: &Model, file: &File) -> Figures {
        let (mut gini, mut reuse, mut recall) = (Vec::new(), Vec::new(), Vec::new());
        for (&number, layer) in self.layers.iter().filter(|(_, layer)| !layer.choices.is_empty()) {
            assert!(layer.choices.len() > 100, "{} tokens in layer {number}", layer.choices.len());
            assert!(layer.states.iter().flatten().all(|value| value.is_finite()), "layer {number}");
            let router = Router::of(model, file, number);
            let foretold = |states: &Layer| {
                // From the last token on: of a prompt, too, the last layer computes a single token.
                let pairs = states.states.iter().rev().zip(layer.choices.iter().rev());
                mean(pairs.map(|(state, chosen)| shared(chosen, &router.choose(state, chosen.len()))))
            };
            assert!(foretold(layer) > 0.99, "layer {number}: {}", foretold(layer));
            recall.extend(number.checked_sub(1).map(|below| foretold(&self.layers[&below])));
            reuse.push(mean(layer.choices.windows(2).map(|pair| shared(&pair[1], &pair[0]))));
            let experts = router.gate.len() / router.norm.len();
            let mut uses = vec![0.0; experts];
            layer.choices.iter().flatten().for_each(|&expert| uses[expert as usize] += 1.0);
            gini.push(unevenness(uses));
        }
        Figures { gini: mean(gini), reuse: mean(reuse), recall: mean(recall) }
    }
}
