//! Paired comparison of stock and paged runs against the roofline.
//!
//! A round measures everything within the same minutes: the drive's ceiling under the drive limit,
//! a run with everything in memory, and one run of each contender with a cold page cache, in an
//! order that rotates from round to round. Ratios are formed within a round and the median over the
//! rounds is reported, so that a machine that is slower for a while falsifies no ratio.
//!
//! [`model`] provides the model, [`plan`] says what is compared, [`workload`] watches one run, [`record`] keeps what it did,
//! [`summary`] draws the rounds together, [`roofline`] is the yardstick, and [`table`], [`svg`] and
//! [`Report`] show it. Whatever a run needs (a control group, another readahead) is a guard that
//! puts things back when it is dropped, also after Ctrl-C.

pub mod ceiling;
pub mod cgroup;
pub mod disk;
pub mod fence;
pub mod interrupt;
pub mod llama;
pub mod loop_drive;
pub mod model;
pub mod plan;
pub mod record;
pub mod roofline;
pub mod run;
pub mod summary;
pub mod svg;
pub mod table;
pub mod workload;

use serde::Serialize;

use plan::Contender;
use summary::{Bounds, Round, Summary};

/// The result of a comparison, as written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `ggpager`'s version.
    pub version: &'static str,
    /// The settings, as name and value.
    pub settings: Vec<(&'static str, String)>,
    /// What could not be done or needs saying.
    pub remarks: Vec<String>,
    /// What a token reads.
    pub cycle: Option<roofline::Cycle>,
    /// The pool's size for `bytes_min`.
    pub budget_bytes: Option<u64>,
    /// What the roofline needs.
    pub bounds: Bounds,
    /// The drive's ceiling, median over the rounds, in bytes per second.
    pub drive_bytes_per_s: Option<f64>,
    /// `T_compute`, median over the rounds, in milliseconds per token.
    pub compute_ms: Option<f64>,
    /// One entry a contender.
    pub summaries: Vec<Summary>,
    /// Everything that was measured.
    pub rounds: Vec<Round>,
}

impl Report {
    /// The stock contenders.
    pub fn stock(&self) -> impl Iterator<Item = Contender> + '_ {
        self.summaries
            .iter()
            .map(|summary| summary.contender)
            .filter(|contender| matches!(contender, Contender::Stock(_)))
    }

    /// True when a text differs or a paged run failed: what no measurement can excuse.
    pub fn is_wrong(&self) -> bool {
        self.summaries.iter().any(|summary| {
            matches!(summary.text, record::TextMatch::Differs(_))
                || matches!(summary.contender, Contender::Paged(_)) && !summary.failures.is_empty()
        })
    }
}
