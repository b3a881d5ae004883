//! Hooks that make, change and end mappings.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use ggpager_core::pager::file::Sharing;
use ggpager_core::pager::{MapError, Pager, load, views};
use libc::{off_t, size_t};

use crate::hook::{Verdict, hooks, raw};
use crate::{engine, models, sys};

/// Smaller mappings are left alone: they fit.
const VIEW_BYTES_MIN: usize = 1 << 20;

/// Flags of mappings that can become a view. What they ask beyond the mapping itself (to fill or to
/// lock it at once) is what a view is there to avoid.
const FLAGS_TAKEN: c_int = libc::MAP_TYPE
    | libc::MAP_POPULATE
    | libc::MAP_NONBLOCK
    | libc::MAP_NORESERVE
    | libc::MAP_LOCKED
    | libc::MAP_DENYWRITE
    | libc::MAP_EXECUTABLE;

/// The size of a page.
pub const PAGE: usize = 4096;

hooks! {
    /// `mmap(2)`: a model's read-only mapping becomes a view.
    fn mmap(addr: *mut c_void, len: size_t, prot: c_int, flags: c_int, fd: c_int, offset: off_t) -> *mut c_void {
        early: raw!(SYS_mmap, addr, len, prot, flags, fd, offset; |start| start as *mut c_void),
        decide: map(addr, len, prot, flags, fd, offset),
        panicked: unless_viewed(addr as usize, len, Verdict::Fail(libc::ENOMEM)),
    }

    /// `mmap64(2)`: the same function under its other name.
    fn mmap64(addr: *mut c_void, len: size_t, prot: c_int, flags: c_int, fd: c_int, offset: off_t) -> *mut c_void {
        early: raw!(SYS_mmap, addr, len, prot, flags, fd, offset; |start| start as *mut c_void),
        decide: map(addr, len, prot, flags, fd, offset),
        panicked: unless_viewed(addr as usize, len, Verdict::Fail(libc::ENOMEM)),
    }

    /// `munmap(2)`: ends views or parts of them.
    fn munmap(addr: *mut c_void, len: size_t) -> c_int {
        early: raw!(SYS_munmap, addr, len; |_| 0),
        decide: unmap(addr as usize, len),
        // The view stays: the pager would take what comes to its addresses for a part of it.
        panicked: unless_viewed(addr as usize, len, Verdict::Done(0)),
    }

    /// `mremap(2)`: a view that is moved or resized becomes an ordinary mapping first.
    fn mremap(old: *mut c_void, old_len: size_t, len: size_t, flags: c_int, new: *mut c_void) -> *mut c_void {
        early: raw!(SYS_mremap, old, old_len, len, flags, new; |start| start as *mut c_void),
        decide: {
            // An old length of zero asks for a second mapping of the same pages.
            let verdict = hand_over(old as usize, old_len.max(1));
            match flags & libc::MREMAP_FIXED != 0 && matches!(verdict, Verdict::Pass) {
                true => hand_over(new as usize, len),
                false => verdict,
            }
        },
        panicked: match unless_viewed(old as usize, old_len, Verdict::Fail(libc::ENOMEM)) {
            Verdict::Pass if flags & libc::MREMAP_FIXED != 0 => {
                unless_viewed(new as usize, len, Verdict::Fail(libc::ENOMEM))
            }
            verdict => verdict,
        },
    }

    /// `mprotect(2)`: a view is readable already; any other protection ends it.
    fn mprotect(addr: *mut c_void, len: size_t, prot: c_int) -> c_int {
        early: raw!(SYS_mprotect, addr, len, prot; |_| 0),
        decide: match prot == libc::PROT_READ && (addr as usize).is_multiple_of(PAGE) {
            true => outside_of_views(addr as usize, len, |start, len| {
                // SAFETY: the program's own call, on a part of its range.
                unsafe { sys::call(libc::SYS_mprotect, [start, len, prot as usize, 0, 0, 0]) }.map(drop)
            }),
            false => hand_over(addr as usize, len),
        },
        panicked: unless_viewed(addr as usize, len, Verdict::Fail(libc::ENOMEM)),
    }
}

fn map(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: off_t) -> Verdict<*mut c_void> {
    if flags & libc::MAP_FIXED != 0 {
        // Handed over and not unmapped: a hole would be anybody's until the real call fills it.
        return hand_over(addr as usize, len);
    }
    let kind = flags & libc::MAP_TYPE;
    if fd < 0
        || prot != libc::PROT_READ
        || len < VIEW_BYTES_MIN
        || flags & !FLAGS_TAKEN != 0
        || !(kind == libc::MAP_SHARED || kind == libc::MAP_PRIVATE)
        || offset < 0
        || !(offset as usize).is_multiple_of(PAGE)
    {
        return Verdict::Pass;
    }
    let mapped = engine::calmly(|| map_model(fd, offset as u64, len, flags)).flatten();
    if mapped.is_some() {
        let _ = engine::calmly(crate::router::say_if_deaf);
    }
    mapped.map_or(Verdict::Pass, Verdict::Done)
}

fn map_model(fd: c_int, offset: u64, len: usize, flags: c_int) -> Option<*mut c_void> {
    let identity = models::identify(fd, offset)?;
    // SAFETY: the program keeps its descriptor open during its own call.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let sharing = if flags & libc::MAP_TYPE == libc::MAP_PRIVATE { Sharing::Private } else { Sharing::Shared };
    let result = engine::pager_or_new().map(file, offset, len, sharing);
    models::remember(identity, fd, result.is_ok());
    match result {
        Ok(start) => Some(start.cast()),
        Err(MapError::Passthrough) => None,
        // The program wants all of it soon. MAP_LOCKED means that it wants to wait.
        Err(MapError::Fits(fitting)) if flags & (libc::MAP_POPULATE | libc::MAP_LOCKED) == libc::MAP_POPULATE => {
            engine::pager_or_new().load(*fitting).map(|start| start.cast())
        }
        Err(MapError::Fits(_)) => None,
        Err(error) => {
            /// Relaxed: a second line would do no harm.
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                log::warn!("the model is mapped as usual, without paging: {error}; `ggpager doctor` tells what to do");
            }
            None
        }
    }
}

/// After a panic: `answer` where the real call would change a view behind the pager's back.
pub fn unless_viewed<R>(start: usize, len: usize, answer: Verdict<R>) -> Verdict<R> {
    if views::overlaps(start, len.max(1)) && crate::fork::is_own_memory() { answer } else { Verdict::Pass }
}

fn unmap(start: usize, len: usize) -> Verdict<c_int> {
    // The kernel refuses both, and so it shall.
    if !start.is_multiple_of(PAGE) || len == 0 {
        return Verdict::Pass;
    }
    let Some(len) = len.checked_next_multiple_of(PAGE) else { return Verdict::Pass };
    if load::any() {
        on_views(|pager| pager.leaving(start, len));
    }
    if !views::overlaps(start, len) {
        return Verdict::Pass;
    }
    on_views(|pager| {
        for piece in views::pieces(start, len) {
            match piece.in_view {
                true => pager.unmap(piece.start, piece.len).map_err(number)?,
                // Only what is no view: the hole that a view leaves may already be somebody else's.
                // SAFETY: the program's own call, on a part of its range.
                false => unsafe { sys::unmap(piece.start, piece.len)? },
            }
        }
        Ok(())
    })
    .map_or(Verdict::Pass, finished)
}

/// Ends the views in a range before the real call changes it.
fn hand_over<R>(start: usize, len: usize) -> Verdict<R> {
    let from = start & !(PAGE - 1);
    let Some(len) = (start - from).checked_add(len).and_then(|len| len.checked_next_multiple_of(PAGE)) else {
        return Verdict::Pass;
    };
    if !views::overlaps(from, len) {
        return Verdict::Pass;
    }
    match on_views(|pager| pager.hand_over(from, len).map_err(number)) {
        Some(Err(error)) => Verdict::Fail(error),
        Some(Ok(())) | None => Verdict::Pass,
    }
}

/// For calls that mean nothing to a view: makes them on the parts of a range outside of views.
/// `Pass` when the range touches no view. The range is rounded outwards to pages.
pub fn outside_of_views(start: usize, len: usize, call: impl Fn(usize, usize) -> Result<(), c_int>) -> Verdict<c_int> {
    let from = start & !(PAGE - 1);
    let Some(len) = (start - from).checked_add(len).and_then(|len| len.checked_next_multiple_of(PAGE)) else {
        return Verdict::Pass;
    };
    if len == 0 || !views::overlaps(from, len) || !crate::fork::is_own_memory() {
        return Verdict::Pass;
    }
    finished(views::pieces(from, len).filter(|piece| !piece.in_view).try_for_each(|piece| call(piece.start, piece.len)))
}

/// Runs `work` in the pager; `None` when there is none, or when this thread is inside already.
pub fn on_views<T>(work: impl FnOnce(&Pager) -> T) -> Option<T> {
    let pager = engine::pager()?;
    engine::calmly(|| work(pager))
}

fn finished(result: Result<(), c_int>) -> Verdict<c_int> {
    match result {
        Ok(()) => Verdict::Done(0),
        Err(error) => Verdict::Fail(error),
    }
}

fn number(error: std::io::Error) -> c_int {
    error.raw_os_error().unwrap_or(libc::ENOMEM)
}
