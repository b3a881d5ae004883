//! CSV (RFC 4180) with a heading: one line a record.

use std::io::Write;

use super::Items;
use super::row::Row;
use crate::report::blocks::Blocks;

/// Writes all items.
pub fn write(items: Items, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let mut blocks = Blocks::default();
    for item in items {
        writer.serialize(Row::of(&item?, &mut blocks))?;
    }
    Ok(writer.flush()?)
}
