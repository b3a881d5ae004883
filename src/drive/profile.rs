//! What is remembered of a drive from one process to the next: one small file for each drive, in the
//! user's cache folder.
//!
//! A drive is known by what the kernel says of it: a name that it brings along (wwid, serial number,
//! UUID), else its name, size and file system. The file says which drive it is about, and counts
//! only for that one; whatever is wrong with it, it does not count, and is written anew.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::device::{self, Device};
use crate::cache;

/// Older measurements do not count.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// No file of ours is larger, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Of the file's format.
const VERSION: u32 = 1;

/// A measurement of a drive by real reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Bytes per second at best.
    pub rate_bytes_per_s: f64,
    /// Time of one read of 2 MiB that is alone, in microseconds.
    pub base_us: f64,
    /// When that was measured, in seconds since 1970.
    pub measured_s: u64,
}

impl Profile {
    /// Whether the numbers can be a drive's.
    fn is_plausible(&self) -> bool {
        (1e4..=1e12).contains(&self.rate_bytes_per_s) && (1.0..=1e8).contains(&self.base_us)
    }

    /// Whether `other` says about the same.
    pub fn is_near(&self, other: &Profile) -> bool {
        let near = |a: f64, b: f64| (0.75..=1.33).contains(&(a / b));
        near(self.rate_bytes_per_s, other.rate_bytes_per_s) && near(self.base_us, other.base_us)
    }
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    drive: String,
    #[serde(flatten)]
    profile: Profile,
}

/// Where one drive's profile is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    file: PathBuf,
    drive: String,
}

impl Memory {
    /// For the drive that holds the open `file`, in the user's cache folder; `None` where there is
    /// no such folder, or nothing that tells the drive from others.
    pub fn of(file: impl AsFd) -> Option<Memory> {
        let folder = cache::folder(|name| std::env::var_os(name))?;
        Some(Memory::new(&folder.join("drives"), identity(file)?))
    }

    /// For the drive known as `drive`, in `folder`.
    pub fn new(folder: &Path, drive: String) -> Memory {
        // FNV-1a: names must only differ; the file itself tells the drive.
        let hash = drive
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Memory { file: folder.join(format!("{hash:016x}.json")), drive }
    }

    /// What is remembered, unless it is too old, about another drive, or no profile at all.
    pub fn load(&self, now: SystemTime) -> Option<Profile> {
        match self.try_load(now) {
            Ok(profile) => Some(profile),
            Err(error) => {
                log::debug!("nothing is remembered of the drive at {}: {error}", self.file.display());
                None
            }
        }
    }

    fn try_load(&self, now: SystemTime) -> io::Result<Profile> {
        let text = cache::read(&self.file, FILE_BYTES_MAX)?;
        let entry: Entry = serde_json::from_slice(&text)?;
        let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A clock that was put back makes ages negative.
        let fresh = entry.profile.measured_s.abs_diff(now_s) <= AGE_MAX.as_secs();
        if entry.version != VERSION || entry.drive != self.drive || !entry.profile.is_plausible() {
            return Err(io::Error::other("it is about something else"));
        }
        if fresh { Ok(entry.profile) } else { Err(io::Error::other("it is too old")) }
    }

    /// Remembers `profile` as measured at `now`, in place of what was there: readers see the old
    /// file or the new one.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn store(&self, profile: &Profile, now: SystemTime) -> io::Result<()> {
        let measured_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let profile = Profile { measured_s, ..profile.clone() };
        let entry = Entry { version: VERSION, drive: self.drive.clone(), profile };
        cache::replace(&self.file, &serde_json::to_vec(&entry)?)
    }
}

/// What tells the drive below an open file from others.
fn identity(file: impl AsFd) -> Option<String> {
    let file = file.as_fd();
    let device = Device::of(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))).ok()?;
    let below = device.drive.as_deref().map(|name| device::marks(&Path::new("/sys/class/block").join(name)));
    if let Some((marks, true)) = below {
        return Some(marks);
    }
    // Nothing that the drive brings along: then what lies on it. Derived from the UUID on ext4.
    let volume = rustix::fs::fstatvfs(file).ok()?.f_fsid;
    let marks = below.map_or(String::new(), |(marks, _)| marks);
    let text = |part: Option<String>| part.unwrap_or_default();
    Some([marks, text(device.drive), text(device.filesystem), text(device.source), format!("{volume:x}")].join("\n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn profile() -> Profile {
        Profile { rate_bytes_per_s: 8e8, base_us: 2400.0, measured_s: 0 }
    }

    fn at(s: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(s)
    }

    #[test]
    fn what_is_stored_is_loaded_until_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(&folder.path().join("a/b"), "disk 1".into());
        assert_eq!(memory.load(at(1000)), None);
        memory.store(&profile(), at(1000)).unwrap();
        let loaded = Profile { measured_s: 1000, ..profile() };
        assert_eq!(memory.load(at(1000)), Some(loaded.clone()));
        assert_eq!(memory.load(at(1000 + AGE_MAX.as_secs())), Some(loaded));
        assert_eq!(memory.load(at(1001 + AGE_MAX.as_secs())), None);
        let other = Memory { drive: "disk 2".into(), ..memory.clone() };
        assert_eq!(other.load(at(1000)), None, "it is about another drive");
        assert_ne!(Memory::new(folder.path(), "disk 2".into()).file, Memory::new(folder.path(), "disk 1".into()).file);
    }

    #[test]
    fn readers_see_a_whole_profile_at_any_time() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path(), "disk".into());
        memory.store(&profile(), at(1)).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..500 {
                    let base_us = 1.0 + f64::from(n % 7) * 1e7;
                    memory.store(&Profile { base_us, ..profile() }, at(1)).unwrap();
                }
            });
            while !writer.is_finished() {
                assert!(memory.load(at(1)).is_some());
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_drive_keeps_its_identity() {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let other = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let first = identity(file.as_file());
        assert!(first.is_some());
        assert_eq!(first, identity(other.as_file()));
        assert_ne!(first, identity(std::fs::File::open("/proc/self/status").unwrap()));
    }

    proptest! {
        #[test]
        fn damage_is_never_taken_for_a_profile(cut in 0usize..200, at_byte in 0usize..200, byte: u8, numbers in (any::<f64>(), any::<f64>(), 0u64..5_000_000)) {
            let folder = tempfile::tempdir().unwrap();
            let memory = Memory::new(folder.path(), "disk".into());
            memory.store(&profile(), at(1000)).unwrap();
            let whole = std::fs::read(&memory.file).unwrap();
            // Cut short.
            let cut = cut % whole.len();
            std::fs::write(&memory.file, &whole[..cut]).unwrap();
            prop_assert_eq!(memory.load(at(1000)), None);
            // One byte changed: what is loaded is a drive's numbers all the same.
            let mut changed = whole.clone();
            changed[at_byte % whole.len()] = byte;
            std::fs::write(&memory.file, &changed).unwrap();
            prop_assert!(memory.load(at(1000)).is_none_or(|profile| profile.is_plausible()));
            // Any numbers.
            let (rate_bytes_per_s, base_us, measured_s) = numbers;
            let any = Profile { rate_bytes_per_s, base_us, measured_s };
            let entry = Entry { version: VERSION, drive: "disk".into(), profile: any.clone() };
            std::fs::write(&memory.file, serde_json::to_vec(&entry).unwrap()).unwrap();
            let expected = any.is_plausible() && measured_s.abs_diff(1000) <= AGE_MAX.as_secs();
            prop_assert_eq!(memory.load(at(1000)).is_some(), expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let folder = tempfile::tempdir().unwrap();
            let memory = Memory::new(folder.path(), "disk".into());
            std::fs::write(&memory.file, &bytes).unwrap();
            prop_assert_eq!(memory.load(at(0)), None);
            memory.store(&profile(), at(0)).unwrap();
            prop_assert!(memory.load(at(0)).is_some());
        }
    }
}
