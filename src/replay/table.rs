//! The replay as tables: for each drive and figure one, memory sizes down and policies across.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::case::{Case, Outcome};
use super::drive;
use super::report::{Recorded, Report};
use crate::config::ByteSize;

/// A figure: its heading, and how an outcome shows it.
type Figure = (&'static str, fn(&Outcome) -> String);

const FIGURES: [Figure; 5] = [
    ("tokens per second", |outcome| significant(outcome.tokens_per_s)),
    ("milliseconds per token", |outcome| format!("{:.0}", outcome.cycle_ms)),
    ("MB read per token", |outcome| format!("{:.0}", outcome.read_bytes / 1e6)),
    ("hit ratio, % of the bytes used", |outcome| format!("{:.0}", outcome.hit_ratio * 100.0)),
    ("stall, % of the threads' time", |outcome| format!("{:.0}", outcome.stall_share * 100.0)),
];

/// Three digits.
fn significant(number: f64) -> String {
    let digits = (2 - number.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{number:.digits$}")
}

/// For the terminal.
pub fn terminal(report: &Report) -> String {
    let mut out = recorded(&report.recorded);
    for drive in report.drives() {
        let _ = writeln!(out, "\ndrive: {}", drive::name(&drive));
        for (heading, cell) in FIGURES {
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            let policies = report.policies();
            table.set_header(std::iter::once("memory".to_owned()).chain(policies.iter().map(ToString::to_string)));
            for memory_bytes in report.memories() {
                let cells = policies
                    .iter()
                    .map(|&policy| report.outcome(&Case { memory_bytes, policy, drive }).map_or("-".to_owned(), cell));
                let share = memory_bytes as f64 / report.recorded.model_bytes as f64 * 100.0;
                table.add_row(std::iter::once(format!("{} ({share:.0} %)", ByteSize(memory_bytes))).chain(cells));
            }
            table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
            let _ = writeln!(out, "{heading}\n{table}");
        }
    }
    let mut failures: Vec<&str> = report.cases.iter().filter_map(|row| row.failure.as_deref()).collect();
    failures.dedup();
    failures.iter().for_each(|failure| {
        let _ = writeln!(out, "`-`: {failure}");
    });
    out
}

fn recorded(recorded: &Recorded) -> String {
    let Recorded { log, strategy, cycles, threads, cycle_ms, compute_ms, touch_us, .. } = recorded;
    let (budget, model) = (ByteSize(recorded.budget_bytes), ByteSize(recorded.model_bytes));
    let mut out = format!(
        "{log}: strategy {strategy} with {budget} of {model}, {threads} threads, {cycles} cycles of {cycle_ms:.0} ms, \
         {compute_ms:.0} ms of it computing; a cycle uses {}{}, a touch costs {touch_us:.0} us\n",
        ByteSize(recorded.used_bytes as u64),
        if recorded.experts > 0.0 { format!(" with {:.0} experts", recorded.experts) } else { String::new() },
    );
    if recorded.lost_records > 0 {
        let _ = writeln!(out, "the log lost {} records: figures are off by what they held", recorded.lost_records);
    }
    out
}
