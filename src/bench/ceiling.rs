//! The drive's ceiling `W`: a null consumer with the pager's request size and depth.
//!
//! A drive limit holds for the processes of a control group, so the measurement runs in a process
//! of its own that starts inside the group: [`super::Bench`] starts this program again.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drive::{self, Options, Pattern};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Bytes read for it.
    pub bytes: u64,
    /// Time it took in seconds.
    pub time_s: f64,
    /// Mean time of one read in microseconds.
    pub latency_us: f64,
}

/// Reads `path` in the order of `pattern` (and again), `depth` reads of `request_bytes` at a time,
/// without the page cache, for `time_max`.
///
/// # Errors
/// When the file cannot be read past the page cache, or is shorter than one request.
pub fn measure(
    path: &Path,
    request_bytes: usize,
    depth: u32,
    pattern: Pattern,
    time_max: Duration,
) -> io::Result<Ceiling> {
    if path.metadata()?.len() < request_bytes as u64 {
        return Err(io::Error::other("the file is shorter than one request"));
    }
    let request_bytes = u32::try_from(request_bytes).map_err(io::Error::other)?;
    let rate = drive::measure(path, &Options { request_bytes, depth, time_max, pattern, ..Options::default() })?;
    if !rate.direct {
        return Err(io::Error::other("the file system reads through the page cache only"));
    }
    Ok(Ceiling {
        bytes_per_s: rate.bytes_per_s,
        bytes: rate.bytes,
        time_s: rate.elapsed_s,
        latency_us: rate.mean_latency_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_until_the_time_is_up() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        std::fs::write(file.path(), vec![7u8; 1 << 20]).unwrap();
        match measure(file.path(), 128 << 10, 4, Pattern::Scattered { seed: 1 }, Duration::from_millis(20)) {
            Ok(ceiling) => {
                assert!(ceiling.bytes > 0 && ceiling.bytes % (128 << 10) == 0, "{ceiling:?}");
                assert!((ceiling.bytes_per_s * ceiling.time_s - ceiling.bytes as f64).abs() < 1.0);
            }
            Err(error) => {
                eprintln!("skipped: {error}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
            }
        }
        assert!(measure(file.path(), 2 << 20, 1, Pattern::Sequential { start: 0 }, Duration::from_millis(1)).is_err());
    }
}
