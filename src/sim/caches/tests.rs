use proptest::prelude::*;

use super::*;
use crate::policy::{Block, BlockTable, Role};
use crate::sim::{Drive, Step, min_bytes};

const KINDS: [Kind; 6] = [Kind::Lru, Kind::Fifo, Kind::Clock, Kind::Lfu, Kind::S3Fifo, Kind::Mru];

/// Misses of a cache with room for `room` blocks of one byte.
fn misses(kind: Kind, sequence: &[BlockId], room: u64) -> Vec<bool> {
    let mut cache = Cache::new(kind, room);
    sequence.iter().map(|&id| !cache.access(id, 1)).collect()
}

/// The same by lists that are searched from end to end, straight from each policy's definition.
fn naive(kind: Kind, sequence: &[BlockId], room: usize) -> Vec<bool> {
    if kind == Kind::S3Fifo {
        return naive_s3_fifo(sequence, room);
    }
    #[derive(Clone, Copy)]
    struct Held {
        id: BlockId,
        inserted: usize,
        used: usize,
        count: usize,
        second_chance: bool,
    }
    let mut held: Vec<Held> = Vec::new();
    let mut missed = Vec::new();
    for (now, &id) in sequence.iter().enumerate() {
        if let Some(it) = held.iter_mut().find(|it| it.id == id) {
            (it.used, it.count, it.second_chance) = (now, it.count + 1, true);
            missed.push(false);
            continue;
        }
        missed.push(true);
        if held.len() == room {
            let by = |key: &dyn Fn(&Held) -> (usize, usize)| (0..room).min_by_key(|&at| key(&held[at])).unwrap();
            let victim = match kind {
                Kind::Lru => by(&|it| (it.used, 0)),
                Kind::Fifo => by(&|it| (it.inserted, 0)),
                Kind::Lfu => by(&|it| (it.count, it.used)),
                Kind::Mru => by(&|it| (usize::MAX - it.used, 0)),
                Kind::Clock => {
                    while held[0].second_chance {
                        held[0].second_chance = false;
                        held.rotate_left(1);
                    }
                    0
                }
                Kind::S3Fifo => unreachable!(),
            };
            held.remove(victim);
        }
        held.push(Held { id, inserted: now, used: now, count: 1, second_chance: false });
    }
    missed
}

/// Algorithm 1 of the paper, with the heads of the queues at the front.
fn naive_s3_fifo(sequence: &[BlockId], room: usize) -> Vec<bool> {
    let (mut small, mut main, mut ghosts) = (Vec::new(), Vec::new(), Vec::new());
    let mut uses = HashMap::<BlockId, u32>::new();
    let mut missed = Vec::new();
    for &id in sequence {
        if small.contains(&id) || main.contains(&id) {
            let uses = uses.entry(id).or_default();
            *uses = (*uses + 1).min(3);
            missed.push(false);
            continue;
        }
        missed.push(true);
        let mut evicted = small.len() + main.len() < room;
        if !evicted && (small.len() >= room / 10 || main.is_empty()) {
            while let Some(tail) = small.pop() {
                if uses[&tail] > 1 {
                    uses.insert(tail, 0);
                    main.insert(0, tail);
                } else {
                    ghosts.insert(0, tail);
                    ghosts.truncate(room - room / 10);
                    evicted = true;
                    break;
                }
            }
        }
        while !evicted {
            let tail: BlockId = main.pop().unwrap();
            let left = uses[&tail];
            if left > 0 {
                uses.insert(tail, left - 1);
                main.insert(0, tail);
            } else {
                evicted = true;
            }
        }
        if let Some(at) = ghosts.iter().position(|&ghost| ghost == id) {
            ghosts.remove(at);
            main.insert(0, id);
        } else {
            small.insert(0, id);
        }
        uses.insert(id, 0);
    }
    missed
}

fn count(missed: &[bool]) -> usize {
    missed.iter().filter(|&&missed| missed).count()
}

fn table(blocks: usize, bytes: u32) -> BlockTable {
    let block = Block { view: 0, offset: 0, len: bytes, frame_bytes: bytes, role: Role::Cyclic };
    let mut table = BlockTable::default();
    table.add(&vec![block; blocks]);
    table
}

fn belady(sequence: &[BlockId], room: u64) -> usize {
    let blocks = sequence.iter().max().map_or(0, |&id| id as usize + 1);
    min_bytes(&table(blocks, 1), sequence, room, &[])[0] as usize
}

/// Popular blocks are used often (Zipf), and one in three uses is of a block that is never used again.
fn skewed(count: usize) -> Vec<BlockId> {
    let mut random = fastrand::Rng::with_seed(23);
    let mut once = 1000;
    let mut next = || {
        once += 1;
        if random.u32(0..3) == 0 { once } else { (random.f64() * 1000f64.ln()).exp() as BlockId }
    };
    (0..count).map(|_| next()).collect()
}

proptest! {
    #[test]
    fn caches_do_what_their_definitions_say(sequence in proptest::collection::vec(0u32..40, 1..400), room in 1usize..30) {
        for kind in KINDS {
            prop_assert_eq!(misses(kind, &sequence, room as u64), naive(kind, &sequence, room), "{:?}", kind);
        }
    }

    #[test]
    fn nobody_reads_less_than_belady(sequence in proptest::collection::vec(0u32..40, 1..400), room in 1u64..30) {
        let least = belady(&sequence, room);
        for kind in KINDS {
            prop_assert!(count(&misses(kind, &sequence, room)) >= least, "{:?}", kind);
        }
    }

    #[test]
    fn a_larger_lru_holds_what_a_smaller_one_holds(sequence in proptest::collection::vec(0u32..40, 1..400), room in 1u64..30) {
        let (small, large) = (misses(Kind::Lru, &sequence, room), misses(Kind::Lru, &sequence, room + 1));
        prop_assert!(small.iter().zip(&large).all(|(small, large)| *small || !*large));
    }

    #[test]
    fn the_held_bytes_never_exceed_the_capacity(sequence in proptest::collection::vec((0u32..40, 1u64..9), 1..400), room in 1u64..60) {
        for kind in KINDS {
            let mut cache = Cache::new(kind, room);
            let mut lens = HashMap::new();
            for &(id, len) in &sequence {
                let len = *lens.entry(id).or_insert(len);
                cache.access(id, len);
                prop_assert!(cache.held_bytes <= room && cache.held_bytes == cache.held.values().sum::<u64>());
                prop_assert_eq!(cache.access(id, len), len <= room, "what was just used is held");
            }
        }
    }
}

#[test]
fn a_cyclic_scan_starves_all_but_mru() {
    let sequence: Vec<BlockId> = (0..20).flat_map(|_| 0..1000).collect();
    for kind in [Kind::Lru, Kind::Fifo, Kind::Clock, Kind::Lfu] {
        assert_eq!(count(&misses(kind, &sequence, 800)), sequence.len(), "{kind:?}");
    }
    let (mru, least) = (count(&misses(Kind::Mru, &sequence, 800)), belady(&sequence, 800));
    assert!(mru as f64 <= least as f64 * 1.02, "{mru} {least}");
    // N (N - k) / (N - 1) misses a cycle, after the first.
    let exact = 1000.0 + 19.0 * 1000.0 * 200.0 / 999.0;
    assert!((least as f64 - exact).abs() <= 20.0, "{least} {exact}");
}

#[test]
fn s3_fifo_is_better_than_lru_where_much_is_used_once() {
    let sequence = skewed(100_000);
    let [s3, lru, fifo] = [Kind::S3Fifo, Kind::Lru, Kind::Fifo].map(|kind| count(&misses(kind, &sequence, 100)));
    assert!(s3 * 100 < lru * 95 && lru < fifo, "{s3} {lru} {fifo}");
}

#[test]
fn a_miss_costs_latency_transfer_and_computation() {
    // 1 MB at 1 GB/s: 1 ms; latency 0.2 ms; computation 0.5 ms.
    let drive = Drive { bytes_per_s: 1e9, latency_ns: 200_000, queue_depth: 1, limit_bytes_per_s: None };
    let steps: Vec<Step> = (0..4).map(|block| Step { block, compute_ns: 500_000 }).collect();
    let reads = Reads { drive, readahead_bytes: None };
    let table = table(4, 1_000_000);
    let ends = |missed: &[bool], threads, reads| time(&table, &steps, missed, &[2], threads, reads);
    let marks = ends(&[true; 4], 1, reads);
    assert_eq!(marks[1].time_ns, 4 * 1_700_000);
    assert_eq!(marks[0].time_ns, 2 * 1_700_000);
    assert_eq!((marks[1].stall_ns, marks[1].read_bytes, marks[1].demand), (4 * 1_200_000, 4_000_000, 4));
    let half = ends(&[true, false, true, false], 1, reads);
    assert_eq!((half[1].time_ns, half[1].read_bytes), (2 * 1_700_000 + 2 * 500_000, 2_000_000));
    // Two threads: the second's latency hides behind the first's transfer; the drive is the bound.
    // First reads end at 1.2 and 2.2 ms, the next ones at max(1.7 + 0.2, 2.2) + 1 = 3.2 and 4.2 ms.
    assert_eq!(ends(&[true; 4], 2, reads)[1].time_ns, 4_700_000);
    // Reads of 0.25 MB take 0.45 ms and wait for the one before; each brings 0.125 ms of computation, during
    // which the next one is read: 0.45 for each of four, and the last computation.
    let small = Reads { readahead_bytes: Some(250_000), ..reads };
    let marks = ends(&[true; 4], 1, small);
    assert_eq!(marks[1].time_ns, 4 * (4 * 450_000 + 125_000));
    assert_eq!(marks[1].read_bytes, 4_000_000);
    assert_eq!(marks[1].stall_ns, 4 * (450_000 + 3 * 325_000));
}
