//! Why a model cannot be written.

use std::path::PathBuf;

use super::arch::Arch;
use super::quant::Quant;
use crate::config::ByteSize;

/// Why a model cannot be planned or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// MXFP4 is for experts.
    #[error("MXFP4 quantizes expert matrices and {} has none: take qwen3moe, deepseek2 or gpt-oss", .0.name())]
    NoExperts(Arch),
    /// A hyperparameter that this architecture cannot have.
    #[error("{what} {value} does not go with {}: {why}", arch.name())]
    Parameter {
        /// The architecture.
        arch: Arch,
        /// The hyperparameter, as the command line calls it.
        what: &'static str,
        /// The value asked for.
        value: u64,
        /// What would be accepted.
        why: &'static str,
    },
    /// Routers cannot behave like that.
    #[error("{what} {value} does not go with {}: {why}", arch.name())]
    Routing {
        /// The architecture.
        arch: Arch,
        /// The value's name, as the command line calls it.
        what: &'static str,
        /// The value asked for.
        value: f64,
        /// What would be accepted.
        why: &'static str,
    },
    /// A row is no whole number of quantization blocks.
    #[error("{quant:?} does not fit {tensor}: its rows have {row} elements, no multiple of {block}")]
    Row {
        /// The quantization asked for.
        quant: Quant,
        /// The first tensor that does not fit.
        tensor: String,
        /// Elements of a row.
        row: u64,
        /// Elements of a block.
        block: u64,
    },
    /// No shape comes within 3 % of the size.
    #[error("no {} model of these parameters has {asked}; the nearest has {nearest}", arch.name())]
    Size {
        /// The architecture.
        arch: Arch,
        /// The size asked for.
        asked: ByteSize,
        /// The size of the best candidate.
        nearest: ByteSize,
    },
    /// More shards than `split.count`, a u16, can hold.
    #[error("{shards} shards are too many, 65535 at most: take a larger --split-max-size")]
    Shards {
        /// Shards that it would take.
        shards: usize,
    },
    /// The output is there already.
    #[error("{} exists (--force replaces it)", .0.display())]
    Exists(PathBuf),
    /// The file system is too full.
    #[error("{} needs {needed} and its file system has {free} free", path.display())]
    Space {
        /// The file, or the first of them.
        path: PathBuf,
        /// Bytes that will be written.
        needed: ByteSize,
        /// Bytes that an ordinary user may still write.
        free: ByteSize,
    },
    /// A system call failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller's progress function asked to stop.
    #[error("interrupted, nothing was kept")]
    Interrupted,
}
