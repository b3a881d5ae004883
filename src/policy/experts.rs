//! Expert slices as a cache: no order foretells them, the router chooses.
//!
//! The victim is the slice with the fewest touches, where old touches count less. A touch of a
//! present slice is invisible; so one present slice after the other is rearmed, which makes its
//! next touch report itself for the price of a wake-up.

use std::collections::HashMap;

use super::{BlockId, BlockTable, State};

/// After this many touches (of any slice) an old touch counts half.
const HALF_LIFE_TOUCHES: f64 = 4096.0;

/// Slices looked at to find a victim: close to the coldest of all, at a bounded price.
const SAMPLE: usize = 16;

/// The newest blocks are in use, not evicted willingly: those of a layer's chosen experts.
pub(super) const IN_USE: u64 = 192;

#[derive(Debug, Clone, Copy, Default)]
struct Heat {
    touches: f64,
    last: u64,
}

/// Held expert slices. Invariant: `at[held[i]] == i`.
#[derive(Debug, Default)]
pub(super) struct Experts {
    held: Vec<BlockId>,
    at: HashMap<BlockId, usize>,
    heat: HashMap<BlockId, Heat>,
    bytes: u64,
    clock: u64,
    hand: usize,
}

impl Experts {
    /// Frame bytes of the held slices together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn contains(&self, id: BlockId) -> bool {
        self.at.contains_key(&id)
    }

    fn warmth(&self, id: BlockId) -> f64 {
        let heat = self.heat.get(&id).copied().unwrap_or_default();
        heat.touches * (-((self.clock - heat.last) as f64) / HALF_LIFE_TOUCHES).exp2()
    }

    pub fn touched(&mut self, table: &BlockTable, id: BlockId) {
        self.clock += 1;
        let touches = self.warmth(id) + 1.0;
        self.heat.insert(id, Heat { touches, last: self.clock });
        self.hold(table, id);
    }

    /// Takes `id` in before its touch: it is going to be read ahead, and is as new as if touched.
    pub fn expect(&mut self, table: &BlockTable, id: BlockId) {
        self.heat.insert(id, Heat { touches: self.warmth(id), last: self.clock });
        self.hold(table, id);
    }

    fn hold(&mut self, table: &BlockTable, id: BlockId) {
        if !self.contains(id) {
            self.at.insert(id, self.held.len());
            self.held.push(id);
            self.bytes += u64::from(table.block(id).frame_bytes);
        }
    }

    pub fn remove(&mut self, table: &BlockTable, id: BlockId) -> bool {
        let Some(at) = self.at.remove(&id) else { return false };
        self.held.swap_remove(at);
        if let Some(&moved) = self.held.get(at) {
            self.at.insert(moved, at);
        }
        self.bytes -= u64::from(table.block(id).frame_bytes);
        true
    }

    pub fn forget(&mut self, table: &BlockTable, id: BlockId) {
        self.remove(table, id);
        self.heat.remove(&id);
    }

    /// A cold evictable slice; with `newest_too` false, none of the newest.
    pub fn coldest(&self, table: &BlockTable, newest_too: bool, seed: u64) -> Option<BlockId> {
        let count = self.held.len();
        let start = (seed as usize).checked_rem(count)?;
        let is_new = |id| self.heat.get(&id).is_some_and(|heat| self.clock - heat.last < IN_USE);
        (0..count)
            .map(|step| self.held[(start + step) % count])
            .filter(|&id| table.is_evictable(id) && (newest_too || !is_new(id)))
            .take(SAMPLE)
            .min_by(|&a, &b| self.warmth(a).total_cmp(&self.warmth(b)))
    }

    /// The next present slice whose touches are to be seen again.
    pub fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        for _ in 0..SAMPLE.min(self.held.len()) {
            self.hand = (self.hand + 1) % self.held.len();
            let id = self.held[self.hand];
            let idle = self.heat.get(&id).is_none_or(|heat| self.clock - heat.last >= IN_USE);
            if idle && table.state(id) == State::Present && !table.is_waited_for(id) {
                return Some(id);
            }
        }
        None
    }
}
