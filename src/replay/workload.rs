//! A log turned into work: what the threads touch in each cycle, and how long they compute there.

use std::ops::Range;

use super::companions::companions;
use super::order::Order;
use super::recording::{Recording, Touched};
use super::waits;
use crate::policy::{Block, BlockId, BlockTable, Role};
use crate::sim::Step;

/// From the wake-up of a thread until it runs, where the log does not tell, in nanoseconds.
const WAKE_NS: u64 = 15_000;

/// Why a log cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is not one whole cycle left.
    #[error("the log holds {whole} whole cycles, of which the first {skipped} do not count: record a longer run")]
    Cycles {
        /// Whole cycles.
        whole: usize,
        /// Cycles at the start that do not count.
        skipped: usize,
    },
    /// Nothing is touched in its cycles.
    #[error("no block is used in the log's cycles")]
    Empty,
}

/// The blocks of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Their numbers.
    pub ids: Range<BlockId>,
    /// The order that the header foretells.
    pub expected: Vec<BlockId>,
}

/// See the module's page. The assumption behind it: every cycle uses the same blocks whole, in the same
/// order (see [`Order`]), but for rows and experts, which are used where the log shows a touch of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Every block.
    pub blocks: Vec<Block>,
    /// The views that are used.
    pub parts: Vec<Part>,
    /// The recorded cycles that count.
    pub cycles: Vec<Vec<Step>>,
    /// Compute threads; they share the steps of a cycle.
    pub threads: usize,
    /// For each block, those that the pager reads along with it: the rest of an expert.
    pub companions: Vec<Vec<BlockId>>,
    /// From the wake-up of a thread until it runs, in nanoseconds.
    pub wake_ns: u64,
    /// What the counted cycles took when they were recorded, in nanoseconds.
    pub recorded_ns: u64,
    /// When the counted cycles began, on the log's clock.
    pub start_ns: u64,
}

impl Workload {
    /// Takes the cycles of `recording` but for the first `skip`.
    ///
    /// # Errors
    /// Too few cycles, or nothing in them.
    pub fn new(recording: &Recording, skip: usize) -> Result<Workload, Unusable> {
        // What is used is known once the cycles are, and those are known by an order of everything.
        let starts = wraps(&Order::of(recording, |_| true), &recording.touches);
        let whole = starts.len().saturating_sub(1);
        // The part before the first start is a cycle as well, though nobody saw its beginning.
        let first = skip.saturating_sub(1);
        let Some(starts) = starts.get(first..).filter(|starts| starts.len() >= 2) else {
            return Err(Unusable::Cycles { whole, skipped: first.min(whole) });
        };
        let (start, end) = (starts[0], starts[starts.len() - 1]);
        let touches = &recording.touches[start..=end];
        // What left the view before the last counted cycle would have been touched in it.
        let mut used: Vec<bool> = recording.left_at.iter().map(|&at| at > starts[starts.len() - 2]).collect();
        touches.iter().for_each(|touch| used[touch.block as usize] = true);
        let order = Order::of(recording, |id| used[id as usize]);
        let starts: Vec<usize> = starts.iter().map(|at| at - start).collect();
        let cycles = Cycles::new(recording, &order, touches, &starts);
        if cycles.steps.iter().all(Vec::is_empty) {
            return Err(Unusable::Empty);
        }
        Ok(Workload {
            blocks: recording.blocks.clone(),
            parts: parts(recording, &cycles.steps),
            cycles: cycles.steps,
            threads: cycles.threads,
            companions: companions(recording),
            wake_ns: waits::wake_ns(&recording.touches).unwrap_or(WAKE_NS),
            recorded_ns: touches[touches.len() - 1].at_ns - touches[0].at_ns,
            start_ns: touches[0].at_ns,
        })
    }

    /// A table of the blocks, with room for `budget` bytes.
    pub fn table(&self, budget: u64) -> BlockTable {
        let mut table = BlockTable::default();
        table.add(&self.blocks);
        table.set_budget(budget);
        table
    }

    /// Bytes of the used views: the model.
    pub fn model_bytes(&self) -> u64 {
        let blocks = self.parts.iter().flat_map(|part| part.ids.clone());
        blocks.map(|id| u64::from(self.blocks[id as usize].len)).sum()
    }

    /// Bytes that the counted cycles use, a block as often as it is used.
    pub fn used_bytes(&self) -> u64 {
        self.cycles.iter().flatten().map(|step| u64::from(self.blocks[step.block as usize].len)).sum()
    }

    /// What the counted cycles would take without waits, in nanoseconds.
    pub fn compute_ns(&self) -> u64 {
        self.cycles.iter().flatten().map(|step| step.compute_ns).sum::<u64>() / self.threads as u64
    }
}

/// Touches that go round the ring's end for the first time since its middle.
fn wraps(order: &Order, touches: &[Touched]) -> Vec<usize> {
    let (mut cursor, mut was_in_middle) = (0, false);
    let mut starts = Vec::new();
    for (index, touch) in touches.iter().enumerate() {
        let Some(place) = order.place(touch.block, cursor) else { continue };
        was_in_middle |= (order.count() / 4..order.count() * 3 / 4).contains(&place);
        if place < cursor && cursor - place > order.count() / 2 && std::mem::take(&mut was_in_middle) {
            starts.push(index);
        }
        cursor = place;
    }
    starts
}

fn parts(recording: &Recording, cycles: &[Vec<Step>]) -> Vec<Part> {
    let mut is_used = vec![false; recording.blocks.len()];
    cycles.iter().flatten().for_each(|step| is_used[step.block as usize] = true);
    let views = recording.views.iter().zip(&recording.expected);
    let used = views.filter(|((ids, _), _)| ids.clone().any(|id| is_used[id as usize]));
    used.map(|((ids, _), expected)| Part { ids: ids.clone(), expected: expected.clone() }).collect()
}

/// The steps of cycles, under construction.
struct Cycles {
    steps: Vec<Vec<Step>>,
    threads: usize,
}

/// A use of a row or an expert: after which place, which block, how long.
type Aside = (usize, Step);

impl Cycles {
    /// `starts` are indexes of `touches`; the last one ends the last cycle.
    fn new(recording: &Recording, order: &Order, touches: &[Touched], starts: &[usize]) -> Cycles {
        let threads = waits::threads(touches);
        let clock = waits::running_ns(touches, threads);
        let count = starts.len() - 1;
        // Compute time at each place, of all cycles together; and what is used aside, by cycle.
        let mut computed_ns = vec![0.0; order.count()];
        let mut asides: Vec<Vec<Aside>> = vec![Vec::new(); count];
        let bytes = |id: BlockId| f64::from(recording.blocks[id as usize].len);
        let places: Vec<Option<usize>> = places(order, touches);
        let mut cursor = places.iter().flatten().next().copied().unwrap_or(0);
        let mut cycle = 0;
        for (index, touch) in touches.iter().enumerate().take(touches.len() - 1) {
            while cycle + 1 < count && starts[cycle + 1] <= index {
                cycle += 1;
            }
            let passed_ns = clock[index + 1] - clock[index];
            match places[index] {
                Some(place) => {
                    cursor = place;
                    let next = places[index + 1].unwrap_or(place);
                    let forward = order.distance(place, next);
                    // A step back is a thread that had fallen behind.
                    let steps = if forward > order.count() / 2 { 1 } else { forward.max(1) };
                    let passed: Vec<usize> = (place..place + steps).map(|at| at % order.count()).collect();
                    let whole: f64 = passed.iter().map(|&at| bytes(order.ids()[at])).sum();
                    for at in passed {
                        computed_ns[at] += passed_ns as f64 * bytes(order.ids()[at]) / whole;
                    }
                }
                None if touch.joined || recording.blocks[touch.block as usize].role == Role::Cyclic => {
                    if let Some(ns) = computed_ns.get_mut(cursor) {
                        *ns += passed_ns as f64;
                    }
                }
                None => aside(&mut asides[cycle], cursor, Step { block: touch.block, compute_ns: passed_ns }),
            }
        }
        let each = |place: usize| (computed_ns[place] / count as f64) as u64;
        let steps = asides.into_iter().map(|mut asides| {
            asides.sort_by_key(|(place, _)| *place);
            let mut asides = asides.into_iter().peekable();
            let mut steps = Vec::with_capacity(order.count() + asides.len());
            for (place, &block) in order.ids().iter().enumerate() {
                steps.push(Step { block, compute_ns: each(place) });
                steps.extend(std::iter::from_fn(|| asides.next_if(|(after, _)| *after == place)).map(|(_, step)| step));
            }
            steps.extend(asides.map(|(_, step)| step));
            steps
        });
        Cycles { steps: steps.collect(), threads }
    }
}

/// Adds a use behind the place `cursor`; parts of a block that are touched one after the other are one use.
fn aside(asides: &mut Vec<Aside>, cursor: usize, step: Step) {
    let here = asides.iter_mut().rev().take_while(|(place, _)| *place == cursor);
    match here.map(|(_, step)| step).find(|known| known.block == step.block) {
        Some(known) => known.compute_ns += step.compute_ns,
        None => asides.push((cursor, step)),
    }
}

/// The place of each touch, as near to the one before as can be.
fn places(order: &Order, touches: &[Touched]) -> Vec<Option<usize>> {
    let mut cursor = 0;
    let near = |touch: &Touched| {
        let place = order.place(touch.block, cursor);
        cursor = place.unwrap_or(cursor);
        place
    };
    touches.iter().map(near).collect()
}
