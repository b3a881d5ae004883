//! Random-weight models that llama.cpp loads and runs.
//!
//! A [`Request`] says what is wanted (architecture, quantization, size); [`Request::plan`] chooses
//! the hyperparameters and lays out every byte of the file or files; [`Plan::write`] streams them to
//! disk. In a mixture of experts [`Routing`] says how the routers behave. No weight is quantized: a tensor is random bytes with sane block scales put in
//! ([`weights`]), so that it has zero mean and a standard deviation of about 1/sqrt(fan-in), and
//! activations stay finite. A tensor's content depends on the seed and its name alone.

mod arch;
mod element;
mod error;
mod header;
mod order;
mod pattern;
mod plan;
mod quant;
mod random;
mod routing;
mod shaped;
mod sink;
mod size;
mod stream;
mod tensors;
mod topics;
mod vocab;
mod weights;
mod write;

pub use arch::{Arch, Experts, Mla, Shape};
pub use error::Error;
pub use order::Order;
pub use plan::{Plan, PlannedFile};
pub use quant::Quant;
pub use routing::Routing;
pub use size::Request;
pub use write::{Summary, WriteOptions};

#[cfg(test)]
mod shaped_tests;
#[cfg(test)]
mod tests;
