//! How the pool's size answers to the memory that is left: the arithmetic of the elastic budget,
//! without a clock or a file in it.
//!
//! ```text
//! reserve(pool) = base + pool / 16, beyond 16 GiB of pool + pool / 128
//! target: the pool with pool + reserve(pool) = pool now + room now
//! alone: reserve(pool) = base + pool / 64, with a smaller base
//! ```
//!
//! * **base** is what a neighbour may take between two looks: at most 256 MiB, at most an eighth of
//!   the memory that there is to share. It is the same for every pager below one limit.
//! * The **pool's part** of the reserve is what makes pagers fair without knowing of each other: the
//!   more a pager has, the more room it must leave. The larger of two yields while the smaller still
//!   grows into the room, and they rest where both leave the same: at the same size, or at the size
//!   of a model that is smaller than its share.
//! * **Alone** below a limit there is nobody to be fair to, and the only one to take memory is the program itself, which
//!   mostly computes. The base is then an eighth of the limit at most, and 128 MiB.
//! * **Giving back** is prompt. Half of what is too much goes at each look, since others may be giving
//!   back for the same reason; all of it when half of the base is gone. When less than the base is
//!   left, what the room has lost since the last look comes on top: a neighbour will take as much until
//!   the next one. (Before that it may be another pager that grows, and would yield by itself.)
//! * **Growing** is slow: half of the surplus every quarter of a second, and not within a second after
//!   memory was given back.
//! * The **next look** comes before a neighbour at 4 GB/s could have taken half of the room.

use super::{FRAME_BYTES, GIB, MIB, frames_up};

/// A deficit or surplus up to this is left alone: the kernel's counters are that inexact. In bytes.
pub const SLACK_BYTES: u64 = 2 * FRAME_BYTES;
/// Where the reserve's slope changes, in bytes of pool.
const KNEE_BYTES: u64 = 16 * GIB;
const SLOPE: u64 = 16;
const SLOPE_BEYOND: u64 = 128;
/// The slope of who is alone.
const SLOPE_ALONE: u64 = 64;
/// Pauses between two looks, and what a neighbour takes in one millisecond.
const PAUSE_MIN_MS: u64 = 5;
const PAUSE_MAX_MS: u64 = 50;
const NEIGHBOUR_BYTES_PER_MS: u64 = 4_000_000;
/// Pauses between two steps of growth, and between giving back and growing.
const GROW_EVERY_MS: u64 = 250;
const QUIET_MS: u64 = 1000;

/// What there is at one look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Milliseconds of any monotonic clock.
    pub now_ms: u64,
    /// The budget, in bytes.
    pub budget_bytes: u64,
    /// Memory that the pool has, in bytes.
    pub pool_bytes: u64,
    /// What the process could take besides, in bytes.
    pub room_bytes: u64,
    /// What must stay free.
    pub reserve: Reserve,
}

/// What must stay free at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// Whatever the pool's size, in bytes.
    pub base_bytes: u64,
    /// One byte for so many of the pool, up to 16 GiB of it.
    slope: u64,
}

impl Reserve {
    /// Where `capacity_bytes` are shared with others.
    pub fn shared(capacity_bytes: u64) -> Reserve {
        Reserve { base_bytes: (capacity_bytes / 8).min(256 * MIB), slope: SLOPE }
    }

    /// Where the process has `capacity_bytes` for itself.
    pub fn alone(capacity_bytes: u64) -> Reserve {
        Reserve { base_bytes: (capacity_bytes / 8).min(128 * MIB), slope: SLOPE_ALONE }
    }

    /// The pool that makes `whole_bytes` together with its reserve.
    fn pool_bytes(&self, whole_bytes: u64) -> u64 {
        let whole = whole_bytes.saturating_sub(self.base_bytes);
        let knee = KNEE_BYTES + KNEE_BYTES / self.slope;
        let below = (u128::from(whole.min(knee)) * u128::from(self.slope) / u128::from(self.slope + 1)) as u64;
        let beyond = u128::from(whole.saturating_sub(knee)) * u128::from(SLOPE_BEYOND) / u128::from(SLOPE_BEYOND + 1);
        below + beyond as u64
    }
}

/// See the module's page.
#[derive(Debug, Clone)]
pub struct Rule {
    most_bytes: u64,
    least_bytes: u64,
    /// No growth before this.
    grows_at_ms: u64,
    /// Pool and room at the last look, in bytes.
    last: (u64, u64),
}

impl Rule {
    /// For models of `model_bytes` altogether: no pool is larger.
    pub fn new(model_bytes: u64) -> Rule {
        Rule { most_bytes: frames_up(model_bytes), least_bytes: 0, grows_at_ms: 0, last: (0, 0) }
    }

    /// Less than `bytes` is of no use, nor asked for from now on.
    pub fn set_least(&mut self, bytes: u64) {
        self.least_bytes = bytes;
    }

    /// The budget from now on, in bytes.
    pub fn decide(&mut self, look: Look) -> u64 {
        let Look { now_ms, budget_bytes, pool_bytes, room_bytes, reserve } = look;
        let base_bytes = reserve.base_bytes;
        let target = reserve.pool_bytes(pool_bytes + room_bytes).min(self.most_bytes);
        let (last_pool, last_room) = std::mem::replace(&mut self.last, (pool_bytes, room_bytes));
        let taken = (last_pool + last_room).saturating_sub(pool_bytes + room_bytes);
        let wanted = if target + SLACK_BYTES < budget_bytes {
            // What the pool does not have yet costs nothing to give up.
            let excess = pool_bytes.saturating_sub(target);
            let part = if room_bytes < base_bytes / 2 { excess } else { excess.div_ceil(2) };
            // In need, also what will be gone at the next look. Not before: it may be others that grow.
            let foreseen = if room_bytes < base_bytes { taken.min(base_bytes) } else { 0 };
            let given = if excess > 0 { part + foreseen } else { 0 };
            self.grows_at_ms = now_ms + if given > SLACK_BYTES { QUIET_MS } else { GROW_EVERY_MS };
            if given > 0 { pool_bytes.saturating_sub(given).min(budget_bytes) } else { target }
        } else if now_ms >= self.grows_at_ms && (target > budget_bytes + SLACK_BYTES || target == self.most_bytes) {
            self.grows_at_ms = now_ms + GROW_EVERY_MS;
            let step = (target.saturating_sub(budget_bytes) / 2).max(FRAME_BYTES);
            (budget_bytes + step).min(target.max(budget_bytes))
        } else {
            budget_bytes
        };
        (wanted / FRAME_BYTES * FRAME_BYTES).max(self.least_bytes).min(self.most_bytes)
    }

    /// When to look again, in milliseconds after `look`.
    pub fn pause_ms(&self, look: &Look) -> u64 {
        // Who has nothing to give need not hurry.
        let helpless = look.pool_bytes <= self.least_bytes + SLACK_BYTES;
        let room_bytes = if helpless { u64::MAX } else { look.room_bytes };
        (room_bytes / 2 / NEIGHBOUR_BYTES_PER_MS).clamp(PAUSE_MIN_MS, PAUSE_MAX_MS)
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
