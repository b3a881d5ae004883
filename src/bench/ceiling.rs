//! The drive's ceiling `W`: a null consumer with the pager's request size and depth.
//!
//! A drive limit holds for the processes of a control group, so the measurement runs in a process
//! of its own that starts inside the group: [`super::Bench`] starts this program again.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Alignment that O_DIRECT asks for at most (a page; drives with larger blocks are not in use).
const ALIGNMENT: usize = 4096;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Bytes read for it.
    pub bytes: u64,
    /// Time it took in seconds.
    pub time_s: f64,
}

/// A buffer that O_DIRECT can read into.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Buffer {
    fn new(bytes: usize) -> Buffer {
        let memory = vec![0u8; bytes + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Buffer { memory, start, bytes }
    }

    fn slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

/// Reads `path` from front to back (and again), `depth` reads of `request_bytes` at a time, without
/// the page cache, for `time_max`.
///
/// # Errors
/// When the file cannot be opened for O_DIRECT or read, or is shorter than one request.
pub fn measure(path: &Path, request_bytes: usize, depth: u32, time_max: Duration) -> io::Result<Ceiling> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
    let requests = file.metadata()?.len() / request_bytes as u64;
    if requests == 0 {
        return Err(io::Error::other("the file is shorter than one request"));
    }
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let reader = || -> io::Result<u64> {
        let mut buffer = Buffer::new(request_bytes);
        let mut bytes = 0;
        while start.elapsed() < time_max {
            // Relaxed: each number goes to one reader; nothing else is shared.
            let request = next.fetch_add(1, Ordering::Relaxed) % requests;
            file.read_exact_at(buffer.slice(), request * request_bytes as u64)?;
            bytes += request_bytes as u64;
        }
        Ok(bytes)
    };
    let bytes = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..depth).map(|_| scope.spawn(reader)).collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap_or_else(|_| Err(io::Error::other("panic"))))
            .sum::<io::Result<u64>>()
    })?;
    let time_s = start.elapsed().as_secs_f64();
    Ok(Ceiling { bytes_per_s: bytes as f64 / time_s, bytes, time_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_until_the_time_is_up() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        std::fs::write(file.path(), vec![7u8; 1 << 20]).unwrap();
        match measure(file.path(), 128 << 10, 4, Duration::from_millis(20)) {
            Ok(ceiling) => {
                assert!(ceiling.bytes > 0 && ceiling.bytes % (128 << 10) == 0, "{ceiling:?}");
                assert!((ceiling.bytes_per_s * ceiling.time_s - ceiling.bytes as f64).abs() < 1.0);
            }
            Err(error) => {
                eprintln!("skipped: {error}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
            }
        }
        assert!(measure(file.path(), 2 << 20, 1, Duration::from_millis(1)).is_err());
    }
}
