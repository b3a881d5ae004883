use super::*;
use crate::policy::{Block, Demand, Need, Placement, Readahead, Role, State, Touch, min_budget_bytes};
use std::ops::Range;

const MIB: u64 = 1 << 20;
const FRAME: u64 = 2 * MIB;

fn cyclic_table(count: usize, budget_frames: u64) -> BlockTable {
    let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
    let mut table = BlockTable::default();
    table.add(&vec![block; count]);
    table.set_budget(budget_frames * FRAME);
    table
}

/// A drive of 800 MB/s, as in the reference runs.
fn drive() -> Drive {
    Drive { bytes_per_s: 800e6, latency_ns: 150_000, queue_depth: 16 }
}

fn cycles(order: &[BlockId], count: usize, compute_ns: u64) -> Vec<Step> {
    std::iter::repeat_n(order, count).flatten().map(|&block| Step { block, compute_ns }).collect()
}

fn scenario(script: Vec<Step>, threads: usize) -> Scenario {
    let touches_max = 20 * script.len() as u64;
    Scenario { drive: drive(), scripts: vec![script], threads: vec![0; threads], wake_ns: 10_000, touches_max }
}

/// (bytes per cycle / Belady's, roofline share) of the last of `count` cycles.
fn clean_cycle(policy: &mut dyn Policy, prior: &[BlockId], order: &[BlockId], budget_frames: u64) -> (f64, f64) {
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
