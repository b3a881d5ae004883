//! The pager: views, frames, the pager thread and its rungs.

pub mod blocks;
pub mod file;
pub mod fill;
pub mod io;
pub mod region;
pub mod uffd;
pub mod views;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::config::Settings;
use crate::stats::Stats;

/// Why a mapping does not become a view.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The ordinary mapping serves this file best (it fits, or the strategy says so).
    #[error("the ordinary mapping serves this file best")]
    Passthrough,
    /// A system call failed.
    #[error("{call}: {source}")]
    Sys {
        /// Which call.
        call: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// The pager thread has ended; every view has been handed over to the kernel.
    #[error("the pager has stopped")]
    Stopped,
}

/// A handle to the pager of this process: cheap to share, usable from any thread.
pub struct Pager {
    _settings: Settings,
}

impl Pager {
    /// Makes the pager; its thread starts with the first view. Never fails: what this machine
    /// refuses shows in the first [`Pager::map`].
    pub fn new(settings: Settings) -> Arc<Pager> {
        Arc::new(Pager { _settings: settings })
    }

    /// Makes a view of `len` bytes (not rounded to pages) of `file` from `offset` (page aligned).
    /// The file is reopened: `file` may be closed afterwards. Returns the view's address.
    pub fn map(&self, file: BorrowedFd<'_>, offset: u64, len: usize) -> Result<*mut u8, MapError> {
        let _ = (file, offset, len);
        Err(MapError::Passthrough)
    }

    /// Unmaps every part of `start..start + len` that lies in a view. Whole pages: `len` is rounded
    /// up. Parts outside of views are not touched.
    pub fn unmap(&self, start: usize, len: usize) -> std::io::Result<()> {
        let _ = (start, len);
        Ok(())
    }

    /// Replaces the parts of `start..start + len` that lie in a view by ordinary mappings of their
    /// files, at the same address and with the same content.
    pub fn hand_over(&self, start: usize, len: usize) -> std::io::Result<()> {
        let _ = (start, len);
        Ok(())
    }

    /// The program says that it will read `start..start + len` soon: read ahead if that is small.
    /// Never blocks.
    pub fn will_need(&self, start: usize, len: usize) {
        let _ = (start, len);
    }

    /// Counts bytes that the program itself read from a model file.
    pub fn program_read(&self, bytes: usize) {
        let _ = bytes;
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// In a forked child: replaces every view (which the child does not inherit) by an ordinary
    /// mapping of its file, and makes this handle inert. Calls nothing but system calls; takes no
    /// lock.
    pub fn after_fork_in_child(&self) {}
}
