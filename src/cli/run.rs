//! `ggpager run`.

use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::config::var;
use crate::launch::environment::{Environment, OmpSpin, llama_bench_repacks};
use crate::launch::line::{Progress, StatusLine};
use crate::launch::{library, program, settings, supervise};

/// A value that cannot be understood, as clap's own errors.
const EXIT_BAD_VALUE: u8 = 2;
/// The program exists but cannot be run; the program does not exist (env(1), POSIX shells).
const EXIT_CANNOT_RUN: u8 = 126;
const EXIT_NOT_FOUND: u8 = 127;

/// Arguments of `ggpager run`.
///
/// Options stay text here: they are parsed together with the variables, by the same parsers.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pager: PagerOptions,
    /// Rounds that OpenMP threads spin at a barrier before they sleep; `default` leaves it to the
    /// OpenMP runtime [default: 10000, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT is set]
    #[arg(long, value_name = "N|default")]
    omp_spin: Option<OmpSpin>,
    /// No hints and no status line on stderr
    #[arg(long)]
    quiet: bool,
    /// The status line on a terminal: `auto` draws it when the program's text goes elsewhere, `always`
    /// also between that text
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    progress: Progress,
    /// The program to run and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// One option for each `GGPAGER_*` variable; an option overrides its variable.
#[derive(clap::Args)]
struct PagerOptions {
    /// Memory for the weights: `auto`, a size (8G, 512MiB) or a share of the model (50%)
    #[arg(long, value_name = "SIZE")]
    budget: Option<String>,
    /// auto, passthrough, demand, readahead, learned, experts, kernel or observe
    #[arg(long, value_name = "WORD")]
    strategy: Option<String>,
    /// Write the fault log here; `%p` stands for the process' number
    #[arg(long, value_name = "FILE")]
    trace: Option<String>,
    /// Length of the fault log at most
    #[arg(long, value_name = "SIZE")]
    trace_limit: Option<String>,
    /// Size of what strategy `observe` sees touched, 4KiB to 2MiB
    #[arg(long, value_name = "SIZE")]
    grain: Option<String>,
    /// Write the JSON summary here at exit; `-` is stderr
    #[arg(long, value_name = "FILE")]
    stats: Option<String>,
    /// Glob of files to page besides GGUF files
    #[arg(long = "match", value_name = "GLOB")]
    matching: Option<String>,
    /// Force a way to fill the view: move, continue or copy
    #[arg(long, value_name = "WORD")]
    fill: Option<String>,
    /// Force a way to read: uring-direct, uring or pread
    #[arg(long, value_name = "WORD")]
    io: Option<String>,
    /// Reads in flight at most
    #[arg(long, value_name = "N")]
    queue_depth: Option<String>,
    /// Size of one read, 4KiB to 2MiB
    #[arg(long, value_name = "SIZE")]
    read_size: Option<String>,
    /// Copies of the model on other drives, or folders that hold them, separated by `:`
    #[arg(long, value_name = "PATHS")]
    replicas: Option<String>,
    /// Log level or filter, as in `info` or `ggpager=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl PagerOptions {
    /// The options given, by variable.
    fn by_variable(self) -> Vec<(&'static str, String)> {
        let options = [
            (var::BUDGET, self.budget),
            (var::STRATEGY, self.strategy),
            (var::TRACE, self.trace),
            (var::TRACE_LIMIT, self.trace_limit),
            (var::GRAIN, self.grain),
            (var::STATS, self.stats),
            (var::MATCH, self.matching),
            (var::FILL, self.fill),
            (var::IO, self.io),
            (var::QUEUE_DEPTH, self.queue_depth),
            (var::READ_SIZE, self.read_size),
            (var::REPLICAS, self.replicas),
            (var::LOG, self.log),
        ];
        options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Runs the program and ends as it ends: this returns only when it did not start.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let note = |text: String| {
        if !args.quiet {
            eprintln!("ggpager: {text}");
        }
    };
    let checked = match settings::check(std::env::vars_os(), &args.pager.by_variable()) {
        Ok(checked) => checked,
        Err(error) => {
            eprintln!("ggpager: {error}");
            return Ok(ExitCode::from(EXIT_BAD_VALUE));
        }
    };
    checked.unknown.iter().for_each(|name| note(format!("nothing reads the variable {name}")));

    let current = |name: &str| std::env::var_os(name);
    let mut environment = Environment::default();
    environment.preload(&library::find()?, current);
    environment.settings(&checked.variables);
    environment.keep_weights_mapped(current);
    environment.bound_spin(args.omp_spin.unwrap_or_default(), current);
    environment.remarks.iter().cloned().for_each(note);

    let (name, rest) = args.command.split_first().context("no program")?;
    if let Some(path) = program::resolve(name, std::env::var_os("PATH").as_deref()) {
        if let Some(obstacle) = program::obstacle(&path) {
            note(format!("{} {obstacle}: the loader ignores LD_PRELOAD, so nothing is paged", path.display()));
        }
        if llama_bench_repacks(&path, rest) {
            note("llama-bench copies weights out of the mapping unless it is told `--repack 0`".to_owned());
        }
    }
    let mut command = Command::new(name);
    command.args(rest).envs(&environment.set);
    let mut line = if args.quiet { None } else { StatusLine::new(args.progress) };
    match supervise::run(&mut command, line.as_mut()) {
        Ok(status) => supervise::end_as(status),
        Err(error) => {
            eprintln!("ggpager: {}: {error}", name.display());
            let missing = error.kind() == io::ErrorKind::NotFound;
            Ok(ExitCode::from(if missing { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN }))
        }
    }
}
