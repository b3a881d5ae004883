//! One case: a memory size, a policy and a drive.

use std::fmt;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

use super::workload::Workload;
use crate::config::Strategy;
use crate::policy::{self, BlockId, Policy};
use crate::sim::caches::{self, Cache, Kind, Reads};
use crate::sim::{self, Drive, Foretold, Scenario, SimError, Step, Totals};

/// Cycles before those that count, besides those that the log skips: the policies learn in them.
const WARM_UP: usize = 4;
/// Touches of a step at most, on average: more is a livelock.
const TOUCHES_MAX: u64 = 40;

/// What manages the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    /// Cache: least recently used
    Lru,
    /// Cache: first in, first out
    Fifo,
    /// Cache: second chance
    Clock,
    /// Cache: least frequently used
    Lfu,
    /// Cache: S3-FIFO (SOSP 2023)
    S3Fifo,
    /// Cache: most recently used
    Mru,
    /// Bound: fewest bytes (Belady) at the roofline
    Belady,
    /// The pager's strategy `experts`
    Experts,
    /// The pager's strategy `learned`
    Learned,
    /// The pager's strategy `readahead`
    Readahead,
    /// The pager's strategy `demand`
    Demand,
}

/// How a contender is simulated.
enum Means {
    Cache(Kind),
    Bound,
    Pager(Strategy),
}

impl Contender {
    fn means(self) -> Means {
        match self {
            Contender::Lru => Means::Cache(Kind::Lru),
            Contender::Fifo => Means::Cache(Kind::Fifo),
            Contender::Clock => Means::Cache(Kind::Clock),
            Contender::Lfu => Means::Cache(Kind::Lfu),
            Contender::S3Fifo => Means::Cache(Kind::S3Fifo),
            Contender::Mru => Means::Cache(Kind::Mru),
            Contender::Belady => Means::Bound,
            Contender::Experts => Means::Pager(Strategy::Experts),
            Contender::Learned => Means::Pager(Strategy::Learned),
            Contender::Readahead => Means::Pager(Strategy::Readahead),
            Contender::Demand => Means::Pager(Strategy::Demand),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

fn word<S: Serializer>(contender: &Contender, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(contender)
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Case {
    /// Memory for the model, in bytes.
    pub memory_bytes: u64,
    /// What manages it.
    #[serde(serialize_with = "word")]
    pub policy: Contender,
    /// The drive.
    pub drive: Drive,
}

/// What came out, as means over the cycles that count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// Tokens in a second, a cycle being a token.
    pub tokens_per_s: f64,
    /// Time of a cycle, in milliseconds.
    pub cycle_ms: f64,
    /// Bytes that a cycle reads.
    pub read_bytes: f64,
    /// Part of the bytes used by a cycle that need not be read for it.
    pub hit_ratio: f64,
    /// Part of the time in which the threads wait for blocks.
    pub stall_share: f64,
}

/// Why a case has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Too little memory for the pager.
    #[error("less than the least budget of the pager, {0} bytes")]
    Budget(u64),
    /// The simulation did not end.
    #[error(transparent)]
    Sim(#[from] SimError),
}

/// A workload laid out for simulation: cycles to learn in, cycles that count, and one that follows them.
pub struct Bench<'a> {
    workload: &'a Workload,
    readahead_bytes: Option<u64>,
    steps: Vec<Step>,
    foretold: Vec<Foretold>,
    /// Where cycles begin, but for the first one: indexes of `steps`.
    cuts: Vec<usize>,
    /// Cycles before those that count.
    warm_up: usize,
    /// Cycles that count.
    counted: usize,
}

impl<'a> Bench<'a> {
    /// `counted` cycles count. The log's come in their order, and by turns where there are too few. Caches read ahead by
    /// `readahead_bytes` inside a block, or the whole block at once.
    pub fn new(workload: &'a Workload, counted: usize, readahead_bytes: Option<u64>) -> Bench<'a> {
        let recorded = workload.cycles.len();
        let warm_up = workload.lead.len() + WARM_UP.max(recorded.saturating_sub(counted));
        let (mut steps, mut foretold) = (Vec::new(), Vec::new());
        let mut cuts = Vec::new();
        for cycle in workload.lead.iter().chain(workload.cycles.iter().cycle()).take(warm_up + counted + 1) {
            steps.extend_from_slice(&cycle.steps);
            foretold.extend_from_slice(&cycle.foretold);
            cuts.push(steps.len());
        }
        cuts.pop();
        Bench { workload, readahead_bytes, steps, foretold, cuts, warm_up, counted }
    }

    /// Steps from the first counted cycle up to the one that follows the last.
    fn counted_steps(&self) -> &[Step] {
        &self.steps[self.cuts[self.warm_up - 1]..self.cuts[self.warm_up + self.counted - 1]]
    }

    /// Simulates `case`.
    ///
    /// # Errors
    /// See [`Failed`].
    pub fn run(&self, case: &Case) -> Result<Outcome, Failed> {
        match case.policy.means() {
            Means::Bound => Ok(self.bound(case)),
            Means::Cache(kind) => Ok(self.outcome(&self.cache(case, kind))),
            Means::Pager(strategy) => Ok(self.outcome(&self.pager(case, strategy)?)),
        }
    }

    fn bound(&self, case: &Case) -> Outcome {
        let table = self.workload.table(case.memory_bytes);
        let sequence: Vec<BlockId> = self.steps.iter().map(|step| step.block).collect();
        let read = sim::min_bytes(&table, &sequence, case.memory_bytes, &self.cuts);
        let bytes = read[self.warm_up..self.warm_up + self.counted].iter().sum();
        let compute_ns = self.compute_ns();
        let time_ns = sim::roofline_ns(compute_ns, bytes, &case.drive);
        let counted = Totals { time_ns, read_bytes: bytes, stall_ns: time_ns - compute_ns, ..Totals::default() };
        self.mean(&counted)
    }

    fn cache(&self, case: &Case, kind: Kind) -> Vec<Totals> {
        let table = self.workload.table(case.memory_bytes);
        let mut cache = Cache::new(kind, case.memory_bytes);
        let bytes = |step: &Step| u64::from(table.block(step.block).len);
        let missed: Vec<bool> = self.steps.iter().map(|step| !cache.access(step.block, bytes(step))).collect();
        let reads = Reads { drive: case.drive, readahead_bytes: self.readahead_bytes };
        caches::time(&table, &self.steps, &missed, &self.cuts, 1, reads)
    }

    fn pager(&self, case: &Case, strategy: Strategy) -> Result<Vec<Totals>, Failed> {
        let table = self.workload.table(case.memory_bytes);
        let least = policy::min_budget_bytes(&table);
        if case.memory_bytes < least {
            return Err(Failed::Budget(least));
        }
        let mut policy: Box<dyn Policy> = policy::for_strategy(strategy);
        for part in &self.workload.parts {
            policy.mapped(&table, part.ids.clone(), &part.expected);
            policy.experts(&table, &part.by_expert);
        }
        let scenario = Scenario {
            drive: case.drive,
            scripts: vec![self.steps.clone()],
            threads: vec![0],
            foretold: self.foretold.clone(),
            work: self.workload.work.clone(),
            wake_ns: self.workload.wake_ns,
            touches_max: TOUCHES_MAX * self.steps.len() as u64,
        };
        Ok(sim::run_cut(table, policy.as_mut(), scenario, self.cuts.clone())?)
    }

    fn compute_ns(&self) -> u64 {
        self.counted_steps().iter().map(|step| step.compute_ns).sum()
    }

    fn outcome(&self, marks: &[Totals]) -> Outcome {
        self.mean(&marks[self.warm_up + self.counted - 1].since(&marks[self.warm_up - 1]))
    }

    fn mean(&self, counted: &Totals) -> Outcome {
        let cycles = self.counted as f64;
        let cycle_ms = counted.time_ns.max(1) as f64 / 1e6 / cycles;
        let blocks = self.counted_steps().iter().map(|step| self.workload.blocks[step.block as usize].len);
        let used_bytes: f64 = blocks.map(f64::from).sum();
        Outcome {
            tokens_per_s: 1e3 / cycle_ms,
            cycle_ms,
            read_bytes: counted.read_bytes as f64 / cycles,
            hit_ratio: (1.0 - counted.read_bytes as f64 / used_bytes).max(0.0),
            stall_share: counted.stall_ns as f64 / counted.time_ns.max(1) as f64,
        }
    }
}
