//! Two threads scan a file of twice the budget in a cycle, through the live pager with strategy
//! `readahead`; beside it, in the same minute, what a consumer that throws everything away reads with
//! the same engine, read size and depth, and what fio reads.
//!
//! The threads take turns inside of tensors of 16 MiB, as compute threads do: each reads its half of
//! one, and both wait for each other before the next. They check one word of every page.
//! Asked: bytes read per second at least 90 % of the drive's.
//!
//! `GGPAGER_BENCH_COPIES` names folders on other drives, separated by `:`, that get copies of the file.
//! The pager reads from all of them; the null consumer and fio from the original alone.

mod common;

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::{GB, TestFile, header, median, setting, word};
use ggpager::config::{BudgetSetting, ByteSize, IoRung, Settings, Strategy};
use ggpager::pager::Pager;
use ggpager::pager::file::{ModelFile, Sharing};
use ggpager::pager::io::{Event, Io, Read, uring::Uring};
use ggpager::pager::region::{HUGE, PAGE, Region, advise, populate};
use ggpager::stats::Stats;
use rustix::event::{EventfdFlags, eventfd};

const THREADS: usize = 2;
const TENSOR: usize = 16 << 20;

/// One cycle over the file.
fn scan(base: usize, bytes: usize) {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                for tensor in (0..bytes).step_by(TENSOR) {
                    let part = TENSOR / THREADS;
                    let start = tensor + thread * part;
                    for at in (start..(start + part).min(bytes)).step_by(PAGE) {
                        // SAFETY: the view is mapped and only read.
                        let seen = unsafe { ((base + at) as *const u64).read_volatile() };
                        assert_eq!(seen, word(at as u64), "at byte {at}");
                    }
                    barrier.wait();
                }
            });
        }
    });
}

/// Reads through the pager while `time` lasts, in whole cycles: GB/s, and the statistics' change.
fn through_the_pager(pager: &Pager, base: usize, bytes: usize, time: Duration) -> (f64, Stats, f64) {
    let before = pager.stats();
    let (start, mut cycles) = (Instant::now(), 0.0);
    while start.elapsed() < time {
        scan(base, bytes);
        cycles += 1.0;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = pager.stats();
    let read = (after.read_bytes - before.read_bytes) as f64;
    let changed = Stats {
        faults_demand: after.faults_demand - before.faults_demand,
        faults_in_flight: after.faults_in_flight - before.faults_in_flight,
        reading_s: after.reading_s - before.reading_s,
        pager_cpu_s: after.pager_cpu_s - before.pager_cpu_s,
        ..after
    };
    (read / GB / seconds, changed, read / cycles)
}

/// Reads the blocks at `offsets` in a cycle with nothing else to do: GB/s. As many different bytes as
/// the pager reads in a cycle, and as far apart: a drive with a cache would else be another drive.
fn null_consumer(file: &ModelFile, offsets: &[u64], depth: u32, len: usize, time: Duration) -> io::Result<f64> {
    let quiet = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let (one, two) = (quiet()?, quiet()?);
    let mut engine = Uring::new(IoRung::UringDirect, one.as_raw_fd(), two.as_raw_fd(), depth)?;
    let memory = Region::reserve(depth as usize * HUGE, 0)?;
    advise(memory.range(), rustix::mm::Advice::LinuxHugepage)?;
    populate(memory.range())?;
    let fd: RawFd = file.read_fd().0;
    let (mut next, mut in_flight, mut total) = (0, 0, 0u64);
    let mut events = Vec::new();
    let start = Instant::now();
    let mut free: Vec<u64> = (0..u64::from(depth)).collect();
    loop {
        let over = start.elapsed() >= time;
        while !over && let Some(slot) = free.pop() {
            let addr = memory.start() + slot as usize * HUGE;
            engine.start(Read { fd, addr, len: len as u32, offset: offsets[next], token: slot })?;
            in_flight += 1;
            next = (next + 1) % offsets.len();
        }
        if in_flight == 0 {
            return Ok(total as f64 / GB / start.elapsed().as_secs_f64());
        }
        events.clear();
        engine.wait(&mut events, None)?;
        for event in &events {
            if let Event::Done { token, result } = *event {
                assert_eq!(result, len as i32, "a read failed");
                total += len as u64;
                in_flight -= 1;
                free.push(token);
            }
        }
    }
}

/// What fio reads in a cycle over the first `bytes` of the file: GB/s, `None` where there is no fio.
fn fio(path: &Path, bytes: u64, depth: u32, len: usize, time: Duration) -> Option<f64> {
    let output = Command::new("fio")
        .args(["--name=stream", "--rw=read", "--direct=1", "--ioengine=io_uring", "--time_based"])
        .args(["--output-format=json", "--readonly", "--allow_file_create=0"])
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--bs={len}"))
        .arg(format!("--size={bytes}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--runtime={}ms", time.as_millis()))
        .output()
        .ok()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(report["jobs"][0]["read"]["bw_bytes"].as_f64()? / GB)
}

fn main() -> io::Result<()> {
    header("stream: a cyclic scan by two threads over a file of twice the budget");
    let bytes = setting("GGPAGER_BENCH_MIB", 1536) << 20;
    let rounds = setting("GGPAGER_BENCH_ROUNDS", 5) as usize;
    let time = Duration::from_millis(setting("GGPAGER_BENCH_MS", 3000));
    let depth = setting("GGPAGER_BENCH_DEPTH", 16) as u32;
    let file = TestFile::new(bytes)?;
    file.cached(false)?;
    let copies = common::Copies::of(&file)?;
    let settings = Settings {
        budget: BudgetSetting::Bytes(ByteSize(bytes / 2)),
        strategy: Strategy::Readahead,
        queue_depth: Some(depth),
        replicas: copies.0.clone(),
        ..Settings::default()
    };
    let pager = Pager::new(settings);
    let base = pager.map(file.open()?.as_fd(), 0, bytes as usize, Sharing::Shared).map_err(io::Error::other)? as usize;
    let model = ModelFile::reopen(file.open()?.as_fd(), Sharing::Shared, true)?;
    assert!(model.read_fd().1, "the file system has no direct I/O");
    println!(
        "file {} MiB, budget {} MiB, depth {depth}, reads of 2 MiB, read_ahead_kb {}",
        bytes >> 20,
        bytes >> 21,
        common::read_ahead_kb(&file.path)
    );
    scan(base, bytes as usize);
    let (_, _, per_cycle) = through_the_pager(&pager, base, bytes as usize, Duration::from_millis(1));
    let (blocks, streamed) = (bytes / HUGE as u64, (per_cycle as u64 / HUGE as u64).max(1));
    let offsets: Vec<u64> = (0..streamed).map(|i| i * blocks / streamed * HUGE as u64).collect();
    let (mut ours, mut of_null, mut of_fio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let null = null_consumer(&model, &offsets, depth, HUGE, time)?;
        let (rate, stats, per_cycle) = through_the_pager(&pager, base, bytes as usize, time);
        let fio = fio(&file.path, streamed * HUGE as u64, depth, HUGE, time);
        // The drive may change its mind within a round: both neighbours of the pager's turn count.
        let null = (null + null_consumer(&model, &offsets, depth, HUGE, time)?) / 2.0;
        println!(
            "round {round}: pager {rate:.3} GB/s, null consumer {null:.3}, fio {}; of null {:.1} %; {:.2} GB a cycle, \
             faults: {} demand, {} in flight; {:.2} s reading, {:.2} s of CPU",
            fio.map_or_else(|| "-".into(), |rate| format!("{rate:.3}")),
            100.0 * rate / null,
            per_cycle / GB,
            stats.faults_demand,
            stats.faults_in_flight,
            stats.reading_s,
            stats.pager_cpu_s,
        );
        ours.push(rate);
        of_null.push(100.0 * rate / null);
        of_fio.extend(fio.map(|fio| 100.0 * rate / fio));
    }
    let stats = pager.stats();
    println!(
        "{} {} {}, {:.1} reads in flight",
        stats.strategy, stats.fill_rung, stats.io_rung, stats.reads_in_flight_mean
    );
    for source in stats.sources.iter().filter(|_| !copies.0.is_empty()) {
        let (read, rate) = (source.read_bytes as f64 / GB, source.drive_bytes_per_s / GB);
        println!("{}: {read:.2} GB read, its drive's rate {rate:.3} GB/s", source.path);
    }
    println!("median: {:.3} GB/s, {:.1} % of the null consumer", median(&mut ours), median(&mut of_null));
    match of_fio.is_empty() {
        true => println!("fio is not installed"),
        false => println!("median: {:.1} % of fio", median(&mut of_fio)),
    }
    pager.unmap(base, bytes as usize)
}
