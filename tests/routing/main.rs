//! What the routers of synthetic models do in real llama.cpp: the options of `ggpager synth` move the figures
//! that they are there for, and the defaults are within what has been published for trained models.
//!
//! `cargo test --test routing -- --nocapture` prints the figures. `GGPAGER_LLAMA` names the folder with the
//! binaries, else they are looked for on `PATH`.

mod hidden;
#[allow(dead_code)]
#[path = "../support/llama.rs"]
mod llama;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ggpager::config::ByteSize;
use ggpager::gguf::Model;
use ggpager::synth::{Arch, Quant, Request, Routing, WriteOptions};

use hidden::Hidden;

/// Published for trained models.
const REUSE: RangeInclusive<f64> = 0.18..=0.43;
const RECALL: RangeInclusive<f64> = 0.59..=0.89;

/// What the routers of a run did, means over the layers.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Gini coefficient of the experts' uses.
    gini: f64,
    /// Share of a token's experts that the token before used, too.
    reuse: f64,
    /// Share of a token's experts that its router would have named one layer earlier.
    recall: f64,
}

/// Runs `model` for 128 sampled tokens and watches its routers.
fn watched(program: &Path, model: &Path) -> Figures {
    let (states, watcher) = (support::scratch("states"), support::compile("hidden_states", true));
    let output = Command::new("timeout")
        .args(["--kill-after=5", llama::HANG_S])
        .arg("env")
        .arg(format!("LD_PRELOAD={}", watcher.display()))
        .arg(format!("HIDDEN_STATES={}", states.display()))
        .arg(program)
        .args(["-p", "Hello there", "-n", "128", "--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0"])
        .args(["--seed", "1", "--ignore-eos", "-no-cnv", "-nr", "--no-warmup", "-c", "256", "-t", "2", "-m"])
        .arg(model)
        .env("OMP_WAIT_POLICY", "PASSIVE")
        .stdin(Stdio::null())
        .output()
        .expect("timeout runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = std::fs::File::open(model).expect("written");
    Hidden::read(&states).figures(&Model::read(&file).expect("sound"), &file)
}

fn figures(program: &Path, arch: Arch, routing: Option<Routing>) -> Figures {
    let out: PathBuf = support::scratch("model.gguf");
    // Shares of experts in use as in published models; a vocabulary that is large enough for varied text.
    let (experts, used) = match arch {
        Arch::Qwen3Moe => (128, 8),
        Arch::Deepseek2 => (64, 6),
        _ => (32, 4),
    };
    let usual = Request::new(&out, arch, Quant::usual(arch), ByteSize(200 << 20));
    let request = Request { routing, experts: Some(experts), used: Some(used), ..usual };
    request.plan().expect("possible").write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("room");
    let figures = watched(program, &out);
    std::fs::remove_file(out).expect("written before");
    eprintln!("{arch:?} {routing:?}: {figures:.3?}");
    figures
}

#[test]
fn usual_routers_behave_like_trained_ones() {
    let Some(program) = llama::tool("llama-completion") else { return };
    for arch in [Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss] {
        let found = figures(&program, arch, Some(Routing::default()));
        assert!(REUSE.contains(&found.reuse) && RECALL.contains(&found.recall), "{arch:?}: {found:?}");
    }
}

#[test]
fn each_option_moves_its_figure() {
    let Some(program) = llama::tool("llama-completion") else { return };
    let usual = Routing::default();
    for arch in [Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss] {
        let of = |routing| figures(&program, arch, Some(routing));
        let (even, uneven) = (of(Routing { skew: 0.0, ..usual }), of(Routing { skew: 1.0, ..usual }));
        assert!(uneven.gini > even.gini + 0.2, "{arch:?}: {even:?} {uneven:?}");
        let apart = of(Routing { token_similarity: 0.0, ..usual });
        let alike = of(Routing { token_similarity: 0.7, ..usual });
        assert!(alike.reuse > apart.reuse + 0.15, "{arch:?}: {apart:?} {alike:?}");
        let new = of(Routing { layer_similarity: 0.75, ..usual });
        let kept = of(Routing { layer_similarity: 0.985, ..usual });
        assert!(kept.recall > new.recall + 0.2, "{arch:?}: {new:?} {kept:?}");
    }
}
