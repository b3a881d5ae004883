//! Telling processes apart: ids are used again, an id and a start time are not.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// When it began, in clock ticks after boot: field 22 of `/proc/PID/stat`, proc_pid_stat(5).
    pub start_ticks: u64,
    /// Inode of its pid namespace: ids of another namespace say nothing here.
    pub pid_namespace: u64,
}

impl Identity {
    /// This process. An error where `/proc` is not as it should be.
    pub fn own() -> io::Result<Identity> {
        let start_ticks = start_ticks(own_pid())?.ok_or_else(|| io::Error::other("/proc does not know us"))?;
        let pid_namespace = rustix::fs::stat("/proc/self/ns/pid")?.st_ino;
        Ok(Identity { pid: own_pid(), start_ticks, pid_namespace })
    }

    /// Whether this process lives, as far as `own` (of this process) can know: one of another
    /// namespace is taken to live.
    pub fn is_alive(&self, own: &Identity) -> bool {
        self.pid_namespace != own.pid_namespace || start_ticks(self.pid).ok().flatten() == Some(self.start_ticks)
    }
}

/// This process' id, past any cache in libc.
pub fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get() as u32
}

/// When process `pid` began, in clock ticks after boot; `None` when there is none or it has ended
/// and nobody has waited for it yet.
pub fn start_ticks(pid: u32) -> io::Result<Option<u64>> {
    Ok(read_stat(&format!("/proc/{pid}/stat"))?.and_then(|stat| stat.start_ticks))
}

/// Whether process `ancestor` started `pid`, or one that did.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let parent = |&pid: &u32| read_stat(&format!("/proc/{pid}/stat")).ok().flatten().map(|stat| stat.parent);
    // Bounded, since processes come and go meanwhile.
    std::iter::successors(Some(pid), parent).skip(1).take(64).any(|pid| pid == ancestor)
}

/// The program's name: the last part of its first argument.
pub fn program_name() -> String {
    let first = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&first).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A line of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// `None` when the process has ended.
    start_ticks: Option<u64>,
}

fn read_stat(path: &str) -> io::Result<Option<Stat>> {
    let file = match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        file => file?,
    };
    // Numbers, and a name of 64 characters at most.
    let mut buffer = [0; 1024];
    let len = match rustix::io::read(file.as_fd(), &mut buffer) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        len => len?,
    };
    let stat = parse_stat(&buffer[..len]).ok_or_else(|| io::Error::other(format!("{path} is not understood")))?;
    Ok(Some(stat))
}

/// Takes a line apart. A main thread that has ended is a zombie, too, while others
/// go on: then there is more than one thread.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name (field 2) may hold anything, parentheses included.
    let after_name = text.iter().rposition(|&byte| byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&text[after_name..]).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let threads: u64 = fields.nth(15)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    let lives = !matches!(state, "Z" | "X") || threads > 1;
    Some(Stat { parent, start_ticks: lives.then_some(start_ticks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let line = |state: &str, threads: u32| {
            format!("77 (a) b ) {state} 9 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 {threads} 0 123456 9 9\n")
        };
        let stat = |start_ticks| Some(Stat { parent: 9, start_ticks });
        assert_eq!(parse_stat(line("S", 1).as_bytes()), stat(Some(123_456)));
        assert_eq!(parse_stat(line("Z", 2).as_bytes()), stat(Some(123_456)), "the main thread has ended");
        assert_eq!(parse_stat(line("Z", 1).as_bytes()), stat(None), "nobody has waited for it");
        for broken in ["", "77", "77 (a)", "77 (a) S 1 2", ") S"] {
            assert_eq!(parse_stat(broken.as_bytes()), None, "{broken:?}");
        }
    }

    #[test]
    fn this_process_lives_and_an_ended_child_does_not() {
        let own = Identity::own().expect("/proc");
        assert!(own.is_alive(&own));
        assert!(!Identity { start_ticks: own.start_ticks + 1, ..own }.is_alive(&own), "the id is used again");
        assert!(!descends_from(own.pid, own.pid));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        assert!(descends_from(pid, own.pid));
        // Ended, but not waited for.
        let id = rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child));
        rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT)
            .expect("a child");
        assert_eq!(start_ticks(pid).expect("/proc"), None, "a zombie");
        child.wait().expect("a child");
        assert_eq!(start_ticks(pid).expect("/proc"), None);
    }
}
