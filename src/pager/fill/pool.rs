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
//! Invariants: a slot is in exactly one of `full`, `empty`, with the threads that prepare it, or in a
//! block's hands; slots in hand have memory. A slot that is being prepared counts as spare memory.
//! The sum of all memory grows only by what has been [granted](Pool::grant).

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

struct Class {
    slot_bytes: usize,
    chunks: Vec<Region>,
    full: Vec<u32>,
    empty: Vec<u32>,
    /// Slots with the threads that prepare them.
    pending: usize,
}

impl Class {
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
        self.class_of(slot).range(slot & ((1 << CLASS_SHIFT) - 1)).start
    }

    /// From now on memory of `room_bytes` may be added to what there is.
    pub fn grant(&mut self, room_bytes: u64) {
        self.room_bytes = room_bytes;
    }

    /// A slot with memory: a spare one, else one with fresh memory. Beyond what is granted, spare memory
    /// of other classes is then freed so that the sum does not grow while there is any. `on_chunk` sees
    /// each new chunk of address space before its first use.
    pub fn take_full(
        &mut self,
        slot_bytes: usize,
        on_chunk: impl FnMut(Range<usize>) -> io::Result<()>,
    ) -> io::Result<u32> {
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
        let slot = self.take_empty(slot_bytes, on_chunk)?;
        let range = self.classes[class].range(slot & ((1 << CLASS_SHIFT) - 1));
        // Kernels before 5.14 do not know this advice; their memory comes with the first touch.
        match populate(range) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => {
                self.put_empty(slot);
                Err(error)
            }
            _ => {
                // Not before it is sure that fresh memory can be had.
                let excess = (slot_bytes as u64).saturating_sub(self.room_bytes);
                self.room_bytes = self.room_bytes.saturating_sub(slot_bytes as u64);
                self.free_down_to(self.spare_bytes.saturating_sub(excess));
                Ok(slot)
            }
        }
    }

    /// Has memory made ready for slots of `slot_bytes`, within what is granted.
    pub fn prepare(
        &mut self,
        slot_bytes: usize,
        mut on_chunk: impl FnMut(Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.collect();
        let class = self.class_index(slot_bytes);
        while self.room_bytes >= slot_bytes as u64 && self.ahead_bytes(class) + slot_bytes <= AHEAD_BYTES {
            if !self.fresh.get_or_insert_with(Fresh::start).is_there() {
                break;
            }
            let slot = self.take_empty(slot_bytes, &mut on_chunk)?;
            let range = self.class_of(slot).range(slot & ((1 << CLASS_SHIFT) - 1));
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
    pub fn take_empty(
        &mut self,
        slot_bytes: usize,
        mut on_chunk: impl FnMut(Range<usize>) -> io::Result<()>,
    ) -> io::Result<u32> {
        let class = self.class_index(slot_bytes);
        let this = &mut self.classes[class];
        if let Some(index) = this.empty.pop() {
            return Ok(slot_number(class, index));
        }
        let chunk = Region::reserve(CHUNK_SLOTS * slot_bytes, 0)?;
        advise_huge(chunk.range(), slot_bytes.is_multiple_of(HUGE))?;
        on_chunk(chunk.range())?;
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

    /// Frees the memory of a slot that is not to be used any more. Its address space stays reserved.
    pub fn retire(&self, slot: u32) {
        let range = self.class_of(slot).range(slot & ((1 << CLASS_SHIFT) - 1));
        let _ = advise(range, Advice::LinuxDontNeed);
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
mod tests {
    use super::*;
    use crate::pager::region::{PAGE, is_resident};

    fn any_chunk(_: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    fn prepared(room_bytes: u64) -> Pool {
        let mut pool = Pool::default();
        pool.grant(room_bytes);
        pool.prepare(HUGE, any_chunk).unwrap();
        pool
    }

    #[test]
    fn slots_are_prepared_within_the_room_and_the_lookahead() {
        let mut pool = prepared(3 * HUGE as u64 + 1);
        assert_eq!(pool.spare_bytes(), 3 * HUGE as u64);
        for _ in 0..2 {
            pool.grant(u64::MAX);
            pool.prepare(HUGE, any_chunk).unwrap();
            assert_eq!(pool.spare_bytes(), AHEAD_BYTES as u64);
        }
    }

    #[test]
    fn a_prepared_slot_has_memory_and_is_taken_before_any_other() {
        let mut pool = prepared(2 * HUGE as u64);
        for left in [1, 0] {
            let slot = pool.take_full(HUGE, any_chunk).unwrap();
            assert!(is_resident(pool.addr(slot)) && is_resident(pool.addr(slot) + HUGE - PAGE));
            assert_eq!(pool.spare_bytes(), left * HUGE as u64);
        }
        assert!(pool.cpu_ns() > 0);
        let fresh = pool.take_full(HUGE, any_chunk).unwrap();
        assert_eq!(pool.spare_bytes(), 0);
        pool.put_full(fresh);
        assert_eq!(pool.spare_bytes(), HUGE as u64);
    }

    #[test]
    fn an_empty_slot_is_none_that_is_being_prepared() {
        let mut pool = prepared(u64::MAX);
        let empty = pool.take_empty(HUGE, any_chunk).unwrap();
        for _ in 0..AHEAD_BYTES / HUGE {
            assert_ne!(pool.take_full(HUGE, any_chunk).unwrap(), empty);
        }
        assert!(!is_resident(pool.addr(empty)));
    }

    #[test]
    fn what_is_prepared_is_freed_as_well() {
        let mut pool = prepared(u64::MAX);
        pool.free_spare(HUGE as u64);
        assert_eq!(pool.spare_bytes(), HUGE as u64);
        pool.prepare(HUGE, any_chunk).unwrap();
        assert_eq!(pool.spare_bytes(), HUGE as u64, "nothing is granted any more");
        pool.free_spare(0);
        assert_eq!(pool.spare_bytes(), 0);
        let empty = pool.take_empty(HUGE, any_chunk).unwrap();
        assert!(!is_resident(pool.addr(empty)));
    }

    #[test]
    fn another_size_neither_waits_for_what_is_prepared_nor_frees_it_while_there_is_room() {
        let small = HUGE / 8;
        let mut pool = prepared(2 * HUGE as u64 + 2 * small as u64);
        for _ in 0..2 {
            pool.take_full(small, any_chunk).unwrap();
            assert_eq!(pool.spare_bytes(), 2 * HUGE as u64);
        }
        // The room is used up: the sum of all memory may not grow by a third one.
        pool.take_full(small, any_chunk).unwrap();
        assert_eq!(pool.spare_bytes(), HUGE as u64);
    }
}
