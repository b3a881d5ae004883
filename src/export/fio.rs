//! fio's trace file format, version 3 (fio(1), "TRACE FILE FORMAT"): reads at their times, which
//! `fio --read_iolog` replays. Reads of other copies of the model are replayed on the file itself.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::ensure;

use super::Items;
use crate::report::blocks::Blocks;
use crate::trace::{Event, Item};

/// The longest name that fio reads.
const NAME_MAX: usize = 255;

/// Writes the reads.
pub fn write(items: Items, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut blocks = Blocks::default();
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut start_ns = None;
    let mut now = 0;
    writeln!(out, "fio version 3 iolog")?;
    for item in items {
        let item = item?;
        if let Item::View(view) = &item {
            let path = &view.path;
            ensure!(
                !path.contains(char::is_whitespace) && path.len() <= NAME_MAX,
                "fio reads no names with spaces or more than {NAME_MAX} bytes: {path}"
            );
            if open.insert(path.clone()) {
                writeln!(out, "{now} {path} add\n{now} {path} open")?;
            }
        }
        let Some(record) = blocks.follow(&item) else { continue };
        if let Event::Read { block, start, len, .. } = record.event
            && let Some(place) = blocks.find(block)
        {
            now = (record.at_ns - *start_ns.get_or_insert(record.at_ns)) / UNIT_NS;
            let offset = blocks.offset(place, start);
            writeln!(out, "{now} {} read {offset} {len}", blocks.file(place).path)?;
        }
    }
    for path in open {
        writeln!(out, "{now} {path} close")?;
    }
    Ok(())
}

/// fio's times are in microseconds.
const UNIT_NS: u64 = 1000;
