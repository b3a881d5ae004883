//! Fault logs: what happened between a program and its model, event by event.
//!
//! A log is a [`Header`] and a stream of [`Item`]s in the order of time: a [`View`] whenever a model
//! file is mapped, [`Record`]s for everything else. Times never decrease. [`Encoder`] writes a log,
//! [`Reader`] reads one; the format is in `docs/fault-log.md`.

mod chunk;
mod encoder;
mod error;
mod header;
mod reader;
mod record;
mod records;
mod varint;
mod views;

#[cfg(test)]
mod tests;

pub use encoder::Encoder;
pub use error::Error;
pub use header::{Header, Machine, Tensor, View};
pub use reader::Reader;
pub use record::{Event, Foreteller, Item, Record, Why};
