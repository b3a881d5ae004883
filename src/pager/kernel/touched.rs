//! What the kernel tells without a fault: which addresses have been touched, and which pages of a
//! mapping are in the page cache.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use linux_raw_sys::general::{PAGE_IS_PRESENT, page_region, pm_scan_arg};

use super::super::region::{HUGE, PAGE};

/// `_IOWR('f', 16, struct pm_scan_arg)`: Linux 6.7, `include/uapi/linux/fs.h`.
const PAGEMAP_SCAN: libc::Ioctl =
    ((3 << 30) | (size_of::<pm_scan_arg>() << 16) | ((b'f' as usize) << 8) | 16) as libc::Ioctl;

/// Bit of an entry of `/proc/self/pagemap`: the page is in the page table
/// (`Documentation/admin-guide/mm/pagemap.rst`).
const ENTRY_PRESENT: u64 = 1 << 63;

/// This process' page table, as `/proc/self/pagemap` shows it. Needs no privilege: only the frames'
/// numbers do, and they are not asked for.
#[derive(Debug)]
pub struct Pagemap {
    file: File,
    /// The kernel knows PAGEMAP_SCAN.
    scans: bool,
}

impl Pagemap {
    /// Opens the page table and finds out how to ask it.
    pub fn open() -> io::Result<Pagemap> {
        let mut pagemap = Pagemap { file: File::open("/proc/self/pagemap")?, scans: true };
        // Any page will do: the question is whether the call is known.
        let page = &pagemap as *const Pagemap as usize & !(PAGE - 1);
        pagemap.scans = pagemap.scan(page..page + PAGE).is_ok();
        Ok(pagemap)
    }

    /// Whether the page table has an entry for any page of `range` (whole pages): whether a thread
    /// has touched it since the entries were cleared. A touch of a file mapping enters up to 64 KiB
    /// of cached pages around it, but never beyond a multiple of 64 KiB ("fault-around",
    /// `mm/memory.c`, `do_fault_around`).
    pub fn is_touched(&self, range: Range<usize>) -> io::Result<bool> {
        if self.scans { self.scan(range) } else { self.read(range) }
    }

    fn scan(&self, range: Range<usize>) -> io::Result<bool> {
        let mut found = page_region { start: 0, end: 0, categories: 0 };
        let mut arg = pm_scan_arg {
            size: size_of::<pm_scan_arg>() as u64,
            flags: 0,
            start: range.start as u64,
            end: range.end as u64,
            walk_end: 0,
            vec: &raw mut found as u64,
            vec_len: 1,
            // One is enough, and ends the walk.
            max_pages: 1,
            category_inverted: 0,
            category_mask: u64::from(PAGE_IS_PRESENT),
            category_anyof_mask: 0,
            return_mask: u64::from(PAGE_IS_PRESENT),
        };
        // SAFETY: the request and the structure belong together; `found` has room for the one region
        // that `vec_len` allows, and both outlive the call.
        let regions = unsafe { libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        if regions < 0 { Err(io::Error::last_os_error()) } else { Ok(regions > 0) }
    }

    fn read(&self, range: Range<usize>) -> io::Result<bool> {
        let mut entries = [0u8; HUGE / PAGE * 8];
        for start in range.clone().step_by(HUGE) {
            let pages = (range.end - start).min(HUGE) / PAGE;
            let bytes = &mut entries[..pages * 8];
            self.file.read_exact_at(bytes, (start / PAGE * 8) as u64)?;
            let (entries, _) = bytes.as_chunks::<8>();
            if entries.iter().any(|entry| u64::from_ne_bytes(*entry) & ENTRY_PRESENT != 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the page at `address` of a file mapping is in the page cache and up to date.
///
/// Since Linux 5.2 mincore(2) answers "yes" to everybody who neither owns the file nor may write to
/// it (`mm/mincore.c`, `can_do_mincore`): "yes" is then an assumption.
pub fn is_cached(address: usize) -> bool {
    let mut state = 0u8;
    // SAFETY: one page is asked about, and the kernel writes one byte. An address that is not mapped
    // is an error, which counts as "no".
    let done = unsafe { libc::mincore(address as *mut c_void, PAGE, &raw mut state) };
    done == 0 && state & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::super::super::region::{Region, advise};
    use super::*;
    use rustix::mm::Advice;

    #[test]
    fn both_ways_see_a_touch_and_its_clearing() {
        let region = Region::reserve(2 * HUGE + 3 * PAGE, 0).expect("address space");
        advise(region.range(), Advice::LinuxNoHugepage).expect("advice");
        let mut pagemap = Pagemap::open().expect("a page table");
        for scans in [pagemap.scans, false] {
            pagemap.scans = scans;
            assert!(!pagemap.is_touched(region.range()).expect("an answer"));
            let last = region.range().end - PAGE;
            // SAFETY: inside of the region, which is readable and private to this test.
            unsafe { (last as *const u8).read_volatile() };
            assert!(pagemap.is_touched(region.range()).expect("an answer"));
            assert!(pagemap.is_touched(last..last + PAGE).expect("an answer"));
            assert!(!pagemap.is_touched(region.start()..last).expect("an answer"));
            advise(region.range(), Advice::LinuxDontNeed).expect("advice");
            assert!(!pagemap.is_touched(region.range()).expect("an answer"));
        }
    }
}
