//! Mixtures of experts.

use super::*;
use crate::policy::Role;

/// Experts of a layer, bytes of one of them in a tensor: no whole number of pages.
const EXPERTS: u32 = 64;
const SLICE: u64 = 300_001;
/// Blocks of the dense part.
const DENSE: u32 = 99;
const LAYERS: u32 = 3;

/// Three layers, each of dense tensors and behind them experts in two tensors; before all of them rows. A cycle uses a
/// row, all that is dense, and in each layer the experts that `chosen` says.
fn mixture(cycles: usize, chosen: impl Fn(usize, u32) -> Vec<u32>) -> Program {
    let dense = u64::from(DENSE / LAYERS) * FRAME;
    let end = u64::from(DENSE) * FRAME;
    let experts = |at: u64| end + FRAME + at * u64::from(EXPERTS) * SLICE;
    let mut tensors = vec![tensor("token_embedding", None, end, FRAME, 0)];
    for layer in 0..LAYERS {
        let at = u64::from(layer);
        tensors.push(tensor("attention", Some(layer), at * dense, dense, 0));
        for part in [2 * at, 2 * at + 1] {
            tensors.push(tensor("experts", Some(layer), experts(part), u64::from(EXPERTS) * SLICE, EXPERTS));
        }
    }
    let layout = Layout::new(0..experts(2 * u64::from(LAYERS)), &pieces::of_tensors(&tensors));
    let mut random = fastrand::Rng::with_seed(5);
    let mut program = Program { tensors, layout, cycles: Vec::new(), choices: Vec::new() };
    for cycle in 0..cycles {
        let dense = |block| (Step { block, compute_ns: 800_000 }, Foretold::default());
        let mut steps = vec![(Step { block: DENSE + random.u32(0..128), compute_ns: 1000 }, Foretold::default())];
        for layer in 0..LAYERS {
            steps.extend((layer * DENSE / LAYERS..(layer + 1) * DENSE / LAYERS).map(dense));
            let mut used = chosen(cycle, layer);
            used.sort_unstable();
            let routed: Vec<BlockId> = program.layout.chosen(layer, &used).collect();
            let step = |&block: &BlockId| {
                let is_edge = program.layout.blocks[block as usize].len == PAGE;
                (Step { block, compute_ns: if is_edge { 1000 } else { 100_000 } }, Foretold::default())
            };
            let first = steps.len();
            steps.extend(routed.iter().map(step));
            if let Some((_, foretold)) = steps.get_mut(first) {
                foretold.routed = routed.into();
                program.choices.push((layer, used));
            }
        }
        program.cycles.push(steps);
    }
    program
}

const PAGE: u32 = 4096;

/// Eight experts, a part of which changes from cycle to cycle.
fn eight(cycle: usize, layer: u32) -> Vec<u32> {
    let cycle = cycle as u32;
    let mut experts: Vec<u32> =
        (0..8).map(|at| if at < 5 { 3 * at + layer } else { 20 + (7 * cycle + 11 * at) % 44 }).collect();
    experts.sort_unstable();
    experts.dedup();
    experts
}

/// Without what the routers chose.
fn unheard(log: Vec<Item>) -> Vec<Item> {
    let is_routed = |item: &Item| matches!(item, Item::Record(Record { event: Event::Routed { .. }, .. }));
    log.into_iter().filter(|item| !is_routed(item)).collect()
}

/// The blocks of experts that each counted cycle uses.
fn used(program: &Program, workload: &Workload) -> Vec<Vec<BlockId>> {
    let is_expert = |&id: &BlockId| matches!(program.layout.blocks[id as usize].role, Role::Expert { .. });
    let of = |cycle: &cycle::Cycle| cycle.steps.iter().map(|step| step.block).filter(is_expert).collect();
    workload.cycles.iter().map(of).collect()
}

/// The blocks of experts that the program's cycles from `first` on use.
fn wanted(program: &Program, first: usize, count: usize) -> Vec<Vec<BlockId>> {
    let of = |cycle: &Vec<(Step, Foretold)>| -> Vec<BlockId> {
        let is_expert = |&id: &BlockId| matches!(program.layout.blocks[id as usize].role, Role::Expert { .. });
        cycle.iter().map(|(step, _)| step.block).filter(is_expert).collect()
    };
    program.cycles[first..first + count].iter().map(of).collect()
}

#[test]
fn experts_are_used_whole_where_a_part_was_touched() {
    // Nothing is used twice: `demand` keeps what came first.
    let program = mixture(8, |cycle, _| (0..8).map(|at| 8 * at + cycle as u32).collect());
    let (_, log) = program.run(&mut Demand::default(), 30 * FRAME, 1);
    // Of every expert the first tensor's touches alone are seen.
    let seen = |item: &Item| {
        let Item::Record(Record { event: Event::Touch { block, .. }, .. }) = item else { return true };
        let block = &program.layout.blocks[*block as usize];
        let second = |at: usize| program.tensors[at].offset..program.tensors[at].offset + program.tensors[at].bytes;
        ![3, 6, 9].map(second).iter().any(|bytes| bytes.contains(&block.offset))
    };
    let log: Vec<Item> = unheard(log).into_iter().filter(seen).collect();
    let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
    let count = workload.cycles.len();
    assert!(count >= 4, "{count} cycles");
    assert_eq!(used(&program, &workload), wanted(&program, 2, count));
    let hinted = workload.cycles[0].foretold.iter().filter(|foretold| !foretold.companions.is_empty()).count();
    // Whose page an edge is, nobody knows.
    let whole = |id: &&BlockId| program.layout.blocks[**id as usize].len > PAGE;
    assert_eq!(hinted, wanted(&program, 2, 1)[0].iter().filter(whole).count());
}

#[test]
fn what_routers_chose_is_used_whatever_was_touched() {
    let program = mixture(12, eight);
    // Much stays in memory and is not touched any more.
    let (_, log) = program.run(&mut Learned::led_by_routers(), program.bytes() * 9 / 10, 1);
    let workload = Workload::new(&read(log.clone()), 2, PROCESSORS).unwrap();
    let count = workload.cycles.len();
    assert!(count >= 8, "{count} cycles");
    assert_eq!(used(&program, &workload), wanted(&program, 2, count));
    let experts: usize = program.choices[6..6 + 3 * count].iter().map(|(_, experts)| experts.len()).sum();
    assert_eq!(workload.experts_used, experts);
    for (cycle, steps) in workload.cycles.iter().zip(&program.cycles[2..]) {
        let told: Vec<_> =
            cycle.foretold.iter().map(|foretold| &foretold.routed).filter(|all| !all.is_empty()).collect();
        let chosen: Vec<_> = steps.iter().map(|(_, foretold)| &foretold.routed).filter(|all| !all.is_empty()).collect();
        assert_eq!(told, chosen);
        // Before the first of the layer's experts.
        for (step, foretold) in cycle.steps.iter().zip(&cycle.foretold).filter(|(_, all)| !all.routed.is_empty()) {
            assert_eq!(step.block, foretold.routed[0]);
        }
    }
    let inferred = Workload::new(&read(unheard(log)), 2, PROCESSORS).map(|workload| workload.experts_used);
    assert!(
        inferred.clone().is_ok_and(|fewer| fewer < experts) || inferred.is_err(),
        "touches show less: {inferred:?}"
    );
}

#[test]
fn routers_alone_show_the_cycles_where_everything_stays() {
    let program = mixture(10, eight);
    let (totals, log) = program.run(&mut Learned::led_by_routers(), 2 * program.bytes(), 1);
    let workload = Workload::new(&read(log), 4, PROCESSORS).unwrap();
    assert!(workload.cycles.len() >= 5, "{}", workload.cycles.len());
    let count = workload.cycles.len();
    let ms = (totals[7].time_ns - totals[3].time_ns) as f64 / 4.0;
    assert_near(workload.recorded_ns as f64 / count as f64, ms, 0.05, "a cycle");
    // Some experts were still to be read.
    assert_near(workload.compute_ns() as f64 / count as f64, ms, 0.1, "computing");
}

#[test]
fn a_log_of_any_strategy_foretells_experts_at_other_budgets() {
    let program = mixture(24, eight);
    let budget = |share: f64| (program.bytes() as f64 * share) as u64;
    let routers = || Learned::led_by_routers();
    let logs = [
        program.run(&mut routers(), budget(0.5), 1).1,
        program.run(&mut routers(), budget(0.8), 1).1,
        program.run(&mut Learned::default(), budget(0.5), 1).1,
    ];
    for (number, log) in logs.into_iter().enumerate() {
        let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
        let counted = workload.cycles.len() - 4;
        let bench = Bench::new(&workload, counted, None);
        for share in [0.4, 0.5, 0.8] {
            let (totals, _) = program.run(&mut routers(), budget(share), 1);
            let (from, to) = (5, 5 + counted);
            let passed = totals[to].since(&totals[from]);
            let (ms, bytes) = (passed.time_ns as f64 / 1e6 / counted as f64, passed.read_bytes as f64 / counted as f64);
            let case = Case { memory_bytes: budget(share), policy: Contender::Experts, drive: drive() };
            let outcome = bench.run(&case).unwrap();
            let what = format!("experts at {share} from log {number}");
            assert_near(outcome.cycle_ms, ms, 0.1, &what);
            assert_near(outcome.read_bytes, bytes, 0.1, &what);
        }
    }
}

#[test]
fn a_log_of_whole_cells_is_replayed_on_slices() {
    let program = mixture(8, eight);
    let (_, log) = program.run(&mut Demand::default(), 60 * FRAME, 1);
    // `observe` sees cells: a touch is one of the cell that the block lies in.
    let cells = Layout::with_grain(0..program.bytes(), &pieces::of_tensors(&program.tensors), FRAME as usize / 2);
    let coarse = |item: Item| match item {
        Item::View(view) => {
            let (blocks, expected_order) = (cells.blocks.clone(), cells.order.clone());
            Item::View(Box::new(View { blocks, expected_order, ..*view }))
        }
        Item::Record(mut record) => {
            let cell = |block: &mut BlockId| {
                let start = program.layout.blocks[*block as usize].offset;
                *block = cells.index_at(start).unwrap();
                (start - cells.blocks[*block as usize].offset) as u32
            };
            match &mut record.event {
                Event::Touch { block, offset, .. } => *offset = cell(block),
                Event::Woken { block, .. } | Event::Install { block } | Event::Evict { block, .. } => {
                    cell(block);
                }
                _ => {}
            }
            Item::Record(record)
        }
    };
    let workload = Workload::new(&read(log.into_iter().map(coarse).collect()), 2, PROCESSORS).unwrap();
    assert!(workload.blocks == program.layout.blocks, "the pager's own blocks");
    let count = workload.cycles.len();
    assert!(count >= 4, "{count} cycles");
    assert_eq!(used(&program, &workload), wanted(&program, 2, count));
    assert!(
        workload
            .cycles
            .iter()
            .all(|cycle| { (0..DENSE).all(|block| cycle.steps.iter().any(|step| step.block == block)) })
    );
}

/// With what the next router will choose foretold after each choice but the last one of a cycle.
fn foretold(program: &Program, log: Vec<Item>) -> Vec<Item> {
    let (mut all, mut choice) = (Vec::new(), 0);
    let layer_of = |item: &Item| match item {
        Item::Record(Record { event: Event::Routed { layer, .. }, at_ns }) => Some((*layer, *at_ns)),
        _ => None,
    };
    let mut log = log.into_iter().peekable();
    while let Some(item) = log.next() {
        let chosen = layer_of(&item);
        all.push(item);
        let Some((layer, at_ns)) = chosen.filter(|_| log.peek().and_then(layer_of) != chosen) else { continue };
        choice += 1;
        if let Some((next, experts)) = program.choices.get(choice).filter(|(next, _)| *next > layer) {
            let guessed = |&expert: &u32| Event::Guessed { layer: *next, expert, by: Foreteller::Gate };
            all.extend(experts.iter().map(guessed).map(|event| Item::Record(Record { at_ns, event })));
        }
    }
    all
}

#[test]
fn what_was_foretold_is_read_while_the_layer_before_is_computed() {
    let program = mixture(12, eight);
    // All that is dense stays, and the drive rests meanwhile.
    let budget = program.bytes() * 9 / 10;
    let (_, log) = program.run(&mut Learned::led_by_routers(), budget, 1);
    let [unguessed, guessed] =
        [log.clone(), foretold(&program, log)].map(|log| Workload::new(&read(log), 2, PROCESSORS).unwrap());
    for (without, with) in unguessed.cycles.iter().zip(&guessed.cycles) {
        assert_eq!(without.steps, with.steps);
        assert!(without.foretold.iter().all(|foretold| foretold.guessed.is_empty()));
        let told: Vec<&Foretold> = with.foretold.iter().filter(|foretold| !foretold.routed.is_empty()).collect();
        for pair in told.windows(2) {
            let [mut guess, mut choice] = [pair[0].guessed.to_vec(), pair[1].routed.to_vec()];
            guess.sort_unstable();
            choice.sort_unstable();
            guess.dedup();
            assert!(!choice.is_empty());
            assert_eq!(guess, choice);
        }
        assert!(told.last().unwrap().guessed.is_empty());
    }
    let [late, early] = [&unguessed, &guessed].map(|workload| replayed(workload, Contender::Experts, budget));
    assert!(
        early.cycle_ms < late.cycle_ms && early.stall_share < late.stall_share,
        "{} ms, {} ms without guesses",
        early.cycle_ms,
        late.cycle_ms
    );
}
