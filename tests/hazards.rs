//! One tiny C program for every hazard of a preloaded pager, under settings with and without views.
//!
//! `ordinary` runs them where nothing is paged: the hooks must not be noticed. `paged` runs them on
//! views, by every rung of the fill ladder, as root and as a user without privileges, and requires
//! that views were really made.

#[allow(dead_code)] // what other tests need
mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{ORDINARY, Outcome, PAGED, Setting, available, compile, is_root, model, own_model, run, scratch};

/// Runs `hazard` under every setting of the list that this machine allows.
fn under(settings: &[Setting], hazard: impl Fn(Setting) -> Outcome, check: impl Fn(&Outcome)) {
    for &setting in settings {
        if setting.unprivileged && !available("root, to run as another user", is_root()) {
            continue;
        }
        eprintln!("{setting:?}");
        check(&hazard(setting));
    }
}

/// The program NAME with the shared model and further arguments.
fn simple(name: &str, more: &[&Path]) -> impl Fn(Setting) -> Outcome + use<> {
    let program = compile(name, false);
    let args: Vec<OsString> = std::iter::once(model()).chain(more.iter().copied()).map(OsString::from).collect();
    move |setting| run(setting, &[], &program, &args, &[])
}

/// Declares a hazard: one test in `ordinary` and one in `paged`.
macro_rules! hazards {
    ($($(#[$doc:meta])* $name:ident => $hazard:expr, $code:expr;)*) => {
        mod ordinary {
            use super::*;
            $(
                $(#[$doc])*
                #[test]
                fn $name() {
                    under(&ORDINARY, $hazard, |outcome| { outcome.require_code($code); });
                }
            )*
        }

        mod paged {
            use super::*;
            $(
                $(#[$doc])*
                #[test]
                fn $name() {
                    under(&PAGED, $hazard, |outcome| { outcome.require_code($code).require_paged(); });
                }
            )*
        }
    };
}

hazards! {
    /// A constructor inside dlopen waits for a thread that calls every hook first.
    dlopen_constructor => {
        let plugin = compile("dlopen_plugin", true);
        simple("dlopen_advise", &[&plugin])
    }, 0;
    /// A library that is loaded for its loader alone sets ggml's callback: it arrives.
    callbacks_arrive => {
        let library = compile("ggml_stub", true);
        simple("dlopen_ggml", &[&library])
    }, 0;
    /// Hooks are called before the library's own constructor.
    before_our_constructor => early(), 0;
    /// Thread-local storage whose destructors allocate and read the view.
    thread_local_storage => simple("tls", &[]), 0;
    /// Children by fork, vfork, posix_spawn and `_Fork`, with and without exec.
    forked_children => simple("fork", &[]), 0;
    /// A signal handler that reads the view and calls hooks.
    signals_during_faults => simple("signals", &[]), 0;
    /// Partial unmapping, and a stranger's mapping in the hole.
    fragments => simple("fragments", &[]), 0;
    /// mlock, advice and msync, with the kernel's own answers.
    locks_and_advice => simple("lock", &[]), 0;
    /// printf that faults under its stream's lock while the pager logs.
    stdio_that_faults => {
        let program = compile("stdio", false);
        move |setting| run(setting, &[], &program, &[model().into()], &[("GGPAGER_LOG", "trace")])
    }, 0;
    /// The descriptor's number belongs to another file right after mmap.
    descriptor_reused => simple("fd_reuse", &[]), 0;
    /// The file is replaced and removed while it is mapped.
    file_replaced => replaced(), 0;
    /// Every call that writes from the view.
    writes_from_the_view => {
        let program = compile("writes", false);
        move |setting| run(setting, &[], &program, &[model().into(), scratch("written").into()], &[])
    }, 0;
    /// mremap, mprotect and MAP_FIXED on a view.
    remapped => simple("remap", &[]), 0;
    /// Reads through descriptors of the mapped file.
    reads_past_the_mapping => simple("reads", &[]), 0;
    /// Several mappings of one file.
    mapped_twice => simple("twice", &[]), 0;
    /// Fifty threads at once.
    fifty_threads => simple("storm", &[]), 0;
    /// pthread_cancel in hooked calls.
    cancelled_threads => simple("cancel", &[]), 0;
    /// A return from main while nothing runs, with a model that is unmapped by a destructor.
    unmapped_by_a_destructor => exits("return-quiet", &[("UNMAP_AT_END", "1")]), 40;
    /// quick_exit while threads fault.
    exit_quick => exits("quick_exit", &[]), 42;
    /// exit in a thread, after main has ended by pthread_exit.
    exit_in_a_thread => exits("thread", &[]), 43;
    /// A return from main while threads fault.
    exit_by_return => exits("return", &[]), 44;
}

fn early() -> impl Fn(Setting) -> Outcome {
    let (program, library) = (compile("early", false), compile("early_lib", true));
    move |setting| {
        let path = model().to_str().expect("a plain path");
        run(setting, &[&library], &program, &[model().into()], &[("EARLY_MODEL", path)])
    }
}

fn exits(way: &'static str, extra: &'static [(&'static str, &'static str)]) -> impl Fn(Setting) -> Outcome {
    let program = compile("exits", false);
    move |setting| run(setting, &[], &program, &[model().into(), way.into()], extra)
}

fn replaced() -> impl Fn(Setting) -> Outcome {
    let program = compile("replaced", false);
    move |setting| {
        // The folder must let every user rename, which the test's folder does.
        let (path, other) = (own_model(), scratch("other.gguf"));
        let mut zeros = b"GGUF".to_vec();
        zeros.resize(8 << 20, 0);
        std::fs::write(&other, zeros).expect("room for a file");
        run(setting, &[], &program, &[model().into(), path.into(), other.into()], &[])
    }
}

/// Ends that leave no statistics must still be ends, with the right status.
fn abrupt_ends(settings: &[Setting]) {
    let program = compile("exits", false);
    for (way, code) in [("_exit", 41), ("abort", 128 + libc::SIGABRT)] {
        under(
            settings,
            |setting| run(setting, &[], &program, &[model().into(), way.into()], &[]),
            |outcome| {
                outcome.require_code(code);
            },
        );
    }
}

#[test]
fn abrupt_ends_ordinary() {
    abrupt_ends(&ORDINARY);
}

#[test]
fn abrupt_ends_paged() {
    abrupt_ends(&PAGED);
}

/// What a program reads of its model past the mapping is counted, and nothing else is.
#[test]
fn reads_are_counted() {
    let outcome = simple("reads", &[])(PAGED[0]);
    outcome.require_code(0).require_paged();
    assert_eq!(outcome.stats.expect("checked above").program_read_bytes, 3 << 20);
}

/// Statistics are written by the process that mapped a model, and by no other.
#[test]
fn statistics_are_the_mapping_process_own() {
    let program = compile("twice", false);
    let shell = format!("ls / >/dev/null; {} {}; ls / >/dev/null; true", program.display(), model().display());
    let run_shell =
        |setting, script: &str| run(setting, &[], Path::new("/bin/bash"), &["-c".into(), script.into()], &[]);
    let with_model = run_shell(ORDINARY[1], &shell);
    assert!(with_model.require_code(0).stats.is_some(), "passthrough reports as well");
    let each = scratch("each");
    std::fs::create_dir(&each).expect("a folder");
    let twice = format!("export GGPAGER_STATS={}/%p.json; {shell}; {shell}", each.display());
    run_shell(ORDINARY[1], &twice).require_code(0);
    assert_eq!(std::fs::read_dir(&each).expect("the folder").count(), 2, "%p is the process id");
    assert!(run_shell(ORDINARY[1], "ls / >/dev/null").stats.is_none(), "a process without a model wrote statistics");
    assert!(run_shell(ORDINARY[0], &shell).stats.is_none(), "GGPAGER=off wrote statistics");
}

/// Files that are no GGUF are taken when their path matches, and only then.
#[test]
fn matching_files_are_taken() {
    let (program, path) = (compile("stdio", false), scratch("weights.safetensors"));
    std::fs::write(&path, vec![b'x'; 8 << 20]).expect("room for a file");
    let with = |glob| run(PAGED[0], &[], &program, &[path.clone().into()], &[("GGPAGER_MATCH", glob)]);
    with("*.safetensors").require_code(0).require_paged();
    assert!(with("*.bin").require_code(0).stats.as_ref().is_none(), "another file was taken");
}

/// A bad value is one warning that names the variable, and only where a model is mapped.
#[test]
fn bad_values_warn_where_it_matters() {
    let program = compile("twice", false);
    let bad = [("GGPAGER_BUDGET", "plenty"), ("GGPAGER_STRATEGY", "passthrough")];
    let outcome = run(ORDINARY[2], &[], &program, &[model().into()], &bad);
    let messages = String::from_utf8_lossy(&outcome.require_code(0).output.stderr).into_owned();
    assert!(messages.starts_with("ggpager: warn: GGPAGER_BUDGET: \"plenty\" is not"), "{messages}");
    assert_eq!(messages.lines().count(), 1, "{messages}");
    let silent = run(ORDINARY[2], &[], Path::new("/bin/ls"), &["/".into()], &bad);
    assert!(silent.output.stderr.is_empty(), "{silent:?}");
}

fn jemalloc() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = folders.iter().map(|folder| Path::new(folder).join("libjemalloc.so.2")).find(|path| path.exists());
    available("libjemalloc.so.2", found.is_some());
    found
}

/// jemalloc calls mmap, which is our hook, with its own locks held.
fn under_jemalloc(settings: &[Setting], check: impl Fn(&Outcome) + Copy) {
    let Some(jemalloc) = jemalloc() else { return };
    for name in ["storm", "tls", "fork", "signals"] {
        let program = compile(name, false);
        under(settings, |setting| run(setting, &[&jemalloc], &program, &[model().into()], &[]), check);
        // In front of us its constructor runs after ours.
        let front = |setting| {
            let preload = format!("LD_PRELOAD={}:{}", jemalloc.display(), support::library().display());
            let args = [preload.into(), program.clone().into(), OsString::from(model())];
            run(setting, &[], Path::new("/usr/bin/env"), &args, &[])
        };
        under(settings, front, check);
    }
}

#[test]
fn jemalloc_ordinary() {
    under_jemalloc(&ORDINARY, |outcome| {
        outcome.require_code(0);
    });
}

#[test]
fn jemalloc_paged() {
    under_jemalloc(&PAGED[..1], |outcome| {
        outcome.require_code(0).require_paged();
    });
}

/// Everyday programs give the same output and status with the library as without.
#[test]
fn everyday_programs_do_not_notice() {
    let python = "import threading, hashlib, mmap, os, subprocess, tempfile\n\
        out = {}\n\
        def work(i):\n    out[i] = hashlib.sha256(bytes([i]) * (1 << 20)).hexdigest()\n\
        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]\n\
        [t.start() for t in threads]; [t.join() for t in threads]\n\
        f = tempfile.TemporaryFile(); f.write(b'x' * (4 << 20)); f.flush()\n\
        m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n\
        print(sorted(out.items()), hashlib.sha256(m).hexdigest(), subprocess.run(['true']).returncode)\n\
        pid = os.fork()\n\
        if pid == 0: os._exit(7)\n\
        print(os.waitpid(pid, 0)[1])";
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/twice.c");
    let compiled = scratch("compiled");
    let gcc =
        format!("gcc -O1 -c {} -o {} && sha256sum < {}", source.display(), compiled.display(), compiled.display());
    let git = "git init -q r && cd r && echo hello > a && git add a && git -c user.name=n -c user.email=e \
        -c commit.gpgsign=false commit -q -m m && git status --short && git show --stat --format=%s && git gc -q; \
        s=$?; cd .. && rm -rf r; exit $s";
    for (what, script) in [
        ("ls", "ls -la /usr/bin /nonexistent"),
        ("bash", "x=$(for i in 1 2 3; do echo $i; done | sort -r | tr '\\n' ' '); echo \"$x\" | cat; exit 3"),
        ("python3", &format!("python3 -c \"{python}\"")),
        ("git", git),
        ("gcc", &gcc),
    ] {
        if !available(what, Command::new(what).arg("--version").output().is_ok()) {
            continue;
        }
        let folder = scratch("everyday");
        std::fs::create_dir(&folder).expect("a folder");
        let stock = Command::new("bash").args(["-c", script]).current_dir(&folder).output().expect("bash runs");
        let script = format!("cd {} && {{ {script}\n}}", folder.display());
        for setting in ORDINARY {
            let ours = run(setting, &[], Path::new("/bin/bash"), &["-c".into(), script.as_str().into()], &[]).output;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&ours.stdout), text(&stock.stdout), "{what}");
            assert_eq!(text(&ours.stderr), text(&stock.stderr), "{what}");
            assert_eq!(ours.status.code(), stock.status.code(), "{what}");
        }
    }
}
