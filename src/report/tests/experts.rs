//! Which experts were used, as touches tell it.

use super::*;

/// `layers` layers of eight experts each, whose slices are `slice` bytes long.
fn experts(layers: u32, slice: u64) -> View {
    let bytes = 8 * slice;
    let count = (u64::from(layers) * bytes).div_ceil(BLOCK) as u32;
    let mut view = view(count);
    let tensor = |layer: u32| Tensor {
        name: format!("blk.{layer}.ffn_up_exps.weight"),
        role: "experts".to_owned(),
        layer: Some(layer),
        offset: u64::from(layer) * bytes,
        bytes,
        experts: 8,
    };
    view.tensors = (0..layers).map(tensor).collect();
    view.expected_order.clear();
    view.blocks.iter_mut().for_each(|block| block.role = Role::Expert { layer: (block.offset / bytes) as u32 });
    view
}

/// Six cycles in which each layer uses `used`: every block that has a byte of their slices is touched.
fn log_of(layers: u32, slice: u64, used: &[u64]) -> Report {
    let mut log = Maker::new(experts(layers, slice));
    for number in 0..6 {
        log.push(Event::Cycle { number: number + 1 });
        for layer in 0..u64::from(layers) {
            for expert in used {
                let start = (8 * layer + expert) * slice;
                (start / BLOCK..(start + slice).div_ceil(BLOCK)).for_each(|block| {
                    log.demand(block as u32, 1, 1_000);
                    log.push(Event::Evict { block: block as u32, untouched: false });
                });
            }
        }
    }
    log.report(learned())
}

#[test]
fn an_expert_that_shares_a_block_is_not_used_by_its_neighbour() {
    // Slices of 2.5 blocks: each shares a block with a neighbour, and has at least one of its own.
    let report = log_of(2, 5 * BLOCK / 2, &[1, 4]);
    let found = report.experts.as_ref().expect("experts are told");
    assert_eq!((found.source, found.experts, found.per_token), ("touches", 8, 2.0));
    for layer in &found.popularity {
        // Three whole cycles and the last one, which the log's end ends.
        assert_eq!((layer.tokens, layer.uses.as_slice()), (4, [0, 4, 0, 0, 4, 0, 0, 0].as_slice()));
    }
    assert_eq!((found.reused, found.chance), (Some(1.0), Some(0.25)));
    assert_eq!((report.expert_layers.layers, report.expert_layers.told), (2, 2));
}

#[test]
fn guesses_are_held_against_what_was_chosen() {
    let mut log = Maker::new(experts(3, BLOCK));
    let routed = |layer, expert| Event::Routed { layer, token: 0, expert };
    let guessed = |layer, expert, by| Event::Guessed { layer, expert, by };
    let read = |read, layer: u32, expert: u32, why| {
        let block = 8 * layer + expert;
        Event::Read { read, block, start: 0, len: BLOCK as u32, source: 0, why }
    };
    for event in [
        guessed(0, 1, Foreteller::Gate),
        // Another router chooses: nobody knows any more what became of it.
        routed(2, 1),
        routed(0, 1),
        routed(0, 4),
        guessed(1, 1, Foreteller::Gate),
        guessed(1, 2, Foreteller::Gate),
        guessed(1, 3, Foreteller::CoOccurrence),
        read(0, 1, 1, Why::Readahead),
        read(1, 1, 2, Why::Readahead),
        // A thread's own read, one of another layer, one of an expert that nobody expects.
        read(2, 1, 2, Why::Demand),
        read(3, 2, 2, Why::Readahead),
        read(4, 1, 5, Why::Readahead),
        routed(1, 1),
        // Too late for a guess.
        read(5, 1, 2, Why::Readahead),
        routed(1, 4),
        guessed(2, 6, Foreteller::Gate),
        routed(2, 6),
        routed(2, 7),
        routed(2, 5),
        routed(2, 0),
        guessed(0, 1, Foreteller::Gate),
    ] {
        log.push(event);
    }
    let report = log.report(learned());
    let [gate, together] = report.guesses.as_slice() else { panic!("{:?}", report.guesses) };
    assert_eq!((gate.by, gate.foretold, gate.precision, gate.recall), ("gate", 3, 2.0 / 3.0, 2.0 / 6.0));
    assert_eq!((gate.read_bytes, gate.unused_bytes), (2 * BLOCK, BLOCK));
    assert_eq!((together.by, together.foretold, together.precision, together.recall), ("co-occurrence", 1, 0.0, 0.0));
    let text = terminal(&[report], &["log".to_owned()], 200);
    for told in ["gate: precision", "66.7 %", "gate: recall", "33.3 %", "co-occurrence: foretold"] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn nothing_is_said_of_experts_without_a_block_of_their_own() {
    // Slices of one and a quarter blocks: half of them have no whole block.
    let report = log_of(2, 5 * BLOCK / 4, &[1, 4]);
    assert_eq!((&report.experts, report.expert_layers.layers, report.expert_layers.told), (&None, 2, 0));
    let text = terminal(std::slice::from_ref(&report), &["log".to_owned()], 200);
    assert!(text.contains("nothing: blocks are too large") && text.contains("0 of 2"), "{text}");
    // A dense model has no such section.
    let dense = Maker::new(view(4)).report(learned());
    assert!(!terminal(&[dense], &["log".to_owned()], 200).contains("known from"));
}
