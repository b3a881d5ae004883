//! `ggpager kernel-log`: what the kernel's tracepoints told, as a fault log and as numbers.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::config::{self, ByteSize};
use crate::ktrace::build;
use crate::ktrace::parse::Events;
use crate::ktrace::traffic::{self, Traffic};
use crate::trace::{Encoder, Reader};

/// Arguments of `ggpager kernel-log`.
#[derive(clap::Args)]
pub struct Args {
    /// What scripts/kernel-trace recorded.
    events: PathBuf,
    /// The model that it was recorded for.
    #[arg(long)]
    model: PathBuf,
    /// The fault log to write.
    #[arg(short, long)]
    output: PathBuf,
    /// Size of a block of the log: a power of two from 4 KiB to 2 MiB. The kernel maps 64 KiB at a time.
    #[arg(long, default_value = "64K", value_parser = config::grain)]
    grain: ByteSize,
    /// The pager's own log of the same run, to lay the kernel's numbers beside.
    #[arg(long, value_name = "LOG")]
    compare: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { events, model, output, grain, compare } = args;
    let read = |path: &Path| Ok::<_, anyhow::Error>(Events::read(BufReader::new(File::open(path)?))?);
    let events = read(&events).with_context(|| format!("cannot read {}", events.display()))?;
    write(&events, &model, grain, &output)?;
    let (of_model, others) = traffic::of_kernel(&events);
    let mut columns = vec![("kernel: model", of_model), ("kernel: elsewhere", others)];
    if let Some(path) = compare {
        let read = || Ok::<_, anyhow::Error>(traffic::of_log(Reader::new(File::open(&path)?)?)?);
        columns.push(("pager's log", read().with_context(|| format!("cannot read {}", path.display()))?));
    }
    print(&events, &columns).context("cannot write")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the fault log.
fn write(events: &Events, model: &Path, grain: ByteSize, output: &Path) -> anyhow::Result<()> {
    let built = build::build(events, model, grain.0 as usize);
    let (header, view, records) = built.with_context(|| format!("the model {}", model.display()))?;
    let written = File::create(output).and_then(|file| {
        let mut encoder = Encoder::new(BufWriter::new(file), &header)?;
        encoder.view(&view)?;
        records.iter().try_for_each(|record| encoder.record(record))?;
        encoder.finish()
    });
    written.with_context(|| format!("cannot write {}", output.display()))
}

fn print(events: &Events, columns: &[(&str, Traffic)]) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([""].into_iter().chain(columns.iter().map(|(name, _)| *name)));
    let mut row = |name: String, value: &dyn Fn(&Traffic) -> u64| {
        table.add_row([name].into_iter().chain(columns.iter().map(|(_, traffic)| value(traffic).to_string())));
    };
    row("bytes read".into(), &|traffic| traffic.bytes);
    row("requests".into(), &|traffic| traffic.requests);
    let mut sizes: Vec<u64> = columns.iter().flat_map(|(_, traffic)| traffic.sizes.keys().copied()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        row(format!("  to {}", ByteSize(size)), &|traffic| traffic.sizes.get(&size).copied().unwrap_or(0));
    }
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    let mut out = stdout().lock();
    writeln!(out, "{}", table.trim_fmt())?;
    let (minor, major) = events.faults;
    writeln!(out, "faults of the program: {minor} minor, {major} major; events lost: {}", events.lost)?;
    if let [(_, kernel), _, (_, log)] = columns
        && kernel.bytes > 0
    {
        let percent = 100.0 * (log.bytes as f64 / kernel.bytes as f64 - 1.0);
        writeln!(out, "the pager's log against the kernel: {percent:+.2} % of bytes")?;
    }
    Ok(())
}
