//! The command line tool: one file a verb.

mod bench;
mod doctor;
mod experiment;
mod export;
mod inspect;
mod kernel_log;
mod model;
mod plan;
mod report;
mod run;
mod simulate;
mod synth;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs GGUF models larger than RAM at the speed of the drive, under an unmodified llama.cpp.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a program with its GGUF mappings paged.
    Run(Box<run::Args>),
    /// Say what this machine allows, and the command that mends each obstacle.
    Doctor(doctor::Args),
    /// Show a model's tensors, where they lie, and the order in which they are read.
    Inspect(inspect::Args),
    /// Write a random-weight model that llama.cpp loads.
    Synth(synth::Args),
    /// Show what running pagers do.
    Top(top::Args),
    /// Turn what scripts/kernel-trace recorded into a fault log, and count what the drive was asked for.
    KernelLog(kernel_log::Args),
    /// Compare stock and paged runs in interleaved rounds against the roofline.
    Bench(Box<bench::Args>),
    /// Run a matrix of models, memory sizes, swappiness and strategies, and sweep request sizes; resumable.
    Experiment(Box<experiment::Args>),
    /// Explain a fault log: where the time went, how the weights are read.
    Report(report::Args),
    /// Write a fault log in the format of another tool.
    Export(export::Args),
    /// Replay a fault log with other memory sizes, policies and drives.
    Simulate(simulate::Args),
    /// Say what to expect of a model on this machine, and what a target would take.
    Plan(plan::Args),
}

/// Parses the command line, runs the verb, and gives its exit code: the verb's own, or 1 after an
/// error (printed to stderr), or 2 for a command line that cannot be understood (clap's own).
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("GGPAGER_LOG", "warn"))
        .format_timestamp(None)
        .init();
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(*args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Synth(args) => synth::run(args),
        Verb::Top(args) => top::run(args),
        Verb::KernelLog(args) => kernel_log::run(args),
        Verb::Bench(args) => bench::run(*args),
        Verb::Experiment(args) => experiment::run(&args),
        Verb::Report(args) => report::run(args),
        Verb::Export(args) => export::run(args),
        Verb::Simulate(args) => simulate::run(args),
        Verb::Plan(args) => plan::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("ggpager: {error:#}");
        ExitCode::FAILURE
    })
}
