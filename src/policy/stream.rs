//! One model's stream: its order, where the computation is in it, its window and resident set.
//!
//! The window is three lists. *ahead*: read or being read, not touched yet. *in use*: touched, the
//! tensor that threads are inside of. *spare*: passed over by the computation, or no longer
//! resident; first to go. A block is in the list that its [`Class`] names and in no other.
//!
//! Progress needs no marks on resident blocks: streamed blocks stay staged until touched, so every
//! one of them reports the computation, and the readahead is counted in streamed blocks too. However
//! long the resident stretch between two of them is, the window's worth of streamed blocks beyond
//! the last reported one is all that the stream will want next.

use std::collections::VecDeque;
use std::ops::Range;

use super::fifo::Fifo;
use super::order::Order;
use super::resident::ResidentSet;
use super::{BlockId, BlockTable, State};

/// Threads may touch blocks this many positions behind the newest touch: a block that was passed
/// over by less is not given up.
const FUZZ: usize = 16;

/// A touch this far beyond the readahead, or this far behind the newest touch, is no jump.
const NEAR: usize = 64;

/// Blocks that left the window most recently, remembered to see whether it was too small.
const GHOSTS: usize = 256;

/// What a block's frame is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// No frame.
    Out,
    Resident,
    Ahead,
    InUse,
    Spare,
}

/// What a touch meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// The computation has gone past the end of the order.
    pub wrapped: bool,
    /// The block had left the window shortly before: the window is too small.
    pub missed: bool,
    /// The block was unknown and has been put into the order.
    pub inserted: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Stream {
    pub order: Order,
    pub resident: ResidentSet,
    /// Touched at least once.
    pub active: bool,
    /// Number of the latest touch, counted over all streams.
    pub touched_at: u64,
    /// The stream that was touched when this one had come to its end: the next shard of the same
    /// model, or the model that takes turns with this one.
    pub successor: Option<BlockId>,
    class: Vec<Class>,
    ahead: Fifo,
    in_use: Fifo,
    spare: Fifo,
    ghosts: VecDeque<BlockId>,
    resident_bytes: u64,
    /// Blocks of the order that are not marked resident.
    streamed: usize,
    /// Position of the newest touch; `None` before the first.
    cursor: Option<usize>,
    /// Positions beyond the cursor that the readahead has seen to.
    reach: usize,
    /// Where the computation may have jumped to: one more touch there will tell.
    candidate: Option<usize>,
}

impl Stream {
    pub fn new(span: Range<BlockId>, order: &[BlockId]) -> Stream {
        let order = Order::new(span.clone(), order);
        let streamed = order.len();
        Stream {
            resident: ResidentSet::new(&order),
            order,
            active: false,
            touched_at: 0,
            successor: None,
            class: vec![Class::Out; span.len()],
            ahead: Fifo::default(),
            in_use: Fifo::default(),
            spare: Fifo::default(),
            ghosts: VecDeque::new(),
            resident_bytes: 0,
            streamed,
            cursor: None,
            reach: 0,
            candidate: None,
        }
    }

    pub fn owns(&self, id: BlockId) -> bool {
        self.order.span().contains(&id)
    }

    pub fn class(&self, id: BlockId) -> Class {
        self.class[(id - self.order.span().start) as usize]
    }

    /// Frame bytes of every list and the resident blocks together.
    pub fn accounted_bytes(&self) -> u64 {
        self.resident_bytes + self.ahead.bytes() + self.in_use.bytes() + self.spare.bytes()
    }

    pub fn ahead(&self) -> &Fifo {
        &self.ahead
    }

    pub fn in_use(&self) -> &Fifo {
        &self.in_use
    }

    pub fn spare(&self) -> &Fifo {
        &self.spare
    }

    pub fn cursor(&self) -> Option<usize> {
        self.cursor
    }

    /// Whether some block of the order is not to be resident.
    pub fn is_streaming(&self) -> bool {
        self.streamed > 0
    }

    /// Blocks of the order that are not to be resident, as of the latest plan.
    pub fn streamed(&self) -> usize {
        self.streamed
    }

    /// Whether the cursor stands on the last position, or the readahead has seen to all up to it.
    pub fn is_at_end(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor + self.reach + 1 >= self.order.len())
    }

    /// Moves `id` from the list it is in to that of `class`.
    pub fn set_class(&mut self, table: &BlockTable, id: BlockId, class: Class) {
        let frame = u64::from(table.block(id).frame_bytes);
        let slot = (id - self.order.span().start) as usize;
        let old = std::mem::replace(&mut self.class[slot], class);
        if old == class {
            return;
        }
        let was_listed = match old {
            Class::Out => true,
            Class::Resident => {
                self.resident_bytes -= frame;
                true
            }
            Class::Ahead => self.ahead.remove(table, id),
            Class::InUse => self.in_use.remove(table, id),
            Class::Spare => self.spare.remove(table, id),
        };
        debug_assert!(was_listed, "block {id} is not where {old:?} says");
        match class {
            Class::Out => {}
            Class::Resident => self.resident_bytes += frame,
            Class::Ahead => self.ahead.push(table, id),
            Class::InUse => self.in_use.push(table, id),
            Class::Spare => self.spare.push(table, id),
        }
    }

    /// A thread touched `id`, whose state was `absent` or not.
    pub fn touched(&mut self, table: &BlockTable, id: BlockId, absent: bool) -> Progress {
        let mut progress = Progress::default();
        self.active = true;
        let place = self.order.place(id).unwrap_or_else(|| {
            progress.inserted = true;
            let place = self.cursor.map_or(0, |cursor| cursor + 1);
            self.order.insert(place, id);
            place
        });
        progress.wrapped = self.advance(table, place);
        progress.missed = absent && self.take_ghost(id);
        if self.resident.contains(id) {
            self.set_class(table, id, Class::Resident);
        } else {
            self.set_class(table, id, Class::InUse);
        }
        progress
    }

    /// Moves the cursor to `place` if the computation is there; true when it has passed the end.
    fn advance(&mut self, table: &BlockTable, place: usize) -> bool {
        let Some(cursor) = self.cursor else {
            self.cursor = Some(place);
            self.reach = 0;
            return false;
        };
        let len = self.order.len();
        let forward = self.order.distance(cursor, place);
        let backward = self.order.distance(place, cursor);
        let near = self.reach + NEAR;
        if forward == 0 || (backward <= NEAR && backward < forward) {
            return false;
        }
        if forward > near {
            // A jump counts when a second touch confirms it: one stray touch does not throw away
            // what has been read ahead.
            let confirmed = self
                .candidate
                .is_some_and(|candidate| (1..=NEAR).contains(&self.order.distance(candidate.min(len - 1), place)));
            if !confirmed {
                self.candidate = Some(place);
                return false;
            }
            self.reach = 0;
        }
        self.candidate = None;
        self.cursor = Some(place);
        self.reach = self.reach.saturating_sub(forward);
        self.pass(table, forward > near);
        // Going back by less is a jump inside the cycle.
        place < cursor && cursor - place > len / 2
    }

    /// Gives up what the computation has passed over. After a jump, also what is far ahead now.
    fn pass(&mut self, table: &BlockTable, jumped: bool) {
        let Some(cursor) = self.cursor else { return };
        let len = self.order.len();
        let order = &self.order;
        let passed = self.ahead.drain_if(table, |id| {
            let Some(place) = order.place(id) else { return true };
            let before = order.distance(cursor, place);
            let behind = len - before;
            before > 0 && if before > len / 2 { behind > FUZZ } else { jumped && before > NEAR }
        });
        for id in passed {
            self.class[(id - self.order.span().start) as usize] = Class::Spare;
            self.spare.push(table, id);
        }
    }

    /// The next block to read: the next absent one within `ahead_bytes` of streamed blocks beyond
    /// the cursor. `to_the_end` stops at the end of the order, where another stream takes over.
    pub fn walk(&mut self, table: &BlockTable, ahead_bytes: u64, to_the_end: bool) -> Option<BlockId> {
        let len = self.order.len();
        // Without a touch yet, the computation stands before the first block.
        let cursor = self.cursor.unwrap_or(len.checked_sub(1)?);
        // What is further than half the ring counts as passed over. A stream without streamed
        // blocks has nothing to pass over and is loaded to its end.
        let horizon = if self.is_streaming() { len / 2 } else { len };
        while self.reach < horizon && !(to_the_end && self.is_at_end()) {
            let place = self.order.step(cursor, self.reach + 1);
            let id = self.order.at(place);
            let resident = self.resident.contains(id);
            if !resident && self.ahead.bytes() >= ahead_bytes {
                return None;
            }
            self.reach += 1;
            match (self.class(id), table.state(id)) {
                (_, State::Absent) => {
                    if self.class(id) == Class::InUse {
                        continue;
                    }
                    self.take_ghost(id);
                    self.set_class(table, id, if resident { Class::Resident } else { Class::Ahead });
                    return Some(id);
                }
                // Held by chance: keep it for its touch.
                (Class::Spare, State::Reading | State::Staged | State::Present) => {
                    self.set_class(table, id, if resident { Class::Resident } else { Class::Ahead });
                }
                _ => {}
            }
        }
        None
    }

    /// Fits the resident set to `quota` bytes. Frames change their account with it: what is no
    /// longer resident is spare, first what the computation has just left behind.
    pub fn settle(&mut self, table: &BlockTable, quota: u64, cost: impl Fn(BlockId) -> f64) {
        self.resident.settle(table, &self.order, quota, cost);
        self.streamed = self.order.ids().iter().filter(|&&id| !self.resident.contains(id)).count();
        self.reach = 0;
        let first = self.order.span().start;
        for list in [&mut self.ahead, &mut self.in_use, &mut self.spare] {
            for id in list.drain_if(table, |id| self.resident.contains(id)) {
                self.class[(id - first) as usize] = Class::Resident;
                self.resident_bytes += u64::from(table.block(id).frame_bytes);
            }
        }
        let len = self.order.len();
        let start = self.cursor.unwrap_or(0);
        let in_order = (0..len).map(|step| self.order.at((start + len - step) % len));
        let elsewhere = self.order.span().filter(|&id| self.order.place(id).is_none());
        let demoted: Vec<BlockId> = in_order
            .chain(elsewhere)
            .filter(|&id| self.class(id) == Class::Resident && !self.resident.contains(id))
            .collect();
        for id in demoted {
            let class = match table.state(id) {
                // Touched this moment, and about to be read; or lost, and then `purge` finds it.
                State::Absent => Class::InUse,
                State::Reading | State::Staged | State::Present => Class::Spare,
                State::Poisoned | State::Gone => Class::Out,
            };
            self.set_class(table, id, class);
        }
    }

    /// A block that costs nothing to evict: a spare one, or the oldest in use when those hold more
    /// than `in_use_bytes`.
    pub fn surplus(&self, table: &BlockTable, in_use_bytes: u64) -> Option<BlockId> {
        let spare = self.spare.oldest_evictable(table, 0);
        spare.or_else(|| if self.in_use.bytes() > in_use_bytes { self.in_use.oldest_evictable(table, 1) } else { None })
    }

    /// Forgets list members that lost their frames without being named (a read failed): they would
    /// fill the window for ever.
    pub fn purge(&mut self, table: &BlockTable) {
        let lost = |id| !matches!(table.state(id), State::Reading | State::Staged | State::Present);
        // The newest may be absent because they are about to be read.
        let old = self.in_use.len().saturating_sub(FUZZ);
        let gone: Vec<BlockId> = self
            .spare
            .iter()
            .chain(self.in_use.iter().take(old))
            .filter(|&id| lost(id) && !table.is_waited_for(id))
            .collect();
        for id in gone {
            self.set_class(table, id, Class::Out);
        }
    }

    /// Blocks `ids` are gone: they leave the order and every list.
    pub fn remove(&mut self, table: &BlockTable, ids: &Range<BlockId>) {
        let gone: Vec<BlockId> = self.order.span().filter(|id| ids.contains(id)).collect();
        if gone.is_empty() {
            return;
        }
        for &id in &gone {
            self.set_class(table, id, Class::Out);
            self.resident.unmark(table, id);
        }
        self.ghosts.retain(|id| !ids.contains(id));
        self.reorder(|order| order.remove(|id| ids.contains(&id)));
    }

    /// Blocks that have left the order are not resident any more.
    pub fn unmark_strangers(&mut self, table: &BlockTable) {
        for id in self.order.span().filter(|&id| self.order.place(id).is_none()) {
            self.resident.unmark(table, id);
        }
    }

    /// Changes the order and keeps the cursor at its block, or near its place when that is gone.
    pub fn reorder(&mut self, change: impl FnOnce(&mut Order)) {
        let at = self.cursor.map(|cursor| self.order.at(cursor));
        change(&mut self.order);
        let last = self.order.len().checked_sub(1);
        let near = self.cursor.and_then(|cursor| Some(cursor.min(last?)));
        self.cursor = at.and_then(|id| self.order.place(id)).or(near);
        self.candidate = None;
        self.reach = 0;
    }

    /// `id` is evicted.
    pub fn release(&mut self, table: &BlockTable, id: BlockId) {
        if self.class(id) == Class::InUse {
            if self.ghosts.len() == GHOSTS {
                self.ghosts.pop_front();
            }
            self.ghosts.push_back(id);
        }
        self.set_class(table, id, Class::Out);
    }

    fn take_ghost(&mut self, id: BlockId) -> bool {
        let found = self.ghosts.iter().position(|&ghost| ghost == id);
        found.is_some_and(|at| self.ghosts.remove(at).is_some())
    }
}
