//! The measurement with a thread for each read in flight.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::time::Instant;

use super::buffers::Buffers;
use super::{Options, Places, Tally};

/// Threads at most: beyond that the scheduler is measured, not the drive.
const THREADS_MAX: u32 = 64;

/// Reads `places` of `file`.
pub fn run(file: &File, places: Places, options: &Options) -> io::Result<Tally> {
    let threads = options.depth.min(THREADS_MAX) as usize;
    let buffers = Buffers::new(threads, options.request_bytes as usize)?;
    let start = Instant::now();
    let places = Mutex::new(places);
    let tally = Mutex::new(Tally::new(start));
    let next = || places.lock().expect("nothing panics under this lock").next();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|index| {
                let (buffers, tally, next) = (&buffers, &tally, &next);
                scope.spawn(move || -> io::Result<()> {
                    while tally.lock().expect("nothing panics under this lock").goes_on(options.time_max) {
                        let Some(offset) = next() else { break };
                        let submitted = Instant::now();
                        let bytes = read(file, buffers.address(index), options.request_bytes as usize, offset)?;
                        tally.lock().expect("nothing panics under this lock").completed(bytes, submitted);
                    }
                    Ok(())
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("readers do not panic"))
    })?;
    Ok(tally.into_inner().expect("nothing panics under this lock"))
}

fn read(file: &File, buffer: *mut u8, len: usize, offset: u64) -> io::Result<u64> {
    loop {
        // SAFETY: `buffer` has `len` bytes, and only this thread uses it.
        let count = unsafe { libc::pread64(file.as_raw_fd(), buffer.cast(), len, offset as i64) };
        match count {
            0.. => return Ok(count as u64),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
