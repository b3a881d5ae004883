//! The memory that measured reads land in.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The size of a huge page, in bytes.
const HUGE: usize = 2 << 20;

/// Page-aligned buffers of one size, side by side, in huge pages where those can be had, as the
/// pager's frames are: a drive takes a request of few segments faster.
pub struct Buffers {
    mapping: NonNull<u8>,
    mapped_bytes: usize,
    base: NonNull<u8>,
    each: usize,
    count: usize,
}

// SAFETY: the memory belongs to this value alone, and it gives out plain addresses; whoever reads
// into one keeps others away from it.
unsafe impl Sync for Buffers {}

impl Buffers {
    /// Maps `count` buffers of `each` bytes (whole pages).
    pub fn new(count: usize, each: usize) -> io::Result<Buffers> {
        let bytes = count * each;
        let mapped_bytes = bytes + HUGE;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice.
        let mapping = unsafe {
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped_bytes, access, flags)?
        };
        let mapping = NonNull::new(mapping.cast::<u8>()).expect("never at address 0");
        let skipped = mapping.as_ptr().align_offset(HUGE);
        // SAFETY: less than the part of the mapping that comes on top of the buffers.
        let base = unsafe { mapping.add(skipped) };
        let buffers = Buffers { mapping, mapped_bytes, base, each, count };
        // SAFETY: advice on memory of our own; then every page is written to, so that page faults do
        // not count as the drive's time.
        unsafe {
            let _ = rustix::mm::madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage);
            base.write_bytes(0, bytes);
        }
        Ok(buffers)
    }

    /// The address of buffer `index`.
    pub fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.count);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.base.as_ptr().add(index * self.each) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; the owner has ended every read into it.
        let done = unsafe { rustix::mm::munmap(self.mapping.as_ptr().cast(), self.mapped_bytes) };
        debug_assert!(done.is_ok());
    }
}
