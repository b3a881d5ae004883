//! `ggpager run` as a user meets it: exit codes, signals, bad values and the program's environment.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// A shared object that does nothing: `run` only has to find and preload it.
fn library() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("libggpager.so");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-x", "c", "/dev/null", "-o"]).arg(&out).status();
        assert!(built.unwrap().success());
        folder
    });
    folder.path().join("libggpager.so")
}

/// `ggpager run OPTIONS -- COMMAND` without the variables of whoever runs the tests, and without the signals
/// that are ignored there (nohup, a job in the background): a shell cannot trap those.
fn ggpager(options: &[&str], command: &[&str]) -> Command {
    let mut run = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["GGPAGER", "LLAMA_ARG", "OMP", "GOMP", "KMP", "LD_PRELOAD"].iter().any(|prefix| text.starts_with(prefix)) {
            run.env_remove(name);
        }
    }
    // SAFETY: the closure calls signal alone, which is async-signal-safe.
    unsafe {
        run.pre_exec(|| {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    run.env("GGPAGER_LIB", library()).arg("run").args(options).arg("--").args(command);
    run
}

fn shell(options: &[&str], script: &str) -> Command {
    ggpager(options, &["/bin/sh", "-c", script])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn exit_codes_pass_through() {
    for code in [0, 1, 2, 77, 255] {
        assert_eq!(shell(&[], &format!("exit {code}")).status().unwrap().code(), Some(code));
    }
    assert_eq!(ggpager(&[], &["/no/such/program"]).output().unwrap().status.code(), Some(127));
    assert_eq!(ggpager(&[], &["/etc/passwd"]).output().unwrap().status.code(), Some(126));
}

#[test]
fn death_by_a_signal_passes_through() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV, libc::SIGABRT, libc::SIGINT] {
        let status = shell(&[], &format!("ulimit -c 0; kill -{signal} $$")).status().unwrap();
        assert_eq!(status.signal(), Some(signal), "{status:?}");
    }
}

/// Starts `script`, which must print a line once it is ready, and waits for that line.
fn start(script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = shell(&[], script).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, lines)
}

fn send(child: &Child, signal: i32) {
    // SAFETY: kill has no memory effects; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn signals_are_passed_on_and_the_program_decides() {
    for (signal, name) in [
        (libc::SIGINT, "INT"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGHUP, "HUP"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGWINCH, "WINCH"),
    ] {
        // Bounded, so that a signal that never arrives shows as a wrong line and not as a hang.
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; i=0; while [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done"
        );
        let (mut child, mut lines) = start(&script);
        send(&child, signal);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, format!("got {name}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(9), "{name}");
    }
}

#[test]
fn an_ignored_signal_stays_ignored_and_the_mask_is_inherited() {
    // No shell: dash clears the mask.
    let mut command = ggpager(&[], &["grep", "-E", "SigIgn|SigBlk", "/proc/self/status"]);
    // SAFETY: the closure calls signal and sigprocmask alone, both async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
            Ok(())
        });
    }
    let text = stdout(&command.output().unwrap());
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(field("SigIgn") & 1, 1, "SIGHUP is ignored: {text}");
    assert_eq!(field("SigBlk"), 1 << (libc::SIGUSR2 - 1), "{text}");
}

#[test]
fn bad_values_end_with_2_before_the_program_starts() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("started");
    let script = format!("touch {}", mark.display());
    for (option, value) in [
        ("--budget", "lots"),
        ("--strategy", "fast"),
        ("--trace", "/no/such/folder/trace"),
        ("--stats", "/no/such/folder/stats"),
        ("--match", "[a"),
        ("--fill", "spoon"),
        ("--io", "floppy"),
        ("--trace-limit", "much"),
        ("--grain", "12K"),
        ("--queue-depth", "0"),
        ("--read-size", "5000"),
        ("--replicas", "/no/such/file"),
        ("--log", "loud"),
        ("--omp-spin", "fast"),
    ] {
        let output = shell(&[option, value], &script).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(stderr(&output).contains(value), "{option}: {}", stderr(&output));
    }
    for (name, value) in [("GGPAGER", "maybe"), ("GGPAGER_BUDGET", "0"), ("GGPAGER_ORDER_CACHE", "x")] {
        let output = shell(&[], &script).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
    assert!(!mark.exists());
}

#[test]
fn the_program_sees_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    let options = ["--budget", "50%", "--strategy", "demand", "--stats", stats.to_str().unwrap()];
    let output = shell(&options, "env").env("GGPAGER_BUDGET", "1G").env("GGPAGER_IO", "pread").output().unwrap();
    let text = stdout(&output);
    for line in [
        "GGPAGER_BUDGET=50%",
        "GGPAGER_STRATEGY=demand",
        "GGPAGER_IO=pread",
        &format!("GGPAGER_STATS={}", stats.display()),
        "LLAMA_ARG_REPACK=0",
        "LLAMA_ARG_NO_REPACK=1",
        "GOMP_SPINCOUNT=10000",
        "KMP_BLOCKTIME=1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    let text = stdout(&shell(&["--omp-spin", "default"], "env").env("LLAMA_ARG_REPACK", "1").output().unwrap());
    assert!(!text.contains("GOMP_SPINCOUNT") && !text.contains("LLAMA_ARG_NO_REPACK"), "{text}");
}

#[test]
fn the_library_is_preloaded_first() {
    let output = shell(&[], "echo $LD_PRELOAD; cat /proc/self/maps").output().unwrap();
    let text = stdout(&output);
    let library = library().canonicalize().unwrap();
    assert_eq!(text.lines().next(), library.to_str());
    assert!(text.lines().skip(1).any(|line| line.ends_with(library.to_str().unwrap())), "{text}");

    let other = tempfile::tempdir().unwrap();
    let other = other.path().join("other.so");
    std::fs::copy(&library, &other).unwrap();
    let output = shell(&[], "echo $LD_PRELOAD").env("LD_PRELOAD", &other).output().unwrap();
    assert_eq!(stdout(&output).trim(), format!("{}:{}", library.display(), other.display()));
}

#[test]
fn a_missing_library_is_a_clear_error() {
    let output = shell(&[], "echo ran").env("GGPAGER_LIB", "/no/such/lib.so").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/no/such/lib.so") && stdout(&output).is_empty(), "{}", stderr(&output));
}

#[test]
fn warnings_and_hints_can_be_silenced() {
    let folder = tempfile::tempdir().unwrap();
    let bench = folder.path().join("llama-bench");
    std::os::unix::fs::symlink("/bin/true", &bench).unwrap();
    let bench = bench.to_str().unwrap();
    let hint = |output: Output| stderr(&output).contains("--repack 0");
    assert!(hint(ggpager(&[], &[bench]).output().unwrap()));
    assert!(!hint(ggpager(&["--quiet"], &[bench]).output().unwrap()));
    assert!(!hint(ggpager(&[], &[bench, "--repack", "1"]).output().unwrap()));
    let output = shell(&[], "true").env("GGPAGER_BUGDET", "1G").output().unwrap();
    assert!(stderr(&output).contains("GGPAGER_BUGDET"), "{}", stderr(&output));
}

#[test]
fn a_static_program_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("nothing.c");
    std::fs::write(&source, "int main(void) { return 5; }\n").unwrap();
    let program = folder.path().join("nothing");
    let built = Command::new("cc").arg("-static").arg(&source).arg("-o").arg(&program).output().unwrap();
    if !built.status.success() {
        eprintln!("skipped: this machine has no static C library");
        assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
        return;
    }
    let output = ggpager(&[], &[program.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("statically linked"), "{}", stderr(&output));
}
