//! Where a file lies on its drive.

use super::parse;

/// Where a file lies on its drive.
#[derive(Debug)]
pub struct Extents(Vec<parse::Extent>);

impl Extents {
    /// Extents in any order.
    pub fn new(extents: &[parse::Extent]) -> Extents {
        let mut extents = extents.to_vec();
        extents.sort_by_key(|extent| extent.on_drive);
        Extents(extents)
    }

    /// The parts of `bytes` bytes from `start` on the drive that belong to the file: where they start
    /// on the drive and in the file, and their length.
    pub fn in_file(&self, start: u64, bytes: u64) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let end = start + bytes;
        let first = self.0.partition_point(|extent| extent.on_drive + extent.bytes <= start);
        self.0[first..].iter().take_while(move |extent| extent.on_drive < end).map(move |extent| {
            let from = extent.on_drive.max(start);
            let to = end.min(extent.on_drive + extent.bytes);
            (from, extent.in_file + (from - extent.on_drive), to - from)
        })
    }
}
