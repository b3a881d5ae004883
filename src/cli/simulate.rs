//! `ggpager simulate`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{BudgetSetting, ByteSize};
use crate::replay::drive::{self, Choice};
use crate::replay::report::{Recorded, Report};
use crate::replay::{Bench, Contender, Recording, Workload, matrix, svg, table};
use crate::trace::Reader;

/// Arguments of `ggpager simulate`.
#[derive(clap::Args)]
pub struct Args {
    /// The fault log (GGPAGER_TRACE)
    log: PathBuf,
    /// Memory for the model: sizes or shares of the model, separated by commas
    #[arg(
        short,
        long,
        value_delimiter = ',',
        default_value = "10%,20%,30%,40%,50%,60%,70%,80%,90%,100%",
        value_name = "SIZES"
    )]
    memory: Vec<String>,
    /// What manages it, separated by commas
    #[arg(
        short,
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "belady,experts,learned,readahead,demand,lru,fifo,clock,lfu,s3-fifo,mru",
        value_name = "WORDS"
    )]
    policy: Vec<Contender>,
    /// Drives, separated by commas: RATE[:LATENCY[:DEPTH]] as in 800MB/s:200us:16, or `measured` for the
    /// one that the log's reads show; with @RATE behind it, the drive is held to that by a control group
    #[arg(short, long, value_delimiter = ',', default_value = "measured", value_name = "DRIVES")]
    drive: Vec<Choice>,
    /// Size of the caches' reads, which then follow each other as in the kernel's readahead [default: a
    /// block at once]
    #[arg(long, value_name = "SIZE")]
    readahead: Option<ByteSize>,
    /// Cycles at the start of the log that do not count: warm-up and prompt
    #[arg(long, default_value_t = 2, value_name = "N")]
    skip: usize,
    /// Cycles to simulate, besides those in which the policies learn
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    cycles: u16,
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a picture here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.log.display().to_string();
    let file = fs::File::open(&args.log).with_context(|| format!("cannot open {name}"))?;
    let reader = Reader::new(file).with_context(|| format!("cannot read {name}"))?;
    let header = reader.header().clone();
    let recording = Recording::read(reader).with_context(|| format!("cannot read {name}"))?;
    let workload =
        Workload::new(&recording, args.skip, header.machine.processors as usize).with_context(|| name.clone())?;
    // Reads while the model was loaded have another pattern.
    let counted: Vec<_> = recording.reads.iter().filter(|read| read.start_ns >= workload.start_ns).copied().collect();
    let measured = |limit| drive::measured(&counted, limit).or_else(|| drive::measured(&recording.reads, limit));
    let drives = args.drive.iter().map(|choice| match choice {
        Choice::Told(drive) => Ok(*drive),
        Choice::Measured { limit_bytes_per_s } => {
            measured(*limit_bytes_per_s).context("the log holds no reads to measure the drive by: tell it with --drive")
        }
    });
    let drives = drives.collect::<anyhow::Result<Vec<_>>>()?;
    let memory = args.memory.iter().map(|text| memory_bytes(text, workload.model_bytes()));
    let memory = memory.collect::<anyhow::Result<Vec<_>>>()?;
    let readahead = args.readahead.map(|size| size.0);
    ensure!(readahead.is_none_or(|bytes| bytes >= 4096), "--readahead is to be 4 KiB at least");
    let bench = Bench::new(&workload, usize::from(args.cycles), readahead);
    let cases = matrix::cases(&memory, &args.policy, &drives);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cases {elapsed}")?;
    let progress = ProgressBar::new(cases.len() as u64).with_style(style);
    let done = matrix::run(&bench, &cases, || progress.inc(1));
    progress.finish_and_clear();
    let recorded = Recorded::new(name, &header, &workload, measured(None), recording.lost);
    let report = Report::new(recorded, done);
    print!("{}", table::terminal(&report));
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, svg::draw(&report)?).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn memory_bytes(text: &str, model_bytes: u64) -> anyhow::Result<u64> {
    match text.parse().with_context(|| "--memory")? {
        BudgetSetting::Bytes(size) => Ok(size.0),
        BudgetSetting::Percent(percent) => Ok((model_bytes as f64 * percent / 100.0) as u64),
        BudgetSetting::Auto => bail!("--memory takes sizes and shares; `auto` depends on the machine of the moment"),
    }
}
