//! Fault logs in the formats of other tools: one file a format.
//!
//! All of them stream, but for `oraclegeneral`, whose records say when their block is touched next:
//! it holds 24 bytes for each touch.

mod blkparse;
mod csv;
mod fio;
mod hdr;
mod oraclegeneral;
mod parquet;
mod perfetto;
mod row;

use std::io::Write;

use crate::trace::{Header, Item};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each record, with typed columns.
    Csv,
    /// The same columns as Apache Parquet.
    Parquet,
    /// Trace events in JSON for Perfetto and chrome://tracing: sleeps and reads as slices.
    Perfetto,
    /// Reads as the text that blkparse prints.
    Blkparse,
    /// Reads as an iolog that fio replays (--read_iolog).
    Fio,
    /// Touches as the binary trace of libCacheSim.
    #[value(name = "oraclegeneral")]
    OracleGeneral,
    /// Latencies, sizes and sleeps as an HdrHistogram interval log.
    Hdr,
}

/// The items of a log.
pub type Items<'a> = &'a mut dyn Iterator<Item = anyhow::Result<Item>>;

/// Writes the log that has `header` and `items` to `out` in `format`.
///
/// # Errors
/// When an item is an error, when `out` cannot be written, or when the format cannot express it.
pub fn write(
    format: Format,
    header: &Header,
    items: impl Iterator<Item = anyhow::Result<Item>>,
    mut out: impl Write + Send,
) -> anyhow::Result<()> {
    let mut items = items;
    let items: Items = &mut items;
    match format {
        Format::Csv => csv::write(items, &mut out),
        Format::Parquet => parquet::write(items, &mut out),
        Format::Perfetto => perfetto::write(header, items, &mut out),
        Format::Blkparse => blkparse::write(items, &mut out),
        Format::Fio => fio::write(items, &mut out),
        Format::OracleGeneral => oraclegeneral::write(items, &mut out),
        Format::Hdr => hdr::write(header, items, &mut out),
    }?;
    Ok(out.flush()?)
}
