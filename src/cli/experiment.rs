//! `ggpager experiment`.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::bench::interrupt::Interrupt;
use crate::bench::llama;
use crate::bench::model::Source;
use crate::bench::workload::Workload;
use crate::config::{self, ByteSize};
use crate::experiment::{
    Case, Cell, CellRate, Journal, Lock, Means, Outcome, Provided, Session, Setup, Way, cells, describe,
    has_other_text, matrix, page,
};
use crate::launch::library;
use crate::synth::Arch;

/// Arguments of `ggpager experiment`. Lists are separated by commas.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of results.csv, drive.csv and report.html; what is in it is not run again
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// GGUF files, or ARCH:SIZE for synthetic models, which are deleted afterwards
    #[arg(short, long, value_delimiter = ',', default_value = "llama:1G,qwen3moe:1G", value_parser = source, value_name = "MODELS")]
    models: Vec<Source>,
    /// Memory for the model, in percent of it
    #[arg(long, value_delimiter = ',', default_value = "100,75,50,25", value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=400))]
    memory: Vec<u32>,
    /// Swappiness, 0 to 200, with a swap file of our own; `none` is without swap
    #[arg(long, value_delimiter = ',', default_value = "0,60,100", value_parser = swappiness, value_name = "N")]
    swappiness: Vec<Option<u32>>,
    /// Who reads the weights: `memory` (all cached, no limits), `stock-KIB` and `stock-own` by readahead, strategies
    #[arg(
        short,
        long,
        value_delimiter = ',',
        default_value = "memory,stock-128,stock-own,kernel,demand,readahead,learned",
        value_name = "WORDS"
    )]
    strategies: Vec<Way>,
    /// What is locked in memory in stock runs: `none`, `llama` (its own mlock, where it fits), `prefix:PERCENT`, `spread:PERCENT`
    #[arg(long, value_delimiter = ',', default_value = "none", value_name = "WORDS")]
    lock: Vec<Lock>,
    /// Sizes of the pager's reads, 4 KiB to 2 MiB; `own` leaves it to the pager
    #[arg(long, value_delimiter = ',', default_value = "own", value_parser = read_size, value_name = "SIZES")]
    read_size: Vec<Option<u64>>,
    /// The pager's reads in flight; `own` leaves it to the pager
    #[arg(long, value_delimiter = ',', default_value = "own", value_parser = depth, value_name = "N")]
    depth: Vec<Option<u32>>,
    /// Run only cases whose description contains one of these, as --dry-run shows them
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Also measure the drive alone, 4 KiB to 8 MiB and 1 to 64 requests in flight
    #[arg(long)]
    sweep: bool,
    /// Leave out the runs
    #[arg(long, requires = "sweep")]
    sweep_only: bool,
    /// How long each size and depth of the sweep is measured
    #[arg(long, default_value_t = 300, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    sweep_time: u64,
    /// How often everything
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Hold the model's disk to this many bytes per second
    #[arg(long, value_name = "SIZE")]
    drive_limit: Option<ByteSize>,
    /// Memory besides the model's share: the program, its KV cache, its compute buffers
    #[arg(long, default_value = "600MB", value_name = "SIZE")]
    room: ByteSize,
    /// Size of the swap file
    #[arg(long, default_value = "2G", value_name = "SIZE")]
    swap: ByteSize,
    /// Length of the context
    #[arg(short, long, default_value_t = 8192, value_name = "TOKENS")]
    context: u32,
    /// Tokens to generate
    #[arg(short = 'n', long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    tokens: u32,
    /// Compute threads [default: all CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Longest time of one run
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    time_max: u64,
    /// Where swap file and synthetic models go
    #[arg(long, default_value = "/var/tmp", value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder with llama.cpp's programs [default: $GGPAGER_LLAMA, else the PATH]
    #[arg(long, value_name = "FOLDER")]
    llama: Option<PathBuf>,
    /// Show the cases and how long they may take, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Further arguments for llama-completion
    #[arg(last = true)]
    extra: Vec<OsString>,
}

fn source(text: &str) -> Result<Source, String> {
    if let Some((arch, size)) = text.split_once(':')
        && let Ok(arch) = <Arch as clap::ValueEnum>::from_str(arch, true)
    {
        return size
            .parse()
            .map(|size| Source::Synthetic(arch, size))
            .map_err(|error: config::BadValue| error.to_string());
    }
    Ok(Source::File(text.into()))
}

fn swappiness(text: &str) -> Result<Option<u32>, String> {
    match text.parse() {
        _ if text == "none" => Ok(None),
        Ok(value @ 0..=200) => Ok(Some(value)),
        _ => Err(format!("{text:?} is neither 0 to 200 nor none")),
    }
}

fn read_size(text: &str) -> Result<Option<u64>, config::BadValue> {
    if text == "own" { Ok(None) } else { config::read_size(text).map(|size| Some(size.0)) }
}

fn depth(text: &str) -> Result<Option<u32>, config::BadValue> {
    if text == "own" { Ok(None) } else { config::queue_depth(text).map(Some) }
}

/// Runs the verb. The exit code is 1 when a text differs, and 128 + n after signal n.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::listen()?;
    match experiment(args, &interrupt) {
        Ok(code) => Ok(code),
        Err(error) => match interrupt.signal() {
            Some(signal) => {
                eprintln!("ggpager: stopped; limits, readahead, swap and files are as they were");
                Ok(ExitCode::from(128u8.saturating_add(signal as u8)))
            }
            None => Err(error),
        },
    }
}

/// What is to be done with one model.
struct Work<'a> {
    source: &'a Source,
    cases: Vec<Case>,
    cells: Vec<Cell>,
}

fn experiment(args: &Args, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let columns = [&Case::COLUMNS[..], &Outcome::COLUMNS].concat();
    let mut runs = Journal::<Case, Outcome>::open(&args.out.join("results.csv"), &columns)?;
    let columns = [&Cell::COLUMNS[..], &CellRate::COLUMNS].concat();
    let mut rates = Journal::<Cell, CellRate>::open(&args.out.join("drive.csv"), &columns)?;
    let work = work(args)?;
    if args.dry_run {
        show(&work, &runs, &rates, args.sweep_time);
        return Ok(ExitCode::SUCCESS);
    }
    let done = make(args, &work, &mut runs, &mut rates, interrupt);
    // Also when it was stopped: what is there can be looked at.
    let report = args.out.join("report.html");
    fs::write(&report, page(runs.rows(), rates.rows())).with_context(|| report.display().to_string())?;
    done?;
    println!("{}", report.display());
    Ok(if has_other_text(runs.rows()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn work(args: &Args) -> anyhow::Result<Vec<Work<'_>>> {
    let threads = match args.threads {
        Some(threads) => threads,
        None => u32::try_from(std::thread::available_parallelism()?.get())?,
    };
    let setup = Setup {
        drive_bytes_per_s: args.drive_limit.map(|size| size.0),
        room_bytes: args.room.0,
        context: args.context,
        tokens: args.tokens,
        threads,
    };
    let models: Vec<(String, u64)> = args.models.iter().map(describe).collect::<anyhow::Result<_>>()?;
    for (at, model) in models.iter().enumerate() {
        ensure!(!models[..at].contains(model), "two models are called {} and have one size", model.0);
    }
    let axes = matrix::Axes {
        memory_percent: args.memory.clone(),
        swappiness: args.swappiness.clone(),
        ways: args.strategies.clone(),
        locks: args.lock.clone(),
        read_bytes: args.read_size.clone(),
        depth: args.depth.clone(),
        rounds: args.rounds,
    };
    let mut work = Vec::new();
    for (source, (name, bytes)) in args.models.iter().zip(models) {
        let cells = if args.sweep { cells(&name, setup.drive_bytes_per_s, args.rounds) } else { Vec::new() };
        let mut cases = if args.sweep_only { Vec::new() } else { matrix::cases(&name, bytes, &axes, &setup) };
        let is_wanted = |case: &Case| args.only.iter().any(|text| case.to_string().contains(text));
        cases.retain(|case| args.only.is_empty() || is_wanted(case));
        work.push(Work { source, cases, cells });
    }
    Ok(work)
}

fn show(work: &[Work], runs: &Journal<Case, Outcome>, rates: &Journal<Cell, CellRate>, sweep_ms: u64) {
    let (mut left, mut total) = (Duration::ZERO, 0);
    for case in work.iter().flat_map(|work| &work.cases) {
        let time = matrix::estimate(case);
        let state = if runs.has(case) {
            "done".to_owned()
        } else {
            left += time;
            total += 1;
            format!("about {:.0} s", time.as_secs_f64())
        };
        println!("{case}: {state}");
    }
    let cells = work.iter().flat_map(|work| &work.cells).filter(|cell| !rates.has(cell)).count();
    // Starting a process and dropping caches takes about as long as a short measurement.
    left += Duration::from_millis(sweep_ms + 200) * cells as u32;
    println!(
        "{total} runs and {cells} measurements of the drive to make, about {:.0} minutes",
        left.as_secs_f64() / 60.0
    );
}

fn make(
    args: &Args,
    work: &[Work],
    runs: &mut Journal<Case, Outcome>,
    rates: &mut Journal<Cell, CellRate>,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let name = Workload::Completion.program();
    let program = llama::find(args.llama.as_deref(), name)
        .with_context(|| format!("{name} is neither in --llama or $GGPAGER_LLAMA nor on the PATH"))?;
    let means = Means {
        program,
        extra: args.extra.clone(),
        library: library::find()?,
        folder: args.folder.clone(),
        swap_bytes: args.swap.0,
        time_max: Duration::from_secs(args.time_max),
        cell_time: Duration::from_millis(args.sweep_time),
    };
    let mut session = Session::new(means, interrupt);
    for Work { source, cases, cells } in work {
        let cases: Vec<&Case> = cases.iter().filter(|case| !runs.has(case)).collect();
        let cells: Vec<&Cell> = cells.iter().filter(|cell| !rates.has(cell)).collect();
        if cases.is_empty() && cells.is_empty() {
            continue;
        }
        let mut model = Provided::new(source, &args.folder, interrupt)?;
        for (at, cell) in cells.iter().enumerate() {
            let rate = session.sweep(cell, &model)?;
            if (at + 1) % 21 == 0 || at + 1 == cells.len() {
                eprintln!("drive, {} of {}: {:.0} MB/s", at + 1, cells.len(), rate.bytes_per_s / 1e6);
            }
            rates.add((*cell).clone(), rate)?;
        }
        for (at, case) in cases.iter().enumerate() {
            let outcome = session.run(case, &mut model).with_context(|| case.to_string())?;
            eprintln!("{} of {}: {case}: {}", at + 1, cases.len(), told(&outcome));
            runs.add((*case).clone(), outcome)?;
        }
    }
    Ok(())
}

fn told(outcome: &Outcome) -> String {
    match (&outcome.failure, outcome.ms_per_token) {
        (Some(failure), _) => format!("failed: {failure}"),
        (None, Some(ms)) => format!("{ms:.0} ms per token"),
        (None, None) => "too short to tell".to_owned(),
    }
}
