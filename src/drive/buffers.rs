//! The memory that measured reads land in.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// Page-aligned buffers of one size, side by side.
pub struct Buffers {
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
        // Populated, so that page faults do not count as the drive's time.
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), count * each, ProtFlags::READ | ProtFlags::WRITE, flags)?
        };
        Ok(Buffers { base: NonNull::new(base.cast()).expect("never at address 0"), each, count })
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
        let done = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.count * self.each) };
        debug_assert!(done.is_ok());
    }
}
