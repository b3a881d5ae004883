//! What a replay needs of a log: touches with their waits, what routers chose, reads, and what was in the view at
//! the end.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::work::Times;
use crate::gguf;
use crate::pager::blocks::Layout;
use crate::pager::pieces;
use crate::pager::region::PAGE;
use crate::policy::{Block, BlockId, Touch};
use crate::sim::Work;
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
    /// Where in the file what reports itself by this touch begins: the block, or a part of it that the log has for a
    /// block of its own.
    pub start: u64,
    /// The thread.
    pub tid: u32,
    /// How the block was found.
    pub found: Touch,
    /// Another thread slept on the block already.
    pub joined: bool,
}

/// What the router of a layer chose for all tokens of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// When, on the log's clock.
    pub at_ns: u64,
    /// Touches before it.
    pub touches: usize,
    /// The layer.
    pub layer: u32,
    /// The experts, as often as they were chosen.
    pub experts: Vec<u32>,
    /// What was then expected of a router that chooses later: layer and expert, the likeliest first.
    pub guessed: Vec<(u32, u32)>,
    /// How near other experts came to being chosen: expert and level.
    pub affine: Vec<(u32, u8)>,
    /// Blocks that were put into the view between it and the next choice.
    pub installed: u32,
    /// Token in the batch that the last of them is for, and where in `experts` its own begin.
    token: u32,
    from: usize,
}

impl Choice {
    fn push(&mut self, token: u32, expert: u32) {
        if token != self.token {
            (self.token, self.from) = (token, self.experts.len());
        }
        self.experts.push(expert);
    }

    /// What the last token is known to use.
    fn of_token(&self) -> &[u32] {
        &self.experts[self.from..]
    }

    /// The experts as they are computed: each once, by number.
    pub fn distinct(&self) -> Vec<u32> {
        let mut experts = self.experts.clone();
        experts.sort_unstable();
        experts.dedup();
        experts
    }
}

/// Where a cycle begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// Touches before it.
    pub touch: usize,
    /// Routers' choices before it.
    pub choice: usize,
    /// When, on the log's clock.
    pub at_ns: u64,
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

/// A mapped part of a file, cut into blocks as the pager's own strategies do it, whatever was recorded.
#[derive(Debug)]
pub struct Part {
    /// The numbers of its blocks.
    pub ids: Range<BlockId>,
    /// Its blocks, the order that its header foretells, its expert slices.
    pub layout: Layout,
    /// What the log says of it.
    pub view: View,
}

impl Part {
    /// The order that the header foretells.
    pub fn expected(&self) -> Vec<BlockId> {
        self.layout.order.iter().map(|&index| self.ids.start + index).collect()
    }

    /// The blocks of each expert.
    pub fn by_expert(&self) -> Vec<Vec<BlockId>> {
        self.layout.by_expert(self.ids.start)
    }
}

/// A log in memory. Blocks have numbers of their own, which are never used again.
#[derive(Debug, Default)]
pub struct Recording {
    /// Every view.
    pub parts: Vec<Part>,
    /// Every block.
    pub blocks: Vec<Block>,
    /// Touches in the order of time.
    pub touches: Vec<Touched>,
    /// What routers chose, in the order of time.
    pub choices: Vec<Choice>,
    /// Reads in the order of their ends.
    pub reads: Vec<Span>,
    /// For each block, how many touches there had been when it lost the frame with which it was in the view:
    /// `usize::MAX` for one that was still there when the last touch came, 0 for one that never was.
    pub left_at: Vec<usize>,
    /// What the pager's thread needed for its work.
    pub work: Work,
    /// Records that the log lost.
    pub lost: u64,
}

/// What is known only while the log is read.
#[derive(Default)]
struct Reading {
    recording: Recording,
    /// Indexes of the views that are mapped.
    mapped: Vec<usize>,
    asleep: Vec<usize>,
    reads: HashMap<u32, u64>,
    times: Times,
    /// Installs and evictions since the last touch.
    changes: Vec<(Range<BlockId>, bool)>,
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
        // What goes after the last touch goes with the program.
        for (ids, _) in reading.changes.drain(..).filter(|(_, present)| *present) {
            reading.recording.left_at[ids.start as usize..ids.end as usize].fill(usize::MAX);
        }
        reading.recording.work = reading.times.work();
        Ok(reading.recording)
    }

    /// Whether it is clear whose experts routers choose: those of a single model, in one file or several.
    pub fn is_one_mixture(&self) -> bool {
        let mixtures = self.parts.iter().filter(|part| part.layout.has_experts());
        let mut models = mixtures.map(|part| gguf::shard_paths(Path::new(&part.view.path)).swap_remove(0));
        let first = models.next();
        models.all(|model| Some(model) == first)
    }
}

impl Reading {
    fn mapped(&mut self, view: View) {
        let recording = &mut self.recording;
        let start = view.blocks.first().map_or(view.offset, |block| block.offset);
        let end = view.blocks.last().map_or(start, |block| block.offset + u64::from(block.len));
        let layout = Layout::new(start..end, &pieces::of_tensors(&view.tensors));
        let first = recording.blocks.len() as BlockId;
        let number = recording.parts.len();
        recording.blocks.extend(layout.blocks.iter().map(|block| Block { view: number as u32, ..*block }));
        recording.left_at.resize(recording.blocks.len(), 0);
        recording.parts.push(Part { ids: first..recording.blocks.len() as BlockId, layout, view });
        self.mapped.push(number);
    }

    /// A block of the log and its view; the newest view counts where numbers are used again.
    fn logged(&self, block: BlockId) -> Option<(&Part, &Block)> {
        self.mapped.iter().rev().find_map(|&number| {
            let part = &self.recording.parts[number];
            Some((part, part.view.blocks.get(block.checked_sub(part.view.first_block)? as usize)?))
        })
    }

    /// The view and the extent of a block of the log.
    fn find(&self, block: BlockId) -> Option<(&Part, Range<u64>)> {
        self.logged(block).map(|(part, block)| (part, block.offset..block.offset + u64::from(block.len)))
    }

    /// The numbers here of what a block of the log holds.
    fn ids(&self, block: BlockId) -> Option<Range<BlockId>> {
        let (part, bytes) = self.find(block).filter(|(_, bytes)| !bytes.is_empty())?;
        let indexes = part.layout.blocks_of(&bytes);
        Some(part.ids.start + indexes.start..part.ids.start + indexes.end)
    }

    fn happened(&mut self, Record { at_ns, event }: Record) {
        let mut times = std::mem::take(&mut self.times);
        times.happened(at_ns, event, |block| self.logged(block).map(|(_, block)| block.frame_bytes));
        self.times = times;
        match event {
            Event::Touch { block, offset, tid, found } => {
                let Some((part, bytes)) = self.find(block) else { return };
                let page = (bytes.start + u64::from(offset)) / PAGE as u64 * PAGE as u64;
                let Some(block) = part.layout.index_at(page).map(|index| part.ids.start + index) else { return };
                let recording = &mut self.recording;
                for (ids, present) in self.changes.drain(..) {
                    for left_at in &mut recording.left_at[ids.start as usize..ids.end as usize] {
                        *left_at = if present { usize::MAX } else { (*left_at).min(recording.touches.len()) };
                    }
                }
                let touches = &mut recording.touches;
                let joined = self.asleep.iter().any(|&index| touches[index].block == block);
                self.asleep.push(touches.len());
                let start = bytes.start.max(recording.blocks[block as usize].offset);
                touches.push(Touched { at_ns, woken_ns: at_ns, block, page, start, tid, found, joined });
            }
            Event::Woken { block, tid } => {
                let Some(ids) = self.ids(block) else { return };
                let touches = &mut self.recording.touches;
                let is_it = |&index: &usize| ids.contains(&touches[index].block) && touches[index].tid == tid;
                if let Some(at) = self.asleep.iter().position(is_it) {
                    touches[self.asleep.swap_remove(at)].woken_ns = at_ns;
                }
            }
            Event::Routed { layer, token, expert } => {
                let touches = self.recording.touches.len();
                let choices = &mut self.recording.choices;
                // A router that chooses again is in the next batch.
                let goes_on = |last: &&mut Choice| {
                    let again = token < last.token || (token == last.token && last.of_token().contains(&expert));
                    last.layer == layer && last.touches == touches && !again
                };
                match choices.last_mut().filter(goes_on) {
                    Some(last) => last.push(token, expert),
                    None => {
                        let (experts, guessed, affine) = (vec![expert], Vec::new(), Vec::new());
                        let fresh =
                            Choice { at_ns, touches, layer, experts, guessed, affine, installed: 0, token, from: 0 };
                        choices.push(fresh);
                    }
                }
            }
            Event::Guessed { layer, expert, by: _ } => {
                if let Some(last) = self.recording.choices.last_mut() {
                    last.guessed.push((layer, expert));
                }
            }
            Event::Affine { layer, expert, level } => {
                if let Some(last) = self.recording.choices.last_mut().filter(|last| last.layer == layer) {
                    last.affine.push((expert, level));
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
            Event::Install { block } => {
                self.changes.extend(self.ids(block).map(|ids| (ids, true)));
                if let Some(last) = self.recording.choices.last_mut() {
                    last.installed += 1;
                }
            }
            Event::Evict { block, .. } => self.changes.extend(self.ids(block).map(|ids| (ids, false))),
            Event::Unmapped { view } => {
                let unmapped = self.recording.parts.iter().rposition(|part| part.view.number == view);
                self.mapped.retain(|&number| Some(number) != unmapped);
            }
            Event::Lost { records } => self.recording.lost += records,
            Event::Rearm { .. } | Event::Budget { .. } | Event::Cycle { .. } => {}
        }
    }
}
