//! Expert slices as a cache: no order foretells them, the router chooses.
//!
//! The victim is the coldest slice ([`Heat`]). Where the router's choices are heard, every use counts. Else a use is a touch, and a
//! touch of a present slice is invisible; so one present slice after the other is rearmed, which makes its next touch report itself
//! for the price of a wake-up.
//!
//! The edges between slices are kept while any slice is: a page, for which another read would be due
//! with each of its two neighbours.
//!
//! While the drive is idle, slices are read that nobody has chosen yet ([`Idle`]): those that came near to it, and
//! where memory is free those that an earlier run used most, and any.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};

use super::heat::Heat;
use super::idle::{Idle, MARGIN};
use super::odds::For;
use super::{BlockId, BlockTable, State};

/// Slices looked at to find a victim: of 48 the coldest costs a point of hits, of all it gains nothing.
const SAMPLE: usize = 192;

/// Slices looked at to find one to rearm.
const REARM_SAMPLE: usize = 48;

/// Slices rearmed for each one that had to go: so it is known what is still used before its turn comes.
const REARMS: u32 = 4;
const REARMS_MAX: u32 = 64;

/// What routers like has changed when there were so many uses more.
const REVISION_USES: u64 = 4096;

/// The size of an edge in bytes: a page.
const EDGE_BYTES: u32 = 4096;

/// Held expert slices. Invariant: `at[held[i].1[j]] == (i, j)`.
#[derive(Debug, Default)]
pub(super) struct Experts {
    /// By length in bytes: what is read next takes the memory of a victim of the same length as it is. There are
    /// few lengths: two for each size of a tensor's slices.
    held: Vec<(u32, Vec<BlockId>)>,
    at: FxHashMap<BlockId, (usize, usize)>,
    heat: Heat,
    held_bytes: u64,
    edges: FxHashSet<BlockId>,
    hand: usize,
    /// The router's choices are heard.
    heard: bool,
    /// Slices that may still be rearmed.
    rearms: u32,
    idle: Idle,
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

    /// A thread touched `id`.
    pub fn touched(&mut self, table: &BlockTable, id: BlockId) {
        if !self.heard {
            self.idle.chosen(id, self.heat.pass());
            self.used(table, &[(id, 1.0)]);
        }
        self.hold(table, id);
    }

    /// The router chose the experts of the blocks of `chosen`, held or not, each for so large a share of its tokens: so a prompt
    /// counts no more than a token, and does not drive out what is used now.
    pub fn routed(&mut self, table: &BlockTable, chosen: &[(BlockId, f64)]) {
        self.heard |= chosen.iter().any(|&(id, _)| is_expert(table, id));
        let pass = self.heat.pass();
        chosen.iter().for_each(|&(id, _)| self.idle.chosen(id, pass));
        self.used(table, chosen);
    }

    fn used(&mut self, table: &BlockTable, used: &[(BlockId, f64)]) {
        self.heat.used(table, used.iter().copied().filter(|&(id, _)| is_slice(table, id)));
        let clock = self.heat.clock();
        if clock >= self.revises_at.max(REVISION_USES) {
            self.revision += 1;
            self.revises_at = clock + (clock / 2).max(REVISION_USES);
        }
    }

    /// The router that has just chosen came so near to choosing the experts of the blocks of `near`, which are then likely to be
    /// chosen soon.
    pub fn affine(&mut self, table: &BlockTable, near: &[(BlockId, f64)]) {
        let near = || near.iter().copied().filter(|&(id, _)| is_slice(table, id));
        self.heat.affine(near());
        for (id, _) in near() {
            if self.is_wanted(table, id) {
                self.idle.offer(id, self.heat.warmth(id), self.heat.pass());
            }
        }
    }

    /// There are `experts`, each by its blocks, which may be read in that order when there is nothing better to do.
    pub fn foresee(&mut self, table: &BlockTable, experts: &[Vec<BlockId>]) {
        for ids in experts {
            self.idle.any(ids.iter().copied().filter(|&id| is_expert(table, id)));
            self.heat.join(ids.iter().copied().filter(|&id| is_slice(table, id)));
        }
    }

    /// An earlier run liked `ids`, the first most.
    pub fn recall(&mut self, table: &BlockTable, ids: &[BlockId]) {
        for (rank, &id) in ids.iter().enumerate() {
            self.heat.recall(id, 1.0 - rank as f32 / ids.len() as f32);
        }
        self.idle.liked(ids.iter().flat_map(|&id| with_edges(table, id)));
    }

    /// Slices among `ids` that have been used, the most liked first.
    pub fn liked(&self, ids: &Range<BlockId>) -> Vec<BlockId> {
        self.heat.liked(ids)
    }

    /// A number that changes when [`Experts::liked`] has changed much; 0 while there is nothing to keep.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The next block to read without its being chosen, for which memory `is_free`, or which is worth more than a block that
    /// is held: taken in.
    pub fn next_idle(&mut self, table: &BlockTable, is_free: impl Fn(&Experts, BlockId) -> bool) -> Option<BlockId> {
        let Experts { at, edges, idle, .. } = self;
        let is_out = |id: BlockId| table.state(id) == State::Absent && !at.contains_key(&id) && !edges.contains(&id);
        let (mut id, why) = idle.next(self.heat.pass(), table.waste(), is_out)?;
        let slice = id;
        let is_likely = matches!(why, For::Likely(_));
        if is_likely {
            id = with_edges(table, slice).find(|&id| self.is_wanted(table, id)).unwrap_or(slice);
        }
        let has_memory = is_free(self, id) || (is_likely && self.is_worth_more(table, slice));
        if !has_memory {
            self.idle.drop_likely();
            return None;
        }
        self.idle.begun(id, why, table.block(id).len, self.heat.pass());
        self.expect(table, id);
        Some(id)
    }

    fn is_wanted(&self, table: &BlockTable, id: BlockId) -> bool {
        table.state(id) == State::Absent && !self.contains(id)
    }

    /// Whether `id` is clearly warmer than what would have to go for it.
    fn is_worth_more(&self, table: &BlockTable, id: BlockId) -> bool {
        let coldest = self.coldest(table, Some(id));
        coldest.is_some_and(|coldest| self.heat.warmth(coldest) + MARGIN <= self.heat.warmth(id))
    }

    /// Takes `id` in before its touch: it is going to be read ahead, and is as new as if touched.
    pub fn expect(&mut self, table: &BlockTable, id: BlockId) {
        if !is_edge(table, id) {
            self.heat.renew(id);
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
        self.idle.lost(id, self.heat.pass());
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
        // First: what was read unasked and is gone waits no more.
        ids.clone().for_each(|id| _ = self.remove(table, id));
        self.idle.forget(ids);
        self.heat.forget(ids);
    }

    /// A slice that may be evicted, and is none of the newest; an edge when there is no slice.
    pub fn evictable(&self, table: &BlockTable) -> Option<BlockId> {
        self.sample(table).next().or_else(|| self.evictable_edge(table))
    }

    /// A cold one of those, as long as `wanted` if there is such a one.
    pub fn coldest(&self, table: &BlockTable, wanted: Option<BlockId>) -> Option<BlockId> {
        let colder = |a: &BlockId, b: &BlockId| self.heat.warmth(*a).total_cmp(&self.heat.warmth(*b));
        let alike = wanted.and_then(|id| self.class(table.block(id).len)).map(|class| &self.held[class].1[..]);
        let alike = alike.filter(|held| !held.is_empty()).and_then(|held| {
            let (before, after) = held.split_at(self.heat.anywhere() % held.len());
            let held = after.iter().chain(before).copied();
            held.filter(|&id| self.is_evictable(table, id)).take(SAMPLE).min_by(colder)
        });
        alike.or_else(|| self.sample(table).take(SAMPLE).min_by(colder)).or_else(|| self.evictable_edge(table))
    }

    /// Whether `id` has had no more uses than `other`, old ones counting less.
    pub fn is_no_warmer(&self, id: BlockId, other: BlockId) -> bool {
        self.heat.warmth(id) <= self.heat.warmth(other)
    }

    /// All that may be evicted and are none of the newest, from anywhere on.
    fn sample(&self, table: &BlockTable) -> impl Iterator<Item = BlockId> {
        let start = self.heat.anywhere().checked_rem(self.at.len()).unwrap_or(0);
        self.held_from(start).filter(|&id| self.is_evictable(table, id))
    }

    fn is_evictable(&self, table: &BlockTable, id: BlockId) -> bool {
        table.is_evictable(id) && !self.heat.is_in_use(table, id, self.at.len() as u64)
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
        let found = self.held_from(self.hand).take(REARM_SAMPLE).enumerate().find(|(_, id)| is_idle(*id));
        self.hand += found.map_or(REARM_SAMPLE, |(steps, _)| steps + 1);
        self.rearms -= u32::from(found.is_some());
        found.map(|(_, id)| id)
    }
}

/// Whether the expert block `id` lies between two slices.
fn is_edge(table: &BlockTable, id: BlockId) -> bool {
    table.block(id).frame_bytes == EDGE_BYTES
}

/// Whether the block `id` is a slice, or a part of one, and no edge.
fn is_slice(table: &BlockTable, id: BlockId) -> bool {
    is_expert(table, id) && !is_edge(table, id)
}

pub(super) fn is_expert(table: &BlockTable, id: BlockId) -> bool {
    table.layer(id).is_some()
}

/// The edges of the slice `id`, and itself.
fn with_edges(table: &BlockTable, id: BlockId) -> impl Iterator<Item = BlockId> {
    let is_near = |id: BlockId| (id as usize) < table.len() && is_edge(table, id) && is_expert(table, id);
    [id.wrapping_sub(1), id + 1, id].into_iter().filter(move |&near| near == id || is_near(near))
}

#[cfg(test)]
#[path = "experts_tests.rs"]
mod tests;
