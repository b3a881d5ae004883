//! `ggpager top` on running programs.

use std::path::Path;
use std::process::{Command, Output};

use crate::program::Program;
use crate::support::PAGED;

fn top(program: &Program, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    command.arg("top").args(args).env("XDG_RUNTIME_DIR", &program.runtime_folder).env_remove("GGPAGER_LOG");
    command.output().expect("it runs")
}

#[test]
fn one_sample_without_a_terminal() {
    let mut program = Program::start(PAGED[0], |_| {});
    let pid = program.pid().to_string();
    // Others may run pagers on this machine: theirs are listed, too.
    for args in [&["--interval", "0.1"] as &[&str], &["--once", "--interval", "0.1"], &["--interval", "0.1", &pid]] {
        let output = top(&program, args);
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.lines().next().is_some_and(|line| line.contains("PID") && line.contains("STALLED")), "{text}");
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(&pid)).expect("a row");
        assert!(row.contains("model.gguf") && row.contains("demand") && row.contains("33.55 MB"), "{row}");
        assert!(!text.contains('\x1b'), "nothing for terminals: {text:?}");
    }
    program.end();
}

#[test]
fn json_has_every_counter_and_the_rates() {
    let mut program = Program::start(PAGED[0], |_| {});
    program.read_until(|page| page.counters.threads_waiting == 0);
    let output = top(&program, &["--json", "--interval", "0.1", &program.pid().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["pid"], program.pid());
    assert_eq!(rows[0]["strategy"], "demand");
    assert!(rows[0]["model"].as_str().is_some_and(|path| Path::new(path).is_absolute()));
    assert!(rows[0]["read_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(rows[0]["rates"]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    program.end();
}

#[test]
fn no_pager_is_a_message_and_an_exit_code() {
    let mut program = Program::start(PAGED[0], |_| {});
    program.child.kill().expect("a child");
    program.child.wait().expect("a child");
    for pid in [program.pid(), std::process::id()] {
        let output = top(&program, &[&pid.to_string()]);
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout.is_empty());
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("ggpager: there is no pager in process {pid}\n"));
    }
    assert_eq!(top(&program, &["--interval", "0"]).status.code(), Some(2));
}

#[test]
fn a_page_that_cannot_be_read_is_an_error() {
    let mut program = Program::start(PAGED[0], |_| {});
    std::fs::write(program.runtime_folder.join("ggpager").join(std::process::id().to_string()), "no page")
        .expect("ours");
    let output = top(&program, &[&std::process::id().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a page of ggpager"), "{output:?}");
    assert_eq!(top(&program, &["--once", "--interval", "0.1"]).status.code(), Some(0), "the others are shown");
    program.end();
}
