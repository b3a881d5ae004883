//! What a machine may refuse: userfaultfd, io_uring, memory, a sensible budget.

use std::ffi::OsString;
use std::path::Path;

use crate::support::{
    MODEL_BYTES, ORDINARY, Outcome, PAGED, Setting, available, compile, is_root, model, model_of, run,
};

/// Runs the program NAME while the kernel refuses `calls` with EPERM.
fn under_refusal(setting: Setting, calls: &[libc::c_long], name: &str, extra: &[(&str, &str)]) -> Outcome {
    let numbers = calls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let args: [OsString; 3] = [numbers.into(), compile(name, false).into(), model().into()];
    run(setting, &[], &compile("refuse", false), &args, extra)
}

fn messages(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.output.stderr).into_owned()
}

fn allowed(setting: Setting) -> bool {
    !setting.unprivileged || available("root, to run as another user", is_root())
}

/// Without io_uring a few threads read; nothing else changes.
#[test]
fn without_io_uring_threads_read() {
    for setting in PAGED.into_iter().filter(|&setting| allowed(setting)) {
        for name in ["pages", "storm"] {
            let outcome = under_refusal(setting, &[libc::SYS_io_uring_setup], name, &[]);
            let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
            assert_eq!(stats.io_rung, "pread", "{stats:?}");
            assert_eq!(stats.poisoned_pages, 0, "{stats:?}");
            assert_eq!(messages(&outcome), "", "nothing that the user has to know");
        }
    }
}

/// A forced rung that the machine refuses is not replaced in silence: one line, and no paging.
#[test]
fn a_forced_rung_that_is_refused_means_no_paging() {
    let outcome = under_refusal(PAGED[0], &[libc::SYS_io_uring_setup], "twice", &[("GGPAGER_IO", "uring")]);
    require_passed_through(&outcome);
}

fn require_passed_through(outcome: &Outcome) {
    let stats = outcome.require_code(0).stats.clone().expect("statistics of a program that mapped a model");
    assert_eq!((stats.views, stats.strategy.as_str()), (0, "passthrough"), "{stats:?}");
    let lines = messages(outcome);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("ggpager doctor"), "{lines}");
}

/// Without any way to a userfaultfd the model is mapped as usual, and one line says what to do.
#[test]
fn without_userfaultfd_the_mapping_is_ordinary() {
    for setting in PAGED.into_iter().filter(|setting| setting.unprivileged) {
        if !allowed(setting) {
            continue;
        }
        for name in ["pages", "twice", "storm"] {
            require_passed_through(&under_refusal(setting, &[libc::SYS_userfaultfd], name, &[]));
        }
    }
    let both = [libc::SYS_userfaultfd, libc::SYS_io_uring_setup];
    if allowed(PAGED[3]) {
        require_passed_through(&under_refusal(PAGED[3], &both, "pages", &[]));
    }
}

/// Where the system call is refused, `/dev/userfaultfd` serves whoever may open it.
#[test]
fn the_device_stands_in_for_the_system_call() {
    let device = std::fs::File::options().read(true).write(true).open("/dev/userfaultfd").is_ok();
    if !available("/dev/userfaultfd", device) {
        return;
    }
    let outcome = under_refusal(PAGED[0], &[libc::SYS_userfaultfd], "pages", &[]);
    let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
    assert_eq!(stats.fault_mode, "full");
}

/// A user without privileges gets every rung, with faults from user mode alone where
/// `vm.unprivileged_userfaultfd` is 0 and the device is closed to it.
#[test]
fn a_user_without_privileges_has_every_rung() {
    let switch = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd").unwrap_or_default();
    let mode = if switch.trim() == "1" { "full" } else { "user-mode-only" };
    for (setting, rung) in PAGED.into_iter().filter(|setting| setting.unprivileged).zip(["move", "continue", "copy"]) {
        if !allowed(setting) {
            continue;
        }
        for io in ["uring-direct", "uring", "pread"] {
            let outcome = run(setting, &[], &compile("pages", false), &[model().into()], &[("GGPAGER_IO", io)]);
            let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
            let rungs = (stats.fault_mode.as_str(), stats.fill_rung.as_str(), stats.io_rung.as_str());
            assert_eq!(rungs, (mode, rung, io), "{stats:?}");
            assert_eq!(stats.poisoned_pages, 0, "{stats:?}");
            assert_eq!(messages(&outcome), "");
        }
    }
}

/// A budget too small for the window is raised, with one warning, however often the model is mapped.
#[test]
fn a_budget_too_small_is_raised() {
    for name in ["pages", "twice"] {
        let outcome = run(PAGED[0], &[], &compile(name, false), &[model().into()], &[("GGPAGER_BUDGET", "1M")]);
        let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
        assert!(stats.budget_bytes >= 16 << 20, "{stats:?}");
        assert!(stats.pool_peak_bytes <= stats.budget_bytes, "{stats:?}");
        let lines = messages(&outcome);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("too small") && lines.contains(&stats.budget_bytes.to_string()), "{lines}");
    }
}

/// Every variable with a bad value: one warning each that names it, and the default.
#[test]
fn bad_values_are_warnings_and_defaults() {
    let bad = [
        ("GGPAGER", "perhaps"),
        ("GGPAGER_BUDGET", "plenty"),
        ("GGPAGER_STRATEGY", "fast"),
        ("GGPAGER_MATCH", "a[b"),
        ("GGPAGER_FILL", "pour"),
        ("GGPAGER_IO", "telepathy"),
        ("GGPAGER_QUEUE_DEPTH", "0"),
        ("GGPAGER_READ_SIZE", "5000"),
        ("GGPAGER_ORDER_CACHE", "sometimes"),
        ("GGPAGER_LOG", "loud=very"),
    ];
    let outcome = run(ORDINARY[2], &[], &compile("pages", false), &[model().into()], &bad);
    let stats = outcome.require_code(0).stats.clone().expect("statistics of a program that mapped a model");
    assert_eq!(stats.strategy, "passthrough", "auto passes through a model that fits");
    let lines = messages(&outcome);
    for (name, value) in bad {
        let naming: Vec<_> = lines.lines().filter(|line| line.contains(&format!("{name}: \"{value}\""))).collect();
        assert_eq!(naming.len(), 1, "{name}: {lines}");
        assert!(naming[0].starts_with("ggpager: warn: "), "{lines}");
    }
    assert_eq!(lines.lines().count(), bad.len(), "{lines}");
}

/// No memory for more frames: the pool stays as large as it is, and below what a pool needs at least
/// the kernel serves the rest.
#[test]
fn no_memory_for_frames_means_a_smaller_pool() {
    let program = compile("no_room", false);
    // The pager has at most a quarter of its budget more than what it has read.
    let (model, budget) = (model_of(96 << 20), [("GGPAGER_BUDGET", "80M")]);
    for setting in &PAGED[..3] {
        for (before, enough) in [(48 << 20, true), (0, false), (8 << 20, false)] {
            let args = [model.clone().into(), before.to_string().into()];
            let outcome = run(*setting, &[], &program, &args, &budget);
            let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
            let lines = messages(&outcome);
            match stats.fill_rung.as_str() {
                "move" => {
                    assert_eq!(stats.poisoned_pages == 0, enough, "{stats:?}");
                    assert_eq!(stats.budget_bytes < 80 << 20, enough, "{stats:?}");
                    // The short last block gives up a frame's memory once: its slot has its own size.
                    assert!(stats.pool_peak_bytes <= stats.budget_bytes + (2 << 20), "{stats:?}");
                    assert!(lines.contains("no memory"), "{lines}");
                    assert_eq!(lines.lines().count(), 1, "{lines}");
                }
                // Asks for a few frames to read into; what finds none may go to the kernel.
                "copy" => assert!(lines.lines().count() <= 1, "{lines}"),
                // Asks for nothing in advance.
                _ => assert_eq!((stats.poisoned_pages, lines.as_str()), (0, ""), "{stats:?}"),
            }
        }
    }
}

/// Too little address space for the pager is left to the program; with enough of it there is paging.
#[test]
fn too_little_address_space_is_no_end() {
    let program = compile("pages", false);
    for (kilobytes, enough) in [(250 << 10, false), (400 << 10, false), (800 << 10, false), (8 << 20, true)] {
        let script = format!("ulimit -v {kilobytes}; exec {} {}", program.display(), model().display());
        let limited = |setting| run(setting, &[], Path::new("/bin/bash"), &["-c".into(), script.as_str().into()], &[]);
        limited(ORDINARY[0]).require_code(0);
        for setting in &PAGED[..3] {
            let outcome = limited(*setting);
            if enough {
                outcome.require_code(0).require_paged();
            } else {
                require_passed_through(&outcome);
            }
        }
    }
}

const _: () = assert!(MODEL_BYTES > 32 << 20, "the model must not fit into the raised budget");
