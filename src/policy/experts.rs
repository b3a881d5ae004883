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

use std::collections::VecDeque;
use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{BlockId, BlockTable, Role, State};

/// After so many passes through the layers an old use counts half. A pass is a token, or a batch of them. From 5 to 10 caches
/// hit about the same; with 40 a cache of 12 % of the experts hits 48 % instead of 52 %.
const HALF_LIFE_PASSES: f64 = 8.0;

/// Slices looked at to find a victim: close to the coldest of all, at a bounded price.
const SAMPLE: usize = 48;

/// What is computed now is in use and not evicted willingly: the experts that this layer chose in this pass. Neither are so many
/// of the newest blocks, among which is what has been read on a guess. Where few are held, it is the newer half in either case.
const IN_USE: u64 = 48;

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
    /// The pass of the latest of these.
    pass: u32,
    /// The clock at the latest.
    last: u64,
}

/// Held expert slices. Invariant: `at[held[i].1[j]] == (i, j)`.
#[derive(Debug, Default)]
pub(super) struct Experts {
    /// By length in bytes: what is read next takes the memory of a victim of the same length as it is. There are
    /// few lengths: two for each size of a tensor's slices.
    held: Vec<(u32, Vec<BlockId>)>,
    at: FxHashMap<BlockId, (usize, usize)>,
    heat: FxHashMap<BlockId, Heat>,
    held_bytes: u64,
    edges: FxHashSet<BlockId>,
    /// Counts blocks that were used.
    clock: u64,
    /// Counts passes through the layers.
    pass: u32,
    /// The layer that was used last.
    layer: u32,
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
        heat.uses * (-f64::from(self.pass - heat.pass) / HALF_LIFE_PASSES).exp2()
    }

    /// A thread touched `id`.
    pub fn touched(&mut self, table: &BlockTable, id: BlockId) {
        if !self.heard {
            self.used(table, id, 1.0);
        }
        self.hold(table, id);
    }

    /// The router chose the expert of `id`, held or not, for `share` of its tokens: so a prompt counts no more than a token,
    /// and does not drive out what is used now.
    pub fn routed(&mut self, table: &BlockTable, id: BlockId, share: f64) {
        self.heard = true;
        self.used(table, id, share);
    }

    fn used(&mut self, table: &BlockTable, id: BlockId, share: f64) {
        if !is_edge(table, id) {
            self.clock += 1;
            let layer = layer(table, id).unwrap_or(self.layer);
            let begins = layer < std::mem::replace(&mut self.layer, layer);
            // What counts for nothing makes nothing old.
            self.pass += u32::from(begins && share > 0.0);
            self.warm(id, self.warmth(id) + share);
            if self.clock >= self.revises_at.max(REVISION_USES) {
                self.revision += 1;
                self.revises_at = self.clock + (self.clock / 2).max(REVISION_USES);
            }
        }
    }

    /// `id` is as new as if it were used now.
    fn warm(&mut self, id: BlockId, uses: f64) {
        self.heat.insert(id, Heat { uses, pass: self.pass, last: self.clock });
    }

    /// Slices `ids` may be read in that order when there is nothing better to do.
    pub fn foresee(&mut self, table: &BlockTable, ids: &[BlockId]) {
        self.idle.extend(ids.iter().filter(|&&id| is_expert(table, id)));
    }

    /// An earlier run liked `ids`, the first most.
    pub fn recall(&mut self, table: &BlockTable, ids: &[BlockId]) {
        for (rank, &id) in ids.iter().enumerate() {
            let uses = 1.0 - rank as f64 / ids.len() as f64;
            self.heat.entry(id).or_insert(Heat { uses, pass: self.pass, last: self.clock });
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
            self.warm(id, self.warmth(id));
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
        let len = table.block(id).len;
        let class = self.class(len).unwrap_or_else(|| {
            self.held.push((len, Vec::new()));
            self.held.len() - 1
        });
        self.at.insert(id, (class, self.held[class].1.len()));
        self.held[class].1.push(id);
        self.held_bytes += u64::from(table.block(id).frame_bytes);
    }

    /// Index of the slices of a length.
    fn class(&self, len: u32) -> Option<usize> {
        self.held.iter().position(|(known, _)| *known == len)
    }

    /// All held slices from number `start` on, and around.
    fn held_from(&self, start: usize) -> impl Iterator<Item = BlockId> {
        let all = || self.held.iter().flat_map(|(_, held)| held).copied();
        all().skip(start).chain(all().take(start))
    }

    pub fn remove(&mut self, table: &BlockTable, id: BlockId) -> bool {
        let Some((class, at)) = self.at.remove(&id) else { return self.edges.remove(&id) };
        let held = &mut self.held[class].1;
        held.swap_remove(at);
        if let Some(&moved) = held.get(at) {
            self.at.insert(moved, (class, at));
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

    /// A slice that may be evicted, and is none of the newest; an edge when there is no slice.
    pub fn evictable(&self, table: &BlockTable) -> Option<BlockId> {
        self.sample(table).next().or_else(|| self.evictable_edge(table))
    }

    /// A cold one of those, as long as `wanted` if there is such a one.
    pub fn coldest(&self, table: &BlockTable, wanted: Option<BlockId>) -> Option<BlockId> {
        let colder = |a: &BlockId, b: &BlockId| self.warmth(*a).total_cmp(&self.warmth(*b));
        let alike = wanted.and_then(|id| self.class(table.block(id).len)).map(|class| &self.held[class].1[..]);
        let alike = alike.filter(|held| !held.is_empty()).and_then(|held| {
            let (before, after) = held.split_at(self.anywhere() % held.len());
            let held = after.iter().chain(before).copied();
            held.filter(|&id| self.is_evictable(table, id)).take(SAMPLE).min_by(colder)
        });
        alike.or_else(|| self.sample(table).take(SAMPLE).min_by(colder)).or_else(|| self.evictable_edge(table))
    }

    /// Whether `id` has had no more uses than `other`, old ones counting less.
    pub fn is_no_warmer(&self, id: BlockId, other: BlockId) -> bool {
        self.warmth(id) <= self.warmth(other)
    }

    /// All that may be evicted and are none of the newest, from anywhere on.
    fn sample(&self, table: &BlockTable) -> impl Iterator<Item = BlockId> {
        let start = self.anywhere().checked_rem(self.at.len()).unwrap_or(0);
        self.held_from(start).filter(|&id| self.is_evictable(table, id))
    }

    /// What is looked at is to be a fair sample (Knuth's multiplicative hash).
    fn anywhere(&self) -> usize {
        (self.clock.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }

    fn is_evictable(&self, table: &BlockTable, id: BlockId) -> bool {
        let half = self.at.len() as u64 / 2;
        let is_in_use = |heat: &Heat| {
            let computed_now = heat.pass == self.pass && layer(table, id) == Some(self.layer);
            self.clock - heat.last < if computed_now { half } else { IN_USE.min(half) }
        };
        table.is_evictable(id) && !self.heat.get(&id).is_some_and(is_in_use)
    }

    fn evictable_edge(&self, table: &BlockTable) -> Option<BlockId> {
        if !self.at.is_empty() {
            return None;
        }
        self.edges.iter().copied().find(|&id| table.is_evictable(id))
    }

    /// The next present slice whose touches are to be seen again; none while none has to go.
    pub fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        if self.heard || self.rearms == 0 || self.at.is_empty() {
            return None;
        }
        self.hand %= self.at.len();
        let is_idle = |id: BlockId| table.state(id) == State::Present && self.is_evictable(table, id);
        let found = self.held_from(self.hand).take(SAMPLE).enumerate().find(|(_, id)| is_idle(*id));
        self.hand += found.map_or(SAMPLE, |(steps, _)| steps + 1);
        self.rearms -= u32::from(found.is_some());
        found.map(|(_, id)| id)
    }
}

/// Whether the expert block `id` lies between two slices.
fn is_edge(table: &BlockTable, id: BlockId) -> bool {
    table.block(id).frame_bytes == EDGE_BYTES
}

pub(super) fn is_expert(table: &BlockTable, id: BlockId) -> bool {
    layer(table, id).is_some()
}

/// The layer of the block `id`; `None` for what is no expert's.
fn layer(table: &BlockTable, id: BlockId) -> Option<u32> {
    match table.block(id).role {
        Role::Expert { layer } => Some(layer),
        Role::Cyclic | Role::Row => None,
    }
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;
