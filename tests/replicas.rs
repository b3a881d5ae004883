//! A model on several drives: reads are shared by speed, every byte is the model's, and what is no
//! copy is not read.

#[allow(dead_code)] // what other tests need
mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ggpager::bench::cgroup::{Hierarchy, Limits};
use ggpager::bench::disk::Disk;
use ggpager::bench::loop_drive::LoopDrive;
use ggpager::config::{BudgetSetting, ByteSize, IoRung, Settings, Strategy};
use ggpager::pager::Pager;
use ggpager::pager::file::Sharing;
use support::{MODEL_BYTES, Outcome, PAGED, available, compile, is_root, model, run, run_within, word_at};

/// A drive of its own with a copy of the model.
fn drive() -> LoopDrive {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let drive = LoopDrive::new(folder, 128 << 20).expect("a loop device");
    let copy = drive.folder().join("model.gguf");
    std::fs::copy(model(), &copy).expect("room for the model");
    File::open(copy).expect("there").sync_all().expect("on the drive");
    drive
}

fn messages(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.output.stderr).into_owned()
}

/// Two drives, one of them slow, whichever is the original's: the other serves most, both serve.
#[test]
fn the_faster_drive_serves_more() {
    if !available("root, for drives of a fixed speed", is_root()) {
        return;
    }
    let program = compile("sweeps", false);
    let drives = [drive(), drive()];
    for (original, slow) in [(0, 0), (0, 1)] {
        let files = drives.each_ref().map(|drive| drive.folder().join("model.gguf"));
        let device = Disk::of(&files[slow]).expect("a loop device").device;
        // Slower than the other one is, however busy the drive below both of them.
        let limits = Limits { drive: Some((device, 10_000_000)), ..Limits::default() };
        let name = format!("ggpager-replicas-{}", std::process::id());
        let group = Hierarchy::find().and_then(|hierarchy| hierarchy.create(&name, &limits));
        let Ok(group) = group.inspect_err(|error| assert!(!available(&format!("blkio: {error}"), false))) else {
            return;
        };
        for io in ["uring-direct", "pread"] {
            let folder = drives[1 - original].folder().to_str().expect("a plain path");
            let extra = [("GGPAGER_REPLICAS", folder), ("GGPAGER_IO", io), ("GGPAGER_STRATEGY", "readahead")];
            let args = [files[original].clone().into(), "4".into()];
            let outcome = run_within(Some(&group), PAGED[0], &[], &program, &args, &extra);
            let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
            assert_eq!(messages(&outcome), "");
            let read: Vec<u64> = stats.sources.iter().map(|source| source.read_bytes).collect();
            eprintln!("{io}, drive {slow} is slow: {read:?}");
            assert_eq!(read.iter().sum::<u64>(), stats.read_bytes, "{stats:?}");
            assert!(read[1 - slow] > read[slow] && read[slow] > 0, "{stats:?}");
            assert!(!stats.sources[0].left_out && !stats.sources[1].left_out, "{stats:?}");
        }
    }
}

/// A folder on another file system than the tests'; removed when dropped.
fn elsewhere() -> Option<tempfile::TempDir> {
    let there = tempfile::tempdir_in("/dev/shm").ok();
    let dev = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let other = there.filter(|folder| dev(folder.path()) != dev(model()));
    available("another file system at /dev/shm", other.is_some());
    other
}

/// A copy of the model in `folder` that was last written long ago.
fn old_copy(folder: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    std::fs::copy(model(), &path).expect("room for the model");
    let old = SystemTime::now() - Duration::from_secs(1000);
    File::options().write(true).open(&path).expect("writable").set_modified(old).expect("our own file");
    path
}

/// What is no copy is left out with one line, however often the model is mapped.
#[test]
fn what_is_no_copy_is_not_read() {
    let Some(folder) = elsewhere() else { return };
    let path = old_copy(folder.path());
    let zeros = vec![0; 2 << 20];
    let tail = word_at(MODEL_BYTES - 8);
    type Damage<'a> = &'a dyn Fn(&File);
    let damages: [(&str, Damage); 4] = [
        ("the page at byte 0", &|file| file.write_all_at(b"GGML", 0).expect("writable")),
        ("the page at byte", &|file| file.write_all_at(&zeros, 17 << 20).expect("writable")),
        ("the page at byte 50331648", &|file| {
            file.write_all_at(&(!tail).to_le_bytes(), MODEL_BYTES - 8).expect("writable")
        }),
        ("50332647 bytes instead of 50332648", &|file| file.set_len(MODEL_BYTES - 1).expect("writable")),
    ];
    let run_with = |replicas: &str| {
        run(PAGED[0], &[], &compile("twice", false), &[model().into()], &[("GGPAGER_REPLICAS", replicas)])
    };
    let require_alone = |outcome: &Outcome, why: &str| {
        let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
        assert_eq!(stats.sources.len(), 1, "{stats:?}");
        let lines = messages(outcome);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains(why) && lines.contains("is not read as a copy of"), "{why}: {lines}");
    };
    // The comparison is by name or size; the test model's own name differs from run to run.
    let named = folder.path().join(model().file_name().expect("a file"));
    std::fs::rename(&path, &named).expect("renamed");
    for (why, damage) in damages {
        std::fs::copy(model(), &named).expect("room for the model");
        let healthy = run_with(named.to_str().expect("a plain path"));
        assert_eq!(healthy.require_code(0).stats.as_ref().expect("statistics").sources.len(), 2, "{healthy:?}");
        assert_eq!(messages(&healthy), "");
        damage(&File::options().write(true).open(&named).expect("writable"));
        require_alone(&run_with(named.to_str().expect("a plain path")), why);
        require_alone(&run_with(folder.path().to_str().expect("a plain path")), why);
    }
    require_alone(&run_with("/no/such/copy.gguf:/no/such/copy.gguf"), "No such file");
    let same = run_with(model().to_str().expect("a plain path"));
    assert_eq!(
        (same.require_code(0).stats.as_ref().expect("statistics").sources.len(), messages(&same)),
        (1, "".into())
    );
}

/// A copy that is written to, or cut, while it is read from: it is left out before a byte of it counts.
#[test]
fn a_copy_that_changes_is_left_out() {
    const PAGE: usize = 4096;
    let changes: [&dyn Fn(&File); 2] = [
        &|file| (0..MODEL_BYTES).step_by(PAGE).for_each(|at| file.write_all_at(b"wrong...", at).expect("writable")),
        &|file| file.set_len(5 << 20).expect("writable"),
    ];
    for io in IoRung::ALL {
        for change in changes {
            let Some(folder) = elsewhere() else { return };
            let copy = old_copy(folder.path());
            let settings = Settings {
                budget: BudgetSetting::Bytes(ByteSize(32 << 20)),
                // The first touch is served by the one, the second by the other.
                strategy: Strategy::Demand,
                io: Some(*io),
                replicas: vec![copy.clone()],
                ..Settings::default()
            };
            let pager = Pager::new(settings);
            let file = File::open(model()).expect("the model");
            let base = pager.map(file.as_fd(), 0, MODEL_BYTES as usize, Sharing::Shared).expect("a view") as usize;
            let check_all = || {
                for at in (0..MODEL_BYTES as usize).step_by(8) {
                    // SAFETY: the view is this test's and is only read.
                    let seen = unsafe { ((base + at) as *const u64).read_volatile() };
                    assert_eq!(seen, word_at(at as u64), "at byte {at}");
                }
            };
            let before = pager.stats();
            assert!(!before.sources[1].left_out, "{before:?}");
            change(&File::options().write(true).open(&copy).expect("writable"));
            check_all();
            let after = pager.stats();
            assert!(after.sources[1].left_out && !after.sources[0].left_out, "{after:?}");
            assert_eq!(after.poisoned_pages, 0, "{after:?}");
            pager.unmap(base, MODEL_BYTES as usize).expect("unmapping");
        }
    }
}
