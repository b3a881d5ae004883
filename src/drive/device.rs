//! What lies below a path: file system, drive, and their settings.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use serde::Serialize;

use crate::budget::read::{Reader, mounts};

/// Facts about the file system and the drive below a path; what cannot be found out is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Type of the file system: `ext4`, `btrfs`, `nfs4`.
    pub filesystem: Option<String>,
    /// What is mounted there: `/dev/nvme0n1p2`, `server:/share`.
    pub source: Option<String>,
    /// The kernel's name of the whole drive, of the parent of a partition: `nvme0n1`, `dm-0`.
    pub drive: Option<String>,
    /// Whether the drive turns. Virtual drives often say so without reason.
    pub rotational: Option<bool>,
    /// The kernel's readahead on ordinary mappings, in KiB.
    pub read_ahead_kib: Option<u64>,
    /// The file that holds it.
    pub read_ahead_path: Option<PathBuf>,
    /// Alignment that O_DIRECT asks of memory and of offsets, in bytes; 0 where it is refused
    /// (`STATX_DIOALIGN`, Linux 6.1, regular files of some file systems).
    pub direct_align: Option<(u32, u32)>,
}

impl Device {
    /// Finds out about `path`, a file or a folder.
    ///
    /// # Errors
    /// `path` cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Device> {
        let metadata = std::fs::metadata(path)?;
        let (major, minor) = numbers(metadata.dev());
        let mut reader = Reader::default();
        let mut device = Device { direct_align: direct_align(path), ..Device::default() };
        let mut source = OsString::new();
        if let Ok(table) = reader.text(Path::new("/proc/self/mountinfo")) {
            let path = path.canonicalize().unwrap_or_default();
            // The mount that holds the path: btrfs and overlayfs show other numbers in stat than in
            // the mount table, so the path decides; among equals the last one covers the others.
            let mount = mounts(table)
                .filter(|mount| path.starts_with(&mount.point))
                .enumerate()
                .max_by_key(|(at, mount)| (mount.point.len(), *at));
            if let Some((_, mount)) = mount {
                source = mount.source;
                device.source = Some(source.to_string_lossy().into_owned());
                device.filesystem = Some(mount.kind);
            }
        }
        // File systems on several drives have numbers of their own: then the mounted device tells.
        let block = block_folder(Path::new("/sys"), major, minor).or_else(|| {
            let node = std::fs::metadata(&source).ok().filter(|node| node.file_type().is_block_device())?;
            let (major, minor) = numbers(node.rdev());
            block_folder(Path::new("/sys"), major, minor)
        });
        if let Some(folder) = &block {
            device.drive = folder.file_name().map(|name| name.to_string_lossy().into_owned());
            device.rotational = reader.number(&folder.join("queue/rotational")).map(|turns| turns == 1);
        }
        // The file system's own setting comes first: btrfs and NFS have one apart from the drive's.
        let own = PathBuf::from(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"));
        let of_drive = block.map(|folder| folder.join("queue/read_ahead_kb"));
        for file in [Some(own), of_drive].into_iter().flatten() {
            if let Some(kib) = reader.number(&file) {
                (device.read_ahead_kib, device.read_ahead_path) = (Some(kib), Some(file));
                break;
            }
        }
        Ok(device)
    }
}

fn numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// The folder in sysfs of a whole drive, given its numbers or those of one of its partitions.
fn block_folder(sysfs: &Path, major: u32, minor: u32) -> Option<PathBuf> {
    let folder = sysfs.join(format!("dev/block/{major}:{minor}")).canonicalize().ok()?;
    if folder.join("partition").exists() { folder.parent().map(Path::to_owned) } else { Some(folder) }
}

/// What the kernel says about the drive with sysfs folder `folder` to tell it from others, and whether
/// the drive brought some of that along: a name of its own rather than a place where it is plugged in.
pub fn marks(folder: &Path) -> (String, bool) {
    let mut reader = Reader::default();
    let mut text = |name: &str| {
        let text = reader.text(&folder.join(name)).ok()?.trim();
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    const OWN: [&str; 7] =
        ["wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "md/uuid", "loop/backing_file"];
    let own: Vec<String> = OWN.iter().filter_map(|name| text(name)).collect();
    let is_known = !own.is_empty();
    let marks = own.into_iter().chain(text("device/model")).chain(text("size")).collect::<Vec<_>>().join("\n");
    (marks, is_known)
}

fn direct_align(path: &Path) -> Option<(u32, u32)> {
    let facts = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN).ok()?;
    let known = facts.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    known.then_some((facts.stx_dio_mem_align, facts.stx_dio_offset_align))
}

/// Whether files at `path` can be opened with O_DIRECT: the file itself, or an unnamed one in a
/// folder. `None` when that cannot be tried, as in a folder that is read-only to this user.
pub fn allows_direct(path: &Path) -> Option<bool> {
    let flags = libc::O_CLOEXEC | libc::O_DIRECT;
    let opened = if path.is_dir() {
        std::fs::File::options().write(true).custom_flags(flags | libc::O_TMPFILE).open(path)
    } else {
        std::fs::File::options().read(true).custom_flags(flags).open(path)
    };
    match opened {
        Ok(_) => Some(direct_align(path) != Some((0, 0))),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_known_by_what_it_brings_along() {
        let drive = tempfile::tempdir().unwrap();
        std::fs::write(drive.path().join("size"), "1000\n").unwrap();
        std::fs::write(drive.path().join("serial"), "\n").unwrap();
        assert_eq!(marks(drive.path()), ("1000".into(), false));
        std::fs::create_dir(drive.path().join("device")).unwrap();
        std::fs::write(drive.path().join("device/model"), "Fast SSD   \n").unwrap();
        std::fs::write(drive.path().join("wwid"), "eui.0025\n").unwrap();
        assert_eq!(marks(drive.path()), ("eui.0025\nFast SSD\n1000".into(), true));
    }

    #[test]
    fn a_partition_leads_to_its_drive() {
        let tree = tempfile::tempdir().unwrap();
        let sysfs = tree.path().canonicalize().unwrap();
        let drive = sysfs.join("devices/pci0/nvme0n1");
        std::fs::create_dir_all(drive.join("nvme0n1p2")).unwrap();
        std::fs::write(drive.join("nvme0n1p2/partition"), "2\n").unwrap();
        std::fs::create_dir_all(sysfs.join("dev/block")).unwrap();
        for (numbers, target) in [("259:0", drive.clone()), ("259:2", drive.join("nvme0n1p2"))] {
            std::os::unix::fs::symlink(target, sysfs.join("dev/block").join(numbers)).unwrap();
        }
        assert_eq!(block_folder(&sysfs, 259, 0), Some(drive.clone()));
        assert_eq!(block_folder(&sysfs, 259, 2), Some(drive));
        assert_eq!(block_folder(&sysfs, 259, 9), None);
    }
}
