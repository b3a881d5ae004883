//! {llama, qwen3moe, deepseek2, gpt-oss} x {move, continue, copy} x {demand, readahead, learned} x
//! {25 %, 50 %, 100 %}.
//!
//! Without privileges all 108 run. With privileges the default is 12 in which every pair of two values
//! of different kinds occurs (say gpt-oss and 25 %, or copy and demand); `GGPAGER_MATRIX=full` runs
//! all 108 there too.

use ggpager::synth::Arch;

use super::llama::{Paging, greedy, model, require_same_text, stock, tool};
use super::support;

const ARCHS: [Arch; 4] = [Arch::Llama, Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss];
const FILLS: [&str; 3] = ["move", "continue", "copy"];
const STRATEGIES: [&str; 3] = ["demand", "readahead", "learned"];
const PERCENTS: [u64; 3] = [25, 50, 100];

/// Warm-up, prompt and seven more: nine cycles.
const TOKENS: &str = "8";

/// Indexes into the four lists.
type Cell = [usize; 4];

fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for arch in 0..4 {
        for rest in 0..27 {
            cells.push([arch, rest / 9, rest / 3 % 3, rest % 3]);
        }
    }
    cells
}

/// A Latin square and its orthogonal mate: see [`the_pairs_cover_every_pair`].
fn pairs() -> Vec<Cell> {
    all()
        .into_iter()
        .filter(|&[arch, fill, strategy, percent]| strategy == (arch + fill) % 3 && percent == (arch + 2 * fill) % 3)
        .collect()
}

fn compare(arch: Arch, cells: &[Cell], unprivileged: bool) {
    let Some(program) = tool("llama-completion") else { return };
    let model = model(arch);
    let args = greedy(model, TOKENS, &[]);
    let expected = stock(&program, &args);
    let mut runs = 0;
    for &[_, fill, strategy, percent] in cells.iter().filter(|cell| ARCHS[cell[0]] == arch) {
        let paging = Paging {
            fill: FILLS[fill],
            strategy: STRATEGIES[strategy],
            percent: PERCENTS[percent],
            unprivileged: unprivileged && support::is_root(),
        };
        let outcome = paging.run(&program, &args, model);
        require_same_text(&expected, &outcome.output, &format!("{arch:?} {paging:?}"));
        runs += 1;
    }
    assert_eq!(runs, cells.len() / ARCHS.len());
    eprintln!("{arch:?}: {runs} runs say what stock says");
}

#[test]
fn the_pairs_cover_every_pair() {
    let (all, pairs) = (all(), pairs());
    assert_eq!((all.len(), pairs.len()), (108, 12));
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        assert!(all.iter().all(|cell| pairs.iter().any(|pair| pair[a] == cell[a] && pair[b] == cell[b])), "{a} {b}");
    }
}

/// A module for each architecture: they run side by side.
macro_rules! architectures {
    ($($name:ident = $arch:expr),+ $(,)?) => {$(
        mod $name {
            use super::*;

            #[test]
            fn with_privileges_the_text_is_that_of_stock() {
                if !support::available("root", support::is_root()) {
                    return;
                }
                let full = std::env::var("GGPAGER_MATRIX").is_ok_and(|value| value == "full");
                compare($arch, &if full { all() } else { pairs() }, false);
            }

            #[test]
            fn without_privileges_the_text_is_that_of_stock() {
                compare($arch, &all(), true);
            }
        }
    )+};
}

architectures! { llama = Arch::Llama, qwen3moe = Arch::Qwen3Moe, deepseek2 = Arch::Deepseek2, gpt_oss = Arch::GptOss }
