//! What the page cache holds of a file.
//!
//! cachestat(2) counts (Linux 6.5). It refuses files that the caller neither owns nor may write
//! (Linux 6.14), where mincore(2) says "yes" to everything (Linux 5.2); then, and on older kernels,
//! reads that may not wait (RWF_NOWAIT, Linux 4.14) ask about a sample of pages.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use linux_raw_sys::general::{__NR_cachestat, cachestat, cachestat_range};
use rustix::io::ReadWriteFlags;

use super::super::region::PAGE;

/// Pages asked about where the kernel does not count.
const SAMPLES: u64 = 64;

/// An answer about an extent of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Counted: so many pages of so many.
    Pages {
        /// In the page cache.
        present: u64,
        /// In the extent.
        all: u64,
    },
    /// A sample of pages: whether every one is there.
    Sample(bool),
}

impl Cached {
    /// Asks about `extent` of `file`, in bytes; it must not be empty.
    pub fn ask(file: BorrowedFd<'_>, extent: Range<u64>) -> Cached {
        let all = extent.end.div_ceil(PAGE as u64) - extent.start / PAGE as u64;
        match count(file, extent.clone()) {
            Ok(present) => Cached::Pages { present, all },
            Err(_) => Cached::Sample(sample(file, extent)),
        }
    }

    /// Whether everything is there, as far as is known.
    pub fn is_all(self) -> bool {
        match self {
            Cached::Pages { present, all } => present >= all,
            Cached::Sample(all) => all,
        }
    }
}

/// Pages of `extent` that are in the page cache.
pub fn count(file: BorrowedFd<'_>, extent: Range<u64>) -> io::Result<u64> {
    let range = cachestat_range { off: extent.start, len: extent.end - extent.start };
    let mut answer = cachestat { nr_cache: 0, nr_dirty: 0, nr_writeback: 0, nr_evicted: 0, nr_recently_evicted: 0 };
    // SAFETY: two structures of the kernel's own layout, of which it writes the second; no flags.
    let result =
        unsafe { libc::syscall(i64::from(__NR_cachestat), file.as_raw_fd(), &raw const range, &raw mut answer, 0) };
    if result == 0 { Ok(answer.nr_cache) } else { Err(io::Error::last_os_error()) }
}

/// Whether pages spread evenly over `extent`, the first and the last among them, can be read at once.
pub(super) fn sample(file: BorrowedFd<'_>, extent: Range<u64>) -> bool {
    let (first, last) = (extent.start / PAGE as u64, (extent.end - 1) / PAGE as u64);
    (0..SAMPLES).all(|index| {
        let page = first + (last - first) * index / (SAMPLES - 1);
        let mut byte = [0u8];
        let buffers = &mut [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(file, buffers, page * PAGE as u64, ReadWriteFlags::NOWAIT) == Ok(1)
    })
}
