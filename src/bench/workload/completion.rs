//! A program that prints its text, as llama-completion does: each token as soon as it is made, so
//! that the arrival of its text on a pipe is the token's time.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{End, Outcome, Turn};
use crate::bench::interrupt::Interrupt;
use crate::bench::llama::Perf;
use crate::bench::sample::Sample;
use crate::bench::watch::{Program, RunError, Watch};

/// Runs `command` to its end, at most for `time_max`, and calls `arrived` with the number of
/// arrivals so far.
///
/// # Errors
/// [`RunError`]; the program has ended in any case.
pub fn run(
    command: &mut Command,
    time_max: Duration,
    interrupt: &Interrupt,
    mut arrived: impl FnMut(usize),
) -> Result<Outcome, RunError> {
    let mut watch = Watch::new(time_max, interrupt);
    let mut programs = [Program::start(command.stdout(Stdio::piped()))?];
    watch.look_at(&programs);
    let [program] = &mut programs;
    let mut stdout = program.child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
    let (mut text, mut arrivals, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = [0u8; 64 << 10];
    loop {
        let (bytes, sample) = watch.read(&mut stdout, &mut buffer)?;
        if bytes == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..bytes]);
        ends.push(text.len());
        arrivals.push(sample);
        arrived(arrivals.len());
    }
    let status = watch.wait(&mut program.child)?;
    let wall_s = watch.elapsed_s();
    // The line feeds that end the output are no token.
    while arrivals.last().is_some_and(|_| ends.len() > 1 && text[ends[ends.len() - 2]..].trim_ascii().is_empty()) {
        arrivals.pop();
        ends.pop();
    }
    let stderr = program.stderr()?;
    let turn = Turn { lane: 0, start: Sample::default(), arrivals, perf: Perf::parse(&stderr), drafted: (0, 0) };
    let timeline = watch.into_timeline();
    Ok(Outcome { ends: vec![End { status, stderr }], text, turns: vec![turn], timeline, wall_s })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        assert_eq!(outcome.ends[0].status.code(), Some(3));
        assert_eq!(outcome.text, b"onetwo\n");
        // The line feed came as a third piece, but it is no token.
        let arrivals = &outcome.turns[0].arrivals;
        assert_eq!(arrivals.len(), 2);
        assert!(arrivals[0].at_s <= arrivals[1].at_s);
        assert!(outcome.timeline.len() >= 3 && outcome.timeline.is_sorted_by_key(|sample| sample.at_s));
        assert_eq!(outcome.ends[0].stderr, "oops\n");
    }

    #[test]
    fn reads_from_the_drive_are_counted() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        fs::write(file.path(), vec![1u8; 8 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        let mut command = Command::new("dd");
        command.args([&format!("if={}", file.path().display()), "bs=1M", "iflag=direct", "status=none"]);
        let outcome = run(&mut command, LONG, &Interrupt::default(), |_| {}).unwrap();
        let read = outcome.timeline.last().map_or(0, |sample| sample.read_bytes);
        if !outcome.ends[0].status.success() || read == 0 {
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
