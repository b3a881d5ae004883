//! What a replay is told as: everything that table, picture and JSON show.

use serde::Serialize;

use super::case::{Case, Contender, Outcome};
use super::matrix::Done;
use super::workload::Workload;
use crate::sim::Drive;
use crate::trace::Header;

/// A replay's outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this program.
    pub version: &'static str,
    /// The run that was recorded.
    pub recorded: Recorded,
    /// What was simulated, in the order of its cases.
    pub cases: Vec<Row>,
}

/// The run that was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    /// The log's name.
    pub log: String,
    /// The strategy's word.
    pub strategy: String,
    /// The pool's size, in bytes.
    pub budget_bytes: u64,
    /// The models that were used, in bytes.
    pub model_bytes: u64,
    /// Cycles of the log that count.
    pub cycles: usize,
    /// Compute threads.
    pub threads: usize,
    /// Time of a cycle, in milliseconds.
    pub cycle_ms: f64,
    /// The same without waits.
    pub compute_ms: f64,
    /// Bytes that a cycle uses, a block as often as it is used.
    pub used_bytes: f64,
    /// Experts that a cycle uses, each once for each layer.
    pub experts: f64,
    /// Time that a touch costs besides that in which its block is read, in microseconds.
    pub touch_us: f64,
    /// The drive as its reads show it.
    pub drive: Option<Drive>,
    /// Records that the log lost.
    pub lost_records: u64,
}

/// A case with its outcome, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The case.
    #[serde(flatten)]
    pub case: Case,
    /// Its outcome.
    #[serde(flatten)]
    pub outcome: Option<Outcome>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Recorded {
    /// Of the log called `log` with `header`, whose cycles are `workload`.
    pub fn new(log: String, header: &Header, workload: &Workload, drive: Option<Drive>, lost_records: u64) -> Recorded {
        let cycles = workload.cycles.len();
        let each_ms = |ns: u64| ns as f64 / 1e6 / cycles as f64;
        Recorded {
            log,
            strategy: header.strategy.clone(),
            budget_bytes: header.budget_bytes,
            model_bytes: workload.model_bytes(),
            cycles,
            threads: workload.threads,
            cycle_ms: each_ms(workload.recorded_ns),
            compute_ms: each_ms(workload.compute_ns()),
            used_bytes: workload.used_bytes() as f64 / cycles as f64,
            experts: workload.experts_used as f64 / cycles as f64,
            touch_us: workload.touch_ns as f64 / 1e3,
            drive,
            lost_records,
        }
    }
}

impl Report {
    /// Of `recorded` and what was simulated.
    pub fn new(recorded: Recorded, done: Vec<Done>) -> Report {
        let row = |Done { case, outcome }: Done| {
            let failure = outcome.as_ref().err().map(ToString::to_string);
            Row { case, outcome: outcome.ok(), failure }
        };
        Report { version: env!("CARGO_PKG_VERSION"), recorded, cases: done.into_iter().map(row).collect() }
    }

    /// The drives, in their order.
    pub fn drives(&self) -> Vec<Drive> {
        distinct(self.cases.iter().map(|row| row.case.drive))
    }

    /// The memory sizes, in their order.
    pub fn memories(&self) -> Vec<u64> {
        distinct(self.cases.iter().map(|row| row.case.memory_bytes))
    }

    /// The policies, in their order.
    pub fn policies(&self) -> Vec<Contender> {
        distinct(self.cases.iter().map(|row| row.case.policy))
    }

    /// The outcome of a case.
    pub fn outcome(&self, case: &Case) -> Option<&Outcome> {
        self.cases.iter().find(|row| row.case == *case)?.outcome.as_ref()
    }
}

/// The distinct items, in the order of their first appearance.
pub(crate) fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut seen, item| {
        if !seen.contains(&item) {
            seen.push(item);
        }
        seen
    })
}
