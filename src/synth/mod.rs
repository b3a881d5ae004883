//! Random-weight models that llama.cpp loads and runs.
//!
//! A [`Request`] says what is wanted (architecture, quantization, size); [`Request::plan`] chooses
//! the hyperparameters and lays out every byte of the file or files; [`Plan::write`] streams them to
//! disk. No weight is quantized: a tensor is random bytes with sane block scales put in
//! ([`weights`]), so that it has zero mean and a standard deviation of about 1/sqrt(fan-in), and
//! activations stay finite. A tensor's content depends on the seed and its name alone.

mod arch;
mod error;
mod header;
mod order;
mod plan;
mod quant;
mod random;
mod sink;
mod size;
mod tensors;
mod vocab;
mod weights;
mod write;

pub use arch::{Arch, Experts, Mla, Shape};
pub use error::Error;
pub use order::Order;
pub use plan::{Plan, PlannedFile};
pub use quant::Quant;
pub use size::Request;
pub use write::{Summary, WriteOptions};

#[cfg(test)]
mod tests;
