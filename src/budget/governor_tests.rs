//! The governor on recorded files: what they say reaches the rule.

use super::*;

const MB: u64 = 1_000_000;

/// A machine of 24 GB with cgroup v2, below a temporary root.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("proc/self/cgroup", "0::/outer/inner\n");
        tree.write("proc/self/mountinfo", "24 23 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n");
        tree.machine(20_000, 0, 0);
        tree.stalled("proc/pressure/memory", 0);
        for folder in ["outer", "outer/inner"] {
            tree.group(folder, "max", "max", 100);
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn machine(&self, available_mb: u64, swap_mb: u64, swap_free_mb: u64) {
        let line = |key, mb: u64| format!("{key}:{:>16} kB\n", mb * MB / 1024);
        let memory = line("MemTotal", 24_000) + &line("MemFree", 100) + &line("MemAvailable", available_mb);
        self.write("proc/meminfo", &(memory + &line("SwapTotal", swap_mb) + &line("SwapFree", swap_free_mb)));
    }

    fn stalled(&self, path: &str, us: u64) {
        let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        self.write(path, &format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={us}\n{full}"));
    }

    /// 50 MB of `current_mb` are page cache.
    fn group(&self, folder: &str, max: &str, high: &str, current_mb: u64) {
        let file = |name: &str, text: &str| self.write(&format!("sys/fs/cgroup/{folder}/{name}"), text);
        file("memory.max", &format!("{max}\n"));
        file("memory.high", &format!("{high}\n"));
        file("memory.current", &format!("{}\n", current_mb * MB));
        let stat = format!("anon {}\nfile {}\ninactive_anon 0\n", (current_mb - 50) * MB, 50 * MB);
        file("memory.stat", &format!("{stat}inactive_file {}\nactive_file {}\n", 20 * MB, 30 * MB));
        file("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n");
        self.stalled(&format!("sys/fs/cgroup/{folder}/memory.pressure"), 0);
    }

    fn governor(&self) -> Governor {
        Governor::new(Memory::probe_under(self.0.path(), "self"), 64_000 * MB)
    }
}

/// Where the pool comes to rest: every look sees the recorded room less what the pool has taken, as
/// long as the looks are two seconds apart.
fn rests_at(tree: &Tree, governor: &mut Governor, from_ms: u64, pool: u64, show: impl Fn(&Tree, u64)) -> u64 {
    let mut budget = pool;
    for at in 0..60 {
        show(tree, budget);
        budget = governor.adjust(from_ms + at * 2000, budget, budget);
    }
    budget
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[test]
fn the_parents_limit_binds_when_it_is_the_smaller() {
    let tree = Tree::new();
    let mut governor = tree.governor();
    let max = |mb: u64| (mb * MB).to_string();
    // 8000 - base 268 = 17/16 of the pool; the neighbour in the parent's group has 1000.
    let show = |tree: &Tree, pool: u64| {
        tree.group("outer/inner", &max(12_000), "max", 50 + pool / MB);
        tree.group("outer", &max(8_000), "max", 1050 + pool / MB);
    };
    let rest = rests_at(&tree, &mut governor, 0, 1000 * MB, show);
    assert!((6.2..6.35).contains(&gb(rest)), "{rest}");
}

#[test]
fn a_pool_stays_below_high_as_below_max() {
    let tree = Tree::new();
    let mut governor = tree.governor();
    let show = |tree: &Tree, pool: u64| {
        tree.group("outer/inner", &(8_000 * MB).to_string(), &(4_000 * MB).to_string(), 50 + pool / MB);
    };
    let rest = rests_at(&tree, &mut governor, 0, 6000 * MB, show);
    assert!((3.4..3.55).contains(&gb(rest)), "{rest}");
}

#[test]
fn who_is_alone_in_a_group_leaves_less_until_a_neighbour_comes() {
    let tree = Tree::new();
    // Resident, and mapped from files, in pages: the pool and 60 MB of the program.
    let own =
        |pool: u64| tree.write("proc/self/statm", &format!("0 {} 5000 0 0 0 0\n", (pool + 60 * MB) / 4096 + 5000));
    let mut governor = tree.governor();
    let show = |neighbour: u64| {
        move |tree: &Tree, pool: u64| {
            own(pool);
            // 50 of it are page cache, and 30 a launcher's.
            tree.group("outer", &(4_000 * MB).to_string(), "max", 140 + neighbour + pool / MB);
        }
    };
    let alone = rests_at(&tree, &mut governor, 0, 1000 * MB, show(0));
    assert!((3.68..3.72).contains(&gb(alone)), "{alone}");
    let beside = rests_at(&tree, &mut governor, 200_000, alone, show(100));
    // A sixteenth of the pool, and 268.
    assert!((3.33..3.37).contains(&gb(beside)), "{beside}");
    // It has gone, which counts after a while.
    show(0)(&tree, beside);
    let mut soon = beside;
    for at in 0..8 {
        soon = governor.adjust(319_000 + at * 1000, soon, beside);
    }
    assert!(gb(soon) < 3.46, "{soon}");
    assert_eq!(rests_at(&tree, &mut governor, 330_000, soon, show(0)), alone);
}

#[test]
fn the_machines_limit_is_nobodys_own() {
    let tree = Tree::new();
    tree.write("proc/self/statm", "0 1000000 0 0 0 0 0\n");
    tree.group("outer/inner", &(8_000 * MB).to_string(), "max", 4_200);
    let memory = || Memory::probe_under(tree.0.path(), "self");
    assert!(memory().is_alone());
    tree.machine(2_000, 0, 0);
    assert!(!memory().is_alone(), "the machine leaves less");
}

#[test]
fn a_limit_that_is_lowered_is_followed() {
    let tree = Tree::new();
    let mut governor = tree.governor();
    let show =
        |max: u64| move |tree: &Tree, pool: u64| tree.group("outer", &(max * MB).to_string(), "max", 50 + pool / MB);
    let wide = rests_at(&tree, &mut governor, 0, 1000 * MB, show(8_000));
    let narrow = rests_at(&tree, &mut governor, 200_000, wide, show(2_000));
    assert!((7.2..7.35).contains(&gb(wide)) && (1.6..1.7).contains(&gb(narrow)), "{wide} {narrow}");
}

#[test]
fn waiting_for_memory_widens_the_reserve_for_a_while() {
    let tree = Tree::new();
    let mut governor = tree.governor();
    let show = |tree: &Tree, pool: u64| tree.group("outer/inner", &(4_000 * MB).to_string(), "max", 50 + pool / MB);
    let rest = rests_at(&tree, &mut governor, 0, 3000 * MB, show);
    // Every task waits for half a second.
    let pressure = "sys/fs/cgroup/outer/inner/memory.pressure";
    let mut budget = rest;
    for at in 1..=10 {
        show(&tree, budget);
        tree.stalled(pressure, at * 50_000);
        budget = governor.adjust(200_000 + at * 50, budget, budget);
    }
    assert!(budget + 150 * MB < rest && budget + 300 * MB > rest, "{}", rest - budget);
    let show = |tree: &Tree, pool: u64| {
        show(tree, pool);
        tree.stalled(pressure, 500_000);
    };
    assert!(rests_at(&tree, &mut governor, 300_000, budget, show).abs_diff(rest) < 10 * MB);
}

#[test]
fn stalls_of_the_machine_do_not_count_when_a_group_binds() {
    let tree = Tree::new();
    let mut governor = tree.governor();
    let show = |tree: &Tree, pool: u64| tree.group("outer/inner", &(4_000 * MB).to_string(), "max", 50 + pool / MB);
    let rest = rests_at(&tree, &mut governor, 0, 3000 * MB, show);
    for at in 1..=10 {
        tree.stalled("proc/pressure/memory", at * 50_000);
        assert_eq!(governor.adjust(200_000 + at * 50, rest, rest), rest);
    }
    // Without a limit they do.
    let tree = Tree::new();
    let mut governor = tree.governor();
    let rest = rests_at(&tree, &mut governor, 0, 8000 * MB, |tree, pool| tree.machine(20_000 - pool / MB, 0, 0));
    let mut budget = rest;
    for at in 1..=10 {
        tree.stalled("proc/pressure/memory", at * 50_000);
        budget = governor.adjust(200_000 + at * 50, budget, budget);
    }
    assert!(budget + 100 * MB < rest, "{budget} of {rest}");
}

#[test]
fn what_is_swapped_out_is_no_room() {
    let tree = Tree::new();
    // Something lies in swap before the start.
    let show =
        |swapped: u64| move |tree: &Tree, pool: u64| tree.machine(20_000 + swapped - pool / MB, 8_000, 6_000 - swapped);
    show(0)(&tree, 0);
    let mut governor = tree.governor();
    let rest = rests_at(&tree, &mut governor, 0, 8000 * MB, show(0));
    // The kernel swaps 3 GB out; they become available.
    let after = rests_at(&tree, &mut governor, 200_000, rest, show(3_000));
    assert!(after.abs_diff(rest) < 10 * MB, "{rest} {after}");
}

#[test]
fn what_has_not_moved_is_not_read_again() {
    let tree = Tree::new();
    let limit = (4_000 * MB).to_string();
    tree.group("outer/inner", &limit, "max", 2050);
    let mut governor = tree.governor();
    let rest = governor.adjust(0, 2000 * MB, 2000 * MB);
    // A lower limit shows at the next full reading only; usage shows at once.
    tree.group("outer/inner", &(2_000 * MB).to_string(), "max", 2050);
    assert!(governor.adjust(REFRESH_MS - 1, rest, rest) >= rest);
    assert!(governor.adjust(REFRESH_MS, rest, rest) < rest);
    tree.group("outer/inner", &limit, "max", 2050);
    governor.adjust(2 * REFRESH_MS, rest, rest);
    tree.group("outer/inner", &limit, "max", 3950);
    assert!(governor.adjust(2 * REFRESH_MS + 5, rest, rest) < rest);
}
