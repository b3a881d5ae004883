//! The status line of `ggpager run` and the screen of `ggpager top` on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::program::{self, Program, runtime_folder};
use crate::support::{PAGED, library, model};

/// What begins the line on a terminal.
const LINE: &str = "\r\x1b[Kggpager: ";
/// What takes it away.
const ERASE: &str = "\r\x1b[K";

/// A terminal without a keyboard.
struct Terminal {
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn open() -> Terminal {
        let size = libc::winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: writes two descriptors and reads a valid size.
        let made = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(made, 0, "a pseudo-terminal");
        // SAFETY: both were just opened, and nobody else has them.
        let (mut master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO when the last user has gone.
            while let Ok(len @ 1..) = master.read(&mut buffer) {
                into.lock().expect("no panic").extend_from_slice(&buffer[..len]);
            }
        });
        Terminal { slave, seen, reader }
    }

    fn end(&self) -> Stdio {
        self.slave.try_clone().expect("a descriptor").into()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic")).into_owned()
    }

    fn wait_for(&self, what: &str) {
        let begun = Instant::now();
        while !self.text().contains(what) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no {what:?} in {:?}", self.text());
            std::thread::yield_now();
        }
    }

    /// All that came, after the last user has gone.
    fn close(self) -> String {
        drop(self.slave);
        self.reader.join().expect("no panic");
        String::from_utf8_lossy(&self.seen.lock().expect("no panic")).into_owned()
    }
}

fn send(child: &Child, signal: i32) {
    // SAFETY: kill has no memory effects; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Runs the program by `ggpager run` with stderr, and stdout if `shared`, on a terminal; gives what
/// came there when it has ended.
fn run(options: &[&str], wrapper: &[&str], shared: bool, is_drawn: bool) -> String {
    let terminal = Terminal::open();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    command.args(["run", "--strategy", "demand", "--budget", "32M"]).args(options).arg("--").args(wrapper);
    command.arg(program::program()).arg(model());
    command.env("XDG_RUNTIME_DIR", runtime_folder()).env("GGPAGER_LIB", library());
    command.stdin(Stdio::piped()).stderr(terminal.end());
    command.stdout(if shared { terminal.end() } else { Stdio::piped() });
    let mut child = command.spawn().expect("it runs");
    drop(command);
    let mut output = child.stdout.take();
    match &mut output {
        Some(output) => assert_eq!(output.read(&mut [0; 64]).map(|len| len > 6).ok(), Some(true)),
        None => terminal.wait_for("ready"),
    }
    // Any signal makes it look again, and this one the program ignores.
    send(&child, libc::SIGWINCH);
    if is_drawn {
        terminal.wait_for("in memory");
    }
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "read").expect("it listens");
    drop(input);
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    terminal.close()
}

#[test]
fn the_line_is_drawn_where_the_text_is_not_and_erased() {
    let text = run(&[], &[], false, true);
    assert!(text.starts_with(LINE) && text.ends_with(ERASE), "{text:?}");
    assert!(text.contains(" of 50.34 MB in memory, ") && text.contains("% stalled"), "{text:?}");
    // One line: the cursor stays in it.
    assert!(!text.contains('\n'), "{text:?}");
    let text = run(&["--progress", "always"], &[], true, true);
    assert!(text.contains(LINE) && text.ends_with(ERASE), "{text:?}");
}

#[test]
fn the_line_is_not_drawn_when_it_is_not_wanted() {
    for (options, shared) in [
        (&["--quiet"] as &[&str], false),
        (&["--progress", "never"], false),
        (&["--quiet", "--progress", "always"], true),
        (&[], true),
    ] {
        let text = run(options, &[], shared, false);
        assert!(!text.contains("ggpager") && !text.contains('\x1b'), "{options:?} {shared}: {text:?}");
    }
}

/// `timeout`, a shell or a script may stand between.
#[test]
fn the_line_finds_the_pager_of_a_descendant() {
    let text = run(&[], &["sh", "-c", "\"$@\"; exit $?", "sh", "timeout", "300"], false, true);
    assert!(text.starts_with(LINE), "{text:?}");
}

#[test]
fn top_draws_in_place_and_gives_the_cursor_back() {
    let mut program = Program::start(PAGED[0], |_| {});
    let terminal = Terminal::open();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    command.args(["top", "--interval", "0.1", &program.pid().to_string()]);
    command.env("XDG_RUNTIME_DIR", &program.runtime_folder).stdin(Stdio::null()).stdout(terminal.end());
    let mut child = command.spawn().expect("it runs");
    drop(command);
    // The second drawing goes back over the first: a header and a row.
    terminal.wait_for("\x1b[2A");
    send(&child, libc::SIGINT);
    assert_eq!(child.wait().expect("a child").code(), Some(0), "Ctrl-C is the way out");
    let text = terminal.close();
    assert!(text.starts_with("\x1b[?25l") && text.ends_with("\x1b[?25h"), "{text:?}");
    assert!(text.contains("demand"), "{text:?}");
    program.end();
}
