//! `ggpager doctor` on this machine: as root, without privileges, and with calls refused by a
//! seccomp filter.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;
const MODEL_BYTES: usize = 8 << 20;
const ADDRESS_SPACE: u64 = 1 << 30;

/// What the child gives up before it becomes the doctor.
#[derive(Clone, Copy, Default)]
struct Without {
    privileges: bool,
    /// System calls that fail with EPERM.
    calls: &'static [libc::c_long],
    huge_pages: bool,
    address_space: bool,
}

struct Outcome {
    code: i32,
    text: String,
}

impl Outcome {
    /// The status word of the line about `name`.
    fn status(&self, name: &str) -> &str {
        let line = self.line(name);
        line.split_whitespace().next().unwrap()
    }

    fn line(&self, name: &str) -> &str {
        let line = self.text.lines().find(|line| line.get(6..).is_some_and(|rest| rest.starts_with(name)));
        line.unwrap_or_else(|| panic!("no line about {name} in:\n{}", self.text))
    }

    fn has(&self, part: &str) {
        assert!(self.text.contains(part), "no {part:?} in:\n{}", self.text);
    }
}

fn doctor(path: &Path, options: &[&str], without: Without) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ggpager"));
    command.arg("doctor").args(options).arg(path);
    // SAFETY: the closure runs in the forked child and makes system calls only.
    unsafe { command.pre_exec(move || give_up(without)) };
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap() + &stderr;
    Outcome { code: output.status.code().unwrap_or_else(|| panic!("{}\n{text}", output.status)), text }
}

fn give_up(without: Without) -> io::Result<()> {
    let check = |code: libc::c_int| if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: each call takes numbers or pointers to locals that outlive it.
    unsafe {
        check(libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(without.huge_pages), 0, 0, 0))?;
        if without.address_space {
            // Enough for the program itself, too little for a view and a pool.
            let limit = libc::rlimit { rlim_cur: ADDRESS_SPACE, rlim_max: ADDRESS_SPACE };
            check(libc::setrlimit(libc::RLIMIT_AS, &limit))?;
        }
        if without.privileges {
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        }
        if !without.calls.is_empty() {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            refuse(without.calls)?;
        }
    }
    Ok(())
}

/// Makes `calls` fail with EPERM from now on, as a container's filter does.
fn refuse(calls: &[libc::c_long]) -> io::Result<()> {
    let word = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    // The call's number is the first word of seccomp_data.
    let mut program = [word(give, 0, 0, libc::SECCOMP_RET_ALLOW); 10];
    assert!(calls.len() * 2 + 2 <= program.len());
    program[0] = word(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    for (at, call) in calls.iter().enumerate() {
        program[1 + at * 2] = word(equal, 0, 1, *call as u32);
        program[2 + at * 2] = word(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A folder that everybody may read, with a file named as a model.
struct Models {
    folder: tempfile::TempDir,
    model: PathBuf,
}

fn models() -> Models {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let model = folder.path().join("large.gguf");
    std::fs::write(folder.path().join("small.gguf"), [1; 4096]).unwrap();
    std::fs::write(folder.path().join("huge.bin"), vec![1; MODEL_BYTES * 2]).unwrap();
    std::fs::write(&model, vec![7; MODEL_BYTES]).unwrap();
    Models { folder, model }
}

fn skip(reason: &str) {
    assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none_or(|value| value != "1"), "{reason}");
    eprintln!("skipped: {reason}");
}

fn setting(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Whether this is root on a machine that grants root everything; says why not.
fn all_granted() -> bool {
    let uring = setting("/proc/sys/kernel/io_uring_disabled");
    let pages = setting("/sys/kernel/mm/transparent_hugepage/enabled");
    let filtered = setting("/proc/self/status").lines().any(|line| line == "Seccomp:\t2");
    let release = setting("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).flat_map(str::parse::<u32>);
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let reasons = [
        (version < (6, 8), "the kernel is older than Linux 6.8"),
        (filtered, "a seccomp filter is in force"),
        (!rustix::process::geteuid().is_root(), "this needs root"),
        (!["", "0"].contains(&uring.as_str()), "kernel.io_uring_disabled is not 0"),
        (!(pages.contains("[madvise]") || pages.contains("[always]")), "huge pages are off"),
    ];
    let reason = reasons.iter().find(|(there, _)| *there);
    reason.inspect(|(_, reason)| skip(reason)).is_none()
}

#[test]
fn root_has_no_obstacle() {
    if !all_granted() {
        return;
    }
    let models = models();
    let seen = doctor(models.folder.path(), &[], Without::default());
    for name in ["userfaultfd", "fill", "huge pages", "io_uring", "direct I/O", "drive", "RAM", "swap", "cgroup"] {
        assert_eq!(seen.status(name), "ok", "{}", seen.text);
    }
    seen.has("full mode, by userfaultfd(2)");
    seen.has("MOVE");
    seen.has("the model of 8.39 MB fits");
    seen.has("All good: a run takes fill move, faults full, I/O uring-direct.");
    assert_eq!(seen.code, 0, "{}", seen.text);
}

#[test]
fn nobody_pages_user_mode_only_and_is_told_the_way_out() {
    if !all_granted() {
        return;
    }
    if setting("/proc/sys/vm/unprivileged_userfaultfd") != "0" {
        return skip("vm.unprivileged_userfaultfd is not 0");
    }
    let models = models();
    let seen = doctor(&models.model, &[], Without { privileges: true, ..Without::default() });
    assert_eq!(seen.status("userfaultfd"), "warn", "{}", seen.text);
    seen.has("user mode only");
    seen.has("mend: sudo sysctl vm.unprivileged_userfaultfd=1");
    seen.has("Works with restrictions: a run takes fill move, faults user-mode-only, I/O uring-direct.");
    assert_eq!(seen.code, 1, "{}", seen.text);
}

#[test]
fn without_io_uring_threads_read() {
    if !all_granted() {
        return;
    }
    let models = models();
    let seen = doctor(&models.model, &[], Without { calls: &[libc::SYS_io_uring_setup], ..Without::default() });
    assert_eq!((seen.status("io_uring"), seen.status("drive")), ("warn", "ok"), "{}", seen.text);
    seen.has("mend: start the container with --security-opt seccomp=unconfined");
    seen.has("I/O pread.");
    assert_eq!(seen.code, 1, "{}", seen.text);
}

#[test]
fn without_userfaultfd_paging_is_impossible() {
    let models = models();
    let without = Without {
        privileges: rustix::process::geteuid().is_root(),
        calls: &[libc::SYS_userfaultfd],
        ..Without::default()
    };
    if std::fs::metadata("/dev/userfaultfd").is_ok_and(|facts| facts.permissions().mode() & 0o006 != 0) {
        return skip("everybody may open /dev/userfaultfd");
    }
    let seen = doctor(&models.model, &[], without);
    assert_eq!(seen.status("userfaultfd"), "fail", "{}", seen.text);
    seen.has("Paging is impossible here");
    assert_eq!(seen.code, 2, "{}", seen.text);
    let json = doctor(&models.model, &["--json"], without);
    let value: serde_json::Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!((value["verdict"].as_str(), value["fill_rung"].as_str()), (Some("passthrough"), Some("")));
    assert_eq!((value["io_rung"].as_str(), value["fault_mode"].as_str()), (Some(""), Some("")));
}

#[test]
fn the_device_serves_where_the_call_is_refused() {
    if !all_granted() {
        return;
    }
    if !Path::new("/dev/userfaultfd").exists() {
        return skip("there is no /dev/userfaultfd");
    }
    let models = models();
    let seen = doctor(&models.model, &[], Without { calls: &[libc::SYS_userfaultfd], ..Without::default() });
    seen.has("full mode, by /dev/userfaultfd");
    assert_eq!(seen.code, 0, "{}", seen.text);
}

#[test]
fn disabled_huge_pages_are_noticed() {
    if !all_granted() {
        return;
    }
    let models = models();
    let seen = doctor(&models.model, &[], Without { huge_pages: true, ..Without::default() });
    assert_eq!(seen.status("huge pages"), "warn", "{}", seen.text);
    assert_eq!(seen.code, 1, "{}", seen.text);
}

#[test]
fn a_limited_address_space_is_an_obstacle() {
    let models = models();
    let sparse = models.folder.path().join("sparse.gguf");
    std::fs::File::create(&sparse).unwrap().set_len(ADDRESS_SPACE).unwrap();
    let seen = doctor(&sparse, &[], Without { address_space: true, ..Without::default() });
    assert_eq!(seen.status("address space"), "fail", "{}", seen.text);
    seen.has("mend: ulimit -v unlimited");
    assert_eq!(seen.code, 2, "{}", seen.text);
}

#[test]
fn json_says_the_same() {
    if !all_granted() {
        return;
    }
    let models = models();
    let seen = doctor(models.folder.path(), &["--json"], Without::default());
    let value: serde_json::Value = serde_json::from_str(&seen.text).unwrap();
    assert_eq!(value["exit_code"].as_i64(), Some(i64::from(seen.code)));
    assert_eq!(value["verdict"], "ok");
    assert_eq!(value["model_bytes"], MODEL_BYTES);
    assert!(value["path"].as_str().unwrap().ends_with("large.gguf"), "{}", seen.text);
    assert_eq!((value["fill_rung"].as_str(), value["io_rung"].as_str()), (Some("move"), Some("uring-direct")));
    assert_eq!((value["rate"]["rung"].as_str(), value["rate"]["direct"].as_bool()), (Some("uring-direct"), Some(true)));
    assert!(value["rate"]["reads"].as_u64().unwrap() > 1, "{}", seen.text);
    assert!(value["machine"]["total_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_folder_without_models_and_a_missing_path() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let seen = doctor(folder.path(), &[], Without::default());
    assert_eq!(seen.status("drive"), "note", "{}", seen.text);
    seen.has("name a model to measure it");
    seen.has("auto gives a large model up to");
    let seen = doctor(&folder.path().join("none.gguf"), &[], Without::default());
    assert_eq!(seen.code, 2, "{}", seen.text);
    seen.has("none.gguf");
}

#[test]
fn a_memory_limit_shows() {
    let parent = Path::new("/sys/fs/cgroup/memory");
    if !parent.join("memory.limit_in_bytes").exists() || !rustix::process::geteuid().is_root() {
        return skip("this needs root and the memory controller of cgroup v1");
    }
    let models = models();
    let group = parent.join(format!("ggpager-doctor-{}", std::process::id()));
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join("memory.limit_in_bytes"), (1u64 << 30).to_string()).unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec {} doctor {}",
        group.display(),
        env!("CARGO_BIN_EXE_ggpager"),
        models.folder.path().display()
    );
    let output = Command::new("sh").arg("-c").arg(script).output();
    // Every process of the group has been waited for; its last traces may take a moment to go.
    let gone = (0..1_000_000).any(|_| {
        std::thread::yield_now();
        std::fs::remove_dir(&group).is_ok()
    });
    assert!(gone, "{} stays behind", group.display());
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let line = text.lines().find(|line| line.contains("  cgroup  ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("limit 1.07 GB") && line.contains("ggpager-doctor-"), "{line}");
}
