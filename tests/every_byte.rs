//! Every byte that threads read through a view is the file's byte, whatever the rung, the pattern
//! and the budget.

#[allow(dead_code)] // what other tests need
mod support;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use ggpager::config::{BudgetSetting, ByteSize, FillRung, IoRung, Settings, Strategy};
use ggpager::pager::Pager;
use ggpager::pager::file::Sharing;

const PAGE: usize = 4096;

/// The content of the eight bytes at `offset`: different for every offset.
fn word(offset: u64) -> u64 {
    let mut x = offset.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A file of `bytes` bytes (not necessarily whole pages) of known content.
fn make_file(bytes: u64) -> File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary file");
    let mut buffer = Vec::with_capacity(1 << 20);
    let mut offset = 0;
    while offset < bytes {
        buffer.clear();
        while buffer.len() < 1 << 20 && offset + (buffer.len() as u64) < bytes {
            buffer.extend_from_slice(&word(offset + buffer.len() as u64).to_le_bytes());
        }
        buffer.truncate((bytes - offset).min(1 << 20) as usize);
        file.write_all(&buffer).expect("space for the file");
        offset += buffer.len() as u64;
    }
    file.sync_all().expect("the file on the drive");
    file
}

/// Checks page `page` of the view at `base`; the last page of the file may be partial.
fn check_page(base: usize, page: usize, bytes: u64) {
    let start = (page * PAGE) as u64;
    for at in (0..PAGE as u64).step_by(8) {
        // SAFETY: the view is mapped for the whole test and only read.
        let seen = unsafe { ((base + (start + at) as usize) as *const u64).read_volatile() };
        let offset = start + at;
        let wanted = match bytes.saturating_sub(offset) {
            0 => 0,
            left @ 1..8 => word(offset) & ((1 << (8 * left)) - 1),
            _ => word(offset),
        };
        assert_eq!(seen, wanted, "at byte {offset}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Pattern {
    Random,
    Cycle,
    Backwards,
    Strided,
}

/// The `step`th page that thread `thread` of `threads` reads.
fn page_at(pattern: Pattern, step: usize, thread: usize, threads: usize, pages: usize) -> usize {
    match pattern {
        Pattern::Random => word((step * threads + thread) as u64) as usize % pages,
        Pattern::Cycle => (step * threads + thread) % pages,
        Pattern::Backwards => pages - 1 - (step * threads + thread) % pages,
        Pattern::Strided => (step * 257 + thread * 1021) % pages,
    }
}

fn run(bytes: u64, budget: u64, threads: usize, steps: usize, fill: FillRung, io: IoRung, strategy: Strategy) {
    let file = make_file(bytes);
    let settings = Settings {
        budget: BudgetSetting::Bytes(ByteSize(budget)),
        strategy,
        fill: Some(fill),
        io: Some(io),
        ..Settings::default()
    };
    let pager = Pager::new(settings);
    let base = pager.map(file.as_fd(), 0, bytes as usize, Sharing::Shared).expect("a view") as usize;
    drop(file);
    let pages = (bytes as usize).div_ceil(PAGE);
    for pattern in [Pattern::Random, Pattern::Cycle, Pattern::Backwards, Pattern::Strided] {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                scope.spawn(move || {
                    for step in 0..steps {
                        check_page(base, page_at(pattern, step, thread, threads, pages), bytes);
                    }
                });
            }
        });
    }
    check_page(base, pages - 1, bytes);
    let stats = pager.stats();
    eprintln!("{fill} {io} {strategy}: {stats:?}");
    assert_eq!(stats.fill_rung, fill.as_str());
    assert_eq!(stats.io_rung, io.as_str());
    assert!(stats.pool_peak_bytes <= stats.budget_bytes, "{stats:?}");
    assert!(stats.faults_demand + stats.faults_in_flight + stats.faults_staged > 0, "{stats:?}");
    assert_eq!(stats.poisoned_pages, 0);
    pager.unmap(base, bytes as usize).expect("unmapping");
    assert!(!ggpager::pager::views::overlaps(base, bytes as usize));
    drop(Arc::into_inner(pager).expect("the last handle"));
}

#[test]
fn every_rung_gives_every_byte() {
    for fill in FillRung::ALL {
        for io in IoRung::ALL {
            run((96 << 20) + 12_345, 32 << 20, 8, 150, *fill, *io, Strategy::Demand);
        }
    }
}

#[test]
fn a_gigabyte_through_sixty_four_megabytes() {
    run((1 << 30) + 5, 64 << 20, 8, 600, FillRung::Move, IoRung::UringDirect, Strategy::Demand);
}

/// A madvise that no hook sees takes pages away behind the pager's back.
#[test]
fn pages_that_vanish_come_back() {
    // A page that does not come back is touched for ever.
    let _watchdog = support::Watchdog::new("pages that vanish");
    let bytes = 64u64 << 20;
    for fill in FillRung::ALL {
        let file = make_file(bytes);
        let settings = Settings {
            budget: BudgetSetting::Percent(100.0),
            strategy: Strategy::Demand,
            fill: Some(*fill),
            ..Settings::default()
        };
        let pager = Pager::new(settings);
        let base = pager.map(file.as_fd(), 0, bytes as usize, Sharing::Shared).expect("a view") as usize;
        for round in 0..3 {
            for page in 0..bytes as usize / PAGE {
                check_page(base, page, bytes);
            }
            let (start, len) = (base + (round << 20), 3 << 20);
            // SAFETY: the view is this test's, and nobody else reads it now.
            assert_eq!(unsafe { libc::madvise(start as *mut _, len, libc::MADV_DONTNEED) }, 0);
        }
        for page in 0..bytes as usize / PAGE {
            check_page(base, page, bytes);
        }
        pager.unmap(base, bytes as usize).expect("unmapping");
    }
}

/// Kilobytes of anonymous memory in the view at `base`, and how many of them are in huge pages.
fn view_memory_kb(base: usize, bytes: u64) -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let (mut inside, mut anonymous, mut huge) = (false, 0, 0);
    for line in text.lines() {
        let start = line.split_once('-').and_then(|(start, _)| usize::from_str_radix(start, 16).ok());
        if let Some(start) = start {
            inside = (base..base + bytes as usize).contains(&start);
        }
        let field = |name| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        anonymous += field("Anonymous:").filter(|_| inside).unwrap_or(0);
        huge += field("AnonHugePages:").filter(|_| inside).unwrap_or(0);
    }
    (anonymous, huge)
}

/// A block that is shorter than its frame, and a slot that has held single pages, do not split other
/// frames in passing.
#[test]
fn huge_pages_stay_whole() {
    let bytes = (96 << 20) + 12_345;
    let file = make_file(bytes);
    let settings = Settings {
        budget: BudgetSetting::Bytes(ByteSize(48 << 20)),
        strategy: Strategy::Demand,
        fill: Some(FillRung::Move),
        order_cache: false,
        ..Settings::default()
    };
    let pager = Pager::new(settings);
    let base = pager.map(file.as_fd(), 0, bytes as usize, Sharing::Shared).expect("a view") as usize;
    let cycle = || {
        for page in (0..(bytes as usize).div_ceil(PAGE)).step_by(64) {
            check_page(base, page, bytes);
        }
        view_memory_kb(base, bytes)
    };
    let (anonymous, huge) = cycle();
    // Without free memory in one piece there are none from the start.
    if !support::available("memory in huge pages", huge * 10 >= anonymous * 9) {
        return;
    }
    let mut now = (0, 0);
    (0..40).for_each(|_| now = cycle());
    assert!(now.1 * 10 >= now.0 * 9, "of {} kB {} are in huge pages after forty cycles", now.0, now.1);
    pager.unmap(base, bytes as usize).expect("unmapping");
}
