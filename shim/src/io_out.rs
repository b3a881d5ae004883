//! Hooks that write from memory which may lie in a view.
//!
//! A userfaultfd without privileges sees faults of user mode only: a system call that reads a hole
//! fails with EFAULT where a file mapping would have been read in. So what lies in a view is copied
//! first, in user mode, and the call is made on the copy (`bounce.rs`). `pwritev`, `sendmmsg`,
//! `vmsplice` and io_uring are not hooked.

use std::ffi::{c_int, c_void};

use ggpager_core::pager::views;
use libc::{FILE, iovec, msghdr, off_t, size_t, sockaddr, socklen_t, ssize_t};

use crate::bounce;
use crate::hook::{Answer, Verdict, hooks, raw};
use crate::sys;

hooks! {
    /// `write(2)`.
    fn write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t {
        early: raw!(SYS_write, fd, buffer, len; |count| count as ssize_t),
        decide: match in_view(buffer, len) {
            true => write_parts(fd, &[part(buffer, len)]),
            false => Verdict::Pass,
        },
    }

    /// `writev(2)`.
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        early: raw!(SYS_writev, fd, parts, count; |count| count as ssize_t),
        decide: match parts_in_view(parts, count.max(0) as usize) {
            Some(parts) => write_parts(fd, parts),
            None => Verdict::Pass,
        },
    }

    /// `pwrite(2)`.
    fn pwrite(fd: c_int, buffer: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        early: raw!(SYS_pwrite64, fd, buffer, len, offset; |count| count as ssize_t),
        decide: write_at(fd, buffer, len, offset),
    }

    /// `pwrite64(2)`: the same function under its other name.
    fn pwrite64(fd: c_int, buffer: *const c_void, len: size_t, offset: off_t) -> ssize_t {
        early: raw!(SYS_pwrite64, fd, buffer, len, offset; |count| count as ssize_t),
        decide: write_at(fd, buffer, len, offset),
    }

    /// `send(2)`.
    fn send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> ssize_t {
        early: raw!(SYS_sendto, fd, buffer, len, flags, 0, 0; |count| count as ssize_t),
        decide: match in_view(buffer, len) {
            true => send_parts(fd, &[part(buffer, len)], empty_message(), flags),
            false => Verdict::Pass,
        },
    }

    /// `sendto(2)`.
    fn sendto(
        fd: c_int, buffer: *const c_void, len: size_t, flags: c_int, to: *const sockaddr, to_len: socklen_t,
    ) -> ssize_t {
        early: raw!(SYS_sendto, fd, buffer, len, flags, to, to_len; |count| count as ssize_t),
        decide: match in_view(buffer, len) {
            true => {
                let to_len = if to.is_null() { 0 } else { to_len };
                let message = msghdr { msg_name: to.cast_mut().cast(), msg_namelen: to_len, ..empty_message() };
                send_parts(fd, &[part(buffer, len)], message, flags)
            }
            false => Verdict::Pass,
        },
    }

    /// `sendmsg(2)`.
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        early: raw!(SYS_sendmsg, fd, message, flags; |count| count as ssize_t),
        decide: match message_in_view(message) {
            Some((message, parts)) => send_parts(fd, parts, message, flags),
            None => Verdict::Pass,
        },
    }

    /// `fwrite(3)`: large items go from the program's memory into a system call that is libc's own.
    fn fwrite(items: *const c_void, size: size_t, count: size_t, stream: *mut FILE) -> size_t {
        early: {
            type Fwrite = unsafe extern "C-unwind" fn(*const c_void, size_t, size_t, *mut FILE) -> size_t;
            let found = find();
            match found.is_null() {
                true => 0,
                // SAFETY: the address of a function of this name, hence this type; the program's own call.
                false => unsafe { std::mem::transmute::<*const u8, Fwrite>(found)(items, size, count, stream) },
            }
        },
        decide: match size.checked_mul(count) {
            Some(len) if in_view(items, len) => {
                let parts = [part(items, len)];
                settle(bounce::transfer(&parts, bounce::CHUNK_BYTES, |copy, _| {
                    let mut written = 0;
                    for part in copy {
                        // SAFETY: the copy is readable, or is the program's own memory and call.
                        let now = unsafe { self::fwrite::real(part.iov_base, 1, part.iov_len, stream) };
                        written += now;
                        if now < part.iov_len {
                            break;
                        }
                    }
                    written as ssize_t
                }), |written| written / size.max(1))
            }
            _ => Verdict::Pass,
        },
    }
}

fn part(start: *const c_void, len: usize) -> iovec {
    iovec { iov_base: start.cast_mut(), iov_len: len }
}

fn empty_message() -> msghdr {
    // SAFETY: null pointers and zero lengths are a valid message header.
    unsafe { std::mem::zeroed() }
}

#[inline]
fn in_view(start: *const c_void, len: usize) -> bool {
    len > 0 && views::overlaps(start as usize, len) && crate::fork::is_own_memory()
}

/// The program's list, if any part of it lies in a view.
fn parts_in_view<'a>(parts: *const iovec, count: usize) -> Option<&'a [iovec]> {
    if !views::any() || parts.is_null() || count == 0 || count > bounce::PARTS_MAX {
        return None;
    }
    // SAFETY: the program's list; the kernel would read it in the same way.
    let parts = unsafe { std::slice::from_raw_parts(parts, count) };
    parts.iter().any(|part| in_view(part.iov_base, part.iov_len)).then_some(parts)
}

/// The program's message and its list, if any part of that lies in a view.
fn message_in_view<'a>(message: *const msghdr) -> Option<(msghdr, &'a [iovec])> {
    if !views::any() || message.is_null() {
        return None;
    }
    // SAFETY: the program's message; the kernel would read it in the same way.
    let message = unsafe { *message };
    Some((message, parts_in_view(message.msg_iov, message.msg_iovlen)?))
}

fn write_parts(fd: c_int, parts: &[iovec]) -> Verdict<ssize_t> {
    let transferred = bounce::transfer(parts, bounce::chunk_bytes(fd), |copy, _| {
        // SAFETY: each part is a copy of ours or the program's own memory.
        unsafe { writev::real(fd, copy.as_ptr(), copy.len() as c_int) }
    });
    settle(transferred, |written| written as ssize_t)
}

fn write_at(fd: c_int, buffer: *const c_void, len: usize, offset: off_t) -> Verdict<ssize_t> {
    if !in_view(buffer, len) {
        return Verdict::Pass;
    }
    let transferred = bounce::transfer(&[part(buffer, len)], bounce::chunk_bytes(fd), |copy, before| {
        let at = offset.saturating_add(before as off_t);
        // SAFETY: each part is a copy of ours or the program's own memory.
        let result = unsafe {
            sys::call(libc::SYS_pwritev, [fd as usize, copy.as_ptr() as usize, copy.len(), at as usize, 0, 0])
        };
        crate::hook::answer(result, |count| count as ssize_t)
    });
    settle(transferred, |written| written as ssize_t)
}

/// Address, control data and flags of `message` go with the first chunk; only a stream has more.
fn send_parts(fd: c_int, parts: &[iovec], message: msghdr, flags: c_int) -> Verdict<ssize_t> {
    let transferred = bounce::transfer(parts, bounce::chunk_bytes(fd), |copy, before| {
        let mut message = message;
        message.msg_iov = copy.as_ptr().cast_mut();
        message.msg_iovlen = copy.len();
        if before > 0 {
            message.msg_control = std::ptr::null_mut();
            message.msg_controllen = 0;
        }
        // SAFETY: each part is a copy of ours or the program's own memory, and so is the rest.
        unsafe { sendmsg::real(fd, &raw const message, flags) }
    });
    settle(transferred, |sent| sent as ssize_t)
}

fn settle<R: Answer>(transferred: Result<usize, c_int>, convert: impl FnOnce(usize) -> R) -> Verdict<R> {
    match transferred {
        Ok(count) => Verdict::Done(convert(count)),
        Err(error) => Verdict::Fail(error),
    }
}
