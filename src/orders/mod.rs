//! Learned orders on disk: what one run has learned, the next one begins with.
//!
//! One small file for each model in the user's cache folder, `$XDG_CACHE_HOME/ggpager/orders` or
//! `~/.cache/ggpager/orders`, replaced as a whole by rename(2). A file says for which model it is
//! and carries a checksum: one that is stale, cut off or somebody else's is ignored. What it says
//! decides only when blocks are read, never which bytes the program sees.

mod format;
mod key;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

pub use format::{BadOrder, decode, encode};
pub use key::Key;

use crate::cache;

/// A larger file is none of ours: 4 bytes for each block of a 16 TB model.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Orders kept at most; the oldest go first.
const FILES_MAX: usize = 256;

/// The folder of stored orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The user's store; `None` when the environment (`get`) names no home.
    pub fn of_user(get: impl Fn(&str) -> Option<OsString>) -> Option<Store> {
        Some(Store { folder: crate::cache::folder(get)?.join("orders") })
    }

    /// A store in `folder`, which need not exist yet.
    pub fn at(folder: PathBuf) -> Store {
        Store { folder }
    }

    /// Where the order of `key` is kept.
    pub fn path(&self, key: Key) -> PathBuf {
        self.folder.join(format!("{key}.order"))
    }

    /// The order stored for `key`, as file offsets in bytes. `None` when there is none or it cannot
    /// be used, which a debug line tells.
    pub fn load(&self, key: Key) -> Option<Vec<u64>> {
        let path = self.path(key);
        match self.read(key) {
            Ok(offsets) => Some(offsets),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                log::debug!("the stored order {} is ignored: {error}", path.display());
                None
            }
        }
    }

    fn read(&self, key: Key) -> io::Result<Vec<u64>> {
        let bytes = cache::read(&self.path(key), FILE_BYTES_MAX)?;
        decode(&bytes, key).map_err(io::Error::other)
    }

    /// Stores `offsets` as the order of `key`, in one step: who reads meanwhile sees the old file or
    /// the new one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, key: Key, offsets: &[u64]) -> io::Result<()> {
        cache::replace(&self.path(key), &encode(key, offsets))?;
        self.prune()
    }

    /// Removes the oldest files when there are too many: of models that are gone, mostly.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "order") {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        files[..surplus].iter().for_each(|(_, path)| drop(fs::remove_file(path)));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
