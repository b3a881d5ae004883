//! The payload of a chunk of records: for each a tag, the time since the record before, and its
//! fields. The first record of a chunk counts from zero, so each chunk can be read on its own.

use super::record::{Event, Foreteller, Record, Why};
use super::varint::{Cursor, What, put, put_signed};
use crate::policy::Touch;

/// What differences are taken from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    at_ns: u64,
    block: u32,
    tid: u32,
}

impl Last {
    /// Appends a record that is no earlier than the one before.
    pub fn encode(&mut self, out: &mut Vec<u8>, record: &Record) {
        out.push(tag(&record.event));
        put(out, record.at_ns - self.at_ns);
        self.at_ns = record.at_ns;
        match record.event {
            Event::Touch { block, offset, tid, found: _ } => {
                self.put_block(out, block);
                put(out, offset.into());
                self.put_tid(out, tid);
            }
            Event::Woken { block, tid } => {
                self.put_block(out, block);
                self.put_tid(out, tid);
            }
            Event::Read { read, block, start, len, source, why: _ } => {
                put(out, read.into());
                self.put_block(out, block);
                put(out, start.into());
                put(out, len.into());
                out.push(source);
            }
            Event::ReadEnd { read, result } => {
                put(out, read.into());
                put_signed(out, result.into());
            }
            Event::Install { block } | Event::Evict { block, untouched: _ } | Event::Rearm { block } => {
                self.put_block(out, block);
            }
            Event::Budget { bytes } => put(out, bytes),
            Event::Cycle { number } => put(out, number),
            Event::Routed { layer, token, expert } => {
                [layer, token, expert].into_iter().for_each(|number| put(out, number.into()));
            }
            Event::Guessed { layer, expert, by } => {
                put(out, layer.into());
                put(out, expert.into());
                out.push(match by {
                    Foreteller::Gate => 0,
                    Foreteller::CoOccurrence => 1,
                });
            }
            Event::Affine { layer, expert, level } => {
                put(out, layer.into());
                put(out, expert.into());
                out.push(level);
            }
            Event::Unmapped { view } => put(out, view.into()),
            Event::Lost { records } => put(out, records),
        }
    }

    /// Takes the next record.
    pub fn decode(&mut self, from: &mut Cursor) -> Result<Record, What> {
        let tag = from.slice(1)?[0];
        self.at_ns = self.at_ns.checked_add(from.number()?).ok_or("a time is out of range")?;
        let event = match tag {
            0..=2 => Event::Touch {
                found: [Touch::Absent, Touch::Reading, Touch::Staged][usize::from(tag)],
                block: from.delta(&mut self.block)?,
                offset: from.narrow()?,
                tid: from.delta(&mut self.tid)?,
            },
            3 => Event::Woken { block: from.delta(&mut self.block)?, tid: from.delta(&mut self.tid)? },
            4 | 5 => Event::Read {
                why: if tag == 4 { Why::Demand } else { Why::Readahead },
                read: from.narrow()?,
                block: from.delta(&mut self.block)?,
                start: from.narrow()?,
                len: from.narrow()?,
                source: from.slice(1)?[0],
            },
            6 => Event::ReadEnd {
                read: from.narrow()?,
                result: from.signed()?.try_into().map_err(|_| "a result is out of range")?,
            },
            7 => Event::Install { block: from.delta(&mut self.block)? },
            8 | 9 => Event::Evict { block: from.delta(&mut self.block)?, untouched: tag == 9 },
            10 => Event::Rearm { block: from.delta(&mut self.block)? },
            11 => Event::Budget { bytes: from.number()? },
            12 => Event::Cycle { number: from.number()? },
            13 => Event::Routed { layer: from.narrow()?, token: from.narrow()?, expert: from.narrow()? },
            14 => Event::Unmapped { view: from.narrow()? },
            15 => Event::Lost { records: from.number()? },
            16 => Event::Guessed {
                layer: from.narrow()?,
                expert: from.narrow()?,
                by: match from.slice(1)?[0] {
                    0 => Foreteller::Gate,
                    1 => Foreteller::CoOccurrence,
                    _ => return Err("an unknown foreteller"),
                },
            },
            17 => Event::Affine { layer: from.narrow()?, expert: from.narrow()?, level: from.slice(1)?[0] },
            _ => return Err("an unknown event"),
        };
        Ok(Record { at_ns: self.at_ns, event })
    }

    fn put_block(&mut self, out: &mut Vec<u8>, block: u32) {
        put_signed(out, i64::from(block) - i64::from(self.block));
        self.block = block;
    }

    fn put_tid(&mut self, out: &mut Vec<u8>, tid: u32) {
        put_signed(out, i64::from(tid) - i64::from(self.tid));
        self.tid = tid;
    }
}

fn tag(event: &Event) -> u8 {
    match event {
        Event::Touch { found: Touch::Absent, .. } => 0,
        Event::Touch { found: Touch::Reading, .. } => 1,
        Event::Touch { found: Touch::Staged, .. } => 2,
        Event::Woken { .. } => 3,
        Event::Read { why: Why::Demand, .. } => 4,
        Event::Read { why: Why::Readahead, .. } => 5,
        Event::ReadEnd { .. } => 6,
        Event::Install { .. } => 7,
        Event::Evict { untouched: false, .. } => 8,
        Event::Evict { untouched: true, .. } => 9,
        Event::Rearm { .. } => 10,
        Event::Budget { .. } => 11,
        Event::Cycle { .. } => 12,
        Event::Routed { .. } => 13,
        Event::Unmapped { .. } => 14,
        Event::Lost { .. } => 15,
        Event::Guessed { .. } => 16,
        Event::Affine { .. } => 17,
    }
}
