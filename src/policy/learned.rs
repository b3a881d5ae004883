//! Strategy `learned`: the order that was seen.
//!
//! The same machinery as `readahead`, with an order that corrects itself. The first cycle reads
//! ahead by the prior, and every block is staged, so that every first touch reports itself; when
//! the cycle closes, the order is what was seen. From then on each closing cycle corrects it where
//! the computation took another way, drops blocks that have not been touched for some cycles
//! (one-off reads, layers that the program never uses), and takes in those that appeared. Streamed
//! blocks are spread in proportion to the compute time that the touches showed.

use std::ops::Range;

use super::cycle::Cycle;
use super::learner::Learner;
use super::stream::Class;
use super::{BlockId, BlockTable, Need, Placement, Policy, Role, State, Touch};

/// One resident block is rearmed in this many touches, to see whether it is still read at all: a
/// wake-up of 10 us in the time of several reads.
const AUDIT_TOUCHES: u32 = 4;

/// Blocks this near to the computation are not rearmed.
const AUDIT_DISTANCE: usize = 64;

/// Blocks looked at to find one to rearm.
const AUDIT_STEPS: usize = 256;

/// The policy. See the module's page.
#[derive(Debug, Default)]
pub struct Learned {
    cycle: Cycle,
    /// One for each stream of `cycle`, in the same order.
    learners: Vec<(Range<BlockId>, Learner)>,
    touches: u32,
    /// Where the latest touch was.
    latest: Option<BlockId>,
    /// The audit's place in the order of the stream that was touched last.
    hand: usize,
}

impl Learned {
    /// The order of the view whose blocks are `ids`, as file offsets in bytes: what
    /// [`Learned::import`] takes. Empty while no cycle has been seen to its end.
    pub fn export(&self, table: &BlockTable, ids: Range<BlockId>) -> Vec<u64> {
        let Some(at) = self.learners.iter().position(|(span, _)| *span == ids) else { return Vec::new() };
        if self.learners[at].1.recording {
            return Vec::new();
        }
        self.cycle.streams()[at].order.ids().iter().map(|&id| table.block(id).offset).collect()
    }

    /// Takes a stored order for the view whose blocks are `ids`, just mapped. Offsets that are no
    /// block's are passed over, and blocks that do not occur keep their place behind the block that
    /// the prior puts before them: a stale order costs demand reads, never more.
    pub fn import(&mut self, table: &BlockTable, ids: Range<BlockId>, offsets: &[u64]) {
        let Some(at) = self.learners.iter().position(|(span, _)| *span == ids) else { return };
        let stream = &mut self.cycle.streams_mut()[at];
        let mut stored: Vec<BlockId> = Vec::with_capacity(offsets.len().min(ids.len()));
        let mut is_stored = vec![false; ids.len()];
        for &offset in offsets {
            // Blocks of one view stand in file order.
            let found = ids.start + partition_point(&ids, |id| table.block(id).offset < offset);
            if found < ids.end
                && table.block(found).offset == offset
                && table.block(found).role == Role::Cyclic
                && !std::mem::replace(&mut is_stored[(found - ids.start) as usize], true)
            {
                stored.push(found);
            }
        }
        if stored.is_empty() {
            return;
        }
        let prior = stream.order.ids().to_vec();
        let missing = |id: &BlockId| !is_stored[(id - ids.start) as usize];
        let mut merged: Vec<BlockId> = prior.iter().copied().take_while(missing).collect();
        for &id in &stored {
            merged.push(id);
            if let Some(place) = stream.order.place(id) {
                merged.extend(prior[place + 1..].iter().copied().take_while(missing));
            }
        }
        stream.reorder(|order| order.replace(&merged));
        self.learners[at].1.recording = false;
        self.replan(table);
    }

    fn replan(&mut self, table: &BlockTable) {
        let costs = Costs::new(&self.cycle, &self.learners);
        self.cycle.replan(table, |id| costs.of(id));
    }

    /// A resident block whose next touch shall report itself; none near the latest touch, where
    /// threads are.
    fn audit(&mut self, table: &BlockTable) -> Option<BlockId> {
        if !self.touches.is_multiple_of(AUDIT_TOUCHES) {
            return None;
        }
        let at = self.cycle.stream_of(self.latest.take()?)?;
        let stream = &self.cycle.streams()[at];
        let cursor = stream.cursor().filter(|_| !self.learners[at].1.recording)?;
        let len = stream.order.len();
        for _ in 0..AUDIT_STEPS.min(len) {
            self.hand = (self.hand + 1) % len;
            let id = stream.order.at(self.hand);
            let near = stream.order.distance(cursor, self.hand).min(stream.order.distance(self.hand, cursor));
            let is_idle = table.state(id) == State::Present && !table.is_waited_for(id);
            if near > AUDIT_DISTANCE && is_idle && stream.class(id) == Class::Resident {
                return Some(id);
            }
        }
        None
    }

    /// The cycle of stream `at` has ended with a touch of `latest`.
    fn close(&mut self, table: &BlockTable, at: usize, latest: BlockId) {
        let stream = &mut self.cycle.streams_mut()[at];
        let corrected = self.learners[at].1.close(table, &stream.order, latest);
        let is_new = corrected.is_some();
        if let Some(ids) = corrected {
            stream.reorder(|order| order.replace(&ids));
            stream.unmark_strangers(table);
        }
        let costs = Costs::new(&self.cycle, &self.learners);
        // While the order is in flux, evening out would be work for nothing.
        if is_new || self.cycle.even_out(table, at, |id| costs.of(id)) {
            self.cycle.replan(table, |id| costs.of(id));
        }
    }
}

/// First index in `ids` for which `below` is false, counted from its start.
fn partition_point(ids: &Range<BlockId>, below: impl Fn(BlockId) -> bool) -> u32 {
    let (mut low, mut high) = (0, ids.end - ids.start);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(ids.start + middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Compute times of all blocks, copied: the orders that they hang on change meanwhile.
struct Costs(Vec<(Range<BlockId>, Vec<f64>)>);

impl Costs {
    fn new(cycle: &Cycle, learners: &[(Range<BlockId>, Learner)]) -> Costs {
        let of_stream = |at: usize| {
            let (span, learner) = &learners[at];
            let order = &cycle.streams()[at].order;
            (span.clone(), span.clone().map(|id| learner.cost(order, id)).collect())
        };
        Costs((0..learners.len()).map(of_stream).collect())
    }

    fn of(&self, id: BlockId) -> f64 {
        let of_span = |(span, costs): &(Range<BlockId>, Vec<f64>)| {
            if span.contains(&id) { Some(costs[(id - span.start) as usize]) } else { None }
        };
        self.0.iter().rev().find_map(of_span).unwrap_or(1.0)
    }
}

impl Policy for Learned {
    fn name(&self) -> &'static str {
        "learned"
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.cycle.mapped(table, ids.clone(), order);
        if let Some(stream) = self.cycle.streams().last() {
            self.learners.push((ids, Learner::new(&stream.order)));
        }
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.cycle.unmapped(table, ids, |_| 1.0);
        let streams = self.cycle.streams();
        self.learners.retain(|(span, _)| streams.iter().any(|stream| stream.order.span() == *span));
    }

    fn budget_changed(&mut self, table: &BlockTable) {
        self.replan(table);
    }

    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, now_ns: u64) {
        let at = self.cycle.stream_of(id).filter(|_| table.block(id).role == Role::Cyclic);
        if let Some(at) = at {
            self.learners[at].1.touched(&self.cycle.streams()[at].order, id, touch, now_ns);
        }
        let touched = self.cycle.touched(table, id, touch);
        let Some(at) = at else { return };
        self.touches = self.touches.wrapping_add(1);
        self.latest = Some(id);
        let streamed = self.cycle.streams()[at].streamed();
        if self.learners[at].1.is_closed(touched.wrapped, streamed) {
            self.close(table, at, id);
        }
        if touched.needs_plan {
            self.replan(table);
        }
    }

    fn hinted(&mut self, table: &BlockTable, id: BlockId) {
        self.cycle.hinted(table, id);
    }

    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        let recording = self.cycle.stream_of(id).is_some_and(|at| self.learners[at].1.recording);
        if recording && table.block(id).role == Role::Cyclic { Placement::Stage } else { self.cycle.filled(table, id) }
    }

    fn next_read(&mut self, table: &BlockTable, _in_flight: u32) -> Option<BlockId> {
        self.cycle.next_read(table)
    }

    fn victim(&mut self, table: &BlockTable, _wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.cycle.victim(table, need)
    }

    fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        self.cycle.rearm(table).or_else(|| self.audit(table))
    }
}

#[cfg(test)]
impl super::Accounts for Learned {
    fn assert_accounts(&self, table: &BlockTable) {
        self.cycle.assert_accounts(table);
    }
}
