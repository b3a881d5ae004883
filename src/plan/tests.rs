use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::compute::{self, Compute};
use super::estimate::{Ground, Reuse};
use super::kv::KvCache;
use super::report;
use crate::gguf::{Model, TokenReads};
use crate::policy::{Block, BlockId, BlockTable, Learned, Policy, Role};
use crate::sim::{self, Drive, Scenario, Step};
use crate::synth::{Arch, Plan, Quant, Shape};

const GB: u64 = 1_000_000_000;
const FRAME: u64 = 2 << 20;

/// The header of a model of 512 elements width in f16, with a file of its size that holds nothing else.
fn model(arch: Arch, layers: u32) -> Model {
    let shape = Shape { layers, ..Shape::usual(arch, 512, 1.0).unwrap() };
    let order = Quant::F16.usual_order();
    let plan = Plan::new(Path::new("none.gguf"), shape, Quant::F16, order, 1, None).unwrap();
    let file: File = tempfile::tempfile().unwrap();
    file.write_all_at(plan.files[0].header(), 0).unwrap();
    file.set_len(plan.files[0].bytes()).unwrap();
    Model::read(&file).unwrap()
}

// Sizes by hand: matrices have 2 bytes an element, norms and routers 4.

#[test]
fn a_dense_model_by_hand() {
    let model = model(Arch::Llama, 3);
    // 8 heads and 2 key-value heads of 64; 1792 rows of gate and up.
    let attention = (512 * 512 + 512 * 128 + 512 * 128 + 512 * 512) * 2;
    let layer = attention + 3 * 512 * 1792 * 2 + 2 * 512 * 4;
    let vocabulary = 512 * 4096 * 2;
    let reads = TokenReads {
        dense_bytes: 3 * layer + 512 * 4 + vocabulary,
        expert_bytes: 0,
        active_expert_bytes: 0,
        row_table_bytes: vocabulary,
        row_bytes: 512 * 2,
        unread_bytes: 0,
    };
    assert_eq!(TokenReads::of(&[&model]), reads);
    // 3 layers, 2 heads, key and value of 64, 2 bytes.
    let cache = KvCache { token_bytes: 3 * 2 * (64 + 64) * 2, latent: false, sliding_window: None };
    assert_eq!(KvCache::of(&model), Some(cache));
}

#[test]
fn a_mixture_of_experts_by_hand() {
    let model = model(Arch::Qwen3Moe, 5);
    // 32 experts of 3 matrices of 512 x 256, 8 of them used.
    let reads = TokenReads::of(&[&model]);
    assert_eq!(reads.expert_bytes, 5 * 32 * 3 * 512 * 256 * 2);
    assert_eq!(reads.active_expert_bytes, 5 * 8 * 3 * 512 * 256 * 2);
    // 16 heads and 4 key-value heads of 64, two norms of a head, the router.
    let attention = (512 * 1024 + 512 * 256 + 512 * 256 + 1024 * 512) * 2 + 2 * 64 * 4;
    let layer = attention + 512 * 32 * 4 + 2 * 512 * 4;
    assert_eq!(reads.dense_bytes, 5 * layer + 512 * 4 + 512 * 4096 * 2);
    assert_eq!(KvCache::of(&model).unwrap().token_bytes, 5 * 4 * (64 + 64) * 2);
}

#[test]
fn latents_are_smaller_than_heads() {
    let model = model(Arch::Deepseek2, 4);
    // A latent of 256 and 32 elements with positions, whatever the number of heads.
    let cache = KvCache { token_bytes: 4 * (256 + 32) * 2, latent: true, sliding_window: None };
    assert_eq!(KvCache::of(&model), Some(cache));
    let window = KvCache::of(&self::model(Arch::GptOss, 4)).unwrap().sliding_window;
    assert_eq!(window, Some(128));
}

fn dense(bytes: u64) -> Ground {
    Ground {
        reads: TokenReads { dense_bytes: bytes, ..TokenReads::default() },
        compute_s: 0.5,
        drive_bytes_per_s: 1e9,
        expert_bytes_per_s: 5e8,
    }
}

/// 2 GB for every token, and 8 of 64 experts, 32 GB in all.
fn experts() -> Ground {
    let reads =
        TokenReads { dense_bytes: 2 * GB, expert_bytes: 32 * GB, active_expert_bytes: 4 * GB, ..TokenReads::default() };
    Ground { reads, ..dense(0) }
}

#[test]
fn what_fits_is_computed_at_full_speed() {
    let whole = dense(8 * GB).at(8 * GB, Reuse::None);
    assert_eq!((whole.read_bytes, whole.token_s, whole.drive_bound), (0, 0.5, false));
    let half = dense(8 * GB).at(4 * GB, Reuse::None);
    assert!(half.drive_bound && (half.token_s - half.read_bytes as f64 / 1e9).abs() < 1e-9, "{half:?}");
    // 4 GB do not fit; the window is 12 to 28 and 6 to 26 frames on top.
    let window = half.read_bytes - 4 * GB;
    assert!((18 * FRAME..=54 * FRAME).contains(&window), "{window}");
}

#[test]
fn the_pager_reads_what_the_estimate_says() {
    let order: Vec<BlockId> = (0..2000).collect();
    for share in [4u64, 2] {
        let block = Block { view: 0, offset: 0, len: FRAME as u32, frame_bytes: FRAME as u32, role: Role::Cyclic };
        let mut table = BlockTable::default();
        table.add(&vec![block; 2000]);
        table.set_budget(2000 * FRAME / share);
        let budget = table.budget_bytes();
        let mut policy = Learned::default();
        policy.mapped(&table, 0..2000, &order);
        let script: Vec<Step> = (0..6).flat_map(|_| &order).map(|&block| Step { block, compute_ns: 500_000 }).collect();
        let drive = Drive { bytes_per_s: 1e9, latency_ns: 100_000, queue_depth: 16, limit_bytes_per_s: None };
        let touches_max = 20 * script.len() as u64;
        let scenario = Scenario {
            drive,
            scripts: vec![script],
            threads: vec![0; 2],
            foretold: Vec::new(),
            work: Default::default(),
            wake_ns: 10_000,
            touches_max,
        };
        let totals = sim::run(table, &mut policy, &scenario, 2000).unwrap();
        let cycle = totals[5].since(&totals[4]);
        let estimate = Ground { compute_s: 0.5, ..dense(2000 * FRAME) }.at(budget, Reuse::None);
        for (simulated, estimated) in
            [(cycle.read_bytes as f64, estimate.read_bytes as f64), (cycle.time_ns as f64 / 1e9, estimate.token_s)]
        {
            assert!((simulated / estimated - 1.0).abs() < 0.03, "1/{share}: {cycle:?} {estimate:?}");
        }
    }
}

#[test]
fn reuse_of_experts_makes_a_range() {
    let ground = experts();
    let at = |gb: u64, reuse| ground.read_bytes(gb * GB, reuse);
    // 10 GB: the dense part and 8 GB of experts.
    assert_eq!(at(10, Reuse::None), (0, 4 * GB));
    assert_eq!(at(10, Reuse::Chance), (0, 3 * GB));
    assert_eq!(at(10, Reuse::Best), (0, 0));
    assert_eq!(at(4, Reuse::Best), (0, 2 * GB));
    assert_eq!(at(34, Reuse::None), (0, 0), "everything is in memory");
    // 3 GB of them at the rate for experts.
    assert_eq!(ground.at(10 * GB, Reuse::Chance).token_s, 6.0);
    let rows = report::rows(&ground, 10 * GB, None, Some);
    let order: Vec<f64> = rows.iter().map(|row| row.estimate.tokens_per_s).collect();
    assert!(rows.len() == 3 && order.is_sorted(), "{order:?}");
}

#[test]
fn a_target_has_a_price() {
    let ground = dense(8 * GB);
    assert_eq!(ground.budget_for(0.4, Reuse::None), None, "computing takes half a second");
    assert_eq!(ground.drive_factor_for(0.4, GB, Reuse::None), None);
    let budget = ground.budget_for(1.0, Reuse::None).unwrap();
    assert!((7 * GB..7 * GB + GB / 8).contains(&budget), "{budget}");
    let factor = ground.drive_factor_for(1.0, 4 * GB, Reuse::None).unwrap();
    let faster = Ground { drive_bytes_per_s: 1e9 * factor, ..ground };
    assert!((faster.at(4 * GB, Reuse::None).token_s - 1.0).abs() < 1e-9);
    let rows = report::rows(&ground, 4 * GB, Some(1.0), |budget| Some(2 * budget));
    let target = rows[0].target.unwrap();
    assert_eq!((target.budget_bytes, target.ram_bytes), (Some(budget), Some(2 * budget)));
    assert!((target.drive_bytes_per_s.unwrap() / 1e9 - factor).abs() < 1e-9);
}

proptest! {
    #[test]
    fn more_memory_never_reads_more(a in 0..40 * GB, b in 0..40 * GB, moe: bool) {
        let ground = if moe { experts() } else { dense(8 * GB) };
        for reuse in [Reuse::None, Reuse::Chance, Reuse::Best] {
            let read = |budget| {
                let (dense, experts) = ground.read_bytes(budget, reuse);
                dense + experts
            };
            prop_assert!(read(a.max(b)) <= read(a.min(b)), "{:?}", reuse);
        }
    }

    #[test]
    fn the_memory_for_a_target_is_the_least(token_ms in 501u32..9000, moe: bool) {
        let ground = if moe { experts() } else { dense(8 * GB) };
        let token_s = f64::from(token_ms) / 1e3;
        for reuse in [Reuse::None, Reuse::Chance, Reuse::Best] {
            let budget = ground.budget_for(token_s, reuse).unwrap();
            prop_assert!(ground.at(budget, reuse).token_s <= token_s);
            prop_assert!(budget == 0 || ground.at(budget - (1 << 20), reuse).token_s > token_s);
        }
    }
}

#[test]
fn memory_is_read_at_some_rate() {
    let Compute::Memory { bytes_per_s } = compute::by_memory(2) else { panic!("it reads memory") };
    assert!(bytes_per_s > 1e8, "{bytes_per_s}");
    assert_eq!(Compute::Memory { bytes_per_s: 1e9 }.token_s(GB / 2), 0.5);
    assert_eq!(Compute::Llama { token_ms: 20.0 }.token_s(GB), 0.02);
    assert!(compute::by_llama(Path::new("/bin/false"), Path::new("none.gguf"), 1).is_err());
}
