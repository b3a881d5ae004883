//! What other threads ask of the pager thread.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::blocks::Piece;
use super::file::ModelFile;
use super::view::Kept;
use crate::budget::governor::Governor;
use crate::stats::Stats;

/// A request; each with an answer is waited for by its sender.
pub enum Command {
    /// Make a view.
    Map {
        /// The file.
        file: Arc<ModelFile>,
        /// File offset of the first byte; page aligned.
        offset: u64,
        /// Length in bytes.
        len: usize,
        /// What the file holds, in expected order of reading.
        pieces: Vec<Piece>,
        /// Where its order is kept, if it is.
        kept: Option<Kept>,
        /// The pool's size from now on, in bytes.
        budget_bytes: u64,
        /// Adjusts that while the program runs; `None` keeps it fixed.
        governor: Option<Box<Governor>>,
        /// The addresses.
        reply: Sender<io::Result<Range<usize>>>,
    },
    /// Unmap the live parts of a range; whole pages.
    Unmap {
        /// Addresses.
        range: Range<usize>,
        /// Answer.
        reply: Sender<io::Result<()>>,
    },
    /// Replace the live parts of a range by ordinary mappings.
    HandOver {
        /// Addresses.
        range: Range<usize>,
        /// Answer.
        reply: Sender<io::Result<()>>,
    },
    /// The program will read this soon.
    WillNeed {
        /// Addresses.
        range: Range<usize>,
    },
    /// What has happened so far.
    Stats {
        /// Answer.
        reply: Sender<Stats>,
    },
    /// Panic on the pager thread. Tests see what becomes of the program.
    Panic,
}
