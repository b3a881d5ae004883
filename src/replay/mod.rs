//! Replays a fault log: other memory sizes, policies and drives for a run that was recorded once.
//!
//! [`Recording`] holds what a log says, [`Order`] is the order of its cycles, `experts` says which experts
//! they use, `pace` how fast they compute; [`Workload`] is all of that together. [`Bench`] simulates a [`Case`] of it, and
//! [`matrix`] all cases. [`drive`] says what drives there are; [`report`], [`table`] and [`svg`] show the
//! outcome.

pub mod case;
mod cycle;
pub mod drive;
mod experts;
mod fit;
pub mod matrix;
mod order;
mod pace;
mod recording;
pub mod report;
pub mod svg;
pub mod table;
mod used;
mod waits;
mod work;
mod workload;

pub use case::{Bench, Case, Contender};
pub use order::Order;
pub use recording::Recording;
pub use workload::{Unusable, Workload};

#[cfg(test)]
mod tests;
