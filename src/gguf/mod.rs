//! A bounded reader of GGUF headers: which tensor lies where, and in which order it is read.
//!
//! The reader runs inside the program's `mmap` call, on files that nobody has vouched for. Every
//! count is checked against the bytes that are left before anything is allocated for it, long
//! values are skipped without being kept, and whatever is wrong is an [`Error`]. A file that
//! cannot be read this way is paged in plain file order.
//!
//! [`Model::read`] parses a header, [`decode_order`] says in which order a decoded token reads the
//! tensors, [`TokenReads`] how much of them, [`shard_paths`] finds the other files of a split model.

mod error;
mod ggml_type;
mod metadata;
mod model;
mod prior;
mod role;
mod source;
mod split;
mod tensor;
#[cfg(test)]
mod tests;
mod token;

pub use error::Error;
pub use ggml_type::{BadType, GgmlType};
pub use metadata::{Value, ValueType};
pub use model::{Model, Split};
pub use prior::{decode_order, decode_order_of_shards, tied_embeddings_of_shards};
pub use source::ReadAt;
pub use split::{ShardName, model_bytes, shard_paths};
pub use tensor::{Extent, Role, Tensor};
pub use token::TokenReads;
