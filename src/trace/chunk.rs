//! The frame of a log: a head, then chunks, each with its length and its checksums.
//!
//! Little-endian. `docs/fault-log.md` describes the format as a whole.

use xxhash_rust::xxh3::xxh3_64;

/// The first bytes of a log.
pub(super) const MAGIC: &[u8; 8] = b"GGPTRACE";
/// Version of the format; a reader refuses a newer one. 2: what is expected of routers.
pub(super) const MAJOR: u16 = 3;
/// Raised when there are new kinds of chunks, which older readers skip.
pub(super) const MINOR: u16 = 0;

/// Bytes of the log's head: magic, major and minor version, checksum of these.
pub(super) const LOG_HEAD: usize = 16;
/// Bytes of a chunk's head: kind, payload's length, records, payload's checksum, checksum of these.
pub(super) const CHUNK_HEAD: usize = 24;

/// Records are written in chunks of about this size.
pub(super) const FULL: usize = 64 << 10;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The log's header, as JSON; the first chunk and no other.
    Header,
    /// A view.
    View,
    /// Records.
    Records,
    /// Nothing: the recorder had written all it had, and ended or was about to.
    End,
    /// Something of a newer minor version.
    Unknown,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Header => 1,
            Kind::View => 2,
            Kind::Records => 3,
            Kind::End => 4,
            Kind::Unknown => unreachable!("never written"),
        }
    }

    fn of(number: u32) -> Kind {
        let known = [Kind::Header, Kind::View, Kind::Records, Kind::End];
        known.into_iter().find(|kind| kind.number() == number).unwrap_or(Kind::Unknown)
    }

    /// The longest payload, in bytes.
    pub fn most(self) -> u32 {
        match self {
            Kind::Header | Kind::Records => 1 << 20,
            Kind::View => 64 << 20,
            Kind::End => 0,
            Kind::Unknown => u32::MAX,
        }
    }
}

/// A chunk's head, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub kind: Kind,
    /// Length of the payload, in bytes.
    pub len: u32,
    /// Records in the payload; 1 for a header and a view, 0 for an end.
    pub count: u32,
    /// Checksum of the payload.
    pub sum: u64,
}

impl Head {
    /// `None` when the head's checksum is wrong.
    pub fn decode(bytes: &[u8; CHUNK_HEAD]) -> Option<Head> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let sum = u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes"));
        let head = Head { kind: Kind::of(word(0)), len: word(4), count: word(8), sum };
        (word(20) == short_sum(&bytes[..20])).then_some(head)
    }
}

/// The first bytes of a log.
pub(super) fn log_head() -> [u8; LOG_HEAD] {
    let mut head = [0; LOG_HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..10].copy_from_slice(&MAJOR.to_le_bytes());
    head[10..12].copy_from_slice(&MINOR.to_le_bytes());
    let sum = short_sum(&head[..12]);
    head[12..].copy_from_slice(&sum.to_le_bytes());
    head
}

/// Fills in the head of the chunk whose payload follows the first [`CHUNK_HEAD`] bytes of `chunk`.
///
/// # Panics
/// When the payload is longer than its kind allows.
pub(super) fn seal(chunk: &mut [u8], kind: Kind, count: u32) {
    let (head, payload) = chunk.split_at_mut(CHUNK_HEAD);
    assert!(payload.len() <= kind.most() as usize, "a payload of {} bytes", payload.len());
    head[..4].copy_from_slice(&kind.number().to_le_bytes());
    head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    head[8..12].copy_from_slice(&count.to_le_bytes());
    head[12..20].copy_from_slice(&xxh3_64(payload).to_le_bytes());
    let sum = short_sum(&head[..20]);
    head[20..].copy_from_slice(&sum.to_le_bytes());
}

/// The low half of XXH3 (64 bits).
pub(super) fn short_sum(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}
