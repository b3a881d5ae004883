//! Hooks that read files: they only count what a program reads of a mapped model past its mapping.
//!
//! stdio reaches none of libc's exported `read` functions, hence `fread`. The fortified variants
//! (`__read_chk` and its kin) are not hooked: counting is all that they would miss.

use std::ffi::{c_int, c_void};

use libc::{FILE, off_t, size_t, ssize_t};

use crate::hook::{Verdict, hooks, raw};
use crate::models;

hooks! {
    /// `read(2)`.
    fn read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t {
        early: raw!(SYS_read, fd, buffer, len; |count| count as ssize_t),
        decide: count(fd, 1),
    }

    /// `pread(2)`.
    fn pread(fd: c_int, buffer: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        early: raw!(SYS_pread64, fd, buffer, len, offset; |count| count as ssize_t),
        decide: count(fd, 1),
    }

    /// `pread64(2)`: the same function under its other name.
    fn pread64(fd: c_int, buffer: *mut c_void, len: size_t, offset: off_t) -> ssize_t {
        early: raw!(SYS_pread64, fd, buffer, len, offset; |count| count as ssize_t),
        decide: count(fd, 1),
    }

    /// `fread(3)`.
    fn fread(buffer: *mut c_void, size: size_t, items: size_t, stream: *mut FILE) -> size_t {
        early: {
            type Fread = unsafe extern "C-unwind" fn(*mut c_void, size_t, size_t, *mut FILE) -> size_t;
            let found = find();
            match found.is_null() {
                true => 0,
                // SAFETY: the address of a function of this name, hence this type; the program's own call.
                false => unsafe { std::mem::transmute::<*const u8, Fread>(found)(buffer, size, items, stream) },
            }
        },
        decide: match models::any() {
            // SAFETY: the program's stream is open during its own call. `fileno` only looks at it.
            true => count(unsafe { libc::fileno(stream) }, size),
            false => Verdict::Pass,
        },
    }
}

fn count<R>(fd: c_int, unit: usize) -> Verdict<R> {
    match models::is_marked(fd) {
        true => Verdict::PassCounted(unit),
        false => Verdict::Pass,
    }
}
