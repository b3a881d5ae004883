//! Raw system calls, past every hook including our own, and errno.

use std::ffi::c_int;

/// Makes a system call. errno is left as it was; the error is the number itself.
///
/// # Safety
/// As for the system call.
pub unsafe fn call(number: libc::c_long, args: [usize; 6]) -> Result<usize, c_int> {
    let saved = errno();
    // SAFETY: the caller's promise. `syscall` reads as many arguments as the call has.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result == -1 {
        let error = errno();
        set_errno(saved);
        return Err(error);
    }
    Ok(result as usize)
}

/// The calling thread's errno.
pub fn errno() -> c_int {
    // SAFETY: glibc gives a valid pointer to the thread's own errno.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno.
pub fn set_errno(value: c_int) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = value }
}

/// Fresh private anonymous zeroed memory of `len` bytes.
pub fn map_anonymous(len: usize) -> Result<*mut u8, c_int> {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    unsafe { call(libc::SYS_mmap, [0, len, protection, flags, usize::MAX, 0]) }.map(|start| start as *mut u8)
}

/// Unmaps a range.
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap(start: usize, len: usize) -> Result<(), c_int> {
    // SAFETY: the caller's promise.
    unsafe { call(libc::SYS_munmap, [start, len, 0, 0, 0, 0]) }.map(drop)
}

/// What `fd` is.
pub fn stat(fd: c_int) -> Result<libc::stat, c_int> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    let empty = c"";
    // SAFETY: the buffer has the size and layout of the kernel's `struct stat` on 64-bit Linux.
    unsafe {
        call(
            libc::SYS_newfstatat,
            [fd as usize, empty.as_ptr() as usize, stat.as_mut_ptr() as usize, libc::AT_EMPTY_PATH as usize, 0, 0],
        )?;
        Ok(stat.assume_init())
    }
}

/// Reads at `offset` without moving the file's position.
pub fn read_at(fd: c_int, buffer: &mut [u8], offset: u64) -> Result<usize, c_int> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
    unsafe { call(libc::SYS_pread64, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), offset as usize, 0, 0]) }
}

/// Writes all of `bytes` to `fd`, as far as that goes.
pub fn write_all(fd: c_int, mut bytes: &[u8]) -> Result<(), c_int> {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads at most `bytes.len()` bytes of the slice.
        match unsafe { call(libc::SYS_write, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) } {
            Ok(0) => return Err(libc::EIO),
            Ok(count) => bytes = &bytes[count..],
            Err(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
