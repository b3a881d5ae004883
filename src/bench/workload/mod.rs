//! What the programs of a run do, and what was seen of it.
//!
//! A run is made of *turns*: a prompt and the text that goes on from it. llama-completion takes one
//! turn; servers take as many as they are asked for. A *lane* is all turns of one model.

pub mod completion;
pub mod server;

use std::process::ExitStatus;

use serde::Serialize;

use super::llama::Perf;
use super::sample::Sample;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// llama-completion with one model.
    Completion,
    /// One llama-server with a model and a draft model.
    Draft,
    /// Two llama-servers, asked in turn: what llama-server's router makes of two models, each in a
    /// process of its own with the same environment.
    Turns,
    /// Two llama-servers with the same model, asked by turns, the second of which writes a fault log: what the log
    /// costs.
    Log,
}

impl Workload {
    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Workload::Completion => "llama-completion",
            Workload::Draft | Workload::Turns | Workload::Log => "llama-server",
        }
    }

    /// Models that it takes.
    pub fn models(self) -> usize {
        match self {
            Workload::Completion | Workload::Log => 1,
            Workload::Draft | Workload::Turns => 2,
        }
    }

    /// What one pass over the weights gives: with a draft model a step may give several tokens.
    pub fn unit(self) -> &'static str {
        match self {
            Workload::Completion | Workload::Turns | Workload::Log => "token",
            Workload::Draft => "step",
        }
    }

    /// Processes of a run.
    pub fn processes(self) -> usize {
        match self {
            Workload::Completion | Workload::Draft => 1,
            Workload::Turns | Workload::Log => 2,
        }
    }

    /// What sets the lanes apart; nothing where that is their model.
    pub fn lane_names(self) -> &'static [&'static str] {
        match self {
            Workload::Log => &["without log", "with log"],
            Workload::Completion | Workload::Draft | Workload::Turns => &[],
        }
    }

    /// The models of each lane.
    pub fn lanes(self) -> &'static [&'static [usize]] {
        match self {
            Workload::Completion => &[&[0]],
            Workload::Draft => &[&[0, 1]],
            Workload::Turns => &[&[0], &[1]],
            Workload::Log => &[&[0], &[0]],
        }
    }
}

/// A turn as it was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Turn {
    /// Whose it is.
    pub lane: usize,
    /// When it was asked for; for llama-completion the start of the program.
    pub start: Sample,
    /// Each arrival of text.
    pub arrivals: Vec<Sample>,
    /// llama.cpp's own figures.
    pub perf: Perf,
    /// Tokens that the draft model proposed, and those that were taken.
    pub drafted: (u64, u64),
}

/// How a program ended.
#[derive(Debug)]
pub struct End {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to stderr: at most the last 4 MiB.
    pub stderr: String,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How each program ended.
    pub ends: Vec<End>,
    /// What they wrote: text, or numbers of tokens.
    pub text: Vec<u8>,
    /// The turns in their order.
    pub turns: Vec<Turn>,
    /// Samples of the whole run.
    pub timeline: Vec<Sample>,
    /// From start to end in seconds.
    pub wall_s: f64,
}
