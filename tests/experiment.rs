//! `ggpager experiment` on a tiny model: what is there is not run again, and nothing is left behind.

#[allow(dead_code)]
mod support;

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ggpager::bench::record::{TextMatch, compare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The verb with its results in `folder`, and llama.cpp's programs from `llama`.
fn experiment(folder: &Path, llama: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GGPAGER")) {
        command.env_remove(name);
    }
    command.env("GGPAGER_LIB", support::library()).arg("experiment").arg("--out").arg(folder.join("results"));
    command.arg("--llama").arg(llama).arg("--folder").arg(folder);
    command.args(["--swap", "64M", "-c", "256", "-n", "40", "-t", "2"]).args(options);
    command
}

fn show(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Folders of control groups whose name contains `name`.
fn groups(root: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let folders = entries.filter_map(|entry| entry.ok()).filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    let found = folders.flat_map(|entry| {
        let own = entry.file_name().to_string_lossy().contains(name).then(|| entry.path());
        own.into_iter().chain(groups(&entry.path(), name)).collect::<Vec<_>>()
    });
    found.collect()
}

/// Nothing of a call with process id `process` is left, and nothing but its results in `folder`.
fn require_clean(folder: &Path, process: u32) {
    let swaps = fs::read_to_string("/proc/swaps").expect("readable");
    assert!(!swaps.contains(&*folder.to_string_lossy()), "{swaps}");
    let groups = groups(Path::new("/sys/fs/cgroup"), &format!("ggpager-bench-{process}"));
    assert!(groups.is_empty(), "{groups:?}");
    let left = fs::read_dir(folder).expect("readable").filter_map(|entry| entry.ok()).map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("ggpager-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Lets `command` run to its end, which must be a good one; gives its output and process id.
fn done(mut command: Command) -> (Output, u32) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runnable");
    let process = child.id();
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", show(&output));
    (output, process)
}

fn real_llama() -> Option<PathBuf> {
    let folders = std::env::var_os("GGPAGER_LLAMA").or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&folders).find(|folder| folder.join("llama-completion").is_file());
    let present = support::available("llama-completion (in GGPAGER_LLAMA or on PATH)", found.is_some());
    found.filter(|_| present && support::available("root, for control groups and swap", support::is_root()))
}

#[test]
fn a_matrix_goes_on_where_it_stopped() {
    let Some(llama) = real_llama() else { return };
    support::library(); // The time that a build takes is no hang.
    let _watchdog = support::Watchdog::new("a_matrix_goes_on_where_it_stopped");
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let folder = folder.path().canonicalize().expect("there");
    let axes = ["-m", "llama:24M", "--memory", "75", "--swappiness", "60", "-s", "memory,stock-128,learned"];
    let (output, process) = done(experiment(&folder, &llama, &axes));
    require_clean(&folder, process);
    let results = folder.join("results/results.csv");
    let first = fs::read_to_string(&results).expect("written");
    let mut reader = csv::Reader::from_reader(first.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let cell = |row: usize, name: &str| {
        rows[row].get(header.iter().position(|it| it == name).expect("a column")).expect("a cell").to_owned()
    };
    assert_eq!(rows.len(), 3, "{first}\n{}", show(&output));
    for (row, way) in ["memory", "stock-128", "learned"].into_iter().enumerate() {
        assert_eq!((cell(row, "way"), cell(row, "failure")), (way.to_owned(), String::new()), "{first}");
        assert!(cell(row, "tokens_per_s").parse::<f64>().expect("a number") > 0.0, "{first}");
        // llama-completion loses its last tokens now and then, in any of the runs.
        let same = compare(cell(row, "text").as_bytes(), cell(0, "text").as_bytes());
        assert!(matches!(same, TextMatch::Identical | TextMatch::Shorter(_)), "{same:?}\n{first}");
    }
    // Only a run with limits has a group, and only the pager counts its reads.
    assert_eq!(cell(0, "major_faults"), "");
    assert!(cell(1, "major_faults").parse::<u64>().expect("a number") > 0, "{first}");
    assert!(cell(2, "request_bytes").parse::<f64>().expect("a number") > 0.0, "{first}");
    let html = fs::read_to_string(folder.join("results/report.html")).expect("written");
    assert!(html.contains("tokens per second by memory") && html.contains("<svg"), "{html}");

    let (output, process) = done(experiment(&folder, &llama, &axes));
    assert!(!show(&output).contains("ms per token"), "{}", show(&output));
    assert_eq!(fs::read_to_string(&results).expect("there"), first);
    require_clean(&folder, process);

    let more = [&axes[..], &["--lock", "none,spread:25"]].concat();
    let (output, _) = done(experiment(&folder, &llama, &[&more[..], &["--dry-run"]].concat()));
    assert!(show(&output).contains("1 runs and 0 measurements"), "{}", show(&output));
    let (_, process) = done(experiment(&folder, &llama, &more));
    let second = fs::read_to_string(&results).expect("there");
    let new = second.strip_prefix(&first).expect("what was there stays");
    assert!(new.lines().count() == 1 && new.contains(",stock-128,spread:25,"), "{new}");
    require_clean(&folder, process);
}

#[test]
fn stopping_it_leaves_nothing_behind() {
    if !support::available("root, for control groups and swap", support::is_root()) {
        return;
    }
    support::library(); // The time that a build takes is no hang.
    let _watchdog = support::Watchdog::new("stopping_it_leaves_nothing_behind");
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let folder = folder.path().canonicalize().expect("there");
    let fifo = folder.join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).expect("a fifo");
    let signal = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("there");
    // A run that stays until it is killed.
    let program = folder.join("llama-completion");
    fs::write(&program, format!("#!/bin/sh\necho $$ >{}; exec sleep 1000\n", fifo.display())).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let model = folder.join("model.gguf");
    fs::write(&model, [b"GGUF\x03\0\0\0".to_vec(), vec![0; 4 << 20]].concat()).expect("written");
    let model = model.to_string_lossy().into_owned();
    let axes = ["-m", &model, "--memory", "75", "--swappiness", "60", "-s", "stock-128", "--lock", "prefix:25"];
    let mut child = experiment(&folder, &folder, &axes).stdout(Stdio::null()).spawn().expect("runnable");
    let mut wanted = [PollFd::new(&signal, PollFlags::IN)];
    let patience = Timespec { tv_sec: 300, tv_nsec: 0 };
    assert_eq!(poll(&mut wanted, Some(&patience)), Ok(1), "no run has started");
    // The run has swap, a group, and a part of its model is locked.
    let swaps = fs::read_to_string("/proc/swaps").expect("readable");
    assert!(swaps.contains(&*folder.to_string_lossy()), "{swaps}");
    let name = format!("ggpager-bench-{}", child.id());
    let inside = groups(Path::new("/sys/fs/cgroup"), &name)
        .iter()
        .map(|group| fs::read_to_string(group.join("cgroup.procs")).expect("readable").lines().count())
        .max();
    assert_eq!(inside, Some(2), "the run and what locks");
    // SAFETY: kill has no memory effects; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let process = child.id();
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + libc::SIGINT));
    require_clean(&folder, process);
}
