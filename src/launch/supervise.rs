//! Waiting for a program: signals in, exit status out.
//!
//! The program stays in our process group. What the terminal sends (Ctrl-C) reaches it without us,
//! so only signals that a process sent are passed on.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// Signals that are passed on.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

fn signal_set(signals: &[i32]) -> libc::sigset_t {
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

/// Starts `command` and waits for it, passing signals on. Its signal mask is the caller's.
///
/// Signals are blocked and fetched with sigwaitinfo(2), not caught: dispositions stay as they are,
/// so a program under nohup(1) still ignores SIGHUP, and none is lost between start and wait. Call
/// it before other threads exist: they would take the signals away.
pub fn run(command: &mut Command) -> io::Result<ExitStatus> {
    // An inherited SIG_IGN for SIGCHLD would make the kernel reap the child before we ask.
    // SAFETY: SIG_DFL is a valid disposition; no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut waited_for = FORWARDED.to_vec();
    waited_for.push(libc::SIGCHLD);
    let set = signal_set(&waited_for);
    let before = set_mask(libc::SIG_BLOCK, &set);
    // SAFETY: the closure calls sigprocmask alone, which is async-signal-safe, on data it owns.
    unsafe {
        command.pre_exec(move || match libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
    let done = command.spawn().and_then(|mut child| {
        loop {
            if let Some(status) = child.try_wait()? {
                break Ok(status);
            }
            let Some((signal, sent_by_process)) = next_signal(&set) else { continue };
            if signal != libc::SIGCHLD && sent_by_process {
                // SAFETY: kill has no memory effects; the child is not reaped, so its id is its own.
                unsafe { libc::kill(child.id() as i32, signal) };
            }
        }
    });
    set_mask(libc::SIG_SETMASK, &before);
    done
}

/// The next signal of `set`, and whether a process sent it (and not the kernel, as for Ctrl-C).
/// `None` when the wait was interrupted.
fn next_signal(set: &libc::sigset_t) -> Option<(i32, bool)> {
    // SAFETY: siginfo_t is plain data and sigwaitinfo writes only to it.
    let (signal, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        (libc::sigwaitinfo(set, &mut info), info)
    };
    (signal > 0).then_some((signal, info.si_code <= 0))
}

/// Ends this process as the program ended: with its exit code, or by the signal that killed it
/// (128 + n where that signal does not kill us).
pub fn end_as(status: ExitStatus) -> ! {
    let Some(signal) = status.signal() else { std::process::exit(status.code().unwrap_or(1)) };
    // SAFETY: no memory is passed but a valid set and rlimit. The program has left its core already:
    // ours would only overwrite it.
    unsafe {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::signal(signal, libc::SIG_DFL);
        set_mask(libc::SIG_UNBLOCK, &signal_set(&[signal]));
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}
