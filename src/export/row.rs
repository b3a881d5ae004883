//! A record as a flat row: the columns of CSV and Parquet.

use serde::Serialize;

use crate::policy::{BlockId, Touch};
use crate::report::blocks::Blocks;
use crate::trace::{Event, Item, Why};

/// One row. What does not belong to an event is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// Nanoseconds of the log's clock.
    pub at_ns: u64,
    /// `view`, `touch`, `woken`, `read`, `read_end`, `install`, `evict`, `rearm`, `budget`, `cycle`,
    /// `routed`, `guessed`, `affine`, `unmapped` or `lost`.
    pub event: &'static str,
    /// Number of the view, of `view` and `unmapped`.
    pub view: Option<u32>,
    /// Path of a view's file.
    pub path: Option<String>,
    /// Index of the file: files count from 0 on in the order of their first view.
    pub file: Option<u32>,
    /// The block, by its place: one extent of one file has one number in the whole log.
    pub block: Option<u32>,
    /// Offset in the file, in bytes: of a read, of a touched address, or of the block or view.
    pub offset: Option<u64>,
    /// Bytes: of a read as it was asked for, of the block or view, or of the budget.
    pub bytes: Option<u64>,
    /// Role of the tensor that fills most of the block.
    pub role: Option<String>,
    /// Its layer, or the router's.
    pub layer: Option<u32>,
    /// The expert in whose slice the whole block lies, or the router's.
    pub expert: Option<u32>,
    /// The thread.
    pub tid: Option<u32>,
    /// How the touch found the block: `absent`, `reading` or `staged`.
    pub found: Option<&'static str>,
    /// Number of the read; used again once it has ended.
    pub read: Option<u32>,
    /// `demand` or `readahead`.
    pub why: Option<&'static str>,
    /// Which copy of the file is read; 0 is the file itself.
    pub source: Option<u8>,
    /// Bytes that came, or a negative error number.
    pub result: Option<i32>,
    /// An evicted block that nobody had touched since it was read.
    pub untouched: Option<bool>,
    /// Cycles that have ended.
    pub cycle: Option<u64>,
    /// Token in the batch.
    pub token: Option<u32>,
    /// Who foretold the router's choice: `gate` or `co-occurrence`.
    pub by: Option<&'static str>,
    /// How near the router came to choosing the expert, of 15; half of that is where its choice ends.
    pub level: Option<u8>,
    /// Records that are missing.
    pub records: Option<u64>,
}

impl Row {
    /// The row of `item`; `blocks` knows the views before it, and learns this one.
    pub fn of(item: &Item, blocks: &mut Blocks) -> Row {
        blocks.follow(item);
        let record = match item {
            Item::View(view) => {
                return Row {
                    at_ns: view.at_ns,
                    event: "view",
                    view: Some(view.number),
                    path: Some(view.path.clone()),
                    file: blocks.find(view.first_block).map(|place| blocks.place(place).file),
                    offset: Some(view.offset),
                    bytes: Some(view.bytes),
                    ..Row::default()
                };
            }
            Item::Record(record) => record,
        };
        let row = |event| Row { at_ns: record.at_ns, event, ..Row::default() };
        let of_block = |event, block| Row { at_ns: record.at_ns, event, ..Row::of_block(block, blocks) };
        match record.event {
            Event::Touch { block, offset, tid, found } => {
                let row = of_block("touch", block);
                let offset = blocks.find(block).map(|place| blocks.offset(place, offset));
                Row { offset, tid: Some(tid), found: Some(word(found)), ..row }
            }
            Event::Woken { block, tid } => Row { tid: Some(tid), ..of_block("woken", block) },
            Event::Read { read, block, start, len, source, why } => {
                let row = of_block("read", block);
                Row {
                    offset: blocks.find(block).map(|place| blocks.offset(place, start)),
                    bytes: Some(u64::from(len)),
                    read: Some(read),
                    source: Some(source),
                    why: Some(if why == Why::Demand { "demand" } else { "readahead" }),
                    ..row
                }
            }
            Event::ReadEnd { read, result } => Row { read: Some(read), result: Some(result), ..row("read_end") },
            Event::Install { block } => of_block("install", block),
            Event::Evict { block, untouched } => Row { untouched: Some(untouched), ..of_block("evict", block) },
            Event::Rearm { block } => of_block("rearm", block),
            Event::Budget { bytes } => Row { bytes: Some(bytes), ..row("budget") },
            Event::Cycle { number } => Row { cycle: Some(number), ..row("cycle") },
            Event::Routed { layer, token, expert } => {
                Row { layer: Some(layer), token: Some(token), expert: Some(expert), ..row("routed") }
            }
            Event::Guessed { layer, expert, by } => {
                Row { layer: Some(layer), expert: Some(expert), by: Some(by.word()), ..row("guessed") }
            }
            Event::Affine { layer, expert, level } => {
                Row { layer: Some(layer), expert: Some(expert), level: Some(level), ..row("affine") }
            }
            Event::Unmapped { view } => Row { view: Some(view), ..row("unmapped") },
            Event::Lost { records } => Row { records: Some(records), ..row("lost") },
        }
    }

    fn of_block(block: BlockId, blocks: &Blocks) -> Row {
        let Some(id) = blocks.find(block) else { return Row::default() };
        let place = blocks.place(id);
        Row {
            file: Some(place.file),
            block: Some(id),
            offset: Some(place.offset),
            bytes: Some(u64::from(place.len)),
            role: Some(blocks.roles()[usize::from(place.role)].clone()),
            layer: place.layer,
            expert: place.expert,
            ..Row::default()
        }
    }
}

fn word(found: Touch) -> &'static str {
    match found {
        Touch::Absent => "absent",
        Touch::Reading => "reading",
        Touch::Staged => "staged",
    }
}
