//! A program under the preloaded library, told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ggpager::status::{ReadError, Snapshot, read_in};

use crate::support::{Setting, compile, library, model, scratch};

/// Strategy `kernel`, which has a thread of its own to write the page.
pub const KERNEL: Setting =
    Setting { vars: &[("GGPAGER_STRATEGY", "kernel"), ("GGPAGER_BUDGET", "34M")], unprivileged: false };

/// `tests/programs/live.c` under the library, told what to do line by line.
pub struct Program {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub runtime_folder: PathBuf,
}

pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| compile("live", false))
}

/// A folder as `$XDG_RUNTIME_DIR` names one, but for everybody.
pub fn runtime_folder() -> PathBuf {
    let folder = scratch("runtime");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).expect("for everybody");
    folder
}

impl Program {
    pub fn start(setting: Setting, prepare: impl FnOnce(&mut Command)) -> Program {
        let runtime_folder = runtime_folder();
        let mut command = Command::new(program());
        command.arg(model()).envs(setting.vars.iter().copied()).env("LD_PRELOAD", library());
        command.env("XDG_RUNTIME_DIR", &runtime_folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        if setting.unprivileged {
            command.uid(65534).gid(65534);
        }
        prepare(&mut command);
        let mut child = command.spawn().expect("it runs");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut program = Program { child, input, output, runtime_folder };
        assert_eq!(program.line(), format!("ready {}\n", program.pid()));
        program
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> PathBuf {
        self.runtime_folder.join("ggpager")
    }

    pub fn file(&self) -> PathBuf {
        self.folder().join(self.pid().to_string())
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }

    pub fn say(&mut self, what: &str) {
        writeln!(self.input.as_mut().expect("open"), "{what}").expect("it listens");
    }

    pub fn tell(&mut self, what: &str) {
        self.say(what);
        assert_eq!(self.line(), "done\n", "{what}");
    }

    pub fn read(&self) -> Result<Snapshot, ReadError> {
        read_in(&[self.folder()], self.pid())
    }

    /// Reads until `holds`: the page follows the program within a tenth of a second, and the hint
    /// thread makes it after the mapping.
    pub fn read_until(&self, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            let read = self.read();
            match read {
                Ok(snapshot) if holds(&snapshot) => return snapshot,
                _ => assert!(begun.elapsed() < Duration::from_secs(60), "the page stays behind: {read:?}"),
            }
            std::thread::yield_now();
        }
    }

    /// Ends it by closing its input.
    pub fn end(&mut self) {
        drop(self.input.take());
        assert_eq!(self.child.wait().expect("a child").code(), Some(0));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
