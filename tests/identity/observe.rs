//! Strategy `observe`: the text is that of stock at every grain, and the log has every cycle.

use ggpager::policy::Role;
use ggpager::synth::Arch;
use ggpager::trace::{Event, Item, Reader, Tensor, View};

use super::llama::{Paging, greedy, model, require_same_text, stock, tool};

/// The prompt, and seven tokens more.
const CYCLES: usize = 8;

/// The first view, and its touches as indexes of its blocks, in the order of time.
fn touches(log: &std::path::Path) -> (View, Vec<u32>) {
    let (mut view, mut touches) = (None::<View>, Vec::new());
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        match item.expect("a sound log") {
            Item::View(other) => view = view.or(Some(*other)),
            Item::Record(record) => {
                let Event::Touch { block, .. } = record.event else { continue };
                touches.push(block - view.as_ref().expect("views come first").first_block);
            }
        }
    }
    (view.expect("a view"), touches)
}

/// The names of the tensors that lie in block `index`.
fn tensors_of(view: &View, index: u32) -> Vec<&str> {
    let block = &view.blocks[index as usize];
    let inside = |tensor: &&Tensor| {
        tensor.offset < block.offset + u64::from(block.len) && block.offset < tensor.offset + tensor.bytes
    };
    view.tensors.iter().filter(inside).map(|tensor| tensor.name.as_str()).collect()
}

/// llama.cpp unmaps what is before the first tensor and behind the last one: the kernel serves the rest of a
/// block there.
fn is_edge(view: &View, index: u32) -> bool {
    let block = &view.blocks[index as usize];
    let first = view.tensors.iter().map(|tensor| tensor.offset).min();
    let last = view.tensors.iter().map(|tensor| tensor.offset + tensor.bytes).max();
    let inside = |offset: u64| block.offset <= offset && offset < block.offset + u64::from(block.len);
    first.is_some_and(inside) || last.is_some_and(inside)
}

fn compare(arch: Arch, cases: &[(&str, u64)]) {
    let Some(program) = tool("llama-completion") else { return };
    let model = model(arch);
    let args = greedy(model, "8", &[]);
    let expected = stock(&program, &args);
    for &(grain, percent) in cases {
        let paging = Paging { fill: "move", strategy: "observe", percent, unprivileged: false };
        let (outcome, log) = paging.traced_with(&[("GGPAGER_GRAIN", grain)], &program, &args, model);
        let what = format!("{arch:?} grain {grain} at {percent} %");
        require_same_text(&expected, &outcome.output, &what);

        assert_eq!(outcome.stats.as_ref().expect("paged").trace_lost_records, 0, "{what}");
        let (view, touches) = touches(&log);
        let mut place = vec![None; view.blocks.len()];
        for (at, &index) in view.expected_order.iter().enumerate() {
            place[index as usize].get_or_insert(at);
        }
        let mut counts = vec![0; view.blocks.len()];
        touches.iter().for_each(|&index| counts[index as usize] += 1);
        let seldom =
            view.expected_order.iter().filter(|&&index| counts[index as usize] < CYCLES && !is_edge(&view, index));
        let seldom: Vec<_> = seldom.map(|&index| (counts[index as usize], tensors_of(&view, index))).collect();
        assert!(seldom.is_empty(), "{what}: of {} blocks not in every cycle: {seldom:?}", view.expected_order.len());
        // The order is the header's, but for threads that are inside of the same tensor.
        let cyclic = touches.iter().filter(|&&index| view.blocks[index as usize].role == Role::Cyclic);
        let places: Vec<usize> = cyclic.filter_map(|&index| place[index as usize]).collect();
        let near = places.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) * 20 < view.expected_order.len()).count();
        assert!(near * 10 > places.len() * 8, "{what}: {near} of {} touches are near their predecessor", places.len());
        eprintln!("{what}: {} touches of {} blocks", touches.len(), view.blocks.len());
    }
}

#[test]
fn a_dense_model() {
    compare(Arch::Llama, &[("4K", 100), ("64K", 100), ("64K", 50), ("2M", 100)]);
}

#[test]
fn a_mixture_of_experts() {
    compare(Arch::Qwen3Moe, &[("64K", 100), ("64K", 50), ("2M", 50)]);
}
