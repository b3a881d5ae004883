//! `ggpager synth`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::ByteSize;
use crate::synth::{Arch, Order, Plan, Quant, Request, Routing, Summary, WriteOptions};

/// Arguments of `ggpager synth`.
#[derive(clap::Args)]
pub struct Args {
    /// The file to write (with --split-max-size: NAME.gguf becomes NAME-00001-of-0000N.gguf, ...).
    out: PathBuf,
    /// The architecture.
    #[arg(long, value_enum, default_value = "llama")]
    arch: Arch,
    /// Size of the model, within 3 %: 200M, 8G, 8GB.
    #[arg(long, default_value = "1G")]
    size: ByteSize,
    /// The quantization mix [default: Q4_0 for llama, Q4_K for qwen3moe and deepseek2, MXFP4 for gpt-oss].
    #[arg(long, value_enum, ignore_case = true)]
    quant: Option<Quant>,
    /// Whose order of tensors [default: quantize for Q4_0 and Q4_K, else convert].
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Seed of the weights: the same seed and options give the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Split the model into files with at most this much tensor data each.
    #[arg(long)]
    split_max_size: Option<ByteSize>,
    /// Number of layers [default: by the size].
    #[arg(long)]
    layers: Option<u32>,
    /// Elements of the residual stream [default: by the size].
    #[arg(long)]
    width: Option<u64>,
    /// Tokens in the vocabulary [default: about 4096 or 32000, by the size].
    #[arg(long)]
    vocab: Option<u64>,
    /// Context length that the model claims [default: 8192].
    #[arg(long)]
    ctx: Option<u32>,
    /// Experts in a layer [default: by the architecture and the size].
    #[arg(long)]
    experts: Option<u64>,
    /// Experts that a token uses [default: by the architecture].
    #[arg(long)]
    used: Option<u64>,
    #[command(flatten)]
    routing: RoutingArgs,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
    /// Leave the model in the page cache (otherwise the first run on it reads the drive).
    #[arg(long)]
    keep_cache: bool,
    /// Say what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
}

/// How routers behave, in architectures with experts. docs/synth.md has what comes of it.
#[derive(clap::Args)]
struct RoutingArgs {
    /// Unevenness of the experts' popularity: standard deviation of what an expert gets from every token alike,
    /// over that of what depends on the token. 0 (all alike) to 4 [default: 0.4].
    #[arg(long, value_name = "RATIO")]
    router_skew: Option<f64>,
    /// Correlation of the router logits of two tokens of one topic, with which text stays for some ten tokens:
    /// how much of its experts a token shares with the one before. 0 to 0.9 [default: 0.4].
    #[arg(long, value_name = "CORRELATION")]
    token_similarity: Option<f64>,
    /// Correlation of a layer's router logits with those that its router makes of the hidden state one layer
    /// earlier: how well the next layer's experts are foretold. At least 0.3 + 0.7 x --token-similarity, at most
    /// 0.995 [default: 0.94].
    #[arg(long, value_name = "CORRELATION")]
    layer_similarity: Option<f64>,
    /// Leave all of that to the luck of random weights.
    #[arg(long, conflicts_with_all = ["router_skew", "token_similarity", "layer_similarity"])]
    random_routers: bool,
}

impl RoutingArgs {
    /// An option that was given.
    fn given(&self) -> Option<&'static str> {
        let all = [
            ("--router-skew", self.router_skew.is_some()),
            ("--token-similarity", self.token_similarity.is_some()),
            ("--layer-similarity", self.layer_similarity.is_some()),
            ("--random-routers", self.random_routers),
        ];
        all.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    fn routing(&self) -> Option<Routing> {
        let usual = Routing::default();
        (!self.random_routers).then(|| Routing {
            skew: self.router_skew.unwrap_or(usual.skew),
            token_similarity: self.token_similarity.unwrap_or(usual.token_similarity),
            layer_similarity: self.layer_similarity.unwrap_or(usual.layer_similarity),
        })
    }
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let quant = args.quant.unwrap_or(Quant::usual(args.arch));
    let given = args.routing.given();
    anyhow::ensure!(
        given.is_none() || args.arch != Arch::Llama,
        "{} does not go with llama: it has no experts",
        given.unwrap_or_default()
    );
    let request = Request {
        order: args.order.unwrap_or(quant.usual_order()),
        seed: args.seed,
        routing: args.routing.routing(),
        split_max: args.split_max_size,
        layers: args.layers,
        width: args.width,
        vocab: args.vocab,
        ctx: args.ctx,
        experts: args.experts,
        used: args.used,
        ..Request::new(args.out, args.arch, quant, args.size)
    };
    let plan = request.plan()?;
    println!("{}", describe(&plan));
    if args.dry_run {
        println!("would write {} to {}", ByteSize(plan.bytes()), names(&plan));
        return Ok(ExitCode::SUCCESS);
    }
    let options = WriteOptions { force: args.force, keep_cache: args.keep_cache };
    let summary = write(&plan, options)?;
    let seconds = summary.elapsed.as_secs_f64();
    let rate = summary.bytes as f64 / 1e6 / seconds.max(1e-9);
    println!("wrote {} to {} in {seconds:.2} s ({rate:.0} MB/s, on the drive)", ByteSize(summary.bytes), names(&plan));
    Ok(ExitCode::SUCCESS)
}

/// Writes with a progress bar on a terminal; SIGINT and SIGTERM stop it and leave no file behind.
fn write(plan: &Plan, options: WriteOptions) -> anyhow::Result<Summary> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // Draws on stderr, and only when that is a terminal.
    let bar = ProgressBar::new(plan.bytes());
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
    )?);
    let done = plan.write(options, &mut |bytes| {
        bar.inc(bytes);
        // Relaxed: the flag says nothing about other memory.
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    Ok(done?)
}

fn names(plan: &Plan) -> String {
    let first = plan.files[0].path.display();
    match plan.files.len() {
        1 => first.to_string(),
        count => format!("{first} ... ({count} files)"),
    }
}

fn describe(plan: &Plan) -> String {
    let shape = &plan.shape;
    let mut text = format!(
        "{} {:?}: {} layers, width {}, {} heads, vocabulary {}",
        shape.arch.name(),
        plan.quant,
        shape.layers,
        shape.width,
        shape.heads,
        shape.vocab
    );
    if shape.ff > 0 {
        text += &format!(", feed-forward {}", shape.ff);
    }
    if let Some(experts) = shape.experts {
        text += &format!(", {} experts of {} ({} used)", experts.count, experts.ff, experts.used);
    }
    let millions = plan.parameters() as f64 / 1e6;
    text + &format!("; {} tensors, {millions:.0} M weights, seed {}", plan.tensors(), plan.seed)
}
