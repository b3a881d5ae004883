//! One router's weights, small enough to be at hand: eight bits each.
//!
//! A router is a matrix with a row for each expert; it chooses the experts whose rows give the largest
//! products with the state of a token. To foretell it, the order of these products is enough: rows and
//! states are rounded to 255 steps of their largest element.

/// The largest magnitude of a rounded element.
const STEPS: f32 = 127.0;

/// What a router is made of, as a file has it.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The matrix, one row an expert.
    pub rows: &'a [f32],
    /// By what each element of a state is to be multiplied first.
    pub factors: &'a [f32],
    /// Added to the products.
    pub bias: Option<&'a [f32]>,
    /// Added to the sigmoids of the products, by which experts are then chosen (DeepSeek-V3,
    /// arXiv 2412.19437, section 2.1.2).
    pub probability_bias: Option<&'a [f32]>,
}

/// A router.
#[derive(Debug)]
pub struct Gate {
    width: usize,
    rows: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
    probability_bias: Option<Vec<f32>>,
}

impl Gate {
    /// `None` when the sizes do not fit each other.
    pub fn new(weights: Weights<'_>) -> Option<Gate> {
        let width = weights.factors.len();
        let experts = weights.rows.len().checked_div(width)?;
        let fits = |bias: Option<&[f32]>| bias.is_none_or(|bias| bias.len() == experts);
        if experts * width != weights.rows.len() || !fits(weights.bias) || !fits(weights.probability_bias) {
            return None;
        }
        let mut gate = Gate {
            width,
            rows: Vec::with_capacity(weights.rows.len()),
            scales: Vec::with_capacity(experts),
            bias: weights.bias.map_or_else(|| vec![0.0; experts], <[f32]>::to_vec),
            probability_bias: weights.probability_bias.map(<[f32]>::to_vec),
        };
        for row in weights.rows.chunks_exact(width) {
            let row: Vec<f32> = row.iter().zip(weights.factors).map(|(weight, factor)| weight * factor).collect();
            gate.scales.push(round(&row, &mut gate.rows));
        }
        Some(gate)
    }

    /// The `count` experts that the router would choose for `state`, the likeliest first; none when the
    /// state is not of the router's width.
    pub fn favourites(&self, state: &[f32], count: usize) -> Vec<u32> {
        if state.len() != self.width {
            return Vec::new();
        }
        let mut rounded = Vec::with_capacity(self.width);
        let scale = round(state, &mut rounded);
        let mut scores: Vec<(f32, u32)> = self
            .rows
            .chunks_exact(self.width)
            .enumerate()
            .map(|(expert, row)| {
                let product = product(row, &rounded) as f32 * scale * self.scales[expert] + self.bias[expert];
                let score = match &self.probability_bias {
                    Some(bias) => 1.0 / (1.0 + (-product).exp()) + bias[expert],
                    None => product,
                };
                (score, expert as u32)
            })
            .collect();
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.into_iter().take(count).map(|(_, expert)| expert).collect()
    }
}

/// Appends `values` in steps to `rounded`; gives the size of a step.
fn round(values: &[f32], rounded: &mut Vec<i8>) -> f32 {
    let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let steps = if most > 0.0 { STEPS / most } else { 0.0 };
    rounded.extend(values.iter().map(|value| (value * steps).round() as i8));
    most / STEPS
}

/// At most 2^14 for each element: rows of more than 100 000 elements could overflow, and no model is so wide.
fn product(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(i16::from(a) * i16::from(b))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 64;
    const EXPERTS: usize = 16;

    /// Numbers from -1 to 1 that look like chance (a linear congruential generator).
    fn noise(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn exact(weights: Weights<'_>, state: &[f32]) -> Vec<u32> {
        let mut scores: Vec<(f64, u32)> = Vec::new();
        for (expert, row) in weights.rows.chunks_exact(state.len()).enumerate() {
            let mut score = 0.0f64;
            for ((weight, factor), element) in row.iter().zip(weights.factors).zip(state) {
                score += f64::from(*weight) * f64::from(*factor) * f64::from(*element);
            }
            score += weights.bias.map_or(0.0, |bias| f64::from(bias[expert]));
            if let Some(bias) = weights.probability_bias {
                score = 1.0 / (1.0 + (-score).exp()) + f64::from(bias[expert]);
            }
            scores.push((score, expert as u32));
        }
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        scores.into_iter().map(|(_, expert)| expert).collect()
    }

    #[test]
    fn the_likeliest_come_first() {
        let (rows, factors) = (noise(1, WIDTH * EXPERTS), noise(2, WIDTH));
        let (bias, probability) = (noise(3, EXPERTS), noise(4, EXPERTS));
        let state: Vec<f32> = noise(5, WIDTH).iter().map(|value| value * 7.0).collect();
        let plain = Weights { rows: &rows, factors: &factors, bias: None, probability_bias: None };
        let tilted: Vec<f32> = bias.iter().map(|value| value * 30.0).collect();
        let weights = [
            plain,
            Weights { bias: Some(&tilted), ..plain },
            Weights { probability_bias: Some(&probability), ..plain },
        ];
        let mut orders = Vec::new();
        for weights in weights {
            let gate = Gate::new(weights).expect("sizes fit");
            orders.push(gate.favourites(&state, 4));
            assert_eq!(orders.last(), Some(&exact(weights, &state)[..4].to_vec()));
        }
        assert!(orders[0] != orders[1] && orders[0] != orders[2], "{orders:?}");
    }

    #[test]
    fn what_does_not_fit_foretells_nothing() {
        let (rows, factors) = (noise(1, WIDTH * EXPERTS), vec![1.0; WIDTH]);
        let plain = Weights { rows: &rows, factors: &factors, bias: None, probability_bias: None };
        assert!(Gate::new(Weights { rows: &rows[1..], ..plain }).is_none());
        assert!(Gate::new(Weights { bias: Some(&rows[..EXPERTS + 1]), ..plain }).is_none());
        assert!(Gate::new(Weights { factors: &[], ..plain }).is_none());
        let gate = Gate::new(plain).expect("sizes fit");
        assert!(gate.favourites(&[0.0; WIDTH - 1], 4).is_empty());
        assert_eq!(gate.favourites(&[f32::NAN; WIDTH], 4).len(), 4);
    }
}
