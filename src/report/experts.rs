//! Mixture of experts: which are used, and whether that could have been foretold.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::uniformity::gini;

/// Layers and experts beyond these are left out: a log that names them is broken.
const LAYERS_MAX: u32 = 4096;
const EXPERTS_MAX: u32 = 4096;

/// More experts than these are counted, but their succession is not learned.
const LEARNED_MAX: usize = 512;

/// Which experts follow which: the sum of the counts of all that came before is the score.
#[derive(Default)]
struct Predictor {
    counts: HashMap<u32, Vec<u32>>,
    right: u64,
    asked: u64,
}

impl Predictor {
    /// Foretells as many experts as there are in `after`, compares, and learns.
    fn learn(&mut self, before: &[u32], after: &[u32], experts: usize) {
        if before.is_empty() || experts > LEARNED_MAX {
            return;
        }
        let mut scores = vec![0u32; experts];
        for row in before.iter().filter_map(|from| self.counts.get(from)) {
            scores.iter_mut().zip(row).for_each(|(score, count)| *score += count);
        }
        let mut ranking: Vec<u32> = (0..experts as u32).filter(|&it| scores[it as usize] > 0).collect();
        ranking.sort_by_key(|&expert| std::cmp::Reverse(scores[expert as usize]));
        ranking.truncate(after.len());
        self.right += after.iter().filter(|expert| ranking.contains(expert)).count() as u64;
        self.asked += after.len() as u64;
        for &from in before {
            let row = self.counts.entry(from).or_default();
            row.resize(experts.max(row.len()), 0);
            after.iter().for_each(|&expert| row[expert as usize] += 1);
        }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Which token: cycle, and number within the batch.
type Token = (u64, u32);

#[derive(Default)]
struct Layer {
    uses: Vec<u64>,
    tokens: u64,
    token: Token,
    now: Vec<u32>,
    before_token: Token,
    before: Vec<u32>,
    by_popularity: Predictor,
    by_token: Predictor,
    by_layer: Predictor,
}

/// Numbers the passes through the model by what routers choose: a layer that is not above the one before
/// begins another. Touches tell cycles less well, where most of the model stays in memory.
#[derive(Default)]
pub struct Passes {
    number: u64,
    latest: Option<(u32, u32, u64)>,
}

impl Passes {
    /// The number of the pass in which the router of `layer` chose for `token` of a batch, in `cycle` as
    /// touches tell it.
    pub fn at(&mut self, layer: u32, token: u32, cycle: u64) -> u64 {
        let begins = self.latest.is_some_and(|(last_layer, last_token, last_cycle)| {
            layer < last_layer || layer == last_layer && (token < last_token || cycle != last_cycle)
        });
        self.number += u64::from(begins);
        self.latest = Some((layer, token, cycle));
        self.number
    }
}

/// Comes before every set of experts: what follows it is popular.
const ALWAYS: u32 = 0;

/// Collects the experts that were used.
#[derive(Default)]
pub struct Experts {
    layers: BTreeMap<u32, Layer>,
    sets: u64,
    uses: u64,
    asked: u64,
    reused: u64,
    chance: f64,
}

impl Experts {
    /// `expert` of `layer`, which has at least `experts` of them, was used for `token`.
    pub fn used(&mut self, token: Token, layer: u32, expert: u32, experts: u32) {
        if layer >= LAYERS_MAX || expert >= EXPERTS_MAX {
            return;
        }
        let row = self.layers.entry(layer).or_default();
        let count = (expert + 1).max(experts.min(EXPERTS_MAX)) as usize;
        row.uses.resize(count.max(row.uses.len()), 0);
        if row.token != token && !row.now.is_empty() {
            self.close(layer);
        }
        let row = self.layers.get_mut(&layer).expect("it was made above");
        row.token = token;
        // Its matrices are several blocks.
        if !row.now.contains(&expert) {
            row.now.push(expert);
            row.uses[expert as usize] += 1;
        }
    }

    /// All experts of a token in `layer` are known.
    fn close(&mut self, layer: u32) {
        let lower = layer.checked_sub(1).and_then(|lower| self.layers.get(&lower));
        let Some(row) = self.layers.get(&layer) else { return };
        let below = lower.map_or(Vec::new(), |lower| match row.token {
            token if token == lower.token => lower.now.clone(),
            token if token == lower.before_token => lower.before.clone(),
            _ => Vec::new(),
        });
        let row = self.layers.get_mut(&layer).expect("it was found above");
        let experts = row.uses.len();
        row.tokens += 1;
        self.sets += 1;
        self.uses += row.now.len() as u64;
        if !row.before.is_empty() {
            self.asked += row.now.len() as u64;
            self.reused += row.now.iter().filter(|expert| row.before.contains(expert)).count() as u64;
            self.chance += row.now.len() as f64 * row.before.len() as f64 / experts as f64;
        }
        row.by_popularity.learn(&[ALWAYS], &row.now, experts);
        row.by_token.learn(&row.before, &row.now, experts);
        row.by_layer.learn(&below, &row.now, experts);
        row.before_token = row.token;
        row.before = std::mem::take(&mut row.now);
    }

    /// The figures; `None` when no expert was used. `source` says how the uses are known.
    pub fn finish(mut self, source: &'static str) -> Option<ExpertUse> {
        let numbers: Vec<u32> = self.layers.keys().copied().collect();
        // From the last layer on: each looks at the one below.
        numbers.iter().rev().for_each(|&layer| self.close(layer));
        let sum = |predictor: fn(&Layer) -> &Predictor| {
            let all = self.layers.values().map(predictor);
            all.fold((0, 0), |(right, asked), it| (right + it.right, asked + it.asked))
        };
        let by_popularity = sum(|layer| &layer.by_popularity);
        let (by_token, by_layer) = (sum(|layer| &layer.by_token), sum(|layer| &layer.by_layer));
        // Pairs of tokens that share an expert, over all pairs of a layer's tokens, times its neighbours.
        let pairs = |row: &Layer| {
            row.uses.iter().map(|&uses| (uses * uses.saturating_sub(1)) as f64).sum::<f64>() / row.tokens.max(1) as f64
        };
        let alike: f64 = self.layers.values().map(pairs).sum();
        let popularity: Vec<LayerUse> = self
            .layers
            .iter()
            .map(|(&layer, row)| LayerUse {
                layer,
                tokens: row.tokens,
                gini: gini(&mut row.uses.clone()),
                uses: row.uses.clone(),
            })
            .collect();
        (self.sets > 0).then(|| ExpertUse {
            source,
            experts: popularity.iter().map(|layer| layer.uses.len()).max().unwrap_or(0),
            per_token: self.uses as f64 / self.sets as f64,
            gini: popularity.iter().map(|layer| layer.gini).sum::<f64>() / popularity.len() as f64,
            reused: share(self.reused, self.asked),
            chance: (self.asked > 0).then(|| self.chance / self.asked as f64),
            chance_by_popularity: (self.asked > 0).then(|| alike / self.asked as f64),
            by_popularity: share(by_popularity.0, by_popularity.1),
            by_previous_token: share(by_token.0, by_token.1),
            by_lower_layer: share(by_layer.0, by_layer.1),
            popularity,
        })
    }
}

/// How experts were used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertUse {
    /// How it is known: `router` or `touches`.
    pub source: &'static str,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts that one token uses in one layer, on average.
    pub per_token: f64,
    /// Mean of the layers' Gini coefficients.
    pub gini: f64,
    /// Share that the token before used in the same layer.
    pub reused: Option<f64>,
    /// What that share would be if experts were chosen independently and alike.
    pub chance: Option<f64>,
    /// What that share would be if they were chosen independently, each as often as it was: that of any two
    /// tokens.
    pub chance_by_popularity: Option<f64>,
    /// Share that is foretold by how often each expert of the layer was used so far.
    pub by_popularity: Option<f64>,
    /// Share that is foretold by the experts of the token before in the same layer.
    pub by_previous_token: Option<f64>,
    /// Share that is foretold by the same token's experts in the layer below.
    pub by_lower_layer: Option<f64>,
    /// Uses by layer.
    pub popularity: Vec<LayerUse>,
}

/// Uses of the experts of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerUse {
    /// Its number.
    pub layer: u32,
    /// Tokens (cycles, when known from touches) that used any of them.
    pub tokens: u64,
    /// How unevenly they are used.
    pub gini: f64,
    /// Tokens that used each expert.
    pub uses: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_told_by_layers_whatever_touches_tell() {
        let mut passes = Passes::default();
        // A prompt of two tokens, then one token at a time; the touches see one cycle in all of it.
        let prompt = [(3, 0), (3, 0), (3, 1), (4, 0), (4, 1)].map(|(layer, token)| passes.at(layer, token, 7));
        assert_eq!(prompt, [0; 5]);
        let decoded = [3, 3, 4, 4, 3, 3, 4].map(|layer| passes.at(layer, 0, 7));
        assert_eq!(decoded, [1, 1, 1, 1, 2, 2, 2]);
        let late = [(5, 7), (6, 8), (7, 9), (3, 9)].map(|(layer, cycle)| passes.at(layer, 0, cycle));
        assert_eq!(late, [2, 2, 2, 3], "touches see a cycle begin in the middle");
        // With one layer alone there is nothing else to go by.
        let mut passes = Passes::default();
        assert_eq!([7, 7, 8, 9].map(|cycle| passes.at(0, 0, cycle)), [0, 0, 1, 2]);
        assert_eq!([1, 2, 0, 1].map(|token| passes.at(0, token, 9)), [2, 2, 3, 3]);
    }

    #[test]
    fn what_repeats_is_reused_and_what_alternates_is_foretold() {
        let mut all = Experts::default();
        for token in 0..200 {
            // Layer 0 alternates between {0, 1} and {2, 3}, layer 1 has the same experts plus 4, and
            // layer 5 always uses 7.
            let first = (token % 2) as u32 * 2;
            for (layer, expert) in [(0, first), (0, first + 1), (1, first + 4), (1, first + 5), (1, first + 4), (5, 7)]
            {
                all.used((token, 0), layer, expert, 8);
            }
        }
        let found = all.finish("router").unwrap();
        assert_eq!((found.experts, found.popularity.len()), (8, 3));
        assert!((found.per_token - 5.0 / 3.0).abs() < 1e-9);
        assert_eq!(found.popularity[2].uses, [0, 0, 0, 0, 0, 0, 0, 200]);
        assert!(found.popularity.iter().all(|layer| layer.tokens == 200));
        assert_eq!(found.popularity[0].uses, [100, 100, 100, 100, 0, 0, 0, 0]);
        // Layer 5 alone repeats: one of five.
        assert!((found.reused.unwrap() - 0.2).abs() < 1e-9, "{found:?}");
        assert!((found.chance.unwrap() - (4.0 * 0.25 + 0.125) / 5.0).abs() < 1e-9);
        assert!(found.by_previous_token.unwrap() > 0.98, "{found:?}");
        // Only layer 1 has a layer below.
        assert!(found.by_lower_layer.unwrap() > 0.98, "{found:?}");
        assert_eq!(Experts::default().finish("router"), None);
    }

    /// Of 2000 tokens that use `always` and so many others of 32 at random.
    fn independent(always: &[u32], others: usize) -> ExpertUse {
        let mut random = fastrand::Rng::with_seed(7);
        let mut all = Experts::default();
        for token in 0..2000 {
            for layer in 0..3 {
                let mut rest: Vec<u32> = (0..32).filter(|expert| !always.contains(expert)).collect();
                random.shuffle(&mut rest);
                always.iter().chain(&rest[..others]).for_each(|&expert| all.used((token, 0), layer, expert, 32));
            }
        }
        all.finish("router").unwrap()
    }

    #[test]
    fn independent_choices_are_foretold_no_better_than_by_chance() {
        let near = |value: Option<f64>, expected: f64| {
            let value = value.expect("it was asked");
            assert!((value - expected).abs() < 0.01, "{value} is not {expected}");
        };
        // Four of 32 each time: any two tokens share 4/32 of them (hypergeometric).
        let even = independent(&[], 4);
        assert_eq!(even.per_token, 4.0);
        for share in [even.reused, even.chance, even.chance_by_popularity, even.by_popularity] {
            near(share, 0.125);
        }
        near(even.by_previous_token, 0.125);
        near(even.by_lower_layer, 0.125);
        // Two are always used: half of the uses, and of the others 2/30.
        let skewed = independent(&[3, 17], 2);
        let expected = 0.5 + 0.5 * 2.0 / 30.0;
        near(skewed.chance, 0.125);
        for share in [skewed.reused, skewed.chance_by_popularity, skewed.by_popularity, skewed.by_previous_token] {
            near(share, expected);
        }
    }
}
