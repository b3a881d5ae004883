//! The io_uring rungs: reads, the userfaultfd and the command eventfd share one ring, so that a
//! single wait serves all.
//!
//! Buffers are not registered: registered buffers pin their pages, and pinned pages cannot be moved.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{IoUring, opcode, squeue, types};

use super::{Event, Io, Read};
use crate::config::IoRung;

/// More than this io_uring_setup(2) refuses (IORING_MAX_ENTRIES).
const ENTRIES_MAX: u32 = 32768;

const TOKEN_FAULTS: u64 = u64::MAX;
const TOKEN_COMMANDS: u64 = u64::MAX - 1;

/// See the module's page.
pub struct Uring {
    rung: IoRung,
    ring: IoUring,
    uffd: RawFd,
    commands: RawFd,
    /// Polls that must be armed (again) at the next wait.
    arm_faults: bool,
    arm_commands: bool,
}

impl Uring {
    /// Makes a ring for `depth` reads in flight and the two polls. Must be called on the thread
    /// that will use it.
    pub fn new(rung: IoRung, uffd: RawFd, commands: RawFd, depth: u32) -> io::Result<Uring> {
        // Reads beyond the ring's size are submitted in several goes.
        let entries = depth.saturating_add(16).min(ENTRIES_MAX).next_power_of_two();
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(entries)
            // Kernels before 6.1 know neither flag; only latency differs.
            .or_else(|_| IoUring::builder().dontfork().build(entries))?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel's io_uring is too old (Linux 5.11)"));
        }
        Ok(Uring { rung, ring, uffd, commands, arm_faults: true, arm_commands: true })
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: reads name memory that the caller keeps valid until the completion (see
        // `Io::start`); polls name descriptors that outlive the ring.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.arm_faults) {
            let poll = opcode::PollAdd::new(types::Fd(self.uffd), libc::POLLIN as u32).multi(true);
            self.push(&poll.build().user_data(TOKEN_FAULTS))?;
        }
        if std::mem::take(&mut self.arm_commands) {
            let poll = opcode::PollAdd::new(types::Fd(self.commands), libc::POLLIN as u32).multi(true);
            self.push(&poll.build().user_data(TOKEN_COMMANDS))?;
        }
        Ok(())
    }
}

impl Io for Uring {
    fn rung(&self) -> IoRung {
        self.rung
    }

    fn start(&mut self, read: Read) -> io::Result<()> {
        debug_assert!(read.token < TOKEN_COMMANDS);
        let entry = opcode::Read::new(types::Fd(read.fd), read.addr as *mut u8, read.len)
            .offset(read.offset)
            .build()
            .user_data(read.token);
        self.push(&entry)
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.arm()?;
        let waited = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(limit) => {
                let limit = types::Timespec::from(limit);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit))
            }
        };
        match waited {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // ETIME: the limit is over. EBUSY: completions must be reaped first. EAGAIN: no
                // memory for a request right now; it stays queued.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        for entry in self.ring.completion() {
            let more = io_uring::cqueue::more(entry.flags());
            match entry.user_data() {
                TOKEN_FAULTS => {
                    self.arm_faults |= !more;
                    events.push(Event::Faults);
                }
                TOKEN_COMMANDS => {
                    self.arm_commands |= !more;
                    super::threads::reset(self.commands);
                    events.push(Event::Commands);
                }
                token => events.push(Event::Done { token, result: entry.result() }),
            }
        }
        Ok(())
    }
}
