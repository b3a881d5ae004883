//! What the kernel's tracepoints tell about a run: the events of `scripts/kernel-trace` as a fault log,
//! and their count beside a log of the pager.
//!
//! [`parse`] reads the text, [`build`] makes a log of it, [`traffic`] adds up what the drive was asked
//! for.

pub mod build;
mod extents;
pub mod parse;
pub mod traffic;

#[cfg(test)]
mod tests;
