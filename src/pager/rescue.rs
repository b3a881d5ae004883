//! The way out: whatever becomes of the pager, the program's bytes are in the file, and an ordinary
//! mapping of the file can take a view's place at any moment.

use std::ffi::c_void;

use super::views;

/// Replaces every view of this process by an ordinary mapping of its file. Makes system calls and
/// nothing else: no lock, no allocation. The threads that sleep in a view must be woken afterwards
/// (closing the userfaultfd does that).
pub fn hand_over_everything() {
    for index in 0.. {
        let Some(view) = views::get(index) else { break };
        // SAFETY: the addresses are a view's, whose bytes are exactly those of the file at this
        // offset, and the descriptor is the pager's own and open as long as the view is listed.
        let mapped = unsafe {
            libc::syscall(
                libc::SYS_mmap,
                view.start as *mut c_void,
                view.end - view.start,
                libc::PROT_READ,
                libc::MAP_SHARED | libc::MAP_FIXED,
                view.fd,
                view.offset,
            )
        };
        if mapped == -1 {
            // Nothing better can be done; a touch will be a fault that the program sees.
            log::error!("a view could not be handed over to the kernel");
        }
    }
}

/// As [`hand_over_everything`], and forgets the views: hooks take the addresses for ordinary ones
/// from now on. For the pager thread.
pub fn hand_over_and_forget() {
    hand_over_everything();
    while let Some(view) = views::get(0) {
        if views::remove(view.start, view.end - view.start).is_err() {
            break;
        }
    }
}
