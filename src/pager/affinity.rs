//! How near experts came to being chosen.
//!
//! A router gives every expert a score for a token (its *affinity* in DeepSeekMoE, arXiv 2401.06066), and the largest are chosen.
//! What was nearly chosen is chosen soon more often than what was far from it. How far that is depends on the model: scores are
//! probabilities, sigmoids or plain products. So the distance from where the choice ends is measured in the standard deviations
//! of the token's scores, and a logistic function makes a number from 0 to 1 of it, one half at the choice's end.

use super::command::Choice;

/// Affinities are rounded to so many levels.
pub const LEVELS: u8 = 15;

/// Lower ones say nothing: every other expert has one. Caches hit as often without them.
const LEVEL_MIN: u8 = 2;

/// So many standard deviations below the end of the choice the affinity is one in (1 + e). From 0.4 to 0.8 caches hit about the same.
const SPREAD: f32 = 0.6;

/// Probabilities sum up to one but for rounding.
const SUM_TOLERANCE: f32 = 0.01;

/// The level of a level's affinity.
pub fn of_level(level: u8) -> f64 {
    f64::from(level.min(LEVELS)) / f64::from(LEVELS)
}

/// The experts that came near to being chosen or were chosen, in the mean of the tokens of which `choice` has scores; in
/// ascending order, each with the level of its affinity.
pub fn levels(choice: &Choice) -> Vec<(u32, u8)> {
    let used = choice.used as usize;
    let tokens = choice.tokens().min(Choice::TOLD_MAX);
    let experts = choice.scores.len().checked_div(tokens).unwrap_or(0);
    if used == 0 || used >= experts || experts * tokens != choice.scores.len() {
        return Vec::new();
    }
    let mut sums = vec![0.0; experts];
    for (scores, chosen) in choice.scores.rchunks_exact(experts).zip(choice.experts.rchunks_exact(used)) {
        add(&mut sums, scores, chosen);
    }
    let level = |sum: &f32| (sum / tokens as f32 * f32::from(LEVELS)).round() as u8;
    (0..).zip(sums.iter().map(level)).filter(|&(_, level)| level >= LEVEL_MIN).collect()
}

/// Adds the affinities of a token to `sums`.
fn add(sums: &mut [f32], scores: &[f32], chosen: &[u32]) {
    let is_probability =
        scores.iter().all(|&score| score >= 0.0) && (scores.iter().sum::<f32>() - 1.0).abs() < SUM_TOLERANCE;
    // A softmax of it is linear in the logarithm.
    let scale = |score: f32| if is_probability { score.max(f32::MIN_POSITIVE).ln() } else { score };
    let scores: Vec<f32> = scores.iter().copied().map(scale).collect();
    let mut is_chosen = vec![false; scores.len()];
    for &expert in chosen {
        let Some(is_chosen) = is_chosen.get_mut(expert as usize) else { return };
        *is_chosen = true;
    }
    // Experts of groups that a router leaves out have no score.
    let finite = || scores.iter().copied().zip(&is_chosen).filter(|(score, _)| score.is_finite());
    let least = finite().filter(|(_, chosen)| **chosen).map(|(score, _)| score).fold(f32::INFINITY, f32::min);
    let best = finite().filter(|(_, chosen)| !**chosen).map(|(score, _)| score).fold(f32::NEG_INFINITY, f32::max);
    let count = finite().count() as f32;
    let mean = finite().map(|(score, _)| score).sum::<f32>() / count;
    let deviation = (finite().map(|(score, _)| (score - mean).powi(2)).sum::<f32>() / count).sqrt();
    let end = (least + best) / 2.0;
    if !(end.is_finite() && deviation > 0.0) {
        return;
    }
    for (sum, score) in sums.iter_mut().zip(&scores).filter(|(_, score)| score.is_finite()) {
        *sum += 1.0 / (1.0 + ((end - score) / (deviation * SPREAD)).exp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(used: u32, experts: &[u32], scores: &[f32]) -> Choice {
        Choice { used, experts: experts.to_vec(), scores: scores.to_vec(), ..Choice::default() }
    }

    fn level(levels: &[(u32, u8)], expert: u32) -> u8 {
        levels.iter().find(|(it, _)| *it == expert).map_or(0, |it| it.1)
    }

    #[test]
    fn the_nearer_to_being_chosen_the_larger() {
        let scores = [0.0, 4.0, 3.0, 2.9, 2.0, -9.0, f32::NEG_INFINITY, 0.5];
        let levels = levels(&choice(2, &[1, 2], &scores));
        let of = |expert| level(&levels, expert);
        assert!(of(1) >= of(2) && of(2) >= of(3) && of(3) > of(4) && of(4) > of(0), "{levels:?}");
        assert!((7..=8).contains(&of(3)) && [5, 6].map(of) == [0, 0], "{levels:?}");
        assert!(levels.is_sorted() && levels.iter().all(|&(_, level)| level <= LEVELS));
    }

    #[test]
    fn neither_their_unit_nor_a_softmax_of_scores_matters() {
        let scores = [0.3f32, 2.0, 1.0, 1.2, -0.6, -3.0];
        let levels_of = |scores: &[f32]| levels(&choice(2, &[1, 3], scores));
        let expected = levels_of(&scores);
        assert_eq!(levels_of(&scores.map(|score| 5.0 * score + 7.0)), expected);
        let sum: f32 = scores.iter().map(|score| score.exp()).sum();
        assert_eq!(levels_of(&scores.map(|score| score.exp() / sum)), expected);
        assert_ne!(levels_of(&scores.map(|score| score.exp())), expected, "no probabilities");
    }

    #[test]
    fn a_batch_counts_by_the_mean_of_its_tokens() {
        // The first token has no scores.
        let batch = |tokens: usize| {
            let experts: Vec<u32> = (0..tokens as u32).map(|token| token % 2).collect();
            let scores: Vec<f32> =
                experts.iter().flat_map(|&expert| [[9.0, 0.0, 8.9], [0.0, 9.0, 8.9]][expert as usize]).collect();
            let from = tokens.saturating_sub(Choice::TOLD_MAX) * 3;
            levels(&choice(1, &experts, &scores[from..]))
        };
        let of = |tokens, expert| level(&batch(tokens), expert);
        assert_eq!(of(2, 0), of(2, 1));
        assert!(of(2, 2) > 5 && of(1, 0) > of(2, 0) && of(2, 0) > 0);
        assert_eq!(batch(2), batch(Choice::TOLD_MAX + 6));
    }

    #[test]
    fn what_says_nothing_gives_none() {
        let none = [
            choice(2, &[0, 1], &[1.0, 2.0]),
            choice(1, &[0], &[]),
            choice(1, &[0, 1], &[1.0, 2.0, 3.0]),
            choice(1, &[7], &[1.0, 2.0, 3.0]),
            choice(1, &[0], &[1.0, 1.0, 1.0]),
            choice(1, &[0], &[f32::NAN; 3]),
            choice(0, &[], &[]),
        ];
        assert!(none.iter().all(|choice| levels(choice).is_empty()));
    }
}
