//! The measurement with one io_uring, as the pager reads.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use super::buffers::Buffers;
use super::{GRACE, Options, Places, Tally};

/// Reads `places` of `file`; `None` when this process may not have an io_uring.
pub fn run(file: &File, mut places: Places, options: &Options) -> io::Result<Option<Tally>> {
    let Ok(mut ring) = IoUring::new(options.depth) else { return Ok(None) };
    if !ring.params().is_feature_ext_arg() {
        return Ok(None); // Before Linux 5.11 there is no wait with an end.
    }
    let buffers = Buffers::new(options.depth as usize, options.request_bytes as usize)?;
    let start = Instant::now();
    let mut tally = Tally::new(start);
    let mut submitted = vec![start; options.depth as usize];
    let mut idle: Vec<usize> = (0..options.depth as usize).collect();
    let mut failed = None;
    loop {
        // Checked before every wave: an error or the end of the time lets the reads in flight end,
        // because the kernel still writes into their buffers.
        while failed.is_none() && tally.goes_on(options.time_max) {
            let Some(slot) = idle.pop() else { break };
            let Some(offset) = places.next() else {
                idle.push(slot);
                break;
            };
            let read = opcode::Read::new(Fd(file.as_raw_fd()), buffers.address(slot), options.request_bytes)
                .offset(offset)
                .build()
                .user_data(slot as u64);
            submitted[slot] = Instant::now();
            // SAFETY: the buffer of an idle slot is in nobody's use and lives until its completion:
            // `buffers` is dropped only when no read is in flight, and is leaked otherwise.
            unsafe { ring.submission().push(&read).expect("as many entries as slots") };
        }
        if idle.len() == options.depth as usize {
            return failed.map_or(Ok(Some(tally)), Err);
        }
        let left = (options.time_max + GRACE).saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        let timeout = Timespec::from(left.min(Duration::from_secs(3600)));
        match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {}
            Err(error) => {
                let late = error.raw_os_error() == Some(libc::ETIME);
                if late && start.elapsed() < options.time_max + GRACE {
                    continue;
                }
                std::mem::forget(buffers);
                let hung = || io::Error::new(io::ErrorKind::TimedOut, "the drive does not answer");
                return Err(if late { hung() } else { error });
            }
        }
        for entry in ring.completion() {
            let slot = entry.user_data() as usize;
            idle.push(slot);
            match entry.result() {
                count @ 0.. => tally.completed(count as u64, submitted[slot]),
                code if matches!(-code, libc::EINTR | libc::EAGAIN) => {}
                code => failed = failed.or_else(|| Some(io::Error::from_raw_os_error(-code))),
            }
        }
    }
}
