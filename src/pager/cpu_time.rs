//! Processor time.

use rustix::time::{ClockId, clock_gettime};

/// What the calling thread has used so far, in nanoseconds.
pub fn of_this_thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
