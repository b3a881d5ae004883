//! A llama.cpp that ggml is linked into: nobody calls the library's function, so the routers cannot be heard.
//! The text is that of the same build without the pager, and the first touch of an expert's matrix brings the
//! others.
//!
//! ```sh
//! GGPAGER_LLAMA_STATIC=$(scripts/get-llama --from static) cargo test --test static_llama -- --ignored --nocapture
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ggpager::policy::{Block, Role, Touch};
use ggpager::synth::Arch;
use ggpager::trace::{Event, Item, Reader, Tensor, View};

#[allow(dead_code)]
#[path = "support/llama.rs"]
mod llama;
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use llama::{Paging, greedy, model, require_same_text, stock};

/// Touches, and how many of them found a block of which no read had begun.
#[derive(Debug, Default, Clone, Copy)]
struct Touches {
    all: u64,
    absent: u64,
}

impl Touches {
    fn count(&mut self, found: Touch) {
        self.all += 1;
        self.absent += u64::from(found == Touch::Absent);
    }
}

/// What a run touched of its experts.
#[derive(Debug, Default)]
struct Experts {
    /// Blocks of the matrix that is computed first in its layer.
    first: Touches,
    /// Blocks of the other ones: the first one was touched before them.
    siblings: Touches,
}

/// Where the tensor begins of which `block` holds a part of one expert. Two experts, maybe of two tensors, may
/// share a page: who touches it is not known.
fn matrix(view: &View, block: &Block) -> Option<u64> {
    let end = block.offset + u64::from(block.len);
    let holds =
        |tensor: &&Tensor| tensor.experts > 0 && tensor.offset <= block.offset && end <= tensor.offset + tensor.bytes;
    let tensor = view.tensors.iter().find(holds)?;
    let expert = |offset| (offset - tensor.offset) / (tensor.bytes / u64::from(tensor.experts));
    (expert(block.offset) == expert(end - 1)).then_some(tensor.offset)
}

/// Reads the fault log. Which matrix of a layer is the first one is seen when the run comes to the layer.
fn experts(log: &Path) -> Experts {
    let (mut view, mut experts) = (None::<View>, Experts::default());
    let (mut here, mut first) = (None, HashMap::<u32, u64>::new());
    for item in Reader::new(std::fs::File::open(log).expect("a log")).expect("a log") {
        match item.expect("a sound log") {
            Item::View(other) => view = view.or(Some(*other)),
            Item::Record(record) => match record.event {
                Event::Touch { block, found, .. } => {
                    let view = view.as_ref().expect("views come first");
                    let block = &view.blocks[(block - view.first_block) as usize];
                    let (Role::Expert { layer }, Some(tensor)) = (block.role, matrix(view, block)) else { continue };
                    if here.replace(layer) != Some(layer) {
                        first.entry(layer).or_insert(tensor);
                    }
                    if first[&layer] == tensor { &mut experts.first } else { &mut experts.siblings }.count(found);
                }
                Event::Routed { .. } => panic!("a choice was heard: this is no static build"),
                _ => {}
            },
        }
    }
    experts
}

/// Runs the build in `program` with `strategy`, and counts. The text must be its own without the pager, and one
/// line must say that routers cannot be heard: whatever the strategy, the log would have what they choose.
fn paged(program: &Path, arch: Arch, strategy: &'static str) -> Experts {
    let model = model(arch);
    let args = greedy(model, "16", &[]);
    let paging = Paging { strategy, ..Paging::USUAL };
    let (outcome, log) = paging.traced(program, &args, model);
    require_same_text(&stock(program, &args), &outcome.output, strategy);
    let (experts, stats) = (experts(&log), outcome.stats.as_ref().expect("paged"));
    assert_eq!(stats.trace_lost_records, 0, "{stats:?}");
    eprintln!("{arch:?}, {strategy}: {experts:?}; {} bytes read of {}", stats.read_bytes, model.bytes);
    let messages = String::from_utf8_lossy(&outcome.output.stderr);
    assert_eq!(messages.matches("the routers cannot be heard").count(), 1, "{messages}");
    experts
}

/// An expert's matrices come together, unless nothing but what is touched is read.
fn compare(arch: Arch) {
    let folder = PathBuf::from(std::env::var_os("GGPAGER_LLAMA_STATIC").expect("GGPAGER_LLAMA_STATIC names a folder"));
    let program = folder.join("llama-completion");
    for strategy in ["experts", "learned", "demand"] {
        let Experts { first, siblings } = paged(&program, arch, strategy);
        assert!(first.all > 0 && siblings.all > 0, "{arch:?}, {strategy}: {first:?} {siblings:?}");
        let together = siblings.absent * 10 < siblings.all;
        assert_eq!(together, strategy != "demand", "{arch:?}, {strategy}: {siblings:?}");
    }
}

#[test]
#[ignore = "needs a static build of llama.cpp, which takes many minutes (scripts/get-llama --from static)"]
fn qwen3moe() {
    compare(Arch::Qwen3Moe);
}

#[test]
#[ignore = "needs a static build of llama.cpp, which takes many minutes (scripts/get-llama --from static)"]
fn deepseek2() {
    compare(Arch::Deepseek2);
}

#[test]
#[ignore = "needs a static build of llama.cpp, which takes many minutes (scripts/get-llama --from static)"]
fn gpt_oss() {
    compare(Arch::GptOss);
}
