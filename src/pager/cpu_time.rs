//! Processor time.

use rustix::time::{ClockId, clock_gettime};

/// What the calling thread has used so far, in nanoseconds.
pub fn of_this_thread_ns() -> u64 {
    now_ns(ClockId::ThreadCPUTime)
}

/// What all threads of the process have used so far, in nanoseconds.
pub fn of_all_threads_ns() -> u64 {
    now_ns(ClockId::ProcessCPUTime)
}

fn now_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
