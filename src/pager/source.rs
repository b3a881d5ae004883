//! One place to read a model's bytes from: the file itself, or a copy of it on another drive.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, Mode, OFlags, StatxFlags};

use super::region::PAGE;
use super::uffd::raise;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// What tells that a file has been written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    bytes: u64,
    /// Time of the last write, in seconds and nanoseconds.
    written: (i64, u32),
}

/// An open file, reopened so that it outlives a descriptor of the program, a rename, and an unlink.
#[derive(Debug)]
pub struct Source {
    buffered: OwnedFd,
    direct: Option<OwnedFd>,
    identity: Identity,
    version: Version,
    path: PathBuf,
}

impl Source {
    /// Opens the file behind `fd` again, once through the page cache and, if `direct` is asked for
    /// and the file system allows it with page alignment, once around it.
    pub fn reopen(fd: BorrowedFd<'_>, direct: bool) -> io::Result<Source> {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let open = |extra: OFlags| rustix::fs::open(&*link, OFlags::RDONLY | OFlags::CLOEXEC | extra, Mode::empty());
        let buffered = raise(open(OFlags::empty()).or_else(|_| rustix::io::fcntl_dupfd_cloexec(fd, 3))?);
        let stat = rustix::fs::fstat(&buffered)?;
        let direct =
            if direct && allows_page_aligned_direct(&buffered) { open(OFlags::DIRECT).ok().map(raise) } else { None };
        Ok(Source {
            direct,
            identity: Identity { dev: stat.st_dev, ino: stat.st_ino },
            version: version(&buffered)?,
            path: std::fs::read_link(link).unwrap_or_default(),
            buffered,
        })
    }

    /// Size when it was opened, in bytes.
    pub fn bytes(&self) -> u64 {
        self.version.bytes
    }

    /// Which file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// When its content was changed last, before it was opened: nanoseconds since 1970.
    pub fn modified_ns(&self) -> u64 {
        let (seconds, nanoseconds) = self.version.written;
        (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds))
    }

    /// Its name when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor for reads into page-aligned memory, and whether it goes around the page cache.
    pub fn read_fd(&self) -> (RawFd, bool) {
        match &self.direct {
            Some(direct) => (direct.as_raw_fd(), true),
            None => (self.buffered.as_raw_fd(), false),
        }
    }

    /// The descriptor that goes through the page cache.
    pub fn buffered(&self) -> BorrowedFd<'_> {
        self.buffered.as_fd()
    }

    /// The descriptor that goes around the page cache, if there is one.
    pub fn direct(&self) -> Option<BorrowedFd<'_>> {
        self.direct.as_ref().map(AsFd::as_fd)
    }

    /// Reads through the page cache from now on.
    pub fn give_up_direct(&mut self) {
        self.direct = None;
    }

    /// Whether size and time of the last write are those of the opening. The kernel sets the time
    /// before it changes a byte, so bytes that were read before a "yes" are those of the opening; a
    /// write through a mapping of the file may escape. Asks no server (AT_STATX_DONT_SYNC).
    pub fn is_unchanged(&self) -> bool {
        version(&self.buffered).is_ok_and(|now| now == self.version)
    }

    /// Drops `range` of the file from the page cache after a buffered read.
    pub fn forget_cached(&self, range: Range<u64>) {
        let len = std::num::NonZeroU64::new(range.end - range.start);
        let _ = rustix::fs::fadvise(&self.buffered, range.start, len, Advice::DontNeed);
    }
}

fn version(file: &OwnedFd) -> io::Result<Version> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(file, "", flags, StatxFlags::SIZE | StatxFlags::MTIME)?;
    Ok(Version { bytes: stat.stx_size, written: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec) })
}

/// Whether O_DIRECT works with offsets, lengths and memory aligned to pages. Asks statx(2)
/// (STATX_DIOALIGN, Linux 6.1); where the kernel does not say, the open itself decides.
fn allows_page_aligned_direct(file: &OwnedFd) -> bool {
    let dioalign = StatxFlags::from_bits_retain(linux_raw_sys::general::STATX_DIOALIGN);
    match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, dioalign) {
        Ok(stat) if stat.stx_mask & dioalign.bits() != 0 => {
            let fits = |align: u32| align != 0 && align as usize <= PAGE;
            fits(stat.stx_dio_mem_align) && fits(stat.stx_dio_offset_align)
        }
        _ => true,
    }
}
