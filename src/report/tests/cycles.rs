//! Where cycles begin and end.

use super::*;

#[test]
fn the_touch_that_begins_a_cycle_is_counted_in_it() {
    let mut log = Maker::new(view(8));
    for number in 0..4 {
        for block in 0..4 {
            log.push(Event::Touch { block, offset: 0, tid: 1 + block, found: Touch::Staged });
            if block == 0 {
                log.push(Event::Cycle { number: number + 1 });
            }
            log.now_ns += 1_000;
            log.push(Event::Woken { block, tid: 1 + block });
            log.now_ns += 9_000;
        }
    }
    let report = log.report(learned());
    let rows = &report.cycles;
    assert_eq!(rows.iter().map(|row| row.touches[2]).collect::<Vec<_>>(), [0, 4, 4, 4, 4]);
    assert_eq!(rows.iter().map(|row| row.threads).collect::<Vec<_>>(), [0, 4, 4, 4, 4]);
    assert_eq!(rows[1].sequence.first_pairs, 3);
    near(rows[1].length_s, 40e-6, 1e-9);
    near(rows[1].wall.fault_s, 4e-6, 1e-9);
    assert_eq!(report.addresses.last_cycle.iter().map(|dot| dot.address / BLOCK).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

/// Layers in the order of their names, as a file has them: 0, 1, 10, 11, 2, ... 9. With the border of two
/// tensors in the middle of a block.
fn by_name() -> View {
    let layers = 12u64;
    let mut names: Vec<u64> = (0..layers).collect();
    names.sort_by_key(u64::to_string);
    let mut view = view(2 * layers as u32);
    let tensor = |(at, &layer): (usize, &u64)| Tensor {
        name: format!("blk.{layer}"),
        role: "attention".to_owned(),
        layer: Some(layer as u32),
        offset: (2 * at as u64 * BLOCK).saturating_sub(BLOCK / 4),
        bytes: 2 * BLOCK,
        experts: 0,
    };
    view.tensors = names.iter().enumerate().map(tensor).collect();
    view.tensors.sort_by_key(|tensor| tensor.layer);
    let blocks = |tensor: &Tensor| tensor.offset.div_euclid(BLOCK)..(tensor.offset + tensor.bytes).div_ceil(BLOCK);
    view.expected_order = view.tensors.iter().flat_map(blocks).map(|block| block as u32).collect();
    view
}

#[test]
fn a_block_of_two_layers_ends_no_cycle() {
    let view = by_name();
    let order = view.expected_order.clone();
    let mut log = Maker::new(view);
    for _ in 0..4 {
        // The second touch of a block that two layers share, too.
        order.iter().for_each(|&block| log.demand(block, 1, 1_000));
    }
    let report = log.report(Header { strategy: "demand".to_owned(), ..Header::default() });
    let touches: Vec<u64> = report.cycles.iter().map(|cycle| cycle.touches[0]).collect();
    let lap = order.len() as u64;
    // Only from the second lap on it is clear that the policy says nothing.
    assert_eq!(touches.len(), 3, "{touches:?}");
    assert!(touches.iter().zip([2 * lap, lap, lap]).all(|(&found, lap)| found.abs_diff(lap) <= 1), "{touches:?}");
}

#[test]
fn cycles_are_seen_where_the_log_does_not_name_them() {
    let mut log = Maker::new(view(16));
    for _ in 0..4 {
        for block in [0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 10, 11, 13, 12, 14, 15] {
            log.demand(block, 1, 1_000);
        }
    }
    let report = log.report(Header { strategy: "demand".to_owned(), ..Header::default() });
    // Only from the second lap on it is clear that the policy says nothing.
    assert_eq!(report.cycles.len(), 3);
    assert!(report.cycles[1].complete && !report.cycles[2].complete);
    assert_eq!(report.cycles[1].sequence.pairs, 16);
    let whole = report.sequentiality.whole;
    assert_eq!(whole.next_in_file, whole.next_in_compute);
    assert!(whole.file.unwrap().kendall > 0.9);
    assert_eq!(report.sequentiality.run_in_file.count, 63 - whole.next_in_file + 1);
}

#[test]
fn experts_tell_cycles_when_the_rest_stays_in_memory() {
    let mut view = view(8);
    view.expected_order.clear();
    for (layer, (block, tensor)) in (0..).zip(view.blocks.iter_mut().zip(0..8)) {
        block.role = Role::Expert { layer };
        let (offset, bytes) = (block.offset, u64::from(block.len));
        let role = "experts".to_owned();
        view.tensors.push(Tensor { name: tensor.to_string(), role, layer: Some(layer), offset, bytes, experts: 1 });
    }
    view.tensors.drain(..4);
    let mut log = Maker::new(view);
    log.push(Event::Cycle { number: 1 });
    for _ in 0..5 {
        for block in 0..8 {
            log.demand(block, 1, 1_000);
            log.push(Event::Evict { block, untouched: false });
        }
    }
    let report = log.report(learned());
    // The policy's word, then the ends of the second, third and fourth lap.
    let touches: Vec<u64> = report.cycles.iter().map(|cycle| cycle.touches[0]).collect();
    assert_eq!(touches, [0, 16, 8, 8, 8]);
    let experts = report.experts.unwrap();
    assert_eq!((experts.source, experts.experts, experts.popularity.len()), ("touches", 1, 8));
    assert_eq!((experts.per_token, experts.reused), (1.0, Some(1.0)));
}
