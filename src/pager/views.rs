//! Which addresses are views: a fixed table that hooks may read without a lock.
//!
//! Hooks ask about every `munmap`, `madvise` or `write` of the program, from any thread, in signal
//! handlers and in forked children, so a reader may neither lock nor allocate nor wait. The pager
//! thread alone writes.
//!
//! The table is kept twice. Generation `g` lives in buffer `g % 2`; a writer fills the other buffer
//! and then publishes `g + 1`. A reader takes the generation, reads that buffer, and takes the
//! generation again: when it has not moved, what was read is one whole generation. It has to start
//! over only when a writer has finished meanwhile, never because one was interrupted half-way.
//!
//! The orderings, in the names used below:
//! * *publish* is a release store and *begin* an acquire load of `GENERATION`: who sees `g` sees
//!   everything that was written into buffer `g % 2` for it.
//! * The writer that prepares `g + 2` overwrites the buffer of `g` after a release fence that follows
//!   the publication of `g + 1`; a reader of `g` that saw one of those stores executes an acquire
//!   fence before its second load, so that load sees `g + 1` or later, and the reader starts over.
//! * The entries themselves can therefore be relaxed.
//!
//! Rules for the writer: take a range out **before** the kernel unmaps it, and put it in after the
//! kernel has mapped it; then an address in the table is never somebody else's mapping.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};

/// Entries of the table: views and the fragments that partial unmapping leaves of them.
pub const VIEWS_MAX: usize = 256;

/// One contiguous piece of a view and the file extent it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// First address.
    pub start: usize,
    /// First address behind it.
    pub end: usize,
    /// The pager's own descriptor of the file: what a forked child maps instead.
    pub fd: i32,
    /// Offset in the file of `start`, in bytes.
    pub offset: u64,
}

/// The table has no room for another fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {VIEWS_MAX} views and fragments of views")]
pub struct TableFull;

/// A part of a range: wholly inside of views or wholly outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: usize,
    /// Length in bytes, never zero.
    pub len: usize,
    /// Whether it lies in a view.
    pub in_view: bool,
}

struct Entry {
    start: AtomicUsize,
    end: AtomicUsize,
    fd: AtomicI32,
    offset: AtomicU64,
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            fd: AtomicI32::new(-1),
            offset: AtomicU64::new(0),
        }
    }

    fn store(&self, view: &View) {
        self.start.store(view.start, Ordering::Relaxed);
        self.end.store(view.end, Ordering::Relaxed);
        self.fd.store(view.fd, Ordering::Relaxed);
        self.offset.store(view.offset, Ordering::Relaxed);
    }

    fn load(&self) -> View {
        View {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            fd: self.fd.load(Ordering::Relaxed),
            offset: self.offset.load(Ordering::Relaxed),
        }
    }
}

/// Sorted by address, entries do not overlap.
struct Buffer {
    count: AtomicUsize,
    entries: [Entry; VIEWS_MAX],
}

impl Buffer {
    const fn new() -> Buffer {
        Buffer { count: AtomicUsize::new(0), entries: [const { Entry::new() }; VIEWS_MAX] }
    }
}

struct Table {
    generation: AtomicUsize,
    buffers: [Buffer; 2],
    writing: AtomicBool,
}

static TABLE: Table = Table::new();

impl Table {
    const fn new() -> Table {
        Table {
            generation: AtomicUsize::new(0),
            buffers: [const { Buffer::new() }; 2],
            writing: AtomicBool::new(false),
        }
    }

    /// Runs `look` on the entries of one generation. It may run several times and see a mixture; only
    /// the answer from a whole generation is returned.
    fn read<T>(&self, look: impl Fn(&[Entry]) -> T) -> T {
        loop {
            let begin = self.generation.load(Ordering::Acquire);
            let buffer = &self.buffers[begin % 2];
            // A mixture can hold any count that was ever stored, all of them within bounds.
            let count = buffer.count.load(Ordering::Relaxed).min(VIEWS_MAX);
            let answer = look(&buffer.entries[..count]);
            fence(Ordering::Acquire);
            if self.generation.load(Ordering::Relaxed) == begin {
                return answer;
            }
        }
    }

    /// Replaces the table by what `edit` makes of it: at most `VIEWS_MAX` entries, given to `push` in
    /// the order of their addresses.
    fn write(
        &self,
        edit: impl FnOnce(&[Entry], &mut dyn FnMut(View) -> Result<(), TableFull>) -> Result<(), TableFull>,
    ) -> Result<(), TableFull> {
        // Acquire and release make consecutive writers see each other's entries even if the pager
        // thread of a handle is followed by that of another.
        while self.writing.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let old = self.generation.load(Ordering::Relaxed);
        let from = &self.buffers[old % 2];
        let to = &self.buffers[(old + 1) % 2];
        fence(Ordering::Release);
        let mut count = 0;
        let result = edit(&from.entries[..from.count.load(Ordering::Relaxed)], &mut |view| {
            to.entries.get(count).ok_or(TableFull)?.store(&view);
            count += 1;
            Ok(())
        });
        if result.is_ok() {
            to.count.store(count, Ordering::Relaxed);
            self.generation.store(old + 1, Ordering::Release);
        }
        self.writing.store(false, Ordering::Release);
        result
    }

    fn add(&self, view: View) -> Result<(), TableFull> {
        assert!(view.start < view.end, "an empty view");
        self.write(|entries, push| {
            let mut pending = Some(view);
            for entry in entries.iter().map(Entry::load) {
                assert!(entry.end <= view.start || entry.start >= view.end, "views overlap");
                if let Some(view) = pending.take_if(|view| view.start < entry.start) {
                    push(view)?;
                }
                push(entry)?;
            }
            pending.map_or(Ok(()), push)
        })
    }

    fn remove(&self, start: usize, len: usize) -> Result<(), TableFull> {
        let end = start.saturating_add(len);
        self.write(|entries, push| {
            for entry in entries.iter().map(Entry::load) {
                if entry.end <= start || entry.start >= end {
                    push(entry)?;
                    continue;
                }
                if entry.start < start {
                    push(View { end: start, ..entry })?;
                }
                if entry.end > end {
                    push(View { start: end, offset: entry.offset + (end - entry.start) as u64, ..entry })?;
                }
            }
            Ok(())
        })
    }

    fn piece(&self, start: usize, end: usize) -> Piece {
        self.read(|entries| {
            // Entries may touch each other: the piece grows through all that do.
            let mut inside = start;
            for entry in entries {
                let (from, to) = (entry.start.load(Ordering::Relaxed), entry.end.load(Ordering::Relaxed));
                if to <= inside {
                    continue;
                }
                if from > inside {
                    return match inside > start {
                        true => Piece { start, len: inside.min(end) - start, in_view: true },
                        false => Piece { start, len: from.min(end) - start, in_view: false },
                    };
                }
                inside = to;
            }
            match inside > start {
                true => Piece { start, len: inside.min(end) - start, in_view: true },
                false => Piece { start, len: end - start, in_view: false },
            }
        })
    }

    fn overlaps(&self, start: usize, len: usize) -> bool {
        let end = start.saturating_add(len);
        self.read(|entries| {
            let [first, .., last] = entries else {
                return entries.first().is_some_and(|only| only.touches(start, end));
            };
            first.start.load(Ordering::Relaxed) < end
                && start < last.end.load(Ordering::Relaxed)
                && entries.iter().any(|entry| entry.touches(start, end))
        })
    }
}

impl Entry {
    fn touches(&self, start: usize, end: usize) -> bool {
        self.start.load(Ordering::Relaxed) < end && start < self.end.load(Ordering::Relaxed)
    }
}

/// Whether any byte of `start..start + len` lies in a view. Lock-free; a few nanoseconds when the
/// range is far from every view.
pub fn overlaps(start: usize, len: usize) -> bool {
    TABLE.overlaps(start, len)
}

/// Cuts `start..start + len` into parts inside and outside of views, by address. The table is asked
/// again for every part, so what the caller does with one part may change the table behind it.
pub fn pieces(start: usize, len: usize) -> impl Iterator<Item = Piece> {
    let end = start.saturating_add(len);
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let piece = TABLE.piece(at, end);
        at += piece.len;
        Some(piece)
    })
}

/// Adds a view. For the pager thread alone, after the kernel has mapped it.
pub fn add(view: View) -> Result<(), TableFull> {
    TABLE.add(view)
}

/// Takes `start..start + len` out of every view; what remains on both sides stays. For the pager
/// thread alone, before the kernel unmaps it. Changes nothing when the table is full.
pub fn remove(start: usize, len: usize) -> Result<(), TableFull> {
    TABLE.remove(start, len)
}

/// The `index`th view by address, `None` behind the last. Lock-free, usable in a forked child.
pub fn get(index: usize) -> Option<View> {
    TABLE.read(|entries| entries.get(index).map(Entry::load))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(start: usize, end: usize) -> View {
        View { start, end, fd: 3, offset: start as u64 * 10 }
    }

    fn all(table: &Table) -> Vec<(usize, usize, u64)> {
        table.read(|entries| entries.iter().map(Entry::load).map(|v| (v.start, v.end, v.offset)).collect())
    }

    #[test]
    fn a_hole_in_the_middle_leaves_two_fragments() {
        let table = Table::new();
        table.add(view(500, 900)).unwrap();
        table.add(view(100, 200)).unwrap();
        table.remove(600, 100).unwrap();
        assert_eq!(all(&table), [(100, 200, 1000), (500, 600, 5000), (700, 900, 5200)]);
        table.remove(0, 550).unwrap();
        assert_eq!(all(&table), [(550, 600, 5050), (700, 900, 5200)]);
        table.remove(850, usize::MAX).unwrap();
        assert_eq!(all(&table), [(550, 600, 5050), (700, 850, 5200)]);
        table.remove(0, usize::MAX).unwrap();
        assert_eq!(all(&table), []);
    }

    #[test]
    fn overlap_is_exact_at_both_ends() {
        let table = Table::new();
        assert!(!table.overlaps(0, usize::MAX));
        for bounds in [(100, 200), (300, 400), (700, 800)] {
            table.add(view(bounds.0, bounds.1)).unwrap();
        }
        for (start, len, expected) in
            [(0, 100, false), (0, 101, true), (199, 1, true), (200, 100, false), (200, 101, true), (800, 9, false)]
        {
            assert_eq!(table.overlaps(start, len), expected, "{start} + {len}");
        }
        assert!(table.overlaps(799, usize::MAX));
    }

    #[test]
    fn pieces_join_neighbours_and_cover_the_range() {
        let table = Table::new();
        for bounds in [(100, 200), (200, 300), (400, 500)] {
            table.add(view(bounds.0, bounds.1)).unwrap();
        }
        let (mut at, mut found) = (50, Vec::new());
        while at < 450 {
            let piece = table.piece(at, 450);
            found.push((piece.start, piece.len, piece.in_view));
            at += piece.len;
        }
        assert_eq!(found, [(50, 50, false), (100, 200, true), (300, 100, false), (400, 50, true)]);
    }

    #[test]
    fn a_full_table_refuses_and_stays_as_it_was() {
        let table = Table::new();
        for i in 0..VIEWS_MAX {
            table.add(view(i * 100, i * 100 + 90)).unwrap();
        }
        assert_eq!(table.add(view(1 << 40, 2 << 40)), Err(TableFull));
        assert_eq!(table.remove(10, 10), Err(TableFull));
        assert!(table.overlaps(10, 10));
        table.remove(0, 90).unwrap();
        assert!(!table.overlaps(0, 90));
    }

    #[test]
    fn readers_never_miss_a_view_while_its_neighbours_change() {
        // One view stays; fragments come and go on both sides, which moves it through the table.
        let table = Table::new();
        table.add(view(10_000, 11_000)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert!(table.overlaps(10_500, 1));
                        assert!(!table.overlaps(9_990, 10));
                        let piece = table.piece(10_200, 10_300);
                        assert_eq!((piece.len, piece.in_view), (100, true));
                    }
                });
            }
            for round in 0..20_000usize {
                let low = round % 7 * 100;
                table.add(view(low, low + 90)).unwrap();
                table.add(view(20_000, 21_000)).unwrap();
                table.remove(low + 10, 10).unwrap();
                table.remove(20_100, 500).unwrap();
                table.remove(low, 90).unwrap();
                table.remove(20_000, 1_000).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
