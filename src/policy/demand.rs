//! Strategy `demand`: only what is touched is read.
//!
//! A touch of a present block is invisible, so recency and frequency of hits cannot be known; what
//! can be known is the order of arrival. The victim is the block that has just left the *newest
//! few*, not the oldest one: under a cyclic scan, the program's usual pattern, the oldest block is
//! the one that is needed next, and evicting it (LRU, FIFO, second chance) gives no hit at all,
//! while keeping what came first gives `budget / model` of hits, which is the optimum. One victim
//! in [`AGEING`] is drawn at random from the kept blocks instead, so that a changed pattern takes
//! them over.
//!
//! The newest few are never evicted: threads are inside of them, and a victim among them would be
//! read again at once, possibly for ever.

use std::ops::Range;

use super::fifo::Fifo;
use super::{BlockId, BlockTable, Need, Placement, Policy, Role, State, Touch};

/// One victim in this many comes from the kept blocks. At a budget of half the model that costs
/// about 6 % of the hits of a clean cycle.
const AGEING: u64 = 16;

/// The newest blocks fill at most this many frames of the largest size ...
const NEWEST_FRAMES_MAX: u64 = 40;

/// ... and at most the budget divided by this.
const NEWEST_SHARE: u64 = 2;

/// Embedding rows fill at most the budget divided by this.
const ROW_SHARE: u64 = 64;

/// The policy. See the module's page.
#[derive(Debug)]
pub struct Demand {
    /// Touched most recently, oldest first.
    newest: Fifo,
    /// Embedding rows, oldest first; they never age into the kept blocks.
    rows: Fifo,
    frame_bytes_max: u64,
    victims: u64,
    random: fastrand::Rng,
}

impl Default for Demand {
    fn default() -> Self {
        Demand {
            newest: Fifo::default(),
            rows: Fifo::default(),
            frame_bytes_max: 0,
            victims: 0,
            // A fixed seed: a run can be repeated.
            random: fastrand::Rng::with_seed(0x9e37_79b9),
        }
    }
}

impl Demand {
    /// Room for the newest blocks, in bytes.
    fn newest_bytes_max(&self, table: &BlockTable) -> u64 {
        (table.budget_bytes() / NEWEST_SHARE).min(self.frame_bytes_max * NEWEST_FRAMES_MAX)
    }

    fn is_listed(&self, id: BlockId) -> bool {
        self.newest.iter().any(|member| member == id) || self.rows.iter().any(|member| member == id)
    }

    /// An evictable block that is in no list, from a random place on.
    fn kept_victim(&mut self, table: &BlockTable) -> Option<BlockId> {
        let count = table.len() as BlockId;
        let start = self.random.u32(0..count.max(1));
        (start..count).chain(0..start).find(|&id| table.is_evictable(id) && !self.is_listed(id))
    }

    fn forget(&mut self, table: &BlockTable, id: BlockId) {
        if !self.newest.remove(table, id) {
            self.rows.remove(table, id);
        }
    }
}

impl Policy for Demand {
    fn name(&self) -> &'static str {
        "demand"
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, _order: &[BlockId]) {
        for id in ids {
            self.frame_bytes_max = self.frame_bytes_max.max(u64::from(table.block(id).frame_bytes));
        }
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.newest.drain_if(table, |id| ids.contains(&id));
        self.rows.drain_if(table, |id| ids.contains(&id));
    }

    fn budget_changed(&mut self, _table: &BlockTable) {}

    fn touched(&mut self, table: &BlockTable, id: BlockId, _touch: Touch, _now_ns: u64) {
        self.forget(table, id);
        match table.block(id).role {
            Role::Row => self.rows.push(table, id),
            Role::Cyclic | Role::Expert { .. } => self.newest.push(table, id),
        }
        // While the pool has room, the oldest of the newest become kept blocks. Once it is full they
        // wait for `victim`, which this touch is about to call: hence the room for one more.
        let grace = if table.has_room(id) { 0 } else { u64::from(table.block(id).frame_bytes) };
        let mut excess = self.newest.bytes().saturating_sub(self.newest_bytes_max(table) + grace);
        self.newest.drain_if(table, |member| {
            let lost = matches!(table.state(member), State::Poisoned | State::Gone);
            let leaves = member != id && (excess > 0 || lost);
            if leaves {
                excess = excess.saturating_sub(u64::from(table.block(member).frame_bytes));
            }
            leaves
        });
    }

    fn filled(&mut self, _table: &BlockTable, _id: BlockId) -> Placement {
        Placement::Install
    }

    fn next_read(&mut self, _table: &BlockTable, _in_flight: u32) -> Option<BlockId> {
        None
    }

    fn victim(&mut self, table: &BlockTable, _wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        if need == Need::Readahead {
            return None;
        }
        self.victims += 1;
        let mut victim = None;
        if self.rows.bytes() > table.budget_bytes() / ROW_SHARE {
            victim = self.rows.oldest_evictable(table, 1);
        }
        if victim.is_none() && self.victims.is_multiple_of(AGEING) {
            victim = self.kept_victim(table);
        }
        if victim.is_none() && self.newest.bytes() > self.newest_bytes_max(table) {
            victim = self.newest.oldest_evictable(table, 1);
        }
        // Less and less willingly: a kept block, an old row, one of the newest.
        let victim = victim
            .or_else(|| self.kept_victim(table))
            .or_else(|| self.rows.oldest_evictable(table, 1))
            .or_else(|| self.newest.oldest_evictable(table, 0))
            .or_else(|| self.rows.oldest_evictable(table, 0))?;
        self.forget(table, victim);
        Some(victim)
    }
}

#[cfg(test)]
impl super::Accounts for Demand {
    fn assert_accounts(&self, _table: &BlockTable) {}
}
