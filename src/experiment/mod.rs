//! A matrix of runs: models x memory x swappiness x strategy, with parts of the model locked in memory
//! or not, and with reads of a forced size and number; and a sweep of the same sizes and numbers for the
//! drive alone.
//!
//! [`Case`] is one run, [`matrix`] makes the cases of some axes, [`Session`] runs them by way of
//! [`crate::bench`]. Each result is a line of a [`Journal`] as soon as it is there, and what is in the
//! journal is not run again: a matrix of hours can be made in pieces. [`page`] shows everything that a
//! folder has.

mod case;
mod journal;
pub mod matrix;
mod outcome;
mod plots;
mod report;
mod session;
mod sweep;
#[cfg(test)]
mod tests;

pub use case::{Case, Lock, Setup, Way};
pub use journal::Journal;
pub use outcome::Outcome;
pub use report::{has_other_text, page};
pub use session::{Means, Provided, Session, describe};
pub use sweep::{Cell, CellRate, cells};
