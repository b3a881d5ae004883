//! How fast a log's threads compute, and what their touches cost.

use std::collections::HashMap;

use super::fit::{Line, trimmed_mean, weighted_median};
use super::recording::{Recording, Start, Touched};
use super::used::Use;
use super::waits;
use crate::policy::BlockId;
use crate::sim::Action;

/// How fast the pager answers where the log does not tell, in nanoseconds.
const ANSWER_NS: u64 = 15_000;
/// A touch costs an answer and two switches from one thread to another, each of which takes hardly longer.
const ANSWERS_MAX: f64 = 3.0;

/// With fewer touches than these the times between routers' choices tell more.
const POINTS_MIN: usize = 1000;

/// How fast the threads compute together, and what a touch costs.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For each byte of the blocks they pass.
    pub ns_per_byte: f64,
    /// A touch, besides the time in which its block is read.
    pub touch_ns: f64,
    /// Of that, what is not the pager's own work: until a woken thread runs.
    pub wake_ns: f64,
    /// A router's choice: the graph stops for those who watch it.
    pub choice_ns: f64,
    /// At the end of each cycle, beyond all that.
    pub turn_ns: f64,
    /// The computation was seen while the pager's thread did nothing: what that takes of the processors comes on top.
    pub is_undisturbed: bool,
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
    pub fn of(recording: &Recording, uses: &[Vec<Use>], starts: &[Start], lead: usize) -> Pace {
        let touches = &recording.touches[..starts[starts.len() - 1].touch];
        let all_starts = starts;
        let starts: Vec<usize> = starts.iter().map(|start| start.touch).collect();
        let starts = starts.as_slice();
        let passed = passed(recording, uses, touches, starts);
        let (mut within, mut across, mut waking) = (Vec::new(), Vec::new(), Vec::new());
        for (touch, ns) in waits::staged(touches) {
            let (Some(from), Some(to)) = (passed[touch], passed[touch + 1]) else { continue };
            let Some(bytes @ 1..) = to.bytes.checked_sub(from.bytes).filter(|_| from.cycle >= lead) else { continue };
            let frame_bytes = recording.blocks[touches[touch].block as usize].frame_bytes;
            match to.cycle - from.cycle {
                0 => {
                    within.push((bytes as f64, ns as f64));
                    waking.push(recording.work.ns(Action::Install, frame_bytes) as f64);
                }
                1 => across.push((bytes as f64, ns as f64)),
                _ => {}
            }
        }
        let answer_ns = waits::answer_ns(&touches[starts[lead]..]).unwrap_or(ANSWER_NS) as f64;
        let line = Line::through(&within, answer_ns, ANSWERS_MAX * answer_ns);
        let layers = layers(recording, uses, all_starts, lead);
        let few = within.len() < POINTS_MIN && layers.len() > within.len();
        let slope = if few { LayerTime::ns_per_byte(&layers) } else { line.slope };
        // Where nothing came in and nothing was touched, what is beyond the computation is the choice's.
        let quiet = layers.iter().filter(|layer| layer.blocks == 0 && layer.touches == 0);
        let choices = quiet.map(|layer| ((layer.awake_ns - layer.bytes * slope).max(0.0), 1.0)).collect();
        let choice_ns = if few { 0.0 } else { weighted_median(choices).unwrap_or(0.0) };
        let beyond = |&(bytes, ns): &(f64, f64)| (ns - bytes * slope).max(0.0);
        let touch_ns = trimmed_mean(within.iter().map(beyond).collect()).unwrap_or(line.intercept);
        let wakes = within.iter().zip(&waking).map(|(point, install_ns)| (beyond(point) - install_ns).max(0.0));
        let (touch_ns, wake_ns) = if few {
            let wakes = woken(recording, touches, &passed, lead).iter().map(beyond).collect();
            let wake_ns = trimmed_mean(wakes).unwrap_or(line.intercept);
            (wake_ns + recording.work.mean_ns(Action::Install), wake_ns)
        } else {
            (touch_ns, trimmed_mean(wakes.collect()).unwrap_or(line.intercept))
        };
        let turns = across.iter().map(|point| ((beyond(point) - touch_ns).max(0.0), 1.0)).collect();
        // Where staged blocks do not tell, as under `demand`: all that is not a wait.
        let bytes: u64 = uses[lead..].iter().flatten().map(|used| used.bytes).sum();
        let awake_ns = waits::awake_ns(&touches[starts[lead]..]) as f64;
        let told = Some(slope).filter(|&slope| slope > 0.0);
        let ns_per_byte = told.unwrap_or(awake_ns / bytes.max(1) as f64);
        let turn_ns = weighted_median(turns).unwrap_or(0.0);
        Pace { ns_per_byte, touch_ns, wake_ns, choice_ns, turn_ns, is_undisturbed: few }
    }
}

/// From the moment at which no thread sleeps any more to the next touch, where no router chose meanwhile: bytes and
/// nanoseconds.
fn woken(recording: &Recording, touches: &[Touched], passed: &[Option<Passed>], lead: usize) -> Vec<(f64, f64)> {
    let mut woken_ns = 0;
    let mut all = Vec::new();
    for (at, pair) in touches.windows(2).enumerate() {
        woken_ns = woken_ns.max(pair[0].woken_ns);
        let (Some(from), Some(to)) = (passed[at], passed[at + 1]) else { continue };
        let chose = recording.choices.binary_search_by_key(&(at + 1), |choice| choice.touches).is_ok();
        let is_whole = from.cycle == to.cycle && from.cycle >= lead && to.bytes > from.bytes;
        if is_whole && !chose && pair[0].woken_ns > pair[0].at_ns && pair[1].at_ns > woken_ns {
            all.push(((to.bytes - from.bytes) as f64, (pair[1].at_ns - woken_ns) as f64));
        }
    }
    all
}

/// From one router's choice to the next: a layer.
#[derive(Debug, Clone, Copy)]
struct LayerTime {
    /// Bytes that are computed with.
    bytes: f64,
    /// Blocks that were put into the view meanwhile.
    blocks: u32,
    /// Touches.
    touches: usize,
    /// Time in which no thread slept.
    awake_ns: f64,
}

impl LayerTime {
    /// What the threads compute with when nothing comes in, as even a log shows it in whose every layer something does:
    /// the start of a line through the awake times over the blocks that came. Its slope, what a block costs besides its
    /// read, is the pager's work and that of the threads that wait for it.
    fn ns_per_byte(layers: &[LayerTime]) -> f64 {
        let points: Vec<(f64, f64)> = layers.iter().map(|layer| (f64::from(layer.blocks), layer.awake_ns)).collect();
        // At least half of all lie on that line or above it.
        let most = weighted_median(points.iter().map(|point| (point.1, 1.0)).collect()).unwrap_or(0.0);
        let bytes: f64 = layers.iter().map(|layer| layer.bytes).sum();
        Line::through(&points, 0.0, most).intercept * layers.len() as f64 / bytes.max(1.0)
    }
}

/// From each choice to the next one of the same cycle.
fn layers(recording: &Recording, uses: &[Vec<Use>], starts: &[Start], lead: usize) -> Vec<LayerTime> {
    let mut all = Vec::new();
    for (used, ends) in uses.iter().zip(starts.windows(2)).skip(lead) {
        // Bytes before each choice.
        let mut bytes = 0;
        let before: Vec<u64> = used
            .iter()
            .filter_map(|step| {
                let at = bytes;
                bytes += step.bytes;
                step.is_chosen().then_some(at)
            })
            .collect();
        let choices = &recording.choices[ends[0].choice..ends[1].choice];
        if before.len() != choices.len() {
            continue;
        }
        all.extend(choices.windows(2).zip(before.windows(2)).map(|(choices, before)| {
            let [from, to] = [&choices[0], &choices[1]];
            let touches = &recording.touches[from.touches..to.touches];
            let asleep_ns = waits::asleep_ns(touches, to.at_ns);
            LayerTime {
                bytes: (before[1] - before[0]).max(1) as f64,
                blocks: from.installed,
                touches: touches.len(),
                awake_ns: (to.at_ns - from.at_ns).saturating_sub(asleep_ns) as f64,
            }
        }));
    }
    all
}

/// Where a touch is.
#[derive(Debug, Clone, Copy)]
struct Passed {
    cycle: usize,
    /// Bytes of the steps before it, from the first cycle on.
    bytes: u64,
}

/// For each touch, as near to the one before as can be.
fn passed(recording: &Recording, uses: &[Vec<Use>], touches: &[Touched], starts: &[usize]) -> Vec<Option<Passed>> {
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
            // A log of a smaller grain sees more than the block's begin.
            let block = &recording.blocks[touch.block as usize];
            let part = (touch.start - block.offset) as f64 / f64::from(block.len.max(1));
            all.push(near.map(|&(at, bytes)| Passed { cycle, bytes: bytes + (used[at].bytes as f64 * part) as u64 }));
        }
    }
    all.resize(touches.len(), None);
    all
}
