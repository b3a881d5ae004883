//! The binary trace `oracleGeneral` of libCacheSim: for each request 24 bytes, little-endian and
//! packed, as `oracleGeneralBin.h` reads them: time in seconds (u32), object (u64), size in bytes
//! (u32), number of the next request of the same object (i64, -1 for none).
//!
//! A request is a touch that reported itself (several threads that sleep on one block make one), an
//! object a block. Touches of blocks that stayed in the view are not in a log.

use std::collections::HashMap;
use std::io::Write;

use super::Items;
use crate::report::blocks::{Blocks, PlaceId};
use crate::report::{Sleep, Sleepers};
use crate::trace::Event;

/// No more requests of the object.
const NEVER: i64 = -1;

struct Request {
    seconds: u32,
    place: PlaceId,
    bytes: u32,
    next: i64,
}

/// Writes the touches.
pub fn write(items: Items, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut blocks = Blocks::default();
    let mut sleepers = Sleepers::default();
    let mut requests: Vec<Request> = Vec::new();
    let mut last: HashMap<PlaceId, usize> = HashMap::new();
    for item in items {
        let Some(record) = blocks.follow(&item?) else { continue };
        match record.event {
            Event::Touch { block, tid, found, .. } => {
                let first = sleepers.touched(block, tid, Sleep { since_ns: record.at_ns, found });
                let Some(place) = blocks.find(block).filter(|_| first) else { continue };
                if let Some(before) = last.insert(place, requests.len()) {
                    requests[before].next = requests.len() as i64;
                }
                let seconds = (record.at_ns / 1_000_000_000) as u32;
                requests.push(Request { seconds, place, bytes: blocks.place(place).len, next: NEVER });
            }
            Event::Woken { block, tid } => {
                sleepers.woken(block, tid);
            }
            Event::Lost { .. } => sleepers.clear(),
            _ => {}
        }
    }
    for Request { seconds, place, bytes, next } in requests {
        out.write_all(&seconds.to_le_bytes())?;
        out.write_all(&u64::from(place).to_le_bytes())?;
        out.write_all(&bytes.to_le_bytes())?;
        out.write_all(&next.to_le_bytes())?;
    }
    Ok(())
}
