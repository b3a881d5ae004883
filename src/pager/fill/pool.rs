//! Memory for frames, in slots.
//!
//! A slot either has memory (*full*) or is a hole (*empty*): under the `move` rung the memory itself
//! travels between slots and the view, and a slot is only the place where it rests ([`super::slots`]).
//! Memory is allocated slot by slot, when it is first needed.
//!
//! Where it is known that more memory will be wanted, huge slots are [prepared](Pool::prepare) by threads
//! beside the pager's, which give way to all others; nobody waits for them.
//!
//! Single pages ([`pages`]) are as good in one slot as in another: where a slot smaller than a huge page is wanted
//! and only slots of other sizes have memory, their pages are [carried](Ground::carry) over. Fresh memory
//! costs ten to a hundred times as much, for it is zeroed. Where there is none, a huge page is taken
//! apart, by the threads that prepare it where they know in time: its pages lie side by side in physical memory, and
//! stay so in the slots that they travel between, so that a read has few segments. What lies together is
//! [cut](Slots::cut) out; only the rests, where they make a slot together, are carried.
//!
//! Invariants: a slot is full, empty, with the threads that prepare it, a remnant, or in a block's
//! hands; slots in hand have memory. A slot that is being prepared counts as spare memory, unless it is to be freed
//! when it is ready. The sum of all memory grows only by what has been [granted](Pool::grant).

mod pages;

use std::io;
use std::ops::Range;

use rustix::mm::Advice;

use super::super::region::{HUGE, advise, populate};
use super::fresh::{Fresh, Kind};
use super::remnants::Remnants;
use super::slots::{Ground, Slots, is_small};

/// Memory that is prepared ahead of its use, in bytes, at the least: enough for every processor to zero some while
/// the pager thread submits what it has.
const AHEAD_BYTES_MIN: u64 = 16 << 20;
/// At the most: what is made while the program waits for the drive is there when it computes, or when the drive waits for
/// memory.
const AHEAD_BYTES_MAX: u64 = 512 << 20;
/// Between them, the part of what may still be added.
const AHEAD_PART: u64 = 4;

/// All memory that no block holds, and the slots of the rest.
#[derive(Default)]
pub struct Pool {
    // Dropped first: it waits until nobody prepares slots.
    fresh: Option<Fresh>,
    slots: Slots,
    remnants: Remnants,
    /// What is prepared is to be taken apart: single pages were wanted last.
    wants_apart: bool,
    spare_bytes: u64,
    room_bytes: u64,
    /// Slots in preparation that are to be freed when they are ready. They count no more.
    condemned: usize,
}

impl Pool {
    /// Bytes of memory in slots that no block holds.
    pub fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    /// Bytes of memory that can be had at once; `None` where fresh memory takes no longer than a read.
    pub fn ready_bytes(&mut self) -> Option<u64> {
        let unmade_bytes = self.unmade_bytes();
        self.fresh.as_ref().filter(|fresh| fresh.is_slow())?;
        Some(self.spare_bytes - unmade_bytes)
    }

    /// Bytes of spare memory that is being prepared, and not there yet.
    pub fn unmade_bytes(&mut self) -> u64 {
        self.collect();
        let pending = self.fresh.as_ref().map_or(0, Fresh::pending);
        ((pending - self.condemned) * HUGE) as u64
    }

    /// The size of a slot.
    pub fn slot_bytes(&self, slot: u32) -> usize {
        self.slots.range(slot).len()
    }

    /// The address of a slot.
    pub fn addr(&self, slot: u32) -> usize {
        self.slots.range(slot).start
    }

    /// From now on memory of `room_bytes` may be added to what there is.
    pub fn grant(&mut self, room_bytes: u64) {
        self.room_bytes = room_bytes;
    }

    /// A slot with memory: a spare one, else a cut, else one with pages of spare slots of other sizes, else one with
    /// fresh memory. Beyond what is granted, spare memory of other classes is then freed so that the sum
    /// does not grow while there is any.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take_full(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<u32> {
        self.collect();
        if let Some(slot) = self.slots.of_bytes(slot_bytes).full.pop() {
            self.spare_bytes -= slot_bytes as u64;
            return Ok(slot);
        }
        if slot_bytes == HUGE {
            self.wants_apart = false;
            return self.take_huge(ground);
        }
        let travels = is_small(slot_bytes) && ground.carries();
        if travels && let Some(slot) = self.cut(slot_bytes, ground) {
            return Ok(slot);
        }
        let slot = self.take_empty(slot_bytes, ground)?;
        let range = self.slots.range(slot);
        let carried_bytes = if travels { self.gather(range.clone(), ground) } else { 0 };
        self.freshened(slot, range.start + carried_bytes..range.end)
    }

    /// A huge slot with memory that is no spare one of a whole huge page.
    fn take_huge(&mut self, ground: &impl Ground) -> io::Result<u32> {
        let slot = match self.take_back() {
            Some(slot) => {
                // Granted already.
                self.room_bytes += HUGE as u64;
                slot
            }
            None => self.take_empty(HUGE, ground)?,
        };
        self.freshened(slot, self.slots.range(slot))
    }

    /// `slot`, when its part `range` has got fresh memory.
    fn freshened(&mut self, slot: u32, range: Range<usize>) -> io::Result<u32> {
        match self.freshen(range) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.free(slot);
                Err(error)
            }
        }
    }

    /// A slot without memory that was to be prepared, and does not count any more.
    fn take_back(&mut self) -> Option<u32> {
        let slot = self.fresh.as_mut()?.take_back()?;
        self.spare_bytes -= HUGE as u64;
        Some(slot)
    }

    /// Gives `range` fresh memory.
    fn freshen(&mut self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let bytes = range.len() as u64;
        match populate(range) {
            // Kernels before 5.14 do not know this advice; their memory comes with the first touch.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
            _ => {
                // Not before it is sure that fresh memory can be had.
                let excess = bytes.saturating_sub(self.room_bytes);
                self.room_bytes = self.room_bytes.saturating_sub(bytes);
                self.free_down_to(self.spare_bytes.saturating_sub(excess));
                Ok(())
            }
        }
    }

    /// Has huge slots made ready, within what is granted.
    ///
    /// # Errors
    /// There is no address space.
    pub fn prepare(&mut self, ground: &impl Ground) -> io::Result<()> {
        self.collect();
        while self.room_bytes >= HUGE as u64 {
            let fresh = self.fresh.get_or_insert_with(|| Fresh::start(HUGE));
            let ahead_bytes_max = (self.room_bytes / AHEAD_PART).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
            if !fresh.is_there() || self.ahead_bytes() + HUGE > ahead_bytes_max as usize {
                break;
            }
            let kind = if self.wants_apart { Kind::Apart } else { Kind::Whole };
            let slot = self.take_empty(HUGE, ground)?;
            let range = self.slots.range(slot);
            if let Some(fresh) = &mut self.fresh {
                fresh.ask(slot, range, kind);
            }
            self.spare_bytes += HUGE as u64;
            self.room_bytes -= HUGE as u64;
        }
        Ok(())
    }

    /// CPU time of the threads that prepare slots, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.fresh.as_ref().map_or(0, Fresh::cpu_ns)
    }

    /// Bytes of huge slots that have memory or are being prepared.
    fn ahead_bytes(&mut self) -> usize {
        let pending = self.fresh.as_ref().map_or(0, Fresh::pending);
        self.slots.of_bytes(HUGE).full_bytes() + (self.slots.apart.len() + pending) * HUGE
    }

    /// Takes in the slots that have been prepared.
    fn collect(&mut self) {
        while let Some((slot, made)) = self.fresh.as_mut().and_then(Fresh::made) {
            if self.condemned > 0 {
                self.condemned -= 1;
                self.free(slot);
                continue;
            }
            self.spare_bytes -= HUGE as u64;
            match made {
                Ok(Kind::Whole) => self.put_full(slot),
                Ok(Kind::Apart) => {
                    self.spare_bytes += HUGE as u64;
                    self.slots.apart.push(slot);
                }
                // The next to need memory hears why.
                Err(_) => self.free(slot),
            }
        }
    }

    /// Gives up a slot in preparation; false when there is none.
    fn condemn(&mut self) -> bool {
        let pending = self.fresh.as_ref().map_or(0, Fresh::pending);
        let any = self.condemned < pending;
        if any {
            self.condemned += 1;
            self.spare_bytes -= HUGE as u64;
        }
        any
    }

    /// A slot without memory.
    ///
    /// # Errors
    /// There is no address space.
    pub fn take_empty(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<u32> {
        self.slots.take_empty(slot_bytes, ground)
    }

    /// Gives back a slot that has memory.
    pub fn put_full(&mut self, slot: u32) {
        self.spare_bytes += self.slot_bytes(slot) as u64;
        if Slots::is_cut(slot) {
            self.remnants.put((None, self.slots.range(slot)));
            self.slots.put_empty(slot);
        } else {
            self.slots.put_full(slot);
        }
    }

    /// Gives back a slot that is a hole.
    pub fn put_empty(&mut self, slot: u32) {
        self.slots.put_empty(slot);
    }

    /// Frees the memory of a slot, which stays reserved.
    pub fn retire(&self, slot: u32) {
        let _ = advise(self.slots.range(slot), Advice::LinuxDontNeed);
    }

    fn free(&mut self, slot: u32) {
        self.retire(slot);
        self.put_empty(slot);
    }

    /// Frees spare memory until at most `keep_bytes` of it are left, and takes back what was granted.
    pub fn free_spare(&mut self, keep_bytes: u64) {
        self.room_bytes = 0;
        self.free_down_to(keep_bytes);
    }

    fn free_down_to(&mut self, keep_bytes: u64) {
        self.collect();
        while self.spare_bytes > keep_bytes {
            if let Some((slot, rest)) = self.remnants.take() {
                self.free_remnant(slot, rest);
            } else if let Some(slot) = self.slots.take_any() {
                self.spare_bytes -= self.slot_bytes(slot) as u64;
                self.free(slot);
            } else if let Some(slot) = self.take_back() {
                self.put_empty(slot);
            } else if !self.condemn() {
                break;
            }
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
