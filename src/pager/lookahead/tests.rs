//! Tests of who is asked, and of the accounts.

use super::gates::tests::model;
use super::*;
use crate::trace::Foreteller::{CoOccurrence, Gate};

const STATE: [f32; 8] = [1.0; 8];
const VIEW: u32 = 7;

fn choose(all: &mut Lookahead, layer: u32, experts: [u32; 2], states: &[f32], is_chosen: bool) -> Option<Outcome> {
    let choice = Choice { layer, used: 2, experts: experts.to_vec(), states: states.to_vec(), ..Choice::default() };
    all.chosen(choice, true, &experts, |_| is_chosen)
}

/// Who foretells what of layer 1.
fn foretold(all: &mut Lookahead) -> Option<(Foreteller, Vec<u32>)> {
    let foretold = all.foretell()?;
    assert_eq!(foretold.layer, 1);
    Some((foretold.by, foretold.experts))
}

/// Has heard `[1, 3]` chosen after `[0, 1]` often, and not read any router.
fn taught() -> (Lookahead, Vec<u8>) {
    let (tensors, file) = model();
    let mut all = Lookahead::default();
    all.mapped(VIEW, &tensors);
    for _ in 0..20 {
        choose(&mut all, 0, [0, 1], &[], true);
        choose(&mut all, 1, [1, 3], &[], true);
    }
    (all, file)
}

#[test]
fn co_occurrence_is_asked_where_the_gate_cannot_answer() {
    let (mut all, file) = taught();
    choose(&mut all, 0, [0, 1], &STATE, true);
    assert_eq!(foretold(&mut all), Some((CoOccurrence, vec![1, 3])), "the router has not been read");
    assert_eq!(foretold(&mut all), None, "it has been asked for");
    all.about(&[5, 6]);
    assert_eq!([all.begun(5, 4096), all.begun(9, 1)], [Some(CoOccurrence), None]);
    let outcome = choose(&mut all, 1, [1, 2], &STATE, true).expect("it was foretold");
    let expected = Outcome { by: CoOccurrence, guessed: 2, right: 1, chosen: 2, read_bytes: 4096, used_bytes: 4096 };
    assert_eq!(outcome, expected);

    all.read(VIEW, 0, &file);
    choose(&mut all, 0, [0, 1], &STATE, true);
    assert_eq!(foretold(&mut all), Some((Gate, vec![2])), "the router itself, half of what a token uses");
    all.about(&[5]);
    assert_eq!(all.begun(5, 4096), Some(Gate));
    let outcome = choose(&mut all, 1, [1, 3], &STATE, false).expect("it was foretold");
    assert_eq!(outcome, Outcome { by: Gate, guessed: 1, right: 0, chosen: 2, read_bytes: 4096, used_bytes: 0 });

    choose(&mut all, 0, [0, 1], &[], true);
    assert_eq!(foretold(&mut all), Some((CoOccurrence, vec![1, 3])), "nobody knows the state");
    assert_eq!(choose(&mut all, 2, [1, 3], &[], true), None, "it was about another layer");
}

#[test]
fn who_names_nobody_was_asked_all_the_same() {
    let (mut all, _) = taught();
    choose(&mut all, 0, [2, 3], &[], true);
    assert_eq!(foretold(&mut all), None);
    let outcome = choose(&mut all, 1, [0, 2], &[], true).expect("it was asked");
    assert_eq!((outcome.guessed, outcome.chosen), (0, 2));
}

#[test]
fn who_wastes_pauses_and_the_gate_for_both() {
    let waste = |all: &mut Lookahead| {
        choose(all, 0, [0, 1], &STATE, true);
        assert!(all.is_ready());
        foretold(all).expect("it is trusted");
        all.about(&[5]);
        let wasted = all.begun(5, 64 << 20);
        choose(all, 1, [1, 3], &STATE, false);
        assert!(!all.is_ready());
        wasted
    };
    let (mut all, file) = taught();
    assert_eq!(waste(&mut all), Some(CoOccurrence));
    choose(&mut all, 0, [0, 1], &STATE, true);
    assert_eq!(foretold(&mut all), None);
    all.read(VIEW, 0, &file);
    choose(&mut all, 0, [0, 1], &STATE, true);
    assert_eq!(foretold(&mut all).expect("another").0, Gate);
    assert!(all.is_ready(), "it is known now");
    assert_eq!([Gate, CoOccurrence].map(|by| all.pauses(by)), [0, 1]);

    let (mut all, file) = taught();
    all.read(VIEW, 0, &file);
    assert_eq!(waste(&mut all), Some(Gate));
    choose(&mut all, 0, [0, 1], &[], true);
    assert_eq!(foretold(&mut all), None, "who knows less is not asked instead");
    assert_eq!([Gate, CoOccurrence].map(|by| all.pauses(by)), [1, 0]);
}

#[test]
fn of_a_large_batch_the_gate_alone_is_asked_and_names_all_that_a_token_uses() {
    let (mut all, file) = taught();
    let heard = |all: &mut Lookahead, layer, tokens: usize| {
        let states = STATE.repeat(tokens.min(Choice::TOLD_MAX));
        let choice = Choice { layer, used: 2, experts: [0, 1].repeat(tokens), states, ..Choice::default() };
        all.chosen(choice, true, &[0, 1], |_| true);
    };
    let large = Choice::SMALL_MAX + 1;
    heard(&mut all, 0, large);
    assert!(all.sees_batch());
    assert_eq!(foretold(&mut all), None, "the router has not been read");
    assert!(!all.sees_batch());
    all.read(VIEW, 0, &file);
    for (tokens, experts) in [(large - 1, 1), (large, 2), (3 * Choice::TOLD_MAX, 2)] {
        heard(&mut all, 0, tokens);
        let (by, named) = foretold(&mut all).expect("the router is known");
        assert_eq!((by, named.len()), (Gate, experts), "{tokens} tokens");
    }
    // The last layer of a prompt computes a single token.
    heard(&mut all, 1, large);
    assert_eq!(all.foretell(), None);
    heard(&mut all, 1, 1);
    assert!(all.foretell().is_some());
}

#[test]
fn nothing_is_foretold_while_all_is_in_memory() {
    let (mut all, _) = taught();
    for _ in 0..MISSED_CHOICES {
        let choice = Choice { layer: 0, used: 2, experts: vec![0, 1], ..Choice::default() };
        assert!(all.is_ready());
        all.chosen(choice, false, &[0, 1], |_| true);
    }
    assert!(!all.is_ready());
    assert_eq!(foretold(&mut all), None, "nothing was missing for long");
}
