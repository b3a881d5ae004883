//! What a run reports of a mixture of experts.

use serde::{Deserialize, Serialize};

use super::part;

/// The blocks of experts: what routers chose, where it was then, and what was read. All of it is 0 where routers are not
/// heard, but for what was read. A batch chooses a block once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExpertStats {
    /// Bytes of the blocks that routers chose, each as often as it was chosen. The next six are its parts.
    pub chosen_bytes: u64,
    /// Those of them that were in memory because they had been used before.
    pub held_used_bytes: u64,
    /// Those that were in memory because the gate had foretold them, and had not been chosen since.
    pub held_gate_bytes: u64,
    /// The same of co-occurrence.
    pub held_co_occurrence_bytes: u64,
    /// Those that had been read because the drive had nothing better to do, and had not been chosen since.
    pub held_idle_bytes: u64,
    /// Those whose read was in flight, whatever it had begun for.
    pub in_flight_bytes: u64,
    /// Those that were not in memory.
    pub missing_bytes: u64,
    /// Bytes that were chosen and had to be read for it: they were missing, or had been foretold and not been chosen since.
    pub needed_bytes: u64,
    /// Bytes of the blocks of experts of which reads have begun.
    pub read_bytes: u64,
    /// Those of them that the drive read because it had nothing better to do.
    pub idle_read_bytes: u64,
    /// What a byte that nobody asked for and nobody uses was reckoned to cost last, in thousandths of what a used one saves;
    /// 0 before that is known.
    pub waste_permille: u64,
    /// Touches of blocks of the latest choice whose read had not begun.
    pub touches_not_begun: u64,
    /// Touches of blocks of the latest choice that had been in memory when they were chosen, or later, and had to go
    /// again.
    pub touches_evicted: u64,
    /// Who foretells by the next layer's router.
    pub gate: ForetellerStats,
    /// Who foretells by what was chosen together.
    pub co_occurrence: ForetellerStats,
}

impl ExpertStats {
    /// Bytes that were in memory when they were chosen.
    pub fn held_bytes(&self) -> u64 {
        self.held_used_bytes + self.held_gate_bytes + self.held_co_occurrence_bytes + self.held_idle_bytes
    }

    /// `bytes` as a part of all that was chosen. `None` where nobody heard the routers.
    pub fn of_chosen(&self, bytes: u64) -> Option<f64> {
        part(bytes, self.chosen_bytes)
    }

    /// Bytes read for experts over those that had to be read, without what an idle drive read: 1 when nothing is
    /// read for nothing. `None` where nothing had to.
    pub fn read_amplification(&self) -> Option<f64> {
        part(self.read_bytes - self.idle_read_bytes, self.needed_bytes)
    }
}

/// What became of one foreteller's guesses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForetellerStats {
    /// Experts that routers chose when it had been asked which, a batch's each once.
    pub chosen: u64,
    /// Experts that it foretold.
    pub guesses: u64,
    /// Those of them that were chosen.
    pub right: u64,
    /// Bytes read because of that, before they were chosen.
    pub read_bytes: u64,
    /// Those of them that were not chosen then.
    pub wasted_bytes: u64,
    /// Times that it was not asked for a while, because its guesses had wasted more than they brought.
    pub pauses: u64,
}

impl ForetellerStats {
    /// The part of its guesses that was right. `None` where it made none.
    pub fn precision(&self) -> Option<f64> {
        part(self.right, self.guesses)
    }

    /// The part of what was chosen that it had foretold. `None` where it was not asked.
    pub fn recall(&self) -> Option<f64> {
        part(self.right, self.chosen)
    }

    /// The part of the bytes read for its guesses that was not chosen. `None` where none were read.
    pub fn waste(&self) -> Option<f64> {
        part(self.wasted_bytes, self.read_bytes)
    }
}
