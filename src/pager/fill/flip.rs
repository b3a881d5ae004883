//! The `move` rung: pages change places between the pool and the view; nothing is copied.
//!
//! Pool and view are private anonymous memory with the same protection, registered with the same
//! userfaultfd: the view for missing faults, the pool only so that it may be a destination of moves
//! (ioctl_userfaultfd(2), UFFDIO_MOVE). A huge page is moved whole.
//!
//! That takes a destination without a page table: the kernel splits what is moved to where single
//! pages have been, and where its parts lay a page table stays, which splits the next. One slot with
//! a page table would so in time split every frame. Hence a slot that has held single pages of a
//! huge frame is never used again, and a block that is shorter than its frame has a slot of its own
//! size.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::mm::Advice;

use super::super::region::{HUGE, Region, advise, advise_huge, collapse, is_resident, page_ceil};
use super::super::uffd::{Track, Uffd, feature};
use super::pool::Pool;
use super::slots::Ground;
use super::{Fill, Frame, Place, until_done};
use crate::config::FillRung;

/// See the module's page.
pub struct Flip {
    uffd: Arc<Uffd>,
    pool: Pool,
}

impl Flip {
    /// Fails when the kernel has no UFFDIO_MOVE.
    pub fn new(uffd: Arc<Uffd>) -> io::Result<Flip> {
        if !uffd.has(feature::MOVE) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has no UFFDIO_MOVE (Linux 6.8)"));
        }
        Ok(Flip { uffd, pool: Pool::default() })
    }

    fn empty_slot(&mut self, bytes: usize) -> io::Result<u32> {
        self.pool.take_empty(bytes, &*self.uffd)
    }

    /// Moves the block's pages out of the view into a free slot.
    fn take_out(&mut self, place: &Place) -> io::Result<u32> {
        let slot = self.empty_slot(slot_bytes(place))?;
        let to = self.pool.addr(slot);
        match self.uffd.carry(to, place.addr, place.len) {
            Ok(()) => Ok(slot),
            Err((_, error)) => {
                // Part of the block may lie in the slot, part in the view.
                self.pool.retire(slot);
                Err(error)
            }
        }
    }
}

impl Ground for Uffd {
    fn reserved(&self, chunk: Range<usize>) -> io::Result<()> {
        self.register(chunk, Track::MoveTarget)
    }

    fn carries(&self) -> bool {
        true
    }

    fn carry(&self, to: usize, from: usize, len: usize) -> Result<(), (usize, io::Error)> {
        until_done(len, |done| self.move_pages(to + done, from + done, len - done))
    }
}

/// The size of the slot for a block.
fn slot_bytes(place: &Place) -> usize {
    if place.len == place.frame_bytes { place.frame_bytes } else { page_ceil(place.len) }
}

impl Fill for Flip {
    fn rung(&self) -> FillRung {
        FillRung::Move
    }

    fn open_view(&mut self, offset: u64, len: usize) -> io::Result<Range<usize>> {
        let view = Region::reserve(len, offset as usize % HUGE)?;
        // Without this a touch of a hole makes the kernel allocate a page table for the hole, and a
        // huge page can be moved only to where there is none: it would be split.
        advise_huge(view.range(), true)?;
        self.uffd.register(view.range(), Track::Missing)?;
        Ok(view.leak())
    }

    fn close(&mut self, _range: Range<usize>) {}

    fn acquire(&mut self, place: &Place) -> io::Result<Frame> {
        let mut take = |bytes| self.pool.take_full(bytes, &*self.uffd);
        // Without room for slots of that size one of the frame's size does.
        let slot = take(slot_bytes(place)).or_else(|_| take(place.frame_bytes))?;
        Ok(Frame { addr: self.pool.addr(slot), slot })
    }

    fn install(&mut self, place: &Place, frame: Frame) -> io::Result<()> {
        let Err((moved_bytes, _)) = self.uffd.carry(place.addr, frame.addr, place.len) else {
            if self.pool.slot_bytes(frame.slot) == slot_bytes(place) {
                self.pool.put_empty(frame.slot);
            } else {
                self.pool.retire(frame.slot);
            }
            return Ok(());
        };
        // Somebody pins the rest for longer: a copy does as well.
        let copied = until_done(place.len - moved_bytes, |done| {
            let at = moved_bytes + done;
            self.uffd.copy(place.addr + at, frame.addr + at, place.len - at)
        });
        self.pool.retire(frame.slot);
        match copied {
            Ok(()) => {
                // The copy came in single pages. Linux 6.1; where it fails the next move splits.
                let _ = collapse(place.range());
                Ok(())
            }
            Err((_, error)) => {
                let _ = advise(place.range(), Advice::LinuxDontNeed);
                Err(error)
            }
        }
    }

    fn rearm(&mut self, place: &Place) -> io::Result<Frame> {
        let slot = self.take_out(place)?;
        Ok(Frame { addr: self.pool.addr(slot), slot })
    }

    fn evict(&mut self, place: &Place) {
        match self.take_out(place) {
            Ok(slot) => self.pool.put_full(slot),
            // Pinned by somebody (direct I/O out of the view): drop the pages instead; they are
            // freed when the pin goes.
            Err(_) => {
                let _ = advise(place.range(), Advice::LinuxDontNeed);
            }
        }
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

    fn ready_bytes(&mut self) -> Option<u64> {
        self.pool.ready_bytes()
    }

    fn unmade_bytes(&mut self) -> u64 {
        self.pool.unmade_bytes()
    }

    fn prepare(&mut self, room_bytes: u64) {
        self.pool.grant(room_bytes);
        // Refused here, it is refused where it is needed, and reported there.
        let _ = self.pool.prepare(&*self.uffd);
    }

    fn cpu_ns(&self) -> u64 {
        self.pool.cpu_ns()
    }

    fn trim(&mut self, keep_bytes: u64) {
        self.pool.free_spare(keep_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::pager::region::PAGE;

    fn flip() -> Option<Flip> {
        match Uffd::open().map(Arc::new).and_then(Flip::new) {
            Ok(fill) => Some(fill),
            Err(error) => {
                eprintln!("skipped: no UFFDIO_MOVE: {error}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
                None
            }
        }
    }

    /// Pages of `range` that are this process's alone (bit 56 of /proc/self/pagemap): the shared page of
    /// zeros is not.
    fn exclusive(range: Range<usize>) -> usize {
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let is_exclusive = |page: &usize| {
            let mut entry = [0; 8];
            pagemap.read_exact_at(&mut entry, (page / PAGE * 8) as u64).unwrap();
            u64::from_le_bytes(entry) >> 56 & 1 == 1
        };
        range.step_by(PAGE).filter(is_exclusive).count()
    }

    #[test]
    fn a_huge_page_keeps_its_pages_when_it_is_taken_apart() {
        let Some(mut fill) = flip() else { return };
        let len = 100 * PAGE;
        let view = fill.open_view(0, HUGE).unwrap();
        let place = Place { addr: view.start, len, frame_bytes: len };
        let frame = fill.acquire(&place).unwrap();
        assert_eq!(exclusive(frame.addr..frame.addr + len), 100);
    }

    #[test]
    fn memory_is_made_ready_in_huge_pages_whatever_is_wanted() {
        let Some(mut fill) = flip() else { return };
        let view = fill.open_view(0, 4 * HUGE).unwrap();
        let mut spare_after = |len, frame_bytes, room_bytes| {
            let place = Place { addr: view.start, len, frame_bytes };
            let frame = fill.acquire(&place).unwrap();
            fill.prepare(room_bytes);
            let spare_bytes = fill.spare_bytes();
            fill.trim(0);
            fill.discard(&place, frame);
            fill.trim(0);
            spare_bytes
        };
        let (small, room) = (HUGE / 8, HUGE as u64 + HUGE as u64 / 2);
        assert_eq!(spare_after(small, small, room), 2 * HUGE as u64 - small as u64, "one is taken apart already");
        let rest = (HUGE - PAGE) as u64;
        assert_eq!(spare_after(PAGE, HUGE, room), HUGE as u64 + rest, "a short block");
        assert_eq!(spare_after(HUGE, HUGE, room), HUGE as u64);
    }
}
