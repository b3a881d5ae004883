//! What a fault log says: one pass over its items ([`Analysis`]), then figures ([`Report`]), as a
//! table, as a page, or as JSON.
//!
//! A log has the touches that reported themselves: of blocks that were not in the view. Blocks that
//! stay in the view are touched unseen; [`heat::with_hidden`] says what is assumed of them. Several
//! threads that sleep on one block make one touch. How each figure is computed stands in [`how`] and
//! beside the figure.

mod address;
mod analysis;
pub mod blocks;
mod bottleneck;
mod busy;
mod cycles;
mod distribution;
mod experts;
mod figures;
mod guesses;
mod heat;
mod how;
pub(crate) mod html;
mod laps;
mod plots;
mod requests;
mod reuse;
mod sequence;
mod sleepers;
pub(crate) mod svg;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod timeline;
mod told;
mod touches;
mod uniformity;
mod units;

pub use analysis::Analysis;
pub use html::page;
pub(crate) use sleepers::{Sleep, Sleepers, kind};
pub use table::terminal;

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use crate::trace::Header;

/// What a log is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Log {
    /// From its first to its last record, in seconds.
    pub wall_s: f64,
    /// Records in it.
    pub records: u64,
    /// Records that it could not take.
    pub lost: u64,
    /// Touches of blocks that no view in the log describes.
    pub unknown_touches: u64,
    /// Where it was cut off, in bytes from its start, if its recorder was killed.
    pub cut_off_at_byte: Option<u64>,
    /// The pool's size at the end, in bytes.
    pub budget_bytes: u64,
    /// The model files.
    pub files: Vec<String>,
    /// Blocks of all of them.
    pub blocks: u64,
    /// What it says about the run.
    pub header: Header,
}

/// How long threads slept, in nanoseconds, by how their touches found the block.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sleeps {
    /// Absent: a demand read.
    pub demand: distribution::Distribution,
    /// The read was in flight.
    pub in_flight: distribution::Distribution,
    /// Staged: only the fault.
    pub staged: distribution::Distribution,
}

/// What the pager reached with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The pool's size, in bytes.
    pub memory_bytes: u64,
    /// Bytes read for each byte touched.
    pub ratio: f64,
}

/// All figures of one log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What it is about.
    pub log: Log,
    /// What holds the run up.
    pub bottleneck: bottleneck::Bottleneck,
    /// Where the time of a cycle went.
    pub time: cycles::Breakdown,
    /// How long threads slept.
    pub sleep_ns: Sleeps,
    /// Requests and the drive.
    pub drive: requests::Drive,
    /// How sequential the touches are.
    pub sequentiality: sequence::Sequentiality,
    /// How even they are.
    pub uniformity: Vec<uniformity::Uniformity>,
    /// How often blocks are used again, and what memory of each size would have missed.
    pub miss_ratios: reuse::MissRatios,
    /// What the pager missed.
    pub pager: Option<Point>,
    /// Mixture of experts.
    pub experts: Option<experts::ExpertUse>,
    /// What the pager expected of routers, by who foretold it.
    pub guesses: Vec<guesses::GuessUse>,
    /// In which layers touches tell the experts.
    pub expert_layers: told::Told,
    /// Layer by role.
    pub heat: Vec<heat::Cell>,
    /// Cycle by cycle.
    pub cycles: Vec<cycles::Cycle>,
    /// Rates over time.
    pub timeline: timeline::Series,
    /// Addresses over time.
    pub addresses: address::AddressPlot,
}

impl Report {
    /// Where the time axis ends, in seconds.
    fn timeline_end_s(&self) -> f64 {
        self.timeline.points.last().map_or(0.0, |point| point.start_s + self.timeline.width_s)
    }
}

/// The figures of logs as JSON, with how the sections are computed.
///
/// # Errors
/// When `out` cannot be written.
pub fn json(out: impl io::Write, reports: &[Report], names: &[String]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Logs<'a> {
        how: BTreeMap<&'static str, &'static str>,
        figures: Vec<figures::Row>,
        names: &'a [String],
        logs: &'a [Report],
    }
    let how = how::SECTIONS.into_iter().chain(plots::PLOTS.iter().map(|plot| (plot.name, plot.how))).collect();
    let logs = Logs { how, figures: figures::rows(reports), names, logs: reports };
    Ok(serde_json::to_writer(out, &logs)?)
}
