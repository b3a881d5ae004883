//! Why a mapping stays the kernel's.

use super::load::Fitting;
use crate::config::ByteSize;

/// Why a mapping does not become a view.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The strategy wants the ordinary mapping.
    #[error("the ordinary mapping is wanted")]
    Passthrough,
    /// The ordinary mapping serves this file best, because the model fits; [`Pager::load`] can fill it.
    #[error("the model fits")]
    Fits(Box<Fitting>),
    /// A limit leaves too little address space.
    #[error("{} of address space are left, {} are wanted, see `ulimit -v`", ByteSize(*left), ByteSize(*wanted))]
    AddressSpace {
        /// What the process may still take, in bytes.
        left: u64,
        /// What is wanted, in bytes.
        wanted: u64,
    },
    /// A system call failed.
    #[error("{call}: {source}")]
    Sys {
        /// Which call.
        call: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// The pager thread has ended; every view has been handed over to the kernel.
    #[error("the pager has stopped")]
    Stopped,
}
