//! Two pagers below one limit.

use super::paged::{Running, Seen, require_same_as_stock};
use super::{alone, limited, llama, number};

/// Neither has less than half of what the other has.
fn is_fair(a: &Seen, b: &Seen) -> bool {
    a.budget.min(b.budget) * 2 >= a.budget.max(b.budget)
}

#[test]
fn two_pagers_share_and_the_one_that_stays_gets_the_rest() {
    let _alone = alone();
    let Some(program) = llama::tool("llama-completion") else { return };
    let bytes = number("GGPAGER_HOG_BYTES", 250_000_000);
    let model = llama::dense(bytes * 3, None);
    // Each has somewhat more than its least, its KV cache and its buffers.
    let Some(group) = limited("two", bytes * 4) else { return };
    let first = Running::start(&program, model, &group);
    first.wait_for("the first token", |seen| !seen.text.is_empty());
    let alone = first.seen().budget;
    let second = Running::start(&program, model, &group);
    second.wait_for("the second one to get its share", |seen| !seen.text.is_empty() && is_fair(&first.seen(), seen));
    let (a, b) = (first.seen(), second.seen());
    // Some tokens on, they still share, and both have got on.
    let words = |seen: &Seen| seen.text.iter().filter(|&&letter| letter == b' ').count();
    first.wait_for("the first one to go on", |seen| words(seen) >= words(&a) + 4);
    second.wait_for("the second one to go on", |seen| words(seen) >= words(&b) + 4);
    let (later_a, later_b) = (first.seen(), second.seen());
    assert!(is_fair(&later_a, &later_b), "{:?} {:?}", later_a.changes, later_b.changes);
    let moved = |seen: &Seen, from: usize| -> u64 { seen.changes[from..].iter().map(|(a, b)| a.abs_diff(*b)).sum() };
    println!(
        "alone {alone} bytes, shared {} and {}, later {} and {}; changes {} and {}, then {} and {} bytes more",
        a.budget,
        b.budget,
        later_a.budget,
        later_b.budget,
        later_a.changes.len(),
        later_b.changes.len(),
        moved(&later_a, a.changes.len()),
        moved(&later_b, b.changes.len()),
    );
    let a = first.end();
    second.wait_for("the second one to take what the first one had", |seen| seen.budget > later_b.budget * 5 / 4);
    let b = second.end();
    assert_eq!(group.oom_kills().unwrap_or(0), 0, "the OOM killer came");
    require_same_as_stock(&program, model, &[&a, &b]);
}
