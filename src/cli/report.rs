//! `ggpager report`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::config::ByteSize;
use crate::report::{self, Analysis, Report};
use crate::trace::Reader;

/// Columns of the output where it is no terminal.
const WIDTH: u16 = 160;

/// Arguments of `ggpager report`.
#[derive(clap::Args)]
pub struct Args {
    /// Fault logs (GGPAGER_TRACE); several stand beside each other.
    #[arg(required = true)]
    logs: Vec<PathBuf>,
    /// Write one page with all figures and pictures.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write all figures as JSON; `-` is stdout, in place of the tables.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What the drive can do in a second, such as 1.6GB; shares are of that [default: its rate in the
    /// log while it was busy].
    #[arg(long, value_name = "BYTES")]
    drive: Option<ByteSize>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let drive_bytes_per_s = args.drive.map(|rate| rate.0 as f64);
    let reports =
        args.logs.iter().map(|path| read(path, drive_bytes_per_s)).collect::<anyhow::Result<Vec<Report>>>()?;
    let names: Vec<String> = args.logs.iter().map(|path| name(path, &args.logs)).collect();
    if let Some(path) = &args.html {
        std::fs::write(path, report::page(&reports, &names))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = args.json.as_deref().filter(|_| !to_stdout) {
        let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
        write_json(BufWriter::new(file), &reports, &names)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let out = io::stdout().lock();
    let written = if to_stdout {
        write_json(BufWriter::new(out), &reports, &names)
    } else {
        let width = console::Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| columns.max(80));
        let mut out = out;
        out.write_all(report::terminal(&reports, &names, width).as_bytes())
    };
    match written {
        // The reader has seen enough: `ggpager report LOG | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).context("cannot write"),
    }
}

fn write_json(mut out: impl Write, reports: &[Report], names: &[String]) -> io::Result<()> {
    report::json(&mut out, reports, names)?;
    writeln!(out)?;
    out.flush()
}

fn read(path: &Path, drive_bytes_per_s: Option<f64>) -> anyhow::Result<Report> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let cannot = || format!("cannot read {}", path.display());
    let mut reader = Reader::new(file).with_context(cannot)?;
    let mut analysis = Analysis::new(reader.header().clone(), drive_bytes_per_s);
    analysis.read(&mut reader).with_context(cannot)?;
    Ok(analysis.finish(reader.cut_off()))
}

/// The file's name; the whole path where another log has the same.
fn name(path: &Path, all: &[PathBuf]) -> String {
    let same = all.iter().filter(|other| other.file_name() == path.file_name()).count();
    let short = path.file_name().filter(|_| same == 1).map(Path::new);
    short.unwrap_or(path).display().to_string()
}
