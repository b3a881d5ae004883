//! What one stream's touches teach: the true order, what is not read at all, and the pace.
//!
//! A cycle is recorded as the sequence of its visible touches. In the first cycle all are visible;
//! later only those of streamed blocks, because resident ones do not report themselves. That is
//! enough: a resident block keeps its place behind the streamed block before it, and streamed
//! blocks are spread all over the order.

use super::order::Order;
use super::pace::Pace;
use super::{BlockId, BlockTable, State};

/// Threads make the order fuzzy: only a touch further back than this many positions is disorder.
const FUZZ: usize = 16;

/// A block seen before is a repeat only when at least this many others came since: tensors are
/// swept several times.
const SWEEP: usize = 64;

/// Repeats in a row that close a cycle.
const REPEATS: u32 = 3;

/// Cycles in a row without a touch after which a block leaves the order.
const SKIPS_MAX: u8 = 3;

const UNSEEN: u32 = u32::MAX;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Learner {
    first: BlockId,
    /// No cycle has been seen to its end yet.
    pub recording: bool,
    /// Counts the orders that cycles have taught.
    pub revision: u64,
    /// The visible touches of this cycle, each block once.
    visible: Vec<BlockId>,
    /// Index into `visible`, for each block of the view.
    seen_at: Vec<u32>,
    skips: Vec<u8>,
    repeats: u32,
    /// Some touch of this cycle went back in the order.
    pub is_disordered: bool,
    pub pace: Pace,
}

impl Learner {
    pub fn new(order: &Order) -> Learner {
        let span = order.span();
        Learner {
            first: span.start,
            recording: true,
            revision: 0,
            visible: Vec::new(),
            seen_at: vec![UNSEEN; span.len()],
            skips: vec![0; span.len()],
            repeats: 0,
            is_disordered: false,
            pace: Pace::new(),
        }
    }

    /// Takes in a touch, before the order does.
    pub fn touched(&mut self, order: &Order, id: BlockId) {
        let slot = (id - self.first) as usize;
        self.skips[slot] = 0;
        match self.seen_at[slot] {
            UNSEEN => {
                let before = self.visible.last().and_then(|&before| order.place(before));
                if let (Some(from), Some(to)) = (before, order.place(id)) {
                    // The step from the order's end to its start is none.
                    self.is_disordered |= to + FUZZ < from && from - to <= order.len() / 2;
                }
                self.seen_at[slot] = self.visible.len() as u32;
                self.visible.push(id);
                self.repeats = 0;
            }
            at => {
                let since = self.visible.len() - at as usize;
                if since >= SWEEP.min(order.len() / 2).max(self.visible.len() / 2) {
                    self.repeats += 1;
                }
            }
        }
    }

    /// Whether the recorded cycle has ended. `wrapped`: the touch has gone past the order's end,
    /// which counts once the order is known, and as long as the computation follows it: when it
    /// does not, most of the `streamed` blocks must have been seen.
    pub fn is_closed(&self, wrapped: bool, streamed: usize) -> bool {
        let is_trusted = !self.recording && (!self.is_disordered || self.visible.len() * 4 >= streamed * 3);
        self.repeats >= REPEATS || (wrapped && is_trusted)
    }

    /// Ends the recorded cycle and begins the next one with `latest`; gives the corrected order, if
    /// it is another.
    pub fn close(&mut self, table: &BlockTable, order: &Order, latest: BlockId) -> Option<Vec<BlockId>> {
        let mut corrected = None;
        if self.recording || self.is_disordered {
            corrected = Some(self.merged(order));
        }
        // A block that is surely untouched: it never came into the view, or was read in vain.
        let complete = 2 * self.visible.len() >= order.ids().iter().filter(|&&id| self.is_reported(table, id)).count();
        let mut left_out = false;
        for &id in order.ids() {
            let slot = (id - self.first) as usize;
            if complete && self.seen_at[slot] == UNSEEN && self.is_reported(table, id) {
                self.skips[slot] = self.skips[slot].saturating_add(1);
                left_out |= self.skips[slot] >= SKIPS_MAX;
            }
        }
        if left_out {
            let mut ids = corrected.unwrap_or_else(|| order.ids().to_vec());
            ids.retain(|&id| self.skips[(id - self.first) as usize] < SKIPS_MAX);
            corrected = Some(ids);
        }
        self.revision += u64::from(std::mem::take(&mut self.recording) || corrected.is_some());
        self.restart(latest);
        corrected.filter(|ids| ids != order.ids())
    }

    /// Begins a new cycle with a touch of `latest`.
    pub fn restart(&mut self, latest: BlockId) {
        for id in self.visible.drain(..) {
            self.seen_at[(id - self.first) as usize] = UNSEEN;
        }
        self.visible.push(latest);
        self.seen_at[(latest - self.first) as usize] = 0;
        self.repeats = 0;
        self.is_disordered = false;
    }

    /// Whether a touch of `id` in this cycle would have shown itself.
    fn is_reported(&self, table: &BlockTable, id: BlockId) -> bool {
        self.seen_at[(id - self.first) as usize] != UNSEEN || matches!(table.state(id), State::Absent | State::Staged)
    }

    /// The visible blocks in the order of their touches, each followed by the blocks that follow it
    /// in `order` up to the next visible one.
    fn merged(&self, order: &Order) -> Vec<BlockId> {
        let is_visible = |id: BlockId| self.seen_at[(id - self.first) as usize] != UNSEEN;
        let mut ids = Vec::with_capacity(order.len());
        // Blocks before the first visible one of the old order belong behind the last one: a ring.
        for &id in self.visible.iter().filter(|&&id| order.place(id).is_some()) {
            ids.push(id);
            let mut place = order.place(id).unwrap_or(0);
            loop {
                place = order.step(place, 1);
                let next = order.at(place);
                if is_visible(next) {
                    break;
                }
                ids.push(next);
            }
        }
        ids
    }
}
