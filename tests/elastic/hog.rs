//! The neighbour: tests/programs/hog.c in the same group.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use ggpager::bench::cgroup::Group;

use super::{number, support};

/// A running hog.
pub struct Hog {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Hog {
    /// Starts it; it holds nothing yet.
    pub fn start(group: &Group, bytes: u64) -> Hog {
        let mut command = Command::new(support::compile("hog", false));
        command.args([bytes, number("GGPAGER_HOG_RATE", 1_000_000_000)].map(|number| number.to_string()));
        if number("GGPAGER_HOG_HUGE", 0) == 1 {
            command.arg("huge");
        }
        group.hold(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the hog runs");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Hog { child, answers }
    }

    /// Makes it take its memory; gives the milliseconds that took.
    pub fn take(&mut self) -> u64 {
        self.ask()
    }

    /// Makes it give its memory back.
    pub fn give_back(&mut self) {
        self.ask();
    }

    fn ask(&mut self) -> u64 {
        // A dead hog shows in its answer.
        let _ = self.child.stdin.as_mut().expect("a pipe").write_all(b"\n");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("a pipe");
        answer.trim().parse().unwrap_or_else(|_| panic!("the hog has ended: {:?}", self.child.wait()))
    }

    /// Ends it.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("a child").success());
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Where a test has failed; otherwise it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
