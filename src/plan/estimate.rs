//! The arithmetic: `T = max(T_compute, bytes_read / W)`, with what the pager reads in place of Belady's
//! minimum: the cycle less what stays resident, and of the experts those that are not in memory.

use serde::Serialize;

use crate::gguf::TokenReads;
use crate::pager::piece::{EXPERT_BLOCK, ROW_BLOCK};
use crate::pager::region::HUGE;
use crate::policy::divide;

/// What is known of the model and the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ground {
    /// What a token reads.
    pub reads: TokenReads,
    /// Time to compute a token with everything in memory, in seconds.
    pub compute_s: f64,
    /// The drive's rate for blocks of 2 MiB, in bytes per second.
    pub drive_bytes_per_s: f64,
    /// The drive's rate for blocks of experts, in bytes per second.
    pub expert_bytes_per_s: f64,
}

/// How often a token uses the experts of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// Never: every active expert is read, unless all experts are in memory.
    None,
    /// As the router would by rolling dice: as many as are in memory, in proportion.
    Chance,
    /// As much as memory allows: the active experts stay.
    Best,
}

/// What to expect of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Bytes read for a token.
    pub read_bytes: u64,
    /// Time of a token, in seconds.
    pub token_s: f64,
    /// Tokens in a second.
    pub tokens_per_s: f64,
    /// Whether the drive, and not the computation, sets the pace.
    pub drive_bound: bool,
}

impl Ground {
    /// Bytes that must be in memory so that nothing is read: all that tokens use.
    pub fn whole_bytes(&self) -> u64 {
        self.reads.dense_bytes + self.reads.expert_bytes + self.reads.row_table_bytes
    }

    /// Bytes read for a token with a pool of `budget` bytes: of the part that every token reads, and of
    /// the experts.
    pub fn read_bytes(&self, budget: u64, reuse: Reuse) -> (u64, u64) {
        let TokenReads { dense_bytes, expert_bytes, active_expert_bytes, row_table_bytes, row_bytes, .. } = self.reads;
        if budget >= self.whole_bytes() {
            return (0, 0);
        }
        let frame = |bytes: u64, frame: usize| if bytes > 0 { frame as u64 } else { 0 };
        let row_frame = frame(row_table_bytes, ROW_BLOCK);
        let expert_frame = frame(expert_bytes, EXPERT_BLOCK);
        let division = divide(budget, dense_bytes, HUGE as u64, row_frame, expert_bytes, expert_frame);
        // A row is read with the block around it.
        let dense = dense_bytes - division.resident_bytes + if row_bytes > 0 { row_frame } else { 0 };
        let held = division.expert_bytes;
        let experts = match reuse {
            _ if held >= expert_bytes => 0,
            Reuse::None => active_expert_bytes,
            Reuse::Chance => (active_expert_bytes as f64 * (1.0 - held as f64 / expert_bytes as f64)) as u64,
            Reuse::Best => active_expert_bytes.saturating_sub(held),
        };
        (dense, experts)
    }

    /// What to expect of a pool of `budget` bytes.
    pub fn at(&self, budget: u64, reuse: Reuse) -> Estimate {
        let (dense, experts) = self.read_bytes(budget, reuse);
        let reading_s = dense as f64 / self.drive_bytes_per_s + experts as f64 / self.expert_bytes_per_s;
        let token_s = self.compute_s.max(reading_s);
        Estimate {
            read_bytes: dense + experts,
            token_s,
            tokens_per_s: 1.0 / token_s,
            drive_bound: reading_s > self.compute_s,
        }
    }

    /// The smallest pool, to a MiB, with which a token takes at most `token_s` seconds; `None` when
    /// computing alone takes longer.
    pub fn budget_for(&self, token_s: f64, reuse: Reuse) -> Option<u64> {
        const MIB: u64 = 1 << 20;
        let suffices = |mib: u64| self.at(mib * MIB, reuse).token_s <= token_s;
        let (mut low, mut high) = (0, self.whole_bytes().div_ceil(MIB));
        if !suffices(high) {
            return None;
        }
        while low < high {
            let middle = low.midpoint(high);
            if suffices(middle) { high = middle } else { low = middle + 1 }
        }
        Some(high * MIB)
    }

    /// How many times as fast the drive would have to be for a token in `token_s` seconds with a pool of
    /// `budget` bytes; `None` when computing alone takes longer.
    pub fn drive_factor_for(&self, token_s: f64, budget: u64, reuse: Reuse) -> Option<f64> {
        let (dense, experts) = self.read_bytes(budget, reuse);
        let reading_s = dense as f64 / self.drive_bytes_per_s + experts as f64 / self.expert_bytes_per_s;
        (self.compute_s <= token_s).then_some(reading_s / token_s)
    }
}
