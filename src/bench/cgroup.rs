//! Control groups that live as long as one run: a memory limit and a drive of fixed speed.
//!
//! Version 1 has one hierarchy a controller, version 2 one for all; mixed systems have both, so
//! each controller is looked up by itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::swap::Swappiness;

/// What a run may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, page cache included.
    pub memory_bytes: Option<u64>,
    /// A disk (`major:minor`) and the rate in bytes per second at which it may be read.
    pub drive: Option<(String, u64)>,
    /// Swap besides the memory; without it a memory limit keeps swap out.
    pub swap: Option<Swap>,
}

/// Swap that a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    /// How much.
    pub bytes: u64,
    /// `vm.swappiness`: how the kernel weighs anonymous memory against page cache, 0 to 200.
    pub swappiness: u32,
}

/// Where one controller's groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parent {
    V1(PathBuf),
    V2(PathBuf),
}

/// Where the groups of this machine are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    memory: Option<Parent>,
    drive: Option<Parent>,
}

impl Hierarchy {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// When `/proc` does not tell.
    pub fn find() -> io::Result<Hierarchy> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Hierarchy { memory: parent(&mounts, &own, "memory", "memory"), drive: parent(&mounts, &own, "blkio", "io") })
    }

    /// Makes a group named `name` with `limits`; nothing when there is nothing to limit.
    ///
    /// # Errors
    /// When a controller is missing, or the right to use it (root).
    pub fn create(&self, name: &str, limits: &Limits) -> io::Result<Group> {
        let mut group = Group { folders: Vec::new(), entrances: Vec::new(), swappiness: None };
        if let Some(bytes) = limits.memory_bytes {
            let (swap_bytes, swappiness) = limits.swap.map_or((0, 0), |swap| (swap.bytes, swap.swappiness));
            let parent = self.memory.as_ref().ok_or_else(|| missing("memory"))?;
            match group.add(parent, name, "memory")? {
                (folder, 1) => {
                    write(&folder, "memory.limit_in_bytes", &bytes.to_string())?;
                    // Absent where swap is not accounted; then swappiness alone keeps swap out.
                    let _ = write(&folder, "memory.memsw.limit_in_bytes", &(bytes + swap_bytes).to_string());
                    let swappiness = write(&folder, "memory.swappiness", &swappiness.to_string());
                    limits.swap.map_or(Ok(()), |_| swappiness)?;
                }
                (folder, _) => {
                    write(&folder, "memory.max", &bytes.to_string())?;
                    let swap_max = write(&folder, "memory.swap.max", &swap_bytes.to_string());
                    if limits.swap.is_some() {
                        swap_max?;
                        // Version 2 has none for each group.
                        group.swappiness = Some(Swappiness::set(swappiness)?);
                    }
                }
            }
        }
        if let Some((device, rate)) = &limits.drive {
            let parent = self.drive.as_ref().ok_or_else(|| missing("block I/O"))?;
            match group.add(parent, name, "io")? {
                (folder, 1) => write(&folder, "blkio.throttle.read_bps_device", &format!("{device} {rate}"))?,
                (folder, _) => write(&folder, "io.max", &format!("{device} rbps={rate}"))?,
            }
        }
        Ok(group)
    }
}

fn missing(controller: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("this machine offers no {controller} controller"))
}

fn write(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Where groups under a controller are made: on version 1 below our own group, on version 2 below
/// the root, since a group with processes in it can have no children with controllers.
fn parent(mounts: &str, own: &str, v1_name: &str, v2_name: &str) -> Option<Parent> {
    // mountinfo: id parent dev root mount-point options... - type source super-options (proc(5)).
    let mounted = |kind: &str, has: &dyn Fn(&str, &Path) -> bool| {
        mounts.lines().find_map(|line| {
            let (mount, rest) = line.split_once(" - ")?;
            let mut rest = rest.split(' ');
            let point = Path::new(mount.split(' ').nth(4)?);
            let options = (rest.next() == Some(kind)).then(|| rest.nth(1))??;
            has(options, point).then(|| point.to_owned())
        })
    };
    if let Some(root) = mounted("cgroup", &|options, _| options.split(',').any(|option| option == v1_name)) {
        let below = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            fields.next()?.split(',').any(|name| name == v1_name).then(|| fields.next())?
        });
        let group = root.join(below.unwrap_or("/").trim_start_matches('/'));
        // In a container the path may be one of the host's.
        return Some(Parent::V1(if group.is_dir() { group } else { root }));
    }
    let lists = |point: &Path| fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
    let root = mounted("cgroup2", &|_, point| lists(point).split_whitespace().any(|name| name == v2_name))?;
    Some(Parent::V2(root))
}

/// A group; removed when dropped, when no process may be left in it.
#[derive(Debug)]
#[must_use = "the group is removed when this is dropped"]
pub struct Group {
    folders: Vec<PathBuf>,
    /// `cgroup.procs` of each folder.
    entrances: Vec<File>,
    swappiness: Option<Swappiness>,
}

/// What the kernel has done for a group's memory so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Paging {
    /// Page faults that had to read: from the file or from swap.
    pub major_faults: u64,
    /// Bytes read from swap; of the whole machine where the kernel does not count for groups.
    pub swapped_in_bytes: u64,
    /// Bytes written to swap; as above.
    pub swapped_out_bytes: u64,
    /// Bytes in pages of nothing but zeros that went to swap without being written (Linux 6.13); as above.
    pub swapped_zeros_bytes: u64,
}

impl Paging {
    /// What has come since `before`.
    pub fn since(self, before: Paging) -> Paging {
        Paging {
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            swapped_in_bytes: self.swapped_in_bytes.saturating_sub(before.swapped_in_bytes),
            swapped_out_bytes: self.swapped_out_bytes.saturating_sub(before.swapped_out_bytes),
            swapped_zeros_bytes: self.swapped_zeros_bytes.saturating_sub(before.swapped_zeros_bytes),
        }
    }
}

/// The number behind `name` in the lines of a `memory.stat` or a `vmstat`.
fn counter(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Group {
    /// What the kernel has done for its memory so far; nothing without a memory limit.
    pub fn paging(&self) -> Option<Paging> {
        let stat = self.folders.iter().find_map(|folder| fs::read_to_string(folder.join("memory.stat")).ok())?;
        let machine = fs::read_to_string("/proc/vmstat").unwrap_or_default();
        let pages = |name: &str| counter(&stat, name).or_else(|| counter(&machine, name)).unwrap_or(0);
        let page_bytes = rustix::param::page_size() as u64;
        Some(Paging {
            major_faults: counter(&stat, "pgmajfault")?,
            swapped_in_bytes: pages("pswpin") * page_bytes,
            swapped_out_bytes: pages("pswpout") * page_bytes,
            swapped_zeros_bytes: pages("swpout_zero") * page_bytes,
        })
    }

    /// Makes the folder unless an earlier controller has made it; gives it with the version.
    fn add(&mut self, parent: &Parent, name: &str, v2_name: &str) -> io::Result<(PathBuf, u8)> {
        let (root, version) = match parent {
            Parent::V1(root) => (root, 1),
            Parent::V2(root) => (root, 2),
        };
        if version == 2 {
            write(root, "cgroup.subtree_control", &format!("+{v2_name}"))?;
        }
        let folder = root.join(name);
        if !self.folders.contains(&folder) {
            fs::create_dir(&folder)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?;
            self.folders.push(folder.clone());
            self.entrances.push(OpenOptions::new().write(true).create(false).open(folder.join("cgroup.procs"))?);
        }
        Ok((folder, version))
    }

    /// Makes `command` start inside the group.
    pub fn hold(&self, command: &mut Command) {
        let entrances: Vec<i32> = self.entrances.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: the closure calls write(2) alone, which is async-signal-safe, on descriptors that
        // `self` keeps open while the caller spawns. "0" means the writing process (cgroups(7)).
        unsafe {
            command.pre_exec(move || {
                for &entrance in &entrances {
                    if libc::write(entrance, b"0".as_ptr().cast(), 1) != 1 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            })
        };
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.folders.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
    }

    /// Memory in use at its most, where there is a limit and the kernel tells (v2: Linux 5.19).
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.number("memory.max_usage_in_bytes").or_else(|| self.number("memory.peak"))
    }

    /// How often the OOM killer has come, where the kernel tells.
    pub fn oom_kills(&self) -> Option<u64> {
        let texts = self.folders.iter().flat_map(|folder| {
            ["memory.oom_control", "memory.events"]
                .map(|file| fs::read_to_string(folder.join(file)).unwrap_or_default())
        });
        texts.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())).next()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.entrances.clear();
        for folder in self.folders.iter().rev() {
            // Version 1: page cache that stays charged would keep the dead group in memory.
            if let Ok(mut file) = OpenOptions::new().write(true).open(folder.join("memory.force_empty")) {
                let _ = file.write_all(b"0");
            }
            // A process that has just been reaped may still be leaving.
            let removed = (0..100).any(|_| match fs::remove_dir(folder) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    false
                }
            });
            if !removed {
                log::error!("{} cannot be removed", folder.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(reason: &str) {
        eprintln!("skipped: {reason}");
        assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none(), "{reason}");
    }

    #[test]
    fn a_run_is_held_by_its_limit_and_the_group_goes_away() {
        let limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
        let name = format!("ggpager-bench-test-{}", std::process::id());
        let group = match Hierarchy::find().and_then(|hierarchy| hierarchy.create(&name, &limits)) {
            Ok(group) => group,
            Err(error) => return skipped(&error.to_string()),
        };
        let mut command = Command::new("cat");
        command.arg("/proc/self/cgroup");
        group.hold(&mut command);
        let output = command.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(&name), "{output:?}");
        // 200 MB of anonymous memory do not fit.
        let mut hog = Command::new("python3");
        hog.args(["-c", "b = bytearray(b'x') * 200_000_000"]);
        group.hold(&mut hog);
        if let Ok(output) = hog.output() {
            assert!(!output.status.success());
            assert!(group.oom_kills().is_none_or(|kills| kills > 0));
            assert!(group.memory_peak_bytes().is_none_or(|bytes| bytes <= 64 << 20));
        }
        let folders = group.folders.clone();
        assert!(folders.iter().all(|folder| folder.is_dir()) && !folders.is_empty());
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    }

    #[test]
    fn version_1_groups_lie_below_our_own() {
        let root = tempfile::tempdir().unwrap();
        let point = root.path().display();
        let mounts = format!("33 32 0:28 / {point} rw,nosuid - cgroup cgroup rw,cpuset,memory\n");
        fs::create_dir(root.path().join("user")).unwrap();
        let own = "4:cpuset,memory:/user\n1:cpu:/other\n";
        assert_eq!(parent(&mounts, own, "memory", "memory"), Some(Parent::V1(root.path().join("user"))));
        assert_eq!(parent(&mounts, "4:memory:/elsewhere\n", "memory", "memory"), Some(Parent::V1(root.path().into())));
        assert_eq!(parent(&mounts, own, "blkio", "io"), None);
    }

    #[test]
    fn version_2_writes_the_files_of_the_kernels_documentation() {
        let root = tempfile::tempdir().unwrap();
        let point = root.path();
        fs::write(point.join("cgroup.controllers"), "cpu io memory\n").unwrap();
        let mounts = format!("30 24 0:26 / {} rw - cgroup2 cgroup2 rw\n", point.display());
        let found = parent(&mounts, "0::/\n", "memory", "memory");
        assert_eq!(found, Some(Parent::V2(point.to_owned())));
        let folder = point.join("g");
        let group = Group { folders: vec![folder.clone()], entrances: Vec::new(), swappiness: None };
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("memory.peak"), "123\n").unwrap();
        fs::write(folder.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
        assert_eq!((group.memory_peak_bytes(), group.oom_kills()), (Some(123), Some(2)));
        fs::write(folder.join("memory.stat"), "pgfault 9\npgmajfault 5\npswpin 2\npswpout 3\nswpout_zero 4\n").unwrap();
        let page_bytes = rustix::param::page_size() as u64;
        let paging = Paging {
            major_faults: 5,
            swapped_in_bytes: 2 * page_bytes,
            swapped_out_bytes: 3 * page_bytes,
            swapped_zeros_bytes: 4 * page_bytes,
        };
        assert_eq!(group.paging(), Some(paging));
        let since = paging.since(Paging { major_faults: 4, ..Paging::default() });
        assert_eq!((since.major_faults, since.swapped_in_bytes), (1, 2 * page_bytes));
        // A plain folder is no cgroup: it is emptied here, not by the kernel.
        fs::remove_dir_all(&folder).unwrap();
    }
}
