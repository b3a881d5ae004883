//! What [`Cycle`] reads next: what is certain, then what its order foretells, then guesses, then what may be of use
//! some day. What nobody has chosen waits for memory that is ready: the pager has better things to do than to zero some.

use super::cycle::Cycle;
use super::experts::is_expert;
use super::{BlockId, BlockTable, Role, State};

/// Reads in flight at most beside one that nobody has chosen: a chosen one must not wait long.
const IDLE_READS: u32 = 2;

/// The same beside a guess, which is as good as chosen more often than not.
pub(super) const GUESSED_READS: u32 = 4;

impl Cycle {
    pub fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        let absent = |id: &BlockId| table.state(*id) == State::Absent;
        if !self.could_have_room(table) {
            return None;
        }
        if let Some(id) = self.offered.filter(|id| absent(id) && self.is_listed(*id)) {
            return Some(id);
        }
        self.offered =
            self.next_hint(table).or_else(|| self.next_in_order(table)).or_else(|| self.next_guess(table, in_flight));
        self.offered
    }

    /// An expert that will probably be chosen. What it evicts is the coldest of all, and it is itself among the
    /// coldest if it is not chosen.
    fn next_guess(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        if in_flight >= GUESSED_READS {
            return None;
        }
        while let Some(&id) = self.guesses.front() {
            // Where a tensor of experts begins or ends, a slice has a part of a block that the cycle reads.
            let is_absent = is_expert(table, id) && table.state(id) == State::Absent;
            if is_absent && !table.is_ready(id) {
                return None;
            }
            self.guesses.pop_front();
            if is_absent {
                self.experts.expect(table, id);
                return Some(id);
            }
        }
        None
    }

    /// An expert that nobody has chosen, while the drive has little to do.
    pub fn next_idle(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        if in_flight >= IDLE_READS || self.touches == 0 {
            return None;
        }
        let (expert_bytes, expert_frame) = (self.plan.expert_bytes, self.mapped.expert_frame);
        self.offered = self.experts.next_idle(table, |experts, id| {
            let spare = expert_bytes.checked_sub(experts.bytes() + expert_frame);
            table.has_room(id)
                && table.is_ready(id)
                && spare.is_some_and(|bytes| bytes >= u64::from(table.block(id).frame_bytes))
        });
        self.offered
    }

    /// Whether something is hinted that is not on its way yet.
    pub fn is_certain(&mut self, table: &BlockTable) -> bool {
        while self.hints.front().is_some_and(|&id| table.state(id) != State::Absent) {
            self.hints.pop_front();
        }
        !self.hints.is_empty()
    }

    /// Taken off when it is on its way, not when it is named.
    fn next_hint(&mut self, table: &BlockTable) -> Option<BlockId> {
        if !self.is_certain(table) {
            return None;
        }
        let id = *self.hints.front()?;
        match table.block(id).role {
            Role::Row if !self.rows.contains(id) => self.rows.push(table, id),
            Role::Row => {}
            _ => self.experts.expect(table, id),
        }
        Some(id)
    }

    fn next_in_order(&mut self, table: &BlockTable) -> Option<BlockId> {
        if self.streams.is_empty() {
            return None;
        }
        let share = self.plan.ahead_bytes / self.live_count();
        let heir = self.successor_of(self.current);
        let is_candidate = |&at: &usize| at == self.current || self.is_live(at);
        let mut candidates: Vec<usize> = (0..self.streams.len()).filter(is_candidate).collect();
        // By turns: the faster of two models would take every free read, and the other one starve.
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn % candidates.len();
        candidates.rotate_left(turn);
        for at in candidates {
            let stream = &mut self.streams[at];
            let to_the_end = at == self.current && heir.is_some() && stream.is_streaming();
            if stream.active
                && let Some(id) = stream.walk(table, share, to_the_end)
            {
                return Some(id);
            }
        }
        // The heir gets what the others leave of the readahead.
        let heir = heir.filter(|_| self.streams[self.current].is_at_end())?;
        let left = self.plan.ahead_bytes.saturating_sub(self.ahead_bytes());
        let stream = &mut self.streams[heir];
        let own = stream.window.ahead().bytes();
        stream.walk(table, own + left, false)
    }

    /// Whether a readahead would find a frame: otherwise naming one would only block the list.
    fn could_have_room(&self, table: &BlockTable) -> bool {
        let frame = self.mapped.cyclic_frame.max(self.mapped.row_frame).max(self.mapped.expert_frame);
        table.held_bytes() + frame <= table.budget_bytes()
            || self.surplus(table, |experts| experts.evictable(table)).is_some()
    }
}
