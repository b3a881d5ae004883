//! `auto` beside others that want the memory: llama.cpp generates while a hog takes memory and gives
//! it back, or while a second llama.cpp does the same, all below one limit. Nobody may be killed, the
//! text stays the same, the pool gives way and grows again.
//!
//! Variables, with their defaults:
//!
//! * `GGPAGER_HOG_ROUNDS` (3): how often the hog comes.
//! * `GGPAGER_HOG_BYTES` (250000000): what it takes. The model has three times as much, the limit is
//!   a little above that.
//! * `GGPAGER_HOG_RATE` (1000000000): how fast it takes it, in bytes per second; 0 is as fast as it can.
//! * `GGPAGER_HOG_HUGE` (0): 1 makes it take huge pages, which are several times as fast.
//!
//! docs/measurements.md has runs of 20 rounds.

mod hog;
#[allow(dead_code)]
#[path = "../support/llama.rs"]
mod llama;
mod paged;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;
mod two;

use std::sync::{Mutex, MutexGuard};

use ggpager::bench::cgroup::{Group, Hierarchy, Limits};
use paged::{Running, require_same_as_stock};

/// The memory and the processors are for one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// A group with a limit, or nothing after a line that says why.
fn limited(name: &str, memory_bytes: u64) -> Option<Group> {
    if !support::available("root", support::is_root()) {
        return None;
    }
    let limits = Limits { memory_bytes: Some(memory_bytes), ..Limits::default() };
    let name = format!("ggpager-{name}-{}", std::process::id());
    match Hierarchy::find().and_then(|hierarchy| hierarchy.create(&name, &limits)) {
        Ok(group) => Some(group),
        Err(error) => {
            support::available(&format!("a memory cgroup ({error})"), false);
            None
        }
    }
}

#[test]
fn a_hog_comes_and_goes() {
    let _alone = alone();
    let Some(program) = llama::tool("llama-completion") else { return };
    let (rounds, bytes) = (number("GGPAGER_HOG_ROUNDS", 3), number("GGPAGER_HOG_BYTES", 250_000_000));
    let limit = bytes * 16 / 5;
    let model = llama::dense(bytes * 3, None);
    let Some(group) = limited("elastic", limit) else { return };
    let mut hog = hog::Hog::start(&group, bytes);
    let paged = Running::start(&program, model, &group);
    paged.wait_for("the first token", |seen| !seen.text.is_empty());
    for round in 1..=rounds {
        let (before, spoken) = (paged.seen().budget, paged.seen().text.len());
        let took_ms = hog.take();
        paged.wait_for("the pool to give way and the text to go on", |seen| {
            seen.budget + bytes / 2 < before && seen.text.len() > spoken
        });
        let during = paged.seen();
        hog.give_back();
        paged.wait_for("the pool to grow again", |seen| seen.budget > during.budget + bytes / 2);
        let after = paged.seen();
        assert_eq!(group.oom_kills().unwrap_or(0), 0, "the OOM killer came in round {round}");
        println!(
            "round {round}: the hog took {bytes} bytes in {took_ms} ms; budget {before} -> {} -> {} bytes",
            during.budget, after.budget
        );
    }
    hog.end();
    let outcome = paged.end();
    assert_eq!(group.oom_kills().unwrap_or(0), 0, "the OOM killer came");
    let (given, us) = outcome.given.iter().fold((0, 0), |(bytes, us), more| (bytes + more.0, us + more.1));
    println!(
        "peak {:?} of {limit} bytes; {} changes; {given} bytes given back in {us} us, the longest {:?}",
        group.memory_peak_bytes(),
        outcome.changes.len(),
        outcome.given.iter().max_by_key(|given| given.1)
    );
    require_same_as_stock(&program, model, &[&outcome]);
}
