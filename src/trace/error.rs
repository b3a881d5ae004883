//! Why bytes are no sound log.

use std::io;

/// What is wrong with a log, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("byte {offset}: {source}")]
    Io {
        /// Where, in bytes from the start.
        offset: u64,
        /// The error.
        source: io::Error,
    },
    /// It does not begin as a log does.
    #[error("it is no fault log")]
    Foreign,
    /// A version that is not known here.
    #[error("it is a fault log of version {0}, which is newer than this program")]
    Version(u16),
    /// It is damaged.
    #[error("byte {offset}: {what}")]
    Damaged {
        /// Where, in bytes from the start.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl Error {
    /// Where the fault lies, in bytes from the start.
    pub fn offset(&self) -> u64 {
        match self {
            Error::Io { offset, .. } | Error::Damaged { offset, .. } => *offset,
            Error::Foreign => 0,
            Error::Version(_) => 8,
        }
    }
}
