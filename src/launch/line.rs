//! The status line of `ggpager run`: one line of the terminal, written again and again.
//!
//! The program writes to the same terminal, and nobody asks us. So the line is one line; it is
//! erased and written from its beginning, and the cursor goes back there: what the program writes
//! next begins at the left and covers the line, of which a rest may be seen behind a short text
//! until the terminal scrolls. A program that leaves the cursor in the middle of a line of its own
//! loses that line to the next refresh. That is why the line is for programs whose text goes
//! elsewhere ([`Progress::Auto`]).

use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use console::Term;

use crate::config::ByteSize;
use crate::status::rates::Rates;
use crate::status::{self, Snapshot, process};

/// Time between two refreshes.
pub const PERIOD: Duration = Duration::from_millis(500);

/// When the line is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// When stderr is a terminal and stdout is not: the program's text goes elsewhere.
    #[default]
    Auto,
    /// When stderr is a terminal, also if the program writes its text there, too.
    Always,
    /// Never.
    Never,
}

/// See the module's page.
pub struct StatusLine {
    term: Term,
    shown: bool,
    last: Option<Snapshot>,
    refreshed: Option<Instant>,
}

impl StatusLine {
    /// The line, if it is to be drawn.
    pub fn new(progress: Progress) -> Option<StatusLine> {
        let wanted = match progress {
            Progress::Auto => !stdout().is_terminal(),
            Progress::Always => true,
            Progress::Never => false,
        };
        let line = || StatusLine { term: Term::stderr(), shown: false, last: None, refreshed: None };
        (wanted && stderr().is_terminal()).then(line)
    }

    /// Draws the line for the pager in process `pid` or in a process that it started; not more often
    /// than every [`PERIOD`], and not in the background of the terminal. Nothing while there is none.
    pub fn refresh(&mut self, pid: u32) {
        if self.refreshed.is_some_and(|at| at.elapsed() < PERIOD) || !is_in_foreground() {
            return;
        }
        self.refreshed = Some(Instant::now());
        let Some(now) = find(pid) else {
            self.erase();
            self.last = None;
            return;
        };
        // The last column would make the terminal wrap.
        let width = usize::from(self.term.size().1).saturating_sub(1);
        let text = console::truncate_str(&text(self.last.as_ref(), &now), width, "…").into_owned();
        // In one write, so that nothing comes in between. A terminal that has gone is no error.
        let _ = self.term.write_str(&format!("\r\x1b[K{text}\r"));
        self.shown = true;
        self.last = Some(now);
    }

    /// Takes the line away.
    pub fn erase(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = self.term.write_str("\r\x1b[K");
        }
    }
}

/// The page of `pid`, or of a process that descends from it.
fn find(pid: u32) -> Option<Snapshot> {
    status::read(pid).ok().or_else(|| {
        let pages = status::list().into_iter().filter_map(|(_, page)| page.ok());
        pages.into_iter().find(|page| process::descends_from(page.identity.pid, pid))
    })
}

fn text(before: Option<&Snapshot>, now: &Snapshot) -> String {
    let (rates, counters) = (Rates::between(before, now), &now.counters);
    let mut text = format!(
        "ggpager: {} of {} in memory, {}/s",
        ByteSize(counters.held_bytes),
        ByteSize(counters.model_bytes),
        ByteSize(rates.read_bytes_per_s as u64)
    );
    if let Some(share) = rates.hit_share {
        text += &format!(", {:.0} % hits", share * 100.0);
    }
    text += &format!(", {:.0} % stalled", rates.stall_share * 100.0);
    if counters.cycle_ns > 0 {
        text += &format!(", {:.2} s a cycle", counters.cycle_ns as f64 / 1e9);
    }
    text
}

/// False when a shell has put us into the background of this terminal.
fn is_in_foreground() -> bool {
    // SAFETY: neither call touches memory. No answer (-1) means that it is not our session's terminal.
    let (foreground, own) = unsafe { (libc::tcgetpgrp(libc::STDERR_FILENO), libc::getpgrp()) };
    foreground == own || foreground == -1
}

#[cfg(test)]
mod tests {
    use super::super::super::status::{Counters, Texts, process::Identity};
    use super::*;

    #[test]
    fn the_line_says_what_is_known() {
        let identity = Identity { pid: 1, start_ticks: 2, pid_namespace: 3 };
        let counters = Counters {
            published_ns: 2_000_000_000,
            wall_ns: 1_000_000_000,
            views: 1,
            model_bytes: 8_000_000_000,
            held_bytes: 4_200_000_000,
            read_bytes: 1_900_000_000,
            ..Counters::default()
        };
        let now = Snapshot { identity, texts: Texts::default(), counters, at_ns: 2_000_000_000 };
        assert_eq!(text(None, &now), "ggpager: 4.20 GB of 8.00 GB in memory, 1.90 GB/s, 0 % stalled");
        let mut now = now;
        now.counters.faults_staged = 9;
        now.counters.faults_demand = 1;
        now.counters.stalled_ns = 250_000_000;
        now.counters.cycle_ns = 2_060_000_000;
        let expected = "ggpager: 4.20 GB of 8.00 GB in memory, 1.90 GB/s, 90 % hits, 25 % stalled, 2.06 s a cycle";
        assert_eq!(text(None, &now), expected);
    }
}
