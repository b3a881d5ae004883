//! What the kernel grants: userfaultfd, io_uring, huge pages, address space.

use std::io;
use std::path::Path;

use super::report::{Check, Status};
use super::userfaultfd::Access;
use crate::config::FillRung;
use crate::pager::region;

/// The way out of a container's system call filter, which no sysctl can lift.
const UNCONFINED: &str = "start the container with --security-opt seccomp=unconfined";

/// The trimmed text of a small kernel file.
pub fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(path)).ok().map(|text| text.trim().to_owned())
}

fn check(name: &'static str, status: Status, finding: impl Into<String>, mend: Option<&str>) -> Check {
    Check { name, status, finding: finding.into(), mend: mend.map(str::to_owned) }
}

/// Who may page, and how completely.
pub fn userfaultfd(access: &io::Result<Access>) -> Vec<Check> {
    const SYSCTL: &str = "sudo sysctl vm.unprivileged_userfaultfd=1";
    let name = "userfaultfd";
    match access {
        Ok(access) => {
            let mode = if access.full {
                check(name, Status::Ok, format!("full mode, by {}", access.by), None)
            } else {
                let finding = "user mode only: the computation pages in full; other system calls that read \
                               the weights directly can fail";
                check(name, Status::Warn, finding, Some(SYSCTL))
            };
            let (status, needs) = match access.fill_rung() {
                FillRung::Move => (Status::Ok, ""),
                FillRung::Continue => (Status::Warn, "; a kernel from Linux 6.8 on would move pages"),
                FillRung::Copy => (Status::Warn, "; a kernel from Linux 6.8 on would move pages instead of copying"),
            };
            let features = access.features().join(" ");
            let kernel = text("/proc/sys/kernel/osrelease").unwrap_or_default();
            let fill = format!("{}: Linux {kernel} has {features}{needs}", access.fill_rung());
            vec![mode, check("fill", status, fill, None)]
        }
        Err(error) => {
            let mend = match error.raw_os_error() {
                Some(libc::ENOSYS) => "use a kernel with CONFIG_USERFAULTFD=y",
                Some(libc::EPERM) => UNCONFINED,
                _ => SYSCTL,
            };
            vec![check(name, Status::Fail, format!("refused: {error}"), Some(mend))]
        }
    }
}

/// Whether this process may have an io_uring, and the check that says so.
pub fn io_uring() -> (bool, Check) {
    let name = "io_uring";
    let error = match io_uring::IoUring::new(8) {
        Ok(_) => return (true, check(name, Status::Ok, "allowed", None)),
        Err(error) => error,
    };
    let disabled = text("/proc/sys/kernel/io_uring_disabled").is_some_and(|value| value != "0");
    let mend = match error.raw_os_error() {
        Some(libc::EPERM) if disabled => "sudo sysctl kernel.io_uring_disabled=0",
        Some(libc::EPERM) => UNCONFINED,
        Some(libc::ENOMEM) => "ulimit -l unlimited",
        _ => "use a kernel from Linux 5.11 on with CONFIG_IO_URING=y",
    };
    (false, check(name, Status::Warn, format!("refused: {error}; threads read instead"), Some(mend)))
}

/// Whether frames can be huge pages: moving one costs as much as moving a page of 4 KiB.
pub fn huge_pages() -> Check {
    let name = "huge pages";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Some(words) = text(path) else {
        let finding = "the kernel has no transparent huge pages: frames are moved page by page";
        return check(name, Status::Warn, finding, Some("use a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y"));
    };
    let chosen = words.split(['[', ']']).nth(1).unwrap_or("unknown");
    let status = text("/proc/self/status").unwrap_or_default();
    // Set by prctl(PR_SET_THP_DISABLE), for instance by a parent that some daemon is.
    let off_here = status.lines().any(|line| line.split_ascii_whitespace().eq(["THP_enabled:", "0"]));
    match chosen {
        _ if off_here => {
            let finding = "switched off for this process and its children: frames are moved page by page";
            check(name, Status::Warn, finding, Some("start from a shell whose parents do not set PR_SET_THP_DISABLE"))
        }
        "always" | "madvise" => check(name, Status::Ok, chosen, None),
        _ => {
            let mend = format!("echo madvise | sudo tee {path}");
            check(name, Status::Warn, format!("{chosen}: frames are moved page by page"), Some(&mend))
        }
    }
}

/// Whether a view of `model_bytes` can be mapped; `None` when nothing stands against it.
pub fn address_space(model_bytes: u64) -> Option<Check> {
    let name = "address space";
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    // The view, and a pool of at most the same size.
    if let Some(limit) = limit.filter(|limit| *limit < region::wanted_bytes(model_bytes, model_bytes)) {
        let finding = format!("limited to {}: too little for view and pool", crate::config::ByteSize(limit));
        return Some(check(name, Status::Fail, finding, Some("ulimit -v unlimited")));
    }
    (text("/proc/sys/vm/overcommit_memory").as_deref() == Some("2")).then(|| {
        let finding = "strict accounting: the view counts in full although it is never filled";
        check(name, Status::Warn, finding, Some("sudo sysctl vm.overcommit_memory=0"))
    })
}
