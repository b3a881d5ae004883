//! The drive below a file: what it is ([`device`]), how fast it reads ([`measure`]), and what is
//! remembered of it ([`profile`]).
//!
//! The measurement is a null consumer: it reads the file itself with the pager's kind of requests
//! and throws the bytes away. That is the ceiling a paged run can reach on this drive, for this
//! request size, depth and pattern, at this minute.

mod buffers;
pub mod device;
pub mod profile;
mod threads;
mod uring;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::config::IoRung;
use crate::stats::Percentiles;

/// Alignment that satisfies O_DIRECT on every drive in use, in bytes.
const ALIGN: u64 = 4096;
/// Most memory that a measurement takes, in bytes.
const BUFFERS_MAX: u64 = 1 << 30;
/// A request that takes longer than this beyond the time asked for is an error, not a wait.
const GRACE: Duration = Duration::from_secs(10);

/// Where the requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// From an offset of the file on (rounded down to whole requests), around its end to its start.
    Sequential {
        /// Where to begin, in bytes.
        start: u64,
    },
    /// Scattered over the whole file without touching a place twice before all have been touched.
    Scattered {
        /// Where to begin: measurements with different seeds start at different places.
        seed: u64,
    },
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Past the page cache with O_DIRECT. Where the file system refuses, the measurement goes
    /// through the page cache, and [`Rate::direct`] says so.
    pub direct: bool,
    /// False measures with threads that call pread, as where io_uring is refused.
    pub uring: bool,
    /// Size of one read in bytes, rounded up to 4 KiB.
    pub request_bytes: u32,
    /// Reads in flight, 1 to 1024. Together they may take 1 GiB of memory.
    pub depth: u32,
    /// No read begins after this many bytes.
    pub bytes_max: u64,
    /// No read begins after this time.
    pub time_max: Duration,
    /// Where the reads go.
    pub pattern: Pattern,
}

impl Default for Options {
    /// One second at most of what the pager does: 16 scattered direct reads of 2 MiB in flight.
    fn default() -> Self {
        Options {
            direct: true,
            uring: true,
            request_bytes: 2 << 20,
            depth: 16,
            bytes_max: u64::MAX,
            time_max: Duration::from_secs(1),
            pattern: Pattern::Scattered { seed: 0 },
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// Bytes per second, from the first submission to the last completion.
    pub bytes_per_s: f64,
    /// Bytes read.
    pub bytes: u64,
    /// Reads done.
    pub reads: u64,
    /// From the first submission to the last completion, in seconds.
    pub elapsed_s: f64,
    /// Mean time of one read, in microseconds.
    pub mean_latency_us: f64,
    /// Time of one read, in microseconds.
    pub latency_us: Percentiles,
    /// Whether the page cache was avoided. If not, a file in the page cache measures the RAM.
    pub direct: bool,
    /// How the reads were made: `uring-direct`, `uring` or `pread`.
    #[serde(serialize_with = "word")]
    pub rung: IoRung,
    /// Size of one read, in bytes.
    pub request_bytes: u32,
    /// Reads in flight.
    pub depth: u32,
    /// Where the reads went.
    pub pattern: Pattern,
}

fn word<S: serde::Serializer>(rung: &IoRung, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(rung.as_str())
}

/// Reads the file at `path` as `options` say and throws the bytes away. Takes the first rung of
/// `uring-direct`, `uring`, `pread` that works.
///
/// # Errors
/// The file cannot be opened or read, is empty, or io_uring reads take 10 s longer than the time asked
/// for (threads wait as long as the drive does).
pub fn measure(path: &Path, options: &Options) -> io::Result<Rate> {
    let options = Options {
        request_bytes: options.request_bytes.clamp(1, 1 << 30).next_multiple_of(ALIGN as u32),
        depth: options.depth.clamp(1, 1024),
        ..*options
    };
    if u64::from(options.request_bytes) * u64::from(options.depth) > BUFFERS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the reads in flight would take more than 1 GiB"));
    }
    if options.direct {
        match open(path, libc::O_DIRECT).and_then(|file| with_file(&file, &options)) {
            // EINVAL comes from open on some file systems and from the first read on others.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => return done,
        }
    }
    with_file(&open(path, 0)?, &Options { direct: false, ..options })
}

fn open(path: &Path, flags: libc::c_int) -> io::Result<File> {
    File::options().read(true).custom_flags(flags | libc::O_CLOEXEC).open(path)
}

fn with_file(file: &File, options: &Options) -> io::Result<Rate> {
    let places = Places::new(file.metadata()?.len(), options)?;
    if options.uring
        && let Some(tally) = uring::run(file, places.clone(), options)?
    {
        let rung = if options.direct { IoRung::UringDirect } else { IoRung::Uring };
        return Ok(tally.rate(rung, options));
    }
    Ok(threads::run(file, places, options)?.rate(IoRung::Pread, options))
}

/// The offsets to read, in order.
#[derive(Debug, Clone)]
struct Places {
    request: u64,
    count: u64,
    step: u64,
    next: u64,
    left: u64,
}

impl Places {
    fn new(file_bytes: u64, options: &Options) -> io::Result<Places> {
        if file_bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file has no rate"));
        }
        let request = u64::from(options.request_bytes);
        // The last, partial request would count as a fast one: it is read only if there is no other.
        let count = (file_bytes / request).max(1);
        let (step, first) = match options.pattern {
            Pattern::Sequential { start } => (1, start / request),
            // Steps near the golden section scatter evenly, and a step without a common divisor
            // reaches every place.
            Pattern::Scattered { seed } => {
                let golden = ((count as f64 * 0.618_034) as u64).max(1);
                let step = (golden..golden + count).find(|step| gcd(*step, count) == 1).unwrap_or(1);
                (step, seed)
            }
        };
        let left = options.bytes_max.div_ceil(request).max(1);
        Ok(Places { request, count, step: step % count, next: first % count, left })
    }
}

impl Iterator for Places {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.next * self.request;
        self.next = (self.next + self.step) % self.count;
        Some(offset)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What an engine has counted.
struct Tally {
    start: Instant,
    end: Instant,
    bytes: u64,
    latency_us: Histogram<u64>,
}

impl Tally {
    fn new(start: Instant) -> Tally {
        let latency_us = Histogram::new_with_bounds(1, 100_000_000, 3).expect("constant bounds are valid");
        Tally { start, end: start, bytes: 0, latency_us }
    }

    /// Whether another read may begin: one at least is made, however short the time.
    fn goes_on(&self, time_max: Duration) -> bool {
        let elapsed = self.start.elapsed();
        elapsed < time_max || self.latency_us.is_empty() && elapsed < time_max + GRACE
    }

    fn completed(&mut self, bytes: u64, submitted: Instant) {
        self.end = Instant::now();
        self.bytes += bytes;
        self.latency_us.saturating_record((self.end - submitted).as_micros() as u64);
    }

    fn rate(&self, rung: IoRung, options: &Options) -> Rate {
        let elapsed_s = (self.end - self.start).as_secs_f64();
        Rate {
            bytes_per_s: self.bytes as f64 / elapsed_s.max(1e-9),
            bytes: self.bytes,
            reads: self.latency_us.len(),
            elapsed_s,
            mean_latency_us: self.latency_us.mean(),
            latency_us: Percentiles::from(&self.latency_us),
            direct: options.direct,
            rung,
            request_bytes: options.request_bytes,
            depth: options.depth,
            pattern: options.pattern,
        }
    }
}

#[cfg(test)]
mod tests;
