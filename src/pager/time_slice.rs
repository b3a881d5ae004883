//! The pager thread's time slice.
//!
//! The pager runs for some microseconds, thousands of times a second, among threads that compute
//! without a pause. Linux 6.12 lets a thread ask for a short slice (`sched_runtime` of sched_setattr
//! under SCHED_OTHER): it then gets the processor sooner when it wakes up, and no more of it. No
//! privilege is needed. Kernels before that ignore it.

use std::io;
use std::mem::size_of;

/// The shortest slice that the kernel grants, in nanoseconds.
const SLICE_NS: u64 = 100_000;

/// The niceness of the lowest priority.
const NICE_MAX: i32 = 19;

/// Asks for the shortest slice for the calling thread, if it runs under the ordinary policy; its
/// niceness stays.
///
/// # Errors
/// The kernel refuses, as inside some sandboxes.
pub fn ask_for_short_slice() -> io::Result<()> {
    ask(|_| ())
}

/// Gives way to every other thread: the lowest priority of the ordinary policy, and the shortest slice. With a usual
/// slice a thread that wakes up waits for up to 3 ms even for one of the lowest priority.
///
/// # Errors
/// See [`ask_for_short_slice`].
pub fn give_way() -> io::Result<()> {
    ask(|attributes| attributes.sched_nice = NICE_MAX)
}

fn ask(change: impl FnOnce(&mut libc::sched_attr)) -> io::Result<()> {
    let mut attributes = attributes()?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = SLICE_NS;
    change(&mut attributes);
    // SAFETY: thread 0 is the calling one; the kernel reads one structure of ours.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: plain old data.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    // SAFETY: thread 0 is the calling one; the kernel writes at most `size` bytes to a structure of ours.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &mut attributes, size, 0) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_is_short_and_the_niceness_stays() {
        // A thread of its own: slice and niceness are a thread's.
        let (before, after) = std::thread::spawn(|| {
            let before = attributes().unwrap();
            // SAFETY: changes this thread's niceness alone.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, before.sched_nice + 3) };
            ask_for_short_slice().unwrap();
            (before, attributes().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(after.sched_nice, (before.sched_nice + 3).min(19));
        assert_eq!(after.sched_policy, before.sched_policy);
        // Before Linux 6.12 it reads as 0.
        assert!([SLICE_NS, 0].contains(&after.sched_runtime), "{}", after.sched_runtime);
        assert!(before.sched_runtime == 0 || after.sched_runtime == SLICE_NS);
    }

    #[test]
    fn who_gives_way_has_the_lowest_priority() {
        let after = std::thread::spawn(|| {
            give_way().unwrap();
            attributes().unwrap()
        });
        let after = after.join().unwrap();
        assert_eq!((after.sched_policy, after.sched_nice), (libc::SCHED_OTHER as u32, NICE_MAX));
        assert!([SLICE_NS, 0].contains(&after.sched_runtime), "{}", after.sched_runtime);
    }
}
