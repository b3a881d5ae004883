//! The elastic part of `auto`: the pool follows the memory that is left while the program runs.
//!
//! ```text
//! target = pool + room - reserve, whole frames, at most the model
//! ```
//!
//! The pool fills over the first cycle, and the program allocates its KV cache and compute buffers
//! before that and meanwhile: what they take comes out of `room`, so less remains for the pool, and
//! what they did not take of the headroom goes to it. `reserve` is what must stay free at any moment:
//! the next readings' worth of a neighbour that takes memory as fast as it can.

use super::{FRAME_BYTES, GIB, MIB, Memory, frames_up};

/// Each change makes the policy think, so the pool grows only by steps of this,
const GROWTH_BYTES_MIN: u64 = 64 * MIB;
/// and when it must shrink, it does so at once and by this much more.
const SHRINK_BYTES_MORE: u64 = 16 * MIB;

/// See the module's page.
#[derive(Debug)]
pub struct Governor {
    memory: Memory,
    model_bytes: u64,
    reserve_bytes: u64,
}

impl Governor {
    /// For models of `model_bytes` altogether, on the memory that `memory` watches.
    pub fn new(memory: Memory, model_bytes: u64) -> Governor {
        // A neighbour at 4 GB/s takes 200 MB between two readings 50 ms apart.
        let reserve_bytes = (memory.room_bytes() / 16).clamp(256 * MIB, 2 * GIB).min(memory.room_bytes() / 4);
        Governor { memory, model_bytes, reserve_bytes }
    }

    /// The budget from now on, in bytes, when it is `budget_bytes` now and the pool has memory of
    /// `pool_bytes`. Reads the machine's and the cgroup's state.
    pub fn adjust(&mut self, budget_bytes: u64, pool_bytes: u64) -> u64 {
        self.memory.refresh();
        self.decide(budget_bytes, pool_bytes, self.memory.room_bytes())
    }

    fn decide(&self, budget_bytes: u64, pool_bytes: u64, room_bytes: u64) -> u64 {
        let most = frames_up(self.model_bytes);
        let target = (pool_bytes + room_bytes).saturating_sub(self.reserve_bytes) / FRAME_BYTES * FRAME_BYTES;
        let target = target.min(most);
        let grows_enough = target >= budget_bytes + GROWTH_BYTES_MIN || (target == most && target > budget_bytes);
        match target {
            _ if target < budget_bytes => target.saturating_sub(SHRINK_BYTES_MORE),
            _ if grows_enough => target,
            _ => budget_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn governor(reserve_bytes: u64) -> Governor {
        let memory = Memory::probe_under(std::path::Path::new("/nowhere"), "self");
        Governor { memory, model_bytes: 8 * GB, reserve_bytes }
    }

    #[test]
    fn what_the_program_takes_comes_out_of_the_pool() {
        let governor = governor(GB / 2);
        let before = governor.decide(4 * GB, 0, 5 * GB);
        assert!(before > 4 * GB && before <= 4 * GB + GB / 2, "{before}");
        // A KV cache of 2 GB while the pool has 1 GB.
        let after = governor.decide(before, GB, 2 * GB);
        assert!((2 * GB..=5 * GB / 2).contains(&after), "{after}");
        // The pool filling up changes nothing.
        assert_eq!(governor.decide(after, 2 * GB, GB), after);
    }

    #[test]
    fn pressure_shrinks_at_once_and_room_grows_in_steps() {
        let governor = governor(GB / 2);
        let budget = 4 * GB / FRAME_BYTES * FRAME_BYTES;
        assert_eq!(governor.decide(budget, budget, GB / 2 + FRAME_BYTES), budget, "a frame more is not worth it");
        assert_eq!(governor.decide(budget, budget, GB / 2 - FRAME_BYTES), budget - FRAME_BYTES - SHRINK_BYTES_MORE);
        assert!(governor.decide(budget, budget, 2 * GB) > budget + GB);
        assert_eq!(
            governor.decide(budget, budget, 0),
            (budget - GB / 2) / FRAME_BYTES * FRAME_BYTES - SHRINK_BYTES_MORE
        );
    }

    #[test]
    fn never_more_than_the_model() {
        assert_eq!(governor(0).decide(GB, GB, 100 * GB), frames_up(8 * GB));
    }
}
