//! The elastic part of `auto`: the pool follows the memory that is left while the program runs.
//!
//! [`super::rule`] decides; here is what it is told. The pool fills over the first cycle, and the
//! program allocates its KV cache and compute buffers before that and meanwhile: what they take comes
//! out of the room, and what they did not take of the headroom goes to the pool.
//!
//! * **Strain** is what the counters of free memory do not show: page cache that is counted as room
//!   but in use, dirty or locked. Where the kernel keeps pressure stall information for whoever binds
//!   (the machine, or the group of v2), time in which tasks waited for memory makes the reserve larger,
//!   up to twice, and is forgotten in seconds. It has a bound because a neighbour that streams files
//!   through the page cache makes tasks wait for ever, however small the pool is.
//! * **Alone** is who has nearly all that is charged to the group whose limit binds: a launcher or a shell beside it is no
//!   neighbour. The first look that sees a neighbour take memory widens the reserve.
//! * **Swap** is never room. What has been swapped out since the start counts as taken: otherwise the
//!   pool, which is anonymous memory that is touched once a cycle, would push out others or itself and
//!   take the freed pages for room.

use std::time::Duration;

use super::Memory;
use super::memory::{Machine, Pressure};
use super::rule::{Look, Reserve, Rule, SLACK_BYTES};

/// Everything is read anew when this has passed, and before, when memory has moved.
const REFRESH_MS: u64 = 250;

/// Who has had a neighbour is not alone for so long.
const COMPANY_MS: u64 = 10_000;

/// See the module's page.
#[derive(Debug)]
pub struct Governor {
    memory: Memory,
    rule: Rule,
    strain: Strain,
    refreshed_at_ms: Option<u64>,
    /// Others share the memory until then.
    shared_until_ms: u64,
    swapped_at_start_bytes: u64,
    pause: Duration,
}

impl Governor {
    /// For models of `model_bytes` altogether, on the memory that `memory` watches.
    pub fn new(memory: Memory, model_bytes: u64) -> Governor {
        Governor {
            swapped_at_start_bytes: swapped_bytes(&memory.machine),
            memory,
            rule: Rule::new(model_bytes),
            strain: Strain::default(),
            refreshed_at_ms: None,
            shared_until_ms: 0,
            pause: Duration::ZERO,
        }
    }

    /// The budget from `now_ms` (of any monotonic clock) on, in bytes, when it is `budget_bytes` now
    /// and the pool has memory of `pool_bytes`. Reads the machine's and the cgroup's state, most of it
    /// only when something has moved.
    pub fn adjust(&mut self, now_ms: u64, budget_bytes: u64, pool_bytes: u64) -> u64 {
        let capacity = self.memory.capacity_bytes();
        let due = self.refreshed_at_ms.is_none_or(|then| now_ms >= then + REFRESH_MS);
        if due || self.memory.has_moved(SLACK_BYTES / 2) {
            self.refreshed_at_ms = Some(now_ms);
            self.memory.refresh();
            if !self.memory.is_alone() {
                self.shared_until_ms = now_ms + COMPANY_MS;
            }
            self.strain.look(now_ms, self.memory.binding_pressure(), Reserve::shared(capacity).base_bytes);
        }
        let shared = now_ms < self.shared_until_ms;
        let mut reserve = if shared { Reserve::shared(capacity) } else { Reserve::alone(capacity) };
        reserve.base_bytes += self.strain.bytes;
        let swapped = swapped_bytes(&self.memory.machine).saturating_sub(self.swapped_at_start_bytes);
        let room_bytes = self.memory.room_bytes().saturating_sub(swapped);
        let look = Look { now_ms, budget_bytes, pool_bytes, room_bytes, reserve };
        self.pause = Duration::from_millis(self.rule.pause_ms(&look));
        self.rule.decide(look)
    }

    /// Less than `bytes` is of no use to the pager, so it is not asked for any more.
    pub fn set_least(&mut self, bytes: u64) {
        self.rule.set_least(bytes);
    }

    /// When to adjust again, after the last time: 5 to 50 ms.
    pub fn pause(&self) -> Duration {
        self.pause
    }
}

fn swapped_bytes(machine: &Machine) -> u64 {
    machine.swap_total_bytes.saturating_sub(machine.swap_free_bytes)
}

/// Waiting for memory, turned into bytes of reserve.
#[derive(Debug, Default)]
struct Strain {
    /// When it was looked at, and the stalled time until then, in microseconds.
    last: Option<(u64, u64)>,
    bytes: u64,
}

impl Strain {
    /// Stalls of less than this share of the time are everyday, in parts per thousand.
    const EVERYDAY_PER_MILLE: u64 = 100;
    /// Full strain builds up in this time when tasks do nothing but wait,
    const RISE_MS: u64 = 250;
    /// and goes in this time.
    const FALL_MS: u64 = 4000;

    /// Takes in a reading; the strain is at most `base` bytes.
    fn look(&mut self, now_ms: u64, pressure: Option<Pressure>, base: u64) {
        let Some(pressure) = pressure else {
            *self = Strain::default();
            return;
        };
        if let Some((then_ms, total_us)) = self.last.replace((now_ms, pressure.some_total_us)) {
            let passed_ms = now_ms.saturating_sub(then_ms).max(1);
            let stalled_per_mille = pressure.some_total_us.saturating_sub(total_us) / passed_ms;
            let above = stalled_per_mille.min(1000).saturating_sub(Self::EVERYDAY_PER_MILLE);
            let rise = base * above / 1000 * passed_ms.min(Self::RISE_MS) / Self::RISE_MS;
            let fall = base * passed_ms.min(Self::FALL_MS) / Self::FALL_MS;
            self.bytes = (self.bytes.saturating_sub(fall) + rise).min(base);
        }
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
