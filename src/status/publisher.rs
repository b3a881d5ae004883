//! Writing the page. Whatever fails here costs the page and nothing else.

use std::ffi::c_void;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::folder::{self, Folder};
use super::page::{
    BYTES, COUNTERS_AT, Counters, IDENTITY_AT, MAGIC, MAGIC_AT, SEQUENCE_AT, TEXTS_AT, Texts, VERSION, VERSION_AT,
    WORDS,
};
use super::process::{Identity, own_pid};
use super::reader::{identity_of, monotonic_ns, sweep};
use crate::pager::region::advise;

/// The page is written at most this often, and once more after the last change.
pub const PERIOD: Duration = Duration::from_millis(100);

/// Set while this program has a page or makes one. Relaxed: who loses a race goes without.
static HAS_PAGE: AtomicBool = AtomicBool::new(false);

/// What the pager's handle and its thread share: the page, and what is counted on other threads.
#[derive(Default)]
pub struct Board {
    page: OnceLock<Page>,
    /// Bytes of mappings that were left to the kernel.
    pub passed_through_bytes: AtomicU64,
    /// Bytes that the program read by itself.
    pub program_read_bytes: AtomicU64,
}

impl Board {
    /// Takes the page away, for good. Any thread may; takes no lock. Nothing in a forked child, where
    /// it is the parent's.
    pub fn withdraw(&self) {
        if let Some(page) = self.page.get() {
            page.withdraw();
        }
    }
}

/// Writes a [`Board`]'s page; of the thread that pages.
pub struct Publisher {
    board: Arc<Board>,
    runtime_folder: Option<PathBuf>,
    /// Something has happened since the page was written.
    changed: bool,
    written_ns: u64,
}

impl Publisher {
    /// Makes no page yet. `runtime_folder` is `$XDG_RUNTIME_DIR`.
    pub fn new(board: Arc<Board>, runtime_folder: Option<PathBuf>) -> Publisher {
        Publisher { board, runtime_folder, changed: false, written_ns: 0 }
    }

    /// Says what runs here. Makes the page at the first call: on a thread with all signals blocked,
    /// since the limit on file sizes is told by one.
    pub fn introduce(&mut self, texts: &Texts) {
        let page = self.board.page.get_or_init(|| {
            Page::create(&folder::candidates(self.runtime_folder.as_deref()), texts).unwrap_or_else(|error| {
                log::debug!("no live page: {error}");
                Page::none()
            })
        });
        page.write(TEXTS_AT, &texts.encode());
        self.changed = true;
    }

    /// Something has happened.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// How long the thread may sleep; `None` when there is nothing to be written. `now_ns` is the
    /// meter's clock.
    pub fn wait(&self, now_ns: u64) -> Option<Duration> {
        self.changed.then(|| Duration::from_nanos((self.written_ns + PERIOD.as_nanos() as u64).saturating_sub(now_ns)))
    }

    /// Whether the page is to be written now.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.wait(now_ns).is_some_and(|wait| wait.is_zero())
    }

    /// Writes the page. Sets what the board knows.
    pub fn publish(&mut self, now_ns: u64, counters: Counters) {
        self.changed = false;
        self.written_ns = now_ns;
        let Some(page) = self.board.page.get() else { return };
        // Relaxed: counters that nothing else depends on.
        let counters = Counters {
            published_ns: monotonic_ns(),
            wall_ns: now_ns,
            passthrough_bytes: self.board.passed_through_bytes.load(Ordering::Relaxed),
            program_read_bytes: self.board.program_read_bytes.load(Ordering::Relaxed),
            ..counters
        };
        page.write(COUNTERS_AT, &counters.encode());
    }
}

/// A page in memory, or nothing where none could be made.
struct Page {
    words: Option<NonNull<[AtomicU64; WORDS]>>,
    folder: PathBuf,
    pid: u32,
    withdrawn: AtomicBool,
}

// SAFETY: the words are atomics that live until the page is dropped.
unsafe impl Send for Page {}
// SAFETY: as above; one thread alone writes, and a second writer would make wrong numbers only.
unsafe impl Sync for Page {}

impl Page {
    fn none() -> Page {
        Page { words: None, folder: PathBuf::new(), pid: 0, withdrawn: AtomicBool::new(true) }
    }

    /// Makes the page in the first folder that lets us.
    fn create(folders: &[PathBuf], texts: &Texts) -> io::Result<Page> {
        let own = Identity::own()?;
        if HAS_PAGE.swap(true, Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another pager of this process has one"));
        }
        let mut made = Err(io::Error::other("no folder"));
        for folder in folders {
            // A folder may be removed by its last user between our making it and our using it.
            for _ in 0..3 {
                made = Page::create_in(folder, &own, texts);
                if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                    break;
                }
            }
            match &made {
                Ok(_) => break,
                Err(error) => log::debug!("no live page in {}: {error}", folder.display()),
            }
        }
        HAS_PAGE.store(made.is_ok(), Ordering::Relaxed);
        made
    }

    fn create_in(path: &Path, own: &Identity, texts: &Texts) -> io::Result<Page> {
        let folder = Folder::make(path)?;
        sweep(&folder, own);
        let name = own.pid.to_string();
        let create = || folder.open_entry(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_left_over(&folder, own) => {
                folder.remove(&name);
                create()
            }
            file => file,
        }?;
        let made = (|| {
            // Real memory or blocks, so that no store below can find the file system full.
            if rustix::io::pwrite(&file, &[0; BYTES], 0)? < BYTES {
                return Err(rustix::io::Errno::NOSPC);
            }
            // SAFETY: a fresh mapping at an address of the kernel's choice disturbs nothing.
            unsafe {
                let access = ProtFlags::READ | ProtFlags::WRITE;
                rustix::mm::mmap(std::ptr::null_mut(), BYTES, access, MapFlags::SHARED, &file, 0)
            }
        })();
        let address = made.inspect_err(|_| folder.remove(&name))?;
        let range = address as usize..address as usize + BYTES;
        // Children have no pager; a core dump has no use for it.
        let _ = advise(range.clone(), Advice::LinuxDontFork);
        let _ = advise(range, Advice::LinuxDontDump);
        let words = NonNull::new(address.cast());
        let page = Page { words, folder: path.to_owned(), pid: own.pid, withdrawn: AtomicBool::new(false) };
        page.begin(own, texts);
        Ok(page)
    }

    fn words(&self) -> Option<&[AtomicU64; WORDS]> {
        // SAFETY: mapped in `create_in`, page aligned, unmapped on drop.
        self.words.map(|words| unsafe { words.as_ref() })
    }

    fn begin(&self, own: &Identity, texts: &Texts) {
        let Some(words) = self.words() else { return };
        let set = |at: usize, value: u64| words[at].store(value, Ordering::Relaxed);
        set(VERSION_AT, VERSION);
        set(IDENTITY_AT, own.pid.into());
        set(IDENTITY_AT + 1, own.start_ticks);
        set(IDENTITY_AT + 2, own.pid_namespace);
        self.write(TEXTS_AT, &texts.encode());
        self.write(COUNTERS_AT, &Counters { published_ns: monotonic_ns(), ..Counters::default() }.encode());
        // Release: who sees the magic sees the rest.
        words[MAGIC_AT].store(MAGIC, Ordering::Release);
    }

    /// Writes `values` from word `at` on, as one change. One thread at a time.
    fn write(&self, at: usize, values: &[u64]) {
        let Some(words) = self.words() else { return };
        let sequence = words[SEQUENCE_AT].load(Ordering::Relaxed) | 1;
        words[SEQUENCE_AT].store(sequence, Ordering::Relaxed);
        // See the module's page for the order.
        fence(Ordering::Release);
        for (word, &value) in words[at..].iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        words[SEQUENCE_AT].store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// Removes the file; the memory stays, so that the writer need not know.
    fn withdraw(&self) {
        // Relaxed: two threads at once need one winner and nothing else.
        if self.pid != own_pid() || self.withdrawn.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Ok(folder) = Folder::open(&self.folder) {
            folder.remove(&self.pid.to_string());
        }
        folder::remove_if_empty(&self.folder);
        HAS_PAGE.store(false, Ordering::Relaxed);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // A forked child has nothing at this address, or something else.
        if self.pid != own_pid() {
            return;
        }
        self.withdraw();
        if let Some(words) = self.words {
            // SAFETY: mapped in `create_in` with this length, and nobody uses it any more.
            let _ = unsafe { rustix::mm::munmap(words.as_ptr().cast::<c_void>(), BYTES) };
        }
    }
}

/// Whether the page under our own id was left by the program that called execve(2), or by a process
/// of the same id that did not finish it. Else it is that of a process in another pid namespace.
fn is_left_over(folder: &Folder, own: &Identity) -> bool {
    identity_of(folder, own.pid).is_none_or(|identity| identity.pid_namespace == own.pid_namespace)
}
