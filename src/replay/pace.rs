//! How fast a log's threads compute, and what their touches cost.

use std::collections::HashMap;

use super::cycle::Use;
use super::fit::{Line, trimmed_mean, weighted_median};
use super::recording::Touched;
use super::waits;
use crate::policy::BlockId;

/// How fast the pager answers where the log does not tell, in nanoseconds.
const ANSWER_NS: u64 = 15_000;
/// A touch costs an answer and two switches from one thread to another, each of which takes hardly longer.
const ANSWERS_MAX: f64 = 3.0;

/// How fast the threads compute together, and what a touch costs.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For each byte of the blocks they pass.
    pub ns_per_byte: f64,
    /// A touch, besides the time in which its block is read.
    pub touch_ns: f64,
    /// At the end of each cycle, beyond all that.
    pub turn_ns: f64,
}

impl Pace {
    /// By the times from a touch of a staged block, while no other thread sleeps, to the next touch: a line
    /// through them over the bytes passed, which the outliers do not move. Those are the tails of tensors
    /// that one thread computes while the others wait for it, the touches of threads that had gone on
    /// meanwhile, and what other programs take. Its slope is the computation. A touch costs the mean of what
    /// is beyond that: its tail is part of every run.
    ///
    /// `starts` are the touches with which the cycles `uses` begin, and the end of the last; the first `lead`
    /// cycles do not count.
    pub fn of(uses: &[Vec<Use>], touches: &[Touched], starts: &[usize], lead: usize) -> Pace {
        let passed = passed(uses, touches, starts);
        let (mut within, mut across) = (Vec::new(), Vec::new());
        for (touch, ns) in waits::staged(touches) {
            let (Some(from), Some(to)) = (passed[touch], passed[touch + 1]) else { continue };
            let Some(bytes @ 1..) = to.bytes.checked_sub(from.bytes).filter(|_| from.cycle >= lead) else { continue };
            match to.cycle - from.cycle {
                0 => within.push((bytes as f64, ns as f64)),
                1 => across.push((bytes as f64, ns as f64)),
                _ => {}
            }
        }
        let answer_ns = waits::answer_ns(&touches[starts[lead]..]).unwrap_or(ANSWER_NS) as f64;
        let line = Line::through(&within, answer_ns, ANSWERS_MAX * answer_ns);
        let beyond = |&(bytes, ns): &(f64, f64)| (ns - bytes * line.slope).max(0.0);
        let touch_ns = trimmed_mean(within.iter().map(beyond).collect()).unwrap_or(line.intercept);
        let turns = across.iter().map(|point| ((beyond(point) - touch_ns).max(0.0), 1.0)).collect();
        // Where staged blocks do not tell, as under `demand`: all that is not a wait.
        let bytes: u64 = uses[lead..].iter().flatten().map(|used| used.bytes).sum();
        let awake_ns = waits::awake_ns(&touches[starts[lead]..]) as f64;
        let told = Some(line.slope).filter(|&slope| slope > 0.0);
        let ns_per_byte = told.unwrap_or(awake_ns / bytes.max(1) as f64);
        Pace { ns_per_byte, touch_ns, turn_ns: weighted_median(turns).unwrap_or(0.0) }
    }
}

/// Where a touch is.
#[derive(Debug, Clone, Copy)]
struct Passed {
    cycle: usize,
    /// Bytes of the steps before it, from the first cycle on.
    bytes: u64,
}

/// For each touch, as near to the one before as can be.
fn passed(uses: &[Vec<Use>], touches: &[Touched], starts: &[usize]) -> Vec<Option<Passed>> {
    let mut all = Vec::with_capacity(touches.len());
    let mut before = 0;
    for (cycle, used) in uses.iter().enumerate() {
        let mut places: HashMap<BlockId, Vec<(usize, u64)>> = HashMap::new();
        let mut bytes = before;
        for (at, step) in used.iter().enumerate() {
            places.entry(step.block).or_default().push((at, bytes));
            bytes += step.bytes;
        }
        before = bytes;
        let mut cursor = 0;
        for touch in &touches[starts[cycle]..starts[cycle + 1]] {
            let near = places.get(&touch.block);
            let near = near.and_then(|places| places.iter().min_by_key(|(at, _)| at.abs_diff(cursor)));
            cursor = near.map_or(cursor, |(at, _)| *at);
            all.push(near.map(|&(_, bytes)| Passed { cycle, bytes }));
        }
    }
    all.resize(touches.len(), None);
    all
}
