//! userfaultfd(2): one descriptor, its ioctls, and the events it delivers.
//!
//! Source of every behaviour named here: `ioctl_userfaultfd(2)`, `userfaultfd(2)` and
//! Documentation/admin-guide/mm/userfaultfd.rst of Linux 6.8 and later.

use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use linux_raw_sys::general as sys;
use linux_raw_sys::ioctl as op;

/// Feature bits that the fill ladder asks about.
pub mod feature {
    use super::sys;
    /// UFFDIO_MOVE, Linux 6.8.
    pub const MOVE: u64 = sys::UFFD_FEATURE_MOVE as u64;
    /// Minor faults on shared memory, Linux 5.14.
    pub const MINOR_SHMEM: u64 = sys::UFFD_FEATURE_MINOR_SHMEM as u64;
    /// Missing faults on shared memory, Linux 4.11.
    pub const MISSING_SHMEM: u64 = sys::UFFD_FEATURE_MISSING_SHMEM as u64;
    /// The event names the faulting thread, Linux 4.14.
    pub const THREAD_ID: u64 = sys::UFFD_FEATURE_THREAD_ID as u64;
}

/// `_IOWR(0xAA, 0x05, struct uffdio_move)`, which linux-raw-sys does not list.
const UFFDIO_MOVE: u32 = 0xC000_0000 | ((size_of::<sys::uffdio_move>() as u32) << 16) | (0xAA << 8) | 0x05;
/// `_IOWR(0xAA, 0x00, struct uffdio_register)` and its like have fixed numbers; the device's own is
/// `_IO(0xAA, 0x00)`.
const USERFAULTFD_IOC_NEW: u32 = 0xAA00;

/// Which faults of a registered range become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultMode {
    /// Faults from user mode and from system calls.
    Full,
    /// Faults from user mode alone: a system call that meets a hole fails with EFAULT.
    UserModeOnly,
}

impl FaultMode {
    /// The name that statistics use.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultMode::Full => "full",
            FaultMode::UserModeOnly => "user-mode-only",
        }
    }
}

/// How a range is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Touches of holes become events.
    Missing,
    /// Shared memory: touches of holes and of pages that are in the memfd but not mapped.
    MissingAndMinor,
    /// Nothing becomes an event, but the range may be the destination of [`Uffd::move_pages`]; a
    /// touch of a hole allocates as usual. (Write-protect tracking with nothing protected.)
    MoveTarget,
}

/// A page fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The address touched, rounded down to a page.
    pub address: usize,
    /// The thread that waits, 0 if the kernel does not say.
    pub tid: u32,
}

/// A userfaultfd after its handshake.
#[derive(Debug)]
pub struct Uffd {
    fd: OwnedFd,
    mode: FaultMode,
    features: u64,
}

impl Uffd {
    /// Opens a userfaultfd with the most rights that this process has: the system call (root, or
    /// `vm.unprivileged_userfaultfd=1`), `/dev/userfaultfd`, then user-mode-only, which everybody
    /// may have since Linux 5.11.
    pub fn open() -> io::Result<Uffd> {
        let features = Self::probe_features()?;
        let wanted = features & (feature::MOVE | feature::MINOR_SHMEM | feature::MISSING_SHMEM | feature::THREAD_ID);
        let (fd, mode) = Self::open_fd()?;
        let granted = handshake(&fd, wanted)?;
        Ok(Uffd { fd: raise(fd), mode, features: granted & wanted })
    }

    /// Feature bits of this kernel. The handshake may be done once per descriptor and fails when it
    /// asks for an unknown bit, so this takes a descriptor of its own.
    fn probe_features() -> io::Result<u64> {
        handshake(&Self::open_fd()?.0, 0)
    }

    fn open_fd() -> io::Result<(OwnedFd, FaultMode)> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        if let Ok(fd) = syscall_userfaultfd(flags) {
            return Ok((fd, FaultMode::Full));
        }
        if let Ok(device) = rustix::fs::open(
            "/dev/userfaultfd",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) {
            // SAFETY: USERFAULTFD_IOC_NEW takes open flags by value and touches no memory of ours.
            let fd = unsafe { libc::ioctl(device.as_raw_fd(), USERFAULTFD_IOC_NEW as libc::Ioctl, flags) };
            if fd >= 0 {
                // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
                return Ok((unsafe { OwnedFd::from_raw_fd(fd) }, FaultMode::Full));
            }
        }
        Ok((syscall_userfaultfd(flags | sys::UFFD_USER_MODE_ONLY as i32)?, FaultMode::UserModeOnly))
    }

    /// Which faults become events.
    pub fn mode(&self) -> FaultMode {
        self.mode
    }

    /// Whether every feature of `bits` was granted.
    pub fn has(&self, bits: u64) -> bool {
        self.features & bits == bits
    }

    /// The descriptor, for polling.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Registers `range` (page aligned).
    pub fn register(&self, range: Range<usize>, track: Track) -> io::Result<()> {
        let mode = match track {
            Track::Missing => sys::UFFDIO_REGISTER_MODE_MISSING,
            Track::MissingAndMinor => sys::UFFDIO_REGISTER_MODE_MISSING | sys::UFFDIO_REGISTER_MODE_MINOR,
            Track::MoveTarget => sys::UFFDIO_REGISTER_MODE_WP,
        };
        let mut arg = sys::uffdio_register { range: uffdio_range(&range), mode: mode.into(), ioctls: 0 };
        self.ioctl(op::UFFDIO_REGISTER, &mut arg)
    }

    /// Moves the pages of `src` to `dst` without copying and wakes who waits for `dst`.
    ///
    /// Returns the bytes moved, which are fewer than `len` when a page was busy: the caller tries
    /// the rest again. Errors: `EAGAIN`/`EBUSY` (transient: a folio lock or a pin), `EEXIST` (the
    /// destination holds a page), `ENOENT` (the source is a hole).
    pub fn move_pages(&self, dst: usize, src: usize, len: usize) -> Result<usize, (usize, io::Error)> {
        let mut arg = sys::uffdio_move { dst: dst as u64, src: src as u64, len: len as u64, mode: 0, move_: 0 };
        match self.ioctl(UFFDIO_MOVE, &mut arg) {
            Ok(()) => Ok(len),
            Err(error) => Err((arg.move_.max(0) as usize, error)),
        }
    }

    /// Copies `len` bytes from `src` into new pages at `dst` and wakes who waits for them. Returns
    /// the bytes copied; errors as for [`Uffd::move_pages`].
    pub fn copy(&self, dst: usize, src: usize, len: usize) -> Result<usize, (usize, io::Error)> {
        let mut arg = sys::uffdio_copy { dst: dst as u64, src: src as u64, len: len as u64, mode: 0, copy: 0 };
        match self.ioctl(op::UFFDIO_COPY, &mut arg) {
            Ok(()) => Ok(len),
            Err(error) => Err((arg.copy.max(0) as usize, error)),
        }
    }

    /// Maps pages that are already in the memfd behind `dst` and wakes who waits for them. Returns
    /// the bytes mapped; errors as for [`Uffd::move_pages`].
    pub fn map_existing(&self, dst: usize, len: usize) -> Result<usize, (usize, io::Error)> {
        let mut arg = sys::uffdio_continue { range: uffdio_range(&(dst..dst + len)), mode: 0, mapped: 0 };
        match self.ioctl(op::UFFDIO_CONTINUE, &mut arg) {
            Ok(()) => Ok(len),
            Err(error) => Err((arg.mapped.max(0) as usize, error)),
        }
    }

    /// Wakes every thread that waits in `range`; it touches again.
    pub fn wake(&self, range: Range<usize>) {
        let mut arg = uffdio_range(&range);
        // The only failure is a malformed range, which callers never pass.
        let _ = self.ioctl(op::UFFDIO_WAKE, &mut arg);
    }

    /// Reads the events that have come, at most `out.capacity()`, without blocking; `out` is
    /// cleared first.
    pub fn read_faults(&self, out: &mut Vec<Fault>) -> io::Result<()> {
        out.clear();
        const BATCH: usize = 32;
        let mut messages = [std::mem::MaybeUninit::<sys::uffd_msg>::uninit(); BATCH];
        while out.capacity() - out.len() >= BATCH {
            // SAFETY: the buffer is ours and has exactly this many bytes.
            let got = unsafe {
                libc::syscall(
                    libc::SYS_read,
                    self.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    size_of::<sys::uffd_msg>() * BATCH,
                )
            };
            if got < 0 {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(()),
                    io::ErrorKind::Interrupted => continue,
                    _ => Err(error),
                };
            }
            let count = got as usize / size_of::<sys::uffd_msg>();
            for message in &messages[..count] {
                // SAFETY: the kernel wrote this message whole: read(2) on a userfaultfd gives whole
                // messages only.
                let message = unsafe { message.assume_init() };
                if u32::from(message.event) == sys::UFFD_EVENT_PAGEFAULT {
                    // SAFETY: the event says which member of the union is valid.
                    let fault = unsafe { message.arg.pagefault };
                    // SAFETY: `feat` has one member.
                    let tid = unsafe { fault.feat.ptid };
                    out.push(Fault { address: fault.address as usize & !4095, tid });
                }
            }
            if count < BATCH {
                return Ok(());
            }
        }
        Ok(())
    }

    fn ioctl<T>(&self, request: u32, arg: &mut T) -> io::Result<()> {
        ioctl(&self.fd, request, arg)
    }
}

fn uffdio_range(range: &Range<usize>) -> sys::uffdio_range {
    sys::uffdio_range { start: range.start as u64, len: (range.end - range.start) as u64 }
}

fn ioctl<T>(fd: &OwnedFd, request: u32, arg: &mut T) -> io::Result<()> {
    // SAFETY: every caller pairs the request with the structure that the kernel defines for it, and
    // `arg` outlives the call. Addresses inside it are checked by the kernel.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, arg as *mut T) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn syscall_userfaultfd(flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: userfaultfd(2) takes flags by value.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn handshake(fd: &OwnedFd, features: u64) -> io::Result<u64> {
    let mut arg = sys::uffdio_api { api: 0xAA, features, ioctls: 0 };
    ioctl(fd, op::UFFDIO_API, &mut arg)?;
    Ok(arg.features)
}

/// Moves a descriptor out of the low numbers, which programs may count on; gives it back as it is
/// when the limit on open files leaves no room.
pub fn raise(fd: OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&fd, 500).unwrap_or(fd)
}
