//! A llama.cpp that ggml is linked into: nobody calls the library's function, so the routers cannot be heard.
//! The text is that of the same build without the pager, and the first touch of an expert's matrix brings the
//! others.
//!
//! ```sh
//! GGPAGER_LLAMA_STATIC=$(scripts/get-llama --from static) cargo test --test static_llama -- --ignored --nocapture
//! ```

use std::path::{Path, PathBuf};

use ggpager::policy::{Role, Touch};
use ggpager::synth::Arch;
use ggpager::trace::{Event, Item, Reader, View};

#[allow(dead_code)]
#[path = "support/llama.rs"]
mod llama;
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use llama::{Paging, greedy, model, require_same_text, stock};

/// Touches of blocks of experts in a run, and how many of them were in memory or on their way there.
#[derive(Debug, Default)]
struct Touches {
    all: u64,
    brought: u64,
}

/// Runs the build in `program` with `strategy`, and counts.
fn paged(program: &Path, strategy: &'static str) -> (Touches, String) {
    let model = model(Arch::Qwen3Moe);
    let args = greedy(model, "16", &[]);
    let paging = Paging { strategy, ..Paging::USUAL };
    let (outcome, log) = paging.traced(program, &args, model);
    require_same_text(&stock(program, &args), &outcome.output, strategy);

    let (mut view, mut touches) = (None::<View>, Touches::default());
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        match item.expect("a sound log") {
            Item::View(other) => view = view.or(Some(*other)),
            Item::Record(record) => match record.event {
                Event::Touch { block, found, .. } => {
                    let view = view.as_ref().expect("views come first");
                    if matches!(view.blocks[(block - view.first_block) as usize].role, Role::Expert { .. }) {
                        touches.all += 1;
                        touches.brought += u64::from(found != Touch::Absent);
                    }
                }
                Event::Routed { .. } => panic!("a choice was heard: this is no static build"),
                _ => {}
            },
        }
    }
    let stats = outcome.stats.as_ref().expect("paged");
    let (demand, in_flight, staged) = (stats.faults_demand, stats.faults_in_flight, stats.faults_staged);
    eprintln!("{strategy}: {touches:?}; all faults: {demand} demand, {in_flight} in flight, {staged} staged");
    (touches, String::from_utf8_lossy(&outcome.output.stderr).into_owned())
}

#[test]
#[ignore = "needs a static build of llama.cpp, which takes many minutes (scripts/get-llama --from static)"]
fn experts_without_a_word_from_the_routers() {
    let folder = PathBuf::from(std::env::var_os("GGPAGER_LLAMA_STATIC").expect("GGPAGER_LLAMA_STATIC names a folder"));
    let program = folder.join("llama-completion");
    let (touches, messages) = paged(&program, "experts");
    assert_eq!(messages.matches("the routers cannot be heard").count(), 1, "{messages}");
    // Three matrices an expert: the first one touched makes the other two certain.
    assert!(touches.brought * 2 > touches.all, "{touches:?}");
}
