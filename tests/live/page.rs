//! The page of real programs, and what is left of it at every end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ggpager::status::{ReadError, Snapshot, list_in, read_in};

use crate::program::{self, KERNEL, Program, runtime_folder};
use crate::support::{MODEL_BYTES, PAGED, available, is_root, library, model, scratch};

#[test]
fn a_page_says_what_the_program_does() {
    for setting in PAGED.into_iter().filter(|setting| !setting.unprivileged).chain([KERNEL]) {
        let mut program = Program::start(setting, |_| {});
        program.tell("read");
        let is_kernel = setting.vars[0].1 == "kernel";
        // The pool has no room for all of it: the second time some is read again. At the end nobody
        // sleeps, and the page says so although nothing happens any more.
        let is_over = |page: &Snapshot| page.counters.threads_waiting == 0 && page.counters.reads_in_flight == 0;
        // Texts come before counters, which the hint thread writes while the program goes on.
        let seen = program.read_until(|page| match is_kernel {
            true => page.counters.views > 0,
            false => page.counters.read_bytes > MODEL_BYTES + 4096 && is_over(page),
        });
        eprintln!("{seen:?}");
        assert_eq!(seen.identity.pid, program.pid());
        assert_eq!(Some(OsStr::new(&seen.texts.program)), program::program().file_name());
        assert_eq!(Path::new(&seen.texts.model), model().canonicalize().expect("there"));
        assert_eq!(seen.texts.strategy, setting.vars[0].1);
        let counters = seen.counters;
        assert_eq!(counters.views, 1);
        assert_eq!(counters.model_bytes, MODEL_BYTES.next_multiple_of(4096));
        assert!(counters.budget_bytes >= 32 << 20 && counters.held_peak_bytes <= counters.budget_bytes);
        if !is_kernel {
            assert_eq!(seen.texts.fill_rung, setting.vars[2].1);
            assert!(!seen.texts.io_rung.is_empty() && !seen.texts.fault_mode.is_empty());
            assert!(counters.held_bytes > 0 && counters.held_bytes <= counters.held_peak_bytes);
            assert!(counters.reads > 0 && counters.evictions > 0 && counters.faults_demand > 0);
            assert!(counters.reading_ns > 0 && counters.reading_ns <= counters.wall_ns);
            assert!(counters.stalled_ns > 0 && counters.stalled_ns <= counters.wall_ns);
        }
        // Once more than the first look: counters only grow.
        program.tell("read");
        program.read_until(|page| is_kernel || page.counters.read_bytes > counters.read_bytes);
        program.end();
        assert!(!program.folder().exists(), "the last page takes the folder along");
    }
}

#[test]
fn a_page_is_its_owners_alone_and_holds_no_descriptor() {
    for setting in PAGED.into_iter().chain([KERNEL]) {
        if setting.unprivileged && !available("root, to run as another user", is_root()) {
            continue;
        }
        // Whatever the umask.
        let mut program = Program::start(setting, |command| {
            // SAFETY: umask has no other effect and cannot fail.
            unsafe {
                command.pre_exec(|| {
                    libc::umask(0);
                    Ok(())
                })
            };
        });
        if !setting.unprivileged {
            program.read_until(|_| true);
        }
        let (file, folder) = (program.file().metadata(), program.folder().metadata());
        let (file, folder) = (file.expect("a page"), folder.expect("a folder"));
        assert_eq!((file.mode() & 0o7777, file.len()), (0o600, 4096));
        assert_eq!(folder.mode() & 0o7777, 0o700);
        assert_eq!(file.uid(), folder.uid());
        let links = std::fs::read_dir(format!("/proc/{}/fd", program.pid())).expect("root or the same user");
        let open: Vec<PathBuf> = links.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
        assert!(!open.iter().any(|path| path.starts_with(program.folder())), "{open:?}");
        if setting.unprivileged {
            let refused = program.read();
            assert!(matches!(refused, Err(ReadError::None(_))), "somebody else's folder: {refused:?}");
        }
        program.end();
    }
}

#[test]
fn every_end_takes_the_page_away_or_leaves_a_stale_one() {
    for (way, code) in [("exit", Some(3)), ("_exit", Some(4)), ("SIGKILL", None)] {
        let mut program = Program::start(PAGED[0], |_| {});
        assert!(program.read().is_ok());
        match code {
            Some(_) => program.say(way),
            None => program.child.kill().expect("a child"),
        }
        assert_eq!(program.child.wait().expect("a child").code(), code);
        assert_eq!(program.file().exists(), way != "exit", "{way}");
        assert!(list_in(&[program.folder()]).is_empty(), "{way}");
        assert!(!program.file().exists(), "listing removes it: {way}");
        assert!(matches!(program.read(), Err(ReadError::None(_))));
    }
}

#[test]
fn a_stale_page_goes_with_a_reading_and_with_the_next_pager() {
    let mut killed = Program::start(PAGED[0], |_| {});
    killed.child.kill().expect("a child");
    killed.child.wait().expect("a child");
    assert!(killed.file().exists());
    let kept = std::fs::read(killed.file()).expect("a page");
    assert!(matches!(killed.read(), Err(ReadError::Stale)));
    assert!(!killed.file().exists());

    std::fs::write(killed.file(), &kept).expect("writable");
    let runtime_folder = killed.runtime_folder.clone();
    let mut next = Program::start(PAGED[0], |command| {
        command.env("XDG_RUNTIME_DIR", &runtime_folder);
    });
    assert!(!killed.file().exists(), "the next pager removes it");
    assert!(runtime_folder.join("ggpager").join(next.pid().to_string()).exists());
    next.end();
}

#[test]
fn children_leave_the_page_alone() {
    for setting in [PAGED[0], KERNEL] {
        let mut program = Program::start(setting, |_| {});
        program.read_until(|_| true);
        for _ in 0..3 {
            program.tell("fork");
            assert!(program.read().is_ok());
            assert_eq!(list_in(&[program.folder()]).len(), 1);
        }
        program.end();
        assert!(!program.file().exists());
    }
}

#[test]
fn the_next_program_of_the_same_process_has_a_page_of_its_own() {
    let mut program = Program::start(PAGED[0], |_| {});
    let before = program.read().expect("a page").counters;
    program.say("exec");
    assert_eq!(program.line(), format!("ready {}\n", program.pid()));
    let after = program.read_until(|page| page.counters.read_bytes >= MODEL_BYTES);
    assert_eq!(after.counters.views, 1);
    assert!(after.counters.published_ns > before.published_ns);
    program.end();
}

#[test]
fn nothing_mapped_is_nothing_in_use() {
    let mut program = Program::start(PAGED[0], |_| {});
    program.tell("unmap");
    program.read_until(|page| page.counters.model_bytes == 0 && page.counters.held_bytes == 0);
    program.end();
}

/// What lies where the page should be is replaced and never written through.
#[test]
fn a_link_in_place_of_the_page_is_not_followed() {
    let (runtime_folder, victim) = (runtime_folder(), scratch("victim"));
    std::fs::write(&victim, "mine").expect("writable");
    std::fs::DirBuilder::new().mode(0o700).create(runtime_folder.join("ggpager")).expect("a folder");
    let script = "ln -s $0 $XDG_RUNTIME_DIR/ggpager/$$ && LD_PRELOAD=$1 exec $2 $3";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(&victim).arg(library()).arg(program::program()).arg(model());
    command.envs(PAGED[0].vars.iter().copied()).env("XDG_RUNTIME_DIR", &runtime_folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let file = runtime_folder.join("ggpager").join(child.id().to_string());
    assert!(file.symlink_metadata().expect("a page").is_file());
    drop(child.stdin.take());
    child.wait().expect("a child");
    assert_eq!(std::fs::read(&victim).expect("still there"), b"mine");
}

/// A folder that is a link, or that others may write to, is not used; the program goes on.
#[test]
fn a_folder_that_cannot_be_trusted_is_not_used() {
    let elsewhere = scratch("elsewhere");
    std::fs::DirBuilder::new().mode(0o700).create(&elsewhere).expect("a folder");
    let link = |folder: &Path| std::os::unix::fs::symlink(&elsewhere, folder.join("ggpager")).expect("a link");
    let open = |folder: &Path| {
        let folder = folder.join("ggpager");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o770)).expect("ours");
    };
    let file = |folder: &Path| std::fs::write(folder.join("ggpager"), "").expect("a file");
    for trap in [&link as &dyn Fn(&Path), &open, &file] {
        let folder = runtime_folder();
        trap(&folder);
        let mut program = Program::start(PAGED[0], |command| {
            command.env("XDG_RUNTIME_DIR", &folder);
        });
        program.tell("read");
        assert!(!folder.join("ggpager").join(program.pid().to_string()).exists());
        assert_eq!(std::fs::read_dir(&elsewhere).expect("a folder").count(), 0);
        // It has fallen back.
        let shm = PathBuf::from(format!("/dev/shm/ggpager-{}", std::fs::metadata("/proc/self").expect("/proc").uid()));
        assert!(read_in(std::slice::from_ref(&shm), program.pid()).is_ok());
        program.end();
        assert!(!shm.join(program.pid().to_string()).exists());
    }
}

/// A program may not write files at all: no page, and no signal.
#[test]
fn a_limit_on_file_sizes_costs_the_page_only() {
    for setting in [PAGED[0], KERNEL] {
        let mut program = Program::start(setting, |command| {
            // SAFETY: setrlimit reads a valid limit and is async-signal-safe.
            unsafe {
                command.pre_exec(|| {
                    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    libc::setrlimit(libc::RLIMIT_FSIZE, &none);
                    Ok(())
                })
            };
        });
        program.tell("read");
        assert!(!program.file().exists());
        program.end();
    }
}
