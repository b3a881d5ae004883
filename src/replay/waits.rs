//! Where the time between touches goes: sleeping, waking up, computing.

use super::recording::Touched;
use crate::policy::Touch;

/// Threads that make at least one in so many touches count as compute threads.
const SHARE: usize = 20;

/// How many threads computed in `touches`; 1 where the log does not tell threads apart.
pub fn threads(touches: &[Touched]) -> usize {
    let mut counts = std::collections::HashMap::<u32, usize>::new();
    touches.iter().for_each(|touch| *counts.entry(touch.tid).or_default() += 1);
    counts.values().filter(|&&count| count * SHARE >= touches.len()).count().max(1)
}

/// From the moment at which the pager hears of a touch until it wakes the thread, where the block only had
/// to be put into the view: the median, in nanoseconds. `None` without such a wait.
pub fn answer_ns(touches: &[Touched]) -> Option<u64> {
    let staged = touches.iter().filter(|touch| touch.found == Touch::Staged && !touch.joined);
    let mut waits: Vec<u64> = staged.map(|touch| touch.woken_ns - touch.at_ns).filter(|&wait| wait > 0).collect();
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied()
}

/// Touches of staged blocks while no other thread sleeps, by their indexes, each with the time until the
/// next touch in nanoseconds. The wake-up is no border within that time: its record may come late, as the
/// thread that is woken may take the processor from the one that writes it down.
pub fn staged(touches: &[Touched]) -> impl Iterator<Item = (usize, u64)> + '_ {
    let mut woken_ns = 0;
    touches.windows(2).enumerate().filter_map(move |(at, pair)| {
        let alone = woken_ns <= pair[0].at_ns;
        woken_ns = woken_ns.max(pair[0].woken_ns);
        (alone && pair[0].found == Touch::Staged).then(|| (at, pair[1].at_ns - pair[0].at_ns))
    })
}

/// The time until `end_ns` in which a thread sleeps, in nanoseconds.
pub fn asleep_ns(touches: &[Touched], end_ns: u64) -> u64 {
    let (mut woken_ns, mut asleep_ns) = (0, 0);
    for touch in touches {
        let until_ns = touch.woken_ns.min(end_ns);
        asleep_ns += until_ns.saturating_sub(touch.at_ns.max(woken_ns));
        woken_ns = woken_ns.max(until_ns);
    }
    asleep_ns
}

/// The time in which no thread sleeps, in nanoseconds.
pub fn awake_ns(touches: &[Touched]) -> u64 {
    let mut woken_ns = 0;
    let passed = touches.windows(2).map(|pair| {
        woken_ns = woken_ns.max(pair[0].woken_ns);
        pair[1].at_ns.saturating_sub(woken_ns)
    });
    passed.sum()
}
