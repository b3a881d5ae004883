//! The next definition of a symbol: libc's, or that of another preloaded library.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The next definition of one symbol, empty until the constructor has run.
///
/// All accesses are relaxed: the pointer is to code that the loader has mapped before any thread of
/// the program exists, and every value it can have works.
pub struct Next {
    /// With a NUL at the end, as redhook wants it.
    name: &'static str,
    address: AtomicPtr<u8>,
}

impl Next {
    /// A symbol that is not looked up yet; `name` ends with a NUL.
    pub const fn new(name: &'static str) -> Next {
        Next { name, address: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The address found by the constructor.
    pub fn get(&self) -> Option<*const u8> {
        let address = self.address.load(Ordering::Relaxed);
        (!address.is_null()).then_some(address.cast_const())
    }

    /// Looks the symbol up; null when no library behind this one has it.
    ///
    /// Not behind a `Once`: `dlsym` takes the loader's lock, and a constructor that runs inside
    /// `dlopen` holds that lock while it calls hooks. Two threads that look up at once find the same.
    pub fn find(&self) -> *const u8 {
        let name = self.name;
        // redhook panics when there is no such symbol (an older libc); the raw system call serves then.
        let found = std::panic::catch_unwind(|| {
            // SAFETY: the name ends with a NUL.
            unsafe { redhook::ld_preload::dlsym_next(name) }
        });
        let address = found.unwrap_or(ptr::null());
        self.address.store(address.cast_mut(), Ordering::Relaxed);
        address
    }
}
