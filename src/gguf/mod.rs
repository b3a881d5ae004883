//! A bounded reader of GGUF headers: which tensor lies where, and in which order it is read.
//!
//! The reader runs inside the program's `mmap` call, on files that nobody has vouched for. Every
//! count is checked against the bytes that are left before anything is allocated for it, long
//! values are skipped without being read, and whatever is wrong is an [`Error`].

mod error;
mod ggml_type;
mod tensor;

pub use error::Error;
pub use ggml_type::{BadType, GgmlType};
pub use tensor::{Extent, Role, Tensor};
