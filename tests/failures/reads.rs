//! Reads that fail, come back short or have to be tried again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ggpager::config::{FillRung, IoRung, Settings};
use ggpager::pager::io::{Event, Io, Read};
use ggpager::pager::link::Parts;
use ggpager::pager::region::{HUGE, PAGE};
use ggpager::stats::Stats;

use crate::rig::{Rig, settings};
use crate::support::MODEL_BYTES;

/// What becomes of a read.
#[derive(Clone, Copy)]
enum Fate {
    /// It is done as asked.
    Healthy,
    /// It ends with this result and reads nothing.
    Ends(i32),
    /// No more than this many bytes of it are read.
    Short(u32),
}

/// The fate of the `attempt`th read (from 0) at a file offset.
type Plan = dyn Fn(u64, u32) -> Fate + Send + Sync;

/// An engine with a plan.
struct Faulty {
    inner: Box<dyn Io>,
    plan: Arc<Plan>,
    attempts: HashMap<u64, u32>,
    ended: Vec<Event>,
}

impl Io for Faulty {
    fn rung(&self) -> IoRung {
        self.inner.rung()
    }

    fn start(&mut self, read: Read) -> io::Result<()> {
        let attempt = self.attempts.entry(read.offset).or_insert(0);
        let fate = (self.plan)(read.offset, *attempt);
        *attempt += 1;
        match fate {
            Fate::Healthy => self.inner.start(read),
            Fate::Short(bytes) => self.inner.start(Read { len: bytes.min(read.len), ..read }),
            Fate::Ends(result) => {
                self.ended.push(Event::Done { token: read.token, result });
                Ok(())
            }
        }
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.ended.is_empty() { timeout } else { Some(Duration::from_micros(1)) };
        self.inner.wait(events, timeout)?;
        events.append(&mut self.ended);
        Ok(())
    }
}

fn run(test: &'static str, settings: Settings, plan: impl Fn(u64, u32) -> Fate + Send + Sync + 'static) -> Stats {
    let plan: Arc<Plan> = Arc::new(plan);
    let wrap = move |inner| -> Box<dyn Io> {
        Box::new(Faulty { inner, plan: plan.clone(), attempts: HashMap::new(), ended: Vec::new() })
    };
    let parts = Parts { wrap_io: Some(Arc::new(wrap)), ..Parts::default() };
    let rig = Rig::new(test, settings, parts);
    rig.read_everything(8);
    let stats = rig.pager.stats();
    rig.map_again().expect("the pager still serves");
    rig.unmap();
    stats
}

/// Pages of the block that holds `offset`.
fn pages_of_block(offset: u64) -> u64 {
    let start = offset / HUGE as u64 * HUGE as u64;
    (MODEL_BYTES - start).min(HUGE as u64).div_ceil(PAGE as u64)
}

/// The drive cannot read two blocks, one of them the partial last one, whatever is tried. The file
/// is healthy, so the kernel finds the bytes.
#[test]
fn blocks_that_cannot_be_read_are_left_to_the_kernel() {
    let bad = [3 * HUGE as u64, MODEL_BYTES / HUGE as u64 * HUGE as u64];
    for &fill in FillRung::ALL {
        for result in [-libc::EIO, -libc::EAGAIN, 0, 100] {
            let stats = run("unreadable blocks", settings(fill), move |offset, _| {
                if bad.contains(&offset) { Fate::Ends(result) } else { Fate::Healthy }
            });
            assert_eq!(stats.poisoned_pages, bad.map(pages_of_block).iter().sum::<u64>(), "{fill} {result} {stats:?}");
        }
    }
}

/// One part of a block that is read in parts cannot be read: the block as a whole goes to the kernel.
#[test]
fn one_bad_part_spoils_its_block_and_no_other() {
    let settings = Settings { read_size: Some("64KiB".parse().expect("a size")), ..settings(FillRung::Move) };
    let stats = run("a bad part", settings, |offset, _| match offset {
        0x51_0000 => Fate::Ends(-libc::EIO),
        _ => Fate::Healthy,
    });
    assert_eq!(stats.poisoned_pages, pages_of_block(0x51_0000), "{stats:?}");
}

/// Nothing can be read at all.
#[test]
fn a_dead_drive_engine_leaves_everything_to_the_kernel() {
    let stats = run("a dead engine", settings(FillRung::Move), |_, _| Fate::Ends(-libc::EIO));
    assert_eq!(stats.poisoned_pages, MODEL_BYTES.div_ceil(PAGE as u64), "{stats:?}");
    assert_eq!(stats.read_bytes, 0);
}

/// Direct I/O fails, reading through the page cache works.
#[test]
fn a_failed_read_is_tried_again_through_the_page_cache() {
    for &io in IoRung::ALL {
        let settings = Settings { io: Some(io), ..settings(FillRung::Move) };
        let stats = run("one EIO a block", settings, |_, attempt| match attempt % 2 {
            0 => Fate::Ends(-libc::EIO),
            _ => Fate::Healthy,
        });
        assert_eq!((stats.poisoned_pages, stats.io_rung.as_str()), (0, io.as_str()), "{stats:?}");
    }
}

/// Results that only ask to be tried again: none of them costs a page.
#[test]
fn transient_results_are_tried_again() {
    for &fill in FillRung::ALL {
        for &io in IoRung::ALL {
            let settings = Settings { io: Some(io), ..settings(fill) };
            let stats = run("transient results", settings, |offset, attempt| {
                match (offset / PAGE as u64 + u64::from(attempt)) % 7 {
                    0 => Fate::Ends(-libc::EINTR),
                    1 => Fate::Ends(-libc::EAGAIN),
                    2 => Fate::Short(PAGE as u32),
                    3 => Fate::Short(300 << 10),
                    4 => Fate::Ends(0),
                    _ => Fate::Healthy,
                }
            });
            assert_eq!(stats.poisoned_pages, 0, "{fill} {io} {stats:?}");
            assert!(stats.reads > stats.faults_demand, "{stats:?}");
        }
    }
}
