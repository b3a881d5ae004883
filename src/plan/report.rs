//! What a plan is told as.

use std::fmt::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::compute::Compute;
use super::estimate::{Estimate, Ground, Reuse};
use super::kv::KvCache;
use crate::config::ByteSize;

/// Lengths of context whose cache is told, in tokens.
const CONTEXTS: [u64; 2] = [4096, 32_768];

/// Everything that is shown, in the shape of the JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The model's name: the file's, or the one in it.
    pub model: String,
    /// Its architecture.
    pub architecture: String,
    /// All its files, in bytes.
    pub model_bytes: u64,
    /// Read whole for every token.
    pub dense_bytes: u64,
    /// All experts.
    pub expert_bytes: u64,
    /// The experts that a token uses.
    pub active_expert_bytes: u64,
    /// Experts of a layer, and how many of them a token uses.
    pub experts: Option<(u32, u32)>,
    /// The cache of keys and values, where the file tells.
    pub kv_cache: Option<KvCache>,
    /// RAM, in bytes.
    pub ram_bytes: u64,
    /// What the pager would take of it for the model, in bytes.
    pub budget_bytes: u64,
    /// The drive's rate in blocks of 2 MiB, in bytes per second.
    pub drive_bytes_per_s: f64,
    /// The same in blocks of experts.
    pub drive_expert_bytes_per_s: f64,
    /// Where the drive's rate comes from.
    pub drive_by: &'static str,
    /// Compute threads.
    pub threads: u32,
    /// Where the compute time comes from.
    pub compute: Compute,
    /// Time to compute a token, in milliseconds.
    pub compute_ms: f64,
    /// What to expect: one row, or for experts one for each kind of reuse.
    pub expected: Vec<Row>,
    /// The target, in tokens per second.
    pub target_tokens_per_s: Option<f64>,
}

/// One kind of reuse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Reuse of experts; none for a model without.
    pub reuse: Option<Reuse>,
    /// What to expect.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// What the target takes.
    pub target: Option<Target>,
}

/// What a target takes: either of the two suffices. Nothing does when computing takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Target {
    /// The pool, in bytes, with this drive.
    pub budget_bytes: Option<u64>,
    /// RAM for such a pool, in bytes.
    pub ram_bytes: Option<u64>,
    /// The drive's rate, in bytes per second, with this RAM.
    pub drive_bytes_per_s: Option<f64>,
}

/// The rows for `ground` and a pool of `budget` bytes; `ram_for` says which RAM leaves a given pool.
pub fn rows(ground: &Ground, budget: u64, target: Option<f64>, ram_for: impl Fn(u64) -> Option<u64>) -> Vec<Row> {
    let kinds: &[Option<Reuse>] = match ground.reads.expert_bytes {
        0 => &[None],
        _ => &[Some(Reuse::None), Some(Reuse::Chance), Some(Reuse::Best)],
    };
    let row = |&kind: &Option<Reuse>| {
        let reuse = kind.unwrap_or(Reuse::None);
        let target = target.map(|tokens_per_s| {
            let token_s = 1.0 / tokens_per_s;
            let budget_bytes = ground.budget_for(token_s, reuse);
            let factor = ground.drive_factor_for(token_s, budget, reuse);
            Target {
                budget_bytes,
                ram_bytes: budget_bytes.and_then(&ram_for),
                drive_bytes_per_s: factor.map(|factor| factor * ground.drive_bytes_per_s),
            }
        });
        Row { reuse: kind, estimate: ground.at(budget, reuse), target }
    };
    kinds.iter().map(row).collect()
}

/// For the terminal.
pub fn terminal(report: &Report) -> String {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    let rate = |bytes_per_s: f64| format!("{}/s", ByteSize(bytes_per_s as u64));
    let mut facts = Table::new();
    facts.load_style(presets::NOTHING);
    let mut fact = |name: &str, text: String| {
        facts.add_row([name.to_owned(), text]);
    };
    fact("model", format!("{} ({}), {}", report.model, report.architecture, size(report.model_bytes)));
    let mut reads = format!("{} every time", size(report.dense_bytes));
    if let Some((count, used)) = report.experts {
        let (active, all) = (size(report.active_expert_bytes), size(report.expert_bytes));
        let _ = write!(reads, ", and {used} of {count} experts: {active} of {all}");
    }
    fact("a token reads", reads);
    let cache = report.kv_cache.map_or("not told by the file".to_owned(), |kv| {
        let at = CONTEXTS.map(|tokens| format!("{} at {tokens}", size(kv.token_bytes.saturating_mul(tokens))));
        let kind = if kv.latent { "latents" } else { "heads" };
        let window = kv
            .sliding_window
            .map_or(String::new(), |tokens| format!("; at most: some layers keep the last {tokens} tokens only"));
        format!("{} per token of context ({kind}, f16), {}{window}", size(kv.token_bytes), at.join(", "))
    });
    fact("KV cache", cache);
    let share = report.budget_bytes as f64 / report.model_bytes.max(1) as f64 * 100.0;
    fact(
        "memory",
        format!("{} RAM, of which {} for the model ({share:.0} %)", size(report.ram_bytes), size(report.budget_bytes)),
    );
    let experts = match report.experts {
        Some(_) => format!(", {} in blocks of experts", rate(report.drive_expert_bytes_per_s)),
        None => String::new(),
    };
    fact("drive", format!("{}{experts} ({})", rate(report.drive_bytes_per_s), report.drive_by));
    let by = match report.compute {
        Compute::Llama { .. } => "measured on llama.cpp".to_owned(),
        Compute::Memory { bytes_per_s } => {
            format!("at least: its bytes at {}, the rate at which the threads read memory", rate(bytes_per_s))
        }
    };
    fact("computing", format!("{:.1} ms per token with {} threads ({by})", report.compute_ms, report.threads));
    format!("{facts}\n\n{}\n", expectations(report))
}

fn expectations(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let reuse = report.experts.is_some();
    let mut heading: Vec<String> = if reuse { vec!["reuse of experts".to_owned()] } else { Vec::new() };
    heading.extend(["tokens/s", "ms/token", "read per token", "bound by"].map(str::to_owned));
    if let Some(target) = report.target_tokens_per_s {
        heading.extend([format!("memory for {target} tokens/s"), format!("or drive for {target} tokens/s")]);
    }
    table.set_header(heading);
    for row in &report.expected {
        let Estimate { read_bytes, token_s, tokens_per_s, drive_bound } = row.estimate;
        let mut cells: Vec<String> = Vec::new();
        if reuse {
            let word = match row.reuse {
                Some(Reuse::Chance) => "by chance",
                Some(Reuse::Best) => "best",
                Some(Reuse::None) | None => "none",
            };
            cells.push(word.to_owned());
        }
        let bound = if drive_bound { "drive" } else { "computing" };
        cells.extend([format!("{tokens_per_s:.2}"), format!("{:.0}", token_s * 1e3)]);
        cells.extend([ByteSize(read_bytes).to_string(), bound.to_owned()]);
        if let Some(target) = row.target {
            let never = || "computing takes longer".to_owned();
            cells.push(target.budget_bytes.map_or_else(never, |budget| {
                let ram = target.ram_bytes.map_or(String::new(), |ram| format!(", {} RAM", ByteSize(ram)));
                format!("{}{ram}", ByteSize(budget))
            }));
            cells.push(target.drive_bytes_per_s.map_or_else(never, |rate| format!("{}/s", ByteSize(rate as u64))));
        }
        table.add_row(cells);
    }
    table
}
