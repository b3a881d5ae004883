//! `ggpager export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::export::{self, Format};
use crate::trace::Reader;

/// Arguments of `ggpager export`.
#[derive(clap::Args)]
pub struct Args {
    /// The fault log (GGPAGER_TRACE).
    log: PathBuf,
    /// What to write.
    #[arg(long, short, value_enum)]
    format: Format,
    /// The file to write [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = File::open(&args.log).with_context(|| format!("cannot open {}", args.log.display()))?;
    let cannot = || format!("cannot read {}", args.log.display());
    let reader = Reader::new(file).with_context(cannot)?;
    let header = reader.header().clone();
    let items = reader.map(|item| item.with_context(cannot));
    let out: Box<dyn Write + Send> = match &args.out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot create {}", path.display()))?),
        None => Box::new(io::stdout()),
    };
    match export::write(args.format, &header, items, BufWriter::new(out)) {
        // The reader has seen enough: `ggpager export LOG --format csv | head`.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
