//! Bounded reads of the kernel's small text files.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Longest text taken from one file. `memory.stat` has about 2 kB; a mount table of a machine full
/// of containers can reach some hundred kB.
const TEXT_MAX: usize = 4 << 20;

/// Reads files into one buffer that is used again, so that a repeated reading allocates nothing.
///
/// The calls are raw ones: inside the preloaded library they do not pass through its own hooks. No
/// descriptor stays open, because a host may close all descriptors that it does not know.
#[derive(Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl fmt::Debug for Reader {
    /// Without the thousands of bytes that were read last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// The text of `path`, or why it cannot be read. Bytes beyond 4 MiB are left out, and the text
    /// ends at the first byte that is not UTF-8.
    pub fn text(&mut self, path: &Path) -> io::Result<&str> {
        const STEP: usize = 16 << 10;
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut len = 0;
        while len < TEXT_MAX {
            if self.buffer.len() < len + STEP {
                self.buffer.resize(len + STEP, 0);
            }
            match rustix::io::read(&file, &mut self.buffer[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bytes = &self.buffer[..len];
        let text = std::str::from_utf8(bytes).or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]));
        Ok(text.expect("valid up to here"))
    }

    /// The number that is all of `path`. `None` when there is no such file or no number in it, as
    /// the `max` of cgroup v2.
    pub fn number(&mut self, path: &Path) -> Option<u64> {
        self.text(path).ok()?.trim().parse().ok()
    }
}

/// The number behind `key` in lines of `key value`.
pub fn field(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once([' ', ':']));
    lines.find(|(name, _)| *name == key)?.1.split_ascii_whitespace().next()?.parse().ok()
}

/// One line of `mountinfo`: proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system's `st_dev`.
    pub device: String,
    /// The folder of the file system that is mounted.
    pub root: OsString,
    /// Where it is mounted.
    pub point: OsString,
    /// Type of the file system.
    pub kind: String,
    /// What is mounted: a device, a share, or a word.
    pub source: OsString,
    /// Options of the file system, separated by commas.
    pub options: String,
}

/// The lines of `mountinfo` that can be understood.
pub fn mounts(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let mut what = what.split(' ');
        Some(Mount {
            device: place.next()?.to_owned(),
            root: unescape(place.next()?),
            point: unescape(place.next()?),
            kind: what.next()?.to_owned(),
            source: unescape(what.next()?),
            options: what.next().unwrap_or_default().to_owned(),
        })
    })
}

/// Undoes the octal escapes (`\040`) of the mount table.
fn unescape(text: &str) -> OsString {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_is_understood() {
        let text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                    not a line\n\
                    40 27 259:2 /a\\040b /mnt/my\\040disk rw master:1 shared:7 - ext4 /dev/nvme0n1p2 rw,discard\n";
        let all: Vec<Mount> = mounts(text).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].point.to_str(), all[0].kind.as_str()), (Some("/proc"), "proc"));
        assert_eq!((all[1].root.to_str(), all[1].point.to_str()), (Some("/a b"), Some("/mnt/my disk")));
        assert_eq!((all[1].device.as_str(), all[1].source.to_str()), ("259:2", Some("/dev/nvme0n1p2")));
        assert_eq!(all[1].options, "rw,discard");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "inactive_file 7\ntotal_inactive_file 8\nMemTotal:       24684092 kB\n";
        assert_eq!(field(text, "total_inactive_file"), Some(8));
        assert_eq!(field(text, "inactive_file"), Some(7));
        assert_eq!(field(text, "MemTotal"), Some(24684092));
        assert_eq!(field(text, "file"), None);
    }

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_longer_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (long, short) = (folder.path().join("long"), folder.path().join("short"));
        std::fs::write(&long, "123456789\n".repeat(5000)).unwrap();
        std::fs::write(&short, b"42\n\xff").unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.text(&long).unwrap().len(), 50_000);
        assert_eq!(reader.number(&short), Some(42));
        assert_eq!(reader.number(&folder.path().join("none")), None);
    }
}
