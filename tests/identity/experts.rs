//! Strategy `experts`: the text is that of stock, the log has what the routers chose, and nothing else was
//! touched. A program's own look at its graph goes on beside ours.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

use ggpager::pager::affinity::LEVELS;
use ggpager::policy::{Role, Touch};
use ggpager::stats::ExpertStats;
use ggpager::synth::Arch;
use ggpager::trace::{Event, Foreteller, Item, Reader, Record, Tensor, View};

use super::llama::{Model, Paging, greedy, model, model_in_memory, require_same_text, stock, tool};
use super::support::{self, Setting};

const PAGING: Paging = Paging { fill: "move", strategy: "experts", percent: 25, unprivileged: false };
const ROOT: Setting = Setting { vars: &[], unprivileged: false };

/// The layer and the expert of the slice that a block lies in as a whole.
fn expert_of(view: &View, index: u32) -> Option<(u32, u32)> {
    let block = &view.blocks[index as usize];
    let Role::Expert { layer } = block.role else { return None };
    let holds = |tensor: &&Tensor| {
        tensor.experts > 0 && tensor.offset <= block.offset && block.offset < tensor.offset + tensor.bytes
    };
    let tensor = view.tensors.iter().find(holds)?;
    let slice = tensor.bytes / u64::from(tensor.experts);
    let expert = (block.offset - tensor.offset) / slice;
    let inside = block.offset + u64::from(block.len) <= tensor.offset + (expert + 1) * slice;
    inside.then_some((layer, expert as u32))
}

/// Layers and experts.
type Experts = HashSet<(u32, u32)>;

/// What routers have chosen, and what was touched. Requires that no token chooses one twice. Tells how
/// often the drive had too much to do for what was chosen to be in its queue when it was touched.
fn chosen_and_touched(log: &Path) -> (Experts, Experts) {
    let (mut view, mut chosen, mut touched) = (None::<View>, Experts::new(), Experts::new());
    let (mut token, mut of_token) = (None, HashSet::new());
    // Of a prompt's experts not all may fit; of a token's they do.
    let (mut misses, mut batch) = (Vec::new(), HashMap::new());
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        match item.expect("a sound log") {
            Item::View(other) => view = view.or(Some(*other)),
            Item::Record(record) => match record.event {
                Event::Touch { block, found, .. } => {
                    let view = view.as_ref().expect("views come first");
                    let expert = expert_of(view, block - view.first_block);
                    touched.extend(expert);
                    let of_one = |expert: &(u32, u32)| batch.get(&expert.0) == Some(&0);
                    misses.extend(expert.filter(of_one).filter(|_| found == Touch::Absent));
                }
                Event::Routed { layer, token: number, expert } => {
                    batch.insert(layer, number);
                    if token.replace((layer, number)) != Some((layer, number)) {
                        of_token.clear();
                    }
                    assert!(of_token.insert(expert), "layer {layer}, token {number}: {expert} twice");
                    chosen.insert((layer, expert));
                }
                _ => {}
            },
        }
    }
    eprintln!("{} touches of a single token's experts found no read begun", misses.len());
    (chosen, touched)
}

/// Experts that the log says were foretold for a router that then chose, and how many of them it chose: by the gate, and
/// by co-occurrence.
fn foretold(log: &Path) -> [(u64, u64); 2] {
    let (mut foretold, mut guesser) = ([(0, 0); 2], 0);
    // Of one layer; `None` once its router has chosen.
    let (mut guess, mut chooses) = (Experts::new(), None);
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        match item.expect("a sound log") {
            Item::Record(Record { event: Event::Guessed { layer, expert, by }, .. }) => {
                guesser = usize::from(by == Foreteller::CoOccurrence);
                if chooses.take().is_some() {
                    guess.clear();
                }
                assert!(guess.insert((layer, expert)), "layer {layer}: {expert} foretold twice");
            }
            Item::Record(Record { event: Event::Routed { layer, expert, .. }, .. }) => {
                if chooses.replace(layer) != Some(layer) {
                    guess.retain(|&(of, _)| of == layer);
                    foretold[guesser].0 += guess.len() as u64;
                }
                foretold[guesser].1 += u64::from(guess.remove(&(layer, expert)));
            }
            _ => {}
        }
    }
    foretold
}

/// Requires that what the log says of single tokens' affinities is of the numbers that their routers chose by: the experts beyond
/// the middle are those that were chosen. Gives how many came near without being chosen.
fn require_affinities(log: &Path) -> usize {
    let (mut tokens, mut near, mut chosen, mut affine) = (0, 0, Experts::new(), Experts::new());
    let settle = |tokens: u32, chosen: &mut Experts, affine: &mut Experts| {
        if tokens == 1 {
            assert_eq!(chosen, affine);
        }
        (chosen.clear(), affine.clear())
    };
    let mut latest = None;
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        let Item::Record(Record { event, .. }) = item.expect("a sound log") else { continue };
        match event {
            Event::Routed { layer, token, expert } => {
                if latest.replace((layer, token)).is_none_or(|(before, last)| before != layer || token < last) {
                    settle(tokens, &mut chosen, &mut affine);
                }
                tokens = token + 1;
                chosen.insert((layer, expert));
            }
            Event::Affine { layer, expert, level } => {
                assert_eq!(latest.map(|latest| latest.0), Some(layer));
                // The next token's choice in the only layer of experts would else look like another token's.
                latest = Some((layer, u32::MAX));
                if level > LEVELS / 2 {
                    affine.insert((layer, expert));
                } else {
                    near += 1;
                }
            }
            _ => {}
        }
    }
    settle(tokens, &mut chosen, &mut affine);
    near
}

/// Runs the model that `of` gives with `percent` of it in the pool; gives what the statistics say of experts.
fn compare(of: fn(Arch) -> &'static Model, arch: Arch, percent: u64, tokens: &str) -> Option<ExpertStats> {
    let program = tool("llama-completion")?;
    let model = of(arch);
    let args = greedy(model, tokens, &[]);
    let expected = stock(&program, &args);
    let (outcome, log) = Paging { percent, ..PAGING }.traced(&program, &args, model);
    require_same_text(&expected, &outcome.output, &format!("{arch:?}"));

    // Without some of its records the log says something else than the statistics.
    assert_eq!(outcome.stats.as_ref().expect("required above").trace_lost_records, 0, "{arch:?}");
    let (chosen, touched) = chosen_and_touched(&log);
    assert!(!chosen.is_empty() && !touched.is_empty(), "{} chosen, {} touched", chosen.len(), touched.len());
    let strangers: Vec<_> = touched.difference(&chosen).collect();
    assert!(strangers.is_empty(), "{arch:?}: touched, but not chosen: {strangers:?}");
    let it = outcome.stats.as_ref().expect("required above").experts;
    let told = [it.gate, it.co_occurrence].map(|it| (it.guesses, it.right));
    assert_eq!(foretold(&log), told, "{arch:?}");
    assert!(require_affinities(&log) > 0, "{arch:?}");
    eprintln!("{arch:?}: {} chosen, {} touched, {:?} foretold right", chosen.len(), touched.len(), it.gate.precision());
    assert_eq!(it.chosen_bytes, it.held_bytes() + it.in_flight_bytes + it.missing_bytes, "{arch:?}");
    assert!(it.held_used_bytes > 0 && it.missing_bytes > 0, "{arch:?}: {it:?}");
    assert!(it.waste_permille > 0, "{arch:?}: nobody looked at what unasked reads cost");
    assert!(it.read_amplification().is_some_and(|it| it >= 0.95), "{arch:?}: {it:?}");
    eprintln!("{arch:?}: {it:?}, amplification {:?}", it.read_amplification());
    Some(it)
}

/// A drive that has enough to do is asked for nothing that is only probable: hence most of the model is in the pool here,
/// and its file in memory, whatever the machine's drive.
#[test]
fn what_the_next_router_is_expected_to_choose_it_chooses() {
    let Some(it) = compare(model_in_memory, Arch::Qwen3Moe, 75, "48") else { return };
    assert!(it.gate.guesses > 0 && it.held_gate_bytes > 0, "{it:?}");
    // By chance it would be an eighth.
    assert!(it.gate.precision().is_some_and(|precision| precision > 0.4), "{it:?}");
}

#[test]
fn qwen3moe() {
    compare(model, Arch::Qwen3Moe, 25, "8");
}

#[test]
fn deepseek2() {
    compare(model, Arch::Deepseek2, 25, "8");
}

#[test]
fn gpt_oss() {
    compare(model, Arch::GptOss, 25, "8");
}

/// A prompt needs every expert here, and frames are somewhat larger than what they hold. A log is to have every choice all the same.
#[test]
fn routers_are_seldom_heard_while_all_is_in_memory() {
    let Some(program) = tool("llama-completion") else { return };
    let model = model_in_memory(Arch::Qwen3Moe);
    let text = "The quick brown fox jumps over the lazy dog; 0123456789. ".repeat(8);
    let args = greedy(model, "64", &["-p", &text, "-c", "1024"]);
    let expected = stock(&program, &args);
    let paging = Paging { percent: 106, ..PAGING };
    let outcomes = [paging.run(&program, &args, model), paging.traced(&program, &args, model).0];
    let [seldom, always] = outcomes.map(|outcome| {
        require_same_text(&expected, &outcome.output, "all in memory");
        outcome.stats.expect("required above").experts.chosen_bytes
    });
    eprintln!("{seldom} and {always} bytes chosen");
    assert!(seldom < always / 2);
}

/// llama-imatrix looks at every matrix product of the graph.
#[test]
fn a_program_that_watches_its_graph_sees_the_same() {
    let Some(program) = tool("llama-imatrix") else { return };
    let model = model(Arch::Qwen3Moe);
    let text = support::scratch("text");
    std::fs::write(&text, "the quick brown fox jumps over the lazy dog and ".repeat(40)).expect("a file");
    let collect = |vars: &[(&str, &str)]| {
        let collected = support::scratch("imatrix");
        let mut args: Vec<OsString> = vec!["-m".into(), model.path.clone().into(), "-f".into(), text.clone().into()];
        args.extend(["-c", "64", "-b", "64", "--chunks", "2", "-t", "2", "-nr", "-o"].map(OsString::from));
        args.push(collected.clone().into());
        let outcome = support::run(ROOT, &[], &program, &args, vars);
        outcome.require_code(0);
        (std::fs::read(&collected).expect("collected"), outcome)
    };
    let (expected, _) = collect(&[("GGPAGER", "off")]);
    let variables = PAGING.variables();
    let vars: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (seen, outcome) = collect(&vars);
    PAGING.require(&outcome, model, PAGING.percent);
    assert!(expected.len() > 1000 && seen == expected, "{} and {} bytes", expected.len(), seen.len());
}

#[test]
fn only_a_program_with_llama_in_it_is_told_that_routers_cannot_be_heard() {
    for (name, times) in [("mixture", 0), ("mixture_linked", 1)] {
        let args = [model(Arch::Qwen3Moe).path.clone().into()];
        let variables = PAGING.variables();
        let vars: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = support::run(ROOT, &[], &support::compile(name, false), &args, &vars);
        outcome.require_code(0).require_paged();
        let messages = String::from_utf8_lossy(&outcome.output.stderr);
        assert_eq!(messages.matches("the routers cannot be heard").count(), times, "{name}: {messages}");
    }
}
