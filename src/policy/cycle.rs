//! The machinery of `readahead` and `learned`: streams, rows and experts share one budget.
//!
//! Accounts: every frame belongs to the resident blocks, the window (three lists) of a stream, to
//! the rows or to the experts, and [`Plan`] gives each of them a part of the budget such that the
//! sum is the budget. Hence the readahead always finds room: when the pool is full, somebody holds
//! more than its part, and that surplus is the victim (`evict.rs`); what is read is in `reads.rs`. A frame that is in no account (a victim
//! could not be evicted) is found by comparing the sum with what the table says is held.

use std::collections::VecDeque;
use std::ops::Range;

use super::experts::{Experts, is_expert};
use super::fifo::Fifo;
use super::plan::{Mapped, Plan};
use super::stream::Stream;
use super::window::Class;
use super::{BlockId, BlockTable, Placement, Role, State, Touch};

/// A stream that was not among this many touches is not being computed now.
const LIVE_TOUCHES: u64 = 128;

/// Hints remembered at most: those of a layer's experts.
const HINTS_MAX: usize = 1024;

/// What a touch asks of the policy around.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Touched {
    /// The stream has gone past its end.
    pub wrapped: bool,
    /// The plan no longer fits: [`Cycle::replan`] is to be called.
    pub needs_plan: bool,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    pub(super) streams: Vec<Stream>,
    pub(super) rows: Fifo,
    pub(super) experts: Experts,
    pub(super) hints: VecDeque<BlockId>,
    /// Experts that will probably be chosen next, the likeliest first.
    pub(super) guesses: VecDeque<BlockId>,
    pub(super) mapped: Mapped,
    pub(super) plan: Plan,
    /// The need for the tensor in use that misses have shown, in bytes.
    pub(super) in_use_want: u64,
    /// A miss showed it in the present cycle.
    pub(super) missed: bool,
    /// Blocks that came into an order since the plan was made.
    pub(super) inserted: usize,
    /// The stream that was touched last.
    pub(super) current: usize,
    pub(super) touches: u64,
    /// Times that the first stream has gone past its end.
    pub(super) ended: u64,
    /// Counts answers, to take streams by turns.
    pub(super) turn: usize,
    /// The last answer of `next_read`: given again while the pager has not begun to read it.
    pub(super) offered: Option<BlockId>,
    pub(super) hand: BlockId,
}

impl Cycle {
    pub fn streams_mut(&mut self) -> &mut [Stream] {
        &mut self.streams
    }

    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.mapped.count(table, ids.clone(), true);
        self.streams.push(Stream::new(ids, order));
        self.replan(table, |_| 1.0);
    }

    pub fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>, cost: impl Fn(BlockId) -> f64) {
        self.mapped.count(table, ids.clone(), false);
        self.rows.drain_if(table, |id| ids.contains(&id));
        self.hints.retain(|id| !ids.contains(id));
        self.guesses.retain(|id| !ids.contains(id));
        self.offered = self.offered.filter(|id| !ids.contains(id));
        self.experts.forget(table, &ids);
        for stream in &mut self.streams {
            stream.remove(table, &ids);
        }
        let is_left = |id: BlockId| (id as usize) < table.len() && table.state(id) != State::Gone;
        self.streams.retain(|stream| stream.order.span().any(is_left));
        self.current = self.current.min(self.streams.len().saturating_sub(1));
        self.replan(table, cost);
    }

    /// Divides the budget anew.
    pub fn replan(&mut self, table: &BlockTable, cost: impl Fn(BlockId) -> f64) {
        self.inserted = 0;
        self.in_use_want = self.in_use_want.min(Plan::in_use_bytes_max(table));
        self.plan = Plan::new(table, &self.streams, self.mapped, self.in_use_want);
        for (stream, &quota) in self.streams.iter_mut().zip(&self.plan.quotas) {
            stream.settle(table, quota, &cost);
        }
    }

    /// Moves resident blocks of stream `at` where the streamed ones lie so unevenly in compute time
    /// that the readahead cannot smooth it. [`Cycle::replan`] must follow.
    pub fn even_out(&mut self, table: &BlockTable, at: usize, cost: impl Fn(BlockId) -> f64) {
        let stream = &mut self.streams[at];
        let slack = self.plan.ahead_bytes;
        if stream.is_streaming() && stream.resident.unevenness_bytes(table, &stream.order, &cost) > slack {
            stream.resident.even_out(table, &stream.order, slack / 4, cost);
        }
    }

    /// Whether all that stream `at` may read ahead has been read.
    pub fn is_full(&self, table: &BlockTable, at: usize) -> bool {
        let ahead = self.streams[at].window.ahead();
        let share = self.plan.ahead_bytes / self.live_count();
        ahead.bytes() + self.mapped.cyclic_frame > share
            && !ahead.iter().rev().any(|id| table.state(id) == State::Reading)
    }

    /// Accounts a touch.
    pub fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch) -> Touched {
        self.offered = self.offered.filter(|&offered| offered != id);
        match table.block(id).role {
            Role::Row => {
                self.rows.remove(table, id);
                self.rows.push(table, id);
                return Touched::default();
            }
            Role::Expert { .. } => {
                self.experts.touched(table, id);
                return Touched::default();
            }
            Role::Cyclic => {}
        }
        let Some(at) = self.stream_of(id) else { return Touched::default() };
        self.touches += 1;
        if at != self.current && !self.is_live(at) && self.streams[self.current].is_at_end() {
            let first = self.streams[at].order.span().start;
            self.streams[self.current].successor = Some(first);
        }
        let took_turns = at != self.current;
        self.current = at;
        let stream = &mut self.streams[at];
        let was_active = stream.active;
        stream.touched_at = self.touches;
        let progress = stream.touched(table, id, touch == Touch::Absent);
        stream.window.purge(table);

        self.inserted += usize::from(progress.inserted);
        let mut stale = !was_active || self.inserted * 64 > self.streams[at].order.len();
        if progress.missed {
            self.missed = true;
            let step = (self.in_use_want / 4).max(self.mapped.cyclic_frame);
            let want = self.in_use_want.max(self.plan.in_use_bytes) + step;
            if want <= Plan::in_use_bytes_max(table) {
                self.in_use_want = want;
                stale = true;
            }
        }
        if progress.wrapped {
            self.ended += u64::from(at == 0);
            if !took_turns {
                self.streams[at].successor = None;
            }
            // A cycle without a miss: the tensors in use may have become smaller.
            if !std::mem::take(&mut self.missed) && self.in_use_want > 0 {
                self.in_use_want -= (self.in_use_want / 8).max(self.mapped.cyclic_frame).min(self.in_use_want);
                stale = true;
            }
            stale |= self.inserted > 0;
        }
        Touched { wrapped: progress.wrapped, needs_plan: stale }
    }

    pub fn hinted(&mut self, table: &BlockTable, id: BlockId) {
        if table.block(id).role != Role::Cyclic && table.state(id) == State::Absent && self.hints.len() < HINTS_MAX {
            self.hints.push_back(id);
        }
    }

    /// The router chose the experts that blocks of `chosen` are parts of, for such shares of its tokens: read if they are not held.
    pub fn routed(&mut self, table: &BlockTable, chosen: &[(BlockId, f64)]) {
        self.experts.routed(table, chosen);
        let of_experts = chosen.iter().map(|&(id, _)| id).filter(|&id| is_expert(table, id));
        of_experts.for_each(|id| self.hinted(table, id));
    }

    /// The next router will probably choose experts that `ids` are parts of.
    pub fn guessed(&mut self, ids: &[BlockId]) {
        self.guesses.clear();
        self.guesses.extend(ids);
    }

    pub fn filled(&self, table: &BlockTable, id: BlockId) -> Placement {
        match table.block(id).role {
            Role::Row => Placement::Install,
            Role::Expert { .. } if self.experts.is_heard() => Placement::Install,
            Role::Expert { .. } => Placement::Stage,
            Role::Cyclic => match self.stream_of(id).map(|at| self.streams[at].window.class(id)) {
                Some(Class::Resident | Class::InUse) => Placement::Install,
                _ => Placement::Stage,
            },
        }
    }

    /// Blocks that are read ahead, of all streams.
    pub(super) fn ahead_bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.window.ahead().bytes()).sum()
    }

    pub fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        self.experts.rearm(table)
    }

    /// Bytes in all accounts together.
    pub fn accounted_bytes(&self) -> u64 {
        let streams: u64 = self.streams.iter().map(|stream| stream.window.accounted_bytes()).sum();
        streams + self.rows.bytes() + self.experts.bytes()
    }

    /// Whether `id` is in some account.
    pub fn is_listed(&self, id: BlockId) -> bool {
        self.class(id).is_some_and(|class| class != Class::Out) || self.rows.contains(id) || self.experts.contains(id)
    }

    pub(super) fn release(&mut self, table: &BlockTable, id: BlockId) {
        if let Some(at) = self.stream_of(id) {
            self.streams[at].window.release(table, id);
        }
        if !self.rows.remove(table, id) {
            self.experts.remove(table, id);
        }
    }

    pub(super) fn class(&self, id: BlockId) -> Option<Class> {
        self.stream_of(id).map(|at| self.streams[at].window.class(id))
    }

    pub fn stream_of(&self, id: BlockId) -> Option<usize> {
        // The newest first: ids of a part that was unmapped may be another view's by now.
        self.streams.iter().rposition(|stream| stream.owns(id))
    }

    pub(super) fn successor_of(&self, at: usize) -> Option<usize> {
        let first = self.streams[at].successor?;
        self.streams.iter().position(|stream| stream.order.span().start == first).filter(|&heir| heir != at)
    }

    /// Streaming, and among the latest touches.
    pub(super) fn is_live(&self, at: usize) -> bool {
        let stream = &self.streams[at];
        stream.active && stream.is_streaming() && self.touches - stream.touched_at < LIVE_TOUCHES
    }

    pub(super) fn live_count(&self) -> u64 {
        (0..self.streams.len()).filter(|&at| self.is_live(at)).count().max(1) as u64
    }
}
