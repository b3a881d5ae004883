//! Reads chunks of a file into the page cache, without copying them anywhere.
//!
//! | rung | how | needs |
//! |---|---|---|
//! | large folios | MADV_POPULATE_READ on a mapping of our own that has MADV_HUGEPAGE: the kernel reads 2 MiB into one folio, where the file system can, and else into single pages by the same read, whatever readahead the drive is set to | Linux 5.18 |
//! | advice | POSIX_FADV_WILLNEED, which starts reads, and a byte behind each to wait for | nothing |
//!
//! The mapping is our own because the program may unmap or replace its own at any time. With
//! MADV_RANDOM the kernel reads the chunk and nothing beyond it (`do_sync_mmap_readahead`).

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::mm::Advice;

use super::super::file::ModelFile;
use super::super::region::{HUGE, Region, advise};

/// The kernel starts no more by one advice than the drive takes in one request, 512 KiB at least as a
/// rule (`force_page_cache_ra`).
const ADVICE_BYTES: u64 = 512 << 10;

/// See the module's page.
#[derive(Debug)]
pub struct Reader {
    /// Our mapping and the file's offset of its start; `None` on the rung of advice.
    mapping: Option<(Region, u64)>,
}

impl Reader {
    /// Gets ready to read `extent` of `file`, which starts at a page.
    pub fn new(file: &ModelFile, extent: Range<u64>) -> Reader {
        let mapping = if reads_large_folios() { map(file, extent).ok() } else { None };
        Reader { mapping }
    }

    /// The rung of advice, on any kernel.
    #[cfg(test)]
    pub fn by_advice() -> Reader {
        Reader { mapping: None }
    }

    /// Reads `bytes` of `file`. Returns when they have been read; any thread, several at once.
    ///
    /// # Errors
    /// When the file cannot be read there, or has become shorter.
    pub fn read(&self, file: &ModelFile, bytes: Range<u64>) -> io::Result<()> {
        let Some((region, offset)) = &self.mapping else { return by_advice(file, bytes) };
        let start = region.start() + (bytes.start - offset) as usize;
        let part = start..start + (bytes.end - bytes.start) as usize;
        advise(part.clone(), Advice::LinuxPopulateRead)?;
        // The folio stays; only our entry goes, so that it is not counted as this process' twice.
        let _ = advise(part, Advice::LinuxDontNeed);
        Ok(())
    }
}

fn map(file: &ModelFile, extent: Range<u64>) -> io::Result<(Region, u64)> {
    let region = Region::reserve((extent.end - extent.start) as usize, extent.start as usize % HUGE)?;
    file.map_over(region.range(), extent.start)?;
    for advice in [Advice::LinuxHugepage, Advice::Random, Advice::LinuxDontFork, Advice::LinuxDontDump] {
        advise(region.range(), advice)?;
    }
    Ok((region, extent.start))
}

fn by_advice(file: &ModelFile, bytes: Range<u64>) -> io::Result<()> {
    let pieces = || bytes.clone().step_by(ADVICE_BYTES as usize).map(|at| at..(at + ADVICE_BYTES).min(bytes.end));
    for piece in pieces() {
        let len = std::num::NonZeroU64::new(piece.end - piece.start);
        rustix::fs::fadvise(file.buffered(), piece.start, len, rustix::fs::Advice::WillNeed)?;
    }
    for piece in pieces() {
        if rustix::io::pread(file.buffered().as_fd(), &mut [0u8], piece.end - 1)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Whether MADV_HUGEPAGE decides how file mappings are read (Linux 5.18, "mm/filemap: Support
/// VM_HUGEPAGE for file mappings"). Before that MADV_RANDOM would mean single pages.
fn reads_large_folios() -> bool {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0);
    (next(), next()) >= (5, 18)
}
