//! A private drive: a file system on a loop device that reads its image without the page cache, so
//! that limits on it meet nobody else.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::tool::tool;

/// A mounted file system; taken down when dropped, together with the folder of its image.
#[derive(Debug)]
#[must_use = "the drive is taken down when this is dropped"]
pub struct LoopDrive {
    device: Option<String>,
    mounted: bool,
    mount: PathBuf,
    _folder: TempDir,
}

impl LoopDrive {
    /// Makes an ext4 file system of `bytes` in an image in `folder`, and mounts it.
    ///
    /// # Errors
    /// Without the rights (root), or without mkfs.ext4, losetup or mount.
    pub fn new(folder: TempDir, bytes: u64) -> anyhow::Result<LoopDrive> {
        let image = folder.path().join("image");
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount)?;
        std::fs::File::create(&image)?.set_len(bytes)?;
        let mut drive = LoopDrive { device: None, mounted: false, mount, _folder: folder };
        tool("mkfs.ext4", &["-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        let device = tool("losetup", &["--find", "--show", "--direct-io=on", &image.to_string_lossy()])?;
        let device = drive.device.insert(device.trim().to_owned()).clone();
        tool("mount", &[&device, &drive.mount.to_string_lossy()])?;
        drive.mounted = true;
        Ok(drive)
    }

    /// Where the file system is mounted.
    pub fn folder(&self) -> &Path {
        &self.mount
    }
}

impl Drop for LoopDrive {
    fn drop(&mut self) {
        let undo = |name, args: &[&str]| {
            if let Err(error) = tool(name, args) {
                log::error!("{error:#}");
            }
        };
        if self.mounted {
            undo("umount", &[&self.mount.to_string_lossy()]);
        }
        if let Some(device) = &self.device {
            undo("losetup", &["--detach", device]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::disk::Disk;

    #[test]
    fn a_drive_of_its_own_comes_and_goes() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().canonicalize().unwrap();
        let drive = match LoopDrive::new(folder, 16 << 20) {
            Ok(drive) => drive,
            Err(error) => {
                eprintln!("skipped: {error:#}");
                assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
                return;
            }
        };
        let file = drive.folder().join("file");
        std::fs::write(&file, "content").unwrap();
        let disk = Disk::of(&file).unwrap();
        assert!(disk.name.starts_with("loop"), "{disk:?}");
        drop(drive);
        assert!(!path.exists());
        let of_device = Path::new("/sys/block").join(&disk.name).join("loop");
        let text = |name: &str| std::fs::read_to_string(of_device.join(name)).unwrap_or_default();
        // While another program looks at the device, as one that wants a free one does, it is let go when that has looked.
        let is_going = text("autoclear").trim() == "1";
        assert!(is_going || !text("backing_file").starts_with(path.to_str().unwrap()), "{}", text("backing_file"));
    }
}
