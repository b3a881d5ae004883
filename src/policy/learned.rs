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
use super::recall::{recalled, recalled_experts};
use super::window::Class;
use super::{BlockId, BlockTable, Need, Placement, Policy, Role, State, Touch};

/// One resident block is rearmed in this many touches, to see whether it is still read at all: a
/// wake-up of 10 us in the time of several reads. While cycles resemble each other that becomes rarer.
const AUDIT_TOUCHES: u32 = 4;
const AUDIT_TOUCHES_MAX: u32 = 32;

/// Blocks this near to the computation are not rearmed.
const AUDIT_DISTANCE: usize = 64;

/// Blocks looked at to find one to rearm.
const AUDIT_STEPS: usize = 256;

/// The policy. See the module's page.
#[derive(Debug)]
pub struct Learned {
    cycle: Cycle,
    /// One for each stream of `cycle`, in the same order.
    learners: Vec<(Range<BlockId>, Learner)>,
    /// Touches since the latest audit.
    touches: u32,
    /// Touches between two audits.
    audit_touches: u32,
    /// Where the latest touch was.
    latest: Option<BlockId>,
    /// The audit's place in the order of the stream that was touched last.
    hand: usize,
    /// What routers choose is read at once.
    led_by_routers: bool,
}

impl Default for Learned {
    fn default() -> Learned {
        Learned {
            cycle: Cycle::default(),
            learners: Vec::new(),
            touches: 0,
            audit_touches: AUDIT_TOUCHES,
            latest: None,
            hand: 0,
            led_by_routers: false,
        }
    }
}

impl Learned {
    /// Strategy `experts`: what routers choose is read before it is touched.
    pub fn led_by_routers() -> Learned {
        Learned { led_by_routers: true, ..Learned::default() }
    }

    fn replan(&mut self, table: &BlockTable) {
        let costs = Costs::new(&self.cycle, &self.learners);
        self.cycle.replan(table, |id| costs.of(id));
    }

    /// A resident block whose next touch shall report itself; none near the latest touch, where
    /// threads are.
    fn audit(&mut self, table: &BlockTable) -> Option<BlockId> {
        if self.touches < self.audit_touches {
            return None;
        }
        let at = self.cycle.stream_of(self.latest.take()?)?;
        self.touches = 0;
        let stream = &self.cycle.streams()[at];
        let cursor = stream.cursor().filter(|_| !self.learners[at].1.recording)?;
        let len = stream.order.len();
        for _ in 0..AUDIT_STEPS.min(len) {
            self.hand = (self.hand + 1) % len;
            let id = stream.order.at(self.hand);
            let near = stream.order.distance(cursor, self.hand).min(stream.order.distance(self.hand, cursor));
            let is_idle = table.state(id) == State::Present && !table.is_waited_for(id);
            if near > AUDIT_DISTANCE && is_idle && stream.window.class(id) == Class::Resident {
                return Some(id);
            }
        }
        None
    }

    /// The cycle of stream `at` has ended with a touch of `latest`.
    fn close(&mut self, table: &BlockTable, at: usize, latest: BlockId) {
        let stream = &mut self.cycle.streams_mut()[at];
        let learner = &mut self.learners[at].1;
        let Some(ids) = learner.close(table, &stream.order, latest) else {
            self.audit_touches = (2 * self.audit_touches).min(AUDIT_TOUCHES_MAX);
            if learner.pace.close() {
                let costs = Costs::new(&self.cycle, &self.learners);
                self.cycle.even_out(table, at, |id| costs.of(id));
                self.cycle.replan(table, |id| costs.of(id));
            }
            return;
        };
        self.audit_touches = AUDIT_TOUCHES;
        // While the order is in flux, evening out would be work for nothing.
        learner.pace.forget();
        stream.reorder(|order| order.replace(&ids));
        stream.unmark_strangers(table);
        self.replan(table);
    }
}

/// Compute times of all blocks, copied: the orders that they hang on change meanwhile.
struct Costs(Vec<(Range<BlockId>, Vec<f64>)>);

impl Costs {
    fn new(cycle: &Cycle, learners: &[(Range<BlockId>, Learner)]) -> Costs {
        let of_stream = |at: usize| {
            let (span, learner) = &learners[at];
            let order = &cycle.streams()[at].order;
            (span.clone(), span.clone().map(|id| learner.pace.cost(order, id)).collect())
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
        if self.led_by_routers && self.cycle.mapped.experts > 0 { "experts" } else { "learned" }
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.cycle.mapped(table, ids.clone(), order);
        if let Some(stream) = self.cycle.streams().last() {
            self.learners.push((ids, Learner::new(&stream.order)));
        }
    }

    fn experts(&mut self, table: &BlockTable, experts: &[Vec<BlockId>]) {
        if self.led_by_routers {
            self.cycle.experts.foresee(table, experts);
        }
    }

    fn recall(&mut self, table: &BlockTable, ids: Range<BlockId>, offsets: &[u64]) {
        if self.led_by_routers {
            self.cycle.experts.recall(table, &recalled_experts(table, &ids, offsets));
        }
        let Some(at) = self.learners.iter().position(|(span, _)| *span == ids) else { return };
        let stream = &mut self.cycle.streams_mut()[at];
        let Some(order) = recalled(table, &stream.order, offsets) else { return };
        stream.reorder(|old| old.replace(&order));
        self.learners[at].1.recording = false;
        self.replan(table);
    }

    fn order_revision(&self, ids: &Range<BlockId>) -> u64 {
        let of_order = self.learners.iter().find(|(span, _)| span == ids).map_or(0, |(_, learner)| learner.revision);
        of_order + self.cycle.experts.revision()
    }

    fn order(&self, table: &BlockTable, ids: Range<BlockId>) -> Vec<u64> {
        let streams = self.cycle.streams();
        let stream = streams.iter().find(|stream| stream.order.span() == ids);
        let cyclic = stream.map_or(&[][..], |stream| stream.order.ids());
        let liked = self.cycle.experts.liked(&ids);
        cyclic.iter().chain(&liked).map(|&id| table.block(id).offset).collect()
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
            let full = self.cycle.is_full(table, at);
            let (order, learner) = (&self.cycle.streams()[at].order, &mut self.learners[at].1);
            learner.pace.touched(order, id, touch, now_ns, full);
            learner.touched(order, id);
            if learner.is_disordered {
                self.audit_touches = AUDIT_TOUCHES;
            }
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

    fn routed(&mut self, table: &BlockTable, chosen: &[(BlockId, f64)]) {
        if self.led_by_routers {
            self.cycle.routed(table, chosen);
        }
    }

    fn affine(&mut self, table: &BlockTable, near: &[(BlockId, f64)]) {
        if self.led_by_routers {
            self.cycle.experts.affine(table, near);
        }
    }

    fn guessed(&mut self, ids: &[BlockId]) {
        if self.led_by_routers {
            self.cycle.guessed(ids);
        }
    }

    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        let recording = self.cycle.stream_of(id).is_some_and(|at| self.learners[at].1.recording);
        if recording && table.block(id).role == Role::Cyclic { Placement::Stage } else { self.cycle.filled(table, id) }
    }

    fn is_certain(&mut self, table: &BlockTable) -> bool {
        self.cycle.is_certain(table)
    }

    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        self.cycle.next_read(table, in_flight)
    }

    fn next_idle(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        self.cycle.next_idle(table, in_flight)
    }

    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.cycle.victim(table, wanted, need)
    }

    fn exchange(&mut self, table: &BlockTable, wanted: BlockId) -> Option<BlockId> {
        self.cycle.exchange(table, wanted)
    }

    fn cycles(&self) -> u64 {
        self.cycle.ended
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
