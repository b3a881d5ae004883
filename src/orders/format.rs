//! The bytes of a stored order.
//!
//! Little-endian: magic `GGPORDER`, version (u32), number of blocks (u32), key (u128), for each
//! block its file offset in pages of 4 KiB (u32), XXH3 of all that (u64).

use xxhash_rust::xxh3::xxh3_64;

use super::Key;

const MAGIC: &[u8; 8] = b"GGPORDER";
const VERSION: u32 = 1;
const HEAD: usize = 32;
const SUM: usize = 8;
const PAGE: u64 = 4096;

/// Why bytes are no order of the model in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// It does not begin as a stored order does.
    #[error("it is no stored order")]
    Foreign,
    /// Another version of the format.
    #[error("its version is {0}")]
    Version(u32),
    /// The length or the checksum is wrong.
    #[error("it is damaged")]
    Damaged,
    /// It belongs to another model.
    #[error("it is another model's")]
    OtherModel,
}

/// The bytes of an order. Offsets are multiples of a page, below 16 TiB; others are left out.
pub fn encode(key: Key, offsets: &[u64]) -> Vec<u8> {
    let pages: Vec<u32> = offsets
        .iter()
        .filter(|&&offset| offset % PAGE == 0)
        .filter_map(|&offset| u32::try_from(offset / PAGE).ok())
        .collect();
    let mut bytes = Vec::with_capacity(HEAD + 4 * pages.len() + SUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(pages.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&key.0.to_le_bytes());
    bytes.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// The order in `bytes`, as file offsets in bytes.
///
/// # Errors
/// When `bytes` are no sound order of `key`.
pub fn decode(bytes: &[u8], key: Key) -> Result<Vec<u64>, BadOrder> {
    let (head, rest) = bytes.split_at_checked(HEAD).ok_or(BadOrder::Foreign)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    if &head[..8] != MAGIC {
        return Err(BadOrder::Foreign);
    }
    if number(8) != VERSION {
        return Err(BadOrder::Version(number(8)));
    }
    if rest.len() as u64 != u64::from(number(12)) * 4 + SUM as u64 {
        return Err(BadOrder::Damaged);
    }
    let (pages, sum) = rest.split_at(rest.len() - SUM);
    if sum != xxh3_64(&bytes[..bytes.len() - SUM]).to_le_bytes() {
        return Err(BadOrder::Damaged);
    }
    if head[16..HEAD] != key.0.to_le_bytes() {
        return Err(BadOrder::OtherModel);
    }
    let offset = |page: &[u8]| u64::from(u32::from_le_bytes(page.try_into().expect("four bytes"))) * PAGE;
    Ok(pages.chunks_exact(4).map(offset).collect())
}
