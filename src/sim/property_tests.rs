use std::ops::Range;

use super::tests::{FRAME, drive};
use super::*;
use crate::policy::{
    Accounts, Block, Demand, Learned, Need, Observe, Placement, Readahead, Role, State, Touch, min_budget_bytes,
};

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
        Box::new(Checked(Observe::default())),
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
    fn next_idle(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        self.0.next_idle(table, in_flight)
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
                    for id in ids.clone() {
                        match table.state(id) {
                            State::Reading => table.set_state(id, State::Poisoned),
                            State::Staged | State::Present => table.set_state(id, State::Absent),
                            State::Absent | State::Poisoned | State::Gone => {}
                        }
                        table.set_state(id, State::Gone);
                    }
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
            let frame = |id: u32| if size == 1 && id.is_multiple_of(5) { 65536 } else { FRAME as u32 };
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
                foretold: Vec::new(),
        work: Work::default(),
                wake_ns: 10_000,
                touches_max: 4 * threads * count as u64,
            };
            let result = run(table, policy.as_mut(), &scenario, count);
            proptest::prop_assert!(result.is_ok(), "policy {which}: {result:?}");
        }
    }
}
