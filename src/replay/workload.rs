//! A log turned into work: what the threads touch in each cycle, and how long they compute there.

use std::ops::Range;

use super::cycle::{Asides, Cycle};
use super::experts::Experts;
use super::order::Order;
use super::pace::Pace;
use super::recording::{Recording, Start, Touched};
use super::used::Use;
use super::waits;
use crate::policy::{Block, BlockId, BlockTable};
use crate::sim::{Step, Work};

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

/// A view's blocks that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Their numbers.
    pub ids: Range<BlockId>,
    /// The order that the header foretells.
    pub expected: Vec<BlockId>,
    /// Those of each expert.
    pub by_expert: Vec<Vec<BlockId>>,
}

/// See the module's page. The assumption behind it: every cycle uses the same blocks whole, in the same
/// order (see [`Order`]), but for rows and experts, which are used where the log shows a touch of them. The
/// threads share each block, so one that is missing stops them all: they count as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Every block.
    pub blocks: Vec<Block>,
    /// The views that are used.
    pub parts: Vec<Used>,
    /// The recorded cycles before those that count.
    pub lead: Vec<Cycle>,
    /// The recorded cycles that count.
    pub cycles: Vec<Cycle>,
    /// Compute threads.
    pub threads: usize,
    /// Experts that the counted cycles use, each once for each cycle and layer.
    pub experts_used: usize,
    /// Time that a touch costs besides that in which its block is read, in nanoseconds.
    pub touch_ns: u64,
    /// From the wake-up of a thread until it runs again, in nanoseconds.
    pub wake_ns: u64,
    /// What the pager's thread needs for its work.
    pub work: Work,
    /// What the counted cycles took when they were recorded, in nanoseconds.
    pub recorded_ns: u64,
    /// When the counted cycles began, on the log's clock.
    pub start_ns: u64,
}

impl Workload {
    /// Takes the cycles of `recording`, made on so many processors, but for the first `skip`.
    ///
    /// # Errors
    /// Too few cycles, or nothing in them.
    pub fn new(recording: &Recording, skip: usize, processors: usize) -> Result<Workload, Unusable> {
        // What is used is known once the cycles are, and those are known by an order of everything.
        let order = Order::of(recording, |_| true);
        let starts = wraps(recording, &order, &Experts::of(recording, &order));
        let whole = starts.len().saturating_sub(1);
        // The part before the first start is a cycle as well, though nobody saw its beginning.
        let first = skip.saturating_sub(1);
        let Some(ends) = starts.get(first..).filter(|starts| starts.len() >= 2) else {
            return Err(Unusable::Cycles { whole, skipped: first.min(whole) });
        };
        let (start, end) = (ends[0], ends[ends.len() - 1]);
        let counted = &recording.touches[start.touch..end.touch];
        // What left the view before the last counted cycle would have been touched in it.
        let mut used: Vec<bool> = recording.left_at.iter().map(|&at| at > ends[ends.len() - 2].touch).collect();
        counted.iter().for_each(|touch| used[touch.block as usize] = true);
        let order = Order::of(recording, |id| used[id as usize]);
        let experts = Experts::of(recording, &order);
        let starts: Vec<Start> = std::iter::once(Start::default()).chain(starts.iter().copied()).collect();
        let lead = first + 1;
        let aside = |ends: &[Start]| {
            let touches = &recording.touches[ends[0].touch..ends[1].touch];
            Asides::of(recording, &order, &experts, touches, &recording.choices[ends[0].choice..ends[1].choice])
        };
        let asides: Vec<Asides> = starts.windows(2).map(aside).collect();
        let uses: Vec<Vec<Use>> = asides.iter().map(|aside| aside.uses(recording, &order, &experts)).collect();
        let pace = Pace::of(recording, &uses, &starts, lead);
        let mut cycles: Vec<Cycle> = uses.iter().map(|uses| Cycle::new(uses, &pace)).collect();
        let lead_cycles: Vec<Cycle> = cycles.drain(..lead).collect();
        if cycles.iter().all(|cycle| cycle.steps.is_empty()) {
            return Err(Unusable::Empty);
        }
        Ok(Workload {
            blocks: recording.blocks.clone(),
            parts: parts(recording, &cycles),
            lead: lead_cycles,
            cycles,
            threads: waits::threads(counted),
            experts_used: asides[lead..].iter().map(Asides::experts).sum(),
            touch_ns: pace.touch_ns as u64,
            wake_ns: pace.wake_ns as u64,
            work: recording.work.clone().crowded(pace.is_undisturbed && waits::threads(counted) >= processors),
            recorded_ns: end.at_ns - start.at_ns,
            start_ns: start.at_ns,
        })
    }

    /// Steps of the counted cycles.
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.cycles.iter().flat_map(|cycle| &cycle.steps)
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
        self.steps().map(|step| u64::from(self.blocks[step.block as usize].len)).sum()
    }

    /// What the counted cycles would take without waits, in nanoseconds.
    pub fn compute_ns(&self) -> u64 {
        self.steps().map(|step| step.compute_ns).sum()
    }
}

/// Where touches and routers' choices go round the ring's end for the first time since its middle.
fn wraps(recording: &Recording, order: &Order, experts: &Experts<'_>) -> Vec<Start> {
    let (mut cursor, mut was_in_middle) = (0, false);
    let mut starts = Vec::new();
    let mut pass = |place: Option<usize>, start: Start| {
        let Some(place) = place else { return cursor };
        was_in_middle |= (order.count() / 4..order.count() * 3 / 4).contains(&place);
        if place < cursor && cursor - place > order.count() / 2 && std::mem::take(&mut was_in_middle) {
            starts.push(start);
        }
        cursor = place;
        cursor
    };
    let mut choices = recording.choices.iter().enumerate().peekable();
    let mut near = 0;
    for touch in 0..=recording.touches.len() {
        while let Some((choice, made)) = choices.next_if(|(_, made)| made.touches <= touch) {
            near = pass(experts.router(made.layer), Start { touch, choice, at_ns: made.at_ns });
        }
        let Some(&Touched { block, at_ns, .. }) = recording.touches.get(touch) else { break };
        let choice = choices.peek().map_or(recording.choices.len(), |(choice, _)| *choice);
        let place = experts.place(recording, block).or_else(|| order.place(block, near));
        near = pass(place, Start { touch, choice, at_ns });
    }
    starts
}

fn parts(recording: &Recording, cycles: &[Cycle]) -> Vec<Used> {
    let mut is_used = vec![false; recording.blocks.len()];
    let steps = cycles.iter().flat_map(|cycle| &cycle.steps);
    steps.for_each(|step| is_used[step.block as usize] = true);
    let used = recording.parts.iter().filter(|part| part.ids.clone().any(|id| is_used[id as usize]));
    used.map(|part| Used { ids: part.ids.clone(), expected: part.expected(), by_expert: part.by_expert() }).collect()
}
