//! Slots of memory, one class for each frame size.
//!
//! A slot either has memory (*full*) or is a hole (*empty*): under the `move` rung the memory itself
//! travels between slots and the view, and a slot is only the place where it rests. Address space is
//! reserved in chunks and never given back; memory is allocated slot by slot, when it is first
//! needed.
//!
//! Where it is known that more memory will be wanted, slots are [prepared](Pool::prepare) by threads
//! beside the pager's.
//!
//! Single pages are as good in one slot as in another: where a slot smaller than a huge page is wanted
//! and only slots of other sizes have memory, their pages are [carried](Ground::carry) over. Fresh memory
//! costs ten to a hundred times as much, for it is zeroed. Where there is none, a huge page is taken
//! apart: its pages lie side by side in physical memory, and stay so in the slots that they travel
//! between, so that a read has few segments.
//!
//! Invariants: a slot is in exactly one of `full`, `empty`, with the threads that prepare it, the
//! remnant, or in a block's hands; slots in hand have memory. A slot that is being prepared counts as
//! spare memory. The sum of all memory grows only by what has been [granted](Pool::grant).

use std::io;
use std::ops::Range;

use rustix::mm::Advice;

use super::super::region::{HUGE, Region, advise, advise_huge, populate};
use super::fresh::Fresh;

/// Slots reserved at a time.
const CHUNK_SLOTS: usize = 256;
/// Memory that is prepared ahead of its use, in bytes: enough for every processor to zero some while
/// the pager thread submits what it has.
const AHEAD_BYTES: usize = 16 << 20;
/// A slot's number: the class in the upper bits. A mixture of experts may bring two dozen sizes.
const CLASS_SHIFT: u32 = 24;

/// What a rung does with the pool's address space.
pub trait Ground {
    /// A chunk of address space was reserved and is going to be used.
    ///
    /// # Errors
    /// It cannot be used.
    fn reserved(&self, chunk: Range<usize>) -> io::Result<()>;

    /// Whether [`Ground::carry`] works.
    fn carries(&self) -> bool {
        false
    }

    /// Moves `len` bytes of single pages from `from` to the hole at `to`.
    ///
    /// # Errors
    /// How many bytes were moved, and why not more.
    fn carry(&self, to: usize, from: usize, len: usize) -> Result<(), (usize, io::Error)> {
        let _ = (to, from, len);
        Err((0, io::ErrorKind::Unsupported.into()))
    }
}

struct Class {
    slot_bytes: usize,
    chunks: Vec<Region>,
    full: Vec<u32>,
    empty: Vec<u32>,
    /// Slots with the threads that prepare them.
    pending: usize,
}

impl Class {
    /// Its memory is single pages.
    fn is_small(&self) -> bool {
        !self.slot_bytes.is_multiple_of(HUGE)
    }

    fn range(&self, index: u32) -> Range<usize> {
        let (chunk, slot) = (index as usize / CHUNK_SLOTS, index as usize % CHUNK_SLOTS);
        let start = self.chunks[chunk].start() + slot * self.slot_bytes;
        start..start + self.slot_bytes
    }
}

/// All slots of all classes.
#[derive(Default)]
pub struct Pool {
    // Dropped first: it waits until nobody prepares slots.
    fresh: Option<Fresh>,
    classes: Vec<Class>,
    /// A slot that pages were carried out of, and the part of it that still has memory.
    remnant: Option<(u32, Range<usize>)>,
    spare_bytes: u64,
    room_bytes: u64,
}

impl Pool {
    /// Bytes of memory in slots that no block holds.
    pub fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    /// The size of a slot.
    pub fn slot_bytes(&self, slot: u32) -> usize {
        self.class_of(slot).slot_bytes
    }

    /// The address of a slot.
    pub fn addr(&self, slot: u32) -> usize {
        self.range(slot).start
    }

    /// From now on memory of `room_bytes` may be added to what there is.
    pub fn grant(&mut self, room_bytes: u64) {
        self.room_bytes = room_bytes;
    }

    /// A slot with memory: a spare one, else one with pages of spare slots of other sizes, else one with
    /// fresh memory. Beyond what is granted, spare memory of other classes is then freed so that the sum
    /// does not grow while there is any.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take_full(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<u32> {
        let class = self.class_index(slot_bytes);
        self.collect();
        loop {
            if let Some(index) = self.classes[class].full.pop() {
                self.spare_bytes -= slot_bytes as u64;
                return Ok(slot_number(class, index));
            }
            // What is being prepared counts already: memory beside it could be too much.
            if self.classes[class].pending == 0 || !self.wait() {
                break;
            }
        }
        let slot = self.take_empty(slot_bytes, ground)?;
        let range = self.range(slot);
        let carried_bytes =
            if self.classes[class].is_small() && ground.carries() { self.gather(range.clone(), ground) } else { 0 };
        if let Err(error) = self.freshen(range.start + carried_bytes..range.end) {
            self.retire(slot);
            self.put_empty(slot);
            return Err(error);
        }
        Ok(slot)
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

    /// Carries spare single pages into the hole `to`; gives how many bytes of it have memory then.
    fn gather(&mut self, to: Range<usize>, ground: &impl Ground) -> usize {
        let mut at = to.start;
        while at < to.end {
            let spare = self.remnant.take().or_else(|| self.take_small()).or_else(|| self.take_huge(ground));
            let Some((slot, from)) = spare else { break };
            let len = from.len().min(to.end - at);
            let carried = ground.carry(at, from.start, len);
            let done = carried.as_ref().map_or_else(|(bytes, _)| *bytes, |()| len);
            at += done;
            self.spare_bytes -= done as u64;
            let rest = from.start + done..from.end;
            if carried.is_err() {
                // Somebody pins it: freed when the pin goes.
                self.spare_bytes -= rest.len() as u64;
                self.retire(slot);
            }
            if carried.is_ok() && !rest.is_empty() {
                self.remnant = Some((slot, rest));
            } else if self.class_of(slot).is_small() {
                self.put_empty(slot);
            }
            // What was a huge page has a page table now: never used again.
        }
        at - to.start
    }

    /// A spare slot of single pages, of the class that has most of them, as a remnant: still counted.
    fn take_small(&mut self) -> Option<(u32, Range<usize>)> {
        loop {
            let small = self.classes.iter_mut().enumerate().filter(|(_, class)| class.is_small());
            let (at, most) = small.max_by_key(|(_, class)| class.full.len() * class.slot_bytes)?;
            if let Some(index) = most.full.pop() {
                let slot = slot_number(at, index);
                return Some((slot, self.range(slot)));
            }
            let is_coming = self.classes.iter().any(|class| class.is_small() && class.pending > 0);
            if !is_coming || !self.wait() {
                return None;
            }
        }
    }

    /// A huge page to be taken apart, spare or fresh, as a remnant.
    fn take_huge(&mut self, ground: &impl Ground) -> Option<(u32, Range<usize>)> {
        let class = self.class_index(HUGE);
        loop {
            if let Some(index) = self.classes[class].full.pop() {
                let slot = slot_number(class, index);
                return Some((slot, self.range(slot)));
            }
            if self.classes[class].pending == 0 || !self.wait() {
                break;
            }
        }
        let slot = self.take_empty(HUGE, ground).ok()?;
        let range = self.range(slot);
        if self.freshen(range.clone()).is_err() {
            self.put_empty(slot);
            return None;
        }
        self.spare_bytes += HUGE as u64;
        Some((slot, range))
    }

    /// Has memory made ready for slots of `slot_bytes`, within what is granted.
    ///
    /// # Errors
    /// There is no address space.
    pub fn prepare(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<()> {
        self.collect();
        let class = self.class_index(slot_bytes);
        while self.room_bytes >= slot_bytes as u64 && self.ahead_bytes(class) + slot_bytes <= AHEAD_BYTES {
            if !self.fresh.get_or_insert_with(Fresh::start).is_there() {
                break;
            }
            let slot = self.take_empty(slot_bytes, ground)?;
            let range = self.range(slot);
            if let Some(fresh) = &mut self.fresh {
                fresh.ask(slot, range);
            }
            self.classes[class].pending += 1;
            self.spare_bytes += slot_bytes as u64;
            self.room_bytes -= slot_bytes as u64;
        }
        Ok(())
    }

    /// CPU time of the threads that prepare slots, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.fresh.as_ref().map_or(0, Fresh::cpu_ns)
    }

    /// Bytes of slots of a class that have memory or are being prepared.
    fn ahead_bytes(&self, class: usize) -> usize {
        let class = &self.classes[class];
        (class.full.len() + class.pending) * class.slot_bytes
    }

    /// Takes in the slots that have been prepared.
    fn collect(&mut self) {
        while let Some((slot, result)) = self.fresh.as_mut().and_then(Fresh::made_already) {
            self.prepared(slot, result);
        }
    }

    /// Waits until one more slot has been prepared; false when none is being prepared.
    fn wait(&mut self) -> bool {
        let made = self.fresh.as_mut().and_then(Fresh::made);
        made.map(|(slot, result)| self.prepared(slot, result)).is_some()
    }

    fn prepared(&mut self, slot: u32, result: io::Result<()>) {
        let class = self.class_of_mut(slot);
        class.pending -= 1;
        self.spare_bytes -= self.slot_bytes(slot) as u64;
        // Without memory the next to need it hears why.
        if result.is_ok() { self.put_full(slot) } else { self.put_empty(slot) }
    }

    /// A slot without memory.
    ///
    /// # Errors
    /// There is no address space.
    pub fn take_empty(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<u32> {
        let class = self.class_index(slot_bytes);
        let this = &mut self.classes[class];
        if let Some(index) = this.empty.pop() {
            return Ok(slot_number(class, index));
        }
        let chunk = Region::reserve(CHUNK_SLOTS * slot_bytes, 0)?;
        advise_huge(chunk.range(), slot_bytes.is_multiple_of(HUGE))?;
        ground.reserved(chunk.range())?;
        let first = (this.chunks.len() * CHUNK_SLOTS) as u32;
        assert!(first + (CHUNK_SLOTS as u32) < 1 << CLASS_SHIFT, "slots of one class exhausted");
        this.chunks.push(chunk);
        this.empty.extend((first + 1..first + CHUNK_SLOTS as u32).rev());
        Ok(slot_number(class, first))
    }

    /// Gives back a slot that has memory.
    pub fn put_full(&mut self, slot: u32) {
        self.spare_bytes += self.class_of(slot).slot_bytes as u64;
        self.class_of_mut(slot).full.push(slot & ((1 << CLASS_SHIFT) - 1));
    }

    /// Gives back a slot that is a hole.
    pub fn put_empty(&mut self, slot: u32) {
        self.class_of_mut(slot).empty.push(slot & ((1 << CLASS_SHIFT) - 1));
    }

    /// Frees the memory of a slot, which stays reserved.
    pub fn retire(&self, slot: u32) {
        let _ = advise(self.range(slot), Advice::LinuxDontNeed);
    }

    /// Frees spare memory until at most `keep_bytes` of it are left, and takes back what was granted.
    pub fn free_spare(&mut self, keep_bytes: u64) {
        self.room_bytes = 0;
        self.free_down_to(keep_bytes);
    }

    fn free_down_to(&mut self, keep_bytes: u64) {
        self.collect();
        self.free_full(keep_bytes);
        while self.spare_bytes > keep_bytes && self.wait() {
            self.free_full(keep_bytes);
        }
    }

    fn free_full(&mut self, keep_bytes: u64) {
        if self.spare_bytes > keep_bytes
            && let Some((slot, rest)) = self.remnant.take()
        {
            self.spare_bytes -= rest.len() as u64;
            self.retire(slot);
            if self.class_of(slot).is_small() {
                self.put_empty(slot);
            }
        }
        for class in &mut self.classes {
            while self.spare_bytes > keep_bytes {
                let Some(index) = class.full.pop() else { break };
                let _ = advise(class.range(index), Advice::LinuxDontNeed);
                class.empty.push(index);
                self.spare_bytes -= class.slot_bytes as u64;
            }
        }
    }

    fn class_index(&mut self, slot_bytes: usize) -> usize {
        self.classes.iter().position(|class| class.slot_bytes == slot_bytes).unwrap_or_else(|| {
            assert!(self.classes.len() < 1 << (32 - CLASS_SHIFT), "frame sizes exhausted");
            let (chunks, full, empty) = Default::default();
            self.classes.push(Class { slot_bytes, chunks, full, empty, pending: 0 });
            self.classes.len() - 1
        })
    }

    fn range(&self, slot: u32) -> Range<usize> {
        self.class_of(slot).range(slot & ((1 << CLASS_SHIFT) - 1))
    }

    fn class_of(&self, slot: u32) -> &Class {
        &self.classes[(slot >> CLASS_SHIFT) as usize]
    }

    fn class_of_mut(&mut self, slot: u32) -> &mut Class {
        &mut self.classes[(slot >> CLASS_SHIFT) as usize]
    }
}

fn slot_number(class: usize, index: u32) -> u32 {
    (class as u32) << CLASS_SHIFT | index
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
