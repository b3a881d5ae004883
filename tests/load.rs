//! Models that fit: a cold file is loaded into the page cache beside the program, a warm one is left
//! alone, and nothing that the program does meanwhile leads to a wait, a wrong byte or a read that
//! nobody wants. The drive is held slow where the load must still be going on.

#[allow(dead_code)]
#[path = "support/llama.rs"]
mod llama;
#[allow(dead_code)]
mod support;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ggpager::bench::cgroup::{Group, Hierarchy, Limits};
use ggpager::bench::disk::Disk;
use ggpager::config::Settings;
use ggpager::pager::file::Sharing;
use ggpager::pager::load::cached;
use ggpager::pager::{MapError, Pager};
use ggpager::stats::Stats;
use ggpager::synth::Arch;
use rustix::fs::Advice;
use support::{MODEL_BYTES, Outcome, Setting, available, compile, own_model, run, run_within, word_at};
use tempfile::TempPath;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const AUTO: Setting = Setting { vars: &[], unprivileged: false };

/// Pages of `file` in the page cache; `None` after a line that says why the kernel does not count.
fn cached_pages(file: &File) -> Option<u64> {
    let bytes = file.metadata().expect("a file").len();
    let count = cached::count(file.as_fd(), 0..bytes);
    available("cachestat (Linux 6.5)", count.is_ok()).then(|| count.expect("available"))
}

fn drop_from_cache(file: &File) {
    // Only clean pages can leave the page cache.
    file.sync_all().expect("the file on the drive");
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).expect("advice");
}

/// A model of its own for a test, on a drive and not in the page cache.
fn cold_model() -> Option<TempPath> {
    let written = own_model();
    let path = tempfile::Builder::new().suffix(".gguf").tempfile_in(env!("CARGO_TARGET_TMPDIR"));
    let path = path.expect("a file").into_temp_path();
    std::fs::copy(&written, &path).expect("room for a model");
    std::fs::remove_file(written).expect("ours");
    let file = File::open(&path).expect("a model");
    drop_from_cache(&file);
    let left = cached_pages(&file)?;
    available("a page cache that can be emptied", left == 0).then_some(path)
}

/// Maps the whole file as the hooks do; the address when it is being loaded.
fn map(pager: &Pager, path: &Path) -> Option<usize> {
    let file = File::open(path).expect("a model");
    match pager.map(file.as_fd(), 0, MODEL_BYTES as usize, Sharing::Shared) {
        Err(MapError::Fits(fitting)) => pager.load(*fitting).map(|start| start as usize),
        other => panic!("{other:?}"),
    }
}

/// Waits until nothing is being loaded any more.
fn loaded(pager: &Pager, what: impl Fn(&Stats) -> bool) -> Stats {
    let begun = Instant::now();
    loop {
        let stats = pager.stats();
        if what(&stats) {
            return stats;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it hung: {stats:?}");
        std::thread::yield_now();
    }
}

fn unmap(address: usize) {
    // SAFETY: the mapping that the test was given and reads no more.
    unsafe { rustix::mm::munmap(address as *mut _, MODEL_BYTES as usize) }.expect("unmapping");
}

fn check(address: usize) {
    for at in (0..MODEL_BYTES / 8 * 8).step_by(8 * 101) {
        // SAFETY: mapped for the whole file.
        let seen = unsafe { ((address + at as usize) as *const u64).read_volatile() };
        assert_eq!(seen, word_at(at), "at byte {at}");
    }
}

#[test]
fn a_cold_file_is_cached_without_a_touch() {
    let Some(path) = cold_model() else { return };
    for depth in [None, Some(1), Some(1000)] {
        let file = File::open(&path).expect("a model");
        // Somebody else's need of memory can take a page: then what follows says nothing.
        let keeps_all = (0..20).any(|_| {
            drop_from_cache(&file);
            let pager = Pager::new(Settings { queue_depth: depth, ..Settings::default() });
            let address = map(&pager, &path).expect("a load");
            let stats = loaded(&pager, |stats| stats.load_bytes == MODEL_BYTES);
            let keeps_all = cached_pages(&file) == Some(MODEL_BYTES.div_ceil(PAGE));
            assert_eq!((stats.loads, stats.loads_stopped), (1, 0), "{stats:?}");
            // The header was read before, and what the kernel reads ahead of it.
            let read = (MODEL_BYTES / 2..=MODEL_BYTES).contains(&stats.load_read_bytes);
            assert!(read || !keeps_all, "{stats:?}");
            assert_eq!((stats.strategy.as_str(), stats.views), ("passthrough", 0));
            check(address);
            unmap(address);
            keeps_all
        });
        assert!(keeps_all, "with depth {depth:?} the page cache keeps nothing");
    }
}

#[test]
fn a_cached_file_is_left_alone() {
    let Some(path) = cold_model() else { return };
    let (program, file) = (compile("pages", false), File::open(&path).expect("a model"));
    support::library();
    let all = Some(MODEL_BYTES.div_ceil(PAGE));
    // Somebody else's need of memory can take a page: then what follows says nothing.
    for _ in 0..20 {
        std::fs::read(&path).expect("the model, and with it the page cache");
        let before = cached_pages(&file);
        let pager = Pager::new(Settings::default());
        let mapped = map(&pager, &path);
        let outcome = run(AUTO, &[], &program, &[path.to_path_buf().into()], &[]);
        if (before, cached_pages(&file)) == (all, all) {
            assert_eq!(mapped, None);
            assert_eq!(pager.stats(), quiet());
            let stats = stats(&outcome);
            assert_eq!((stats.loads, stats.load_bytes, stats.load_read_bytes), (0, 0, 0), "{stats:?}");
            return;
        }
        mapped.into_iter().for_each(unmap);
    }
    panic!("the page cache keeps nothing");
}

/// What a program that ended well has left.
fn stats(outcome: &Outcome) -> &Stats {
    let messages = String::from_utf8_lossy(&outcome.output.stderr);
    outcome.require_code(0).stats.as_ref().unwrap_or_else(|| panic!("no statistics: {messages}"))
}

/// The statistics of a process that has mapped one model as usual.
fn quiet() -> Stats {
    Stats { strategy: "passthrough".into(), model_bytes: MODEL_BYTES, ..Stats::default() }
}

#[test]
fn only_what_is_missing_is_read() {
    let Some(path) = cold_model() else { return };
    let mut head = vec![0u8; 21 * MIB as usize + 12345];
    let mut file = File::open(&path).expect("a model");
    rustix::fs::fadvise(&file, 0, None, Advice::Random).expect("advice");
    // Somebody else's need of memory can take a page: then what follows says nothing.
    for _ in 0..20 {
        drop_from_cache(&file);
        file.seek(SeekFrom::Start(0)).expect("seekable");
        file.read_exact(&mut head).expect("the head of the model");
        let before = cached_pages(&file).expect("it counted before") * PAGE;
        assert!(before < MODEL_BYTES, "{before}");
        let pager = Pager::new(Settings::default());
        let address = map(&pager, &path).expect("a load");
        let stats = loaded(&pager, |stats| stats.load_bytes == MODEL_BYTES);
        check(address);
        unmap(address);
        if before >= head.len() as u64 && cached_pages(&file) == Some(MODEL_BYTES.div_ceil(PAGE)) {
            assert_eq!(stats.load_read_bytes, MODEL_BYTES - before, "{stats:?}");
            return;
        }
    }
    panic!("the page cache keeps nothing");
}

/// Runs `tests/programs/load.c` on a drive of `rate` bytes per second; `None` where there is none.
fn load(mode: &str, path: &Path, most: u64, rate: u64, memory_bytes: Option<u64>) -> Option<Outcome> {
    slow(&compile("load", false), &[mode.into(), path.into(), most.to_string().into()], path, rate, memory_bytes)
}

fn slow(program: &Path, args: &[OsString], path: &Path, rate: u64, memory_bytes: Option<u64>) -> Option<Outcome> {
    let group = group(path, rate, memory_bytes)?;
    let outcome = run_within(Some(&group), AUTO, &[], program, args, &[("GGPAGER_QUEUE_DEPTH", "2")]);
    outcome.require_code(0);
    Some(outcome)
}

fn group(path: &Path, rate: u64, memory_bytes: Option<u64>) -> Option<Group> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ggpager-load-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let made = Disk::of(path).and_then(|disk| {
        Hierarchy::find()?.create(&name, &Limits { memory_bytes, drive: Some((disk.device, rate)), swap: None })
    });
    let present = made.is_ok();
    let what = format!("a control group for a slow drive ({:?})", made.as_ref().err());
    available(&what, present).then(|| made.expect("present"))
}

#[test]
fn what_is_unmapped_is_not_loaded() {
    let Some(path) = cold_model() else { return };
    let Some(outcome) = load("unmap", &path, 4 * MIB, 5_000_000, None) else { return };
    let stats = stats(&outcome);
    // The loader saw the unmapping after a part of a second's reading.
    assert!(stats.loads == 1 && stats.loads_stopped == 0 && stats.load_bytes < MODEL_BYTES / 2, "{stats:?}");
    assert!(stats.load_bytes >= 4 * MIB, "{stats:?}");
    let pages = cached_pages(&File::open(&path).expect("a model")).expect("it counted before");
    assert!(pages * PAGE < MODEL_BYTES * 3 / 4, "{pages} pages are cached");
}

#[test]
fn a_truncated_file_ends_the_load() {
    let Some(path) = cold_model() else { return };
    let Some(outcome) = load("truncate", &path, 8 * MIB, 5_000_000, None) else { return };
    let stats = stats(&outcome);
    assert!(stats.loads == 1 && stats.loads_stopped == 1 && stats.load_bytes < MODEL_BYTES, "{stats:?}");
}

#[test]
fn other_memory_ends_the_load() {
    let Some(path) = cold_model() else { return };
    let Some(outcome) = load("hog", &path, 480 * MIB, 6_000_000, Some(512 * MIB)) else { return };
    let stats = stats(&outcome);
    assert!(stats.loads == 1 && stats.loads_stopped == 1, "{stats:?}");
    assert!(stats.load_bytes > 0 && stats.load_bytes < MODEL_BYTES, "{stats:?}");
}

#[test]
fn nobody_waits_for_the_loader() {
    let Some(path) = cold_model() else { return };
    let Some(outcome) = load("exit", &path, 0, 5_000_000, None) else { return };
    let stats = stats(&outcome);
    assert!(stats.loads == 1 && stats.load_bytes < MODEL_BYTES, "{stats:?}");
}

#[test]
fn children_have_the_bytes_and_no_loader() {
    let Some(path) = cold_model() else { return };
    let Some(outcome) = load("fork", &path, 0, 20_000_000, None) else { return };
    let stats = stats(&outcome);
    assert!(stats.loads == 1 && stats.load_bytes == MODEL_BYTES, "{stats:?}");
}

/// The hooks' hazards, on a model that is being loaded.
#[test]
fn programs_do_not_notice() {
    for name in ["fork", "fragments", "remap", "twice", "storm"] {
        let Some(path) = cold_model() else { return };
        let Some(outcome) = slow(&compile(name, false), &[path.to_path_buf().into()], &path, 60_000_000, None) else {
            return;
        };
        let stats = stats(&outcome);
        eprintln!("{name}: {stats:?}");
        assert!(stats.loads > 0 && stats.views == 0, "{name}: {stats:?}");
    }
}

/// Runs llama-completion on a model that is not cached; its output when it was loaded.
fn cold_completion(program: &Path, model: &llama::Model, args: &[OsString]) -> Option<Output> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(model.path.parent().expect("a folder"))
        .expect("readable")
        .map(|entry| entry.expect("readable").path())
        .collect();
    let name = model.path.file_name().expect("a name").to_string_lossy().into_owned();
    files.retain(|file| {
        let other = file.file_name().expect("a name").to_string_lossy();
        // The parts of a split model: the same name up to the number.
        name.split_once("-00001-of-").map_or(other == name, |(stem, _)| other.starts_with(&format!("{stem}-0000")))
    });
    assert_eq!(files.len(), model.files, "{files:?}");
    files.iter().for_each(|file| drop_from_cache(&File::open(file).expect("a model")));
    let left = cached_pages(&File::open(&files[0]).expect("a model"))?;
    if !available("a page cache that can be emptied", left == 0) {
        return None;
    }
    let outcome = run(AUTO, &[], program, args, &[("OMP_WAIT_POLICY", "PASSIVE")]);
    let stats = stats(&outcome);
    assert!(stats.loads >= model.files as u64 && stats.views == 0, "{stats:?}");
    assert!(stats.load_read_bytes > 0 && stats.loads_stopped == 0, "{stats:?}");
    Some(outcome.output)
}

/// Whether the program's help has this word.
fn knows(program: &Path, word: &str) -> bool {
    let help = Command::new("timeout").args(["30".as_ref(), program.as_os_str(), "--help".as_ref()]).output();
    let help = help.expect("timeout runs");
    [help.stdout, help.stderr].iter().any(|text| memchr::memmem::find(text, word.as_bytes()).is_some())
}

#[test]
fn llama_cpp_says_the_same() {
    let Some(program) = llama::tool("llama-completion") else { return };
    let lock: &[&str] = if knows(&program, "--load-mode") { &["--load-mode", "mmap+mlock"] } else { &["--mlock"] };
    let split = llama::dense(145_000_000, Some(40_000_000));
    for (model, more) in [
        (llama::model(Arch::Llama), &[][..]),
        (llama::model(Arch::Llama), lock),
        (llama::model(Arch::Llama), &["--check-tensors"]),
        (split, &[]),
    ] {
        let args = llama::greedy(model, "8", more);
        let Some(output) = cold_completion(&program, model, &args) else { return };
        llama::require_same_text(&llama::stock(&program, &args), &output, &format!("{more:?}"));
    }
}
