//! A block on its way: between its read and its place in the view, and out of it.

use std::io;

use super::super::fill::Place;
use super::super::region::PAGE;
use super::Engine;
use crate::policy::{BlockId, Placement, State};
use crate::trace::Event;

impl Engine {
    /// Moves `id` to `state`; threads see when a part of an expert goes out of memory, or is on its way back.
    pub(super) fn set_state(&mut self, id: BlockId, state: State) {
        let was_absent = self.table.state(id) == State::Absent;
        self.table.set_state(id, state);
        if was_absent != (state == State::Absent) {
            self.count_missing(id, !was_absent);
        }
    }

    /// Says that `id` has become absent, or is not any more, if it is a part of an expert.
    pub(super) fn count_missing(&self, id: BlockId, is_absent: bool) {
        if self.table.layer(id).is_some() {
            let block = self.table.block(id);
            let bytes = block.offset..block.offset + u64::from(block.len);
            for slice in self.view_of(id).layout.slices().over(bytes) {
                self.missing.count(slice.layer, slice.expert, is_absent);
            }
        }
    }

    pub(super) fn evict(&mut self, id: BlockId) {
        assert!(self.table.is_evictable(id), "the policy named block {id}, which cannot be evicted");
        let place = self.place(id);
        match self.frames[id as usize].take() {
            Some(frame) => self.fill.discard(&place, frame),
            None => self.fill.evict(&place),
        }
        self.meter.stats.evictions += 1;
        self.meter.stats.evictions_untouched += u64::from(self.lost_frame(id));
        self.set_state(id, State::Absent);
    }

    /// Logs that `id` holds no frame any more; gives whether it was read for nothing.
    pub(super) fn lost_frame(&mut self, id: BlockId) -> bool {
        let untouched = std::mem::take(&mut self.unused[id as usize]);
        self.origins.lost(id);
        self.trace.note(&self.meter, Event::Evict { block: id, untouched });
        untouched
    }

    /// Every byte of the block is in its frame.
    pub(super) fn filled(&mut self, id: BlockId) -> io::Result<()> {
        let place = self.place(id);
        let file = &self.view_of(id).file;
        let frame = self.frames[id as usize].expect("a block that was read has a frame");
        let offset = self.table.block(id).offset;
        // As in a file mapping, the rest of the last page reads as zeros.
        let valid = file.bytes().saturating_sub(offset).min(place.len as u64) as usize;
        // SAFETY: the frame has `place.len` bytes and no read writes to it any more.
        unsafe { std::ptr::write_bytes((frame.addr + valid) as *mut u8, 0, place.len - valid) };
        for source in file.sources().iter().filter(|source| !source.read_fd().1) {
            source.forget_cached(offset..offset + place.len as u64);
        }
        // SAFETY: as above; the slice ends with the call.
        let bytes = unsafe { std::slice::from_raw_parts(frame.addr as *const u8, place.len) };
        self.lookahead.read(self.table.block(id).view, offset, bytes);
        self.set_state(id, State::Staged);
        let placement = self.policy.filled(&self.table, id);
        self.unused[id as usize] = !self.table.is_waited_for(id);
        if self.table.is_waited_for(id) || placement == Placement::Install { self.install(id) } else { Ok(()) }
    }

    /// `Staged -> Present`; wakes who sleeps on the block.
    pub(super) fn install(&mut self, id: BlockId) -> io::Result<()> {
        let place = self.place(id);
        let frame = self.frames[id as usize].take().expect("a staged block has a frame");
        match self.fill.install(&place, frame) {
            Ok(()) => {
                self.set_state(id, State::Present);
                self.unused[id as usize] = false;
                self.trace.note(&self.meter, Event::Install { block: id });
                self.woke(id);
                Ok(())
            }
            Err(error) => {
                log::warn!("could not install a block ({error}); the kernel serves it from now on");
                self.lost_frame(id);
                self.set_state(id, State::Absent);
                self.give_up(id)
            }
        }
    }

    /// `Present -> Staged`, so that the next touch reports itself.
    pub(super) fn rearm(&mut self, id: BlockId) -> io::Result<()> {
        assert_eq!(self.table.state(id), State::Present, "the policy rearmed block {id}, which is not present");
        match self.fill.rearm(&self.place(id)) {
            Ok(frame) => {
                self.frames[id as usize] = Some(frame);
                self.set_state(id, State::Staged);
                self.trace.note(&self.meter, Event::Rearm { block: id });
            }
            // Pinned or busy; a move may have stopped half-way.
            Err(_) => self.evict(id),
        }
        Ok(())
    }

    /// The block cannot be read, or there is no memory for it: an ordinary mapping of the file takes
    /// its place, so that each page gives what it would have given without a pager, its bytes or
    /// SIGBUS. The block is `Absent` or `Reading`.
    pub(super) fn give_up(&mut self, id: BlockId) -> io::Result<()> {
        let place = self.place(id);
        if let Some(frame) = self.frames[id as usize].take() {
            self.fill.discard(&place, frame);
            self.lost_frame(id);
        }
        self.view_of(id).file.map_over(place.range(), self.table.block(id).offset)?;
        self.set_state(id, State::Poisoned);
        self.meter.stats.poisoned_pages += (place.len / PAGE) as u64;
        self.uffd.wake(place.range());
        self.woke(id);
        Ok(())
    }

    /// Who slept on `id` has been woken: accounts for it.
    pub(super) fn woke(&mut self, id: BlockId) {
        self.table.set_waited_for(id, false);
        let Some(waiters) = self.waiters.remove(&id) else { return };
        let now = self.meter.now_ns();
        for waiter in waiters {
            let wait_ns = now - waiter.since_ns;
            self.meter.woken(waiter.touch, wait_ns);
            self.trace.note(&self.meter, Event::Woken { block: id, tid: waiter.tid });
        }
    }

    pub(super) fn place(&self, id: BlockId) -> Place {
        self.view_of(id).place(&self.table, id)
    }
}
