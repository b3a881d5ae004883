//! A paged llama.cpp that is watched while it runs.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ggpager::bench::cgroup::Group;

use super::llama::{HANG_S, Model, arguments};
use super::support::library;

/// More than any test waits for: the program is interrupted instead.
const TOKENS: &str = "900";
const CONTEXT: &str = "1024";
const REST: [&str; 17] = [
    "-p",
    "Once upon a time",
    "-n",
    TOKENS,
    "-c",
    CONTEXT,
    "-t",
    "2",
    "--temp",
    "0",
    "--seed",
    "1",
    "--ignore-eos",
    "-no-cnv",
    "--no-display-prompt",
    "-nr",
    "--no-warmup",
];

/// What the program has shown so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The pool's size in bytes, after the last change.
    pub budget: u64,
    /// Changes of the pool's size, each with the bytes before and after.
    pub changes: Vec<(u64, u64)>,
    /// Memory given back by those changes: bytes, and the microseconds it took.
    pub given: Vec<(u64, u64)>,
    /// What the model says.
    pub text: Vec<u8>,
    log: String,
    ended: bool,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

/// A running program.
pub struct Running {
    child: Child,
    seen: Shared,
    readers: Vec<JoinHandle<()>>,
}

fn tell(shared: &Shared, change: impl FnOnce(&mut Seen)) {
    change(&mut shared.0.lock().expect("readers do not panic"));
    shared.1.notify_all();
}

fn watch_text(mut pipe: impl Read, shared: &Shared) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut bytes) {
        tell(shared, |seen| seen.text.extend(&bytes[..count]));
    }
    tell(shared, |seen| seen.ended = true);
}

/// The numbers of a line that tells of the budget.
fn change(line: &str) -> Option<[u64; 4]> {
    let (_, rest) = line.split_once("the budget goes from ")?;
    let numbers = rest.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.collect::<Vec<u64>>().try_into().ok()
}

fn watch_log(pipe: impl Read, shared: &Shared) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        tell(shared, |seen| {
            if let Some([from, to, bytes, us]) = change(&line) {
                seen.changes.push((from, to));
                seen.given.extend((bytes > 0).then_some((bytes, us)));
                seen.budget = to;
            }
            seen.log.push_str(&line);
            seen.log.push('\n');
        });
    }
}

fn command(program: &Path, model: &Model) -> Command {
    let mut command = Command::new(program);
    command.args(arguments(model, &REST)).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("OMP_WAIT_POLICY", "PASSIVE").env_remove("LD_PRELOAD");
    command
}

impl Running {
    /// Starts `program` in `group` with nothing set but what makes it talk.
    pub fn start(program: &Path, model: &Model, group: &Group) -> Running {
        let mut command = command(program, model);
        command.env("LD_PRELOAD", library()).env("GGPAGER_ORDER_CACHE", "off");
        command.env("GGPAGER_LOG", "warn,ggpager::pager::engine=debug").stderr(Stdio::piped());
        group.hold(&mut command);
        let mut child = command.spawn().expect("the program runs");
        let seen = Shared::default();
        let (text, log) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let (for_text, for_log) = (seen.clone(), seen.clone());
        let readers = vec![
            std::thread::spawn(move || watch_text(text, &for_text)),
            std::thread::spawn(move || watch_log(log, &for_log)),
        ];
        Running { child, seen, readers }
    }

    /// What it has shown so far.
    pub fn seen(&self) -> Seen {
        self.seen.0.lock().expect("readers do not panic").clone()
    }

    /// Waits until it has shown `enough`.
    pub fn wait_for(&self, what: &str, enough: impl Fn(&Seen) -> bool) {
        let limit = Duration::from_secs(HANG_S.parse().expect("a number"));
        let seen = self.seen.0.lock().expect("readers do not panic");
        let waiting = |seen: &mut Seen| !seen.ended && !enough(seen);
        let (seen, _) = self.seen.1.wait_timeout_while(seen, limit, waiting).expect("readers do not panic");
        assert!(enough(&seen), "waited for {what}; ended: {}; changes {:?}: {}", seen.ended, seen.changes, seen.log);
    }

    /// Interrupts it, as Ctrl-C does, and gives what it has shown; of the text, what came before.
    pub fn end(mut self) -> Seen {
        let text = self.seen().text;
        interrupt(&self.child);
        let status = self.child.wait().expect("a child");
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        let seen = Seen { text, ..self.seen() };
        assert_eq!(status.code(), Some(130), "{status}: {}", seen.log);
        assert!(!seen.changes.is_empty(), "it was not paged: {}", seen.log);
        seen
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where a test has failed; otherwise it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interrupt(child: &Child) {
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
}

/// Each text is the beginning of what the stock program says with the same arguments and no limit.
pub fn require_same_as_stock(program: &Path, model: &Model, outcomes: &[&Seen]) {
    let longest = outcomes.iter().map(|outcome| outcome.text.len()).max().expect("an outcome");
    let mut child = command(program, model).stderr(Stdio::null()).spawn().expect("the program runs");
    let mut pipe = child.stdout.take().expect("a pipe");
    let (mut text, mut bytes) = (Vec::new(), [0; 4096]);
    let start = Instant::now();
    while text.len() < longest {
        match pipe.read(&mut bytes) {
            Ok(count @ 1..) => text.extend(&bytes[..count]),
            other => panic!("stock ended after {:?} with {other:?}", start.elapsed()),
        }
    }
    interrupt(&child);
    std::io::copy(&mut pipe, &mut std::io::sink()).expect("a pipe");
    child.wait().expect("a child");
    for outcome in outcomes {
        let said = outcome.text.trim_ascii_end();
        let show = String::from_utf8_lossy;
        assert!(!said.is_empty() && text.starts_with(said), "stock: {}\npaged: {}", show(&text), show(said));
    }
}
