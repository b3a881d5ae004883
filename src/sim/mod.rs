//! A discrete-event simulator: drives any [`Policy`] without a kernel, a drive or a clock.
//!
//! It keeps the pager's side of the contract (see [`crate::policy`]) and checks the policy's side
//! after every event, so a property test need only let it run. Threads take steps from a shared
//! script, as compute threads take chunks of a tensor: in effect sequential, with a little fuzz.

mod belady;
pub mod caches;
mod engine;
mod work;

pub use belady::min_bytes;
pub use engine::Engine;
pub use work::{Action, Work};

use std::sync::Arc;

use crate::policy::{BlockId, BlockTable, Policy};

/// One piece of work: touch `block`, then compute for `compute_ns` inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The block that is read.
    pub block: BlockId,
    /// Time that one thread computes on it, in nanoseconds.
    pub compute_ns: u64,
}

/// What the policy is told at a step of what comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foretold {
    /// Blocks that a router has chosen before the step begins, in the order in which they will be read.
    pub routed: Arc<[BlockId]>,
    /// How near experts came to being chosen then: a block of such a one, and the level of its affinity.
    pub affine: Arc<[(BlockId, u8)]>,
    /// Blocks that the next router will probably choose, the likeliest first: the policy is told once nothing certain is
    /// left to read, unless the next router has chosen by then.
    pub guessed: Arc<[BlockId]>,
    /// Blocks that the policy is hinted at when the step's block reports its touch.
    pub companions: Arc<[BlockId]>,
}

/// How long a control group's limit saves up what is not read: a slice of the kernel's (`throtl_slice` in
/// `block/blk-throttle.c`).
const SLICE_NS: u64 = 100_000_000;

/// A drive: requests are served one after the other at full bandwidth, each after a latency.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Drive {
    /// Bandwidth in bytes per second.
    pub bytes_per_s: f64,
    /// Time from submission to the first byte, in nanoseconds; overlaps with other requests.
    pub latency_ns: u64,
    /// Readaheads in flight at most: blocks of 2 MiB, or as many bytes of smaller ones, but not more than
    /// four for each, as the pager counts.
    pub queue_depth: u32,
    /// What a control group holds the drive to on average, in bytes per second: what was not read in the last tenth of a
    /// second may be read at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_s: Option<f64>,
}

impl Drive {
    /// The rate that it keeps up, in bytes per second.
    pub fn sustained_bytes_per_s(&self) -> f64 {
        self.limit_bytes_per_s.map_or(self.bytes_per_s, |limit| limit.min(self.bytes_per_s))
    }
}

/// The drive's queue: requests in the order in which they were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Server {
    free_ns: u64,
    /// When the limit will have allowed all that was asked for.
    allowed_ns: u64,
}

impl Server {
    /// When a limit of so many bytes per second lets a read of `bytes` through that is asked for at `now_ns`.
    pub fn begins_ns(&mut self, limit_bytes_per_s: f64, now_ns: u64, bytes: u64) -> u64 {
        let saved_ns = self.allowed_ns.max(now_ns.saturating_sub(SLICE_NS));
        self.allowed_ns = saved_ns + (bytes as f64 / limit_bytes_per_s * 1e9) as u64;
        now_ns.max(self.allowed_ns)
    }

    /// When a read of `bytes` that is asked for at `now_ns` ends.
    pub fn ends_ns(&mut self, drive: &Drive, now_ns: u64, bytes: u64) -> u64 {
        let at = |bytes_per_s: f64| (bytes as f64 / bytes_per_s * 1e9) as u64;
        let begin_ns = drive.limit_bytes_per_s.map_or(now_ns, |limit| self.begins_ns(limit, now_ns, bytes));
        self.free_ns = (begin_ns + drive.latency_ns).max(self.free_ns) + at(drive.bytes_per_s);
        self.free_ns
    }
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The drive.
    pub drive: Drive,
    /// The scripts; `threads[t]` names the one that thread `t` takes its steps from. The threads of
    /// one script share its steps.
    pub scripts: Vec<Vec<Step>>,
    /// See `scripts`.
    pub threads: Vec<usize>,
    /// For each step of the first script what the policy is told then; may be shorter than the script.
    pub foretold: Vec<Foretold>,
    /// What the pager's thread needs for its work: one thing after the other.
    pub work: Work,
    /// From the wake-up of a thread until it runs again, in nanoseconds. A block that is evicted
    /// meanwhile is touched again.
    pub wake_ns: u64,
    /// Touches in the whole run at most: more of them is a livelock.
    pub touches_max: u64,
}

/// What happened until some moment. Differences of two of these describe what lies between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Simulated time, in nanoseconds.
    pub time_ns: u64,
    /// Bytes read, begun reads included.
    pub read_bytes: u64,
    /// Time that threads slept on blocks, summed over the threads, in nanoseconds.
    pub stall_ns: u64,
    /// Touches of absent blocks.
    pub demand: u64,
    /// Touches that reported themselves, of any kind.
    pub touches: u64,
    /// Blocks evicted while a thread was inside of them.
    pub lost: u64,
    /// Blocks evicted before anybody touched them.
    pub wasted: u64,
}

impl Totals {
    /// What has happened since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            time_ns: self.time_ns - earlier.time_ns,
            read_bytes: self.read_bytes - earlier.read_bytes,
            stall_ns: self.stall_ns - earlier.stall_ns,
            demand: self.demand - earlier.demand,
            touches: self.touches - earlier.touches,
            lost: self.lost - earlier.lost,
            wasted: self.wasted - earlier.wasted,
        }
    }
}

/// Why a run did not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// More touches than the scenario allows.
    #[error("livelock: {0} touches")]
    Livelock(u64),
    /// Threads wait and nothing is in flight.
    #[error("deadlock: {waiting} threads wait and nothing is in flight")]
    Deadlock {
        /// Sleeping threads.
        waiting: usize,
    },
    /// The policy broke its part of the contract.
    #[error("the policy broke its contract: {0}")]
    Contract(String),
}

/// Runs `scenario` on `policy`, whose blocks are in `table` and have been announced to it. Gives
/// the totals whenever the first script has come to a multiple of `cycle_steps`.
pub fn run(
    table: BlockTable,
    policy: &mut dyn Policy,
    scenario: &Scenario,
    cycle_steps: usize,
) -> Result<Vec<Totals>, SimError> {
    let steps = scenario.scripts.first().map_or(0, Vec::len);
    let cuts = (cycle_steps..steps).step_by(cycle_steps).collect();
    run_cut(table, policy, scenario.clone(), cuts)
}

/// [`run`] with cycles of any length: gives the totals whenever the first script has come to one of
/// `cuts` (increasing, above 0), and at the end.
pub fn run_cut(
    table: BlockTable,
    policy: &mut dyn Policy,
    scenario: Scenario,
    cuts: Vec<usize>,
) -> Result<Vec<Totals>, SimError> {
    Engine::new(table, policy, scenario, cuts).run()
}

/// The roofline of one cycle, in nanoseconds: compute and drive each at full speed, in parallel.
/// `compute_ns` is the sum of the steps divided by the threads, `bytes_min` what
/// [`min_bytes`] says.
pub fn roofline_ns(compute_ns: u64, bytes_min: u64, drive: &Drive) -> u64 {
    compute_ns.max((bytes_min as f64 / drive.sustained_bytes_per_s() * 1e9) as u64)
}

#[cfg(test)]
mod learned_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
