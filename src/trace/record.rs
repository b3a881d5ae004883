//! One event of a fault log.

use super::header::View;
use crate::policy::{BlockId, Touch};

/// Why a block is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// A thread sleeps on it.
    Demand,
    /// The policy expects that it will be needed.
    Readahead,
}

/// Who says what a router will choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Foreteller {
    /// The router itself, tried on the state that the layer before has seen.
    Gate,
    /// The experts that were chosen together with the present ones so far.
    CoOccurrence,
}

impl Foreteller {
    /// Its name in tables: `gate` or `co-occurrence`.
    pub fn word(self) -> &'static str {
        match self {
            Foreteller::Gate => "gate",
            Foreteller::CoOccurrence => "co-occurrence",
        }
    }
}

/// What happened. Blocks are numbered as in the [`View`]s: block `first_block + i` is the view's block
/// `i`. A number may be used again once its view is unmapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Thread `tid` touched a hole and sleeps.
    Touch {
        /// The block that was touched.
        block: BlockId,
        /// Where in the block, in bytes.
        offset: u32,
        /// The kernel's number of the thread; 0 where it is not known.
        tid: u32,
        /// How the touch found the block.
        found: Touch,
    },
    /// Thread `tid`, which slept on `block`, was woken.
    Woken {
        /// The block.
        block: BlockId,
        /// The thread.
        tid: u32,
    },
    /// A read was submitted.
    Read {
        /// Its number, until [`Event::ReadEnd`]; used again later.
        read: u32,
        /// The block that is filled.
        block: BlockId,
        /// Where in the block the read starts, in bytes.
        start: u32,
        /// Bytes asked for.
        len: u32,
        /// Which copy of the file is read: 0 is the file itself.
        source: u8,
        /// Why.
        why: Why,
    },
    /// A read completed.
    ReadEnd {
        /// The number of [`Event::Read`].
        read: u32,
        /// Bytes, or a negative error number.
        result: i32,
    },
    /// A block was put into the view: touches of it cost nothing from now on.
    Install {
        /// The block.
        block: BlockId,
    },
    /// A block lost its frame.
    Evict {
        /// The block.
        block: BlockId,
        /// Nobody had touched it since it was read.
        untouched: bool,
    },
    /// A block was taken out of the view and kept its frame: the next touch reports itself.
    Rearm {
        /// The block.
        block: BlockId,
    },
    /// The pool may hold so many bytes from now on.
    Budget {
        /// Bytes.
        bytes: u64,
    },
    /// The policy saw a cycle end.
    Cycle {
        /// Cycles that have ended.
        number: u64,
    },
    /// The router chose an expert for a token.
    Routed {
        /// Layer.
        layer: u32,
        /// Token in the batch.
        token: u32,
        /// Expert.
        expert: u32,
    },
    /// An expert is expected to be chosen by the next router that chooses in `layer`. All that one
    /// foreteller expects of it come one behind the other, the likeliest first.
    Guessed {
        /// Layer.
        layer: u32,
        /// Expert.
        expert: u32,
        /// Who expects it.
        by: Foreteller,
    },
    /// The router that has just chosen in `layer` came near to choosing an expert, or chose it. Experts that are not named
    /// were far from it.
    Affine {
        /// Layer.
        layer: u32,
        /// Expert.
        expert: u32,
        /// How near, up to [`LEVELS`](crate::pager::affinity::LEVELS): half of that is where the choice ends.
        level: u8,
    },
    /// A view was unmapped or handed over to the kernel.
    Unmapped {
        /// Its number.
        view: u32,
    },
    /// Records that are missing here, because the log could not be written fast enough or had reached
    /// its limit.
    Lost {
        /// How many.
        records: u64,
    },
}

/// An event and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since [`Header::started_unix_ns`](super::Header::started_unix_ns), by the monotonic
    /// clock.
    pub at_ns: u64,
    /// What happened.
    pub event: Event,
}

/// What a log consists of after its header.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A model file was mapped: its blocks and tensors.
    View(Box<View>),
    /// Anything else.
    Record(Record),
}
