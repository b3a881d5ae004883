//! `ggpager bench` with a workload that only pretends: a script that prints tokens and figures, so
//! that what is tested is the bench and not a model.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A header without tensors, and enough bytes behind it to measure a drive with.
fn model(folder: &Path) -> PathBuf {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([0u8; 16]);
    bytes.resize(1 << 20, 0);
    let path = folder.join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A llama-completion that runs `script` for its text.
fn llama(folder: &Path, script: &str) {
    let path = folder.join("llama-completion");
    let text = format!(
        "#!/bin/sh\n{script}\necho 'perf: prompt eval time = 40.0 ms / 4 tokens' >&2\necho 'perf:  eval time = 30.0 ms / 3 runs' >&2\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The bench on a pretended model in `folder`, without stock at another readahead (it takes root).
fn bench(folder: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GGPAGER")) {
        command.env_remove(name);
    }
    // Preloading nothing is enough here: the script maps no model.
    let library = folder.join("libggpager.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-x", "c", "/dev/null", "-o"]).arg(&library).status();
    assert!(built.unwrap().success());
    command.env("GGPAGER_LIB", library).env("GGPAGER_LLAMA", folder).arg("bench").arg("-m").arg(model(folder));
    command.args(["--request-size", "64KiB", "--ceiling-time", "0.05", "--rounds", "2", "--stock-readahead", "own"]);
    command.args(options);
    command
}

fn show(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_output_holds_every_contender() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let folder = folder.path();
    llama(folder, "for t in one two three four; do printf ' %s' $t; sleep 0.02; done");
    let files = ["json", "md", "svg"].map(|ending| folder.join(format!("out.{ending}")).display().to_string());
    let options = ["-s", "demand,readahead", "--json", &files[0], "--markdown", &files[1], "--svg", &files[2]];
    let output = bench(folder, &options).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&files[0]).unwrap()).unwrap();
    assert_eq!(json["rounds"].as_array().unwrap().len(), 2);
    let of_round = |round: usize| -> Vec<_> {
        let records = json["rounds"][round]["records"].as_array().unwrap();
        records.iter().map(|record| record["contender"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of_round(0), ["in memory", "stock, own readahead", "ggpager demand", "ggpager readahead"]);
    assert_eq!(of_round(1), ["in memory", "ggpager demand", "ggpager readahead", "stock, own readahead"]);
    assert_eq!(json["summaries"][2]["ms_per_token"], 10.0);
    assert_eq!(json["summaries"][2]["text"], "identical");
    for file in &files[1..] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("ggpager readahead") && text.contains("stock, own readahead"), "{text}");
    }
}

#[test]
fn another_text_is_an_error() {
    let folder = tempfile::tempdir_in(".").unwrap();
    llama(folder.path(), "printf ' one'; printf \" ${GGPAGER_STRATEGY:-two}\"");
    let output = bench(folder.path(), &["-s", "demand"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(show(&output).contains("DIFFERS"), "{}", show(&output));
}

#[test]
fn a_failing_paged_run_is_told_and_is_an_error() {
    let folder = tempfile::tempdir_in(".").unwrap();
    llama(folder.path(), "[ -z \"$GGPAGER_STRATEGY\" ] || { echo 'no such thing' >&2; exit 7; }; printf one");
    let output = bench(folder.path(), &["-s", "demand"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(show(&output).contains("exit code 7: no such thing"), "{}", show(&output));
}

#[test]
fn stopping_it_leaves_nothing_behind() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let mark = folder.path().join("pid");
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let signal = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    // The stock run tells its process and cgroup, and stays until it is killed.
    llama(
        folder.path(),
        &format!(
            "if grep -q ggpager-bench- /proc/self/cgroup || [ -n \"$GGPAGER_STRATEGY\" ]; then \
             (echo $$; cat /proc/self/cgroup) >{}; echo go >{}; exec sleep 1000; fi; printf one",
            mark.display(),
            fifo.display()
        ),
    );
    let mut child = bench(folder.path(), &["-s", "demand", "--memory", "1G"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Until the run under the limit has started (or, without cgroups, the paged one).
    let mut wanted = [PollFd::new(&signal, PollFlags::IN)];
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut wanted, Some(&patience)), Ok(1), "no run has started");
    // SAFETY: kill has no memory effects; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    let text = std::fs::read_to_string(&mark).unwrap();
    let run = text.lines().next().unwrap();
    assert!(!Path::new("/proc").join(run).exists(), "the run is still there");
    for path in
        text.lines().skip(1).filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| path.contains("ggpager"))
    {
        for controller in ["memory", "blkio", "."] {
            let group = Path::new("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/'));
            assert!(!group.exists(), "{}", group.display());
        }
    }
}

#[test]
fn what_it_cannot_do_is_a_clear_error() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let output = bench(folder.path(), &[]).env("GGPAGER_LLAMA", "/no/such/folder").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(show(&output).contains("llama-completion"), "{}", show(&output));
    llama(folder.path(), "printf one");
    let output = bench(folder.path(), &["--budget", "lots"]).output().unwrap();
    assert!(!output.status.success() && show(&output).contains("GGPAGER_BUDGET"), "{}", show(&output));
}
