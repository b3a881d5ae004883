//! Bugs on the pager thread: panics, and policies that break their contract. The file is healthy, so
//! the program reads on with the right bytes; the pager ends and says so.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggpager::config::{FillRung, IoRung};
use ggpager::pager::io::{Event, Io, Read};
use ggpager::pager::link::Parts;
use ggpager::policy::{self, BlockId, BlockTable, Need, Placement, Policy, State, Touch};

use crate::rig::{Rig, settings};

/// What a policy does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breach {
    PanicAtTouch(u32),
    PanicAtFill(u32),
    PanicAtVictim(u32),
    PanicAtMapping,
    NamesNoVictim,
    NamesAbsentVictims,
    ReadsPresentBlocks,
    RearmsAbsentBlocks,
}

/// The usual policy, with a breach.
struct Broken {
    inner: Box<dyn Policy>,
    breach: Breach,
    touches: u32,
    fills: u32,
    victims: u32,
}

impl Broken {
    fn any(table: &BlockTable, state: State) -> Option<BlockId> {
        (0..table.len() as BlockId).find(|&id| table.state(id) == state)
    }
}

impl Policy for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        assert_ne!(self.breach, Breach::PanicAtMapping, "injected");
        self.inner.mapped(table, ids, order);
    }

    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.inner.unmapped(table, ids);
    }

    fn budget_changed(&mut self, table: &BlockTable) {
        self.inner.budget_changed(table);
    }

    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, now_ns: u64) {
        self.touches += 1;
        assert_ne!(self.breach, Breach::PanicAtTouch(self.touches), "injected");
        self.inner.touched(table, id, touch, now_ns);
    }

    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        self.fills += 1;
        assert_ne!(self.breach, Breach::PanicAtFill(self.fills), "injected");
        self.inner.filled(table, id)
    }

    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        match self.breach {
            Breach::ReadsPresentBlocks => Self::any(table, State::Present),
            _ => self.inner.next_read(table, in_flight),
        }
    }

    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.victims += 1;
        assert_ne!(self.breach, Breach::PanicAtVictim(self.victims), "injected");
        match self.breach {
            Breach::NamesNoVictim => None,
            Breach::NamesAbsentVictims => Self::any(table, State::Absent),
            _ => self.inner.victim(table, wanted, need),
        }
    }

    fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        match self.breach {
            Breach::RearmsAbsentBlocks => Self::any(table, State::Absent),
            _ => self.inner.rearm(table),
        }
    }
}

fn broken(breach: Breach) -> Parts {
    let make = move |strategy| -> Box<dyn Policy> {
        let inner = policy::for_strategy(strategy);
        Box::new(Broken { inner, breach, touches: 0, fills: 0, victims: 0 })
    };
    Parts { make_policy: Some(Arc::new(make)), ..Parts::default() }
}

#[test]
fn a_broken_policy_costs_the_pager_and_no_byte() {
    use Breach::*;
    for &fill in FillRung::ALL {
        for breach in [
            PanicAtTouch(1),
            PanicAtTouch(20),
            PanicAtFill(1),
            PanicAtFill(20),
            PanicAtVictim(1),
            PanicAtVictim(20),
            NamesNoVictim,
            NamesAbsentVictims,
            ReadsPresentBlocks,
            RearmsAbsentBlocks,
        ] {
            eprintln!("{fill} {breach:?}");
            let rig = Rig::new("a broken policy", settings(fill), broken(breach));
            rig.read_everything(8);
            rig.require_stopped();
            rig.check_all();
            rig.unmap_ordinary();
        }
    }
}

/// The mapping that finds the bug is refused; there is no view to be stuck in.
#[test]
fn a_panic_while_mapping_refuses_the_mapping() {
    use ggpager::pager::{MapError, Pager};
    use std::os::fd::AsFd;
    let _watchdog = crate::rig::Watchdog::new("a panic while mapping");
    let pager = Pager::with_parts(settings(FillRung::Move), broken(Breach::PanicAtMapping));
    let file = std::fs::File::open(crate::support::model()).expect("the model");
    for _ in 0..2 {
        let sharing = ggpager::pager::file::Sharing::Shared;
        let result = pager.map(file.as_fd(), 0, crate::support::MODEL_BYTES as usize, sharing);
        assert!(matches!(result, Err(MapError::Stopped)), "{result:?}");
    }
}

/// The pager thread panics at any moment while eight threads read.
#[test]
fn readers_survive_the_pager() {
    for (round, &fill) in FillRung::ALL.iter().cycle().take(9).enumerate() {
        let rig = Rig::new("a panic under fire", settings(fill), Parts::default());
        let reads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (rig, reads) = (&rig, &reads);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..400 {
                        rig.check_page(random.usize(0..crate::rig::PAGES));
                        // Somewhere in the middle; which reads fall on either side does not matter.
                        if reads.fetch_add(1, Ordering::Relaxed) == 100 * round {
                            rig.pager.panic_for_test();
                        }
                    }
                });
            }
        });
        rig.require_stopped();
        rig.check_all();
        rig.unmap_ordinary();
    }
}

/// An engine whose first read is carried out late: after the test says so.
struct Late {
    inner: Box<dyn Io>,
    held: Option<Sender<Read>>,
}

impl Io for Late {
    fn rung(&self) -> IoRung {
        self.inner.rung()
    }

    fn start(&mut self, read: Read) -> io::Result<()> {
        match self.held.take() {
            Some(held) => held.send(read).map_err(io::Error::other),
            None => self.inner.start(read),
        }
    }

    fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.wait(events, timeout)
    }
}

/// A read that is still in flight when the pager ends may write to its frame afterwards: that memory
/// may not have become anybody else's by then.
#[test]
fn a_read_that_outlives_the_pager_hurts_nobody() {
    for &fill in FillRung::ALL {
        let (held, late): (Sender<Read>, Receiver<Read>) = channel();
        let held = Mutex::new(Some(held));
        let wrap = move |inner| -> Box<dyn Io> {
            Box::new(Late { inner, held: held.lock().expect("no panic with the lock").take() })
        };
        let parts = Parts { wrap_io: Some(Arc::new(wrap)), ..Parts::default() };
        let rig = Rig::new("a late read", settings(fill), parts);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| rig.check_page(0));
            let read = late.recv().expect("the read of page 0");
            rig.pager.panic_for_test();
            reader.join().expect("page 0 is right");
            rig.require_stopped();
            // What the kernel, or a reading thread, does with a read that was in flight.
            let len = read.len as usize;
            // SAFETY: none is needed if the frame is still the pager's; otherwise this test fails.
            unsafe { std::ptr::write_bytes(read.addr as *mut u8, 0x5a, len) };
        });
        rig.check_all();
        rig.unmap_ordinary();
    }
}
