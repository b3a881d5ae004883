//! The disk under a file, its readahead, and the page cache over it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise, major, minor};

/// A whole disk (no partition) as the kernel's block layer knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name: `sda`, `nvme0n1`.
    pub name: String,
    /// Its device number, written `major:minor` as the block controllers take it.
    pub device: String,
    sysfs: PathBuf,
}

impl Disk {
    /// The disk that holds `path`.
    ///
    /// # Errors
    /// When the file system lies on no single block device (tmpfs, network, several disks).
    pub fn of(path: &Path) -> io::Result<Disk> {
        let device = path.metadata()?.dev();
        let device = match major(device) {
            0 => device_of_mount(device)?,
            _ => device,
        };
        let numbers = format!("{}:{}", major(device), minor(device));
        let mut sysfs = fs::canonicalize(format!("/sys/dev/block/{numbers}"))?;
        if sysfs.join("partition").exists() {
            sysfs.pop();
        }
        let name = sysfs.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let device = fs::read_to_string(sysfs.join("dev"))?.trim().to_owned();
        Ok(Disk { name, device, sysfs })
    }

    fn readahead_file(&self) -> PathBuf {
        self.sysfs.join("queue/read_ahead_kb")
    }

    /// How far the kernel reads ahead on this disk, in KiB.
    ///
    /// # Errors
    /// When sysfs does not tell.
    pub fn readahead_kib(&self) -> io::Result<u32> {
        let text = fs::read_to_string(self.readahead_file())?;
        text.trim().parse().map_err(|_| io::Error::other(format!("{text:?} is no readahead")))
    }

    /// Sets the readahead until the guard is dropped. Files opened meanwhile keep it (the kernel
    /// copies it into the open file, `file_ra_state_init`).
    ///
    /// # Errors
    /// Without the right to write to sysfs (root).
    pub fn set_readahead(&self, kib: u32) -> io::Result<ReadaheadGuard> {
        let (file, before_kib) = (self.readahead_file(), self.readahead_kib()?);
        fs::write(&file, kib.to_string())?;
        Ok(ReadaheadGuard { file, before_kib })
    }
}

/// Finds the block device of a file system with an anonymous device number (btrfs, overlays of one
/// disk) through the mount table.
fn device_of_mount(device: u64) -> io::Result<u64> {
    let wanted = format!("{}:{}", major(device), minor(device));
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    table
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .filter(|(mount, _)| mount.split(' ').nth(2) == Some(&wanted))
        .filter_map(|(_, source)| source.split(' ').nth(1))
        .filter_map(|source| fs::metadata(source).ok())
        .map(|meta| meta.rdev())
        .find(|&device| device != 0)
        .ok_or_else(|| io::Error::other("its file system lies on no single disk"))
}

/// Puts the old readahead back.
#[derive(Debug)]
#[must_use = "the readahead is restored when this is dropped"]
pub struct ReadaheadGuard {
    file: PathBuf,
    before_kib: u32,
}

impl Drop for ReadaheadGuard {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, self.before_kib.to_string()) {
            log::error!("{} stays changed; it was {}: {error}", self.file.display(), self.before_kib);
        }
    }
}

/// Takes `files` out of the page cache: by the advice that everybody may give, and for root by
/// `drop_caches`, which also takes pages that some other process has mapped.
///
/// # Errors
/// When a file cannot be opened.
pub fn drop_caches(files: &[PathBuf]) -> io::Result<()> {
    rustix::fs::sync();
    for file in files {
        fadvise(fs::File::open(file)?, 0, None, Advice::DontNeed)?;
    }
    // Without root this fails, and the advice has to do.
    let _ = fs::write("/proc/sys/vm/drop_caches", "1");
    Ok(())
}

/// Reads `files` into the page cache. `go_on` is asked every 4 MiB; false ends it early.
///
/// # Errors
/// When a file cannot be read.
pub fn warm_caches(files: &[PathBuf], go_on: impl Fn() -> bool) -> io::Result<()> {
    let mut buffer = vec![0u8; 4 << 20];
    for file in files {
        let mut file = fs::File::open(file)?;
        while go_on() && io::Read::read(&mut file, &mut buffer)? > 0 {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_file_is_a_whole_disk() {
        let here = std::env::current_exe().unwrap();
        let disk = match Disk::of(&here) {
            Ok(disk) => disk,
            Err(error) => {
                eprintln!("skipped: {error}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
                return;
            }
        };
        assert!(Path::new("/sys/block").join(&disk.name).exists(), "{disk:?}");
        assert!(!disk.sysfs.join("partition").exists());
        assert!(Disk::of(Path::new("/proc/self/stat")).is_err());
    }

    #[test]
    fn readahead_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("queue")).unwrap();
        let disk = Disk { name: "x".into(), device: "1:0".into(), sysfs: folder.path().to_owned() };
        fs::write(disk.readahead_file(), "8192\n").unwrap();
        let guard = disk.set_readahead(128).unwrap();
        assert_eq!(disk.readahead_kib().unwrap(), 128);
        drop(guard);
        assert_eq!(disk.readahead_kib().unwrap(), 8192);
    }
}
