//! A swap device that is there for a comparison, and the kernel's inclination to use it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use tempfile::TempDir;

use super::tool::tool;

/// Machine-wide inclination to swap, where groups have none of their own.
const SWAPPINESS: &str = "/proc/sys/vm/swappiness";

/// A file that the kernel swaps to; taken away when dropped.
#[derive(Debug)]
#[must_use = "the swap is taken away when this is dropped"]
pub struct SwapFile {
    file: PathBuf,
    is_on: bool,
    _folder: TempDir,
}

impl SwapFile {
    /// Makes a swap file of `bytes` in `folder` and turns it on, before any other swap that is there.
    ///
    /// # Errors
    /// Without the right (root), without mkswap and swapon, or on a file system that cannot hold swap.
    pub fn new(folder: TempDir, bytes: u64) -> anyhow::Result<SwapFile> {
        let file = folder.path().join("swap");
        let made = File::create(&file)?;
        made.set_permissions(fs::Permissions::from_mode(0o600))?;
        // The kernel takes no file with holes.
        fallocate(&made, FallocateFlags::empty(), 0, bytes)?;
        let mut swap = SwapFile { file, is_on: false, _folder: folder };
        let name = swap.file.to_string_lossy().into_owned();
        tool("mkswap", &[&name])?;
        tool("swapon", &["--priority", "32767", &name])?;
        swap.is_on = true;
        Ok(swap)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        if self.is_on
            && let Err(error) = tool("swapoff", &[&self.file.to_string_lossy()])
        {
            log::error!("{error:#}");
        }
    }
}

/// Puts the machine's swappiness back.
#[derive(Debug)]
#[must_use = "the swappiness is restored when this is dropped"]
pub struct Swappiness {
    file: PathBuf,
    before: String,
}

impl Swappiness {
    /// Sets `vm.swappiness` until the guard is dropped.
    ///
    /// # Errors
    /// Without the right (root).
    pub fn set(swappiness: u32) -> io::Result<Swappiness> {
        Swappiness::set_in(Path::new(SWAPPINESS), swappiness)
    }

    fn set_in(file: &Path, swappiness: u32) -> io::Result<Swappiness> {
        let before = fs::read_to_string(file)?.trim().to_owned();
        fs::write(file, swappiness.to_string())?;
        Ok(Swappiness { file: file.to_owned(), before })
    }
}

impl Drop for Swappiness {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.before) {
            log::error!("{} stays changed; it was {}: {error}", self.file.display(), self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_comes_and_goes() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().canonicalize().unwrap();
        let has = |swap: &Path| fs::read_to_string("/proc/swaps").unwrap().contains(&*swap.to_string_lossy());
        let folder = TempDir::new_in(&path).unwrap();
        let swap = match SwapFile::new(folder, 16 << 20) {
            Ok(swap) => swap,
            Err(error) => {
                eprintln!("skipped: {error:#}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
                return;
            }
        };
        let file = swap.path().to_owned();
        assert!(has(&file));
        drop(swap);
        assert!(!has(&file) && !file.exists());
    }

    #[test]
    fn swappiness_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("swappiness");
        fs::write(&file, "60\n").unwrap();
        let guard = Swappiness::set_in(&file, 100).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "100");
        drop(guard);
        assert_eq!(fs::read_to_string(&file).unwrap(), "60");
    }
}
