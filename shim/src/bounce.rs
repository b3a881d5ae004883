//! Copies of the parts of a write that lie in views.
//!
//! The copy lives in a mapping of its own: hooks of `write` and its kin run in signal handlers, where
//! nothing may be allocated. Parts outside of views are passed on as they are, so that a bad pointer
//! is reported by the kernel as always.

use std::ffi::c_int;
use std::mem::size_of;

use ggpager_core::pager::views;
use libc::{iovec, ssize_t};

use crate::maps::PAGE;
use crate::{engine, sys};

/// Bytes of one call when the transfer may be cut into several.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The kernel's limit for one list (`UIO_MAXIOV`).
pub const PARTS_MAX: usize = 1024;

/// How many bytes one call on `fd` may carry: no limit where a call is a message.
pub fn chunk_bytes(fd: c_int) -> usize {
    let mut kind: c_int = 0;
    let mut size = size_of::<c_int>() as u32;
    let (kind_at, size_at) = (&raw mut kind, &raw mut size);
    // SAFETY: both places are of the size that the kernel is told.
    let result = unsafe {
        sys::call(
            libc::SYS_getsockopt,
            [fd as usize, libc::SOL_SOCKET as usize, libc::SO_TYPE as usize, kind_at as usize, size_at as usize, 0],
        )
    };
    match result {
        Ok(_) if kind != libc::SOCK_STREAM => usize::MAX,
        _ => CHUNK_BYTES,
    }
}

/// A list of parts and the mapping that holds it and the copies.
struct Bounce {
    start: *mut u8,
    len: usize,
    /// Parts in the list, at the mapping's start.
    count: usize,
    /// Bytes that they carry together.
    bytes: usize,
}

impl Drop for Bounce {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        let _ = unsafe { sys::unmap(self.start as usize, self.len) };
    }
}

/// A part cut at the borders of views.
struct Slice {
    start: usize,
    len: usize,
    in_view: bool,
}

/// The parts from byte `skip` on, cut at the borders of views, `limit` bytes at most.
fn slices(parts: &[iovec], mut skip: usize, limit: usize) -> impl Iterator<Item = Slice> {
    let mut left = limit;
    let whole = parts.iter().filter_map(move |part| {
        let skipped = skip.min(part.iov_len);
        skip -= skipped;
        let len = (part.iov_len - skipped).min(left);
        left -= len;
        (len > 0).then_some((part.iov_base as usize + skipped, len))
    });
    whole.flat_map(|(start, len)| {
        views::pieces(start, len).map(|piece| Slice { start: piece.start, len: piece.len, in_view: piece.in_view })
    })
}

impl Bounce {
    fn gather(parts: &[iovec], skip: usize, limit: usize) -> Result<Bounce, c_int> {
        let list_bytes = PARTS_MAX * size_of::<iovec>();
        // Copies keep their place in the page, for descriptors with O_DIRECT.
        let room = |slice: &Slice| (slice.start % PAGE + slice.len).next_multiple_of(PAGE);
        let needed = slices(parts, skip, limit).take(PARTS_MAX).filter(|s| s.in_view).map(|s| room(&s)).sum::<usize>();
        let len = list_bytes + needed;
        let start = sys::map_anonymous(len)?;
        let mut bounce = Bounce { start, len, count: 0, bytes: 0 };
        let mut at = list_bytes;
        for slice in slices(parts, skip, limit).take(PARTS_MAX) {
            let mut base = slice.start;
            if slice.in_view {
                // Views may have changed since they were measured.
                if at + room(&slice) > len {
                    break;
                }
                base = start as usize + at + slice.start % PAGE;
                // SAFETY: the source is the program's own readable view, the copy lies inside of the
                // fresh mapping, by the check above.
                unsafe { std::ptr::copy_nonoverlapping(slice.start as *const u8, base as *mut u8, slice.len) };
                at += room(&slice);
            }
            // SAFETY: the list has room for PARTS_MAX entries at the mapping's aligned start.
            unsafe {
                let entry = start.cast::<iovec>().add(bounce.count);
                entry.write(iovec { iov_base: base as *mut _, iov_len: slice.len });
            }
            bounce.count += 1;
            bounce.bytes += slice.len;
        }
        Ok(bounce)
    }

    fn parts(&self) -> &[iovec] {
        // SAFETY: `gather` wrote that many entries.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.count) }
    }
}

/// Transfers `parts` by calls of at most `chunk` bytes: `call(list, bytes before)` transfers a list
/// and answers as `writev` does. Ends with the first short or failing call; an error counts only
/// when nothing was transferred. The thread cannot be cancelled meanwhile.
pub fn transfer(parts: &[iovec], chunk: usize, call: impl Fn(&[iovec], usize) -> ssize_t) -> Result<usize, c_int> {
    let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.iov_len)).ok_or(libc::EINVAL)?;
    engine::uncancelled(|| {
        let mut done = 0;
        loop {
            let result = Bounce::gather(parts, done, chunk.min(total - done)).and_then(|bounce| {
                let result = call(bounce.parts(), done);
                if result < 0 { Err(sys::errno()) } else { Ok((result as usize, bounce.bytes)) }
            });
            match result {
                Ok((count, asked)) => {
                    done += count;
                    if count < asked || done >= total || count == 0 {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    })
}
