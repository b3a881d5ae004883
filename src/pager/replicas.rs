//! Copies of models on other drives: `GGPAGER_REPLICAS`.
//!
//! Which copy belongs to which file: an entry that is a folder holds copies under the originals'
//! names; an entry that is a file is the copy itself or, when it is named like one shard of as many,
//! stands for all shards beside it. What is found so is meant for a model when its name or its size
//! is the model's; a file with neither is meant for another model.
//!
//! What is meant for a model is compared with it before it is used: the size, and 64 pages that are
//! spread over the file ([`sample`]), read past the page cache where that works. A copy with a
//! stretch of more than a thirtieth of the file missing is always seen; of smaller damage only what
//! a sample meets. That it is a copy everywhere else is the user's word.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{Advice, FileType, Mode, OFlags};

use super::region::PAGE;
use super::source::Source;
use crate::gguf::ShardName;

/// Pages compared.
const SAMPLES: u64 = 64;

/// The user's list of copies.
#[derive(Debug, Default)]
pub struct Replicas {
    entries: Vec<PathBuf>,
    /// Files of which the user has been told.
    told: Mutex<HashSet<PathBuf>>,
}

/// Why a file is not read as a copy.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no file")]
    NoFile,
    #[error("it has {copy} bytes instead of {original}")]
    Size { copy: u64, original: u64 },
    #[error("it differs in the page at byte {offset}")]
    Content { offset: u64 },
    /// Not for the user's eyes: the original, or a copy that is there already, by another name.
    #[error("it is the same file")]
    Same,
    /// Neither.
    #[error("it is meant for another model")]
    Other,
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Refusal {
        Refusal::Io(error.into())
    }
}

impl Replicas {
    /// Copies are looked for at `entries`.
    pub fn new(entries: &[PathBuf]) -> Replicas {
        let entries = entries.iter().filter(|entry| !entry.as_os_str().is_empty()).cloned().collect();
        Replicas { entries, told: Mutex::default() }
    }

    /// Opens the copies of `original` that hold the same bytes as far as can be told. Warns once of
    /// each that is meant to and does not. `direct` asks for reads around the page cache.
    pub fn of(&self, original: &Source, direct: bool) -> Vec<Source> {
        let mut copies: Vec<Source> = Vec::new();
        for entry in &self.entries {
            let path = candidate(entry, original.path());
            let known = std::iter::once(original).chain(&copies).map(Source::identity).collect::<Vec<_>>();
            match open_copy(&path, original, &known, direct) {
                Ok(copy) => {
                    log::info!("{} is read as well", path.display());
                    copies.push(copy);
                }
                Err(why @ (Refusal::Same | Refusal::Other)) => log::info!("{} is not read: {why}", path.display()),
                Err(why) => self.warn(&path, original, &why),
            }
        }
        copies
    }

    fn warn(&self, path: &Path, original: &Source, why: &Refusal) {
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if told.insert(path.to_owned()) {
            let original = original.path().display();
            log::warn!("{} is not read as a copy of {original}: {why}", path.display());
        }
    }
}

/// The path at which `entry` has its copy of `original`.
fn candidate(entry: &Path, original: &Path) -> PathBuf {
    let is_folder = rustix::fs::stat(entry).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
    if is_folder {
        return original.file_name().map_or_else(|| entry.to_owned(), |name| entry.join(name));
    }
    match (ShardName::parse(entry), ShardName::parse(original)) {
        (Some(entry), Some(original)) if entry.count == original.count => entry.path(original.number),
        _ => entry.to_owned(),
    }
}

fn open_copy(
    path: &Path,
    original: &Source,
    known: &[super::source::Identity],
    direct: bool,
) -> Result<Source, Refusal> {
    // O_PATH opens nothing that could block or act, as a pipe or a device would.
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&handle)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Refusal::NoFile);
    }
    if known.contains(&super::source::Identity { dev: stat.st_dev, ino: stat.st_ino }) {
        return Err(Refusal::Same);
    }
    let (copy_bytes, original_bytes) = (stat.st_size as u64, original.bytes());
    if copy_bytes != original_bytes {
        return Err(match path.file_name() == original.path().file_name() {
            true => Refusal::Size { copy: copy_bytes, original: original_bytes },
            false => Refusal::Other,
        });
    }
    use std::os::fd::AsFd;
    let mut copy = Source::reopen(handle.as_fd(), direct)?;
    compare(original, &mut copy)?;
    Ok(copy)
}

/// Memory that direct reads accept.
#[repr(align(4096))]
struct Page([u8; PAGE]);

fn compare(original: &Source, copy: &mut Source) -> Result<(), Refusal> {
    let (mut wanted, mut seen) = (Box::new(Page([0; PAGE])), Box::new(Page([0; PAGE])));
    if copy.direct().is_some_and(|fd| rustix::io::pread(fd, &mut seen.0[..], 0).is_err()) {
        copy.give_up_direct();
    }
    for offset in sample(original.bytes()) {
        let len = (original.bytes() - offset).min(PAGE as u64) as usize;
        read_page(original, offset, &mut wanted, len)?;
        read_page(copy, offset, &mut seen, len)?;
        if wanted.0[..len] != seen.0[..len] {
            return Err(Refusal::Content { offset });
        }
    }
    Ok(())
}

/// Reads `len` bytes at `offset`, around the page cache or without leaving anything in it.
fn read_page(source: &Source, offset: u64, page: &mut Page, len: usize) -> io::Result<()> {
    let read = |fd: BorrowedFd<'_>, page: &mut Page| match rustix::io::pread(fd, &mut page.0[..], offset)? {
        got if got >= len => Ok(()),
        got => Err(io::Error::other(format!("a read at byte {offset} gave {got} bytes"))),
    };
    if let Some(direct) = source.direct()
        && read(direct, page).is_ok()
    {
        return Ok(());
    }
    // The kernel would read megabytes ahead of each sample.
    let _ = rustix::fs::fadvise(source.buffered(), 0, None, Advice::Random);
    let done = read(source.buffered(), page);
    let _ = rustix::fs::fadvise(source.buffered(), 0, None, Advice::Normal);
    source.forget_cached(offset..offset + PAGE as u64);
    done
}

/// Offsets of the pages to compare in a file of `bytes`, ascending: the first, the last, and one at a
/// random but fixed place of each equal part between them.
fn sample(bytes: u64) -> Vec<u64> {
    let pages = bytes.div_ceil(PAGE as u64);
    let parts = SAMPLES - 2;
    let mut random = fastrand::Rng::with_seed(bytes);
    let inner = (0..parts).filter_map(|part| {
        let range = pages * part / parts..pages * (part + 1) / parts;
        (!range.is_empty()).then(|| random.u64(range))
    });
    let mut chosen: Vec<u64> = inner.chain([0, pages.saturating_sub(1)]).map(|page| page * PAGE as u64).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen.retain(|&offset| offset < bytes);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    fn source(path: &Path) -> Source {
        Source::reopen(File::open(path).unwrap().as_fd(), true).unwrap()
    }

    fn content(bytes: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(1);
        (0..bytes).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn samples_lie_in_the_file_and_cover_it() {
        for bytes in [1, 4095, 4096, 4097, 10 * 4096, 64 * 4096 + 1, (1 << 30) + 5, 500 << 30] {
            let chosen = sample(bytes);
            assert!(chosen.len() as u64 <= SAMPLES && chosen.is_sorted(), "{bytes}");
            assert_eq!(chosen, sample(bytes), "the same places every time");
            assert_eq!(chosen[0], 0);
            assert_eq!(*chosen.last().unwrap(), (bytes - 1) / 4096 * 4096, "the tail");
            let widest = chosen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            assert!(widest <= bytes / 30 + 4096, "{bytes}: a gap of {widest}");
        }
        assert!(sample(0).is_empty());
    }

    #[test]
    fn entries_lead_to_copies() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let original = Path::new("/models/m-00002-of-00003.gguf");
        assert_eq!(candidate(here, original), here.join("m-00002-of-00003.gguf"), "a folder");
        assert_eq!(candidate(Path::new("/b/m-00001-of-00003.gguf"), original), Path::new("/b/m-00002-of-00003.gguf"));
        assert_eq!(candidate(Path::new("/b/n-00001-of-00004.gguf"), original), Path::new("/b/n-00001-of-00004.gguf"));
        assert_eq!(candidate(Path::new("/b/copy.gguf"), Path::new("/models/m.gguf")), Path::new("/b/copy.gguf"));
    }

    #[test]
    fn only_the_same_bytes_are_taken() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let bytes = content(3 << 20);
        let place = |name: &str, bytes: &[u8]| {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), bytes).unwrap();
            path(name)
        };
        let original = place("m.gguf", &bytes);
        let mut torn = bytes.clone();
        torn[2 << 20..(2 << 20) + (128 << 10)].fill(0);
        let short = place("short/m.gguf", &bytes[..bytes.len() - 1]);
        let torn = place("torn/m.gguf", &torn);
        let other = place("other.gguf", &bytes[..4096]);
        let missing = path("missing.gguf");
        std::os::unix::fs::symlink(&original, path("link.gguf")).unwrap();
        std::fs::create_dir(path("empty")).unwrap();
        let good = place("good/m.gguf", &bytes);
        let renamed = place("renamed.gguf", &bytes);
        let entries = [
            original.clone(),
            path("link.gguf"),
            short.clone(),
            torn.clone(),
            other.clone(),
            missing.clone(),
            path("empty"),
            path("good"),
            good.clone(),
            renamed.clone(),
            PathBuf::new(),
        ];
        let replicas = Replicas::new(&entries);
        let original = source(&original);
        for _ in 0..2 {
            let copies = replicas.of(&original, true);
            let paths: Vec<_> = copies.iter().map(|copy| copy.path().to_owned()).collect();
            assert_eq!(paths, [good.clone(), renamed.clone()], "each file once");
        }
        let told = replicas.told.lock().unwrap();
        let wanted: HashSet<_> = [short, torn, missing, path("empty/m.gguf")].into();
        assert_eq!(*told, wanted, "what is meant for another model is nobody's fault");
    }

    #[test]
    fn writing_shows() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, content(8192)).unwrap();
        // An old time, so that the clock's grain cannot hide the write.
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let copy = source(&path);
        assert!(copy.is_unchanged());
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        assert!(copy.is_unchanged(), "a new name is no new content");
        let file = File::options().write(true).open(path.with_extension("old")).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"x", 5000).unwrap();
        assert!(!copy.is_unchanged());
    }
}
