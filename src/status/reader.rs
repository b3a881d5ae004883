//! Reading pages, of running processes and of those that have left one behind.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{FileType, OFlags};
use rustix::time::{ClockId, clock_gettime};

use super::PERIOD;
use super::folder::{self, Folder};
use super::page::{self, BYTES, MAGIC, MAGIC_AT, SEQUENCE_AT, Snapshot, VERSION, VERSION_AT, WORDS, Words};
use super::process::Identity;

/// Looks at a page that is being written, before giving up: each is longer than a writing takes.
const LOOKS: u32 = 100;

/// Why a page says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The process has no page: it does not page, or has ended.
    #[error("there is no pager in process {0}")]
    None(u32),
    /// The page is that of a process that has ended.
    #[error("the process has ended")]
    Stale,
    /// The page cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is no page.
    #[error("not a page of ggpager: {0}")]
    Foreign(&'static str),
    /// The page is of another version of ggpager.
    #[error("the page has version {0}, this is a ggpager for version {VERSION}")]
    Version(u64),
    /// The writer was stopped in the middle of writing.
    #[error("the page is being written")]
    Busy,
}

/// Reads the page of process `pid`, of this user.
pub fn read(pid: u32) -> Result<Snapshot, ReadError> {
    read_in(&folder::everywhere(), pid)
}

/// All pages of this user by process id, and why one cannot be read. Removes stale ones.
pub fn list() -> Vec<(u32, Result<Snapshot, ReadError>)> {
    list_in(&folder::everywhere())
}

/// As [`read`], in these folders.
pub fn read_in(folders: &[PathBuf], pid: u32) -> Result<Snapshot, ReadError> {
    let own = Identity::own()?;
    for folder in folders {
        match Folder::open(folder) {
            Ok(folder) => match read_entry(&folder, pid, &own) {
                Err(ReadError::None(_)) => {}
                read => return read,
            },
            Err(error) => note_refused(folder, &error),
        }
    }
    Err(ReadError::None(pid))
}

/// As [`list`], in these folders.
pub fn list_in(folders: &[PathBuf]) -> Vec<(u32, Result<Snapshot, ReadError>)> {
    let Ok(own) = Identity::own() else { return Vec::new() };
    let mut all = Vec::new();
    for folder in folders {
        match Folder::open(folder) {
            Ok(folder) => {
                let read = folder.pids().into_iter().map(|pid| (pid, read_entry(&folder, pid, &own)));
                all.extend(read.filter(|(_, read)| !matches!(read, Err(ReadError::Stale | ReadError::None(_)))));
            }
            Err(error) => note_refused(folder, &error),
        }
    }
    all
}

fn note_refused(folder: &Path, error: &io::Error) {
    if error.kind() != io::ErrorKind::NotFound {
        log::debug!("no pages are looked for in {}: {error}", folder.display());
    }
}

/// Removes what processes that have ended left in `folder`. Pages that cannot be judged stay.
pub(super) fn sweep(folder: &Folder, own: &Identity) {
    for pid in folder.pids() {
        let _ = read_entry(folder, pid, own);
    }
}

/// Reads the entry of `pid`, and removes it when it is stale.
fn read_entry(folder: &Folder, pid: u32, own: &Identity) -> Result<Snapshot, ReadError> {
    let name = pid.to_string();
    let file = match folder.open_entry(&name, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::None(pid)),
        file => file?,
    };
    let read = read_file(&file);
    // A page without a valid head may be one that is being made.
    let is_alive = match &read {
        Ok((identity, _)) if identity.pid != pid && identity.pid_namespace == own.pid_namespace => false,
        Ok((identity, _)) => identity.is_alive(own),
        Err(_) => super::process::start_ticks(pid)?.is_some(),
    };
    if !is_alive {
        folder.remove(&name);
        return Err(ReadError::Stale);
    }
    read?.1
}

/// Whose page the entry of `pid` is; `None` where none can be read.
pub(super) fn identity_of(folder: &Folder, pid: u32) -> Option<Identity> {
    let file = folder.open_entry(&pid.to_string(), OFlags::RDONLY).ok()?;
    read_file(&file).ok().map(|(identity, _)| identity)
}

/// The identity, as far as there is one, and what else the page says.
fn read_file(file: &OwnedFd) -> Result<(Identity, Result<Snapshot, ReadError>), ReadError> {
    let stat = rustix::fs::fstat(file).map_err(io::Error::from)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() || stat.st_uid != folder::own_uid() {
        return Err(ReadError::Foreign("not a file of this user"));
    }
    for look in 0..LOOKS {
        if look > 0 {
            std::thread::yield_now();
        }
        let before = sequence(file)?;
        // See the module's page for the order.
        fence(Ordering::Acquire);
        let words = whole(file)?;
        fence(Ordering::Acquire);
        let after = sequence(file)?;
        let identity = page::identity(&words).ok_or(ReadError::Foreign("the first bytes are others"))?;
        if words[VERSION_AT] != VERSION {
            return Ok((identity, Err(ReadError::Version(words[VERSION_AT]))));
        }
        if before == after && before % 2 == 0 {
            let (texts, counters) = page::decode(&words);
            let now = monotonic_ns();
            let at_ns = counters.published_ns.clamp(now.saturating_sub(PERIOD.as_nanos() as u64), now);
            return Ok((identity, Ok(Snapshot { identity, texts, counters, at_ns })));
        }
        debug_assert_eq!(words[MAGIC_AT], MAGIC);
        if look + 1 == LOOKS {
            return Ok((identity, Err(ReadError::Busy)));
        }
    }
    Err(ReadError::Busy)
}

fn sequence(file: &OwnedFd) -> Result<u64, ReadError> {
    let mut bytes = [0; 8];
    read_at(file, &mut bytes, SEQUENCE_AT as u64 * 8)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn whole(file: &OwnedFd) -> Result<Words, ReadError> {
    let mut bytes = [0; BYTES];
    read_at(file, &mut bytes, 0)?;
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    }
    Ok(words)
}

fn read_at(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
    let len = buffer.len();
    match rustix::io::pread(file.as_fd(), buffer, offset).map_err(io::Error::from)? {
        read if read == len => Ok(()),
        _ => Err(ReadError::Foreign("too short")),
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the same clock in every process.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
