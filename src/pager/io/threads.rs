//! The `pread` rung: a few threads that call pread(2), for machines that refuse io_uring.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::super::uffd::raise;
use super::{Event, Io, Read};
use crate::config::IoRung;

/// Enough to keep a drive busy with large reads.
const THREADS_PER_DRIVE: u32 = 8;

/// See the module's page. The threads end when this is dropped.
pub struct Threads {
    work: Sender<Read>,
    done: Receiver<(u64, i32)>,
    woken: Arc<OwnedFd>,
    uffd: RawFd,
    commands: RawFd,
}

impl Threads {
    /// Starts the threads for `depth` reads in flight on each of `drives` drives; they inherit the
    /// caller's signal mask.
    pub fn new(uffd: RawFd, commands: RawFd, depth: u32, drives: u32) -> io::Result<Threads> {
        let (work, queue) = unbounded::<Read>();
        let (finished, done) = unbounded();
        let woken = Arc::new(raise(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        for _ in 0..depth.clamp(1, THREADS_PER_DRIVE) * drives {
            let (queue, finished, woken) = (queue.clone(), finished.clone(), woken.clone());
            std::thread::Builder::new().name("ggpager-read".into()).stack_size(64 << 10).spawn(move || {
                for read in queue {
                    if finished.send((read.token, pread(&read))).is_err() {
                        return;
                    }
                    signal(woken.as_raw_fd());
                }
            })?;
        }
        Ok(Threads { work, done, woken, uffd, commands })
    }
}

impl Io for Threads {
    fn rung(&self) -> IoRung {
        IoRung::Pread
    }

    fn start(&mut self, read: Read) -> io::Result<()> {
        self.work.send(read).map_err(|_| io::Error::other("the reading threads have ended"))
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let mut polled = [self.uffd, self.commands, self.woken.as_raw_fd()].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let limit_ms = timeout.map_or(-1, |limit| limit.as_millis().clamp(1, 1 << 30) as i32);
        // SAFETY: three initialised entries, all ours.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit_ms) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        if polled[0].revents != 0 {
            events.push(Event::Faults);
        }
        if polled[1].revents != 0 {
            reset(self.commands);
            events.push(Event::Commands);
        }
        if polled[2].revents != 0 {
            reset(self.woken.as_raw_fd());
        }
        events.extend(self.done.try_iter().map(|(token, result)| Event::Done { token, result }));
        Ok(())
    }
}

/// pread(2) by a system call: libc's own symbol may be hooked.
fn pread(read: &Read) -> i32 {
    // SAFETY: the pager keeps the frame valid and untouched until the completion.
    let got = unsafe { libc::syscall(libc::SYS_pread64, read.fd, read.addr, read.len as usize, read.offset) };
    if got < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { got as i32 }
}

/// Signals an eventfd.
pub fn signal(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight bytes of ours. A full counter (EAGAIN) is a signal all the same.
    unsafe { libc::syscall(libc::SYS_write, fd, &one, 8usize) };
}

/// Resets an eventfd.
pub fn reset(fd: RawFd) {
    let mut count = 0u64;
    // SAFETY: eight bytes of ours. An eventfd that was not signalled gives EAGAIN.
    unsafe { libc::syscall(libc::SYS_read, fd, &mut count, 8usize) };
}
