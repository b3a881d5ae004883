//! Waiting for a program: signals in, exit status out.
//!
//! The program stays in our process group. What the terminal sends (Ctrl-C) reaches it without us,
//! so only signals that a process sent are passed on.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use super::line::{self, StatusLine};
use super::signals::{Blocked, die_of, restore_in_child};

/// Signals that are passed on.
const FORWARDED: [i32; 7] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Starts `command` and waits for it, passing signals on. Its signal mask is the caller's. `line` is
/// kept up to date meanwhile, and erased at the end.
///
/// Signals are fetched, not caught (see [`Blocked`]): a program under nohup(1) still ignores SIGHUP,
/// and none is lost between start and wait. Call it before other threads exist.
pub fn run(command: &mut Command, mut line: Option<&mut StatusLine>) -> io::Result<ExitStatus> {
    // An inherited SIG_IGN for SIGCHLD would make the kernel reap the child before we ask.
    // SAFETY: SIG_DFL is a valid disposition; no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let mut waited_for = FORWARDED.to_vec();
    waited_for.push(libc::SIGCHLD);
    let signals = Blocked::new(&waited_for);
    let before = signals.mask_before();
    // SAFETY: the closure makes one async-signal-safe call, on data it owns.
    unsafe { command.pre_exec(move || restore_in_child(&before)) };
    let mut child = command.spawn()?;
    let pid = child.id();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let limit = line.as_ref().map(|_| line::PERIOD);
        match signals.wait(limit) {
            Some(signal) if signal.number != libc::SIGCHLD && signal.by_process => {
                // SAFETY: kill has no memory effects; the child is not reaped, so its id is its own.
                unsafe { libc::kill(pid as i32, signal.number) };
            }
            _ => {}
        }
        if let Some(line) = &mut line {
            line.refresh(pid);
        }
    };
    if let Some(line) = line {
        line.erase();
    }
    Ok(status)
}

/// Ends this process as the program ended: with its exit code, or by the signal that killed it
/// (128 + n where that signal does not kill us).
pub fn end_as(status: ExitStatus) -> ! {
    match status.signal() {
        Some(signal) => die_of(signal),
        None => std::process::exit(status.code().unwrap_or(1)),
    }
}
