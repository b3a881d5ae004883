//! The drive alone, at each size and number of requests.

use serde::{Deserialize, Serialize};

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The model whose file is read.
    pub model: String,
    /// `sequential` or `scattered`.
    pub pattern: String,
    /// Size of one read.
    pub request_bytes: u64,
    /// Reads in flight.
    pub depth: u32,
    /// The drive's rate is held to this; free where there is none.
    pub drive_bytes_per_s: Option<u64>,
    /// Which repetition, counted from 0.
    pub round: u32,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRate {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Mean time of one read in microseconds.
    pub latency_us: f64,
}

impl Cell {
    /// Names of the fields, in their order.
    pub const COLUMNS: [&'static str; 6] = ["model", "pattern", "request_bytes", "depth", "drive_bytes_per_s", "round"];
    /// The words of `pattern`.
    pub const PATTERNS: [&'static str; 2] = ["sequential", "scattered"];
    /// From 4 KiB.
    const REQUEST_BITS_MIN: u32 = 12;
    /// To 8 MiB.
    const REQUEST_BITS_MAX: u32 = 23;
    /// To 64.
    const DEPTH_BITS_MAX: u32 = 6;
}

impl CellRate {
    /// Names of the fields, in their order.
    pub const COLUMNS: [&'static str; 2] = ["bytes_per_s", "latency_us"];
}

/// The cells of a sweep: 4 KiB to 8 MiB and 1 to 64 in flight, each twice the one before.
pub fn cells(model: &str, drive_bytes_per_s: Option<u64>, rounds: u32) -> Vec<Cell> {
    let mut cells = Vec::new();
    for round in 0..rounds {
        for pattern in Cell::PATTERNS {
            for bits in Cell::REQUEST_BITS_MIN..=Cell::REQUEST_BITS_MAX {
                for depth_bits in 0..=Cell::DEPTH_BITS_MAX {
                    cells.push(Cell {
                        model: model.to_owned(),
                        pattern: pattern.to_owned(),
                        request_bytes: 1 << bits,
                        depth: 1 << depth_bits,
                        drive_bytes_per_s,
                        round,
                    });
                }
            }
        }
    }
    cells
}
