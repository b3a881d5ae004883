//! The I/O ladder: how bytes get from the file into frames, and the one place where the pager
//! thread waits.

pub mod threads;
pub mod uring;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::config::IoRung;

/// One read of at most one block.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// File descriptor.
    pub fd: RawFd,
    /// Where the bytes go; page aligned.
    pub addr: usize,
    /// Bytes to read; whole pages.
    pub len: u32,
    /// File offset in bytes; page aligned.
    pub offset: u64,
    /// Comes back with the completion.
    pub token: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The userfaultfd has faults to read.
    Faults,
    /// The command eventfd was signalled (and has been reset).
    Commands,
    /// A read ended: bytes read, or a negative error number.
    Done {
        /// The read's token.
        token: u64,
        /// Bytes or `-errno`.
        result: i32,
    },
}

/// One rung: starts reads, and waits for reads, faults and commands together.
pub trait Io {
    /// Which rung this is.
    fn rung(&self) -> IoRung;

    /// Queues a read. The memory must stay valid and untouched until its [`Event::Done`]. Reads may
    /// be held back until the next [`Io::wait`].
    fn start(&mut self, read: Read) -> io::Result<()>;

    /// Submits what is queued, waits until something happens or `timeout` is over, and appends what
    /// happened to `events`.
    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()>;
}

/// Puts something around a rung; tests put faults in.
pub type WrapIo = dyn Fn(Box<dyn Io>) -> Box<dyn Io> + Send + Sync;

/// The best rung that this machine has, or the forced one, for `depth` reads in flight on each of
/// `drives` drives.
pub fn choose(
    forced: Option<IoRung>,
    uffd: RawFd,
    commands: RawFd,
    depth: u32,
    drives: u32,
) -> io::Result<Box<dyn Io>> {
    let rung = forced.unwrap_or(IoRung::UringDirect);
    if rung != IoRung::Pread {
        match uring::Uring::new(rung, uffd, commands, depth.saturating_mul(drives)) {
            Ok(uring) => return Ok(Box::new(uring)),
            Err(error) if forced.is_some() => return Err(error),
            Err(error) => log::info!("io_uring is not available: {error}"),
        }
    }
    Ok(Box::new(threads::Threads::new(uffd, commands, depth, drives)?))
}
