//! Runs a program under the preloaded library: builds both, makes the model, collects the outcome.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ggpager::bench::cgroup::Group;
use ggpager::stats::Stats;

/// Size of the test model: not a whole number of pages, more than the pool of [`Setting::BUDGET`].
pub const MODEL_BYTES: u64 = (48 << 20) + 1000;

/// Seconds after which a program or a test counts as hanging: many times what they take on a slow and busy machine.
/// Nothing is asserted about any shorter time.
pub const HANG_S: &str = "600";

/// Watches over one test until it is dropped, and ends the process when it hangs.
pub struct Watchdog(#[allow(dead_code)] Sender<()>);

impl Watchdog {
    /// Starts to watch.
    pub fn new(test: &'static str) -> Watchdog {
        let (alive, ended) = channel();
        let limit = Duration::from_secs(HANG_S.parse().expect("a number"));
        std::thread::spawn(move || {
            if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{test}: it hung");
                std::process::abort();
            }
        });
        Watchdog(alive)
    }
}

/// How the library is set up for one run.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Environment variables.
    pub vars: &'static [(&'static str, &'static str)],
    /// Run as a user without privileges: the userfaultfd then sees faults of user mode only.
    pub unprivileged: bool,
}

const fn setting(vars: &'static [(&'static str, &'static str)]) -> Setting {
    Setting { vars, unprivileged: false }
}

/// Settings under which no view is made.
pub const ORDINARY: [Setting; 3] =
    [setting(&[("GGPAGER", "off")]), setting(&[("GGPAGER_STRATEGY", "passthrough")]), setting(&[])];

const MOVE: &[(&str, &str)] = &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_FILL", "move")];
const CONTINUE: &[(&str, &str)] =
    &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_FILL", "continue")];
const COPY: &[(&str, &str)] = &[("GGPAGER_STRATEGY", "demand"), ("GGPAGER_BUDGET", "32M"), ("GGPAGER_FILL", "copy")];

/// Settings under which every model becomes a view.
pub const PAGED: [Setting; 6] = [
    setting(MOVE),
    setting(CONTINUE),
    setting(COPY),
    Setting { vars: MOVE, unprivileged: true },
    Setting { vars: CONTINUE, unprivileged: true },
    Setting { vars: COPY, unprivileged: true },
];

/// Makes a folder in `parent` that every user may read, removed when the test process ends.
fn folder_in(parent: &Path, name: &str) -> PathBuf {
    static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    extern "C" fn remove() {
        let folders = FOLDERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for folder in folders.iter() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
    let path = parent.join(format!("ggpager-{name}-{}", std::process::id()));
    std::fs::create_dir(&path).expect("a folder for the test");
    FOLDERS.lock().expect("nobody panics with it").push(path.clone());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("a folder for everybody");
    // SAFETY: registers a handler that stays mapped.
    unsafe { libc::atexit(remove) };
    path
}

/// The test's folder.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| folder_in(&std::env::temp_dir(), "hazards"))
}

/// A folder in memory, for what no slow or busy drive is to hold up; `None` where there is no room for `bytes`.
pub fn folder_in_memory(bytes: u64) -> Option<&'static Path> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    let left_bytes = rustix::fs::statvfs(memory).map_or(0, |it| it.f_bavail * it.f_frsize);
    (left_bytes >= bytes).then(|| FOLDER.get_or_init(|| folder_in(memory, "memory")).as_path())
}

/// A path in `folder` that is used once.
fn fresh(folder: &Path, name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    folder.join(format!("{}-{name}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A fresh path in the test's folder.
pub fn scratch(name: &str) -> PathBuf {
    fresh(folder(), name)
}

/// The same in memory if possible, for small files: a fault log that is written too slowly loses records.
pub fn scratch_in_memory(name: &str) -> PathBuf {
    fresh(folder_in_memory(32 << 20).unwrap_or_else(folder), name)
}

/// The preloaded library, built once. Together with the running test, which is built already: with it alone the
/// dependencies' features are those of the test, and nothing is compiled a second time for the library.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--package", "ggpager", "--package", "ggpager-shim", "--lib", "--message-format=json"])
            .args(["--test", env!("CARGO_CRATE_NAME")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the library does not build");
        let built = String::from_utf8(output.stdout)
            .expect("cargo's messages are text")
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["kind"][0] == "cdylib")
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|name| name.as_str().map(PathBuf::from))
            .find(|name| name.extension().is_some_and(|extension| extension == "so"))
            .expect("cargo names the library");
        // Other users may not be able to reach the build folder.
        let copy = folder().join("libggpager.so");
        std::fs::copy(built, &copy).expect("a copy of the library");
        copy
    })
}

/// Compiles `tests/programs/NAME.c`, as a shared library when `shared`.
pub fn compile(name: &str, shared: bool) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name).with_extension("c");
    let target = scratch(name);
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-g", "-Wall", "-Werror", "-Wno-unused-result", "-pthread", "-rdynamic"]);
    if shared {
        gcc.args(["-shared", "-fPIC"]);
    }
    let status = gcc.arg(source).arg("-o").arg(&target).arg("-ldl").status().expect("gcc runs");
    assert!(status.success(), "{name}.c does not compile");
    target
}

/// The word at a byte offset of the test model; `common.h` has the same.
pub fn word_at(offset: u64) -> u64 {
    if offset == 0 {
        return 0xffff_ffff_4655_4747;
    }
    let z = (offset / 8).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes a model of its own for one test: the magic with a version that nobody knows, then known
/// words.
pub fn own_model() -> PathBuf {
    model_of(MODEL_BYTES)
}

/// The same of any length, in bytes.
pub fn model_of(bytes: u64) -> PathBuf {
    let path = scratch("model.gguf");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path).expect("a model"));
    for offset in (0..bytes).step_by(8) {
        file.write_all(&word_at(offset).to_le_bytes()).expect("room for the model");
    }
    file.into_inner().expect("room for the model").set_permissions(PermissionsExt::from_mode(0o644)).expect("readable");
    path
}

/// The model that all tests share.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(own_model)
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Exit status and output.
    pub output: Output,
    /// The statistics, if any were written.
    pub stats: Option<Stats>,
}

impl Outcome {
    /// The program ended with status `code`; its messages are shown otherwise.
    pub fn require_code(&self, code: i32) -> &Outcome {
        let messages = String::from_utf8_lossy(&self.output.stderr);
        let hint = match self.output.status.code() {
            Some(124 | 137) => " (124 and 137: it hung)",
            _ => "",
        };
        assert!(!messages.contains("internal error"), "a panic was caught: {messages}");
        assert_eq!(self.output.status.code(), Some(code), "{:?}{hint}: {messages}", self.output.status);
        self
    }

    /// At least one view was made: the run did not fall back to the ordinary mapping.
    pub fn require_paged(&self) -> &Outcome {
        let messages = String::from_utf8_lossy(&self.output.stderr);
        let stats = self.stats.as_ref().unwrap_or_else(|| panic!("no statistics were written: {messages}"));
        assert!(stats.views > 0, "no view was made: {messages}");
        self
    }
}

/// Runs `program` with the library and `others` (behind it) preloaded.
pub fn run(setting: Setting, others: &[&Path], program: &Path, args: &[OsString], extra: &[(&str, &str)]) -> Outcome {
    run_within(None, setting, others, program, args, extra)
}

/// As [`run`], inside a control group.
pub fn run_within(
    group: Option<&Group>,
    setting: Setting,
    others: &[&Path],
    program: &Path,
    args: &[OsString],
    extra: &[(&str, &str)],
) -> Outcome {
    let stats = scratch("stats.json");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", HANG_S]);
    if setting.unprivileged {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    }
    let mut preload = library().as_os_str().to_owned();
    for other in others {
        preload.push(":");
        preload.push(other);
    }
    let mut assignment = OsString::from("LD_PRELOAD=");
    assignment.push(preload);
    command.arg("env").arg(assignment);
    command.args(setting.vars.iter().chain(extra).map(|(name, value)| format!("{name}={value}")));
    let mut path = OsString::from("GGPAGER_STATS=");
    path.push(&stats);
    command.arg(path).arg(program).args(args).current_dir(folder()).stdin(Stdio::null());
    if let Some(group) = group {
        group.hold(&mut command);
    }
    let output = command.output().expect("timeout runs");
    let output = Output { status: plain(output.status), ..output };
    let stats = std::fs::read(stats).ok().map(|text| serde_json::from_slice(&text).expect("statistics are JSON"));
    Outcome { output, stats }
}

/// A shell's status for an end by signal.
fn plain(status: std::process::ExitStatus) -> std::process::ExitStatus {
    match status.signal() {
        Some(signal) => std::process::ExitStatus::from_raw((128 + signal) << 8),
        None => status,
    }
}

/// True when the machine has what a test needs. Otherwise says what is missing, and fails when
/// `GGPAGER_REQUIRE_ALL=1`.
pub fn available(what: &str, present: bool) -> bool {
    if !present {
        assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none_or(|value| value != "1"), "{what} is missing");
        eprintln!("skipped: {what} is missing");
    }
    present
}

/// True when this process may become another user.
pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// What `run` gives, which writes a fault log. While the log has lost records it runs again, three times at most.
pub fn without_loss(run: impl Fn() -> Outcome) -> Outcome {
    let is_whole = |outcome: &Outcome| outcome.stats.as_ref().is_none_or(|stats| stats.trace_lost_records == 0);
    let mut outcome = run();
    for _ in 0..3 {
        if is_whole(&outcome) {
            break;
        }
        outcome = run();
    }
    outcome
}
