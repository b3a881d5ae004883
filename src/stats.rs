//! What a run reports: the JSON summary of `GGPAGER_STATS`.
//!
//! Field names carry their units: `_bytes`, `_s` (seconds), `_us` (microseconds); a name without a
//! unit is a count.

mod experts;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use experts::{ExpertStats, ForetellerStats};

/// The summary of one process, written at exit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// The strategy that ran: after `auto` has chosen.
    pub strategy: String,
    /// The rung of the fill ladder in use, empty under passthrough.
    pub fill_rung: String,
    /// The rung of the I/O ladder in use, empty under passthrough.
    pub io_rung: String,
    /// `full` or `user-mode-only`: which faults the userfaultfd sees.
    pub fault_mode: String,
    /// Bytes of model files mapped, all views together, at their most.
    pub model_bytes: u64,
    /// The pool's size, after `auto` and the minimum.
    pub budget_bytes: u64,
    /// Memory given back because the pool became smaller: what `auto` yielded to others.
    pub given_back_bytes: u64,
    /// Frames in use at their most.
    pub pool_peak_bytes: u64,
    /// Views made.
    pub views: u64,
    /// Bytes read from the files into frames.
    pub read_bytes: u64,
    /// Bytes that the program itself read from model files with read, pread or fread after mapping them.
    pub program_read_bytes: u64,
    /// Where they were read: the model's files, and their copies on other drives.
    pub sources: Vec<SourceStats>,
    /// Models that fit and were loaded into the page cache by the loader.
    pub loads: u64,
    /// Those of them that ended early: memory became tight, or the file could not be read.
    pub loads_stopped: u64,
    /// Bytes that the loader has gone through.
    pub load_bytes: u64,
    /// Those of them that it found missing in the page cache, where the kernel tells (else all).
    pub load_read_bytes: u64,
    /// Time from a loader's start to its end, all loads together.
    pub load_s: f64,
    /// Reads submitted.
    pub reads: u64,
    /// Sizes of the reads.
    pub read_size_bytes: Percentiles,
    /// Time from submission to completion of the reads.
    pub read_latency_us: Percentiles,
    /// Touches of blocks that had to be read from nothing.
    pub faults_demand: u64,
    /// Touches of blocks whose read was already in flight.
    pub faults_in_flight: u64,
    /// Touches of blocks that only had to be put into the view.
    pub faults_staged: u64,
    /// Time that faulting threads slept, all threads together, as the pager sees it: from the
    /// event's arrival to the wake-up.
    pub stall_s: f64,
    /// Time from a fault's arrival to its wake-up, blocks that were staged.
    pub staged_latency_us: Percentiles,
    /// Time from a fault's arrival to its wake-up, all other blocks.
    pub demand_latency_us: Percentiles,
    /// Blocks taken out of their frames to make room.
    pub evictions: u64,
    /// Blocks read for nothing: evicted before anybody touched them.
    pub evictions_untouched: u64,
    /// Experts, and what was foretold of them.
    pub experts: ExpertStats,
    /// Pages that could not be read and answer with SIGBUS.
    pub poisoned_pages: u64,
    /// Mean number of reads in flight while at least one was.
    pub reads_in_flight_mean: f64,
    /// Bytes that may be in flight, as it was last: tuned, unless the user has chosen.
    pub queue_limit_bytes: u64,
    /// Times that the drive had ended all it was given while more was to be read.
    pub queue_ran_dry: u64,
    /// Time during which at least one read was in flight.
    pub reading_s: f64,
    /// Length of the fault log.
    pub trace_bytes: u64,
    /// Records that are missing in the fault log: it could not be written fast enough, the drive was
    /// full, or it had reached its limit.
    pub trace_lost_records: u64,
    /// CPU time of the pager thread and of those that make memory ready for it.
    pub pager_cpu_s: f64,
    /// Time from the first view to this summary.
    pub wall_s: f64,
}

/// `None` where there is nothing at all.
fn part(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| some as f64 / all as f64)
}

/// A file that blocks were read from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStats {
    /// Its name when it was opened.
    pub path: String,
    /// Bytes read from it.
    pub read_bytes: u64,
    /// What its drive read lately while it had something to do, 0 when nothing was read.
    pub drive_bytes_per_s: f64,
    /// It failed or was changed, and was not read any more.
    pub left_out: bool,
}

/// Selected percentiles of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Smallest value.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Largest value.
    pub max: u64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
            mean: histogram.mean(),
        }
    }
}
