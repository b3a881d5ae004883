//! Logs of simulated runs, replayed: what comes out must be what a run at the other budget gives.

use std::convert::Infallible;

mod drives;
mod mixture;

use super::case::Outcome;
use super::*;
use crate::pager::blocks::Layout;
use crate::pager::pieces;
use crate::policy::{BlockId, BlockTable, Demand, Learned, Policy, Readahead};
use crate::sim::{Drive, Engine, Foretold, Scenario, Step, Totals, Work};
use crate::trace::{Event, Foreteller, Item, Record, Tensor, View};

const FRAME: u64 = 2 << 20;
const WAKE_NS: u64 = 12_000;
const PROCESSORS: usize = 4;

fn drive() -> Drive {
    Drive { bytes_per_s: 800e6, latency_ns: 150_000, queue_depth: 16, limit_bytes_per_s: None }
}

/// A tensor of a file; its role is `role`'s word.
fn tensor(role: &str, layer: Option<u32>, offset: u64, bytes: u64, experts: u32) -> Tensor {
    Tensor { name: String::new(), role: role.into(), layer, offset, bytes, experts }
}

/// A program: its model's tensors, the blocks of the pager, and the steps of its cycles.
struct Program {
    tensors: Vec<Tensor>,
    layout: Layout,
    cycles: Vec<Vec<(Step, Foretold)>>,
    /// The experts of each choice of a router, in the order of time.
    choices: Vec<(u32, Vec<u32>)>,
}

impl Program {
    /// A file of as many frames as `order` has blocks, with these tensors: without any, it is foretold to be read in
    /// the order of the file.
    fn cyclic(tensors: Vec<Tensor>, order: &[BlockId], cycles: usize) -> Program {
        let layout = Layout::new(0..order.len() as u64 * FRAME, &pieces::of_tensors(&tensors));
        let cycle = order.iter().map(|&block| (Step { block, compute_ns: 800_000 }, Foretold::default()));
        Program { tensors, layout, cycles: vec![cycle.collect(); cycles], choices: Vec::new() }
    }

    fn bytes(&self) -> u64 {
        self.layout.blocks.iter().map(|block| u64::from(block.len)).sum()
    }

    /// Runs it in `budget` bytes: the totals whenever a cycle ends, and the log.
    fn run(&self, policy: &mut dyn Policy, budget: u64, threads: usize) -> (Vec<Totals>, Vec<Item>) {
        let mut table = BlockTable::default();
        let ids = table.add(&self.layout.blocks);
        table.set_budget(budget);
        policy.mapped(&table, ids, &self.layout.order);
        let (steps, foretold): (Vec<Step>, Vec<Foretold>) = self.cycles.concat().into_iter().unzip();
        let scenario = Scenario {
            drive: drive(),
            touches_max: 40 * steps.len() as u64,
            scripts: vec![steps],
            threads: vec![0; threads],
            foretold,
            work: Work::default(),
            wake_ns: WAKE_NS,
        };
        let cuts = self.cycles.iter().scan(0, |at, cycle| {
            *at += cycle.len();
            Some(*at)
        });
        let mut engine = Engine::new(table, policy, scenario, cuts.take(self.cycles.len() - 1).collect());
        let totals = engine.run().unwrap();
        // Numbers in a log are the pager's: not from 0.
        let view = View {
            at_ns: 0,
            number: 3,
            path: "model.gguf".into(),
            file_bytes: self.bytes(),
            inode: (1, 2),
            modified_unix_ns: 0,
            offset: 0,
            bytes: self.bytes(),
            first_block: 0,
            blocks: self.layout.blocks.clone(),
            expected_order: self.layout.order.clone(),
            tensors: self.tensors.clone(),
        };
        let mut log = vec![Item::View(Box::new(view))];
        let mut choices = engine.chosen.iter().zip(&self.choices).peekable();
        for index in 0..=engine.log.len() {
            while let Some((&(at_ns, _), (layer, experts))) = choices.next_if(|((_, before), _)| *before == index) {
                let routed = |&expert: &u32| Event::Routed { layer: *layer, token: 0, expert };
                log.extend(experts.iter().map(routed).map(|event| Item::Record(Record { at_ns, event })));
            }
            log.extend(engine.log.get(index).copied().map(Item::Record));
        }
        (totals, log)
    }
}

fn read(log: Vec<Item>) -> Recording {
    Recording::read(log.into_iter().map(Ok::<_, Infallible>)).unwrap()
}

fn replayed(workload: &Workload, policy: Contender, memory_bytes: u64) -> Outcome {
    Bench::new(workload, 8, None).run(&Case { memory_bytes, policy, drive: drive() }).unwrap()
}

fn shuffled_in_groups(count: u32, group: usize) -> Vec<BlockId> {
    let mut groups: Vec<Vec<BlockId>> = (0..count).collect::<Vec<_>>().chunks(group).map(<[BlockId]>::to_vec).collect();
    fastrand::Rng::with_seed(3).shuffle(&mut groups);
    groups.concat()
}

/// Milliseconds and bytes of a cycle from the ninth on.
fn steady(totals: &[Totals]) -> (f64, f64) {
    let last = totals.len() - 2;
    let passed = totals[last].since(&totals[8]);
    let cycles = (last - 8) as f64;
    (passed.time_ns as f64 / 1e6 / cycles, passed.read_bytes as f64 / cycles)
}

fn assert_near(got: f64, expected: f64, share: f64, what: &str) {
    assert!((got - expected).abs() <= share * expected, "{what}: {got}, not {expected}");
}

#[test]
fn a_log_at_one_budget_foretells_the_others() {
    let order: Vec<BlockId> = (0..1500).collect();
    let program = Program::cyclic(Vec::new(), &order, 14);
    for recorded in [0.25, 0.5, 0.8] {
        let budget = |share: f64| (program.bytes() as f64 * share) as u64;
        let (_, log) = program.run(&mut Learned::default(), budget(recorded), 1);
        let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
        assert_eq!(workload.threads, 1);
        assert!((WAKE_NS..2 * WAKE_NS).contains(&workload.touch_ns), "{}", workload.touch_ns);
        assert_eq!(workload.model_bytes(), program.bytes());
        assert_eq!(workload.used_bytes(), program.bytes() * workload.cycles.len() as u64);
        let blocks: Vec<BlockId> = workload.cycles[0].steps.iter().map(|step| step.block).collect();
        assert!(blocks == order);
        let compute_ms = workload.compute_ns() as f64 / 1e6 / workload.cycles.len() as f64;
        assert_near(compute_ms, 1500.0 * 0.8, 0.03, "computing");
        for share in [0.25, 0.5, 0.8] {
            for (contender, policy) in [
                (Contender::Learned, &mut Learned::default() as &mut dyn Policy),
                (Contender::Readahead, &mut Readahead::default()),
                (Contender::Demand, &mut Demand::default()),
            ] {
                let (totals, _) = program.run(policy, budget(share), 1);
                let (ms, bytes) = steady(&totals);
                let outcome = replayed(&workload, contender, budget(share));
                let what = format!("{contender} at {share} from {recorded}");
                assert_near(outcome.cycle_ms, ms, 0.05, &what);
                assert_near(outcome.read_bytes, bytes, 0.05, &what);
                assert!((outcome.tokens_per_s * outcome.cycle_ms - 1000.0).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn the_order_is_the_programs_whatever_the_header_says() {
    let order = shuffled_in_groups(1200, 40);
    // Nothing is foretold but the file's order, the first block alone, half of it.
    let first = |blocks: u64| vec![tensor("attention", Some(0), 0, blocks * FRAME, 0)];
    for tensors in [Vec::new(), first(1), first(600)] {
        let program = Program::cyclic(tensors, &order, 8);
        let (_, log) = program.run(&mut Learned::default(), program.bytes() * 6 / 10, 1);
        let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
        let blocks: Vec<BlockId> = workload.cycles[0].steps.iter().map(|step| step.block).collect();
        let start = blocks.iter().position(|&block| block == order[0]).unwrap();
        // A ring: where it begins is nobody's concern.
        let turned: Vec<BlockId> = (0..blocks.len()).map(|at| blocks[(start + at) % blocks.len()]).collect();
        assert!(turned == order);
    }
}

#[test]
fn cycles_are_found_in_the_order() {
    let order: Vec<BlockId> = (0..1000).collect();
    let program = Program::cyclic(Vec::new(), &order, 8);
    let (totals, log) = program.run(&mut Demand::default(), program.bytes() / 2, 2);
    let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
    // The end of the last one is not seen.
    assert_eq!(workload.cycles.len(), 5);
    let ms = totals[6].since(&totals[1]).time_ns as f64 / 1e6;
    assert_near(workload.recorded_ns as f64 / 1e6, ms, 0.02, "recorded");
    // No touch finds a staged block here, so all that is not a wait is computation.
    assert!(workload.compute_ns() > 0 && workload.compute_ns() < workload.recorded_ns);
}

#[test]
fn lines_are_not_moved_by_outliers() {
    let mut points: Vec<(f64, f64)> = (1..=60).map(|x| f64::from(x % 6 + 1)).map(|x| (x, 50.0 + 70.0 * x)).collect();
    points.extend([(2.0, 6000.0), (4.0, 9000.0), (3.0, 0.0), (1.0, 2.0), (2.0, 7.0)]);
    let line = fit::Line::through(&points, 10.0, 100.0);
    assert_near(line.slope, 70.0, 0.01, "slope");
    assert_near(line.intercept, 50.0, 0.02, "intercept");
    // The limits hold, and without points there is nothing.
    assert!((fit::Line::through(&points, 60.0, 100.0).intercept - 60.0).abs() < 0.1);
    assert_eq!(fit::Line::through(&[], 0.0, 0.0).slope, 0.0);
    let mut values = vec![2.0; 99];
    values.push(1e9);
    assert_eq!((fit::trimmed_mean(values), fit::trimmed_mean(Vec::new())), (Some(2.0), None));
    assert_eq!(fit::weighted_median(vec![(1.0, 1.0), (3.0, 9.0), (2.0, 1.0)]), Some(3.0));
}

#[test]
fn other_grains_are_replayed_on_the_pagers_blocks() {
    let whole = Program::cyclic(Vec::new(), &(0..200).collect::<Vec<_>>(), 6);
    let (_, log) = whole.run(&mut Learned::default(), 120 * FRAME, 1);
    // The same log as `observe` would write it with a grain of 1 MiB: every event twice, for both halves.
    let halves = |item: Item| -> Vec<Item> {
        let Item::View(view) = item else {
            let Item::Record(record) = item else { return Vec::new() };
            let half = |half: u32| {
                let mut record = record;
                match &mut record.event {
                    Event::Touch { block, .. }
                    | Event::Woken { block, .. }
                    | Event::Install { block }
                    | Event::Evict { block, .. }
                    | Event::Rearm { block } => *block = *block * 2 + half,
                    _ => {}
                }
                Item::Record(record)
            };
            return vec![half(0), half(1)];
        };
        let Layout { blocks, order: expected_order, .. } = Layout::with_grain(0..view.bytes, &[], FRAME as usize / 2);
        vec![Item::View(Box::new(View { blocks, expected_order, ..*view }))]
    };
    let fine = read(log.clone().into_iter().flat_map(halves).collect());
    let (fine, coarse) =
        (Workload::new(&fine, 2, PROCESSORS).unwrap(), Workload::new(&read(log), 2, PROCESSORS).unwrap());
    assert_eq!(fine.blocks, coarse.blocks);
    let blocks =
        |workload: &Workload| -> Vec<BlockId> { workload.cycles[0].steps.iter().map(|step| step.block).collect() };
    assert_eq!(blocks(&fine), blocks(&coarse));
    let compute = |workload: &Workload| workload.compute_ns() as f64 / workload.cycles.len() as f64;
    assert_near(compute(&fine), compute(&coarse), 0.03, "computing");
}

#[test]
fn what_later_cycles_leave_out_is_not_used() {
    let order: Vec<BlockId> = (0..1000).collect();
    let mut program = Program::cyclic(Vec::new(), &order, 10);
    program.cycles[1..].iter_mut().for_each(|cycle| cycle.retain(|(step, _)| !(300..400).contains(&step.block)));
    let (_, log) = program.run(&mut Learned::default(), program.bytes() / 2, 2);
    let workload = Workload::new(&read(log), 6, PROCESSORS).unwrap();
    let used = workload.cycles[0].steps.iter().filter(|step| (300..400).contains(&step.block)).count();
    // Those that stay in memory unused are indistinguishable from those that are used there.
    assert!(used <= 60 && workload.cycles[0].steps.len() == 900 + used, "{used}");
}

#[test]
fn a_short_log_is_refused() {
    let order: Vec<BlockId> = (0..100).collect();
    let program = Program::cyclic(Vec::new(), &order, 3);
    let (_, log) = program.run(&mut Learned::default(), 70 * FRAME, 1);
    let recording = read(log);
    assert_eq!(Workload::new(&recording, 5, PROCESSORS).unwrap_err(), Unusable::Cycles { whole: 1, skipped: 1 });
    assert!(Workload::new(&Recording::default(), 0, PROCESSORS).is_err());
}

fn report() -> report::Report {
    let order: Vec<BlockId> = (0..300).collect();
    let program = Program::cyclic(Vec::new(), &order, 8);
    let (_, log) = program.run(&mut Learned::default(), program.bytes() / 2, 1);
    let recording = read(log);
    let workload = Workload::new(&recording, 2, PROCESSORS).unwrap();
    let memories = [10, 50, 100].map(|percent| program.bytes() * percent / 100);
    let policies = [Contender::Belady, Contender::Learned, Contender::Lru, Contender::Mru];
    let drives = [drive(), Drive { bytes_per_s: 3e9, ..drive() }];
    let bench = Bench::new(&workload, 4, Some(128 << 10));
    let ticks = std::sync::atomic::AtomicUsize::new(0);
    let done = matrix::run(&bench, &matrix::cases(&memories, &policies, &drives), || {
        ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((done.len(), ticks.into_inner()), (24, 24));
    let header = crate::trace::Header { strategy: "learned".into(), ..Default::default() };
    let recorded =
        report::Recorded::new("run.log".into(), &header, &workload, drive::measured(&recording.reads, None), 7);
    report::Report::new(recorded, done)
}

#[test]
fn the_bound_bounds_and_every_policy_has_its_place() {
    let report = report();
    for drive in report.drives() {
        for memory_bytes in report.memories() {
            let of = |policy| report.outcome(&Case { memory_bytes, policy, drive });
            let bound = of(Contender::Belady).unwrap();
            for policy in [Contender::Learned, Contender::Lru, Contender::Mru] {
                let Some(outcome) = of(policy) else { continue };
                assert!(outcome.tokens_per_s <= bound.tokens_per_s * 1.001, "{policy}: {outcome:?} {bound:?}");
                assert!(outcome.read_bytes >= bound.read_bytes * 0.99, "{policy}: {outcome:?} {bound:?}");
                assert!((0.0..=1.0).contains(&outcome.hit_ratio) && (0.0..=1.0).contains(&outcome.stall_share));
            }
        }
        let [tenth, half, whole] = report.memories()[..] else { panic!("three sizes") };
        let of = |memory_bytes, policy| report.outcome(&Case { memory_bytes, policy, drive });
        let (lru, mru) = (of(half, Contender::Lru).unwrap(), of(half, Contender::Mru).unwrap());
        assert!(lru.hit_ratio == 0.0 && mru.hit_ratio > 0.48, "{lru:?} {mru:?}");
        assert_eq!(of(whole, Contender::Lru).unwrap().read_bytes, 0.0);
        // 30 frames: fewer than the pager needs besides rows and experts, which this model does not have.
        assert!(of(tenth, Contender::Learned).is_some());
    }
}

#[test]
fn tables_and_pictures_show_every_case() {
    let report = report();
    let text = table::terminal(&report);
    for told in ["run.log: strategy learned", "800.00 MB/s, 150 us, depth 16", "3.00 GB/s", "(50 %)", "mru", "lost 7"] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    let picture = svg::draw(&report).unwrap();
    for told in ["tokens per second", "GB read per token", "memory for the model, GB", "belady", "3.00 GB/s"] {
        assert!(picture.contains(told), "{told}");
    }
    // A dot for each case in each of the two charts.
    assert_eq!(picture.matches("<circle").count(), 2 * report.cases.len());
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["cases"].as_array().unwrap().len(), 24);
    assert_eq!(json["cases"][0]["policy"], "belady");
    assert!(json["cases"][0]["tokens_per_s"].is_number() && json["recorded"]["drive"]["bytes_per_s"].is_number());
}

#[test]
fn too_little_memory_for_the_pager_is_told() {
    let order: Vec<BlockId> = (0..300).collect();
    let program = Program::cyclic(Vec::new(), &order, 6);
    let (_, log) = program.run(&mut Learned::default(), program.bytes() / 2, 1);
    let workload = Workload::new(&read(log), 2, PROCESSORS).unwrap();
    let bench = Bench::new(&workload, 2, None);
    let case = Case { memory_bytes: 15 * FRAME, policy: Contender::Learned, drive: drive() };
    assert_eq!(bench.run(&case), Err(case::Failed::Budget(16 * FRAME)));
    assert!(bench.run(&Case { policy: Contender::Lru, ..case }).is_ok());
}
