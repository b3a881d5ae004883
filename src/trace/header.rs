//! What a log says about the run, and about each model file in it.

use serde::{Deserialize, Serialize};

use crate::policy::{Block, BlockId};

/// The machine that a log was recorded on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release, as uname(2) says it.
    pub kernel: String,
    /// Processors that the program may use.
    pub processors: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

/// The first part of a log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What recorded it: `ggpager` and its version, or the name of another tool.
    pub recorder: String,
    /// The program that ran.
    pub program: String,
    /// The strategy's word.
    pub strategy: String,
    /// How blocks get into the view; empty where there is no such rung.
    pub fill_rung: String,
    /// How blocks are read.
    pub io_rung: String,
    /// Which touches report themselves.
    pub fault_mode: String,
    /// The pool's size at the start, in bytes.
    pub budget_bytes: u64,
    /// Start of the log's clock, in nanoseconds since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// The machine.
    pub machine: Machine,
}

/// A tensor of a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// What it is for: the word of [`gguf::Role`](crate::gguf::Role).
    pub role: String,
    /// Layer, if it belongs to one.
    pub layer: Option<u32>,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Experts whose matrices it holds one after the other; 0 for a dense tensor.
    pub experts: u32,
}

/// A mapped part of a model file. As JSON it has no blocks: a log keeps them apart, as runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// When it was mapped, on the log's clock.
    pub at_ns: u64,
    /// Its number; used again once it is unmapped.
    pub number: u32,
    /// The file.
    pub path: String,
    /// Length of the file, in bytes.
    pub file_bytes: u64,
    /// Device and inode number of the file.
    pub inode: (u64, u64),
    /// Last change of the file, in nanoseconds since 1970.
    pub modified_unix_ns: i64,
    /// Where in the file the view starts, in bytes.
    pub offset: u64,
    /// Length of the view, in bytes.
    pub bytes: u64,
    /// Number of its first block.
    pub first_block: BlockId,
    /// Its blocks, in file order.
    #[serde(skip)]
    pub blocks: Vec<Block>,
    /// The order in which its header foretells that its blocks are read in a cycle: indexes of
    /// `blocks`.
    #[serde(skip)]
    pub expected_order: Vec<u32>,
    /// The file's tensors in the order in which its header foretells that they are read; empty
    /// where the file is no GGUF file.
    pub tensors: Vec<Tensor>,
}
