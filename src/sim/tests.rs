use super::*;
use crate::policy::{Block, Demand, Readahead, Role};

const MIB: u64 = 1 << 20;
pub(super) const FRAME: u64 = 2 * MIB;

pub(super) fn cyclic_table(count: usize, budget_frames: u64) -> BlockTable {
    let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
    let mut table = BlockTable::default();
    table.add(&vec![block; count]);
    table.set_budget(budget_frames * FRAME);
    table
}

/// A drive of 800 MB/s, as in the reference runs.
pub(super) fn drive() -> Drive {
    Drive { bytes_per_s: 800e6, latency_ns: 150_000, queue_depth: 16, limit_bytes_per_s: None }
}

pub(super) fn cycles(order: &[BlockId], count: usize, compute_ns: u64) -> Vec<Step> {
    std::iter::repeat_n(order, count).flatten().map(|&block| Step { block, compute_ns }).collect()
}

pub(super) fn scenario(script: Vec<Step>, threads: usize) -> Scenario {
    let touches_max = 20 * script.len() as u64;
    Scenario {
        drive: drive(),
        scripts: vec![script],
        threads: vec![0; threads],
        foretold: Vec::new(),
        work: Work::default(),
        wake_ns: 10_000,
        touches_max,
    }
}

/// (bytes per cycle / Belady's, roofline share) of the sixth cycle.
pub(super) fn clean_cycle(
    policy: &mut dyn Policy,
    prior: &[BlockId],
    order: &[BlockId],
    budget_frames: u64,
) -> (f64, f64) {
    let compute_ns = 550_000;
    let count = 6;
    let table = cyclic_table(order.len(), budget_frames);
    policy.mapped(&table, 0..order.len() as BlockId, prior);
    let budget = table.budget_bytes();
    let sequence: Vec<BlockId> = std::iter::repeat_n(order, count).flatten().copied().collect();
    let cuts: Vec<usize> = (1..count).map(|cycle| cycle * order.len()).collect();
    let least = *min_bytes(&table, &sequence, budget, &cuts).last().unwrap();
    let totals = run(table, policy, &scenario(cycles(order, count, compute_ns), 2), order.len()).unwrap();
    let last = totals[count - 1].since(&totals[count - 2]);
    let roof = roofline_ns(compute_ns * order.len() as u64 / 2, least, &drive());
    eprintln!("budget {budget_frames}: {last:?}, least {least}");
    (last.read_bytes as f64 / least as f64, roof as f64 / last.time_ns as f64)
}

#[test]
fn readahead_is_close_to_belady_and_the_roofline() {
    let order: Vec<BlockId> = (0..4000).collect();
    let (bytes, roof) = clean_cycle(&mut Readahead::default(), &order, &order, 2000);
    assert!(bytes <= 1.04 && roof >= 0.95, "bytes {bytes} roofline {roof}");
    let (bytes, roof) = clean_cycle(&mut Readahead::default(), &order, &order, 3200);
    assert!(bytes <= 1.06 && roof >= 0.92, "bytes {bytes} roofline {roof}");
    let (bytes, roof) = clean_cycle(&mut Readahead::default(), &order, &order, 1000);
    assert!(bytes <= 1.03 && roof >= 0.95, "bytes {bytes} roofline {roof}");
}

#[test]
fn everything_fits_and_is_read_once() {
    let order: Vec<BlockId> = (0..500).rev().collect();
    let table = cyclic_table(500, 500);
    let mut policy = Readahead::default();
    policy.mapped(&table, 0..500, &order);
    let totals = run(table, &mut policy, &scenario(cycles(&order, 3, 100_000), 2), 500).unwrap();
    assert_eq!(totals[0].read_bytes, 500 * FRAME, "the first cycle reads all");
    assert_eq!(totals[2].since(&totals[0]).read_bytes, 0, "later cycles read nothing");
    assert!(totals[0].demand <= 2, "only the first blocks are demand reads: {}", totals[0].demand);
}

#[test]
fn demand_keeps_nearly_what_fits_of_a_cycle() {
    let order: Vec<BlockId> = (0..1000).collect();
    let (bytes, _) = clean_cycle(&mut Demand::default(), &[], &order, 500);
    // LRU reads 2.0 times the minimum.
    assert!(bytes <= 1.25, "{bytes}");
}

#[test]
fn a_compute_bound_cycle_hardly_waits() {
    let order: Vec<BlockId> = (0..4000).collect();
    let table = cyclic_table(4000, 3200);
    let mut policy = Readahead::default();
    policy.mapped(&table, 0..4000, &order);
    // 840 blocks of 2 MiB take 2.2 s; the computation takes 2.8 s.
    let totals = run(table, &mut policy, &scenario(cycles(&order, 4, 1_400_000), 2), 4000).unwrap();
    let last = totals[3].since(&totals[2]);
    assert!(last.time_ns < 2_800_000_000 * 103 / 100, "{last:?}");
    assert!(last.demand == 0 && last.wasted == 0 && last.lost == 0, "{last:?}");
}

#[test]
fn prefill_sweeps_are_not_read_again() {
    // Tensors of 48 blocks, each swept eight times: wider than the window's first guess.
    let script: Vec<Step> = (0..40)
        .flat_map(|tensor| std::iter::repeat_n(tensor, 8))
        .flat_map(|tensor| (tensor * 48..tensor * 48 + 48).map(|block| Step { block, compute_ns: 200_000 }))
        .collect();
    let len = script.len();
    let script = script.repeat(4);
    let order: Vec<BlockId> = (0..1920).collect();
    let table = cyclic_table(1920, 480);
    let mut policy = Readahead::default();
    policy.mapped(&table, 0..1920, &order);
    let totals = run(table, &mut policy, &scenario(script, 2), len).unwrap();
    let last = totals[3].since(&totals[2]);
    assert!(last.read_bytes <= (1920 - 480) * FRAME * 115 / 100, "{last:?}: {}", last.read_bytes / FRAME);
}

#[test]
fn a_jump_takes_the_readahead_along() {
    // Every other cycle leaves the last quarter out, as ubatches of a prompt leave out the output.
    let full: Vec<BlockId> = (0..2000).collect();
    let script = [cycles(&full, 1, 500_000), cycles(&full[..1500], 1, 500_000)].concat().repeat(3);
    let table = cyclic_table(2000, 1000);
    let mut policy = Readahead::default();
    policy.mapped(&table, 0..2000, &full);
    let totals = run(table, &mut policy, &scenario(script, 2), 3500).unwrap();
    let last = totals[2].since(&totals[1]);
    assert!(last.demand <= 4 && last.wasted <= 30, "{last:?}");
}

#[test]
fn a_small_model_stays_whole_and_shards_follow_each_other() {
    let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
    let mut table = BlockTable::default();
    let mut policy = Readahead::default();
    table.set_budget(1200 * FRAME);
    for (count, view) in [(1000, 0), (1000, 1), (60, 2)] {
        let ids = table.add(&vec![Block { view, ..block }; count]);
        policy.mapped(&table, ids.clone(), &ids.collect::<Vec<_>>());
    }
    let main: Vec<BlockId> = (0..2000).collect();
    let draft: Vec<BlockId> = (2000..2060).collect();
    let script = [cycles(&draft, 4, 300_000), cycles(&main, 1, 500_000)].concat().repeat(5);
    let totals = run(table, &mut policy, &scenario(script, 2), 2240).unwrap();
    let last = totals[4].since(&totals[3]);
    assert!(last.demand <= 4, "{last:?}");
    assert!(last.read_bytes <= 860 * FRAME * 106 / 100, "{last:?}: {}", last.read_bytes / FRAME);
}

#[test]
fn blocks_that_no_order_knows_do_not_take_each_others_frames() {
    // The order fits, and experts fill the rest of the pool; pairs of blocks by turns are outside of the order.
    let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
    let slice = Block { len: 262_144, frame_bytes: 262_144, role: Role::Expert { layer: 0 }, ..block };
    let mut table = BlockTable::default();
    table.set_budget(300 * FRAME);
    let ids = table.add(&[vec![block; 230], vec![slice; 2000]].concat());
    let mut policy = Readahead::default();
    policy.mapped(&table, ids, &(0..150).collect::<Vec<_>>());
    let pairs = (150..230).step_by(2).flat_map(|id| [id, id + 1].repeat(20));
    let script: Vec<Step> =
        (0..150).chain(230..2230).chain(pairs).map(|block| Step { block, compute_ns: 1000 }).collect();
    let count = script.len();
    let totals = run(table, &mut policy, &scenario(script, 1), count).unwrap();
    assert!(totals[0].demand <= 2000 + 150 + 2 * 80 && totals[0].lost == 0, "{:?}", totals[0]);
}

#[test]
fn rows_and_experts_do_not_eat_the_window() {
    let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
    let row = Block { len: 16384, frame_bytes: 16384, role: Role::Row, ..block };
    let slice = Block { len: 262_144, frame_bytes: 262_144, role: Role::Expert { layer: 0 }, ..block };
    let blocks = [vec![block; 300], vec![row; 4000], vec![slice; 2000]].concat();
    let mut table = BlockTable::default();
    table.set_budget(200 * FRAME);
    let ids = table.add(&blocks);
    let order: Vec<BlockId> = (0..300).collect();
    let mut policy = Readahead::default();
    policy.mapped(&table, ids, &order);
    let mut random = fastrand::Rng::with_seed(7);
    let mut script = Vec::new();
    for _ in 0..20 {
        script.push(Step { block: random.u32(300..4300), compute_ns: 1000 });
        for &block in &order {
            script.push(Step { block, compute_ns: 500_000 });
            if block % 10 == 0 {
                script.extend((0..8).map(|_| Step { block: random.u32(4300..6300), compute_ns: 20_000 }));
            }
        }
    }
    let len = script.len() / 20;
    let totals = run(table, &mut policy, &scenario(script, 2), len).unwrap();
    let last = totals[19].since(&totals[18]);
    // 241 random slices and one row are demand reads; the order never is.
    assert!(last.demand <= 245, "{last:?}");
}

#[test]
fn a_limited_drive_spends_what_it_has_saved() {
    let limited = Drive { bytes_per_s: 4e9, latency_ns: 0, queue_depth: 16, limit_bytes_per_s: Some(1e9) };
    let mut server = Server::default();
    // After a second of rest: what the limit allows in a tenth of one comes at the drive's own rate.
    let ends: Vec<u64> = (0..10).map(|_| server.ends_ns(&limited, 1_000_000_000, 20_000_000) / 1_000_000).collect();
    assert_eq!(ends, [1005, 1010, 1015, 1020, 1025, 1030, 1045, 1065, 1085, 1105]);
    let unlimited = Drive { limit_bytes_per_s: None, ..limited };
    assert_eq!(server.ends_ns(&unlimited, 1_105_000_000, 20_000_000), 1_110_000_000);
    assert_eq!((limited.sustained_bytes_per_s(), unlimited.sustained_bytes_per_s()), (1e9, 4e9));
    assert_eq!(roofline_ns(0, 1_000_000_000, &limited), 1_000_000_000);
}
