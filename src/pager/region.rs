//! Address space of the pager's own: reserved, aligned, released by raw system calls.
//!
//! rustix's Linux backend makes system calls directly, so nothing here comes back through the hooks
//! of the preloaded library.

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{Resource, getrlimit};

/// Size of a transparent huge page on x86-64 and (with 4 KiB pages) AArch64.
pub const HUGE: usize = 2 << 20;
/// Size of a page.
pub const PAGE: usize = 4096;

/// Address space that the pager takes beside view and pool, in bytes: slots are reserved in chunks, and
/// each of its threads has a stack and an arena. A part of it is left to the program.
const BESIDE_BYTES: u64 = 2 << 30;

/// Rounds up to whole pages.
pub const fn page_ceil(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE)
}

/// An anonymous private mapping, huge-page aligned (plus `skew` bytes), unmapped on drop.
#[derive(Debug)]
pub struct Region {
    start: usize,
    len: usize,
}

impl Region {
    /// Reserves `len` bytes (rounded up to pages) at an address that is `skew` modulo 2 MiB. No
    /// memory is allocated and no commit charge is made. Kept out of core dumps and of forked
    /// children.
    pub fn reserve(len: usize, skew: usize) -> io::Result<Region> {
        let len = page_ceil(len);
        let total = len + 2 * HUGE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::READ | ProtFlags::WRITE, flags)?
        } as usize;
        let start = base.next_multiple_of(HUGE) + skew % HUGE;
        let region = Region { start, len };
        unmap(base..start)?;
        unmap(start + len..base + total)?;
        advise(region.range(), Advice::LinuxDontFork)?;
        advise(region.range(), Advice::LinuxDontDump)?;
        Ok(region)
    }

    /// Maps `len` bytes of `file` from `offset`, shared, at an address that is `offset` modulo
    /// 2 MiB. Kept out of core dumps and forked children.
    pub fn map_shared(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Region> {
        let region = Region::reserve(len, offset as usize % HUGE)?;
        map_file_over(region.range(), file, offset, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        advise(region.range(), Advice::LinuxDontFork)?;
        advise(region.range(), Advice::LinuxDontDump)?;
        Ok(region)
    }

    /// First address.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The addresses.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Forgets the region without unmapping: somebody else owns the addresses now.
    pub fn leak(self) -> Range<usize> {
        let range = self.range();
        std::mem::forget(self);
        range
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = unmap(self.range());
    }
}

/// Address space for a view and a pool of so many bytes, with all that comes with them. Whoever takes
/// more than there is makes the program's own calls fail.
pub fn wanted_bytes(view_bytes: u64, pool_bytes: u64) -> u64 {
    view_bytes.saturating_add(pool_bytes).saturating_add(BESIDE_BYTES)
}

/// How much address space the process may still take, in bytes, by RLIMIT_AS (see getrlimit(2)); `None`
/// where nothing limits it.
pub fn left_bytes() -> io::Result<Option<u64>> {
    let Some(limit) = getrlimit(Resource::As).current else { return Ok(None) };
    // The first field of statm is the size in pages, see proc_pid_statm(5).
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other(format!("/proc/self/statm is {statm:?}")))?;
    Ok(Some(limit.saturating_sub(pages * PAGE as u64)))
}

/// munmap(2); an empty range is fine.
pub fn unmap(range: Range<usize>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    // SAFETY: callers pass ranges that they own: reserved above, or a view's, whose unmapping the
    // program has asked for.
    Ok(unsafe { rustix::mm::munmap(range.start as *mut c_void, range.len()) }?)
}

/// Replaces `range` by a mapping of `file` from `offset`, atomically.
pub fn map_file_over(
    range: Range<usize>,
    file: BorrowedFd<'_>,
    offset: u64,
    prot: ProtFlags,
    sharing: MapFlags,
) -> io::Result<()> {
    // SAFETY: MAP_FIXED replaces only addresses that the caller owns (a region, or part of a view
    // whose content the file holds).
    unsafe {
        rustix::mm::mmap(range.start as *mut c_void, range.len(), prot, sharing | MapFlags::FIXED, file, offset)?;
    }
    Ok(())
}

/// madvise(2) on addresses that the pager owns.
pub fn advise(range: Range<usize>, advice: Advice) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    // SAFETY: the advices used by the pager either change no content or (DONTNEED) drop pages of
    // ranges that the caller owns.
    Ok(unsafe { rustix::mm::madvise(range.start as *mut c_void, range.len(), advice) }?)
}

/// Asks for huge pages in `range` (or for none). A kernel built without them does not know the advice,
/// which is no error.
pub fn advise_huge(range: Range<usize>, huge: bool) -> io::Result<()> {
    match advise(range, if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage }) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}

/// Makes huge pages of the single pages in `range` (MADV_COLLAPSE, Linux 6.1).
pub fn collapse(range: Range<usize>) -> io::Result<()> {
    // SAFETY: changes no content. libc's own symbol could be hooked.
    let done = unsafe { libc::syscall(libc::SYS_madvise, range.start, range.len(), libc::MADV_COLLAPSE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the page at `page` is mapped and in memory (mincore(2)); true when the kernel does not say.
pub fn is_resident(page: usize) -> bool {
    let mut answer = 1u8;
    // SAFETY: one page asks for one byte, which is ours. libc's own symbol could be hooked.
    let failed = unsafe { libc::syscall(libc::SYS_mincore, page, PAGE, &mut answer) } != 0;
    failed || answer & 1 == 1
}

/// Makes sure that no page of `range` holds only zeros. A huge page that is split loses those (`try_to_map_unused_to_zeropage`
/// in Linux 6.12 and later): the shared page of zeros takes their place, and the next write gets some other page
/// of memory, zeroed anew and far from its neighbours.
///
/// # Safety
/// `range` is whole pages of memory that nobody else uses, whose content does not matter.
pub unsafe fn mark(range: Range<usize>) {
    for page in range.step_by(PAGE) {
        // SAFETY: the caller's promise.
        unsafe { ((page + PAGE - 1) as *mut u8).write_volatile(1) };
    }
}

/// Allocates the pages of `range` now instead of at the first touch. Linux 5.14; earlier kernels
/// give `EINVAL`.
pub fn populate(range: Range<usize>) -> io::Result<()> {
    advise(range, Advice::LinuxPopulateWrite)
}
