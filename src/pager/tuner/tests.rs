//! The tuner on simulated drives.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A drive of some channels behind a delay: a read waits for the delay, then for the first channel
/// that is free, which moves it at its part of the rate.
#[derive(Debug, Clone, Copy)]
struct Drive {
    /// Bytes per second, all channels together.
    rate: f64,
    delay_ns: u64,
    channels: usize,
}

impl Drive {
    fn transfer_ns(&self) -> f64 {
        BLOCK as f64 / (self.rate / 1e9 / self.channels as f64)
    }

    /// What must be in flight for the full rate, in blocks.
    fn enough(&self) -> f64 {
        (self.delay_ns as f64 + self.transfer_ns()) * self.rate / 1e9 / BLOCK as f64
    }
}

/// The pager's side: reads as much as it may, and runs `late_ns` after a completion.
struct Run {
    tuner: Tuner,
    late_ns: u64,
    now_ns: u64,
    free_at: Vec<f64>,
    /// One wake-up in so many is late.
    late_every: u64,
    wakeups: u64,
    /// Ends of the reads in flight, in order.
    ends: VecDeque<u64>,
    /// The limit whenever it was not for sampling.
    limits: Vec<u64>,
    sampled: u64,
}

impl Run {
    fn new(tuner: Tuner, late_ns: u64) -> Run {
        let (free_at, ends) = (Vec::new(), VecDeque::new());
        Run { tuner, late_ns, late_every: 1, wakeups: 0, now_ns: 0, free_at, ends, limits: Vec::new(), sampled: 0 }
    }

    /// Reads for `s` seconds; gives bytes per second.
    fn read(&mut self, drive: Drive, s: f64) -> f64 {
        self.free_at.resize(drive.channels, 0.0);
        self.limits.clear();
        let (since, mut bytes) = (self.now_ns, 0);
        while self.now_ns < since + (s * 1e9) as u64 {
            while self.tuner.in_flight < self.tuner.limit_bytes() {
                self.tuner.started(BLOCK, self.now_ns);
                let free = self.free_at.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                *free = free.max((self.now_ns + drive.delay_ns) as f64) + drive.transfer_ns();
                let end = *free as u64;
                let at = self.ends.partition_point(|other| *other <= end);
                self.ends.insert(at, end);
                self.sampled += u64::from(self.tuner.sampling);
            }
            self.tuner.slept(true);
            if !self.tuner.sampling {
                self.limits.push(self.tuner.limit / BLOCK);
            }
            self.wakeups += 1;
            let late_ns = if self.wakeups.is_multiple_of(self.late_every) { self.late_ns } else { 0 };
            self.now_ns = self.now_ns.max(self.ends[0]) + late_ns;
            while self.ends.front().is_some_and(|end| *end <= self.now_ns) {
                self.ends.pop_front();
                self.tuner.ended(BLOCK, self.now_ns);
                bytes += BLOCK;
            }
        }
        bytes as f64 * 1e9 / (self.now_ns - since) as f64
    }

    fn blocks(&self) -> u64 {
        self.tuner.limit / BLOCK
    }
}

fn drives() -> impl Strategy<Value = Drive> {
    // 30 MB/s to 20 GB/s, 10 us to 20 ms; no channel takes 0.2 s for a block.
    (7.5f64..10.3, 4.0f64..7.3, 1usize..9)
        .prop_map(|(rate, delay, channels)| Drive {
            rate: 10f64.powf(rate),
            delay_ns: 10f64.powf(delay) as u64,
            channels,
        })
        .prop_filter("too slow", |drive| drive.transfer_ns() < 2e8)
}

/// Whether as much as the tuner aims at can be in flight.
fn is_within_reach(drive: &Drive) -> bool {
    drive.enough() * GAIN + drive.rate * SLACK_NS / 1e9 / (BLOCK as f64) < MOST as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_drive_comes_to_its_rate_with_a_short_queue(drive in drives()) {
        prop_assume!(is_within_reach(&drive));
        let mut run = Run::new(Tuner::new(None), 0);
        run.read(drive, 30.0);
        let rate = run.read(drive, 60.0);
        prop_assert!(rate > 0.94 * drive.rate, "{:.3} of {drive:?} with {} blocks", rate / drive.rate, run.blocks());
        // As much as is meant, no more; and no more than a block of rounding or a quarter that is
        // not worth a change.
        let meant = (drive.enough() * GAIN + drive.rate * SLACK_NS / 1e9 / BLOCK as f64).max(LEAST as f64);
        prop_assert!((run.blocks() as f64) < meant * 1.4 + 2.0, "{} blocks, {meant} are meant, {drive:?}", run.blocks());
        // It stays where it is, but for one correction.
        let changes = run.limits.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(changes <= 1, "{changes} changes, {drive:?}");
    }

    #[test]
    fn a_drive_that_changes_is_followed(before in drives(), after in drives()) {
        prop_assume!(is_within_reach(&before) && is_within_reach(&after));
        let mut run = Run::new(Tuner::new(None), 0);
        run.read(before, 100.0);
        run.read(after, 30.0);
        let rate = run.read(after, 30.0);
        prop_assert!(rate > 0.93 * after.rate, "{:.3} of {after:?} after {before:?}, {} blocks", rate / after.rate, run.blocks());
    }

    #[test]
    fn a_wrong_memory_is_corrected(drive in drives(), rate in 7.0f64..10.0, base in 1.0f64..5.0) {
        prop_assume!(is_within_reach(&drive));
        let remembered = Profile { rate_bytes_per_s: 10f64.powf(rate), base_us: 10f64.powf(base), measured_s: 0 };
        let mut run = Run::new(Tuner::new(Some(&remembered)), 0);
        run.read(drive, 30.0);
        let rate = run.read(drive, 30.0);
        prop_assert!(rate > 0.94 * drive.rate, "{:.3} of {drive:?} with {} blocks", rate / drive.rate, run.blocks());
    }

    #[test]
    fn a_late_pager_keeps_the_drive_busy(rate in 8.0f64..9.5, late_ms in 0.0f64..20.0, late_every in 1u64..5) {
        // Between the wake-ups the drive lives on what is queued.
        let drive = Drive { rate: 10f64.powf(rate), delay_ns: 100_000, channels: 1 };
        let mut run = Run::new(Tuner::new(None), (late_ms * 1e6) as u64);
        run.late_every = late_every;
        run.read(drive, 30.0);
        let got = run.read(drive, 30.0);
        prop_assert!(got > 0.93 * drive.rate, "{:.3} of {drive:?} with {} blocks", got / drive.rate, run.blocks());
    }
}

#[test]
fn it_never_loses_against_the_fixed_depth() {
    let drive = |rate, delay_ns, channels| Drive { rate, delay_ns, channels };
    // A slow disk, a drive held to 800 MB/s, NVMe, four of them, a network drive with a long way.
    for drive in [
        drive(150e6, 8_000_000, 1),
        drive(800e6, 150_000, 1),
        drive(7e9, 80_000, 4),
        drive(26e9, 80_000, 16),
        drive(1e9, 30_000_000, 1),
    ] {
        let mut fixed = Run::new(Tuner::fixed(16), 0);
        let mut tuned = Run::new(Tuner::new(None), 0);
        // From the first byte on: what the tuning costs counts.
        let (fixed, rate) = (fixed.read(drive, 20.0), tuned.read(drive, 20.0));
        assert!(rate > 0.96 * fixed, "{drive:?}: {rate} instead of {fixed} with {} blocks", tuned.blocks());
    }
}

#[test]
fn a_slow_drive_has_a_short_queue_and_a_fast_one_a_long_queue() {
    let blocks = |rate, delay_ns, channels| {
        let mut run = Run::new(Tuner::new(None), 0);
        run.read(Drive { rate, delay_ns, channels }, 30.0);
        run.blocks()
    };
    assert!(blocks(150e6, 8_000_000, 1) <= 6);
    assert!(blocks(800e6, 150_000, 1) <= 6);
    assert!(blocks(7e9, 80_000, 4) >= 20);
    assert!(blocks(1e9, 60_000_000, 1) >= 56);
}

#[test]
fn sampling_is_rare() {
    let mut run = Run::new(Tuner::new(None), 0);
    run.read(Drive { rate: 800e6, delay_ns: 150_000, channels: 1 }, 100.0);
    assert!((3..=24).contains(&run.sampled), "{}", run.sampled);
}

#[test]
fn a_memory_is_the_start() {
    let remembered = Profile { rate_bytes_per_s: 800e6, base_us: 2500.0, measured_s: 0 };
    let mut run = Run::new(Tuner::new(Some(&remembered)), 0);
    let before = run.blocks();
    run.read(Drive { rate: 800e6, delay_ns: 0, channels: 1 }, 3.0);
    assert_eq!((run.sampled, run.blocks()), (0, before));
    assert!(run.tuner.profile().unwrap().is_near(&remembered));
}

#[test]
fn the_users_depth_stays() {
    let mut run = Run::new(Tuner::fixed(3), 20_000_000);
    run.read(Drive { rate: 7e9, delay_ns: 80_000, channels: 4 }, 30.0);
    assert_eq!((run.blocks(), run.sampled), (3, 0));
    assert_eq!(run.tuner.profile(), None);
    assert!(run.tuner.ran_dry() > 0);
}

#[test]
fn small_reads_are_no_base_time_and_do_not_stop_the_tuning() {
    let mut tuner = Tuner::new(None);
    let mut now_ns = 0;
    for _ in 0..10_000 {
        tuner.started(BLOCK / 8, now_ns);
        now_ns += 1_000_000;
        tuner.ended(BLOCK / 8, now_ns);
    }
    assert_eq!((tuner.base_ns, tuner.limit), (None, START * BLOCK));
}
