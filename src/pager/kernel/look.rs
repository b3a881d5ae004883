//! What the hint thread sees: reads that have ended, blocks that were touched, pages that are gone.

use rustix::mm::Advice;

use super::super::region::{PAGE, advise};
use super::hints::Hints;
use super::touched::is_cached;
use crate::policy::{BlockId, Role, State};
use crate::trace::Event;

/// A block counts as read after this long, whatever mincore(2) says: the kernel may drop readahead.
const PATIENCE_NS: u64 = 500_000_000;
/// Watched blocks that are looked at ahead of the computation in one poll, and positions of the
/// order that are gone through for them.
const LOOK_BLOCKS: usize = 24;
const LOOK_POSITIONS: usize = 256;
/// Positions behind the newest touch that are looked at: threads are spread by a few blocks.
const LOOK_BEHIND: usize = 16;
/// Blocks of all views that are looked at in one poll, by turns: experts, jumps, other views.
const SWEEP_BLOCKS: usize = 16;
const SWEEP_IDS: usize = 512;

impl Hints {
    /// Blocks whose reads have ended, as far as can be seen.
    pub fn completed(&mut self) -> Vec<BlockId> {
        let now = self.meter.now_ns();
        let mut done = Vec::new();
        let mut reading = std::mem::take(&mut self.reading);
        reading.retain(|read| {
            let place = self.place(read.id);
            // Reads of a block are started in its order and mostly end in it.
            let ended = now - read.since_ns > PATIENCE_NS || is_cached(place.range().end - PAGE);
            if ended {
                self.meter.read_done(place.len as u64, now - read.since_ns);
                self.trace.note(&self.meter, Event::ReadEnd { read: read.id, result: place.len as i32 });
                done.push(read.id);
            }
            !ended
        });
        self.reading = reading;
        done
    }

    /// Whether the next touch of `id` is news.
    fn is_watched(&self, id: BlockId) -> bool {
        matches!(self.table.state(id), State::Absent | State::Reading | State::Staged)
            && !self.table.is_waited_for(id)
            && self.table.block(id).role != Role::Row
    }

    fn is_touched(&self, id: BlockId) -> bool {
        self.pagemap.is_touched(self.place(id).range()).unwrap_or(false)
    }

    /// Watched blocks that have been touched, in the order in which that is expected to have
    /// happened.
    pub fn look(&mut self) -> Vec<BlockId> {
        let mut found = Vec::new();
        for slot in 0..self.views.len() {
            let Some(watched) = &self.views[slot] else { continue };
            let (order, first) = (&watched.view.layout.order, watched.view.ids.start);
            let (mut looked, mut newest) = (0, None);
            for step in 0..order.len().min(LOOK_BEHIND + LOOK_POSITIONS) {
                let position = (watched.cursor + order.len() - LOOK_BEHIND.min(order.len()) + step) % order.len();
                let id = first + order[position];
                if !self.is_watched(id) || found.contains(&id) {
                    continue;
                }
                looked += 1;
                if self.is_touched(id) {
                    found.push(id);
                    newest = (step > LOOK_BEHIND).then_some(position).or(newest);
                }
                if looked == LOOK_BLOCKS {
                    break;
                }
            }
            if let (Some(position), Some(watched)) = (newest, &mut self.views[slot]) {
                watched.cursor = position;
            }
        }
        let in_order = found.len();
        self.sweep(&mut found);
        if in_order == 0
            && let Some(&id) = found.last()
        {
            self.jump(id);
        }
        found
    }

    /// Looks at some blocks of all views, wherever the computation is expected.
    fn sweep(&mut self, found: &mut Vec<BlockId>) {
        let count = self.table.len() as BlockId;
        let mut looked = 0;
        for _ in 0..SWEEP_IDS.min(count as usize) {
            self.hand = (self.hand + 1) % count;
            if self.is_watched(self.hand) && !found.contains(&self.hand) {
                looked += 1;
                if self.is_touched(self.hand) {
                    found.push(self.hand);
                }
                if looked == SWEEP_BLOCKS {
                    break;
                }
            }
        }
    }

    /// The computation is at `id`, where it was not expected.
    fn jump(&mut self, id: BlockId) {
        let slot = self.table.block(id).view as usize;
        if let Some(watched) = &mut self.views[slot] {
            let index = id - watched.view.ids.start;
            if let Some(position) = watched.view.layout.order.iter().position(|&at| at == index) {
                watched.cursor = position;
            }
        }
    }

    /// Looks at one page of one block that should be in memory: under pressure the kernel takes what
    /// it likes. What has gone is absent, and the policy reads it again.
    pub fn find_taken(&mut self) {
        let count = self.table.len() as BlockId;
        let (hand, round) = &mut self.audit;
        for _ in 0..SWEEP_IDS.min(count as usize) {
            *hand = (*hand + 1) % count;
            if *hand == 0 {
                *round += 1;
            }
            if self.table.is_evictable(*hand) {
                break;
            }
        }
        let (id, round) = self.audit;
        if id < count && self.table.is_evictable(id) {
            let place = self.place(id);
            // Another page in every round, spread over the block.
            let page = (round * 97 + 51) % (place.len / PAGE);
            if !is_cached(place.addr + page * PAGE) {
                // What is left of its entries is no touch.
                let _ = advise(place.range(), Advice::LinuxDontNeed);
                self.table.set_state(id, State::Absent);
                self.trace.note(&self.meter, Event::Evict { block: id, untouched: false });
            }
        }
    }
}
