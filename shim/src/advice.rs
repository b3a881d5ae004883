//! Hooks for calls that advise, lock or flush: on a view they would pull in the whole file or drop
//! what the pager holds, so they succeed without effect. Small WILLNEEDs are hints for the readahead.
//!
//! `mlockall` is not hooked: with `MCL_FUTURE` the kernel locks pages as they appear in a view, and
//! their eviction unlocks them again.

use std::ffi::{c_int, c_uint, c_void};

use ggpager_core::pager::views;
use libc::{off_t, size_t};

use crate::hook::{Verdict, hooks, raw};
use crate::maps::{self, PAGE, outside_of_views};
use crate::{models, sys};

hooks! {
    /// `madvise(2)`: swallowed on a view, after the kernel's own checks.
    fn madvise(addr: *mut c_void, len: size_t, advice: c_int) -> c_int {
        early: raw!(SYS_madvise, addr, len, advice; |_| 0),
        decide: match advise(addr as usize, len, advice) {
            Some(0) => Verdict::Done(0),
            Some(error) => Verdict::Fail(error),
            None => Verdict::Pass,
        },
        panicked: maps::unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `posix_madvise(3)`: returns the error number and leaves errno alone.
    fn posix_madvise(addr: *mut c_void, len: size_t, advice: c_int) -> c_int {
        early: match advice {
            // As glibc has it: the kernel's DONTNEED would throw away private changes.
            libc::POSIX_MADV_DONTNEED => 0,
            // SAFETY: the program's own call.
            _ => unsafe { sys::call(libc::SYS_madvise, [addr as usize, len, advice as usize, 0, 0, 0]) }
                .map_or_else(|error| error, |_| 0),
        },
        // The numbers of the five advices that POSIX knows are Linux' own.
        decide: match advise(addr as usize, len, advice) {
            Some(_) if !(0..=libc::POSIX_MADV_DONTNEED).contains(&advice) => Verdict::Done(libc::EINVAL),
            Some(error) => Verdict::Done(error),
            None => Verdict::Pass,
        },
        panicked: maps::unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `posix_fadvise(2)`: on a file that a view serves, advice would fill the page cache with it.
    fn posix_fadvise(fd: c_int, offset: off_t, len: off_t, advice: c_int) -> c_int {
        early: fadvise(fd, offset, len, advice),
        decide: advise_file(fd, len, advice),
    }

    /// `posix_fadvise64(2)`: the same function under its other name.
    fn posix_fadvise64(fd: c_int, offset: off_t, len: off_t, advice: c_int) -> c_int {
        early: fadvise(fd, offset, len, advice),
        decide: advise_file(fd, len, advice),
    }

    /// `mlock(2)`: a view cannot be locked, and does not need to be: it is never swapped out.
    fn mlock(addr: *const c_void, len: size_t) -> c_int {
        early: raw!(SYS_mlock, addr, len; |_| 0),
        decide: lock(libc::SYS_mlock, addr as usize, len, 0),
        panicked: maps::unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `mlock2(2)`: see `mlock`.
    fn mlock2(addr: *const c_void, len: size_t, flags: c_uint) -> c_int {
        early: raw!(SYS_mlock2, addr, len, flags; |_| 0),
        decide: lock(libc::SYS_mlock2, addr as usize, len, flags as usize),
        panicked: maps::unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `munlock(2)`: see `mlock`.
    fn munlock(addr: *const c_void, len: size_t) -> c_int {
        early: raw!(SYS_munlock, addr, len; |_| 0),
        decide: lock(libc::SYS_munlock, addr as usize, len, 0),
        panicked: maps::unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `msync(2)`: a view has nothing to write back.
    fn msync(addr: *mut c_void, len: size_t, flags: c_int) -> c_int {
        early: raw!(SYS_msync, addr, len, flags; |_| 0),
        decide: match is_sync(addr as usize, flags) {
            true => outside_of_views(addr as usize, len, |start, len| {
                // SAFETY: the program's own call, on a part of its range.
                unsafe { sys::call(libc::SYS_msync, [start, len, flags as usize, 0, 0, 0]) }.map(drop)
            }),
            false => Verdict::Pass,
        },
    }
}

/// What the kernel answers to an advice on a read-only file mapping, as far as it is not the range:
/// `None` for success.
fn refusal(advice: c_int) -> Option<c_int> {
    match advice {
        libc::MADV_NORMAL..=libc::MADV_DONTNEED
        | libc::MADV_DONTFORK
        | libc::MADV_DOFORK
        | libc::MADV_MERGEABLE
        | libc::MADV_UNMERGEABLE
        | libc::MADV_HUGEPAGE
        | libc::MADV_NOHUGEPAGE
        | libc::MADV_DONTDUMP
        | libc::MADV_DODUMP
        | libc::MADV_KEEPONFORK
        | libc::MADV_COLD
        | libc::MADV_PAGEOUT
        | libc::MADV_POPULATE_READ
        | libc::MADV_COLLAPSE => None,
        libc::MADV_REMOVE => Some(libc::EACCES),
        libc::MADV_HWPOISON | libc::MADV_SOFT_OFFLINE => Some(libc::EPERM),
        _ => Some(libc::EINVAL),
    }
}

/// The error number of an advice on a range that touches a view (0 for success), `None` for any
/// other range.
fn advise(start: usize, len: usize, advice: c_int) -> Option<c_int> {
    let rounded = len.checked_next_multiple_of(PAGE)?;
    if rounded == 0 || !views::overlaps(start, rounded) || !crate::fork::is_own_memory() {
        return None;
    }
    if !start.is_multiple_of(PAGE) {
        return Some(libc::EINVAL);
    }
    if let Some(error) = refusal(advice) {
        return Some(error);
    }
    if advice == libc::MADV_WILLNEED {
        maps::on_views(|pager| pager.will_need(start, rounded));
    }
    let verdict = outside_of_views(start, rounded, |start, len| {
        // SAFETY: the program's own call, on a part of its range.
        unsafe { sys::call(libc::SYS_madvise, [start, len, advice as usize, 0, 0, 0]) }.map(drop)
    });
    match verdict {
        Verdict::Fail(error) => Some(error),
        _ => Some(0),
    }
}

fn fadvise(fd: c_int, offset: off_t, len: off_t, advice: c_int) -> c_int {
    // SAFETY: the program's own call; it touches no memory.
    let result =
        unsafe { sys::call(libc::SYS_fadvise64, [fd as usize, offset as usize, len as usize, advice as usize, 0, 0]) };
    result.map_or_else(|error| error, |_| 0)
}

fn advise_file(fd: c_int, len: off_t, advice: c_int) -> Verdict<c_int> {
    let known = (libc::POSIX_FADV_NORMAL..=libc::POSIX_FADV_NOREUSE).contains(&advice);
    // Dropping the file from the page cache is always welcome, and errors are the kernel's to find.
    if !known || advice == libc::POSIX_FADV_DONTNEED || len < 0 || !models::is_paged(fd) {
        return Verdict::Pass;
    }
    Verdict::Done(0)
}

fn lock(call: libc::c_long, start: usize, len: usize, flags: usize) -> Verdict<c_int> {
    if flags & !(libc::MLOCK_ONFAULT as usize) != 0 {
        return Verdict::Pass;
    }
    outside_of_views(start, len, |start, len| {
        // SAFETY: the program's own call, on a part of its range.
        unsafe { sys::call(call, [start, len, flags, 0, 0, 0]) }.map(drop)
    })
}

/// Whether the kernel would get as far as looking at the range.
fn is_sync(start: usize, flags: c_int) -> bool {
    let all = libc::MS_ASYNC | libc::MS_SYNC | libc::MS_INVALIDATE;
    let both = libc::MS_ASYNC | libc::MS_SYNC;
    start.is_multiple_of(PAGE) && flags & !all == 0 && flags & both != both
}
