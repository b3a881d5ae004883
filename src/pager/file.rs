//! A model file as the pager holds it: the file that the program mapped, and its copies on other
//! drives.

use std::io;
use std::ops::{Deref, Range};
use std::os::fd::BorrowedFd;

use rustix::mm::{MapFlags, ProtFlags};

use super::region::map_file_over;
use super::source::Source;

pub use super::source::Identity;

/// An open model file. Stands for its original where one file is meant.
#[derive(Debug)]
pub struct ModelFile {
    /// The original first.
    sources: Vec<Source>,
    sharing: Sharing,
}

/// How the program asked for the file to be mapped; a hand-over maps it the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// MAP_SHARED.
    Shared,
    /// MAP_PRIVATE: the program may make it writable later.
    Private,
}

impl ModelFile {
    /// Opens the file behind `fd` again, see [`Source::reopen`].
    pub fn reopen(fd: BorrowedFd<'_>, sharing: Sharing, direct: bool) -> io::Result<ModelFile> {
        Ok(ModelFile { sources: vec![Source::reopen(fd, direct)?], sharing })
    }

    /// Also reads from `copies`, which hold the same bytes.
    pub fn add_copies(&mut self, copies: Vec<Source>) {
        self.sources.extend(copies);
    }

    /// Where its bytes can be read, the original first.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Replaces `range` of addresses by an ordinary mapping of the file from `offset`: from here on
    /// the kernel answers touches, with the bytes or with SIGBUS, as it would have without a pager.
    pub fn map_over(&self, range: Range<usize>, offset: u64) -> io::Result<()> {
        let flags = match self.sharing {
            Sharing::Shared => MapFlags::SHARED,
            Sharing::Private => MapFlags::PRIVATE,
        };
        map_file_over(range, self.buffered(), offset, ProtFlags::READ, flags)
    }
}

impl Deref for ModelFile {
    type Target = Source;

    fn deref(&self) -> &Source {
        &self.sources[0]
    }
}
