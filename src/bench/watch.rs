//! Waiting for a run's output while its clock, its interrupt and its use of the drive are watched.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::interrupt::{Interrupt, Interrupted};
use super::sample::{Sample, Sampler};

/// Longest text kept of stderr.
const STDERR_BYTES_MAX: u64 = 4 << 20;
/// How often an interrupt is looked for and a sample taken while nothing arrives.
const TICK: Duration = Duration::from_millis(50);

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
    /// The part of the model that should stay in memory was not locked there.
    #[error("nothing is locked: {0}")]
    Unlocked(String),
    /// A server gave an answer that is none.
    #[error("the server answered {0:?}")]
    Answer(String),
}

/// A program that is killed when dropped, unless it has ended. It dies with us in any case.
#[derive(Debug)]
pub struct Program {
    /// The process.
    pub child: Child,
    stderr: File,
}

impl Program {
    /// Starts `command`, whose stderr is kept in a file without a name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Program> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stderr(stderr.try_clone()?);
        // SAFETY: the closure calls prctl alone, which is async-signal-safe and touches no memory here.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            })
        };
        Ok(Program { child: command.spawn()?, stderr })
    }

    /// What it has written to stderr: at most the last 4 MiB.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stderr(&mut self) -> io::Result<String> {
        let len = self.stderr.metadata()?.len();
        self.stderr.seek(io::SeekFrom::Start(len.saturating_sub(STDERR_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        (&mut self.stderr).take(STDERR_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The watch over one run.
#[derive(Debug)]
pub struct Watch<'a> {
    start: Instant,
    time_max: Duration,
    interrupt: &'a Interrupt,
    sampler: Sampler,
    timeline: Vec<Sample>,
}

impl<'a> Watch<'a> {
    /// Starts the clock: no process is watched yet. The run may take `time_max`.
    pub fn new(time_max: Duration, interrupt: &'a Interrupt) -> Watch<'a> {
        Watch { start: Instant::now(), time_max, interrupt, sampler: Sampler::new(&[]), timeline: Vec::new() }
    }

    /// Takes samples of `programs` from now on.
    pub fn look_at(&mut self, programs: &[Program]) {
        let ids: Vec<u32> = programs.iter().map(|program| program.child.id()).collect();
        self.sampler = Sampler::new(&ids);
    }

    /// Seconds since the start.
    pub fn elapsed_s(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Takes a sample.
    pub fn sample(&mut self) -> Sample {
        let sample = self.sampler.sample(self.elapsed_s());
        self.timeline.push(sample);
        sample
    }

    /// Every sample, in the order of time.
    pub fn into_timeline(self) -> Vec<Sample> {
        self.timeline
    }

    fn check(&self) -> Result<(), RunError> {
        self.interrupt.check()?;
        match self.start.elapsed() > self.time_max {
            true => Err(RunError::Timeout(self.time_max)),
            false => Ok(()),
        }
    }

    /// Waits a moment.
    ///
    /// # Errors
    /// An interrupt, or the end of the time.
    pub fn pause(&mut self) -> Result<(), RunError> {
        self.check()?;
        std::thread::sleep(TICK);
        self.sample();
        Ok(())
    }

    /// Waits until `source` gives bytes or ends, and reads them into `buffer`; gives their number
    /// and a sample of that moment.
    ///
    /// # Errors
    /// An interrupt, the end of the time, or a failing read.
    pub fn read(&mut self, source: &mut (impl Read + AsFd), buffer: &mut [u8]) -> Result<(usize, Sample), RunError> {
        loop {
            self.check()?;
            if readable(source)? {
                let bytes = source.read(buffer)?;
                return Ok((bytes, self.sample()));
            }
            self.sample();
        }
    }

    /// Waits until `child` has ended.
    ///
    /// # Errors
    /// An interrupt, or the end of the time.
    pub fn wait(&mut self, child: &mut Child) -> Result<ExitStatus, RunError> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            self.check()?;
            // It is on its way out.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a read would not block, waiting for at most [`TICK`].
fn readable(source: &impl AsFd) -> io::Result<bool> {
    let mut wanted = [PollFd::new(source, PollFlags::IN)];
    let patience = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
    match poll(&mut wanted, Some(&patience)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
