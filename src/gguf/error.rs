//! Why a header cannot be used.

use super::ggml_type::BadType;

/// Why a file is no GGUF model that this reader understands. Numbers are as the file has them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("read at byte {offset}: {error}")]
    Io {
        /// Where the read began.
        offset: u64,
        /// The error of the read.
        error: std::io::Error,
    },
    /// The file does not start with `GGUF`.
    #[error("not a GGUF file: it starts with {found:02x?}")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was written for a machine of the other byte order.
    #[error("big-endian GGUF files are not supported")]
    BigEndian,
    /// Neither version 2 nor 3.
    #[error("GGUF version {version} is not supported (2 and 3 are)")]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// Something reaches beyond the end of the file.
    #[error("the file ends inside {what} at byte {offset}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// A count or a length is larger than any real file has, or than this file has room for.
    #[error("{what} is {value}, more than the limit of {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// The number in the file.
        value: u64,
        /// The largest number accepted here.
        limit: u64,
    },
    /// A metadata value has a type that the format does not define.
    #[error("metadata value type {id} of {key:?} is unknown")]
    ValueType {
        /// The key, as far as it is known.
        key: String,
        /// The type id in the file.
        id: u32,
    },
    /// A known key has a value of the wrong type or outside of its range.
    #[error("the value of {key:?} cannot be used: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key or a tensor name is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8")]
    Utf8 {
        /// Key or tensor name.
        what: &'static str,
        /// Where the text begins.
        offset: u64,
    },
    /// A key or a tensor name occurs twice.
    #[error("{what} {name:?} occurs twice")]
    Duplicate {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A tensor's type id names no type.
    #[error("tensor {tensor:?}: {reason}")]
    Type {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with the id.
        reason: BadType,
    },
    /// A tensor's dimensions are impossible.
    #[error("tensor {tensor:?}: {why}")]
    Dims {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A tensor does not lie inside the file, or not at a multiple of the alignment.
    #[error("tensor {tensor:?}: {why} (offset {offset} in the data, {bytes} bytes)")]
    Extent {
        /// The tensor's name.
        tensor: String,
        /// What is wrong.
        why: &'static str,
        /// Offset from the start of the data section.
        offset: u64,
        /// The tensor's size.
        bytes: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other one.
        second: String,
    },
}
