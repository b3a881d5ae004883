//! One file being loaded: what its threads share, and what each of them does.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::super::file::ModelFile;
use super::super::region::PAGE;
use super::Fitting;
use super::cached;
use super::chunks::Chunks;
use super::reader::Reader;
use crate::budget::Memory;
use crate::config::ByteSize;
use crate::stats::Stats;

/// The memory that is left is asked for once in so many chunks: 16 MiB.
const CHUNKS_PER_LOOK: usize = 8;

/// Why a load ended early. The numbers are those in `Run::stop`.
const GOES_ON: u8 = 0;
const TOO_TIGHT: u8 = 1;
const UNREADABLE: u8 = 2;
const BROKEN: u8 = 3;

/// All atomics are relaxed: each is a counter or a flag by itself, and nothing is published by them.
pub struct Run {
    file: ModelFile,
    /// Where the program has mapped the file, and the file's offset of that place.
    place: Range<usize>,
    offset: u64,
    chunks: Chunks,
    /// By chunk: whether the program still has it mapped.
    wanted: Vec<AtomicBool>,
    /// Position in the order of the next chunk that nobody has taken.
    next: AtomicUsize,
    reader: Reader,
    stop: AtomicU8,
    /// Threads that have not ended.
    threads: AtomicU32,
    /// Bytes gone through, and those of them that were not cached before.
    bytes: AtomicU64,
    read_bytes: AtomicU64,
    begun: Instant,
    took: OnceLock<Duration>,
    model_bytes: u64,
    memory: Mutex<Memory>,
}

impl Run {
    /// Gets ready to load `extent` of the file, which the program sees at `place`.
    pub fn new(fitting: Fitting, extent: Range<u64>, place: Range<usize>) -> Run {
        let Fitting { file, pieces, offset, len: _, model_bytes, memory } = fitting;
        let chunks = Chunks::new(extent.clone(), &pieces);
        Run {
            reader: Reader::new(&file, extent),
            place,
            offset,
            wanted: chunks.order.iter().map(|_| AtomicBool::new(true)).collect(),
            chunks,
            next: AtomicUsize::new(0),
            stop: AtomicU8::new(GOES_ON),
            threads: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            begun: Instant::now(),
            took: OnceLock::new(),
            model_bytes,
            memory: Mutex::new(memory),
            file,
        }
    }

    /// So many threads are about to work.
    pub fn expect(&self, threads: u32) {
        self.threads.store(threads, Ordering::Relaxed);
    }

    /// One thread less; true when it was the last.
    pub fn is_last(&self) -> bool {
        self.threads.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// A thread's work; true when it was the last one.
    pub fn work(&self) -> bool {
        if catch_unwind(AssertUnwindSafe(|| while self.step() {})).is_err() {
            self.stop.store(BROKEN, Ordering::Relaxed);
        }
        let last = self.is_last();
        if last {
            let took = *self.took.get_or_init(|| self.begun.elapsed());
            self.say(took);
        }
        last
    }

    /// Reads the next chunk; false when there is none.
    fn step(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) != GOES_ON {
            return false;
        }
        let position = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(&chunk) = self.chunks.order.get(position) else { return false };
        if position.is_multiple_of(CHUNKS_PER_LOOK) && !self.still_fits() {
            self.stop.store(TOO_TIGHT, Ordering::Relaxed);
            return false;
        }
        if !self.wanted[chunk as usize].load(Ordering::Relaxed) {
            return true;
        }
        if self.load(self.chunks.bytes(chunk)).is_err() {
            self.stop.store(UNREADABLE, Ordering::Relaxed);
        }
        true
    }

    fn load(&self, bytes: Range<u64>) -> io::Result<()> {
        let len = bytes.end - bytes.start;
        // Unknown counts as missing.
        let present = cached::count(self.file.buffered(), bytes.clone()).unwrap_or(0) * PAGE as u64;
        if present < len {
            self.reader.read(&self.file, bytes)?;
        }
        self.bytes.fetch_add(len, Ordering::Relaxed);
        self.read_bytes.fetch_add(len.saturating_sub(present), Ordering::Relaxed);
        Ok(())
    }

    /// Page cache counts as room, so loading itself takes none: what does is other memory.
    fn still_fits(&self) -> bool {
        // Another thread is looking.
        let Ok(mut memory) = self.memory.try_lock() else { return true };
        memory.refresh();
        memory.room_bytes() >= self.model_bytes
    }

    /// The program gives up `range` of its addresses.
    pub fn leaving(&self, range: Range<usize>) {
        let (from, to) = (range.start.max(self.place.start), range.end.min(self.place.end));
        if from < to {
            let at = |address: usize| self.offset + (address - self.place.start) as u64;
            for chunk in self.chunks.within(at(from)..at(to)) {
                self.wanted[chunk as usize].store(false, Ordering::Relaxed);
            }
        }
    }

    /// What has been done so far.
    pub fn report(&self) -> Stats {
        let stopped = self.stop.load(Ordering::Relaxed) != GOES_ON;
        Stats {
            loads: 1,
            loads_stopped: u64::from(stopped),
            load_bytes: self.bytes.load(Ordering::Relaxed),
            load_read_bytes: self.read_bytes.load(Ordering::Relaxed),
            load_s: self.took.get().copied().unwrap_or_else(|| self.begun.elapsed()).as_secs_f64(),
            ..Stats::default()
        }
    }

    fn say(&self, took: Duration) {
        let (bytes, read) = (self.bytes.load(Ordering::Relaxed), self.read_bytes.load(Ordering::Relaxed));
        let why = match self.stop.load(Ordering::Relaxed) {
            TOO_TIGHT => "; stopped early: memory became tight",
            UNREADABLE => "; stopped early: the file could not be read",
            BROKEN => "; stopped early: a bug (panic)",
            _ => "",
        };
        log::info!(
            "the model fits: {} loaded into the page cache, {} of it from the drive, in {:.2} s{why}",
            ByteSize(bytes),
            ByteSize(read),
            took.as_secs_f64()
        );
    }
}
