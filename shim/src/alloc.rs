//! The library's own allocator: dlmalloc on memory that comes straight from the kernel.
//!
//! The host's `malloc` is out of bounds (it may be jemalloc, whose `mmap` is our hook), and so are
//! the exported names: pages are asked for by raw system calls, past every interposer.
//!
//! The lock is never held across anything but dlmalloc and those system calls. A child that was
//! forked while another thread held it never takes it: all hooks are inert there (`fork.rs`).

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

use crate::sys;

/// Pages by raw system calls.
struct Pages;

// SAFETY: `alloc` gives fresh private zeroed mappings or null, `remap` and the frees act on exactly
// the ranges that dlmalloc took from `alloc`.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        match sys::map_anonymous(size) {
            Ok(start) => (start, size, 0),
            Err(_) => (std::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, start: *mut u8, old: usize, new: usize, can_move: bool) -> *mut u8 {
        let flags = if can_move { libc::MREMAP_MAYMOVE } else { 0 };
        // SAFETY: the range is one of ours, and dlmalloc forgets the old address.
        match unsafe { sys::call(libc::SYS_mremap, [start as usize, old, new, flags as usize, 0, 0]) } {
            Ok(moved) => moved as *mut u8,
            Err(_) => std::ptr::null_mut(),
        }
    }

    fn free_part(&self, start: *mut u8, old: usize, new: usize) -> bool {
        // SAFETY: the tail of a range of ours that dlmalloc gives up.
        unsafe { sys::unmap(start as usize + new, old - new).is_ok() }
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: a range of ours that dlmalloc gives up.
        unsafe { sys::unmap(start as usize, size).is_ok() }
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

static HEAP: Mutex<Dlmalloc<Pages>> = Mutex::new(Dlmalloc::new_with_allocator(Pages));

/// std's mutex is a futex and a counter of panics in static thread-local storage: locking it does
/// not allocate. Poison is ignored, since dlmalloc does not panic.
fn heap() -> MutexGuard<'static, Dlmalloc<Pages>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The global allocator of this library.
pub struct Kernel;

// SAFETY: every call goes to dlmalloc under its lock, with the layout it was given.
unsafe impl GlobalAlloc for Kernel {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the lock makes this the only user of the heap.
        unsafe { heap().malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back what it got for this layout.
        unsafe { heap().free(start, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the lock makes this the only user of the heap.
        unsafe { heap().calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller passes what it got for this layout.
        unsafe { heap().realloc(start, layout.size(), layout.align(), size) }
    }
}
