//! Whole cycles over the layout of a real model's file: tensors that share blocks, norms between
//! matrices, rows aside, two threads that take chunks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::tests::drive;
use super::*;
use crate::config::ByteSize;
use crate::gguf::Model;
use crate::pager::blocks::Layout;
use crate::pager::piece::Piece;
use crate::pager::pieces;
use crate::policy::{Learned, Readahead, Role};
use crate::synth::{Arch, Quant, Request};

/// Bytes of 64 rows of a matrix: what a thread takes at once.
const CHUNK: u64 = 147_456;

/// The pieces of a model of `bytes`, and the size of its file, which exists only as a header.
fn model(bytes: u64) -> (Vec<Piece>, u64) {
    let plan = Request::new("none.gguf", Arch::Llama, Quant::Q4_0, ByteSize(bytes)).plan().unwrap();
    let file: File = tempfile::tempfile().unwrap();
    file.write_all_at(plan.files[0].header(), 0).unwrap();
    file.set_len(plan.bytes()).unwrap();
    (pieces::of_model(&Model::read(&file).unwrap()), plan.bytes())
}

/// One cycle: the steps, and the blocks in the order of their use.
fn one_cycle(layout: &Layout, pieces: &[Piece]) -> (Vec<Step>, Vec<BlockId>) {
    let (mut steps, mut uses) = (Vec::new(), Vec::<BlockId>::new());
    for piece in pieces.iter().filter(|piece| piece.role == Role::Cyclic) {
        for start in (piece.bytes.start..piece.bytes.end).step_by(CHUNK as usize) {
            let end = (start + CHUNK).min(piece.bytes.end);
            for (at, compute_ns) in [(start, (end - start) / 8), (end - 1, 1)] {
                let block = layout.index_at(at).unwrap();
                if steps.last().is_none_or(|step: &Step| step.block != block) || at == start {
                    steps.push(Step { block, compute_ns });
                }
                if uses.last() != Some(&block) {
                    uses.push(block);
                }
            }
        }
    }
    (steps, uses)
}

/// For each cycle: bytes against Belady's, and touches of absent blocks. `prior` false: nothing is known of
/// the tensors.
fn cycles_of(policy: &mut dyn Policy, prior: bool, share: f64, count: usize) -> Vec<(f64, u64)> {
    let (pieces, bytes) = model(4 << 30);
    let layout = Layout::new(0..bytes, &pieces);
    let mut table = BlockTable::default();
    let ids = table.add(&layout.blocks);
    table.set_budget((bytes as f64 * share) as u64);
    let by_offset: Vec<BlockId> = ids.clone().filter(|&id| table.block(id).role == Role::Cyclic).collect();
    policy.mapped(&table, ids, if prior { &layout.order } else { &by_offset });
    let (steps, uses) = one_cycle(&layout, &pieces);
    let cuts: Vec<usize> = (1..count).map(|cycle| cycle * uses.len()).collect();
    let least = min_bytes(&table, &uses.repeat(count), table.budget_bytes(), &cuts);
    let len = steps.len();
    let scenario = Scenario {
        drive: drive(),
        scripts: vec![steps.repeat(count)],
        threads: vec![0; 2],
        foretold: Vec::new(),
        work: Work::default(),
        wake_ns: 15_000,
        touches_max: 10_000_000,
    };
    let totals = run(table, policy, &scenario, len).unwrap();
    let before = std::iter::once(Totals::default()).chain(totals.iter().copied());
    let cycles = before.zip(&totals).map(|(before, now)| now.since(&before));
    let shares = |(cycle, least): (Totals, &u64)| {
        eprintln!("{} of {share}: {:.3} x {least}, {cycle:?}", policy.name(), cycle.read_bytes as f64 / *least as f64);
        (cycle.read_bytes as f64 / *least as f64, cycle.demand)
    };
    cycles.zip(&least).map(shares).collect()
}

#[test]
fn learning_costs_nothing_where_the_prior_is_right() {
    for (share, bytes_max) in [(0.25, 1.05), (0.5, 1.06), (0.8, 1.08)] {
        let known = cycles_of(&mut Readahead::default(), true, share, 8);
        let learned = cycles_of(&mut Learned::default(), true, share, 8);
        for (cycle, (known, learned)) in known.iter().zip(&learned).enumerate() {
            assert!(learned.0 <= known.0 + 0.01, "{share}, cycle {cycle}: {learned:?} against {known:?}");
            assert!(learned.0 <= bytes_max && learned.1 <= 6, "{share}, cycle {cycle}: {learned:?}");
        }
    }
}

#[test]
fn a_model_without_a_tensor_map_is_learned() {
    for share in [0.25, 0.5, 0.8] {
        let cycles = cycles_of(&mut Learned::default(), false, share, 8);
        let (bytes, demand) = cycles[6];
        assert!(bytes <= 1.10 && demand <= 6, "{share}: {:?}", cycles);
    }
}
