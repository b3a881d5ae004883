//! What a router's choice costs the policy: the uses and affinities of experts, of which half are in memory.

mod common;

use std::time::Instant;

use common::{header, median, setting};
use ggpager::config::Strategy;
use ggpager::policy::{Block, BlockId, BlockTable, Policy, Role, State, for_strategy};

/// As in a qwen3moe of 15 billion parameters.
const LAYERS: u32 = 24;
const EXPERTS: u32 = 128;
const USED: u32 = 8;
/// So many come near enough to being chosen to be told of.
const NEAR: u32 = 52;
/// Slices of an expert.
const TENSORS: u32 = 3;
const SLICE: u32 = 242 * 4096;
const EDGE: u32 = 4096;

/// The slice of an expert; its edges are beside it.
fn slice(layer: u32, tensor: u32, expert: u32) -> BlockId {
    2 * ((layer * TENSORS + tensor) * EXPERTS + expert) + 1
}

fn table() -> BlockTable {
    let blocks = 2 * LAYERS * TENSORS * EXPERTS + 1;
    let mut at = 0;
    let block = |id: u32| {
        let len = if id % 2 == 1 { SLICE } else { EDGE };
        let offset = at;
        at += u64::from(len);
        Block { view: 0, offset, len, frame_bytes: len, role: Role::Expert { layer: id / (2 * TENSORS * EXPERTS) } }
    };
    let mut table = BlockTable::default();
    let ids = table.add(&(0..blocks).map(block).collect::<Vec<_>>());
    table.set_budget(at / 2);
    for id in ids.filter(|id| id % 4 < 2) {
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
    }
    table
}

/// A number that looks like chance (Knuth's multiplicative hash).
fn chance(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_769) >> 16
}

/// Tells `policy` what the router of `layer` has chosen in a pass.
fn choose(policy: &mut dyn Policy, table: &BlockTable, pass: u32, layer: u32) {
    let expert = |at: u32| (chance(pass / 16 * LAYERS + layer) + 37 * at) % EXPERTS;
    let chosen = (0..TENSORS).flat_map(|tensor| (0..USED).map(move |at| (tensor, at)));
    let chosen = chosen.flat_map(|(tensor, at)| {
        let id = slice(layer, tensor, expert(at));
        [(id - 1, 1.0), (id, 1.0), (id + 1, 1.0)]
    });
    policy.routed(table, &chosen.collect::<Vec<_>>());
    let near = (0..NEAR).flat_map(|at| (0..TENSORS).map(move |tensor| (slice(layer, tensor, expert(at)), 0.4)));
    policy.affine(table, &near.collect::<Vec<_>>());
}

fn main() {
    header("choices of routers: microseconds");
    let passes = setting("GGPAGER_BENCH_PASSES", 200) as u32;
    let rounds = setting("GGPAGER_BENCH_ROUNDS", 9);
    let table = table();
    let mut costs: Vec<f64> = (0..rounds)
        .map(|_| {
            let mut policy = for_strategy(Strategy::Experts);
            policy.mapped(&table, 0..table.len() as BlockId, &[]);
            let of_layer = |layer| (0..EXPERTS).map(move |expert| (layer, expert));
            let experts = (0..LAYERS).flat_map(of_layer).map(|(layer, expert)| {
                (0..TENSORS).map(|tensor| slice(layer, tensor, expert)).collect::<Vec<BlockId>>()
            });
            policy.experts(&table, &experts.collect::<Vec<_>>());
            let start = Instant::now();
            for pass in 0..passes {
                (0..LAYERS).for_each(|layer| choose(&mut *policy, &table, pass, layer));
            }
            start.elapsed().as_secs_f64() * 1e6 / f64::from(passes * LAYERS)
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    let (least, most) = (costs[0], costs[costs.len() - 1]);
    println!("{:.2} ({least:.2} to {most:.2}) a choice of {USED} experts, {NEAR} near ones", median(&mut costs));
}
