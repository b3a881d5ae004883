//! What `blkparse` prints by default (blkparse(1), "DEFAULT OUTPUT"): for each read a line when it is
//! queued (Q) and issued (D), which is one moment here, and one when it completes (C).
//!
//! The device is that of the file, the sectors (of 512 bytes) are counted within the file. Demand reads
//! are `R`, readahead is `RA`. Reads of other copies of the model stand under the same device.

use std::collections::HashMap;
use std::io::Write;

use super::Items;
use crate::report::blocks::Blocks;
use crate::trace::{Event, Why};

const SECTOR: u64 = 512;

/// A read in flight.
struct Flying {
    device: u64,
    sector: u64,
    why: &'static str,
}

/// Writes the reads.
pub fn write(items: Items, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut blocks = Blocks::default();
    let mut flying: HashMap<u32, Flying> = HashMap::new();
    let mut sequence = 0u64;
    let mut line = |at_ns: u64, action: &str, read: &Flying, sectors: u64, tail: &str| {
        sequence += 1;
        let (major, minor) = (libc::major(read.device), libc::minor(read.device));
        let (seconds, rest) = (at_ns / 1_000_000_000, at_ns % 1_000_000_000);
        let Flying { sector, why, .. } = read;
        writeln!(
            out,
            "{major:3},{minor:<3} {cpu:2} {sequence:8} {seconds:5}.{rest:09} {pid:5} {action:>2} {why:>3} {sector} + {sectors} [{tail}]",
            cpu = 0,
            pid = 0,
        )
    };
    for item in items {
        let Some(record) = blocks.follow(&item?) else { continue };
        match record.event {
            Event::Read { read, block, start, len, why, .. } => {
                let Some(place) = blocks.find(block) else { continue };
                let begun = Flying {
                    device: blocks.file(place).inode.0,
                    sector: blocks.offset(place, start) / SECTOR,
                    why: if why == Why::Demand { "R" } else { "RA" },
                };
                let sectors = u64::from(len).div_ceil(SECTOR);
                line(record.at_ns, "Q", &begun, sectors, "ggpager")?;
                line(record.at_ns, "D", &begun, sectors, "ggpager")?;
                flying.insert(read, begun);
            }
            Event::ReadEnd { read, result } => {
                let Some(begun) = flying.remove(&read) else { continue };
                let sectors = u64::try_from(result).unwrap_or(0).div_ceil(SECTOR);
                line(record.at_ns, "C", &begun, sectors, &result.min(0).to_string())?;
            }
            Event::Lost { .. } => flying.clear(),
            _ => {}
        }
    }
    Ok(())
}
