//! One model's stream: its order, where the computation is in it, its window and resident set.
//!
//! Progress needs no marks on resident blocks: streamed blocks stay staged until touched, so every
//! one of them reports the computation, and the readahead is counted in streamed blocks too. However
//! long the resident stretch between two of them is, the window's worth of streamed blocks beyond
//! the last reported one is all that the stream will want next.

use std::ops::Range;

use super::order::Order;
use super::resident::ResidentSet;
use super::window::{Class, Window};
use super::{BlockId, BlockTable, State};

/// Threads may touch blocks this many positions behind the newest touch: a block that was passed
/// over by less is not given up.
const FUZZ: usize = 16;

/// A touch this far beyond the readahead, or this far behind the newest touch, is no jump.
const NEAR: usize = 64;

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
    pub window: Window,
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
            window: Window::new(span),
            streamed,
            cursor: None,
            reach: 0,
            candidate: None,
        }
    }

    pub fn owns(&self, id: BlockId) -> bool {
        self.order.span().contains(&id)
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
        // What left the window a cycle ago is no miss: a short order is in it as a whole.
        let is_near = self.cursor.is_some_and(|cursor| self.order.distance(place, cursor) <= self.order.len() / 4);
        progress.wrapped = self.advance(table, place);
        progress.missed = absent && self.window.take_ghost(id) && is_near;
        if self.resident.contains(id) {
            self.window.set_class(table, id, Class::Resident);
        } else {
            self.window.set_class(table, id, Class::InUse);
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
        self.window.move_if(table, Class::Ahead, Class::Spare, |id| {
            let Some(place) = order.place(id) else { return true };
            let before = order.distance(cursor, place);
            let behind = len - before;
            before > 0 && if before > len / 2 { behind > FUZZ } else { jumped && before > NEAR }
        });
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
            if !resident && self.window.ahead().bytes() >= ahead_bytes {
                return None;
            }
            self.reach += 1;
            match (self.window.class(id), table.state(id)) {
                (_, State::Absent) => {
                    if self.window.class(id) == Class::InUse {
                        continue;
                    }
                    self.window.take_ghost(id);
                    self.window.set_class(table, id, if resident { Class::Resident } else { Class::Ahead });
                    return Some(id);
                }
                // Held by chance: keep it for its touch.
                (Class::Spare, State::Reading | State::Staged | State::Present) => {
                    self.window.set_class(table, id, if resident { Class::Resident } else { Class::Ahead });
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
        for class in [Class::Ahead, Class::InUse, Class::Spare] {
            self.window.move_if(table, class, Class::Resident, |id| self.resident.contains(id));
        }
        let len = self.order.len();
        let start = self.cursor.unwrap_or(0);
        let in_order = (0..len).map(|step| self.order.at((start + len - step) % len));
        let elsewhere = self.order.span().filter(|&id| self.order.place(id).is_none());
        let demoted: Vec<BlockId> = in_order
            .chain(elsewhere)
            .filter(|&id| self.window.class(id) == Class::Resident && !self.resident.contains(id))
            .collect();
        for id in demoted {
            let class = match table.state(id) {
                // Touched this moment, and about to be read; or lost, and then `purge` finds it.
                State::Absent => Class::InUse,
                State::Reading | State::Staged | State::Present => Class::Spare,
                State::Poisoned | State::Gone => Class::Out,
            };
            self.window.set_class(table, id, class);
        }
    }

    /// Blocks `ids` are gone: they leave the order and every list.
    pub fn remove(&mut self, table: &BlockTable, ids: &Range<BlockId>) {
        let gone: Vec<BlockId> = self.order.span().filter(|id| ids.contains(id)).collect();
        if gone.is_empty() {
            return;
        }
        for &id in &gone {
            self.window.set_class(table, id, Class::Out);
            self.resident.unmark(table, id);
        }
        self.window.forget_ghosts(ids);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Block, Role};

    #[test]
    fn what_left_the_window_a_cycle_ago_is_no_miss() {
        let block = Block { view: 0, offset: 0, len: 4096, frame_bytes: 4096, role: Role::Cyclic };
        let mut table = BlockTable::default();
        let ids = table.add(&[block; 100]);
        let mut stream = Stream::new(ids.clone(), &ids.collect::<Vec<_>>());
        for id in 0..=10 {
            assert!(!stream.touched(&table, id, true).missed);
        }
        for id in [5, 6] {
            stream.window.release(&table, id);
        }
        assert!(stream.touched(&table, 5, true).missed, "it has left the window five blocks ago");
        for id in [50, 90] {
            stream.touched(&table, id, true);
        }
        assert!(!stream.touched(&table, 6, true).missed);
    }
}
