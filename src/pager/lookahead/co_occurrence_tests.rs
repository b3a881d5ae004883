//! Tests of what is learned of successions.

use super::*;

const EXPERTS: u32 = 32;
const LAYERS: u32 = 3;

fn tensors(experts: u32) -> Vec<Tensor> {
    let tensor = |layer| Tensor {
        name: format!("blk.{layer}.ffn_up_exps.weight"),
        role: String::new(),
        layer: Some(layer),
        offset: 0,
        bytes: 0,
        experts,
    };
    (0..LAYERS).map(tensor).collect()
}

fn learned() -> CoOccurrence {
    let mut all = CoOccurrence::default();
    all.add(3, &tensors(EXPERTS));
    all
}

fn choice(layer: u32, tokens: &[[u32; 2]]) -> Choice {
    Choice { layer, used: 2, experts: tokens.concat(), ..Choice::default() }
}

/// Named after `before`, by number.
fn after(all: &mut CoOccurrence, layer: u32, before: [u32; 2]) -> Option<Vec<u32>> {
    let mut named = all.foretell(&choice(layer, &[before]))?.remove(0);
    named.sort_unstable();
    Some(named)
}

/// Tokens whose experts are moved up by `shift` from layer to layer.
fn teach(all: &mut CoOccurrence, shift: u32, tokens: u32) {
    for token in 0..tokens {
        for layer in 0..LAYERS {
            let first = (token + layer * shift) % EXPERTS;
            all.heard(&choice(layer, &[[first, (first + 1) % EXPERTS]]));
        }
    }
}

#[test]
fn what_followed_is_foretold_and_a_change_is_followed() {
    let mut all = learned();
    assert_eq!(after(&mut all, 0, [4, 5]), Some(vec![]), "nothing has been heard");
    teach(&mut all, 9, 1);
    assert_eq!(after(&mut all, 0, [0, 1]), Some(vec![9, 10]), "both say the same");
    assert_eq!(after(&mut all, 0, [1, 2]), Some(vec![]), "once, by one of two");
    teach(&mut all, 9, 40 * EXPERTS);
    assert_eq!(after(&mut all, 0, [4, 5]), Some(vec![13, 14]));
    assert_eq!(after(&mut all, 1, [30, 31]), Some(vec![7, 8]));
    assert_eq!(after(&mut all, 2, [4, 5]), None, "there is no layer behind the last");
    // Each expert is used twice in a round: sixteen uses forget most.
    teach(&mut all, 20, 12 * EXPERTS);
    assert_eq!(after(&mut all, 0, [4, 5]), Some(vec![24, 25]));
}

#[test]
fn the_most_probable_comes_first() {
    let mut all = learned();
    for next in [[20, 10], [10, 20], [20, 10], [20, 11]] {
        all.heard(&choice(0, &[[0, 1]]));
        all.heard(&choice(1, &[next]));
    }
    assert_eq!(all.foretell(&choice(0, &[[0, 1]])), Some(vec![vec![20, 10]]));
}

#[test]
fn chance_is_not_foretold() {
    let (mut all, mut random, mut named) = (learned(), fastrand::Rng::with_seed(7), 0);
    for _ in 0..1000 {
        for layer in 0..LAYERS {
            let first = random.u32(0..EXPERTS);
            let choice = choice(layer, &[[first, (first + random.u32(1..EXPERTS)) % EXPERTS]]);
            all.heard(&choice);
            named += all.foretell(&choice).map_or(0, |named| named[0].len());
        }
    }
    assert!(named < 40, "{named} of 2000 tokens' 4000 experts");
}

#[test]
fn tokens_of_a_batch_are_told_apart_and_paired_from_the_last_one_on() {
    let mut all = learned();
    for _ in 0..4 {
        all.heard(&choice(0, &[[0, 1], [2, 3], [4, 5]]));
        all.heard(&choice(1, &[[10, 11], [12, 13], [14, 15]]));
        // The last layer computes the last token alone.
        all.heard(&choice(2, &[[20, 21]]));
    }
    let both = all.foretell(&choice(0, &[[4, 5], [0, 1]]));
    assert_eq!(both, Some(vec![vec![14, 15], vec![10, 11]]));
    assert_eq!(after(&mut all, 1, [14, 15]), Some(vec![20, 21]));
    assert_eq!(after(&mut all, 1, [10, 11]), Some(vec![]));
}

#[test]
fn what_says_nothing_teaches_nothing() {
    let mut all = learned();
    teach(&mut all, 9, 4 * EXPERTS);
    // The warm-up run: all experts. Twenty of them would wipe the rows out.
    for _ in 0..20 {
        for layer in 0..LAYERS {
            let experts: Vec<u32> = (0..EXPERTS).collect();
            let choice = Choice { layer, used: EXPERTS, experts, ..Choice::default() };
            all.heard(&choice);
            assert_eq!(all.foretell(&choice), None);
        }
    }
    // A layer was not heard; an expert that there is not; a choice that is cut off.
    (0..20).for_each(|_| [0, 2].into_iter().for_each(|layer| all.heard(&choice(layer, &[[4, 5]]))));
    all.heard(&choice(0, &[[7, u32::MAX]]));
    all.heard(&choice(1, &[[u32::MAX, 16]]));
    all.heard(&Choice { layer: 2, used: 2, experts: vec![1], ..Choice::default() });
    all.heard(&Choice { layer: u32::MAX, used: 0, experts: Vec::new(), ..Choice::default() });
    assert_eq!(after(&mut all, 0, [4, 5]), Some(vec![13, 14]));
    assert_eq!(after(&mut all, 1, [4, 5]), Some(vec![13, 14]));
    assert_eq!(after(&mut all, u32::MAX, [0, 1]), None);
}

#[test]
fn memory_is_bounded_and_given_back() {
    let bytes = |all: &CoOccurrence| all.steps.values().map(|step| 2 * step.rows.len()).sum::<usize>();
    let mut all = learned();
    let one = bytes(&all);
    all.add(4, &tensors(EXPERTS));
    teach(&mut all, 9, 4 * EXPERTS);
    all.remove(3);
    assert_eq!(bytes(&all), one, "the other view has the same layers");
    assert_eq!(after(&mut all, 0, [4, 5]), Some(vec![13, 14]));
    all.remove(4);
    assert_eq!((bytes(&all), after(&mut all, 0, [4, 5])), (0, None));
    all.add(5, &tensors(EXPERTS_MAX as u32 + 1));
    assert_eq!(bytes(&all), 0);
    let layer = tensors(EXPERTS_MAX as u32).remove(0);
    let many: Vec<Tensor> = (0..1000).map(|number| Tensor { layer: Some(number), ..layer.clone() }).collect();
    all.add(6, &many);
    assert!((BYTES_MAX - (1 << 20)..=BYTES_MAX).contains(&bytes(&all)), "{}", bytes(&all));
}
