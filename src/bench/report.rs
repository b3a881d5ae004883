//! The result of a comparison.

use serde::Serialize;

use super::plan::{Contender, Plan, Readahead, Who};
use super::quantile::median;
use super::record::TextMatch;
use super::roofline::{self, Bounds, Cycle};
use super::summary::{Round, Summary, Yardstick, summarize};
use super::workload::Workload;
use crate::config::BudgetSetting;
use crate::gguf;

/// The result of a comparison, as written to JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `ggpager`'s version.
    pub version: &'static str,
    /// The settings, as name and value.
    pub settings: Vec<(&'static str, String)>,
    /// What could not be done or needs saying.
    pub remarks: Vec<String>,
    /// What one pass over the weights is called: `token` or `step`.
    pub unit: &'static str,
    /// What sets the lanes apart where that is not their model.
    pub lanes: &'static [&'static str],
    /// What the roofline needs, for each lane.
    pub bounds: Vec<Bounds>,
    /// Gaps left out at the start of each turn.
    pub skip: u32,
    /// The drive's ceiling, median over the rounds, in bytes per second.
    pub drive_bytes_per_s: Option<f64>,
    /// What the drive was held to, in bytes per second.
    pub drive_limit_bytes_per_s: Option<u64>,
    /// One entry a contender and lane.
    pub summaries: Vec<Summary>,
    /// Everything that was measured.
    pub rounds: Vec<Round>,
}

impl Report {
    /// Draws `rounds` together. `models` are the headers of each model's shards, `budget` is what the
    /// paged runs were given.
    pub fn new(
        plan: &Plan,
        settings: Vec<(&'static str, String)>,
        models: &[Vec<gguf::Model>],
        budget: BudgetSetting,
        rounds: Vec<Round>,
        remarks: Vec<String>,
    ) -> Report {
        let lanes = plan.workload.lanes();
        let bounds: Vec<_> = (0..lanes.len()).map(|lane| bounds(plan, models, budget, &rounds, lane)).collect();
        let mut stock: Vec<Readahead> = Vec::new();
        for contender in &plan.contenders {
            if let Who::Stock(readahead) = contender.who
                && !stock.contains(&readahead)
            {
                stock.push(readahead);
            }
        }
        let everyone: Vec<Contender> = plan.order(0, plan.workload != Workload::Log);
        let summaries = everyone.iter().flat_map(|&contender| {
            bounds.iter().enumerate().map({
                let (rounds, stock) = (&rounds, &stock);
                move |(lane, bounds)| {
                    let yardstick = Yardstick {
                        bounds,
                        lane,
                        drive_limit: plan.drive_bytes_per_s,
                        ubatch: plan.call.tokens_a_pass(),
                        stock,
                        against: (plan.workload == Workload::Log && lane == 1).then_some(0),
                        skip: plan.skip,
                    };
                    summarize(rounds, contender, yardstick)
                }
            })
        });
        Report {
            version: env!("CARGO_PKG_VERSION"),
            settings,
            remarks,
            unit: plan.workload.unit(),
            lanes: plan.workload.lane_names(),
            skip: plan.skip,
            drive_bytes_per_s: median(rounds.iter().filter_map(|round| Some(round.ceiling?.bytes_per_s))),
            drive_limit_bytes_per_s: plan.drive_bytes_per_s,
            summaries: summaries.collect(),
            bounds,
            rounds,
        }
    }

    /// A summary's name: its contender, and its model where there are several.
    pub fn name(&self, summary: &Summary) -> String {
        match self.bounds.get(summary.lane) {
            Some(bounds) if self.bounds.len() > 1 => {
                let lane = self.lanes.get(summary.lane).copied().unwrap_or(&bounds.name);
                format!("{}, {lane}", summary.contender)
            }
            _ => summary.contender.to_string(),
        }
    }

    /// True when a text differs or a paged run failed: what no measurement can excuse.
    pub fn is_wrong(&self) -> bool {
        self.summaries.iter().any(|summary| {
            matches!(summary.text, TextMatch::Differs(_))
                || summary.contender.is_paged() && !summary.failures.is_empty()
        })
    }
}

/// The bounds of `lane`. A budget that follows what is left is the largest that the pager reported.
fn bounds(plan: &Plan, models: &[Vec<gguf::Model>], budget: BudgetSetting, rounds: &[Round], lane: usize) -> Bounds {
    let here = plan.workload.lanes()[lane];
    let bytes: u64 = here.iter().flat_map(|&model| &models[model]).map(|shard| shard.file_bytes).sum();
    let reported = rounds.iter().flat_map(|round| &round.records).filter_map(|record| {
        let process = lane.min(record.stats.len().checked_sub(1)?);
        Some(record.stats[process].budget_bytes)
    });
    let budget_bytes = match budget {
        BudgetSetting::Bytes(size) => Some(size.0),
        BudgetSetting::Percent(percent) => Some((bytes as f64 * percent / 100.0) as u64),
        BudgetSetting::Auto => reported.max().filter(|&bytes| bytes > 0).or(plan.memory_bytes),
    };
    let name = |&model: &usize| plan.models[model][0].file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cycle = Cycle::sum(here.iter().map(|&model| roofline::cycle(&models[model])));
    Bounds::new(here.iter().map(name).collect::<Vec<_>>().join(" + "), cycle, budget_bytes)
}
