//! `ggpager bench`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::bench::interrupt::Interrupt;
use crate::bench::llama::{self, Prompt};
use crate::bench::model::{Models, Source};
use crate::bench::pin::Pin;
use crate::bench::plan::{Cache, Contender, Plan, Readahead, Who};
use crate::bench::report::Report;
use crate::bench::run::{Runner, print_ceiling};
use crate::bench::workload::Workload;
use crate::bench::{svg, table};
use crate::config::{BudgetSetting, ByteSize, Strategy, var};
use crate::drive::Pattern;
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
    /// What to run: llama-completion, llama-server with a draft model, two llama-servers by turns, or two of one model
    /// by turns, of which one writes a fault log
    #[arg(short, long, value_enum, default_value = "completion")]
    workload: Workload,
    /// The draft model, or the model of the second server [default: a synthetic one]
    #[arg(long, value_name = "GGUF")]
    second_model: Option<PathBuf>,
    /// Size of the synthetic second model
    #[arg(long, default_value = "512M", value_name = "SIZE", conflicts_with = "second_model")]
    second_synth: ByteSize,
    /// Turns of each server in a run
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,
    /// Strategy of the server without a fault log, in workload `log` [default: that of the other]
    #[arg(long, value_name = "WORD")]
    against: Option<Strategy>,
    /// Put the models on a loop device, a drive that nobody else uses
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
    /// Compute threads, separated by commas [default: all CPUs]
    #[arg(short, long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Vec<u32>,
    /// What the page cache holds of the model when a run starts, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cold", value_name = "WORDS")]
    cache: Vec<Cache>,
    /// What to go on from
    #[arg(short, long, default_value = "The quick brown fox", conflicts_with = "prompt_tokens")]
    prompt: String,
    /// A prompt of at most so many tokens, and hardly less, instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16_384))]
    prompt_tokens: Option<u32>,
    /// Tokens of a logical batch [default: the program's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Option<u32>,
    /// Tokens computed at a time [default: 512, the program's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    ubatch: Option<u32>,
    /// Length of the context [default: what prompt and tokens need]
    #[arg(short, long, value_name = "TOKENS")]
    context: Option<u32>,
    /// Tokens at the start of each turn that do not count
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip: u32,
    /// Memory limit of each run, page cache included
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// GGPAGER_BUDGET of the paged runs; two servers have it each
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
    /// Rounds that OpenMP threads of the paged runs spin, `default` for the OpenMP runtime's own,
    /// `run` for those of `ggpager run`; separated by commas
    #[arg(long, alias = "spin", value_delimiter = ',', default_value = "run", value_parser = spin, value_name = "N|default|run")]
    omp_spin: Vec<OmpSpin>,
    /// Longest time of one run
    #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
    time_max: u64,
    /// Folder with llama.cpp's programs [default: $GGPAGER_LLAMA, else the PATH]
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
    /// Measure it by scattered reads
    #[arg(long, hide = true)]
    scattered: bool,
    /// Only lock a part of the model in memory, until killed
    #[arg(long, hide = true, value_name = "PART")]
    hold_pinned: Option<Pin>,
    /// Further arguments for the workload's program
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
        let pattern = if args.scattered { Pattern::Scattered { seed: 0 } } else { Pattern::Sequential { start: 0 } };
        print_ceiling(file, request_bytes, args.depth, pattern, Duration::from_millis(ms))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(pin) = args.hold_pinned {
        pin.lock(args.model.as_deref().context("--model is missing")?)?;
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
    ensure!(args.against.is_none() || args.workload == Workload::Log, "--against is for --workload log");
    let mut plan = plan(args, request_bytes, checked.variables.into_iter().collect())?;
    let sources = sources(args);
    let models = Models::provide(&sources, &args.folder, args.loop_drive, interrupt)?;
    plan.models = models.paths.iter().map(|path| gguf::shard_paths(path)).collect();
    let shards: Vec<_> = plan.models.iter().map(|files| shards(files)).collect::<anyhow::Result<_>>()?;
    let (rounds, remarks) = Runner::new(&plan, interrupt).and_then(Runner::rounds)?;
    let budget = checked.settings.budget;
    let settings = told(args, &plan, &shards, budget);
    let report = Report::new(&plan, settings, &shards, budget, rounds, remarks);
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

/// A spin as the option takes it.
fn spin(text: &str) -> Result<OmpSpin, String> {
    if text == "run" { Ok(OmpSpin::default()) } else { text.parse() }
}

fn sources(args: &Args) -> Vec<Source> {
    let source = |file: &Option<PathBuf>, size| file.clone().map_or(Source::Synthetic(args.arch, size), Source::File);
    let mut sources = vec![source(&args.model, args.synth), source(&args.second_model, args.second_synth)];
    sources.truncate(args.workload.models());
    sources
}

/// Everybody: for each number of threads and state of the cache stock, then each strategy with each
/// spin.
fn contenders(args: &Args) -> anyhow::Result<Vec<Contender>> {
    let stock = args.stock_readahead.iter().filter(|text| !text.is_empty());
    let stock: Vec<Readahead> =
        stock.map(|text| text.parse()).collect::<Result<_, String>>().map_err(anyhow::Error::msg)?;
    let spins = |&strategy: &Strategy| args.omp_spin.iter().map(move |&spin| Who::Paged(strategy, spin));
    let who: Vec<Who> = stock.into_iter().map(Who::Stock).chain(args.strategies.iter().flat_map(spins)).collect();
    let threads = match &args.threads[..] {
        [] => vec![u32::try_from(std::thread::available_parallelism()?.get())?],
        counts => counts.to_vec(),
    };
    let mut contenders = Vec::new();
    for threads in threads {
        for &cache in &args.cache {
            contenders.extend(who.iter().map(|&who| Contender { who, threads, cache }));
        }
    }
    let mut seen = Vec::new();
    contenders.retain(|contender| {
        !seen.contains(contender) && {
            seen.push(*contender);
            true
        }
    });
    contenders.sort_by_key(|contender| contender.threads);
    ensure!(!contenders.is_empty(), "there is nothing to compare: neither stock nor a strategy");
    Ok(contenders)
}

fn plan(args: &Args, request_bytes: usize, variables: Vec<(String, String)>) -> anyhow::Result<Plan> {
    ensure!(args.ceiling_time > 0.0 && args.ceiling_time < 600.0, "--ceiling-time is to be between 0 and 600 seconds");
    let name = args.workload.program();
    let Some(program) = llama::find(args.llama.as_deref(), name) else {
        bail!("{name} is neither in --llama or $GGPAGER_LLAMA nor on the PATH");
    };
    let prompt = args.prompt_tokens.map_or_else(|| Prompt::Text(args.prompt.clone()), Prompt::Tokens);
    let prompt_tokens = match &prompt {
        // Four tokens a word are more than any vocabulary needs for ordinary text.
        Prompt::Text(text) => 4 * u32::try_from(text.split_whitespace().count())?,
        Prompt::Tokens(tokens) => *tokens,
    };
    let needed = args.tokens + prompt_tokens + 64;
    Ok(Plan {
        workload: args.workload,
        // The caller fills in the files once they are there.
        models: Vec::new(),
        program,
        call: llama::Call {
            prompt,
            tokens: args.tokens,
            context: args.context.unwrap_or(needed.next_multiple_of(256)),
            batch: args.batch,
            ubatch: args.ubatch,
            extra: args.extra.clone(),
        },
        library: if args.strategies.is_empty() { None } else { Some(library::find()?) },
        contenders: contenders(args)?,
        rounds: args.rounds,
        turns: args.turns,
        against: args.against,
        skip: args.skip,
        memory_bytes: args.memory.map(|size| size.0),
        swap: None,
        pin: None,
        drive_bytes_per_s: args.drive_limit.map(|size| size.0),
        variables,
        request_bytes,
        depth: args.depth,
        pattern: Pattern::Sequential { start: 0 },
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

/// The settings as the report names them.
fn told(args: &Args, plan: &Plan, models: &[Vec<gguf::Model>], budget: BudgetSetting) -> Vec<(&'static str, String)> {
    let names = sources(args).into_iter().zip(models).map(|(source, shards)| {
        let bytes = shards.iter().map(|shard| shard.file_bytes).sum();
        match source {
            Source::File(file) => format!("{} ({})", file.display(), ByteSize(bytes)),
            Source::Synthetic(arch, _) => format!("synthetic {} ({})", arch.name(), ByteSize(bytes)),
        }
    });
    let models = names.collect::<Vec<_>>().join(", ") + if args.loop_drive { " on a loop device" } else { "" };
    let size = |value: Option<ByteSize>| value.map_or("none".to_owned(), |size| size.to_string());
    let mut settings = vec![
        ("workload", format!("{:?}", plan.workload).to_lowercase()),
        ("models", models),
        ("tokens", plan.call.tokens.to_string()),
        ("rounds", plan.rounds.to_string()),
        ("memory limit", size(args.memory)),
        ("budget", args.budget.clone().unwrap_or_else(|| format!("{budget:?}"))),
        ("drive limit", size(args.drive_limit)),
        ("ceiling's requests", format!("{} x {}", plan.depth, args.request_size)),
        ("program", plan.program.display().to_string()),
    ];
    if plan.workload != Workload::Completion {
        settings.insert(3, ("turns", plan.turns.to_string()));
    }
    if let Some(against) = plan.against {
        settings.insert(1, ("without log", against.to_string()));
    }
    settings
}
