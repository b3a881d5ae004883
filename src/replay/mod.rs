//! Replays a fault log: other memory sizes, policies and drives for a run that was recorded once.
//!
//! [`Recording`] holds what a log says, [`Order`] is the order of its cycles, [`Workload`] what the
//! threads touch in each cycle and how long they compute, [`Bench`] simulates a [`Case`] of it, and
//! [`matrix`] all cases. [`drive`] says what drives there are; [`report`], [`table`] and [`svg`] show the
//! outcome.

pub mod case;
mod companions;
pub mod drive;
pub mod matrix;
mod order;
mod recording;
pub mod report;
pub mod svg;
pub mod table;
mod waits;
mod workload;

pub use case::{Bench, Case, Contender};
pub use order::Order;
pub use recording::Recording;
pub use workload::{Unusable, Workload};

#[cfg(test)]
mod tests;
