//! What [`Cycle`] evicts: first what an account holds beyond its part, then what hurts least.

#[cfg(test)]
use super::State;
use super::cycle::Cycle;
use super::experts::Experts;
use super::window::Class;
use super::{BlockId, BlockTable, Need, Role};

/// Blocks at the new end of the tensor in use that are evicted only when nothing else is left.
const IN_USE_KEPT: usize = 4;

/// Blocks that eight threads are inside of at most, each at the seam of two.
const STRANGERS_KEPT: usize = 16;

impl Cycle {
    pub fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        let mut victim = self.surplus(table, |experts| experts.coldest(table, wanted));
        if need != Need::Readahead {
            victim = victim.or_else(|| self.sacrifice(table, wanted));
        }
        self.release(table, victim?);
        victim
    }

    /// A block that gives its memory to the chosen expert `wanted`, which would have to wait longer for fresh memory than
    /// for its read: an expert that is no warmer, and not of the same layer, whose experts are about to be touched.
    pub fn exchange(&mut self, table: &BlockTable, wanted: BlockId) -> Option<BlockId> {
        if table.is_ready(wanted) || !self.experts.is_heard() {
            return None;
        }
        let Role::Expert { layer } = table.block(wanted).role else { return None };
        let victim = self.experts.coldest(table, Some(wanted)).filter(|&id| {
            table.block(id).role != Role::Expert { layer }
                && table.block(id).frame_bytes >= table.block(wanted).frame_bytes
                && self.experts.is_no_warmer(id, wanted)
        })?;
        self.release(table, victim);
        Some(victim)
    }

    /// An evictable block of an account that holds more than its part; `pick` chooses one of the experts.
    pub(super) fn surplus(
        &self,
        table: &BlockTable,
        pick: impl FnOnce(&Experts) -> Option<BlockId>,
    ) -> Option<BlockId> {
        let live = self.live_count();
        let heir = match self.streams.get(self.current) {
            Some(current) if current.is_at_end() => self.successor_of(self.current),
            _ => None,
        };
        let of_streams = || {
            self.streams.iter().enumerate().find_map(|(at, stream)| {
                let share = if self.is_live(at) { self.plan.in_use_bytes / live } else { 0 };
                // A stream that stays whole has no part for blocks that its order does not know: a
                // thread may need two of them at once.
                let keep = if stream.is_streaming() { 1 } else { STRANGERS_KEPT };
                stream.window.surplus(table, share, keep)
            })
        };
        let of_idle = || {
            self.streams.iter().enumerate().find_map(|(at, stream)| {
                let wanted = self.is_live(at) || heir == Some(at);
                if wanted { None } else { stream.window.ahead().newest_evictable(table) }
            })
        };
        let of_rows = || match self.rows.bytes() > self.plan.row_bytes {
            true => self.rows.oldest_evictable(table, 1),
            false => None,
        };
        // Frames of slices differ in size: the next must find room for certain.
        let of_experts = || match self.experts.bytes() + self.mapped.expert_frame > self.plan.expert_bytes {
            true => pick(&self.experts),
            false => None,
        };
        of_streams().or_else(of_idle).or_else(of_rows).or_else(of_experts).or_else(|| self.orphan(table))
    }

    /// A held block in no account.
    fn orphan(&self, table: &BlockTable) -> Option<BlockId> {
        if table.held_bytes() <= self.accounted_bytes() {
            return None;
        }
        (0..table.len() as BlockId).find(|&id| table.is_evictable(id) && !self.is_listed(id))
    }

    /// When every account keeps to its part and a frame is needed all the same: what hurts least.
    fn sacrifice(&mut self, table: &BlockTable, wanted: Option<BlockId>) -> Option<BlockId> {
        let ahead = || self.streams.iter().find_map(|stream| stream.window.ahead().newest_evictable(table));
        let in_use = |keep| self.streams.iter().find_map(|stream| stream.window.in_use().oldest_evictable(table, keep));
        let found = self
            .rows
            .oldest_evictable(table, 16)
            .or_else(ahead)
            .or_else(|| self.experts.coldest(table, wanted))
            .or_else(|| in_use(IN_USE_KEPT));
        if found.is_some() {
            return found;
        }
        let count = table.len() as BlockId;
        let start = self.hand.min(count);
        let in_use_now = |id| self.class(id) == Some(Class::InUse) || self.rows.contains(id);
        let found = (start..count)
            .chain(0..start)
            .find(|&id| table.is_evictable(id) && !in_use_now(id))
            .or_else(|| in_use(0))
            .or_else(|| self.rows.oldest_evictable(table, 0));
        self.hand = found.map_or(0, |id| id + 1);
        found
    }

    /// Panics when a frame is in no account or an account holds more than its part. For use between
    /// two calls of the pager that leave no eviction half done.
    #[cfg(test)]
    pub fn assert_accounts(&self, table: &BlockTable) {
        let holds = |id: &BlockId| matches!(table.state(*id), State::Reading | State::Staged | State::Present);
        for id in (0..table.len() as BlockId).filter(holds) {
            assert!(self.is_listed(id), "block {id}, {:?}, is in no account", table.state(id));
        }
        let bytes = |ids: &mut dyn Iterator<Item = BlockId>| -> u64 {
            ids.map(|id| u64::from(table.block(id).frame_bytes)).sum()
        };
        let mut sum = self.rows.bytes() + self.experts.bytes();
        for (stream, &quota) in self.streams.iter().zip(&self.plan.quotas) {
            let resident = bytes(&mut stream.order.span().filter(|&id| stream.window.class(id) == Class::Resident));
            assert!(resident <= stream.resident.bytes(), "{resident} resident bytes of {}", stream.resident.bytes());
            assert!(stream.resident.bytes() <= quota, "marked more than the quota of {quota}");
            for (list, class) in [
                (stream.window.ahead(), Class::Ahead),
                (stream.window.in_use(), Class::InUse),
                (stream.window.spare(), Class::Spare),
            ] {
                assert_eq!(list.bytes(), bytes(&mut list.iter()));
                assert!(list.iter().all(|id| stream.window.class(id) == class), "{class:?} and its list differ");
                sum += list.bytes();
            }
            sum += resident;
        }
        assert_eq!(sum, self.accounted_bytes());
        assert!(sum >= table.held_bytes());
        let parts: u64 = self.plan.quotas.iter().sum::<u64>()
            + self.plan.ahead_bytes
            + self.plan.in_use_bytes
            + self.plan.row_bytes
            + self.plan.expert_bytes;
        assert!(parts <= table.budget_bytes(), "parts of {parts} bytes exceed the budget");
    }
}
