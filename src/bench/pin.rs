//! A part of a model that stays in memory whatever the kernel would drop: another process in the
//! run's control group locks it (mlock(2)).

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use rustix::mm::{MapFlags, ProtFlags, mlock, mmap};

use super::interrupt::Interrupt;
use super::watch::{Program, RunError, Watch};

/// The hidden word that makes the command line tool lock a part of a model.
const WORD: &str = "--hold-pinned";
/// What that says once everything is locked.
const READY: &str = "locked";
/// The unit in which an even part is spread over the file, in bytes.
const STRIPE: u64 = 2 << 20;

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The beginning of the file.
    Prefix,
    /// Pieces of 2 MiB, evenly over the file.
    Spread,
}

/// How much of a file is locked, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin {
    /// Which part.
    pub part: Part,
    /// How much of the file, in percent, 1 to 100.
    pub percent: u32,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Prefix => "prefix",
            Part::Spread => "spread",
        };
        write!(f, "{part}:{}", self.percent)
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is neither prefix:PERCENT nor spread:PERCENT");
        let (part, percent) = text.trim().split_once(':').ok_or_else(error)?;
        let part = match part {
            "prefix" => Part::Prefix,
            "spread" => Part::Spread,
            _ => return Err(error()),
        };
        let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(error)?;
        Ok(Pin { part, percent })
    }
}

impl Pin {
    /// The extents of a file of `bytes`: offset and length.
    fn extents(self, bytes: u64) -> Vec<(u64, u64)> {
        let percent = u64::from(self.percent);
        match self.part {
            Part::Prefix => vec![(0, (bytes as u128 * u128::from(percent) / 100) as u64)],
            // Stripe n is taken when the share grows over a whole number there.
            Part::Spread => (0..bytes.div_ceil(STRIPE))
                .filter(|n| (n + 1) * percent / 100 > n * percent / 100)
                .map(|n| (n * STRIPE, STRIPE.min(bytes - n * STRIPE)))
                .collect(),
        }
    }

    /// The arguments that make the command line tool lock this part of `model`.
    pub fn args(self, model: &Path) -> Vec<OsString> {
        vec!["bench".into(), WORD.into(), self.to_string().into(), "--model".into(), model.into()]
    }

    /// Locks this part of `model`, says so on stdout, and waits to be killed.
    ///
    /// # Errors
    /// When the file cannot be mapped or locked.
    pub fn lock(self, model: &Path) -> io::Result<std::convert::Infallible> {
        let file = File::open(model)?;
        let bytes = file.metadata()?.len();
        let whole = usize::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice; nobody reads through it.
        let base = unsafe { mmap(std::ptr::null_mut(), whole, ProtFlags::READ, MapFlags::SHARED, &file, 0)? };
        for (offset, length) in self.extents(bytes) {
            // SAFETY: within the mapping, which stays until the process ends.
            unsafe { mlock(base.byte_add(offset as usize), length as usize)? };
        }
        println!("{READY}");
        io::stdout().flush()?;
        loop {
            std::thread::park();
        }
    }
}

/// Starts `command`, which is to lock a part, and waits until it has. Dropping the program unlocks.
///
/// # Errors
/// [`RunError::Unlocked`] with its message when it cannot; the others as they come.
pub fn hold(command: &mut Command, time_max: Duration, interrupt: &Interrupt) -> Result<Program, RunError> {
    let mut program = Program::start(command.stdout(Stdio::piped()))?;
    let mut stdout = program.child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
    let mut watch = Watch::new(time_max, interrupt);
    let mut text = Vec::new();
    let mut buffer = [0u8; 64];
    while !text.starts_with(READY.as_bytes()) {
        let (bytes, _) = watch.read(&mut stdout, &mut buffer)?;
        if bytes == 0 {
            let status = watch.wait(&mut program.child)?;
            return Err(RunError::Unlocked(format!("{status}, {}", program.stderr()?.trim())));
        }
        text.extend_from_slice(&buffer[..bytes]);
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_large_as_it_says_and_lies_where_it_says() {
        let bytes = 100 * STRIPE + 1000;
        assert_eq!("prefix:25".parse::<Pin>().unwrap().extents(bytes), [(0, bytes / 4)]);
        for percent in [1, 25, 33, 50, 100] {
            let pin = Pin { part: Part::Spread, percent };
            assert_eq!(pin.to_string().parse(), Ok(pin));
            let extents = pin.extents(bytes);
            let locked: u64 = extents.iter().map(|(_, length)| length).sum();
            let wanted = bytes * u64::from(percent) / 100;
            assert!(locked.abs_diff(wanted) <= STRIPE, "{percent} {locked} {wanted}");
            // Evenly: no gap is wider than the share asks for.
            let gap = extents.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(0);
            assert!(gap <= 100_u64.div_ceil(u64::from(percent)) * STRIPE, "{percent} {gap}");
            let end = extents.last().map_or(0, |(offset, length)| offset + length);
            assert!(bytes - end <= 100_u64.div_ceil(u64::from(percent)) * STRIPE, "{percent} {end}");
            assert!(extents.iter().all(|(offset, length)| offset + length <= bytes));
        }
        for text in ["prefix", "prefix:0", "spread:101", "suffix:20"] {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_helper_that_fails_is_told() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no room >&2; exit 3"]);
        let error = hold(&mut command, Duration::from_secs(60), &Interrupt::default()).unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }
}
