//! Copies of the model on drives that fail: the other ones serve, with the same bytes, and only what
//! none of them can read is SIGBUS.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;

use ggpager::config::{IoRung, Settings};
use ggpager::pager::Pager;
use ggpager::pager::file::Sharing;

use crate::disk::BadDisk;
use crate::rig::{Watchdog, settings};
use crate::support::{MODEL_BYTES, PAGED, compile, model, run, word_at};

/// A page of its own, which the comparison at the start does not meet.
const BAD: Range<u64> = 21 << 20..(21 << 20) + 4096;

/// The drive of the original, or of the copy, fails as a whole after the model was mapped: it is left
/// out, and every byte is right.
#[test]
fn what_one_copy_cannot_read_another_can() {
    let _watchdog = Watchdog::new("a copy that fails");
    for io in IoRung::ALL {
        for bad_at in [0, 1] {
            let Some(mut disk) = BadDisk::mount(model(), 0..0) else { return };
            let mut paths = [model().to_owned(), model().to_owned()];
            paths[bad_at] = disk.folder.join("model.gguf");
            let settings = settings(ggpager::config::FillRung::Move);
            let pager = Pager::new(Settings { io: Some(*io), replicas: vec![paths[1].clone()], ..settings });
            let file = File::open(&paths[0]).expect("the model");
            let base = pager.map(file.as_fd(), 0, MODEL_BYTES as usize, Sharing::Shared).expect("a view") as usize;
            drop(file);
            disk.fail();
            // One touch after the other: the first is served by the original, the second by the copy.
            for at in (0..MODEL_BYTES as usize).step_by(8) {
                // SAFETY: the view is this test's and is only read.
                let seen = unsafe { ((base + at) as *const u64).read_volatile() };
                assert_eq!(seen, word_at(at as u64), "at byte {at}");
            }
            let stats = pager.stats();
            assert_eq!((stats.poisoned_pages, stats.sources.len()), (0, 2), "{stats:?}");
            assert!(stats.sources[bad_at].left_out && !stats.sources[1 - bad_at].left_out, "{stats:?}");
            pager.unmap(base, MODEL_BYTES as usize).expect("unmapping");
        }
    }
}

/// A page that neither can read is what it would have been without copies; a drive that fails is
/// mentioned once.
#[test]
fn what_no_copy_can_read_is_sigbus() {
    let Some(one) = BadDisk::mount(model(), BAD) else { return };
    let Some(other) = BadDisk::mount(model(), BAD) else { return };
    let program = compile("unreadable", false);
    let args = [one.folder.join("model.gguf").into(), BAD.start.to_string().into(), BAD.end.to_string().into()];
    let copies = other.folder.to_str().expect("a plain path");
    for io in IoRung::ALL {
        let extra = [("GGPAGER_REPLICAS", copies), ("GGPAGER_IO", io.as_str())];
        let outcome = run(PAGED[0], &[], &program, &args, &extra);
        let stats = outcome.require_code(0).require_paged().stats.clone().expect("checked");
        assert_eq!((stats.poisoned_pages, stats.sources.len()), (512, 2), "{stats:?}");
        assert_eq!(stats.sources.iter().map(|source| source.read_bytes).sum::<u64>(), stats.read_bytes);
        assert!(stats.sources[1].left_out, "{stats:?}");
        let messages = String::from_utf8_lossy(&outcome.output.stderr).into_owned();
        let told = messages.lines().filter(|line| line.contains("is not read any more")).count();
        assert_eq!(told, stats.sources.iter().filter(|source| source.left_out).count(), "{messages}");
        assert_eq!(messages.lines().count(), told, "{messages}");
    }
}
