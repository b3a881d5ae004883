//! Signals that are fetched instead of caught.

use std::io;
use std::time::Duration;

/// Some signals, blocked on this thread until dropped.
///
/// Dispositions stay as they are, so a signal that is ignored stays ignored, and none is lost between
/// two waits. Make it before other threads exist: they would take the signals away.
pub struct Blocked {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// A process sent it, and not the kernel (as for Ctrl-C).
    pub by_process: bool,
}

impl Blocked {
    /// Blocks `signals`.
    pub fn new(signals: &[i32]) -> Blocked {
        let set = set_of(signals);
        Blocked { set, before: set_mask(libc::SIG_BLOCK, &set) }
    }

    /// The mask before.
    pub fn mask_before(&self) -> libc::sigset_t {
        self.before
    }

    /// Waits for a signal; `None` when `limit` is over or the wait was interrupted.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Signal> {
        let timeout = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const libc::timespec);
        // SAFETY: siginfo_t is plain data; sigtimedwait writes only to it, and waits without a limit
        // for a null pointer.
        let (number, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigtimedwait(&self.set, &mut info, timeout), info)
        };
        (number > 0).then_some(Signal { number, by_process: info.si_code <= 0 })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        set_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Ends this process by `signal`, as far as that kills (128 + n where it does not).
pub fn die_of(signal: i32) -> ! {
    // SAFETY: no memory is passed but a valid set and rlimit. Who died of it has left its core
    // already: ours would only overwrite it.
    unsafe {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::signal(signal, libc::SIG_DFL);
        set_mask(libc::SIG_UNBLOCK, &set_of(&[signal]));
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}

/// Gives a forked child the mask `before`. Async-signal-safe.
pub fn restore_in_child(before: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: reads a valid set.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset and sigaddset write only to the set passed.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        signals.iter().for_each(|&signal| assert_eq!(libc::sigaddset(&mut set, signal), 0));
        set
    }
}

fn set_mask(how: i32, set: &libc::sigset_t) -> libc::sigset_t {
    // SAFETY: both sets are valid for the call, which writes only to `old`.
    unsafe {
        let mut old = std::mem::zeroed();
        assert_eq!(libc::pthread_sigmask(how, set, &mut old), 0);
        old
    }
}
