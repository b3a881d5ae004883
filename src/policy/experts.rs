//! Expert slices as a cache: no order foretells them, the router chooses.
//!
//! The victim is the slice with the fewest uses, where old uses count less. Where the router's choices
//! are heard, every use counts. Else a use is a touch, and a touch of a present slice is invisible; so
//! one present slice after the other is rearmed, which makes its next touch report itself for the price
//! of a wake-up.
//!
//! The edges between slices are kept while any slice is: a page, for which another read would be due
//! with each of its two neighbours.
//!
//! While memory is free and the drive idle, slices are read that nobody has chosen yet: first those that
//! an earlier run used most.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::{BlockId, BlockTable, Role, State};

/// After this many uses (of any slice) an old use counts half.
const HALF_LIFE_USES: f64 = 4096.0;

/// Slices looked at to find a victim: close to the coldest of all, at a bounded price.
const SAMPLE: usize = 48;

/// The newest blocks are in use, not evicted willingly: those of a layer's chosen experts.
pub(super) const IN_USE: u64 = 192;

/// Slices rearmed for each one that had to go: enough to know what is still used before its turn comes.
const REARMS: u32 = 4;
const REARMS_MAX: u32 = 64;

/// What routers like has changed when there were so many uses more.
const REVISION_USES: u64 = 4096;

/// The size of an edge in bytes: a page.
const EDGE_BYTES: u32 = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct Heat {
    uses: f64,
    last: u64,
}

/// Held expert slices. Invariant: `at[held[i]] == i`.
#[derive(Debug, Default)]
pub(super) struct Experts {
    held: Vec<BlockId>,
    at: HashMap<BlockId, usize>,
    heat: HashMap<BlockId, Heat>,
    held_bytes: u64,
    edges: HashSet<BlockId>,
    clock: u64,
    hand: usize,
    /// The router's choices are heard.
    heard: bool,
    /// Slices that may still be rearmed.
    rearms: u32,
    /// What may be read without being chosen, next first.
    idle: VecDeque<BlockId>,
    revision: u64,
    /// The clock of the next revision.
    revises_at: u64,
}

impl Experts {
    /// Frame bytes of the held slices and edges together.
    pub fn bytes(&self) -> u64 {
        self.held_bytes + self.edges.len() as u64 * u64::from(EDGE_BYTES)
    }

    pub fn contains(&self, id: BlockId) -> bool {
        self.at.contains_key(&id) || self.edges.contains(&id)
    }

    /// Whether the router's choices are heard: what is read is then sure to be touched.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    fn warmth(&self, id: BlockId) -> f64 {
        let heat = self.heat.get(&id).copied().unwrap_or_default();
        heat.uses * (-((self.clock - heat.last) as f64) / HALF_LIFE_USES).exp2()
    }

    /// A thread touched `id`.
    pub fn touched(&mut self, table: &BlockTable, id: BlockId) {
        if !self.heard {
            self.used(table, id);
        }
        self.hold(table, id);
    }

    /// The router chose the expert of `id`, held or not.
    pub fn routed(&mut self, table: &BlockTable, id: BlockId) {
        self.heard = true;
        self.used(table, id);
    }

    fn used(&mut self, table: &BlockTable, id: BlockId) {
        if !is_edge(table, id) {
            self.clock += 1;
            let uses = self.warmth(id) + 1.0;
            self.heat.insert(id, Heat { uses, last: self.clock });
            if self.clock >= self.revises_at.max(REVISION_USES) {
                self.revision += 1;
                self.revises_at = self.clock + (self.clock / 2).max(REVISION_USES);
            }
        }
    }

    /// Slices `ids` may be read in that order when there is nothing better to do.
    pub fn foresee(&mut self, ids: &[BlockId]) {
        self.idle.extend(ids);
    }

    /// An earlier run liked `ids`, the first most.
    pub fn recall(&mut self, table: &BlockTable, ids: &[BlockId]) {
        for (rank, &id) in ids.iter().enumerate() {
            let uses = 1.0 - rank as f64 / ids.len() as f64;
            self.heat.entry(id).or_insert(Heat { uses, last: self.clock });
        }
        let is_near = |id: BlockId| (id as usize) < table.len() && is_edge(table, id) && is_expert(table, id);
        let with_edges = |&id: &BlockId| {
            [id.wrapping_sub(1), id, id + 1].into_iter().filter(move |&near| near == id || is_near(near))
        };
        let liked: VecDeque<BlockId> = ids.iter().flat_map(with_edges).collect();
        self.idle = liked.into_iter().chain(std::mem::take(&mut self.idle)).collect();
    }

    /// Slices among `ids` that have been used, the most liked first.
    pub fn liked(&self, ids: &Range<BlockId>) -> Vec<BlockId> {
        let used = self.heat.iter().filter(|(id, heat)| ids.contains(id) && heat.uses > 0.0);
        let mut liked: Vec<(f64, BlockId)> = used.map(|(&id, _)| (self.warmth(id), id)).collect();
        liked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        liked.into_iter().map(|(_, id)| id).collect()
    }

    /// A number that changes when [`Experts::liked`] has changed much; 0 while there is nothing to keep.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The next block to read without its being chosen.
    pub fn next_idle(&mut self, table: &BlockTable) -> Option<BlockId> {
        while let Some(&id) = self.idle.front() {
            if table.state(id) == State::Absent && !self.contains(id) {
                return Some(id);
            }
            self.idle.pop_front();
        }
        None
    }

    /// Takes `id` in before its touch: it is going to be read ahead, and is as new as if touched.
    pub fn expect(&mut self, table: &BlockTable, id: BlockId) {
        if !is_edge(table, id) {
            self.heat.insert(id, Heat { uses: self.warmth(id), last: self.clock });
        }
        self.hold(table, id);
    }

    fn hold(&mut self, table: &BlockTable, id: BlockId) {
        if self.contains(id) {
            return;
        }
        if is_edge(table, id) {
            self.edges.insert(id);
            return;
        }
        self.at.insert(id, self.held.len());
        self.held.push(id);
        self.held_bytes += u64::from(table.block(id).frame_bytes);
    }

    pub fn remove(&mut self, table: &BlockTable, id: BlockId) -> bool {
        let Some(at) = self.at.remove(&id) else { return self.edges.remove(&id) };
        self.held.swap_remove(at);
        if let Some(&moved) = self.held.get(at) {
            self.at.insert(moved, at);
        }
        self.held_bytes -= u64::from(table.block(id).frame_bytes);
        self.rearms = (self.rearms + REARMS).min(REARMS_MAX);
        true
    }

    pub fn forget(&mut self, table: &BlockTable, ids: &Range<BlockId>) {
        self.idle.retain(|id| !ids.contains(id));
        for id in ids.clone() {
            self.remove(table, id);
            self.heat.remove(&id);
        }
    }

    /// A cold evictable slice, or an edge when there is no slice; with `newest_too` false, none of the
    /// newest.
    pub fn coldest(&self, table: &BlockTable, newest_too: bool) -> Option<BlockId> {
        let count = self.held.len();
        // Anywhere: what is looked at is to be a fair sample (Knuth's multiplicative hash).
        let seed = self.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let Some(start) = (seed as usize).checked_rem(count) else {
            return self.edges.iter().copied().find(|&id| table.is_evictable(id));
        };
        let is_new = |id| self.heat.get(&id).is_some_and(|heat| self.clock - heat.last < IN_USE);
        (0..count)
            .map(|step| self.held[(start + step) % count])
            .filter(|&id| table.is_evictable(id) && (newest_too || !is_new(id)))
            .take(SAMPLE)
            .min_by(|&a, &b| self.warmth(a).total_cmp(&self.warmth(b)))
    }

    /// The next present slice whose touches are to be seen again; none while none has to go.
    pub fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        if self.heard || self.rearms == 0 {
            return None;
        }
        for _ in 0..SAMPLE.min(self.held.len()) {
            self.hand = (self.hand + 1) % self.held.len();
            let id = self.held[self.hand];
            let idle = self.heat.get(&id).is_none_or(|heat| self.clock - heat.last >= IN_USE);
            if idle && table.state(id) == State::Present && !table.is_waited_for(id) {
                self.rearms -= 1;
                return Some(id);
            }
        }
        None
    }
}

/// Whether the expert block `id` lies between two slices.
fn is_edge(table: &BlockTable, id: BlockId) -> bool {
    table.block(id).frame_bytes == EDGE_BYTES
}

fn is_expert(table: &BlockTable, id: BlockId) -> bool {
    matches!(table.block(id).role, Role::Expert { .. })
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;
