//! The text of `scripts/kernel-trace`: one line for each event, a letter and numbers.
//!
//! The script's own lines come first: what ran, on which machine, where the model lies on the drive.
//! bpftrace's come from one buffer for each processor, so they are put in the order of time here.

use std::io::BufRead;
use std::str::{FromStr, SplitAsciiWhitespace};

use crate::trace::Machine;

/// Length of the kernel's sector, in bytes, on every drive.
const SECTOR: u64 = 512;

/// A part of the model that lies on the drive in one piece. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts in the file.
    pub in_file: u64,
    /// Where it starts on the whole drive, of which the file system may be a partition.
    pub on_drive: u64,
    /// Its length.
    pub bytes: u64,
}

/// What a tracepoint said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `F`: thread `tid` took a fault on page `page` that the page cache could not map at once.
    Fault {
        /// Thread.
        tid: u32,
        /// Page of the file.
        page: u64,
    },
    /// `M`: a fault mapped what was cached of pages `first` to `last`, the one that was touched or not.
    Mapped {
        /// Thread.
        tid: u32,
        /// First page of the file.
        first: u64,
        /// Last page.
        last: u64,
    },
    /// `A`: pages joined the page cache; they are about to be read.
    Added {
        /// First page.
        page: u64,
        /// How many.
        pages: u64,
    },
    /// `D`: pages left the page cache.
    Dropped {
        /// First page.
        page: u64,
        /// How many.
        pages: u64,
    },
    /// `S`: a thread inside of a fault sleeps.
    Sleeps {
        /// Thread.
        tid: u32,
    },
    /// `W`: it runs again.
    Runs {
        /// Thread.
        tid: u32,
    },
    /// `I`: the drive was asked for bytes.
    Issued {
        /// Where on the drive, in bytes.
        start: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// `Q`: the drive had no room for a request, which will be issued again.
    Requeued {
        /// Where on the drive, in bytes.
        start: u64,
    },
    /// `C`: the drive gave them. bpftrace may miss some.
    Completed {
        /// Where on the drive, in bytes.
        start: u64,
        /// How many bytes.
        bytes: u64,
        /// 0 or a negative error number.
        error: i32,
    },
}

/// An event and when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since [`Events::started_unix_ns`].
    pub at_ns: u64,
    /// What happened.
    pub kind: Kind,
}

/// A whole text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    /// What ran.
    pub program: String,
    /// Where.
    pub machine: Machine,
    /// Length of the model, in bytes.
    pub model_bytes: u64,
    /// Where the model lies.
    pub extents: Vec<Extent>,
    /// Start of the clock, in nanoseconds since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// All events in the order of time.
    pub events: Vec<Event>,
    /// Faults that the program took, on whatever memory: minor, and major, which waited for a drive.
    pub faults: (u64, u64),
    /// Events that bpftrace could not keep.
    pub lost: u64,
}

/// A line that says nothing known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The number of the line, from 1, and what it says.
    #[error("line {0} is none of scripts/kernel-trace: {1}")]
    Line(usize, String),
}

impl Events {
    /// Reads a text to its end.
    ///
    /// # Errors
    /// Those of `text`; and the first line that cannot be understood.
    pub fn read(text: impl BufRead) -> Result<Events, Error> {
        let mut events = Events::default();
        // bpftrace's clock at the start of ours.
        let mut start_ns = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line?;
            events.take(&line, &mut start_ns).ok_or(Error::Line(number, line))?;
        }
        for event in &mut events.events {
            event.at_ns = event.at_ns.saturating_sub(start_ns);
        }
        // Stable: events of one processor keep their order.
        events.events.sort_by_key(|event| event.at_ns);
        Ok(events)
    }

    fn take(&mut self, line: &str, start_ns: &mut u64) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let Some(word) = words.next() else { return Some(()) };
        let words = &mut words;
        let kind = match word {
            // bpftrace's own words, before the first event.
            "Attaching" => return Some(()),
            "Lost" => {
                self.lost += next::<u64>(words)?;
                return Some(());
            }
            "program" => {
                self.program = words.next()?.to_owned();
                return Some(());
            }
            "machine" => {
                self.machine =
                    Machine { kernel: words.next()?.to_owned(), processors: next(words)?, memory_bytes: next(words)? };
                return Some(());
            }
            "model" => {
                self.model_bytes = place(words)?;
                return Some(());
            }
            "extent" => {
                let (in_file, on_drive, bytes) = (sectors(words)?, sectors(words)?, sectors(words)?);
                self.extents.push(Extent { in_file, on_drive, bytes });
                return Some(());
            }
            "faults" => {
                self.faults = (next(words)?, next(words)?);
                return Some(());
            }
            "start" => {
                *start_ns = next(words)?;
                let (seconds, micros) = words.next()?.split_once('.')?;
                self.started_unix_ns = seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
                self.started_unix_ns += micros.parse::<u32>().ok().map(u64::from)? * 1000;
                return Some(());
            }
            letter => {
                let at_ns = next(words)?;
                let kind = event(letter, words)?;
                Event { at_ns, kind }
            }
        };
        self.events.push(kind);
        words.next().is_none().then_some(())
    }
}

/// The event that `letter` stands for.
fn event(letter: &str, words: &mut SplitAsciiWhitespace) -> Option<Kind> {
    Some(match letter {
        "F" => Kind::Fault { tid: next(words)?, page: place(words)? },
        "M" => Kind::Mapped { tid: next(words)?, first: place(words)?, last: place(words)? },
        "A" => Kind::Added { page: place(words)?, pages: pages(words)? },
        "D" => Kind::Dropped { page: place(words)?, pages: pages(words)? },
        "S" => Kind::Sleeps { tid: next(words)? },
        "W" => Kind::Runs { tid: next(words)? },
        "I" => Kind::Issued { start: sectors(words)?, bytes: next::<u32>(words)?.into() },
        "Q" => Kind::Requeued { start: sectors(words)? },
        "C" => Kind::Completed { start: sectors(words)?, bytes: sectors(words)?, error: next(words)? },
        _ => return None,
    })
}

/// A page of a file or a place on a drive: far from the end of what a number holds, so that sums do.
fn place(words: &mut SplitAsciiWhitespace) -> Option<u64> {
    next(words).filter(|&place| place < 1 << 48)
}

fn next<T: FromStr>(words: &mut SplitAsciiWhitespace) -> Option<T> {
    words.next()?.parse().ok()
}

/// A number of sectors, in bytes.
fn sectors(words: &mut SplitAsciiWhitespace) -> Option<u64> {
    Some(place(words)? * SECTOR)
}

/// A folio's order, in pages.
fn pages(words: &mut SplitAsciiWhitespace) -> Option<u64> {
    next(words).filter(|&order| order < 32).map(|order: u32| 1 << order)
}
