//! The user's cache folder: what is found out once is kept there for the next start, in small files
//! that are replaced as a whole.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `ggpager` in the cache folder of the XDG base directory specification, which ignores relative
/// paths; `None` when the environment (`get`) names no home.
pub fn folder(get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let cache = get("XDG_CACHE_HOME").map(PathBuf::from).filter(absolute);
    let home = || get("HOME").map(PathBuf::from).filter(absolute).map(|home| home.join(".cache"));
    Some(cache.or_else(home)?.join("ggpager"))
}

/// The first `bytes_max` bytes of the file at `path`.
///
/// # Errors
/// Those of the file system; also when there is something else than a file.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Not blocking: a pipe in the file's place must not hold the program up.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes `bytes` the file at `path`, which lies in some folder, in one step: who reads meanwhile sees
/// the old file or the new one. Folders that are missing are made for the user alone.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
