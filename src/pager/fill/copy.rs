//! The `copy` rung: reads land in a pool slot and are copied into fresh pages of the view.
//!
//! The slot keeps its memory for the next read, so besides the blocks themselves a few slots (as
//! many as reads are in flight) hold memory; [`super::Fill::trim`] bounds them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::mm::Advice;

use super::super::region::{HUGE, Region, advise, is_resident};
use super::super::uffd::{Track, Uffd};
use super::pool::Pool;
use super::slots::Ground;
use super::{Fill, Frame, Place, until_done};
use crate::config::FillRung;

/// See the module's page.
pub struct Copy {
    uffd: Arc<Uffd>,
    pool: Pool,
}

/// Memory that nothing is moved to.
struct Plain;

impl Ground for Plain {
    fn reserved(&self, _chunk: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

impl Copy {
    /// Every kernel since 4.11 has UFFDIO_COPY.
    pub fn new(uffd: Arc<Uffd>) -> Copy {
        Copy { uffd, pool: Pool::default() }
    }
}

impl Fill for Copy {
    fn rung(&self) -> FillRung {
        FillRung::Copy
    }

    fn open_view(&mut self, offset: u64, len: usize) -> io::Result<Range<usize>> {
        let view = Region::reserve(len, offset as usize % HUGE)?;
        self.uffd.register(view.range(), Track::Missing)?;
        Ok(view.leak())
    }

    fn close(&mut self, _range: Range<usize>) {}

    fn acquire(&mut self, place: &Place) -> io::Result<Frame> {
        let slot = self.pool.take_full(place.frame_bytes, &Plain)?;
        Ok(Frame { addr: self.pool.addr(slot), slot })
    }

    fn install(&mut self, place: &Place, frame: Frame) -> io::Result<()> {
        let copied =
            until_done(place.len, |done| self.uffd.copy(place.addr + done, frame.addr + done, place.len - done));
        self.pool.put_full(frame.slot);
        copied.map_err(|(_, error)| {
            let _ = advise(place.range(), Advice::LinuxDontNeed);
            error
        })
    }

    fn rearm(&mut self, place: &Place) -> io::Result<Frame> {
        let frame = self.acquire(place)?;
        // SAFETY: the block is in the view, so reading it raises no event; the slot is ours and at
        // least as long.
        unsafe { std::ptr::copy_nonoverlapping(place.addr as *const u8, frame.addr as *mut u8, place.len) };
        advise(place.range(), Advice::LinuxDontNeed)?;
        Ok(frame)
    }

    fn evict(&mut self, place: &Place) {
        let _ = advise(place.range(), Advice::LinuxDontNeed);
    }

    fn is_intact(&mut self, page: usize) -> bool {
        is_resident(page)
    }

    fn discard(&mut self, _place: &Place, frame: Frame) {
        self.pool.put_full(frame.slot);
    }

    fn spare_bytes(&self) -> u64 {
        self.pool.spare_bytes()
    }

    fn trim(&mut self, keep_bytes: u64) {
        self.pool.free_spare(keep_bytes);
    }
}
