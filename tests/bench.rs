//! `ggpager bench` with a workload that only pretends: a script that prints tokens and figures, so
//! that what is tested is the bench and not a model. Only servers are real.

#[allow(dead_code)]
mod support;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

const IN_MEMORY: &str = "in memory, -t 2";
const STOCK: &str = "stock, own readahead, -t 2";

/// A header without tensors, and enough bytes behind it to measure a drive with.
fn model(folder: &Path) -> PathBuf {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([0u8; 16]);
    bytes.resize(1 << 20, 0);
    let path = folder.join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A program that is `script`.
fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A llama-completion that runs `script` for its text.
fn llama(folder: &Path, script: &str) {
    let figures =
        "echo 'perf: prompt eval time = 40.0 ms / 4 tokens' >&2\necho 'perf:  eval time = 30.0 ms / 3 runs' >&2";
    program(folder, "llama-completion", &format!("{script}\n{figures}"));
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
    command.args(["--request-size", "64KiB", "--ceiling-time", "0.05", "--stock-readahead", "own"]);
    if !options.contains(&"--rounds") {
        command.args(["--rounds", "2"]);
    }
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
    llama(folder, "for t in one two three four; do printf ' %s' $t; sleep 0.1; done");
    let files = ["json", "md", "svg"].map(|ending| folder.join(format!("out.{ending}")).display().to_string());
    let options =
        ["-t", "2", "-s", "demand,readahead", "--json", &files[0], "--markdown", &files[1], "--svg", &files[2]];
    let output = bench(folder, &options).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&files[0]).unwrap()).unwrap();
    assert_eq!(json["rounds"].as_array().unwrap().len(), 2);
    let of_round = |round: usize| -> Vec<_> {
        let records = json["rounds"][round]["records"].as_array().unwrap();
        records.iter().map(|record| record["contender"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of_round(0), [IN_MEMORY, STOCK, "ggpager demand, -t 2", "ggpager readahead, -t 2"]);
    assert_eq!(of_round(1), [IN_MEMORY, "ggpager demand, -t 2", "ggpager readahead, -t 2", STOCK]);
    assert_eq!(json["summaries"][2]["ms_per_token"], 10.0);
    assert_eq!(json["summaries"][2]["text"], "identical");
    // The prompt is a phase of its own, and each token is told.
    assert_eq!(json["summaries"][2]["prefill_ms"], 40.0);
    assert_eq!(json["summaries"][2]["prompt_tokens"], 4.0);
    let summaries = json["summaries"].as_array().unwrap().iter();
    assert_eq!(summaries.map(|summary| summary["gaps"].as_array().unwrap().len()).max(), Some(3));
    // A bench that has to wait for a processor may find two tokens at once, but not in all runs.
    let records = json["rounds"].as_array().unwrap().iter().flat_map(|round| round["records"].as_array().unwrap());
    let arrivals = records.map(|record| record["turns"][0]["arrivals"].as_array().unwrap().len());
    assert_eq!(arrivals.max(), Some(4));
    for file in &files[1..] {
        let text = std::fs::read_to_string(file).unwrap();
        for told in ["ggpager readahead", STOCK, "prefill ms", "first token s", "decode x stock"] {
            assert!(text.contains(told), "{told}\n{text}");
        }
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
    let patience = Timespec { tv_sec: 300, tv_nsec: 0 };
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
fn threads_caches_and_spins_are_contenders_of_their_own() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let (log, json) = (folder.path().join("log"), folder.path().join("out.json"));
    let script =
        format!("echo \"${{GOMP_SPINCOUNT:-own}} $*\" >>{}; printf one; sleep 0.01; printf two", log.display());
    llama(folder.path(), &script);
    let options = [
        "-s",
        "demand",
        "-t",
        "3,1",
        "--cache",
        "cold,warm",
        "--spin",
        "run,default",
        "--ubatch",
        "64",
        "--rounds",
        "1",
    ];
    let mut command = bench(folder.path(), &options);
    command.arg("--json").arg(&json);
    ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"].iter().for_each(|name| {
        command.env_remove(name);
    });
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let runs = json["rounds"][0]["records"].as_array().unwrap();
    let names: Vec<_> = runs.iter().map(|record| record["contender"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 14, "{names:?}");
    assert_eq!(
        names[..4],
        [
            "in memory, -t 1",
            "stock, own readahead, -t 1",
            "ggpager demand, -t 1",
            "ggpager demand, OpenMP's spin, -t 1"
        ]
    );
    assert_eq!(names[13], "ggpager demand, warm, OpenMP's spin, -t 3");
    let log = std::fs::read_to_string(log).unwrap();
    for (name, line) in names.iter().zip(log.lines()) {
        let spin = if name.contains("demand") && !name.contains("OpenMP") { "10000 " } else { "own " };
        assert!(line.starts_with(spin) && line.contains(&name[name.len() - 4..]), "{name}\n{line}");
        assert!(line.contains(" -ub 64 "), "{line}");
    }
}

#[test]
fn a_prompt_has_the_length_that_is_asked_for() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let log = folder.path().join("log");
    // Two tokens a word and one for the start.
    program(folder.path(), "llama-tokenize", "set -- $4; echo \"Total number of tokens: $((2 * $# + 1))\"");
    let script =
        format!("while [ $# -gt 0 ]; do [ $1 = -p ] && echo \"$2\" >>{}; shift; done; printf one", log.display());
    llama(folder.path(), &script);
    let output = bench(folder.path(), &["-s", "demand", "--rounds", "1", "--prompt-tokens", "64"]).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.lines().count() == 3 && log.lines().all(|prompt| prompt.split(' ').count() == 31), "{log}");
}

#[test]
fn a_server_that_ends_is_a_failed_run() {
    let folder = tempfile::tempdir_in(".").unwrap();
    program(folder.path(), "llama-server", "echo 'no such model' >&2; exit 7");
    let output =
        bench(folder.path(), &["-s", "demand", "--rounds", "1", "--workload", "turns", "--second-synth", "10M"])
            .output()
            .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(
        show(&output).contains("ggpager demand, -t") && show(&output).contains("exit code 7: no such model"),
        "{}",
        show(&output)
    );
}

/// The report of a comparison with real servers on synthetic models of 40 and 20 MB.
fn servers(workload: &str) -> Option<serde_json::Value> {
    let llama = std::env::var_os("GGPAGER_LLAMA").or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&llama).find(|folder| folder.join("llama-server").is_file());
    support::available("llama-server (in GGPAGER_LLAMA or on PATH)", found.is_some());
    let (program, folder) = (found?, tempfile::tempdir_in(".").unwrap());
    let json = folder.path().join("out.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    command.env("GGPAGER_LIB", support::library()).arg("bench").arg("--llama").arg(program);
    command.args(["--workload", workload, "--synth", "40M", "--second-synth", "20M", "--folder"]).arg(folder.path());
    command.args(["--stock-readahead", "own", "-s", "readahead", "-r", "1", "-n", "16", "--prompt-tokens", "8"]);
    command.args(["--budget", "50%", "--ceiling-time", "0.1", "--json"]).arg(&json);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    // The models went with the comparison.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    Some(serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap())
}

#[test]
fn a_draft_model_shares_the_pool_with_its_main_model() {
    let Some(json) = servers("draft") else { return };
    assert_eq!(json["bounds"].as_array().unwrap().len(), 1, "{json:#}");
    assert_eq!(json["bounds"][0]["name"], "llama-1.gguf + llama-2.gguf");
    let paged = &json["rounds"][0]["records"][2];
    assert_eq!(json["summaries"][2]["text"], "identical", "{json:#}");
    assert_eq!(paged["stats"].as_array().unwrap().len(), 1);
    assert!(paged["stats"][0]["views"].as_u64().unwrap() >= 2, "{paged:#}");
    assert!(paged["turns"][0]["drafted"][0].as_u64().unwrap() > 0, "{paged:#}");
    assert_eq!(paged["turns"][0]["perf"]["prompt"]["count"], 8);
}

#[test]
fn two_servers_by_turns_have_a_lane_each() {
    let Some(json) = servers("turns") else { return };
    assert_eq!(json["bounds"][1]["name"], "llama-2.gguf", "{json:#}");
    let summaries = json["summaries"].as_array().unwrap();
    assert_eq!(summaries.len(), 6);
    for summary in &summaries[4..] {
        assert_eq!(summary["text"], "identical");
        assert!(summary["ms_per_token"].as_f64().unwrap() > 0.0, "{summary:#}");
    }
    let paged = &json["rounds"][0]["records"][2];
    let lanes: Vec<_> = paged["turns"].as_array().unwrap().iter().map(|turn| turn["lane"].as_u64().unwrap()).collect();
    assert_eq!(lanes, [0, 1, 0, 1]);
    assert_eq!(paged["stats"].as_array().unwrap().len(), 2);
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
