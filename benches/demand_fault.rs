//! How long the first touch of a block takes when the block is in memory already but outside the view
//! (*staged*): one wake-up of the pager thread and one UFFDIO_MOVE. Beside it a minor fault of the
//! kernel: the first touch of a page of an ordinary mapping whose file is in the page cache.
//!
//! A policy reads everything and stages it; then one thread touches every block once, and the last
//! word of each block is checked. The kernel's faults are as far apart.

mod common;

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use common::{TestFile, header, quantile, setting, word};
use ggpager::config::{BudgetSetting, ByteSize, Settings, Strategy};
use ggpager::pager::Pager;
use ggpager::pager::file::Sharing;
use ggpager::pager::link::Parts;
use ggpager::pager::region::{HUGE, Region, map_file_over};
use ggpager::policy::{BlockId, BlockTable, Need, Placement, Policy, State, Touch};
use rustix::mm::{MapFlags, ProtFlags};

/// Reads every block and stages it.
#[derive(Default)]
struct StageAll {
    next: BlockId,
}

impl Policy for StageAll {
    fn name(&self) -> &'static str {
        "stage all"
    }

    fn mapped(&mut self, _: &BlockTable, _: Range<BlockId>, _: &[BlockId]) {
        self.next = 0;
    }

    fn unmapped(&mut self, _: &BlockTable, _: Range<BlockId>) {}

    fn budget_changed(&mut self, _: &BlockTable) {}

    fn touched(&mut self, _: &BlockTable, _: BlockId, _: Touch, _: u64) {}

    fn filled(&mut self, _: &BlockTable, _: BlockId) -> Placement {
        Placement::Stage
    }

    fn next_read(&mut self, table: &BlockTable, _: u32) -> Option<BlockId> {
        while (self.next as usize) < table.len() {
            self.next += 1;
            if table.state(self.next - 1) == State::Absent {
                return Some(self.next - 1);
            }
        }
        None
    }

    fn victim(&mut self, _: &BlockTable, _: Option<BlockId>, _: Need) -> Option<BlockId> {
        None
    }
}

/// Touches every block once; appends microseconds a touch.
fn touch_all(base: usize, bytes: usize, samples: &mut Vec<f64>) {
    for at in (0..bytes).step_by(HUGE) {
        let start = Instant::now();
        // SAFETY: the range is mapped and only read.
        let seen = unsafe { ((base + at) as *const u64).read_volatile() };
        samples.push(start.elapsed().as_nanos() as f64 / 1000.0);
        assert_eq!(seen, word(at as u64));
        let last = at + HUGE - 8;
        // SAFETY: as above.
        assert_eq!(unsafe { ((base + last) as *const u64).read_volatile() }, word(last as u64));
    }
}

fn staged(file: &TestFile, samples: &mut Vec<f64>) -> io::Result<u64> {
    let parts = Parts { make_policy: Some(Arc::new(|_| Box::new(StageAll::default()))), ..Parts::default() };
    let settings = Settings {
        budget: BudgetSetting::Bytes(ByteSize(2 * file.bytes)),
        strategy: Strategy::Demand,
        ..Settings::default()
    };
    let pager = Pager::with_parts(settings, parts);
    let base =
        pager.map(file.open()?.as_fd(), 0, file.bytes as usize, Sharing::Shared).map_err(io::Error::other)? as usize;
    while pager.stats().read_bytes < file.bytes {
        std::thread::yield_now();
    }
    touch_all(base, file.bytes as usize, samples);
    let stats = pager.stats();
    assert_eq!(stats.faults_staged, file.bytes / HUGE as u64, "{stats:?}");
    pager.unmap(base, file.bytes as usize)?;
    Ok(stats.staged_latency_us.p50)
}

fn minor(file: &TestFile, samples: &mut Vec<f64>) -> io::Result<()> {
    file.cached(true)?;
    let region = Region::reserve(file.bytes as usize, 0)?;
    map_file_over(region.range(), file.open()?.as_fd(), 0, ProtFlags::READ, MapFlags::SHARED)?;
    touch_all(region.start(), file.bytes as usize, samples);
    file.cached(false)
}

fn main() -> io::Result<()> {
    header("demand_fault: the first touch of a staged 2 MiB block, microseconds");
    let rounds = setting("GGPAGER_BENCH_ROUNDS", 8);
    let file = TestFile::new(setting("GGPAGER_BENCH_MIB", 512) << 20)?;
    file.cached(false)?;
    println!("file {} MiB, read_ahead_kb {}", file.bytes >> 20, common::read_ahead_kb(&file.path));
    let (mut ours, mut theirs, mut inside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        inside.push(staged(&file, &mut ours)? as f64);
        minor(&file, &mut theirs)?;
    }
    for (what, samples) in [("staged touch", &mut ours), ("kernel minor fault", &mut theirs)] {
        println!(
            "{what:<20} median {:8.2} us, p99 {:8.2} us, least {:.2} us ({} touches)",
            quantile(samples, 0.5),
            quantile(samples, 0.99),
            quantile(samples, 0.0),
            samples.len()
        );
    }
    println!("of a staged touch, from the event's arrival to the wake-up: median {:.0} us", quantile(&mut inside, 0.5));
    Ok(())
}
