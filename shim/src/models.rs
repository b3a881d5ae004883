//! Which files are models, and which descriptors lead to them.

use std::ffi::c_int;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::{engine, sys};

/// The first four bytes of a GGUF file.
const MAGIC: &[u8] = b"GGUF";
/// Files remembered at most; further ones are paged but not counted.
const FILES_MAX: usize = 64;
/// Descriptors from this one on are not counted.
const FDS_MAX: usize = 4096;

/// A file's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    dev: u64,
    ino: u64,
}

impl Identity {
    fn of(stat: &libc::stat) -> Identity {
        Identity { dev: stat.st_dev, ino: stat.st_ino }
    }
}

struct File {
    dev: AtomicU64,
    ino: AtomicU64,
    paged: AtomicBool,
}

/// Files are only ever added. `KNOWN` is raised, with release, after the entry below it is written,
/// and read with acquire, so the fields can be relaxed; `ADDING` serialises the adders, who never
/// wait: a file that finds another being added is not remembered.
static FILES: [File; FILES_MAX] =
    [const { File { dev: AtomicU64::new(0), ino: AtomicU64::new(0), paged: AtomicBool::new(false) } }; FILES_MAX];
static KNOWN: AtomicUsize = AtomicUsize::new(0);
static ADDING: AtomicBool = AtomicBool::new(false);

/// One bit for each descriptor through which a model was mapped. Relaxed: a hint, checked by fstat.
static MARKS: [AtomicU64; FDS_MAX / 64] = [const { AtomicU64::new(0) }; FDS_MAX / 64];

fn find(identity: Identity) -> Option<&'static File> {
    let known = KNOWN.load(Ordering::Acquire);
    FILES[..known].iter().find(|file| {
        file.dev.load(Ordering::Relaxed) == identity.dev && file.ino.load(Ordering::Relaxed) == identity.ino
    })
}

/// The identity of the model behind `fd`: a regular file that starts with `GGUF` or whose path
/// matches `GGPAGER_MATCH`, and that may be read through `fd`.
pub fn identify(fd: c_int, offset: u64) -> Option<Identity> {
    let stat = sys::stat(fd).ok()?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || offset >= stat.st_size as u64 {
        return None;
    }
    /// Aligned, for a descriptor with O_DIRECT.
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let mut page = Page([0; 4096]);
    let count = sys::read_at(fd, &mut page.0, 0).ok()?;
    (page.0[..count].starts_with(MAGIC) || matches_setting(fd)).then(|| Identity::of(&stat))
}

fn matches_setting(fd: c_int) -> bool {
    let Some(pattern) = &engine::settings().matching else { return false };
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
        .is_ok_and(|path| str::from_utf8(path.as_os_str().as_bytes()).is_ok_and(|path| pattern.matches(path)))
}

/// Remembers a model that was mapped through `fd`, and whether a view serves it.
pub fn remember(identity: Identity, fd: c_int, paged: bool) {
    if !ADDING.swap(true, Ordering::Acquire) {
        let known = KNOWN.load(Ordering::Relaxed);
        if find(identity).is_none() && known < FILES_MAX {
            FILES[known].dev.store(identity.dev, Ordering::Relaxed);
            FILES[known].ino.store(identity.ino, Ordering::Relaxed);
            KNOWN.store(known + 1, Ordering::Release);
        }
        ADDING.store(false, Ordering::Release);
    }
    if let Some(file) = find(identity).filter(|_| paged) {
        file.paged.store(true, Ordering::Relaxed);
    }
    if let Some(marks) = MARKS.get(fd as usize / 64) {
        marks.fetch_or(1 << (fd % 64), Ordering::Relaxed);
    }
}

/// Whether any model has been mapped.
#[inline]
pub fn any() -> bool {
    KNOWN.load(Ordering::Relaxed) > 0
}

/// Whether reads of `fd` are reads of a mapped model. One load for other descriptors. A descriptor
/// that has become something else loses its mark.
#[inline]
pub fn is_marked(fd: c_int) -> bool {
    let marks = MARKS.get(fd as usize / 64);
    marks.is_some_and(|marks| marks.load(Ordering::Relaxed) >> (fd % 64) & 1 == 1 && verify(fd))
}

#[cold]
fn verify(fd: c_int) -> bool {
    let known = sys::stat(fd).is_ok_and(|stat| find(Identity::of(&stat)).is_some());
    if !known {
        MARKS[fd as usize / 64].fetch_and(!(1 << (fd % 64)), Ordering::Relaxed);
    }
    known
}

/// Whether a view serves the file behind `fd`.
pub fn is_paged(fd: c_int) -> bool {
    any()
        && sys::stat(fd)
            .is_ok_and(|stat| find(Identity::of(&stat)).is_some_and(|file| file.paged.load(Ordering::Relaxed)))
}

/// Counts bytes that the program read from a model file. Calmly: a signal handler may read too.
#[cold]
pub fn count_read(bytes: usize) {
    if let Some(pager) = engine::pager().filter(|_| bytes > 0) {
        let saved = sys::errno();
        // A panic costs the count, not the result of the read.
        let count = || engine::calmly(|| pager.program_read(bytes));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(count));
        sys::set_errno(saved);
    }
}
