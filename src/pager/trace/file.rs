//! The file that a log goes to: a regular file of one process, of limited length, of which every
//! write happens as a whole or not at all.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::super::uffd::raise;

/// Room at the end for the number of lost records and the log's end, in bytes.
const RESERVE: u64 = 256;

/// See the module's page.
#[derive(Debug)]
pub(super) struct LogFile {
    file: OwnedFd,
    /// Device and inode number: a program may close descriptors that are not its own.
    identity: (u64, u64),
    /// End of the last whole write.
    end: u64,
    limit: u64,
    /// The reserve may be used.
    pub last_words: bool,
}

impl LogFile {
    /// Creates the file for this process alone, or empties it: `path`, where `%p` stands for the
    /// process' number, or `path.NUMBER`, which is then given back, while another process writes to
    /// that. No links, pipes or devices.
    pub fn create(path: &Path, limit: u64) -> io::Result<(LogFile, Option<PathBuf>)> {
        let pid = std::process::id();
        let path = with_pid(path, pid);
        let (file, other) = match open(&path) {
            Err(Errno::WOULDBLOCK) => {
                let mut other = path.into_os_string();
                other.push(format!(".{pid}"));
                (open(Path::new(&other))?, Some(other.into()))
            }
            opened => (opened?, None),
        };
        let stat = rustix::fs::fstat(&file)?;
        let identity = (stat.st_dev, stat.st_ino);
        Ok((LogFile { file: raise(file), identity, end: 0, limit, last_words: false }, other))
    }

    fn put(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        let stat = rustix::fs::fstat(&self.file)?;
        if (stat.st_dev, stat.st_ino) != self.identity {
            return Err(Errno::BADF);
        }
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[done..], self.end + done as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl io::Write for LogFile {
    /// Writes all of `bytes` or leaves the file as it was. `QuotaExceeded` at the limit.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let reserve = if self.last_words { 0 } else { RESERVE };
        if self.end + bytes.len() as u64 + reserve > self.limit {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if let Err(error) = self.put(bytes) {
            if error != Errno::BADF {
                let _ = rustix::fs::ftruncate(&self.file, self.end);
            }
            return Err(error.into());
        }
        self.end += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens `path` and makes it this process' own: `WOULDBLOCK` when it is another's.
fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    // NONBLOCK: a pipe is refused, not waited for.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    // Any other error: a file system without locks.
    if locked == Err(Errno::WOULDBLOCK) {
        return Err(Errno::WOULDBLOCK);
    }
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(&file, 0)?;
    Ok(file)
}

/// `path` with `pid` in place of every `%p`.
fn with_pid(path: &Path, pid: u32) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    while let Some(at) = bytes.windows(2).position(|pair| pair == b"%p") {
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(pid.to_string().as_bytes());
        bytes = &bytes[at + 2..];
    }
    out.extend_from_slice(bytes);
    OsString::from_vec(out).into()
}
