//! Signals of the program, which are none of the pager's business.

/// Blocks every signal on this thread, and so on threads that it starts, until dropped.
pub struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    /// Blocks them now.
    #[allow(clippy::new_without_default)] // it acts
    pub fn new() -> BlockedSignals {
        // SAFETY: plain old data, filled by the two calls; the previous mask is stored in `before`.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            BlockedSignals { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` is a mask that the kernel gave us.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}
