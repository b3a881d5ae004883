//! Strategy `kernel`: the ordinary mapping with hints. The kernel answers every touch, so what can go
//! wrong is what is done around it: views and their end, the thread, the accounts.

#[allow(dead_code)] // what other tests need
mod support;

use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use ggpager::bench::cgroup::{Hierarchy, Limits};
use ggpager::config::{BudgetSetting, ByteSize, Settings, Strategy};
use ggpager::pager::file::Sharing;
use ggpager::pager::{MapError, Pager, views};
use ggpager::stats::Stats;
use ggpager::synth::{Arch, Quant, Request, WriteOptions};
use support::{Setting, available, compile, library, model, run, word_at};

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// Tests that look at this process' threads or mappings take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A file of `bytes` bytes of known words.
fn make_file(bytes: usize) -> File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary file");
    let mut buffer = Vec::with_capacity(MIB);
    for start in (0..bytes).step_by(MIB) {
        buffer.clear();
        (start..start + MIB).step_by(8).for_each(|at| buffer.extend_from_slice(&word_at(at as u64).to_le_bytes()));
        file.write_all(&buffer[..MIB.min(bytes - start)]).expect("space for the file");
    }
    // Only clean pages can leave the page cache.
    file.sync_all().expect("the file on the drive");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    file
}

fn pager(budget: usize) -> Arc<Pager> {
    let budget = BudgetSetting::Bytes(ByteSize(budget as u64));
    Pager::new(Settings { budget, strategy: Strategy::Kernel, ..Settings::default() })
}

/// Checks the page of the file at `offset`, mapped at `address`.
fn check_page(address: usize, offset: usize) {
    for at in (0..PAGE).step_by(8) {
        // SAFETY: the caller has this page mapped, and it is only read.
        let seen = unsafe { ((address + at) as *const u64).read_volatile() };
        assert_eq!(seen, word_at((offset + at) as u64), "at byte {}", offset + at);
    }
}

/// Whether `address` is mapped at all.
fn is_mapped(address: usize) -> bool {
    let mut state = 0u8;
    // SAFETY: asks about one page, and gets one byte.
    unsafe { libc::mincore(address as *mut libc::c_void, PAGE, &raw mut state) == 0 }
}

/// Bytes of `len` from `address` that are in the page cache.
fn cached_bytes(address: usize, len: usize) -> usize {
    let mut state = vec![0u8; len / PAGE];
    // SAFETY: one byte for each page.
    assert_eq!(unsafe { libc::mincore(address as *mut libc::c_void, len, state.as_mut_ptr()) }, 0);
    state.iter().filter(|&&page| page & 1 == 1).count() * PAGE
}

/// Waits until `count` hint threads run: a thread names itself when it starts, and is listed for a
/// moment after it was joined.
fn require_hint_threads(count: usize) {
    let running = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("our threads").flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "ggpager-hints").count()
    };
    let begun = std::time::Instant::now();
    while running() != count {
        assert!(begun.elapsed().as_secs() < 30, "{} hint threads instead of {count}", running());
        std::thread::yield_now();
    }
}

/// What holds after every run.
fn require_sane(stats: &Stats, model_bytes: usize) {
    assert_eq!(stats.strategy, "kernel");
    assert_eq!((stats.fill_rung.as_str(), stats.io_rung.as_str(), stats.fault_mode.as_str()), ("", "", ""));
    assert_eq!(stats.faults_demand + stats.faults_in_flight + stats.faults_staged, 0, "{stats:?}");
    assert!(stats.views > 0 && stats.model_bytes >= model_bytes as u64, "{stats:?}");
    assert!(stats.pool_peak_bytes <= stats.budget_bytes, "{stats:?}");
    assert_eq!(stats.poisoned_pages, 0);
}

#[test]
fn every_byte_is_the_files_and_the_budget_is_kept() {
    let _turn = alone();
    const BYTES: usize = 192 * MIB + 12 * PAGE;
    let file = make_file(BYTES);
    let pager = pager(64 * MIB);
    let base = pager.map(file.as_fd(), 0, BYTES, Sharing::Shared).expect("a view") as usize;
    drop(file);
    assert_eq!(base % (2 * MIB), 0, "blocks are to lie on page tables of their own");
    let pages = BYTES / PAGE;
    // In cycles until the hints have gone round twice; then at random, and backwards.
    let mut rounds = 0;
    while pager.stats().read_bytes < 2 * BYTES as u64 {
        rounds += 1;
        assert!(rounds < 1000, "the hints do not follow: {:?}", pager.stats());
        (0..pages).step_by(3).for_each(|page| check_page(base + page * PAGE, page * PAGE));
    }
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for step in 0..400u64 {
                    let page = word_at((step * 8 + thread + 1) * 8) as usize % pages;
                    check_page(base + page * PAGE, page * PAGE);
                    let page = pages - 1 - (step as usize * 8 + thread as usize);
                    check_page(base + page * PAGE, page * PAGE);
                }
            });
        }
    });
    let stats = pager.stats();
    eprintln!("{rounds} rounds: {stats:?}");
    require_sane(&stats, BYTES);
    assert!(stats.evictions > 0 && stats.reads > 0, "{stats:?}");
    assert!(stats.pager_cpu_s > 0.0 && stats.pager_cpu_s < stats.wall_s, "{stats:?}");
    // What was evicted has left the page cache: the budget, and room for what the kernel itself read
    // in the last moments.
    let cached = cached_bytes(base, BYTES);
    assert!(cached < BYTES, "{cached} of {BYTES} bytes are cached");
    pager.unmap(base, BYTES).expect("unmapping");
    assert!(!views::overlaps(base, BYTES) && !is_mapped(base));
    require_hint_threads(0);
    let after = pager.stats();
    require_sane(&after, BYTES);
    assert!(after.reads >= stats.reads && after.pager_cpu_s >= stats.pager_cpu_s, "{after:?}");
    drop(Arc::into_inner(pager).expect("the last handle"));
}

#[test]
fn parts_can_go_and_the_rest_stays() {
    let _turn = alone();
    const BYTES: usize = 128 * MIB;
    let file = make_file(BYTES);
    let pager = pager(64 * MIB);
    for sharing in [Sharing::Shared, Sharing::Private] {
        // From the middle of a block of the file.
        let offset = 3 * MIB + 5 * PAGE;
        let len = BYTES - offset;
        let base = pager.map(file.as_fd(), offset as u64, len, sharing).expect("a view") as usize;
        assert_eq!(base % (2 * MIB), offset % (2 * MIB));
        require_hint_threads(1);
        let check_all = |from: usize, to: usize| {
            (from..to).step_by(7 * PAGE).for_each(|at| check_page(base + at, offset + at));
        };
        check_all(0, len);
        // The head, a middle, and a tail, none of them whole blocks.
        let (head, middle, hole) = (7 * PAGE, 40 * MIB + 3 * PAGE, 9 * MIB + PAGE);
        let tail = len - 5 * MIB - 2 * PAGE;
        pager.unmap(base, head).expect("unmapping");
        pager.unmap(base + middle, hole - 100).expect("unmapping");
        pager.unmap(base + tail, len - tail).expect("unmapping");
        for (at, mapped) in [
            (0, false),
            (head - PAGE, false),
            (head, true),
            (middle - PAGE, true),
            (middle, false),
            (middle + hole - PAGE, false),
            (middle + hole, true),
            (tail - PAGE, true),
            (tail, false),
        ] {
            assert_eq!(is_mapped(base + at), mapped, "at {at}");
            assert_eq!(views::overlaps(base + at, PAGE), mapped, "at {at}");
        }
        check_all(head, middle);
        check_all(middle + hole, tail);
        // Handed over: still there, but no view any more.
        pager.hand_over(base + head, middle - head).expect("handing over");
        assert!(!views::overlaps(base + head, middle - head));
        check_all(head, middle);
        require_hint_threads(1);
        pager.unmap(base + middle + hole, tail - middle - hole).expect("unmapping");
        require_hint_threads(0);
        check_all(head, middle);
        unmap_ours(base + head, middle - head);
    }
    let stats = pager.stats();
    require_sane(&stats, BYTES - 4 * MIB);
    assert_eq!(stats.views, 2);
}

fn unmap_ours(start: usize, len: usize) {
    // SAFETY: handed over to this test, which reads it no more.
    unsafe { rustix::mm::munmap(start as *mut libc::c_void, len) }.expect("unmapping");
}

#[test]
fn a_panic_leaves_the_ordinary_mapping() {
    let _turn = alone();
    const BYTES: usize = 64 * MIB;
    let file = make_file(BYTES);
    let pager = pager(32 * MIB);
    let base = pager.map(file.as_fd(), 0, BYTES, Sharing::Shared).expect("a view") as usize;
    check_page(base, 0);
    require_hint_threads(1);
    pager.panic_for_test();
    // The thread takes its views off the list before it ends.
    require_hint_threads(0);
    assert!(!views::overlaps(base, BYTES));
    (0..BYTES).step_by(PAGE).for_each(|at| check_page(base + at, at));
    let refused = pager.map(file.as_fd(), 0, BYTES, Sharing::Shared);
    assert!(matches!(refused, Err(MapError::Stopped)), "{refused:?}");
    pager.unmap(base, BYTES).expect("nothing of ours is left to unmap");
    assert!(is_mapped(base), "it is the program's now");
    unmap_ours(base, BYTES);
}

#[test]
fn dropping_the_handle_leaves_the_ordinary_mapping() {
    let _turn = alone();
    const BYTES: usize = 64 * MIB;
    let file = make_file(BYTES);
    let pager = pager(32 * MIB);
    let base = pager.map(file.as_fd(), 0, BYTES, Sharing::Private).expect("a view") as usize;
    drop(Arc::into_inner(pager).expect("the last handle"));
    assert!(!views::overlaps(base, BYTES));
    require_hint_threads(0);
    (0..BYTES).step_by(PAGE).for_each(|at| check_page(base + at, at));
    unmap_ours(base, BYTES);
}

const KERNEL: &[(&str, &str)] = &[("GGPAGER_STRATEGY", "kernel"), ("GGPAGER_BUDGET", "34M")];

/// The hooks' hazards: programs that do to their model what programs do.
#[test]
fn programs_do_not_notice() {
    let setting = Setting { vars: KERNEL, unprivileged: false };
    for name in ["fork", "signals", "fragments", "lock", "fd_reuse", "remap", "twice", "storm", "cancel", "tls"] {
        let outcome = run(setting, &[], &compile(name, false), &[model().into()], &[]);
        eprintln!("{name}");
        outcome.require_code(0).require_paged();
        assert_eq!(outcome.stats.expect("checked").strategy, "kernel");
    }
}

#[test]
fn nobody_in_particular_may_use_it() {
    if !available("root, to run as another user", support::is_root()) {
        return;
    }
    // Neither owner nor writer of the file: mincore says "yes" to everything there.
    let setting = Setting { vars: KERNEL, unprivileged: true };
    let outcome = run(setting, &[], &compile("storm", false), &[model().into()], &[]);
    outcome.require_code(0).require_paged();
}

fn llama(tool: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("GGPAGER_LLAMA").or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(tool)).find(|path| path.is_file());
    available(tool, found.is_some());
    found
}

/// Text of a few greedy tokens; with `stats` by the library under strategy `kernel`.
fn completion(tool: &Path, model: &Path, limits: &Limits, stats: Option<&Path>) -> Option<String> {
    let name = format!("ggpager-kernel-test-{}", std::process::id());
    let group = match *limits == Limits::default() {
        true => None,
        false => match Hierarchy::find().and_then(|hierarchy| hierarchy.create(&name, limits)) {
            Ok(group) => Some(group),
            Err(error) => {
                available(&format!("a control group ({error})"), false);
                return None;
            }
        },
    };
    let mut command = Command::new(tool);
    command
        .args(["-p", "Hello world", "-n", "8", "--temp", "0", "--seed", "1", "--ignore-eos", "-no-cnv"])
        .args(["--no-display-prompt", "-nr", "-t", "2", "-c", "512", "-m"])
        .arg(model)
        .stdin(Stdio::null());
    if let Some(stats) = stats {
        let budget = ("GGPAGER_BUDGET", "64M");
        command.envs([("GGPAGER_STRATEGY", "kernel"), budget]).env("LD_PRELOAD", library()).env("GGPAGER_STATS", stats);
    }
    if let Some(group) = &group {
        group.hold(&mut command);
    }
    let output = command.output().expect("runnable");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {log}", output.status);
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(text.len() > 8, "hardly any text: {text:?}");
    Some(text)
}

/// llama.cpp says the same with hints, also where the model does not fit into the memory limit.
#[test]
fn llama_cpp_says_the_same() {
    let Some(tool) = llama("llama-completion") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for arch in [Arch::Llama, Arch::Qwen3Moe] {
        let out = folder.path().join(format!("{}.gguf", arch.name()));
        let plan = Request::new(&out, arch, Quant::Q4_0, ByteSize(300_000_000)).plan().expect("possible");
        let bytes = plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("writable").bytes;
        let file = File::open(&out).expect("there");
        file.sync_all().expect("the model on the drive");
        let stock = completion(&tool, &out, &Limits::default(), None).expect("no limits, no group");
        for limits in [Limits::default(), Limits { memory_bytes: Some(260 << 20), ..Limits::default() }] {
            // What somebody else has in the page cache is not charged to the group.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
            let stats = folder.path().join("stats.json");
            let Some(text) = completion(&tool, &out, &limits, Some(&stats)) else { continue };
            // The tool loses its last tokens on stdout now and then.
            assert!(stock.starts_with(&text) || text.starts_with(&stock), "{stock:?} became {text:?}");
            let stats = serde_json::from_slice::<Stats>(&std::fs::read(&stats).expect("statistics")).expect("JSON");
            eprintln!("{arch:?} {limits:?}: {stats:?}");
            require_sane(&stats, bytes as usize / 2);
            assert!(stats.evictions > 0 && stats.read_bytes > 0, "{stats:?}");
        }
    }
}
