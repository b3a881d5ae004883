//! Forked children: no pager thread, no views, hence no hooks.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::{engine, sys};

/// A word that the kernel sets to zero in the memory of every child (`MADV_WIPEONFORK`, Linux
/// 4.14), however it was made: `_Fork` and a bare `clone` run no fork handlers. A `vfork` child
/// shares the memory, and with it the word and the views. Null until there is a pager.
///
/// Release on store and acquire on load: who sees the address sees the word.
static ALIVE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// False in a child with a memory of its own.
pub fn is_own_memory() -> bool {
    let alive = ALIVE.load(Ordering::Acquire);
    // SAFETY: null, or a page that is never unmapped.
    unsafe { alive.as_ref() }.is_none_or(|word| word.load(Ordering::Relaxed) == 1)
}

/// Makes children inert. Once, before the first view.
pub fn watch() {
    if let Ok(page) = sys::map_anonymous(4096) {
        // SAFETY: the page is ours. A kernel that does not know the advice refuses it, and the word
        // then stays 1 in children: the handler below still serves `fork`.
        let _ = unsafe { sys::call(libc::SYS_madvise, [page as usize, 4096, libc::MADV_WIPEONFORK as usize, 0, 0, 0]) };
        let word = page.cast::<AtomicU32>();
        // SAFETY: page aligned, zeroed, never freed.
        unsafe { (*word).store(1, Ordering::Relaxed) };
        ALIVE.store(word, Ordering::Release);
    }
    // SAFETY: the handler is async-signal-safe: atomic stores and the pager's raw system calls.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

unsafe extern "C" fn in_child() {
    engine::stop();
    if let Some(pager) = engine::pager() {
        pager.after_fork_in_child();
    }
}
