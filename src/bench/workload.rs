//! One run of the workload, watched from outside.
//!
//! llama-completion prints each token as soon as it is made, so the arrival of its text on a pipe is
//! the token's time. At each arrival `/proc/PID/io` is read: `read_bytes` counts what the process
//! has fetched from drives, page faults, readahead and O_DIRECT alike, because the kernel charges it
//! where a read is submitted (`submit_bio`). The same ruler measures stock and paged runs.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::interrupt::{Interrupt, Interrupted};

/// Longest text kept of stderr.
const STDERR_BYTES_MAX: u64 = 4 << 20;
/// How often an interrupt is looked for.
const POLL: Duration = Duration::from_millis(50);

/// Text arrived.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arrival {
    /// Seconds since the start of the program.
    pub at_s: f64,
    /// Bytes that the program has read from drives until now.
    pub read_bytes: u64,
}

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub text: Vec<u8>,
    /// What it wrote to stderr: at most the last 4 MiB.
    pub stderr: String,
    /// Each arrival of text.
    pub arrivals: Vec<Arrival>,
    /// From start to end in seconds.
    pub wall_s: f64,
}

/// Why a run gave no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// We were asked to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// It took too long.
    #[error("it did not end within {0:?}")]
    Timeout(Duration),
}

/// Kills the program unless it has ended.
struct Killer(Child);

impl Drop for Killer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` to its end, at most for `time_max`, and calls `arrived` with the number of
/// arrivals so far. The program dies with us.
///
/// # Errors
/// [`RunError`]; the program has ended in any case.
pub fn run(
    command: &mut Command,
    time_max: Duration,
    interrupt: &Interrupt,
    mut arrived: impl FnMut(usize),
) -> Result<Outcome, RunError> {
    let mut stderr = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
    // SAFETY: the closure calls prctl alone, which is async-signal-safe and touches no memory here.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
    let start = Instant::now();
    let mut child = Killer(command.spawn()?);
    let mut stdout = child.0.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
    let io_file = format!("/proc/{}/io", child.0.id());
    let (mut text, mut arrivals, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = [0u8; 64 << 10];
    let status = loop {
        interrupt.check()?;
        if start.elapsed() > time_max {
            return Err(RunError::Timeout(time_max));
        }
        if !readable(&stdout)? {
            continue;
        }
        match stdout.read(&mut buffer)? {
            0 => match child.0.try_wait()? {
                Some(status) => break status,
                // It has closed its stdout and is on its way out.
                None => std::thread::sleep(Duration::from_millis(1)),
            },
            bytes => {
                let at_s = start.elapsed().as_secs_f64();
                text.extend_from_slice(&buffer[..bytes]);
                ends.push(text.len());
                arrivals.push(Arrival { at_s, read_bytes: read_bytes(&io_file).unwrap_or(0) });
                arrived(arrivals.len());
            }
        }
    };
    let wall_s = start.elapsed().as_secs_f64();
    // The line feeds that end the output are no token.
    while arrivals.last().is_some_and(|_| ends.len() > 1 && text[ends[ends.len() - 2]..].trim_ascii().is_empty()) {
        arrivals.pop();
        ends.pop();
    }
    Ok(Outcome { status, text, stderr: tail(&mut stderr)?, arrivals, wall_s })
}

/// Whether a read would not block, waiting for at most [`POLL`].
fn readable(pipe: &impl AsFd) -> io::Result<bool> {
    let mut wanted = [PollFd::new(pipe, PollFlags::IN)];
    let patience = Timespec { tv_sec: 0, tv_nsec: POLL.as_nanos() as i64 };
    match poll(&mut wanted, Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The field `read_bytes` of a `/proc/PID/io` file (proc_pid_io(5)).
fn read_bytes(io_file: &str) -> Option<u64> {
    let text = fs::read_to_string(io_file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok())
}

fn tail(file: &mut File) -> io::Result<String> {
    let len = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(len.saturating_sub(STDERR_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(STDERR_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn text_and_status_are_kept_and_every_arrival_counts() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        // Each piece is printed once the one before has arrived.
        let script = format!(
            "printf one; cat {0} >/dev/null; printf two; cat {0} >/dev/null; echo; echo oops >&2; exit 3",
            fifo.display()
        );
        let outcome = run(&mut shell(&script), LONG, &Interrupt::default(), |arrivals| {
            if arrivals < 3 {
                fs::write(&fifo, "go").unwrap();
            }
        })
        .unwrap();
        assert_eq!(outcome.status.code(), Some(3));
        assert_eq!(outcome.text, b"onetwo\n");
        // The line feed came as a third piece, but it is no token.
        assert_eq!(outcome.arrivals.len(), 2);
        assert!(outcome.arrivals[0].at_s <= outcome.arrivals[1].at_s);
        assert_eq!(outcome.stderr, "oops\n");
    }

    #[test]
    fn reads_from_the_drive_are_counted() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        fs::write(file.path(), vec![1u8; 8 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        let mut command = Command::new("dd");
        command.args([&format!("if={}", file.path().display()), "bs=1M", "iflag=direct", "status=none"]);
        let outcome = run(&mut command, LONG, &Interrupt::default(), |_| {}).unwrap();
        let read = outcome.arrivals.last().map_or(0, |arrival| arrival.read_bytes);
        if !outcome.status.success() || read == 0 {
            eprintln!("skipped: no O_DIRECT here, or the drive's reads are not charged (tmpfs)");
            assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
            return;
        }
        // The program's own pages may come on top.
        assert!((8 << 20..64 << 20).contains(&read), "{read}");
    }

    #[test]
    fn a_run_that_takes_too_long_is_killed() {
        let result = run(&mut shell("exec sleep 1000"), Duration::ZERO, &Interrupt::default(), |_| {});
        assert!(matches!(result, Err(RunError::Timeout(_))), "{result:?}");
    }
}
