//! `ggpager plan`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::model;
use crate::bench::llama;
use crate::budget::{self, Memory};
use crate::config::{BudgetSetting, ByteSize};
use crate::drive::{self, Options};
use crate::gguf::TokenReads;
use crate::pager::piece::EXPERT_BLOCK;
use crate::plan::compute::{self, Compute};
use crate::plan::estimate::Ground;
use crate::plan::kv::KvCache;
use crate::plan::report::{self, Report};

/// How long the drive is measured for each size of reads.
const DRIVE_TIME: Duration = Duration::from_secs(1);
/// Reads of expert blocks in flight: as many bytes as sixteen of 2 MiB, within the ring.
const EXPERT_DEPTH: u32 = 64;

/// Arguments of `ggpager plan`.
#[derive(clap::Args)]
pub struct Args {
    /// The model; of a split model any shard
    model: PathBuf,
    /// RAM of the machine [default: this machine's, as much as is available now]
    #[arg(long, value_name = "SIZE")]
    ram: Option<ByteSize>,
    /// What is wanted, in tokens per second: `5` or `5tok/s`
    #[arg(long, value_parser = target, value_name = "TOKENS")]
    target: Option<f64>,
    /// Compute threads [default: all CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// The drive's bytes per second [default: measured on the model's file]
    #[arg(long, value_name = "SIZE")]
    drive: Option<ByteSize>,
    /// Folder with llama.cpp's programs [default: $GGPAGER_LLAMA, else the PATH]
    #[arg(long, value_name = "FOLDER")]
    llama: Option<PathBuf>,
    /// Do not run llama.cpp: bound the computation by the rate of memory
    #[arg(long, conflicts_with = "llama")]
    no_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn target(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches("tok/s").trim().parse::<f64>();
    number
        .ok()
        .filter(|&number| number > 0.0 && number.is_finite())
        .ok_or_else(|| "no number such as 5tok/s".to_owned())
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (paths, shards) = model::read(&args.model)?;
    let reads = TokenReads::of(&shards.iter().collect::<Vec<_>>());
    ensure!(reads.bytes() > 0, "{} holds no tensors that decoding reads", args.model.display());
    let model_bytes: u64 = shards.iter().map(|shard| shard.file_bytes).sum();
    let memory = memory(args.ram);
    let budget_bytes = budget::resolve(BudgetSetting::Auto, model_bytes, &memory);
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    let threads = args.threads.unwrap_or(cpus);
    let (drive_bytes_per_s, drive_expert_bytes_per_s, drive_by) = drive_rates(&args, &paths[0], &reads)?;
    let compute = compute(&args, model_bytes, threads);
    let ground = Ground {
        reads,
        compute_s: compute.token_s(reads.bytes()),
        drive_bytes_per_s,
        expert_bytes_per_s: drive_expert_bytes_per_s,
    };
    let first = &shards[0];
    let file_name = args.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let report = Report {
        model: first.name.clone().unwrap_or(file_name),
        architecture: first.arch.clone(),
        model_bytes,
        dense_bytes: reads.dense_bytes,
        expert_bytes: reads.expert_bytes,
        active_expert_bytes: reads.active_expert_bytes,
        experts: first.expert_count.zip(first.expert_used_count).filter(|_| reads.expert_bytes > 0),
        kv_cache: KvCache::of(first),
        ram_bytes: memory.machine.total_bytes,
        budget_bytes,
        drive_bytes_per_s,
        drive_expert_bytes_per_s,
        drive_by,
        threads,
        compute,
        compute_ms: ground.compute_s * 1e3,
        expected: report::rows(&ground, budget_bytes, args.target, |budget| ram_for(budget, model_bytes)),
        target_tokens_per_s: args.target,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report::terminal(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// This machine's memory; with `ram` that of a machine on which as much is in use as on this one, but no
/// more than an eighth.
fn memory(ram: Option<ByteSize>) -> Memory {
    let mut memory = Memory::probe();
    if let Some(ByteSize(total)) = ram {
        let in_use = memory.machine.total_bytes.saturating_sub(memory.machine.available_bytes).min(total / 8);
        memory.cgroup = None;
        memory.machine.total_bytes = total;
        memory.machine.available_bytes = total.saturating_sub(in_use);
    }
    memory
}

/// The least RAM, to 64 MiB, that leaves a pool of `budget` bytes.
fn ram_for(budget: u64, model_bytes: u64) -> Option<u64> {
    const STEP: u64 = 64 << 20;
    let leaves = |steps: u64| budget::resolve(BudgetSetting::Auto, model_bytes, &memory(Some(ByteSize(steps * STEP))));
    let (mut low, mut high) = (0, (4 * budget.max(1 << 32)).div_ceil(STEP));
    if leaves(high) < budget {
        return None;
    }
    while low < high {
        let middle = low.midpoint(high);
        if leaves(middle) >= budget { high = middle } else { low = middle + 1 }
    }
    Some(high * STEP)
}

/// The drive's rate in blocks of 2 MiB and in blocks of experts, and where it comes from.
fn drive_rates(args: &Args, path: &Path, reads: &TokenReads) -> anyhow::Result<(f64, f64, &'static str)> {
    if let Some(ByteSize(rate)) = args.drive {
        ensure!(rate > 0, "--drive is to be more than 0");
        return Ok((rate as f64, rate as f64, "as told"));
    }
    let measure =
        |options: Options| drive::measure(path, &options).with_context(|| format!("cannot measure {}", path.display()));
    let whole = measure(Options { time_max: DRIVE_TIME, ..Options::default() })?;
    let by = if whole.direct { "measured on the file" } else { "measured through the page cache: may be that of RAM" };
    let experts = match reads.expert_bytes {
        0 => whole.bytes_per_s,
        _ => {
            let request_bytes = EXPERT_BLOCK as u32;
            measure(Options { time_max: DRIVE_TIME, request_bytes, depth: EXPERT_DEPTH, ..Options::default() })?
                .bytes_per_s
        }
    };
    Ok((whole.bytes_per_s, experts, by))
}

fn compute(args: &Args, model_bytes: u64, threads: u32) -> Compute {
    // A run out of memory would measure the drive.
    let fits = budget::fits(BudgetSetting::Auto, model_bytes, &Memory::probe());
    let program = llama::find(args.llama.as_deref(), "llama-completion").filter(|_| fits && !args.no_run);
    program
        .and_then(|program| {
            compute::by_llama(&program, &args.model, threads).inspect_err(|error| log::warn!("{error:#}")).ok()
        })
        .unwrap_or_else(|| compute::by_memory(threads))
}
