//! Where pages lie: a folder of their owner's alone.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// Bits of a mode by which others may write.
const OTHERS_WRITE: u32 = 0o022;

/// Where a process puts its page: the first folder that can be used. `runtime_folder` is
/// `$XDG_RUNTIME_DIR`.
pub fn candidates(runtime_folder: Option<&Path>) -> Vec<PathBuf> {
    let own = runtime_folder.filter(|path| path.is_absolute()).map(|path| path.join("ggpager"));
    own.into_iter().chain([PathBuf::from(format!("/dev/shm/ggpager-{}", own_uid()))]).collect()
}

/// Where pages of this user may lie: also those of processes with another environment.
pub fn everywhere() -> Vec<PathBuf> {
    let runtime_folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut all = candidates(runtime_folder.as_deref());
    let usual = PathBuf::from(format!("/run/user/{}/ggpager", own_uid()));
    if !all.contains(&usual) {
        all.push(usual);
    }
    all
}

/// The effective user id, which new files get.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// An open folder that is ours, and that nobody else may write to.
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens it. Refuses a symbolic link, a folder of somebody else, and one that others may write to.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&folder)?;
        let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", path.display())));
        if stat.st_uid != own_uid() {
            return refused("the folder is somebody else's");
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            return refused("others may write to the folder");
        }
        Ok(Folder(folder))
    }

    /// Opens it; makes it, mode 0700, when it does not exist.
    pub fn make(path: &Path) -> io::Result<Folder> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Folder::open(path),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the entry `name` with `flags`; mode 0600 if that creates it. Follows no link and does
    /// not wait for a named pipe's other end.
    pub fn open_entry(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?)
    }

    /// Removes the entry `name`, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(self.0.as_fd(), name, AtFlags::empty());
    }

    /// The process ids that entries are named by.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        // getdents64(2) itself: libc's readdir allocates from the program's heap.
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&self.0, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let may_be_page = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            pids.extend(pid_of(entry.file_name()).filter(|_| may_be_page));
        }
        pids.sort_unstable();
        pids
    }
}

/// Removes the folder when it is empty. The next pager makes it again.
pub fn remove_if_empty(path: &Path) {
    let _ = rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
}

/// The id in a name, if that is how an id is written.
fn pid_of(name: &CStr) -> Option<u32> {
    let name = name.to_str().ok()?;
    name.parse().ok().filter(|pid: &u32| pid.to_string() == name)
}
