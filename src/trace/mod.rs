//! Fault logs: what happened between a program and its model, event by event.
//!
//! A log is a [`Header`] and a stream of [`Item`]s in the order of time: a [`View`] whenever a model
//! file is mapped, [`Record`]s for everything else. Times never decrease.

mod header;
mod record;

pub use header::{Header, Machine, Tensor, View};
pub use record::{Event, Item, Record, Why};
