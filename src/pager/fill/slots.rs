//! Slots: the places where memory rests, one class for each frame size. Address space is reserved in chunks
//! and never given back.

use std::io;
use std::ops::Range;

use super::super::region::{HUGE, Region, advise_huge};

/// Slots reserved at a time.
const CHUNK_SLOTS: usize = 256;
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
    pub fn is_small(&self) -> bool {
        !self.slot_bytes.is_multiple_of(HUGE)
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

/// All slots of all classes.
#[derive(Default)]
pub(super) struct Slots {
    classes: Vec<Class>,
}

impl Slots {
    /// The slots of a size.
    pub fn of_bytes(&mut self, slot_bytes: usize) -> &mut Class {
        let index = self.index(slot_bytes);
        &mut self.classes[index]
    }

    fn index(&mut self, slot_bytes: usize) -> usize {
        self.classes.iter().position(|class| class.slot_bytes == slot_bytes).unwrap_or_else(|| {
            assert!(self.classes.len() < 1 << (32 - CLASS_SHIFT), "frame sizes exhausted");
            let (chunks, full, empty) = Default::default();
            self.classes.push(Class { slot_bytes, chunks, full, empty });
            self.classes.len() - 1
        })
    }

    /// The class of a slot.
    pub fn class(&self, slot: u32) -> &Class {
        &self.classes[(slot >> CLASS_SHIFT) as usize]
    }

    fn class_mut(&mut self, slot: u32) -> &mut Class {
        &mut self.classes[(slot >> CLASS_SHIFT) as usize]
    }

    /// Its addresses.
    pub fn range(&self, slot: u32) -> Range<usize> {
        let class = self.class(slot);
        let index = slot as usize % (1 << CLASS_SHIFT);
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

    /// Gives back a slot that is a hole.
    pub fn put_empty(&mut self, slot: u32) {
        self.class_mut(slot).empty.push(slot);
    }

    /// Gives back a slot that has memory.
    pub fn put_full(&mut self, slot: u32) {
        self.class_mut(slot).full.push(slot);
    }

    /// A spare slot of single pages, of the class that has most of them.
    pub fn take_small(&mut self) -> Option<u32> {
        let small = self.classes.iter_mut().filter(|class| class.is_small());
        small.max_by_key(|class| class.full_bytes())?.full.pop()
    }

    /// Any spare slot that has memory.
    pub fn take_any(&mut self) -> Option<u32> {
        self.classes.iter_mut().find_map(|class| class.full.pop())
    }
}
