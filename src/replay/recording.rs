//! What a replay needs of a log: touches with their waits, reads, and what was in the view at the end.

use std::collections::HashMap;
use std::ops::Range;

use crate::pager::blocks::block_bytes;
use crate::pager::region::{HUGE, PAGE};
use crate::policy::{Block, BlockId, Touch};
use crate::trace::{Event, Item, Record, View};

/// A touch of a hole by one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touched {
    /// When, on the log's clock.
    pub at_ns: u64,
    /// When the thread was woken; the same moment if the log does not say.
    pub woken_ns: u64,
    /// Which block, by its number in [`Recording::blocks`].
    pub block: BlockId,
    /// Where in the file, in bytes: the start of the page.
    pub page: u64,
    /// The thread.
    pub tid: u32,
    /// How the block was found.
    pub found: Touch,
    /// Another thread slept on the block already.
    pub joined: bool,
}

/// A read that has ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it was submitted, on the log's clock.
    pub start_ns: u64,
    /// When it was complete.
    pub end_ns: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// A log in memory. Blocks have numbers of their own, which are never used again; they are as large as the
/// pager's, even if `observe` recorded smaller ones.
#[derive(Debug, Default)]
pub struct Recording {
    /// Every view, with the numbers of its blocks.
    pub views: Vec<(Range<BlockId>, View)>,
    /// The order that each view's header foretells.
    pub expected: Vec<Vec<BlockId>>,
    /// Every block.
    pub blocks: Vec<Block>,
    /// Touches in the order of time.
    pub touches: Vec<Touched>,
    /// Reads in the order of their ends.
    pub reads: Vec<Span>,
    /// For each block, how many touches there had been when it lost the frame with which it was in the view:
    /// `usize::MAX` for one that was still there when the last touch came, 0 for one that never was.
    pub left_at: Vec<usize>,
    /// Records that the log lost.
    pub lost: u64,
}

/// What is known only while the log is read.
#[derive(Default)]
struct Reading {
    recording: Recording,
    /// For each view that is mapped: its index, its first number in the log, the numbers here.
    numbers: Vec<(usize, BlockId, Vec<BlockId>)>,
    asleep: Vec<usize>,
    reads: HashMap<u32, u64>,
    /// Installs and evictions since the last touch.
    changes: Vec<(BlockId, bool)>,
}

impl Recording {
    /// Takes in the items of a log.
    ///
    /// # Errors
    /// The first error among the items.
    pub fn read<E>(items: impl Iterator<Item = Result<Item, E>>) -> Result<Recording, E> {
        let mut reading = Reading::default();
        for item in items {
            match item? {
                Item::View(view) => reading.mapped(*view),
                Item::Record(record) => reading.happened(record),
            }
        }
        Ok(reading.recording)
    }
}

impl Reading {
    fn mapped(&mut self, view: View) {
        let recording = &mut self.recording;
        let index = recording.views.len();
        let first = recording.blocks.len();
        let mut numbers = Vec::with_capacity(view.blocks.len());
        let is_fine = view.blocks.iter().all(|block| (block.frame_bytes as usize) < HUGE);
        for block in &view.blocks {
            let unit = if is_fine { block_bytes(block.role) as u64 } else { u64::from(block.frame_bytes) };
            match recording.blocks[first..].last_mut() {
                Some(last) if is_fine && last.role == block.role && last.offset / unit == block.offset / unit => {
                    last.len = (block.offset + u64::from(block.len) - last.offset) as u32;
                }
                _ => recording.blocks.push(Block { view: index as u32, frame_bytes: unit as u32, ..*block }),
            }
            numbers.push(recording.blocks.len() as BlockId - 1);
        }
        recording.left_at.resize(recording.blocks.len(), 0);
        let mut expected: Vec<BlockId> =
            view.expected_order.iter().filter_map(|&at| numbers.get(at as usize).copied()).collect();
        expected.dedup();
        recording.expected.push(expected);
        self.numbers.push((index, view.first_block, numbers));
        recording.views.push((first as BlockId..recording.blocks.len() as BlockId, view));
    }

    /// The number here of a block of the log; the newest view counts where numbers are used again.
    fn id(&self, block: BlockId) -> Option<BlockId> {
        self.find(block).map(|(id, _)| id)
    }

    /// The same, and where in the file the log's block begins, in bytes.
    fn find(&self, block: BlockId) -> Option<(BlockId, u64)> {
        let of = |(view, first, numbers): &(usize, BlockId, Vec<BlockId>)| {
            let at = block.checked_sub(*first)? as usize;
            Some((*numbers.get(at)?, self.recording.views[*view].1.blocks[at].offset))
        };
        self.numbers.iter().rev().find_map(of)
    }

    fn happened(&mut self, Record { at_ns, event }: Record) {
        match event {
            Event::Touch { block, offset, tid, found } => {
                let Some((block, start)) = self.find(block) else { return };
                for (id, present) in self.changes.drain(..) {
                    let left_at = &mut self.recording.left_at[id as usize];
                    match present {
                        true => *left_at = usize::MAX,
                        false => *left_at = (*left_at).min(self.recording.touches.len()),
                    }
                }
                let touches = &mut self.recording.touches;
                let joined = self.asleep.iter().any(|&index| touches[index].block == block);
                self.asleep.push(touches.len());
                let page = (start + u64::from(offset)) / PAGE as u64 * PAGE as u64;
                touches.push(Touched { at_ns, woken_ns: at_ns, block, page, tid, found, joined });
            }
            Event::Woken { block, tid } => {
                let Some(block) = self.id(block) else { return };
                let touches = &mut self.recording.touches;
                let is_it = |&index: &usize| touches[index].block == block && touches[index].tid == tid;
                if let Some(at) = self.asleep.iter().position(is_it) {
                    touches[self.asleep.swap_remove(at)].woken_ns = at_ns;
                }
            }
            Event::Read { read, .. } => {
                self.reads.insert(read, at_ns);
            }
            Event::ReadEnd { read, result } => {
                if let (Some(start_ns), Ok(bytes @ 1..)) = (self.reads.remove(&read), u64::try_from(result)) {
                    self.recording.reads.push(Span { start_ns, end_ns: at_ns, bytes });
                }
            }
            Event::Install { block } => self.changes.extend(self.id(block).map(|id| (id, true))),
            Event::Evict { block, .. } => self.changes.extend(self.id(block).map(|id| (id, false))),
            Event::Unmapped { view } => {
                let unmapped = self.recording.views.iter().rposition(|(_, known)| known.number == view);
                self.numbers.retain(|(index, ..)| Some(*index) != unmapped);
            }
            Event::Lost { records } => self.recording.lost += records,
            Event::Rearm { .. } | Event::Budget { .. } | Event::Cycle { .. } | Event::Routed { .. } => {}
        }
    }
}
