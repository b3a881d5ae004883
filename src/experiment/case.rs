//! One run of the matrix: what is varied and what it all is run with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bench::pin::Pin;
use crate::bench::plan::{Readahead, Who};
use crate::config::Strategy;
use crate::launch::environment::OmpSpin;

/// Who reads the weights, as a word: `memory` (everything cached, no limits), `stock-128` (KiB of
/// readahead), `stock-own`, or a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Way(pub Who);

impl Way {
    /// True where the pager makes the reads, so that their size and number can be told.
    pub fn has_reads_of_its_own(self) -> bool {
        matches!(self.0, Who::Paged(strategy, _) if !matches!(strategy, Strategy::Kernel | Strategy::Passthrough))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Who::InMemory => f.write_str("memory"),
            Who::Stock(Readahead::Own) => f.write_str("stock-own"),
            Who::Stock(Readahead::KiB(kib)) => write!(f, "stock-{kib}"),
            Who::Paged(strategy, _) => write!(f, "{strategy}"),
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "memory" {
            return Ok(Way(Who::InMemory));
        }
        if let Some(readahead) = text.strip_prefix("stock-") {
            return Ok(Way(Who::Stock(readahead.parse()?)));
        }
        let error = |error| format!("{error}, nor memory, stock-own or stock-KIB");
        text.parse().map(|strategy| Way(Who::Paged(strategy, OmpSpin::default()))).map_err(error)
    }
}

/// What keeps weights in memory besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Lock {
    /// Nothing.
    None,
    /// llama.cpp's own `--mlock`.
    Llama,
    /// Another process locks a part of the file.
    Part(Pin),
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lock::None => f.write_str("none"),
            Lock::Llama => f.write_str("llama"),
            Lock::Part(pin) => write!(f, "{pin}"),
        }
    }
}

impl FromStr for Lock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "none" => Ok(Lock::None),
            "llama" => Ok(Lock::Llama),
            part => part.parse().map(Lock::Part).map_err(|error| format!("{error}, nor none or llama")),
        }
    }
}

/// Lets a type with [`FromStr`] and [`fmt::Display`] be a cell of a table.
macro_rules! cell {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}
cell!(Way);
cell!(Lock);

/// What all cases of a figure share.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The drive's rate is held to this; free where there is none.
    pub drive_bytes_per_s: Option<u64>,
    /// Memory besides the model's share: the program, its KV cache and its compute buffers.
    pub room_bytes: u64,
    /// Length of the context in tokens.
    pub context: u32,
    /// Tokens to generate.
    pub tokens: u32,
    /// Compute threads.
    pub threads: u32,
}

/// One run. Two runs with the same case are the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The model's name.
    pub model: String,
    /// Its size.
    pub model_bytes: u64,
    /// Memory for it, in percent of its size; the pager's budget.
    pub memory_percent: u32,
    /// Swappiness, with swap; no swap where there is none.
    pub swappiness: Option<u32>,
    /// Who reads the weights.
    pub way: Way,
    /// What is locked in memory.
    pub lock: Lock,
    /// Forced size of one read; the pager's own where there is none.
    pub read_bytes: Option<u64>,
    /// Forced number of reads in flight; the pager's own where there is none.
    pub depth: Option<u32>,
    /// See [`Setup`].
    pub drive_bytes_per_s: Option<u64>,
    /// See [`Setup`].
    pub room_bytes: u64,
    /// See [`Setup`].
    pub context: u32,
    /// See [`Setup`].
    pub tokens: u32,
    /// See [`Setup`].
    pub threads: u32,
    /// Which repetition, counted from 0.
    pub round: u32,
}

impl Case {
    /// Names of the fields, in their order.
    pub const COLUMNS: [&'static str; 14] = [
        "model",
        "model_bytes",
        "memory_percent",
        "swappiness",
        "way",
        "lock",
        "read_bytes",
        "depth",
        "drive_bytes_per_s",
        "room_bytes",
        "context",
        "tokens",
        "threads",
        "round",
    ];

    /// Memory for the model.
    pub fn share_bytes(&self) -> u64 {
        (u128::from(self.model_bytes) * u128::from(self.memory_percent) / 100) as u64
    }

    /// What it shares with others.
    pub fn setup(&self) -> Setup {
        Setup {
            drive_bytes_per_s: self.drive_bytes_per_s,
            room_bytes: self.room_bytes,
            context: self.context,
            tokens: self.tokens,
            threads: self.threads,
        }
    }

    /// True when nothing but the memory and who reads is out of the ordinary.
    pub fn is_plain(&self) -> bool {
        self.lock == Lock::None && self.read_bytes.is_none() && self.depth.is_none()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} % in memory, {}", self.model, self.memory_percent, self.way)?;
        if let Some(swappiness) = self.swappiness {
            write!(f, ", swappiness {swappiness}")?;
        }
        if self.lock != Lock::None {
            write!(f, ", locked {}", self.lock)?;
        }
        if let Some(bytes) = self.read_bytes {
            write!(f, ", reads of {} KiB", bytes >> 10)?;
        }
        if let Some(depth) = self.depth {
            write!(f, ", {depth} in flight")?;
        }
        write!(f, ", round {}", self.round + 1)
    }
}
