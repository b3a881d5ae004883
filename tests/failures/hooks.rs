//! Panics inside hooks of the preloaded library (`GGPAGER_INJECT`, in debug builds alone): the program
//! goes on with right bytes, and whatever it maps afterwards stays its own.

use crate::support::{Outcome, PAGED, available, compile, is_root, model, run, scratch};

const HOOKS: [&str; 18] = [
    "mmap",
    "munmap",
    "mprotect",
    "madvise",
    "posix_madvise",
    "posix_fadvise",
    "mlock",
    "mlock2",
    "munlock",
    "msync",
    "read",
    "pread",
    "fread",
    "write",
    "pwrite",
    "writev",
    "mremap",
    "mmap64",
];

/// The program ended well; gives its messages.
fn require_end(outcome: &Outcome) -> String {
    let messages = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
    assert_eq!(outcome.output.status.code(), Some(0), "{messages}");
    messages
}

#[test]
fn a_panic_in_a_hook_is_not_the_programs_end() {
    let program = compile("panics", false);
    for setting in [PAGED[0], PAGED[1], PAGED[2]] {
        let everything = HOOKS[1..].join(",");
        for hooks in HOOKS.iter().copied().chain([everything.as_str(), ""]) {
            eprintln!("{setting:?} {hooks}");
            let written = scratch("written");
            let outcome = run(setting, &[], &program, &[model().into(), written.into()], &[("GGPAGER_INJECT", hooks)]);
            let messages = require_end(&outcome);
            if hooks == "mmap" {
                // The mapping that asks for the pager is the one that panics: there is none.
                assert!(outcome.stats.is_none() && messages.is_empty(), "{messages}");
                continue;
            }
            outcome.require_paged();
            // mremap, fread and mmap64 are not called by the program.
            let called = !["", "mremap", "fread", "mmap64"].contains(&hooks);
            assert_eq!(messages.contains("internal error, falling back"), called, "{messages}");
            assert_eq!(messages.lines().count(), usize::from(called), "{messages}");
        }
    }
}

/// Where the userfaultfd sees faults of user mode alone, a panic in the hooks that write from a view
/// shows as the error that the kernel gives; everything else goes on.
#[test]
fn a_panic_in_a_hook_without_privileges() {
    if !available("root, to run as another user", is_root()) {
        return;
    }
    let program = compile("panics", false);
    for hooks in ["munmap", "mprotect", "madvise", "mlock", "read", "pread"] {
        let args = [model().into(), scratch("written").into()];
        let outcome = run(PAGED[3], &[], &program, &args, &[("GGPAGER_INJECT", hooks)]);
        require_end(&outcome);
        outcome.require_paged();
    }
}
