//! Statistics at exit, and the end of the fault log and of the live page: `exit`, return from `main`, the last thread's end, and `quick_exit`.
//! `_exit` and a fatal signal cannot be seen.

use std::ffi::{CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use ggpager_core::pager::Pager;

use crate::{engine, fork, sys};

/// Where the summary goes, NUL-terminated; `-` is stderr. Empty until a model has been mapped, so
/// that a wrapper script or a child that maps none does not overwrite the file.
static TARGET: OnceLock<CString> = OnceLock::new();

unsafe extern "C" {
    fn at_quick_exit(handler: extern "C" fn()) -> c_int;
}

/// Acts at the end of the process from now on. The summary goes to `target`, in which `%p` stands for
/// the process id.
pub fn watch(target: Option<&Path>) {
    // SAFETY: the handler stays mapped: a preloaded library is never unloaded.
    unsafe { at_quick_exit(end_once) };
    let Some(target) = target else { return };
    let mut path = Vec::with_capacity(target.as_os_str().len() + 16);
    let mut bytes = target.as_os_str().as_bytes();
    while let Some(at) = memchr_percent_p(bytes) {
        path.extend_from_slice(&bytes[..at]);
        path.extend_from_slice(std::process::id().to_string().as_bytes());
        bytes = &bytes[at + 2..];
    }
    path.extend_from_slice(bytes);
    let Ok(path) = CString::new(path) else { return };
    let _ = TARGET.set(path);
}

fn memchr_percent_p(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"%p")
}

/// Runs after the program's exit handlers and destructors, which may still unmap models.
#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = end_once;

extern "C" fn end_once() {
    /// Relaxed: two exits at once need one winner and nothing else.
    static ENDED: AtomicBool = AtomicBool::new(false);
    if !engine::is_active() || !fork::is_own_memory() || ENDED.swap(true, Ordering::Relaxed) {
        return;
    }
    let _ = std::panic::catch_unwind(|| {
        engine::calmly(|| {
            let Some(pager) = engine::pager() else { return };
            if let Some(target) = TARGET.get()
                && let Err(error) = write(pager, target)
            {
                let error = std::io::Error::from_raw_os_error(error);
                log::warn!("cannot write the statistics to {}: {error}", target.to_string_lossy());
            }
            pager.finish_trace();
            pager.withdraw();
        })
    });
}

fn write(pager: &Pager, target: &CString) -> Result<(), c_int> {
    let mut text = serde_json::to_vec_pretty(&pager.stats()).map_err(|_| libc::EINVAL)?;
    text.push(b'\n');
    if target.as_bytes() == b"-" {
        return sys::write_all(libc::STDERR_FILENO, &text);
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
    // SAFETY: the path ends with a NUL.
    let fd = unsafe {
        sys::call(libc::SYS_openat, [libc::AT_FDCWD as usize, target.as_ptr() as usize, flags as usize, 0o644, 0, 0])?
    };
    let result = sys::write_all(fd as c_int, &text);
    // SAFETY: the descriptor was opened above and is not used any more.
    let _ = unsafe { sys::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
    result
}
