//! How evenly touches are spread over the blocks of each tensor role.

use serde::Serialize;

use super::blocks::Blocks;

/// Touches of the blocks of one role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Uniformity {
    /// The role's word.
    pub role: String,
    /// Blocks.
    pub blocks: u64,
    /// Their length, in bytes.
    pub bytes: u64,
    /// Touches.
    pub touches: u64,
    /// Blocks without a touch.
    pub untouched: u64,
    /// 0 when all blocks are touched alike, towards 1 when one has all touches.
    pub gini: f64,
    /// 1 when all blocks are touched alike, 0 when one has all touches.
    pub entropy: f64,
}

/// The Gini coefficient (C. Gini, "Variabilità e mutabilità", 1912), by the sorted form
/// G = 2 sum(i x_i) / (n sum(x)) - (n + 1) / n with i from 1. Sorts `counts`.
pub fn gini(counts: &mut [u64]) -> f64 {
    counts.sort_unstable();
    let (n, sum) = (counts.len() as f64, counts.iter().sum::<u64>() as f64);
    if sum == 0.0 {
        return 0.0;
    }
    let weighted: f64 = counts.iter().enumerate().map(|(index, &count)| (index as f64 + 1.0) * count as f64).sum();
    (2.0 * weighted / (n * sum) - (n + 1.0) / n).max(0.0)
}

/// The entropy of the shares (C. E. Shannon, "A mathematical theory of communication", 1948) over that
/// of the uniform distribution, log n (Pielou's evenness). 1 for fewer than two counts.
pub fn normalised_entropy(counts: &[u64]) -> f64 {
    let sum = counts.iter().sum::<u64>() as f64;
    if counts.len() < 2 || sum == 0.0 {
        return 1.0;
    }
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / sum);
    let entropy: f64 = -shares.map(|share| share * share.ln()).sum::<f64>();
    (entropy / (counts.len() as f64).ln()).clamp(0.0, 1.0)
}

/// All roles, the largest first; `touches` by place.
pub fn by_role(blocks: &Blocks, touches: &[u64]) -> Vec<Uniformity> {
    let mut all: Vec<Uniformity> = Vec::new();
    for (role, word) in blocks.roles().iter().enumerate() {
        let of_role = blocks.places().iter().zip(touches).filter(|(place, _)| usize::from(place.role) == role);
        let bytes = of_role.clone().map(|(place, _)| u64::from(place.len)).sum();
        let mut counts: Vec<u64> = of_role.map(|(_, &count)| count).collect();
        all.push(Uniformity {
            role: word.clone(),
            blocks: counts.len() as u64,
            bytes,
            touches: counts.iter().sum(),
            untouched: counts.iter().filter(|&&count| count == 0).count() as u64,
            gini: gini(&mut counts),
            entropy: normalised_entropy(&counts),
        });
    }
    all.sort_by_key(|it| std::cmp::Reverse(it.bytes));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenness_has_the_textbook_values() {
        assert_eq!(gini(&mut [5, 5, 5, 5]), 0.0);
        assert_eq!(gini(&mut [0, 8, 0, 0]), 0.75);
        assert!((gini(&mut [4, 1, 3, 2]) - 0.25).abs() < 1e-12);
        assert_eq!(gini(&mut [0, 0]), 0.0);
        assert!((normalised_entropy(&[3, 3, 3, 3]) - 1.0).abs() < 1e-12);
        assert_eq!(normalised_entropy(&[0, 9, 0]), 0.0);
        // Half of the blocks: log 2 / log 4.
        assert!((normalised_entropy(&[7, 0, 7, 0]) - 0.5).abs() < 1e-12);
    }
}
