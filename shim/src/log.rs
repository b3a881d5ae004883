//! The library's logger: formats on the stack and makes one system call.
//!
//! The thread that logs may be the pager's while a thread of the program faults inside stdio and
//! holds its lock, so stdio is out of the question.

use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use env_filter::{Builder, Filter};
use ggpager_core::config::var;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::sys;

/// A longer line is cut.
const LINE_BYTES_MAX: usize = 1024;

struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    len: usize,
}

impl Write for Line {
    /// Takes what fits, leaving room for the line's end.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES_MAX - 1 - self.len;
        let mut take = text.len().min(room);
        while !text.is_char_boundary(take) {
            take -= 1;
        }
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        if take < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

struct Stderr {
    filter: OnceLock<Filter>,
}

static LOGGER: Stderr = Stderr { filter: OnceLock::new() };

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.get().is_some_and(|filter| filter.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.get().is_some_and(|filter| filter.matches(record)) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let mut line = Line { bytes: [0; LINE_BYTES_MAX], len: 0 };
        // An error says that the line was cut, which is all that there is to do about it.
        let _ = write!(line, "ggpager: {level}: {}", record.args());
        line.bytes[line.len] = b'\n';
        let _ = sys::write_all(libc::STDERR_FILENO, &line.bytes[..=line.len]);
    }

    fn flush(&self) {}
}

/// Installs the logger with the filter of `GGPAGER_LOG`.
pub fn install() {
    let spec = std::env::var(var::LOG).unwrap_or_default();
    let mut builder = Builder::new();
    let understood = spec.is_empty() || builder.try_parse(&spec).is_ok();
    if spec.is_empty() || !understood {
        builder = Builder::new();
        builder.filter_level(LevelFilter::Warn);
    }
    let filter = builder.build();
    let level = filter.filter();
    if LOGGER.filter.set(filter).is_ok() && log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
    if !understood {
        log::warn!("{}: {spec:?} is not a level or filter such as warn or ggpager=debug; using warn", var::LOG);
    }
}

/// Panics say one line through this logger instead of std's report on stderr; before there is a
/// logger they say nothing.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        /// Relaxed: a second line would do no harm.
        static SAID: AtomicBool = AtomicBool::new(false);
        if !SAID.swap(true, Ordering::Relaxed) {
            let payload = panic.payload();
            let said = payload.downcast_ref::<&str>().copied();
            let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
            let (file, line) = panic.location().map_or(("?", 0), |place| (place.file(), place.line()));
            log::error!("internal error, falling back: panicked at {file}:{line}: {said}");
        }
    }));
}
