//! Reads in flight: one record a block, one or more parts a record.

use super::fill::Frame;
use crate::policy::BlockId;
use crate::trace::Why;

/// A block's read.
#[derive(Debug, Clone)]
pub struct Record {
    /// The block.
    pub id: BlockId,
    /// Where its bytes go.
    pub frame: Frame,
    /// Length of the block, in bytes.
    pub bytes: usize,
    /// Where it is read from, at first: an index of [`Drives`](super::drives::Drives).
    pub source: usize,
    /// Parts that have not completed.
    pub parts_left: u32,
    /// Something went wrong that trying again did not mend.
    pub failed: bool,
    /// Why.
    pub why: Why,
    /// It was neither guessed nor read because there was nothing better to do.
    pub wanted: bool,
    /// When it was started, in nanoseconds.
    pub started_ns: u64,
}

/// A part of a block's read.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Index of the record.
    pub record: u32,
    /// Offset in the block, in bytes.
    pub start: u32,
    /// Bytes that are still missing.
    pub len: u32,
    /// Which of the file's sources it is read from.
    pub source: usize,
    /// Times it was tried again without progress.
    pub retries: u32,
    /// Goes through the page cache because direct I/O failed.
    pub buffered: bool,
}

/// Records and parts by number; a part's number is the token of its read.
#[derive(Debug, Default)]
pub struct Reads {
    records: Slab<Record>,
    bytes: usize,
    parts: Slab<Part>,
}

impl Reads {
    /// Blocks being read.
    pub fn blocks(&self) -> usize {
        self.records.live
    }

    /// Parts in flight.
    pub fn parts(&self) -> usize {
        self.parts.live
    }

    /// Bytes of the blocks being read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record; gives its index.
    pub fn add(&mut self, record: Record) -> u32 {
        self.bytes += record.bytes;
        self.records.insert(record)
    }

    /// Adds a part; gives its token.
    pub fn add_part(&mut self, part: Part) -> u64 {
        u64::from(self.parts.insert(part))
    }

    /// The record `index`.
    pub fn record(&mut self, index: u32) -> &mut Record {
        self.records.entries[index as usize].as_mut().expect("a live record")
    }

    /// Takes out the part of a completed read.
    pub fn take_part(&mut self, token: u64) -> Part {
        self.parts.remove(token as u32)
    }

    /// Takes out a record whose parts have all completed.
    pub fn take(&mut self, index: u32) -> Record {
        let record = self.records.remove(index);
        self.bytes -= record.bytes;
        record
    }
}

/// Entries by index; indexes are used again.
#[derive(Debug)]
struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
    live: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { entries: Vec::new(), free: Vec::new(), live: 0 }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, entry: T) -> u32 {
        self.live += 1;
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, index: u32) -> T {
        self.live -= 1;
        self.free.push(index);
        self.entries[index as usize].take().expect("a live entry")
    }
}
