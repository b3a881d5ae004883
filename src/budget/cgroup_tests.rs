//! v2 and odd cases on recorded files; v1 on the real kernel where it is mounted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const MIB: u64 = 1 << 20;

/// A recorded machine: `files` are written below a temporary root.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(groups: &str, mountinfo: &str) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("proc/self/cgroup", groups);
        tree.write("proc/self/mountinfo", mountinfo);
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A group of v2 with the shape of a real one.
    fn v2(&self, folder: &str, max: &str, high: &str, current_mib: u64, file_mib: u64) {
        self.write(&format!("{folder}/memory.max"), &format!("{max}\n"));
        self.write(&format!("{folder}/memory.high"), &format!("{high}\n"));
        self.write(&format!("{folder}/memory.current"), &format!("{}\n", current_mib * MIB));
        let (inactive, active) = (file_mib * MIB / 4, file_mib * MIB * 3 / 4);
        let stat = format!("anon 1\nfile {}\ninactive_anon 2\n", file_mib * MIB * 9);
        let stat = format!("{stat}inactive_file {inactive}\nactive_file {active}\nslab_reclaimable {MIB}\n");
        self.write(&format!("{folder}/memory.stat"), &stat);
        self.write(&format!("{folder}/memory.events"), "low 0\nhigh 3\nmax 40\noom 0\noom_kill 0\n");
        self.write(&format!("{folder}/memory.pressure"), "some avg10=2.00 avg60=0 avg300=0 total=9\n");
    }

    fn usage(&self) -> Option<Usage> {
        let mut reader = Reader::default();
        Cgroup::find(self.0.path(), "self", &mut reader)?.usage(&mut reader)
    }
}

const V2_MOUNT: &str = "24 23 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

fn limit(mib: u64) -> String {
    (mib * MIB).to_string()
}

#[test]
fn v2_takes_the_tightest_of_all_ancestors() {
    let tree = Tree::new("0::/user.slice/app.scope\n", V2_MOUNT);
    tree.write("sys/fs/cgroup/memory.stat", "anon 5\n");
    tree.v2("sys/fs/cgroup/user.slice", &limit(4000), "max", 3000, 100);
    tree.v2("sys/fs/cgroup/user.slice/app.scope", &limit(3000), "max", 1000, 400);
    let usage = tree.usage().unwrap();
    // 4000 - (3000 - 101) = 1101 is less than 3000 - (1000 - 401) = 2401.
    assert!(usage.folder.ends_with("user.slice"), "{usage:?}");
    assert_eq!((usage.version, usage.limit_bytes), (Version::V2, Some(4000 * MIB)));
    assert_eq!((usage.reclaimable_bytes, usage.left_bytes), (101 * MIB, Some(1101 * MIB)));
    assert_eq!(usage.limit_hits, 43);
    assert_eq!(usage.pressure.unwrap().some_total_us, 9);

    tree.v2("sys/fs/cgroup/user.slice/app.scope", &limit(3000), &limit(1500), 1000, 400);
    let usage = tree.usage().unwrap();
    assert_eq!((usage.limit_bytes, usage.left_bytes), (Some(1500 * MIB), Some(901 * MIB)), "high counts");
}

#[test]
fn v2_without_limits_leaves_no_number() {
    let tree = Tree::new("0::/a/b\n", V2_MOUNT);
    tree.v2("sys/fs/cgroup/a", "max", "max", 500, 100);
    tree.v2("sys/fs/cgroup/a/b", "max", "max", 100, 10);
    let usage = tree.usage().unwrap();
    assert_eq!((usage.limit_bytes, usage.left_bytes), (None, None));
    assert_eq!(usage.usage_bytes, 100 * MIB, "the own group is reported");
}

#[test]
fn v2_group_without_the_controller_looks_at_its_ancestors() {
    let tree = Tree::new("0::/a/b/c\n", V2_MOUNT);
    tree.write("sys/fs/cgroup/a/b/c/cgroup.procs", "1\n");
    tree.v2("sys/fs/cgroup/a", &limit(200), "max", 50, 0);
    assert_eq!(tree.usage().unwrap().left_bytes, Some(151 * MIB));
}

#[test]
fn usage_beyond_the_limit_leaves_nothing() {
    let tree = Tree::new("0::/a\n", V2_MOUNT);
    tree.v2("sys/fs/cgroup/a", &limit(100), "max", 120, 0);
    assert_eq!(tree.usage().unwrap().left_bytes, Some(0));
    // Statistics that lag behind: more page cache than usage.
    tree.v2("sys/fs/cgroup/a", &limit(100), "max", 10, 50);
    assert_eq!(tree.usage().unwrap().left_bytes, Some(100 * MIB));
}

#[test]
fn a_container_sees_its_group_at_the_mount() {
    // A cgroup namespace: the path is `/`, and the mount itself has a limit.
    let tree = Tree::new("0::/\n", V2_MOUNT);
    tree.v2("sys/fs/cgroup", &limit(300), "max", 100, 0);
    assert_eq!(tree.usage().unwrap().left_bytes, Some(201 * MIB));
    // No namespace: the host's path, and a mount that begins at the container's group.
    let mount = "24 23 0:22 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    for path in ["/docker/1f", "/docker/1f/inner", "/kubepods/elsewhere", "/../1f", "/elsewhere/inner"] {
        let tree = Tree::new(&format!("0::{path}\n"), mount);
        tree.v2("sys/fs/cgroup", &limit(300), "max", 100, 0);
        tree.v2("sys/fs/cgroup/inner", &limit(50), "max", 1, 0);
        let left = if path.ends_with("inner") { 50 } else { 201 };
        assert_eq!(tree.usage().unwrap().left_bytes, Some(left * MIB), "{path}");
    }
}

const HYBRID: &str = "32 31 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      34 32 0:30 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory\n\
                      41 32 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn in_a_hybrid_setup_the_memory_controller_is_where_its_line_says() {
    let tree = Tree::new("8:memory:/j\n2:cpu,cpuacct:/j\n0::/j\n", HYBRID);
    tree.write("sys/fs/cgroup/unified/j/cgroup.procs", "1\n");
    let folder = "sys/fs/cgroup/my memory/j";
    tree.write(&format!("{folder}/memory.limit_in_bytes"), "9223372036854771712\n");
    tree.write(&format!("{folder}/memory.usage_in_bytes"), &limit(80));
    let stat = |hierarchical: &str| {
        let files = format!("inactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}\n", 20 * MIB, 10 * MIB);
        tree.write(&format!("{folder}/memory.stat"), &format!("hierarchical_memory_limit {hierarchical}\n{files}"));
    };
    stat("9223372036854771712");
    let usage = tree.usage().unwrap();
    assert_eq!((usage.version, usage.limit_bytes), (Version::V1, None));
    // The limit of an ancestor that is out of sight.
    stat(&limit(100));
    let usage = tree.usage().unwrap();
    assert_eq!((usage.limit_bytes, usage.left_bytes), (Some(100 * MIB), Some(50 * MIB)));
    // The memory controller has moved to v2: no line of v1.
    tree.write("proc/self/cgroup", "2:cpu,cpuacct:/j\n0::/j\n");
    tree.v2("sys/fs/cgroup/unified/j", &limit(70), "max", 10, 0);
    assert_eq!(tree.usage().unwrap().left_bytes, Some(61 * MIB));
}

#[test]
fn v1_ancestors_that_do_not_account_for_their_children_are_left_out() {
    let tree = Tree::new("8:memory:/p/c\n", HYBRID);
    for (folder, mib) in [("p", 10), ("p/c", 100)] {
        let folder = format!("sys/fs/cgroup/my memory/{folder}");
        tree.write(&format!("{folder}/memory.limit_in_bytes"), &limit(mib));
        tree.write(&format!("{folder}/memory.usage_in_bytes"), "0\n");
    }
    assert_eq!(tree.usage().unwrap().left_bytes, Some(10 * MIB));
    tree.write("sys/fs/cgroup/my memory/p/memory.use_hierarchy", "0\n");
    assert_eq!(tree.usage().unwrap().left_bytes, Some(100 * MIB));
}

#[test]
fn no_controller_and_nonsense_are_no_cgroup() {
    for groups in ["", "nonsense\n", "2:cpu:/\n", "0::/gone\n", "0::relative/../..\n", ":::::\n"] {
        let tree = Tree::new(groups, "garbage\n1 2 3 - cgroup2\n");
        assert_eq!(tree.usage(), None, "{groups:?}");
    }
    let tree = Tree::new("0::/a\n", V2_MOUNT);
    assert_eq!(tree.usage(), None, "mounted nowhere");
}

/// A real group of v1, removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(parent: &Path, name: &str, limit_mib: Option<u64>) -> Group {
        let group = Group(parent.join(name));
        std::fs::create_dir(&group.0).unwrap();
        if let Some(mib) = limit_mib {
            std::fs::write(group.0.join("memory.limit_in_bytes"), limit(mib)).unwrap();
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel refuses while a process is on its way out.
        for _ in 0..1_000_000 {
            if std::fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::yield_now();
        }
        eprintln!("{} stays behind", self.0.display());
    }
}

fn skip(reason: &str) {
    assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none_or(|value| value != "1"), "{reason}");
    eprintln!("skipped: {reason}");
}

#[test]
fn a_real_group_of_v1_is_read_back() {
    let parent = Path::new("/sys/fs/cgroup/memory");
    if !parent.join("memory.limit_in_bytes").exists() {
        return skip("no memory controller of cgroup v1 is mounted at /sys/fs/cgroup/memory");
    }
    if !rustix::process::geteuid().is_root() {
        return skip("making a cgroup needs root");
    }
    let outer = Group::new(parent, &format!("ggpager-test-{}", std::process::id()), Some(128));
    let inner = Group::new(&outer.0, "inner", None);
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    // The child's page cache is charged to its group: 32 MiB, clean after the sync.
    let script = format!(
        "echo $$ > {}/cgroup.procs; head -c {} /dev/zero > {}/file; sync {2}/file; echo ready; read line",
        inner.0.display(),
        32 * MIB,
        folder.path().display()
    );
    let mut child =
        Command::new("sh").arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    let mut reader = Reader::default();
    let group = Cgroup::find(Path::new("/"), &child.id().to_string(), &mut reader).unwrap();
    let usage = group.usage(&mut reader).unwrap();
    std::fs::write(inner.0.join("memory.limit_in_bytes"), limit(64)).unwrap();
    let tighter = group.usage(&mut reader).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    drop(inner);

    assert_eq!((usage.version, usage.limit_bytes), (Version::V1, Some(128 * MIB)));
    assert_eq!(usage.folder, outer.0);
    assert!(usage.usage_bytes >= 30 * MIB && usage.usage_bytes < 128 * MIB, "{usage:?}");
    assert!(usage.reclaimable_bytes >= 24 * MIB, "{usage:?}");
    assert!(usage.left_bytes.unwrap() >= 112 * MIB && usage.left_bytes.unwrap() <= 128 * MIB, "{usage:?}");
    assert_eq!(tighter.limit_bytes, Some(64 * MIB));
    assert!(tighter.folder.ends_with("inner"), "{tighter:?}");
}
