use super::*;
use crate::policy::{
    Accounts, Block, Demand, Learned, Need, Placement, Readahead, Role, State, Touch, min_budget_bytes,
};
use std::ops::Range;

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
    Drive { bytes_per_s: 800e6, latency_ns: 150_000, queue_depth: 16 }
}

pub(super) fn cycles(order: &[BlockId], count: usize, compute_ns: u64) -> Vec<Step> {
    std::iter::repeat_n(order, count).flatten().map(|&block| Step { block, compute_ns }).collect()
}

pub(super) fn scenario(script: Vec<Step>, threads: usize) -> Scenario {
    let touches_max = 20 * script.len() as u64;
    Scenario { drive: drive(), scripts: vec![script], threads: vec![0; threads], wake_ns: 10_000, touches_max }
}

/// (bytes per cycle / Belady's, roofline share) of the last of `count` cycles.
pub(super) fn clean_cycle(
    policy: &mut dyn Policy,
    prior: &[BlockId],
    order: &[BlockId],
    budget_frames: u64,
) -> (f64, f64) {
    let compute_ns = 550_000;
    let count = 4;
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
    // Tensors of 24 blocks, each swept eight times: wider than the window's first guess.
    let script: Vec<Step> = (0..80)
        .flat_map(|tensor| std::iter::repeat_n(tensor, 8))
        .flat_map(|tensor| (tensor * 24..tensor * 24 + 24).map(|block| Step { block, compute_ns: 200_000 }))
        .collect();
    let len = script.len();
    let script = script.repeat(4);
    let order: Vec<BlockId> = (0..1920).collect();
    let table = cyclic_table(1920, 480);
    let mut policy = Readahead::default();
    policy.mapped(&table, 0..1920, &order);
    let totals = run(table, &mut policy, &scenario(script, 2), len).unwrap();
    let last = totals[3].since(&totals[2]);
    assert!(last.read_bytes <= (1920 - 480) * FRAME * 110 / 100, "{last:?}: {}", last.read_bytes / FRAME);
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
    assert!(last.read_bytes <= 860 * FRAME * 105 / 100, "{last:?}: {}", last.read_bytes / FRAME);
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

/// Patterns of the property tests: each thread's sequence of blocks.
fn pattern(kind: u8, thread: u64, threads: u64, blocks: u32, count: usize) -> Vec<BlockId> {
    let mut random = fastrand::Rng::with_seed(thread);
    let start = (thread * u64::from(blocks) / threads) as u32;
    (0..count as u32)
        .map(|i| match kind {
            0 => random.u32(0..blocks),
            1 => (start + i) % blocks,
            2 => (start + blocks - i % blocks) % blocks,
            3 => (start + i * 7) % blocks,
            // Two blocks by turns, then the next two.
            _ => (start + i / 8 * 2 + i % 2) % blocks,
        })
        .collect()
}

fn policies() -> Vec<Box<dyn Policy>> {
    vec![
        Box::new(Checked(Demand::default())),
        Box::new(Checked(Readahead::default())),
        Box::new(Checked(Learned::default())),
    ]
}

/// Checks a policy's accounts before every question of what to read, when no eviction is half done.
struct Checked<P>(P);

impl<P: Accounts> Policy for Checked<P> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]) {
        self.0.mapped(table, ids, order);
    }
    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>) {
        self.0.unmapped(table, ids);
        self.0.assert_accounts(table);
    }
    fn budget_changed(&mut self, table: &BlockTable) {
        self.0.budget_changed(table);
        self.0.assert_accounts(table);
    }
    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, now_ns: u64) {
        self.0.touched(table, id, touch, now_ns);
        self.0.assert_accounts(table);
    }
    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement {
        self.0.filled(table, id)
    }
    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        self.0.assert_accounts(table);
        self.0.next_read(table, in_flight)
    }
    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.0.victim(table, wanted, need)
    }
    fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        self.0.rearm(table)
    }
}

#[test]
fn views_come_and_go_and_the_budget_moves() {
    for (which, mut policy) in policies().into_iter().enumerate() {
        let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
        let mut table = BlockTable::default();
        table.set_budget(100 * FRAME);
        let mut random = fastrand::Rng::with_seed(11);
        let mut views: Vec<Range<BlockId>> = Vec::new();
        let mut reads = 0;
        for _ in 0..20_000 {
            match random.u32(0..1000) {
                0..4 if views.len() < 5 => {
                    let ids = table.add(&vec![block; random.usize(1..90)]);
                    policy.mapped(&table, ids.clone(), &ids.clone().collect::<Vec<_>>());
                    views.push(ids);
                }
                4..6 if !views.is_empty() => {
                    // The end of a view goes, or all of it.
                    let at = random.usize(0..views.len());
                    let ids = random.u32(views[at].clone())..views[at].end;
                    ids.clone().for_each(|id| table.set_state(id, State::Gone));
                    policy.unmapped(&table, ids.clone());
                    table.remove(ids.clone());
                    views[at].end = ids.start;
                    views.retain(|ids| !ids.is_empty());
                }
                6..10 => {
                    table.set_budget(random.u64(20..200) * FRAME);
                    policy.budget_changed(&table);
                    while table.held_bytes() > table.budget_bytes() {
                        let victim = policy.victim(&table, None, Need::Shrink).expect("all are evictable");
                        table.set_state(victim, State::Absent);
                    }
                }
                10..500 if !views.is_empty() => {
                    let at = random.usize(0..views.len());
                    let id = random.u32(views[at].clone());
                    let touch = match table.state(id) {
                        State::Present => continue,
                        State::Staged => Touch::Staged,
                        _ => Touch::Absent,
                    };
                    policy.touched(&table, id, touch, reads);
                    if touch == Touch::Absent {
                        while !table.has_room(id) {
                            let victim = policy.victim(&table, Some(id), Need::Demand).expect("all are evictable");
                            table.set_state(victim, State::Absent);
                        }
                        table.set_state(id, State::Reading);
                        policy.filled(&table, id);
                        table.set_state(id, State::Staged);
                    }
                    table.set_state(id, State::Present);
                }
                _ => {
                    let Some(id) = policy.next_read(&table, 0) else { continue };
                    while !table.has_room(id) {
                        let Some(victim) = policy.victim(&table, Some(id), Need::Readahead) else { break };
                        table.set_state(victim, State::Absent);
                    }
                    if table.has_room(id) {
                        reads += 1;
                        table.set_state(id, State::Reading);
                        // One read in ten fails.
                        if random.u32(0..10) == 0 {
                            table.set_state(id, State::Absent);
                            continue;
                        }
                        let placement = policy.filled(&table, id);
                        table.set_state(id, State::Staged);
                        if placement == Placement::Install {
                            table.set_state(id, State::Present);
                        }
                    }
                }
            }
        }
        assert!(which == 0 || reads > 500, "policy {which} read ahead {reads} times");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever threads touch, with any budget from the minimum up: every script ends, and the
    /// policy names a victim whenever there is one (the engine checks both).
    #[test]
    fn every_run_ends(
        kind in 0u8..5, threads in 1u64..9, blocks in 40u32..200, extra in 0.0f64..1.1, prior in 0u8..3, size in 0u8..2
    ) {
        for (which, mut policy) in policies().into_iter().enumerate() {
            let mut table = BlockTable::default();
            let frame = |id: u32| if size == 1 && id % 5 == 0 { 65536 } else { FRAME as u32 };
            let all: Vec<Block> = (0..blocks)
                .map(|id| Block { view: 0, offset: 0, len: frame(id), frame_bytes: frame(id), role: match (id % 11, prior) {
                    (3, 2) => Role::Row,
                    (5 | 6, 2) => Role::Expert { layer: 0 },
                    _ => Role::Cyclic,
                }})
                .collect();
            let ids = table.add(&all);
            let least = min_budget_bytes(&table);
            let total: u64 = all.iter().map(|block| u64::from(block.frame_bytes)).sum();
            table.set_budget(least + (total.saturating_sub(least) as f64 * extra) as u64);
            let order: Vec<BlockId> =
                ids.clone().filter(|&id| prior > 0 && all[id as usize].role == Role::Cyclic).collect();
            policy.mapped(&table, ids, &order);
            let count = 600;
            let scripts: Vec<Vec<Step>> = (0..threads)
                .map(|thread| pattern(kind, thread, threads, blocks, count).into_iter()
                    .map(|block| Step { block, compute_ns: 50_000 }).collect())
                .collect();
            let scenario = Scenario {
                drive: drive(),
                scripts,
                threads: (0..threads as usize).collect(),
                wake_ns: 10_000,
                touches_max: 4 * threads * count as u64,
            };
            let result = run(table, policy.as_mut(), &scenario, count);
            proptest::prop_assert!(result.is_ok(), "policy {which}: {result:?}");
        }
    }
}
