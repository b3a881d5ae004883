//! A model file as the pager holds it: reopened, so that it outlives the program's descriptor, a
//! rename, and an unlink.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Advice, AtFlags, Mode, OFlags, StatxFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::region::{PAGE, map_file_over};
use super::uffd::raise;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

/// An open model file.
#[derive(Debug)]
pub struct ModelFile {
    buffered: OwnedFd,
    direct: Option<OwnedFd>,
    identity: Identity,
    bytes: u64,
    modified_ns: u64,
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
    /// Opens the file behind `fd` again, once through the page cache and, if `direct` is asked for
    /// and the file system allows it with page alignment, once around it.
    pub fn reopen(fd: BorrowedFd<'_>, sharing: Sharing, direct: bool) -> io::Result<ModelFile> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let open = |extra: OFlags| rustix::fs::open(&*path, OFlags::RDONLY | OFlags::CLOEXEC | extra, Mode::empty());
        let buffered = raise(open(OFlags::empty()).or_else(|_| rustix::io::fcntl_dupfd_cloexec(fd, 3))?);
        let stat = rustix::fs::fstat(&buffered)?;
        let direct =
            if direct && allows_page_aligned_direct(&buffered) { open(OFlags::DIRECT).ok().map(raise) } else { None };
        Ok(ModelFile {
            buffered,
            direct,
            identity: Identity { dev: stat.st_dev, ino: stat.st_ino },
            bytes: stat.st_size.max(0) as u64,
            modified_ns: (stat.st_mtime as u64).wrapping_mul(1_000_000_000).wrapping_add(stat.st_mtime_nsec as u64),
            sharing,
        })
    }

    /// Size when it was opened, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When its content was changed last, before it was opened: nanoseconds since 1970.
    pub fn modified_ns(&self) -> u64 {
        self.modified_ns
    }

    /// Which file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The path as the kernel knows it now; empty where `/proc` does not say.
    pub fn path(&self) -> String {
        let link = format!("/proc/self/fd/{}", self.buffered.as_raw_fd());
        rustix::fs::readlink(link, Vec::new()).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
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

    /// Drops `range` of the file from the page cache after a buffered read.
    pub fn forget_cached(&self, range: Range<u64>) {
        let len = std::num::NonZeroU64::new(range.end - range.start);
        let _ = rustix::fs::fadvise(&self.buffered, range.start, len, Advice::DontNeed);
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
