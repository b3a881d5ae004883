//! Which userfaultfd this process may have, by opening one: userfaultfd(2), ioctl_userfaultfd(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use linux_raw_sys::general as sys;
use linux_raw_sys::ioctl::UFFDIO_API;
use rustix::fs::{Mode, OFlags};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

use crate::config::FillRung;

/// `_IO(0xAA, 0x00)`: a userfaultfd from the device, Linux 6.1.
const USERFAULTFD_IOC_NEW: libc::c_ulong = 0xAA00;

/// The best access that was granted, and the features behind it.
pub struct Access {
    /// False: faults of user mode alone, a system call that meets a hole in a view fails.
    pub full: bool,
    /// How it was opened.
    pub by: &'static str,
    features: u64,
}

/// Names of the features that matter here, with their bits.
const FEATURES: [(&str, u32); 6] = [
    ("MOVE", sys::UFFD_FEATURE_MOVE),
    ("MINOR_SHMEM", sys::UFFD_FEATURE_MINOR_SHMEM),
    ("POISON", sys::UFFD_FEATURE_POISON),
    ("WP", sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP),
    ("MISSING_SHMEM", sys::UFFD_FEATURE_MISSING_SHMEM),
    ("THREAD_ID", sys::UFFD_FEATURE_THREAD_ID),
];

impl Access {
    /// Opens the best userfaultfd that this process gets, and closes it again. The error is that of
    /// the last, least demanding way.
    pub fn probe() -> io::Result<Access> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let user_mode = UserfaultfdFlags::from_bits_retain(sys::UFFD_USER_MODE_ONLY);
        // SAFETY: nothing is registered with any of these descriptors; no fault is ever held up.
        let call = |flags| unsafe { userfaultfd(flags) }.map_err(io::Error::from);
        let access = |full, by, fd: io::Result<OwnedFd>| Ok(Access { full, by, features: features(&fd?)? });
        access(true, "userfaultfd(2)", call(flags))
            .or_else(|_: io::Error| access(true, "/dev/userfaultfd", from_device()))
            .or_else(|_| access(false, "userfaultfd(2), user mode only", call(flags | user_mode)))
    }

    /// `full` or `user-mode-only`, as in the statistics.
    pub fn mode(&self) -> &'static str {
        if self.full { "full" } else { "user-mode-only" }
    }

    /// The names of the features that are there.
    pub fn features(&self) -> Vec<&'static str> {
        FEATURES.iter().filter(|(_, bit)| self.has(*bit)).map(|(name, _)| *name).collect()
    }

    /// The rung of the fill ladder that these features allow.
    pub fn fill_rung(&self) -> FillRung {
        if self.has(sys::UFFD_FEATURE_MOVE) {
            FillRung::Move
        } else if self.has(sys::UFFD_FEATURE_MINOR_SHMEM) && self.has(sys::UFFD_FEATURE_MISSING_SHMEM) {
            FillRung::Continue
        } else {
            FillRung::Copy
        }
    }

    fn has(&self, bit: u32) -> bool {
        self.features & u64::from(bit) != 0
    }
}

fn from_device() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/userfaultfd", flags, Mode::empty())?;
    // SAFETY: this ioctl takes flags by value and touches no memory.
    let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The handshake: asks for nothing, and is told everything the kernel has.
fn features(fd: &OwnedFd) -> io::Result<u64> {
    let mut api = sys::uffdio_api { api: u64::from(sys::UFFD_API), features: 0, ioctls: 0 };
    // SAFETY: UFFDIO_API reads and writes one `uffdio_api`, which lives until the call returns.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(UFFDIO_API), &mut api) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(api.features) }
}
