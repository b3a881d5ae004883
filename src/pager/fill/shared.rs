//! The `continue` rung: the view is a memfd mapping, reads land in the memfd through a second
//! mapping of it, and UFFDIO_CONTINUE makes the pages appear in the view.
//!
//! A block's memory is bound to its place in the memfd, so a frame is no more than a permission to
//! use memory; eviction punches a hole, which frees it.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::mm::Advice;

use super::super::region::{HUGE, PAGE, Region, advise, page_ceil};
use super::super::uffd::{Track, Uffd, feature, raise};
use super::{Fill, Frame, Place, until_done};
use crate::config::FillRung;

struct View {
    range: Range<usize>,
    /// The pager's own mapping of the same memory, at the same offset modulo 2 MiB.
    alias: Region,
    memfd: OwnedFd,
    /// Offset in the memfd of the view's first byte.
    start: u64,
    /// Bytes of the view that have not been closed.
    open_bytes: usize,
}

/// See the module's page.
pub struct Shared {
    uffd: Arc<Uffd>,
    views: Vec<View>,
}

impl Shared {
    /// Fails when the kernel has no minor faults on shared memory.
    pub fn new(uffd: Arc<Uffd>) -> io::Result<Shared> {
        if !uffd.has(feature::MINOR_SHMEM | feature::MISSING_SHMEM) {
            let text = "this kernel has no minor faults on shared memory (Linux 5.14)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(Shared { uffd, views: Vec::new() })
    }

    fn view(&self, addr: usize) -> &View {
        self.views.iter().find(|view| view.range.contains(&addr)).expect("blocks lie in open views")
    }

    fn alias_of(&self, addr: usize) -> usize {
        let view = self.view(addr);
        view.alias.start() + (addr - view.range.start)
    }

    fn free(&self, range: Range<usize>) {
        let view = self.view(range.start);
        let offset = view.start + (range.start - view.range.start) as u64;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&view.memfd, flags, offset, range.len() as u64);
    }
}

impl Fill for Shared {
    fn rung(&self) -> FillRung {
        FillRung::Continue
    }

    fn open_view(&mut self, offset: u64, len: usize) -> io::Result<Range<usize>> {
        let len = page_ceil(len);
        // The memfd begins where the file's huge page begins, so that offsets agree modulo 2 MiB.
        let start = offset % HUGE as u64;
        let memfd = raise(rustix::fs::memfd_create("ggpager", MemfdFlags::CLOEXEC)?);
        rustix::fs::ftruncate(&memfd, start + len as u64)?;
        let alias = Region::map_shared(memfd.as_fd(), start, len)?;
        let view = Region::map_shared(memfd.as_fd(), start, len)?;
        self.uffd.register(view.range(), Track::MissingAndMinor)?;
        let range = view.leak();
        self.views.push(View { range: range.clone(), alias, memfd, start, open_bytes: len });
        Ok(range)
    }

    fn close(&mut self, range: Range<usize>) {
        self.free(range.clone());
        let at = self.views.iter().position(|view| view.range.contains(&range.start)).expect("an open view");
        self.views[at].open_bytes -= range.len();
        if self.views[at].open_bytes == 0 {
            self.views.swap_remove(at);
        }
    }

    fn acquire(&mut self, place: &Place) -> io::Result<Frame> {
        Ok(Frame { addr: self.alias_of(place.addr), slot: 0 })
    }

    fn install(&mut self, place: &Place, _frame: Frame) -> io::Result<()> {
        let mapped = until_done(place.len, |done| self.uffd.map_existing(place.addr + done, place.len - done));
        mapped.map_err(|(_, error)| {
            self.free(place.range());
            error
        })
    }

    fn rearm(&mut self, place: &Place) -> io::Result<Frame> {
        // Drops the view's page table entries; the pages stay in the memfd.
        advise(place.range(), Advice::LinuxDontNeed)?;
        self.acquire(place)
    }

    fn evict(&mut self, place: &Place) {
        self.free(place.range());
    }

    fn is_intact(&mut self, page: usize) -> bool {
        match self.uffd.map_existing(page, PAGE) {
            Ok(_) => true,
            Err((_, error)) => error.raw_os_error() == Some(libc::EEXIST),
        }
    }

    fn discard(&mut self, place: &Place, _frame: Frame) {
        self.free(place.range());
    }

    fn spare_bytes(&self) -> u64 {
        0
    }

    fn trim(&mut self, _keep_bytes: u64) {}
}
