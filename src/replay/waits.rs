//! Time that was computed between two touches: what is left when the waits are taken out.

use super::recording::Touched;

/// Threads that make at least one in so many touches count as compute threads.
const SHARE: usize = 20;

/// How many threads computed in `touches`; 1 where the log does not tell threads apart.
pub fn threads(touches: &[Touched]) -> usize {
    let mut counts = std::collections::HashMap::<u32, usize>::new();
    touches.iter().for_each(|touch| *counts.entry(touch.tid).or_default() += 1);
    counts.values().filter(|&&count| count * SHARE >= touches.len()).count().max(1)
}

/// For each touch, the time that `threads` threads have run since the first one, summed over the
/// threads, in nanoseconds: a thread runs when it does not sleep on a block.
pub fn running_ns(touches: &[Touched], threads: usize) -> Vec<u64> {
    let mut woken: Vec<u64> = touches.iter().map(|touch| touch.woken_ns).collect();
    woken.sort_unstable();
    let mut woken = woken.into_iter().peekable();
    let (mut now_ns, mut asleep, mut running) = (touches.first().map_or(0, |touch| touch.at_ns), 0usize, 0);
    let mut clock = Vec::with_capacity(touches.len());
    for touch in touches {
        let mut pass = |until_ns: u64, asleep: usize| {
            running += (until_ns - now_ns) * threads.saturating_sub(asleep) as u64;
            now_ns = until_ns;
        };
        while let Some(at_ns) = woken.next_if(|&at_ns| at_ns <= touch.at_ns) {
            pass(at_ns, asleep);
            asleep = asleep.saturating_sub(1);
        }
        pass(touch.at_ns, asleep);
        clock.push(running);
        asleep += 1;
    }
    clock
}

/// The median of the waits for blocks that only had to be put into the view, in nanoseconds; `None`
/// without such a wait.
pub fn wake_ns(touches: &[Touched]) -> Option<u64> {
    let staged = touches.iter().filter(|touch| touch.found == crate::policy::Touch::Staged && !touch.joined);
    let mut waits: Vec<u64> = staged.map(|touch| touch.woken_ns - touch.at_ns).filter(|&wait| wait > 0).collect();
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied()
}
