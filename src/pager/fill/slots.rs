//! Slots: the places where memory rests, one class for each frame size. Address space is reserved in chunks
//! and never given back.
//!
//! Some slots are *cuts*: a part of a huge slot whose memory was taken apart, where it lies. What is read there
//! need not be carried to a slot of its own size before. Each is used once.

use std::io;
use std::ops::Range;

use super::super::region::{HUGE, Region, advise_huge};

/// Slots reserved at a time.
const CHUNK_SLOTS: usize = 256;
/// A slot's number: the class in the upper bits. A mixture of experts may bring two dozen sizes.
const CLASS_SHIFT: u32 = 24;
/// What stands there for cuts, which have no class.
const CUT: u32 = (1 << (32 - CLASS_SHIFT)) - 1;

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

/// The slots of one size.
pub(super) struct Class {
    pub slot_bytes: usize,
    chunks: Vec<Region>,
    /// Spare slots that have memory.
    pub full: Vec<u32>,
    empty: Vec<u32>,
}

impl Class {
    /// Their memory is single pages.
    fn is_small(&self) -> bool {
        is_small(self.slot_bytes)
    }

    /// Where the slots of a chunk begin. One that is smaller than a huge page lies within one page table: what moves
    /// from there is forgotten by the other processors at once.
    fn place(&self, index: usize) -> usize {
        if self.slot_bytes < HUGE {
            let each = HUGE / self.slot_bytes;
            index / each * HUGE + index % each * self.slot_bytes
        } else {
            index * self.slot_bytes
        }
    }

    /// Address space of a chunk in bytes.
    fn chunk_bytes(&self) -> usize {
        self.place(CHUNK_SLOTS - 1) + self.slot_bytes
    }

    /// Bytes of the spare slots that have memory.
    pub fn full_bytes(&self) -> usize {
        self.full.len() * self.slot_bytes
    }
}

/// Whether memory of such slots is single pages.
pub(super) fn is_small(slot_bytes: usize) -> bool {
    !slot_bytes.is_multiple_of(HUGE)
}

/// All slots of all classes, and the cuts.
#[derive(Default)]
pub(super) struct Slots {
    classes: Vec<Class>,
    /// Spare huge slots whose memory was taken apart: single pages side by side.
    pub apart: Vec<u32>,
    cuts: Vec<Range<usize>>,
    /// Numbers of cuts that are no more.
    free_cuts: Vec<u32>,
}

impl Slots {
    /// The slots of a size.
    pub fn of_bytes(&mut self, slot_bytes: usize) -> &mut Class {
        let index = self.index(slot_bytes);
        &mut self.classes[index]
    }

    fn index(&mut self, slot_bytes: usize) -> usize {
        self.classes.iter().position(|class| class.slot_bytes == slot_bytes).unwrap_or_else(|| {
            assert!(self.classes.len() < CUT as usize, "frame sizes exhausted");
            let (chunks, full, empty) = Default::default();
            self.classes.push(Class { slot_bytes, chunks, full, empty });
            self.classes.len() - 1
        })
    }

    /// The class of a slot that is no cut.
    fn class_mut(&mut self, slot: u32) -> &mut Class {
        &mut self.classes[(slot >> CLASS_SHIFT) as usize]
    }

    /// Whether it was cut out of a huge slot.
    pub fn is_cut(slot: u32) -> bool {
        slot >> CLASS_SHIFT == CUT
    }

    /// Its addresses.
    pub fn range(&self, slot: u32) -> Range<usize> {
        let index = slot as usize % (1 << CLASS_SHIFT);
        if Slots::is_cut(slot) {
            return self.cuts[index].clone();
        }
        let class = &self.classes[(slot >> CLASS_SHIFT) as usize];
        let start = class.chunks[index / CHUNK_SLOTS].start() + class.place(index % CHUNK_SLOTS);
        start..start + class.slot_bytes
    }

    /// A slot without memory.
    ///
    /// # Errors
    /// There is no address space.
    pub fn take_empty(&mut self, slot_bytes: usize, ground: &impl Ground) -> io::Result<u32> {
        let index = self.index(slot_bytes);
        let class = &mut self.classes[index];
        if let Some(slot) = class.empty.pop() {
            return Ok(slot);
        }
        let chunk = Region::reserve(class.chunk_bytes(), 0)?;
        advise_huge(chunk.range(), slot_bytes.is_multiple_of(HUGE))?;
        ground.reserved(chunk.range())?;
        let first = class.chunks.len() * CHUNK_SLOTS;
        assert!(first + CHUNK_SLOTS < 1 << CLASS_SHIFT, "slots of one class exhausted");
        class.chunks.push(chunk);
        let first = (index as u32) << CLASS_SHIFT | first as u32;
        class.empty.extend((first + 1..first + CHUNK_SLOTS as u32).rev());
        Ok(first)
    }

    /// `range` of a huge slot that was taken apart as a slot of its own.
    pub fn cut(&mut self, range: Range<usize>) -> u32 {
        let index = self.free_cuts.pop().unwrap_or_else(|| {
            self.cuts.push(0..0);
            self.cuts.len() as u32 - 1
        });
        assert!(index < 1 << CLASS_SHIFT, "more cuts than blocks in flight");
        self.cuts[index as usize] = range;
        CUT << CLASS_SHIFT | index
    }

    /// Gives back a slot that is a hole. Where a cut was there is a page table now, and nothing else ever.
    pub fn put_empty(&mut self, slot: u32) {
        if Slots::is_cut(slot) {
            self.free_cuts.push(slot % (1 << CLASS_SHIFT));
        } else {
            self.class_mut(slot).empty.push(slot);
        }
    }

    /// Gives back a slot of a class that has memory.
    pub fn put_full(&mut self, slot: u32) {
        self.class_mut(slot).full.push(slot);
    }

    /// Bytes of the spare slots of single pages.
    pub fn small_bytes(&self) -> usize {
        self.classes.iter().filter(|class| class.is_small()).map(Class::full_bytes).sum()
    }

    /// A spare slot of single pages, of the class that has most of them.
    pub fn take_small(&mut self) -> Option<u32> {
        let small = self.classes.iter_mut().filter(|class| class.is_small());
        small.max_by_key(|class| class.full_bytes())?.full.pop()
    }

    /// Any spare slot that has memory.
    pub fn take_any(&mut self) -> Option<u32> {
        self.classes.iter_mut().find_map(|class| class.full.pop()).or_else(|| self.apart.pop())
    }
}
