//! The rule by itself, and pagers that share a memory in a simulation.

use super::*;
use crate::budget::OTHERS_BYTES_MAX;
use proptest::prelude::*;

const GB: u64 = 1_000_000_000;
const MB: u64 = 1_000_000;

fn look(now_ms: u64, budget_bytes: u64, pool_bytes: u64, room_bytes: u64) -> Look {
    Look { now_ms, budget_bytes, pool_bytes, room_bytes, reserve: Reserve { base_bytes: 256 * MB, slope: SLOPE } }
}

/// What a pool of `pool` bytes must leave.
fn reserve(pool: u64) -> u64 {
    256 * MB + pool.min(KNEE_BYTES) / SLOPE + pool.saturating_sub(KNEE_BYTES) / SLOPE_BEYOND
}

#[test]
fn what_the_program_takes_comes_out_of_a_pool_that_is_not_full_yet() {
    let mut rule = Rule::new(8 * GB);
    // A KV cache of 2 GB comes while the pool has 1 GB: the budget falls at once, and evicts nothing.
    let after = rule.decide(look(0, 4 * GB, GB, 2 * GB));
    assert!((2 * GB..GB * 11 / 4).contains(&after), "{after}");
    // The pool filling up changes nothing.
    assert_eq!(rule.decide(look(5000, after, 2 * GB, GB)), after);
}

#[test]
fn half_goes_at_each_look_and_all_of_it_in_need() {
    let mut rule = Rule::new(8 * GB);
    let pool = 4 * GB / FRAME_BYTES * FRAME_BYTES;
    assert_eq!(rule.decide(look(0, pool, pool, reserve(pool) - FRAME_BYTES)), pool, "a frame is not worth it");
    let mild = Rule::new(8 * GB).decide(look(0, pool, pool, reserve(pool) - 100 * MB));
    assert!((pool - 60 * MB..pool - 40 * MB).contains(&mild), "{}", pool - mild);
    // With less than the base left, what has gone since the last look is expected to go once more.
    let strange = Rule::new(8 * GB).decide(look(50, pool, pool, 200 * MB));
    let foreseen = rule.decide(look(50, pool, pool, 200 * MB));
    assert!((strange - 270 * MB..strange - 250 * MB).contains(&foreseen), "{}", strange - foreseen);
    let need = Rule::new(8 * GB).decide(look(0, pool, pool, 100 * MB));
    assert!(need + reserve(need) <= pool + 100 * MB + FRAME_BYTES, "{}", pool - need);
}

#[test]
fn growth_waits_and_comes_in_steps() {
    let mut rule = Rule::new(8 * GB);
    let pool = 4 * GB / FRAME_BYTES * FRAME_BYTES;
    let less = rule.decide(look(0, pool, pool, reserve(pool) - 100 * MB));
    assert_eq!(rule.decide(look(QUIET_MS - 1, less, less, 2 * GB)), less);
    let more = rule.decide(look(QUIET_MS, less, less, 2 * GB));
    assert!(more > less + 700 * MB && more < less + 900 * MB, "{}", more - less);
    assert_eq!(rule.decide(look(QUIET_MS + 1, more, less, 2 * GB)), more);
    assert!(rule.decide(look(QUIET_MS + GROW_EVERY_MS, more, more, 2 * GB)) > more + 100 * MB);
}

#[test]
fn never_more_than_the_model_nor_less_than_the_least() {
    let mut rule = Rule::new(GB);
    let mut budget = 0;
    for at in 0..200 {
        budget = rule.decide(look(at * 1000, budget, budget, 100 * GB));
    }
    assert_eq!(budget, frames_up(GB));
    rule.set_least(20 * FRAME_BYTES);
    assert_eq!(rule.decide(look(2_000_000, 21 * FRAME_BYTES, 21 * FRAME_BYTES, 0)), 20 * FRAME_BYTES);
}

#[test]
fn it_looks_more_often_when_little_is_left() {
    let rule = Rule::new(8 * GB);
    assert_eq!(rule.pause_ms(&look(0, GB, GB, GB)), PAUSE_MAX_MS);
    assert_eq!(rule.pause_ms(&look(0, GB, GB, 200 * MB)), 25);
    assert_eq!(rule.pause_ms(&look(0, GB, GB, 0)), PAUSE_MIN_MS);
    assert_eq!(rule.pause_ms(&look(0, GB, 0, 0)), PAUSE_MAX_MS, "nothing to give");
}

/// A pager of the simulation.
#[derive(Debug, Clone)]
struct Pager {
    rule: Rule,
    budget: u64,
    pool: u64,
    looks_at: u64,
    /// A decision, carried out at that time.
    pending: Option<(u64, u64)>,
    given: u64,
}

/// Pagers and a hog on one memory, in steps of a millisecond.
struct World {
    now: u64,
    capacity: u64,
    hog: u64,
    /// The hog is the program itself.
    own_hog: bool,
    pagers: Vec<Pager>,
    /// Time from a look to its consequence, in milliseconds.
    lag: u64,
    noise: u64,
    least_room: i64,
}

/// The drive, shared by all, and how fast a pager frees memory; in bytes per millisecond.
const DRIVE: u64 = 2 * MB;
const FREES: u64 = 8 * MB;

impl World {
    fn new(capacity: u64, lag: u64, pools: &[(u64, u64)]) -> World {
        let pager = |(at, &(model, pool)): (usize, &(u64, u64))| {
            let mut rule = Rule::new(model);
            rule.set_least(32 * MIB);
            let pool = pool.min(model) / FRAME_BYTES * FRAME_BYTES;
            Pager { rule, budget: pool, pool, looks_at: at as u64 * 7, pending: None, given: 0 }
        };
        let pagers = pools.iter().enumerate().map(pager).collect();
        World { now: 0, capacity, hog: 0, own_hog: false, pagers, lag, noise: 1, least_room: i64::MAX }
    }

    fn room(&self) -> i64 {
        self.capacity as i64 - self.hog as i64 - self.pagers.iter().map(|pager| pager.pool as i64).sum::<i64>()
    }

    fn step(&mut self) {
        self.now += 1;
        // The kernel counts in batches.
        self.noise = self.noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let room_bytes = (self.room().max(0) as u64).saturating_sub((self.noise >> 33) % (2 * MB));
        let filling = self.pagers.iter().filter(|pager| pager.pool < pager.budget).count().max(1) as u64;
        let count = self.pagers.len();
        for pager in &mut self.pagers {
            if self.now >= pager.looks_at && pager.pending.is_none() {
                let alone = self.own_hog || count == 1 && self.hog <= OTHERS_BYTES_MAX;
                let reserve = if alone { Reserve::alone(self.capacity) } else { Reserve::shared(self.capacity) };
                let (budget_bytes, pool_bytes) = (pager.budget, pager.pool);
                let look = Look { now_ms: self.now, budget_bytes, pool_bytes, room_bytes, reserve };
                pager.pending = Some((self.now + self.lag, pager.rule.decide(look)));
                pager.looks_at = self.now + self.lag + pager.rule.pause_ms(&look);
            }
            if let Some((_, budget)) = pager.pending.take_if(|(at, _)| *at <= self.now) {
                pager.budget = budget;
            }
            if pager.pool > pager.budget {
                let freed = (pager.pool - pager.budget).min(FREES);
                pager.pool -= freed;
                pager.given += freed;
            } else {
                pager.pool = (pager.pool + DRIVE / filling).min(pager.budget);
            }
        }
        self.least_room = self.least_room.min(self.room());
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// The hog takes memory until it has `bytes`, at `rate` bytes per millisecond.
    fn take(&mut self, bytes: u64, rate: u64) {
        while self.hog < bytes {
            self.hog = (self.hog + rate).min(bytes);
            self.step();
        }
    }

    fn budgets(&self) -> Vec<u64> {
        self.pagers.iter().map(|pager| pager.budget).collect()
    }
}

#[test]
fn a_hog_of_4_gb_per_second_finds_room() {
    let mut world = World::new(1600 * MB, 8, &[(1500 * MB, 200 * MB)]);
    world.run(20_000);
    let full = world.pagers[0].pool;
    assert!(full > 1100 * MB, "{full}");
    for _ in 0..20 {
        world.take(500 * MB, 4 * MB);
        world.run(2000);
        assert!(world.pagers[0].pool < full - 400 * MB && world.pagers[0].pool > full - 650 * MB);
        world.hog = 0;
        world.run(6000);
        assert!(world.pagers[0].pool + 50 * MB > full);
    }
    assert!(world.least_room > 0, "{}", world.least_room);
}

#[test]
fn at_rest_nothing_moves() {
    let mut world = World::new(3 * GB, 8, &[(4 * GB, 0), (4 * GB, 0)]);
    world.run(120_000);
    let given: Vec<u64> = world.pagers.iter().map(|pager| pager.given).collect();
    world.run(60_000);
    for (pager, before) in world.pagers.iter().zip(given) {
        assert!(pager.given - before <= 16 * MB, "{} bytes given back in a minute", pager.given - before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever they begin with, pagers with large models come to have the same, and the memory is used.
    #[test]
    fn pagers_become_equal(
        capacity in 1200 * MB..40 * GB, lag in 0..20u64, shares in prop::collection::vec(0..100u64, 2..5)
    ) {
        let sum: u64 = shares.iter().sum::<u64>() + 1;
        let usable = capacity - Reserve::shared(capacity).base_bytes * 2;
        let pools: Vec<_> = shares.iter().map(|share| (64 * GB, usable * share / sum)).collect();
        let mut world = World::new(capacity, lag, &pools);
        world.run(90_000);
        let budgets = world.budgets();
        let (least, most) = (budgets.iter().min().unwrap(), budgets.iter().max().unwrap());
        prop_assert!(most - least <= most / 5 + 16 * SLACK_BYTES * 2, "{budgets:?}");
        prop_assert!(world.room() > 0 && world.room() < (capacity / 4) as i64, "{} of {capacity}", world.room());
    }

    /// A model that is smaller than its share is held whole, and the other gets the rest.
    #[test]
    fn a_small_model_is_held_whole(capacity in 4 * GB..20 * GB, small in 100 * MB..GB, lag in 0..20u64) {
        let mut world = World::new(capacity, lag, &[(64 * GB, capacity * 9 / 10), (small, 32 * MIB)]);
        world.run(90_000);
        let budgets = world.budgets();
        prop_assert!(budgets[1] >= small && budgets[0] > capacity / 2, "{budgets:?} of {capacity}");
    }

    /// Nobody takes the last byte, however a hog behaves that leaves the pagers their least.
    #[test]
    fn the_room_never_ends(
        capacity in 2 * GB..8 * GB,
        count in 1..4usize,
        own_hog: bool,
        visits in prop::collection::vec((0..70u64, MB / 2..2 * MB, 0..3000u64), 1..12),
    ) {
        let mut world = World::new(capacity, 20, &vec![(64 * GB, 0); count]);
        world.own_hog = own_hog && count == 1;
        world.run(20_000);
        for (percent, rate, pause) in visits {
            world.take(capacity * percent / 100, rate);
            world.run(pause);
            world.hog = 0;
            world.run(pause);
        }
        prop_assert!(world.least_room > 0, "{}", world.least_room);
    }
}
