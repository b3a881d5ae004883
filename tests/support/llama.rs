//! Real llama.cpp over synthetic models: stock and paged runs of the same command.
//!
//! `GGPAGER_LLAMA` names the folder with the binaries, else they are looked for on `PATH`.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use ggpager::config::ByteSize;
use ggpager::pager::region::HUGE;
use ggpager::synth::{Arch, Quant, Request, WriteOptions};

pub use super::support::HANG_S;
use super::support::{self, Outcome, Setting};

/// The binary, or nothing after a line that says why; with `GGPAGER_REQUIRE_ALL=1` that is a failure.
pub fn tool(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("GGPAGER_LLAMA").or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    support::available(&format!("{name} (in GGPAGER_LLAMA or on PATH)"), found.is_some());
    found
}

/// A folder on a drive that every user may read, removed when the test process ends.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        let _ = std::fs::remove_dir_all(FOLDER.get().expect("made before"));
    }
    FOLDER.get_or_init(|| {
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let open = |path: &Path| path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o5 == 0o5);
        // A checkout below somebody's home may be closed to others.
        let parent = if build.ancestors().all(open) { build } else { Path::new("/var/tmp") };
        let path = parent.join(format!("ggpager-identity-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a folder for the models");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a folder for everybody");
        // SAFETY: registers a handler that stays mapped.
        unsafe { libc::atexit(remove) };
        path
    })
}

/// A synthetic model.
#[derive(Debug)]
pub struct Model {
    /// What llama.cpp is told to load: the first file.
    pub path: PathBuf,
    /// All files together.
    pub bytes: u64,
    /// Number of files.
    pub files: usize,
}

/// Writes the model that `request` makes of its path, `name` in `folder`, unless a test has done so before.
fn written(folder: &Path, name: &str, request: impl FnOnce(PathBuf) -> Request) -> &'static Model {
    static MODELS: Mutex<Vec<(PathBuf, &'static Model)>> = Mutex::new(Vec::new());
    let mut models = MODELS.lock().expect("no test panics while it writes a model");
    let path = folder.join(format!("{name}.gguf"));
    if let Some((_, model)) = models.iter().find(|(other, _)| *other == path) {
        return model;
    }
    let plan = request(path.clone()).plan().expect("a possible model");
    plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("room for a model");
    for file in &plan.files {
        std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o644)).expect("readable for everybody");
    }
    let model = Model { path: plan.files[0].path.clone(), bytes: plan.bytes(), files: plan.files.len() };
    let model: &'static Model = Box::leak(Box::new(model));
    models.push((path, model));
    model
}

/// The model of an architecture whose quarter is more than the least budget: 16 frames of 2 MiB for
/// each of dense and expert blocks, and 16 of 16 KiB for embedding rows.
pub fn model(arch: Arch) -> &'static Model {
    model_in(folder(), arch)
}

/// The same in memory if there is room: what is only done while the drive rests is done on every machine.
pub fn model_in_memory(arch: Arch) -> &'static Model {
    static FOLDER: OnceLock<&'static Path> = OnceLock::new();
    // Asked once: the model itself takes of the room.
    model_in(FOLDER.get_or_init(|| support::folder_in_memory(600_000_000).unwrap_or_else(folder)), arch)
}

fn model_in(folder: &Path, arch: Arch) -> &'static Model {
    let bytes = if arch == Arch::Llama { 138_000_000 } else { 274_000_000 };
    written(folder, arch.name(), |out| Request::new(out, arch, Quant::usual(arch), ByteSize(bytes)))
}

/// A dense model of `bytes`, in files of `split_max` bytes at most.
pub fn dense(bytes: u64, split_max: Option<u64>) -> &'static Model {
    let name = format!("llama-{bytes}-{}", split_max.unwrap_or(0));
    written(folder(), &name, |out| Request {
        split_max: split_max.map(ByteSize),
        // One vocabulary for all, so that any two can be main and draft.
        vocab: Some(16_000),
        ..Request::new(out, Arch::Llama, Quant::Q4_0, ByteSize(bytes))
    })
}

/// The pool that `percent` of `bytes` comes to: whole frames.
pub fn budget_bytes(bytes: u64, percent: u64) -> u64 {
    (bytes * percent / 100).next_multiple_of(HUGE as u64)
}

/// `-m MODEL` and then `rest`.
pub fn arguments(model: &Model, rest: &[&str]) -> Vec<OsString> {
    let mut all = vec!["-m".into(), model.path.clone().into_os_string()];
    all.extend(rest.iter().map(OsString::from));
    all
}

/// Arguments of llama-completion for `tokens` greedy tokens on two threads, weights in the mapping.
pub fn greedy(model: &Model, tokens: &str, more: &[&str]) -> Vec<OsString> {
    let mut rest = vec!["-p", "Once upon a time", "-n", tokens, "--temp", "0", "--seed", "1", "--ignore-eos"];
    rest.extend(["-no-cnv", "--no-display-prompt", "-nr", "-c", "256", "-t", "2"]);
    rest.extend(more);
    arguments(model, &rest)
}

/// Runs `program` as it is; it must succeed.
pub fn stock(program: &Path, args: &[OsString]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", HANG_S]).arg(program).args(args).stdin(Stdio::null());
    let output = command.env("OMP_WAIT_POLICY", "PASSIVE").env_remove("LD_PRELOAD").output().expect("timeout runs");
    assert!(output.status.success(), "stock: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// How a paged run is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    /// `GGPAGER_FILL`.
    pub fill: &'static str,
    /// `GGPAGER_STRATEGY`.
    pub strategy: &'static str,
    /// `GGPAGER_BUDGET` in percent of the model.
    pub percent: u64,
    /// Run as a user without privileges.
    pub unprivileged: bool,
}

impl Paging {
    /// The rung and strategy that most users get, at a quarter of the model.
    pub const USUAL: Paging = Paging { fill: "move", strategy: "learned", percent: 25, unprivileged: false };

    /// The variables, with their values.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GGPAGER_FILL", self.fill.into()),
            ("GGPAGER_STRATEGY", self.strategy.into()),
            ("GGPAGER_BUDGET", format!("{}%", self.percent)),
            // Every run starts without knowledge, and leaves none behind.
            ("GGPAGER_ORDER_CACHE", "off".into()),
            ("OMP_WAIT_POLICY", "PASSIVE".into()),
        ]
    }

    /// Runs `program` paged and requires everything that shows that it was.
    pub fn run(&self, program: &Path, args: &[OsString], model: &Model) -> Outcome {
        self.run_with(&[], program, args, model)
    }

    /// The same with a fault log, whose path comes along.
    pub fn traced(&self, program: &Path, args: &[OsString], model: &Model) -> (Outcome, PathBuf) {
        self.traced_with(&[], program, args, model)
    }

    /// The same with further variables. A busy machine may give the log's thread no time: again then.
    pub fn traced_with(
        &self,
        more: &[(&str, &str)],
        program: &Path,
        args: &[OsString],
        model: &Model,
    ) -> (Outcome, PathBuf) {
        let log = support::scratch_in_memory("log");
        let more = [more, &[("GGPAGER_TRACE", log.to_str().expect("a plain path"))]].concat();
        (support::without_loss(|| self.run_with(&more, program, args, model)), log)
    }

    /// As [`Paging::run`], with further variables.
    pub fn run_with(&self, more: &[(&str, &str)], program: &Path, args: &[OsString], model: &Model) -> Outcome {
        let variables = self.variables();
        let own = variables.iter().map(|(name, value)| (*name, value.as_str()));
        let extra: Vec<(&str, &str)> = own.chain(more.iter().copied()).collect();
        let setting = Setting { vars: &[], unprivileged: self.unprivileged };
        let outcome = support::run(setting, &[], program, args, &extra);
        self.require(&outcome, model, self.percent);
        outcome
    }

    /// The program ended well, was paged as asked, with `percent` of `model` and nothing unreadable.
    pub fn require(&self, outcome: &Outcome, model: &Model, percent: u64) {
        outcome.require_code(0).require_paged();
        let stats = outcome.stats.as_ref().expect("paged");
        let what = format!("{self:?}: {stats:?}");
        assert_eq!((stats.fill_rung.as_str(), stats.strategy.as_str()), (self.fill, self.strategy), "{what}");
        assert_eq!(stats.budget_bytes, budget_bytes(model.bytes, percent), "{what}");
        assert!(stats.pool_peak_bytes > 0 && stats.pool_peak_bytes <= stats.budget_bytes, "{what}");
        assert_eq!(stats.poisoned_pages, 0, "{what}");
        assert!(stats.read_bytes >= model.bytes / 8, "{what}");
        assert!(percent >= 100 || stats.read_bytes > stats.budget_bytes && stats.evictions > 0, "{what}");
        assert_eq!(stats.fault_mode, self.fault_mode(), "{what}");
    }

    /// What the kernel grants: users without privileges see faults of user mode alone, unless the
    /// administrator has allowed more.
    fn fault_mode(&self) -> &'static str {
        let allowed = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
        let privileged = support::is_root() && !self.unprivileged;
        if privileged || allowed.is_ok_and(|text| text.trim() == "1") { "full" } else { "user-mode-only" }
    }
}

/// Both outputs say the same. llama-completion loses its last tokens on stdout now and then, the more the busier the
/// machine, so one may be the beginning of the other. Some words there must be: no text here has less than eight tokens.
pub fn require_same_text(stock: &Output, paged: &Output, what: &str) {
    let (stock, paged) = (stock.stdout.trim_ascii_end(), paged.stdout.trim_ascii_end());
    let same = stock.starts_with(paged) || paged.starts_with(stock);
    let enough = [stock, paged].iter().all(|text| text.trim_ascii().len() >= 12);
    let show = |text| String::from_utf8_lossy(text).into_owned();
    assert!(same && enough, "{what}\nstock: {:?}\npaged: {:?}", show(stock), show(paged));
}
