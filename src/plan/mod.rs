//! What to expect of a model on a machine, without a run of it: from the tensor map, what a token reads
//! ([`crate::gguf::TokenReads`]); from the policy, how it divides the memory; from short measurements, the
//! drive's rate and the time to compute ([`compute`]).
//!
//! [`estimate`] is the arithmetic, [`kv`] what the context takes besides, [`report`] what is shown.

pub mod compute;
pub mod estimate;
pub mod kv;
pub mod report;

#[cfg(test)]
mod tests;
