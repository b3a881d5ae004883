//! Tests of the drives, on simulated ones.

use super::*;

const BLOCK: usize = 2 << 20;

/// Drives that serve one block after the other, each at a rate of its own in bytes per nanosecond.
struct Bench {
    drives: Drives,
    sources: Vec<usize>,
    rates: Vec<f64>,
    /// When each drive's latest read will end, and the reads in flight by end: (end, source).
    busy_until: Vec<f64>,
    in_flight: Vec<(f64, usize)>,
    now: f64,
}

fn drives(count: u64) -> (Drives, Vec<usize>) {
    let mut drives = Drives::new(Some(16), false);
    let add = |dev| drives.add_source(Identity { dev, ino: 1 }, format!("/{dev}/m").into(), Notes::default);
    let sources = (0..count).map(add).collect();
    (drives, sources)
}

impl Bench {
    fn new(rates: &[f64]) -> Bench {
        let (drives, sources) = drives(rates.len() as u64);
        let busy_until = vec![0.0; rates.len()];
        Bench { drives, sources, rates: rates.to_vec(), busy_until, in_flight: Vec::new(), now: 0.0 }
    }

    fn start(&mut self, at: usize) {
        self.drives.block_started(self.sources[at], BLOCK, self.now as u64);
        self.drives.read_started(self.sources[at], self.now as u64);
        let end = self.busy_until[at].max(self.now) + BLOCK as f64 / self.rates[at];
        self.busy_until[at] = end;
        self.in_flight.push((end, at));
    }

    fn end_next(&mut self) {
        self.in_flight.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (end, at) = self.in_flight.pop().unwrap();
        self.now = end;
        self.drives.read_ended(self.sources[at], BLOCK as u64, end as u64);
        self.drives.block_ended(self.sources[at], BLOCK, end as u64);
    }

    /// Reads ahead as fast as the drives can; gives each one's share.
    fn stream(&mut self, blocks: usize) -> Vec<f64> {
        let before: Vec<u64> = self.drives.sources.iter().map(|state| state.read_bytes).collect();
        for _ in 0..blocks {
            let now = self.now as u64;
            while let Some(at) = self.drives.choose(&self.sources, BLOCK, Urgency::Readahead, now) {
                self.start(at);
            }
            self.end_next();
        }
        let read = self.drives.sources.iter().zip(before).map(|(state, before)| (state.read_bytes - before) as f64);
        read.map(|bytes| bytes / (blocks * BLOCK) as f64).collect()
    }
}

#[test]
fn shares_follow_the_rates() {
    for rates in [vec![1.0, 1.0], vec![4.0, 1.0], vec![0.5, 2.0, 1.0], vec![1.0]] {
        let mut bench = Bench::new(&rates);
        bench.stream(200);
        let sum: f64 = rates.iter().sum();
        for (share, rate) in bench.stream(2000).iter().zip(&rates) {
            assert!((share - rate / sum).abs() < 0.02, "{rates:?}: {share}");
        }
    }
}

#[test]
fn every_drive_is_tried_by_a_single_reader() {
    let mut bench = Bench::new(&[1.0, 4.0, 2.0]);
    for _ in 0..20 {
        let at = bench.drives.choose(&bench.sources, BLOCK, Urgency::Demand, bench.now as u64).unwrap();
        bench.start(at);
        bench.end_next();
    }
    let read: Vec<u64> = bench.drives.sources.iter().map(|state| state.read_bytes / BLOCK as u64).collect();
    assert_eq!(read, [1, 18, 1]);
}

#[test]
fn a_change_of_speed_is_followed() {
    let mut bench = Bench::new(&[1.0, 1.0]);
    bench.stream(200);
    bench.rates = vec![0.1, 1.0];
    bench.stream(200);
    let slowed = bench.stream(1000);
    assert!(slowed[0] < 0.15, "{slowed:?}");
    bench.rates = vec![1.0, 1.0];
    bench.stream(400);
    let again = bench.stream(1000);
    assert!(again[0] > 0.4, "{again:?}");
}

#[test]
fn every_drive_has_its_own_depth() {
    let mut bench = Bench::new(&[1.0, 1.0]);
    bench.stream(100);
    while let Some(at) = bench.drives.choose(&bench.sources, BLOCK, Urgency::Readahead, bench.now as u64) {
        bench.start(at);
    }
    assert_eq!(bench.in_flight.len(), 32);
    assert!(!bench.drives.have_room(Urgency::Readahead));
    let demanded = bench.drives.choose(&bench.sources, BLOCK, Urgency::Demand, bench.now as u64);
    assert!(demanded.is_some(), "who sleeps does not wait for depth");
}

#[test]
fn what_is_certain_does_not_wait_for_a_measurement() {
    let mut drives = Drives::new(None, false);
    let source = drives.add_source(Identity { dev: 1, ino: 1 }, "/m".into(), Notes::default);
    // The first read of all is alone, to tell the drive's base time.
    drives.block_started(source, BLOCK, 0);
    let room = |drives: &Drives, urgency| (drives.have_room(urgency), drives.choose(&[source], BLOCK, urgency, 0));
    assert_eq!(room(&drives, Urgency::Readahead), (false, None));
    for _ in 1..16 {
        assert_eq!(room(&drives, Urgency::Certain), (true, Some(0)));
        drives.block_started(source, BLOCK, 0);
    }
    assert_eq!(room(&drives, Urgency::Certain), (false, None));
}

#[test]
fn what_is_certain_keeps_to_the_depth_that_the_user_chose() {
    let mut drives = Drives::new(Some(2), false);
    let source = drives.add_source(Identity { dev: 1, ino: 1 }, "/m".into(), Notes::default);
    (0..2).for_each(|_| drives.block_started(source, BLOCK, 0));
    assert!(!drives.have_room(Urgency::Certain));
}

#[test]
fn a_thread_that_waits_is_served_where_it_ends_first() {
    let mut bench = Bench::new(&[4.0, 1.0]);
    bench.stream(200);
    while !bench.in_flight.is_empty() {
        bench.end_next();
    }
    let demand = |bench: &Bench| bench.drives.choose(&bench.sources, BLOCK, Urgency::Demand, bench.now as u64);
    for _ in 0..3 {
        assert_eq!(demand(&bench), Some(0));
        bench.start(0);
    }
    bench.start(0);
    assert_eq!(demand(&bench), Some(1), "five blocks at 4 take longer than one at 1");
}

#[test]
fn a_silent_drive_loses_its_share_and_an_idle_one_is_tried_again() {
    let mut bench = Bench::new(&[1.0, 1.0]);
    bench.stream(100);
    while !bench.in_flight.is_empty() {
        bench.end_next();
    }
    bench.start(0);
    let choose = |bench: &Bench, urgency, seconds: u64| {
        bench.drives.choose(&bench.sources, BLOCK, urgency, bench.now as u64 + seconds * 1_000_000_000)
    };
    bench.start(1);
    bench.start(1);
    assert_eq!(choose(&bench, Urgency::Demand, 0), Some(0), "one in flight against two");
    bench.end_next();
    bench.rates = vec![1.0, 1e-3];
    while bench.in_flight.iter().any(|&(_, at)| at == 1) {
        bench.end_next();
    }
    bench.start(1);
    bench.end_next();
    assert_eq!(choose(&bench, Urgency::Readahead, 0), Some(0), "a thousand times slower");
    bench.start(0);
    assert_eq!(choose(&bench, Urgency::Demand, 60), Some(1), "the other is silent, and looks slower still");
}

#[test]
fn what_fails_is_left_out_and_the_original_is_last() {
    let (mut drives, sources) = drives(3);
    let choose = |drives: &Drives| drives.choose(&sources, BLOCK, Urgency::Demand, 0).unwrap();
    assert!(drives.leave_out(sources[0]) && !drives.leave_out(sources[0]), "said once");
    assert_eq!(choose(&drives), 1);
    drives.block_started(sources[1], BLOCK, 0);
    assert_eq!(choose(&drives), 2);
    assert!(drives.has_other(&sources, sources[2]));
    drives.leave_out(sources[1]);
    assert!(!drives.has_other(&sources, sources[2]));
    drives.leave_out(sources[2]);
    assert_eq!(choose(&drives), 0, "the original, when there is nothing else");
    let left_out: Vec<bool> = drives.summary(0).iter().map(|source| source.left_out).collect();
    assert_eq!(left_out, [true; 3]);
}

#[test]
fn a_file_mapped_twice_is_one_source() {
    let (mut drives, sources) = drives(2);
    let again = drives.add_source(Identity { dev: 1, ino: 1 }, "/1/m".into(), Notes::default);
    assert_eq!(again, sources[1]);
    let neighbour = drives.add_source(Identity { dev: 1, ino: 2 }, "/1/n".into(), Notes::default);
    assert_eq!((neighbour, drives.drives.len()), (2, 2), "on the same drive");
}
