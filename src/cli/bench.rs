//! `ggpager bench`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::bench::interrupt::Interrupt;
use crate::bench::model::{Model, Source};
use crate::bench::plan::{Contender, Plan, Readahead};
use crate::bench::run::{Runner, print_ceiling};
use crate::bench::summary::{Bounds, Round, median, summarize};
use crate::bench::{Report, llama, roofline, svg, table};
use crate::config::{BudgetSetting, ByteSize, Strategy, var};
use crate::gguf;
use crate::launch::environment::OmpSpin;
use crate::launch::{library, settings};
use crate::synth::Arch;

/// Arguments of `ggpager bench`.
#[derive(clap::Args)]
pub struct Args {
    /// The model [default: a synthetic one, which is deleted afterwards]
    #[arg(short, long, value_name = "GGUF")]
    model: Option<PathBuf>,
    /// Size of the synthetic model
    #[arg(long, default_value = "2G", value_name = "SIZE", conflicts_with = "model")]
    synth: ByteSize,
    /// Architecture of the synthetic model
    #[arg(long, value_enum, default_value = "llama", conflicts_with = "model")]
    arch: Arch,
    /// Put the model on a loop device, a drive that nobody else uses
    #[arg(long)]
    loop_drive: bool,
    /// Where a synthetic model or the image of a loop device goes
    #[arg(long, default_value = "/var/tmp", value_name = "FOLDER")]
    folder: PathBuf,
    /// What to compare with stock, separated by commas
    #[arg(short, long, value_delimiter = ',', default_value = "auto", value_name = "WORDS")]
    strategies: Vec<Strategy>,
    /// Readahead of the stock runs: KiB or `own`, separated by commas; empty for no stock run
    #[arg(long, value_delimiter = ',', default_value = "128,own", value_name = "KIB")]
    stock_readahead: Vec<String>,
    /// Rounds
    #[arg(short, long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Tokens to generate
    #[arg(short = 'n', long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    tokens: u32,
    /// Compute threads [default: all CPUs]
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// What to go on from
    #[arg(short, long, default_value = "The quick brown fox", conflicts_with = "prompt_tokens")]
    prompt: String,
    /// A prompt of about so many tokens instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    prompt_tokens: Option<u32>,
    /// Length of the context [default: what prompt and tokens need]
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Tokens at the start of each run that do not count
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip: u32,
    /// Memory limit of each run, page cache included
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// GGPAGER_BUDGET of the paged runs
    #[arg(long, value_name = "SIZE")]
    budget: Option<String>,
    /// Hold the model's disk to this many bytes per second
    #[arg(long, value_name = "SIZE")]
    drive_limit: Option<ByteSize>,
    /// Size of one read when the drive's ceiling is measured
    #[arg(long, default_value = "2MiB", value_name = "SIZE")]
    request_size: ByteSize,
    /// Reads in flight when the drive's ceiling is measured
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    depth: u32,
    /// How long the drive's ceiling is measured in each round
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    ceiling_time: f64,
    /// Rounds that OpenMP threads of the paged runs spin, or `default`
    #[arg(long, value_name = "N|default")]
    omp_spin: Option<OmpSpin>,
    /// Longest time of one run
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    time_max: u64,
    /// Folder with llama-completion [default: $GGPAGER_LLAMA, else the PATH]
    #[arg(long, value_name = "FOLDER")]
    llama: Option<PathBuf>,
    /// Write everything that was measured here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table here
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a picture here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only measure the drive for so many milliseconds and print JSON: what each round starts
    #[arg(long, hide = true, value_name = "MS")]
    measure_ceiling: Option<u64>,
    /// Further arguments for llama-completion
    #[arg(last = true)]
    extra: Vec<OsString>,
}

/// Runs the verb. The exit code is 1 when a text differs or a paged run failed, and 128 + n after
/// signal n.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request_bytes = usize::try_from(args.request_size.0)?;
    ensure!(request_bytes >= 4096 && request_bytes % 4096 == 0, "--request-size is to be in whole pages");
    if let Some(ms) = args.measure_ceiling {
        let file = args.model.as_deref().context("--model is missing")?;
        print_ceiling(file, request_bytes, args.depth, Duration::from_millis(ms))?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupt = Interrupt::listen()?;
    match compare(&args, request_bytes, &interrupt) {
        Ok(code) => Ok(code),
        Err(error) => match interrupt.signal() {
            Some(signal) => {
                eprintln!("ggpager: stopped; limits, readahead and files are as they were");
                Ok(ExitCode::from(128u8.saturating_add(signal as u8)))
            }
            None => Err(error),
        },
    }
}

fn compare(args: &Args, request_bytes: usize, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let checked = settings::check(std::env::vars_os(), &budget_option(args))?;
    for output in [&args.json, &args.markdown, &args.svg].into_iter().flatten() {
        fs::write(output, "").with_context(|| output.display().to_string())?;
    }
    let mut plan = plan(args, request_bytes, checked.variables.into_iter().collect())?;
    let source = args.model.clone().map_or(Source::Synthetic(args.arch, args.synth), Source::File);
    let model = Model::provide(&source, &args.folder, args.loop_drive, interrupt)?;
    plan.files = gguf::shard_paths(&model.path);
    plan.call.model = model.path.clone();
    let shards = shards(&plan.files)?;
    let (rounds, remarks) = Runner::new(&plan, interrupt).and_then(Runner::rounds)?;
    let report = report(args, &plan, checked.settings.budget, &shards, rounds, remarks);
    print!("{}", table::terminal(&report));
    write(args.json.as_deref(), || Ok(serde_json::to_string_pretty(&report)?))?;
    write(args.markdown.as_deref(), || Ok(table::markdown(&report)))?;
    write(args.svg.as_deref(), || svg::draw(&report))?;
    Ok(if report.is_wrong() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn budget_option(args: &Args) -> Vec<(&'static str, String)> {
    args.budget.iter().map(|budget| (var::BUDGET, budget.clone())).collect()
}

fn write(path: Option<&Path>, content: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, content()?).with_context(|| path.display().to_string())
}

fn plan(args: &Args, request_bytes: usize, variables: Vec<(String, String)>) -> anyhow::Result<Plan> {
    let stock = args.stock_readahead.iter().filter(|text| !text.is_empty());
    let stock: Vec<Readahead> =
        stock.map(|text| text.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?;
    let mut contenders: Vec<_> = stock.into_iter().map(Contender::Stock).collect();
    contenders.extend(args.strategies.iter().copied().map(Contender::Paged));
    ensure!(args.ceiling_time > 0.0 && args.ceiling_time < 600.0, "--ceiling-time is to be between 0 and 600 seconds");
    let Some(program) = llama::find(args.llama.clone()) else {
        bail!("{} is neither in --llama or $GGPAGER_LLAMA nor on the PATH", llama::PROGRAM);
    };
    let prompt = args.prompt_tokens.map_or_else(|| args.prompt.clone(), llama::prompt_of);
    // Four tokens a word are more than any vocabulary needs for ordinary text.
    let needed = args.tokens + 4 * u32::try_from(prompt.split_whitespace().count())? + 64;
    let threads = match args.threads {
        Some(threads) => threads,
        None => u32::try_from(std::thread::available_parallelism()?.get())?,
    };
    Ok(Plan {
        // The caller fills in the files once they are there.
        files: Vec::new(),
        program,
        call: llama::Call {
            model: PathBuf::new(),
            prompt,
            tokens: args.tokens,
            threads,
            context: args.context.unwrap_or(needed.next_multiple_of(256)),
            extra: args.extra.clone(),
        },
        library: if args.strategies.is_empty() { None } else { Some(library::find()?) },
        contenders,
        rounds: args.rounds,
        skip: args.skip,
        memory_bytes: args.memory.map(|size| size.0),
        drive_bytes_per_s: args.drive_limit.map(|size| size.0),
        variables,
        spin: args.omp_spin.unwrap_or_default(),
        request_bytes,
        depth: args.depth,
        ceiling_time: Duration::from_secs_f64(args.ceiling_time),
        time_max: Duration::from_secs(args.time_max),
    })
}

fn shards(files: &[PathBuf]) -> anyhow::Result<Vec<gguf::Model>> {
    files
        .iter()
        .map(|file| gguf::Model::read(&fs::File::open(file)?).with_context(|| file.display().to_string()))
        .collect()
}

fn model_name(args: &Args) -> String {
    let name = args
        .model
        .as_ref()
        .map_or_else(|| format!("synthetic {}", args.arch.name()), |file| file.display().to_string());
    if args.loop_drive { name + " on a loop device" } else { name }
}

fn report(
    args: &Args,
    plan: &Plan,
    budget: BudgetSetting,
    shards: &[gguf::Model],
    rounds: Vec<Round>,
    remarks: Vec<String>,
) -> Report {
    let model_bytes: u64 = shards.iter().map(|shard| shard.file_bytes).sum();
    let reported = rounds.iter().flat_map(|round| &round.records).filter_map(|record| record.stats.as_ref());
    let budget_bytes = match budget {
        BudgetSetting::Bytes(size) => Some(size.0),
        BudgetSetting::Percent(percent) => Some((model_bytes as f64 * percent / 100.0) as u64),
        BudgetSetting::Auto => {
            reported.map(|stats| stats.budget_bytes).max().filter(|&bytes| bytes > 0).or(plan.memory_bytes)
        }
    };
    let cycle = roofline::cycle(shards);
    let bytes_min = budget_bytes.filter(|_| !cycle.has_experts).map(|budget| roofline::bytes_min(cycle.bytes, budget));
    let bounds = Bounds { bytes_min, skip: plan.skip };
    let stock: Vec<_> = plan.contenders.iter().copied().filter(|it| matches!(it, Contender::Stock(_))).collect();
    let everyone = std::iter::once(Contender::InMemory).chain(plan.contenders.iter().copied());
    let summaries: Vec<_> = everyone.map(|contender| summarize(&rounds, contender, &stock, bounds)).collect();
    let size = |value: Option<ByteSize>| value.map_or("none".to_owned(), |size| size.to_string());
    Report {
        version: env!("CARGO_PKG_VERSION"),
        settings: vec![
            ("model", format!("{} ({})", model_name(args), ByteSize(model_bytes))),
            ("threads", plan.call.threads.to_string()),
            ("tokens", plan.call.tokens.to_string()),
            ("rounds", plan.rounds.to_string()),
            ("memory limit", size(args.memory)),
            ("budget", args.budget.clone().unwrap_or_else(|| format!("{budget:?}"))),
            ("drive limit", size(args.drive_limit)),
            ("ceiling's requests", format!("{} x {}", plan.depth, args.request_size)),
            ("program", plan.program.display().to_string()),
        ],
        remarks,
        cycle: Some(cycle),
        budget_bytes,
        bounds,
        drive_bytes_per_s: median(rounds.iter().filter_map(|round| Some(round.ceiling?.bytes_per_s))),
        compute_ms: summaries[0].ms_per_token,
        summaries,
        rounds,
    }
}
