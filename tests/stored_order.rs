//! The second start of a model knows what the first one learned.

// Not everything in it is used here.
#[allow(dead_code)]
mod support;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ggpager::stats::Stats;
use support::Setting;

/// A file of 300 blocks that holds nothing but zeros, and is no model.
const BLOCKS: u64 = 300;

/// A folder for stored orders, and a file that is learned.
struct Rig {
    cache: PathBuf,
    file: PathBuf,
    program: PathBuf,
}

impl Rig {
    fn new() -> Rig {
        let rig = Rig {
            // Who ends does not wait long for its order to be stored: in memory it is, always.
            cache: support::scratch_in_memory("cache"),
            file: support::scratch("weights.bin"),
            program: support::compile("cycles", false),
        };
        let file = File::create(&rig.file).unwrap();
        file.set_len(BLOCKS << 21).unwrap();
        fs::create_dir(&rig.cache).unwrap();
        fs::set_permissions(&rig.cache, PermissionsExt::from_mode(0o777)).unwrap();
        rig
    }

    /// Runs `cycles` cycles with a quarter of the file in memory.
    fn run(&self, cycles: u32, extra: &[(&str, &str)]) -> Stats {
        let setting = Setting { vars: &[("GGPAGER_BUDGET", "25%")], unprivileged: false };
        let cache = self.cache.to_str().unwrap();
        let matching = self.file.to_str().unwrap();
        let variables = [&[("XDG_CACHE_HOME", cache), ("GGPAGER_MATCH", matching)], extra].concat();
        let args: [OsString; 2] = [self.file.clone().into(), cycles.to_string().into()];
        let outcome = support::run(setting, &[], &self.program, &args, &variables);
        outcome.require_code(0).require_paged();
        outcome.stats.unwrap()
    }

    /// The stored orders.
    fn stored(&self) -> Vec<PathBuf> {
        let folder = self.cache.join("ggpager/orders");
        let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        entries.unwrap_or_default()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_second_start_has_no_demand_miss_beyond_the_first_blocks() {
    let rig = Rig::new();
    // Without knowledge the first cycle is demand reads, as nothing foretells the order.
    let first = rig.run(3, &[]);
    assert_eq!(first.strategy, "learned");
    assert!(first.faults_demand > BLOCKS / 2, "{first:?}");
    let [order] = &rig.stored()[..] else { panic!("one order: {:?}", rig.stored()) };
    assert_eq!((mode(order), mode(order.parent().unwrap())), (0o600, 0o700));

    let second = rig.run(1, &[]);
    assert!(second.faults_demand <= 4, "{second:?}");
    // An order is read by whoever keeps none, too, but not where it is switched off.
    let ignorant = rig.run(1, &[("GGPAGER_ORDER_CACHE", "off")]);
    assert!(ignorant.faults_demand > BLOCKS / 2, "{ignorant:?}");
}

#[test]
fn a_damaged_or_stale_order_is_ignored_and_replaced() {
    let rig = Rig::new();
    rig.run(3, &[]);
    let order = rig.stored().remove(0);
    let whole = fs::read(&order).unwrap();
    let mut bent = whole.clone();
    bent[40] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &bent, b"", b"GGPORDER"] {
        fs::write(&order, damaged).unwrap();
        let run = rig.run(3, &[]);
        assert!(run.faults_demand > BLOCKS / 2, "{run:?}");
        assert_eq!(fs::read(&order).unwrap(), whole, "it is written anew");
    }
    // Another file under the same name.
    fs::remove_file(&rig.file).unwrap();
    File::create(&rig.file).unwrap().set_len((BLOCKS + 2) << 21).unwrap();
    assert!(rig.run(3, &[]).faults_demand > BLOCKS / 2);
    assert_eq!(rig.stored().len(), 2);
}

#[test]
fn switched_off_nothing_is_stored() {
    let rig = Rig::new();
    rig.run(3, &[("GGPAGER_ORDER_CACHE", "off")]);
    assert!(rig.stored().is_empty(), "{:?}", rig.stored());
    // A strategy that does not learn keeps nothing either.
    rig.run(3, &[("GGPAGER_STRATEGY", "readahead")]);
    assert!(rig.stored().is_empty(), "{:?}", rig.stored());
}
