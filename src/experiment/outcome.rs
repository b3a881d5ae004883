//! What came of a case.

use serde::{Deserialize, Serialize};

use crate::bench::record::Record;

/// The figures of a run. Those of the decode phase are from the first token to the last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Tokens per second of the decode phase.
    pub tokens_per_s: Option<f64>,
    /// Milliseconds per token of the decode phase.
    pub ms_per_token: Option<f64>,
    /// Bytes that the program's threads read from drives for each token, swap included.
    pub bytes_per_token: Option<f64>,
    /// From the start of the program to its first token, in seconds.
    pub first_token_s: Option<f64>,
    /// The whole run, in seconds.
    pub wall_s: f64,
    /// Bytes that the whole run read.
    pub total_read_bytes: u64,
    /// Faults of the control group that had to read.
    pub major_faults: Option<u64>,
    /// Bytes read from swap.
    pub swapped_in_bytes: Option<u64>,
    /// Bytes written to swap.
    pub swapped_out_bytes: Option<u64>,
    /// Bytes in pages of zeros that went to swap without being written.
    pub swapped_zeros_bytes: Option<u64>,
    /// Memory of the control group at its most.
    pub memory_peak_bytes: Option<u64>,
    /// Mean size of the pager's reads.
    pub request_bytes: Option<f64>,
    /// Mean number of the pager's reads in flight while any was.
    pub reads_in_flight: Option<f64>,
    /// Bytes per second that the drive gave a null consumer in the same session (16 reads of 2 MiB).
    pub ceiling_bytes_per_s: Option<f64>,
    /// Why the run counts for nothing, if it does.
    pub failure: Option<String>,
    /// The text, with escapes.
    pub text: String,
}

impl Outcome {
    /// Names of the fields, in their order.
    pub const COLUMNS: [&'static str; 16] = [
        "tokens_per_s",
        "ms_per_token",
        "bytes_per_token",
        "first_token_s",
        "wall_s",
        "total_read_bytes",
        "major_faults",
        "swapped_in_bytes",
        "swapped_out_bytes",
        "swapped_zeros_bytes",
        "memory_peak_bytes",
        "request_bytes",
        "reads_in_flight",
        "ceiling_bytes_per_s",
        "failure",
        "text",
    ];

    /// What `record` says of a run that wrote `text`.
    pub fn new(record: &Record, text: &[u8], ceiling_bytes_per_s: Option<f64>) -> Outcome {
        let lane = record.lanes.first();
        let decode = lane.and_then(|lane| lane.decode);
        let ms = decode.and_then(|decode| decode.ms_each()).filter(|_| record.failure.is_none());
        let stats = record.stats.first().filter(|stats| stats.reads > 0);
        let last = record.turns.last().and_then(|turn| turn.arrivals.last());
        Outcome {
            tokens_per_s: ms.filter(|ms| *ms > 0.0).map(|ms| 1e3 / ms),
            ms_per_token: ms,
            bytes_per_token: decode.and_then(|decode| decode.bytes_each()),
            first_token_s: lane.and_then(|lane| lane.first_token_s),
            wall_s: record.wall_s,
            total_read_bytes: last.map_or(0, |last| last.read_bytes),
            major_faults: record.paging.map(|paging| paging.major_faults),
            swapped_in_bytes: record.paging.map(|paging| paging.swapped_in_bytes),
            swapped_out_bytes: record.paging.map(|paging| paging.swapped_out_bytes),
            swapped_zeros_bytes: record.paging.map(|paging| paging.swapped_zeros_bytes),
            memory_peak_bytes: record.memory_peak_bytes,
            request_bytes: stats.map(|stats| stats.read_size_bytes.mean),
            reads_in_flight: stats.map(|stats| stats.reads_in_flight_mean),
            ceiling_bytes_per_s,
            failure: record.failure.clone(),
            text: String::from_utf8_lossy(text.trim_ascii_end()).escape_debug().to_string(),
        }
    }
}

/// What sets the pace of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bottleneck {
    /// Share of a token's time for which the drive, at its ceiling, would be busy with what was read.
    pub drive_share: f64,
    /// Share of a token's time that the computation takes with everything in memory.
    pub compute_share: Option<f64>,
}

impl Bottleneck {
    /// A share from here on names the bottleneck.
    const MOST: f64 = 0.85;

    /// Of `outcome`, where computing alone takes `compute_ms` a token and the drive gives
    /// `drive_bytes_per_s`.
    pub fn of(outcome: &Outcome, compute_ms: Option<f64>, drive_bytes_per_s: Option<f64>) -> Option<Bottleneck> {
        let ms = outcome.ms_per_token?;
        let drive_ms = outcome.bytes_per_token? / drive_bytes_per_s? * 1e3;
        Some(Bottleneck { drive_share: drive_ms / ms, compute_share: compute_ms.map(|compute| compute / ms) })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Bottleneck { drive_share, .. } if drive_share >= Bottleneck::MOST => "drive",
            Bottleneck { compute_share: Some(share), .. } if share >= Bottleneck::MOST => "computation",
            _ => "waits",
        }
    }
}
