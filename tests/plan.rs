//! `ggpager plan` on a synthetic model whose sizes are known.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};

use ggpager::config::ByteSize;
use ggpager::gguf::{Model, TokenReads};
use ggpager::synth::{Arch, Quant, Request, WriteOptions};

fn plan(model: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ggpager")).arg("plan").arg(model).args(args).output().expect("runnable")
}

#[test]
fn the_plan_names_sizes_speed_and_the_price_of_a_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.gguf");
    let request = Request::new(&path, Arch::Qwen3Moe, Quant::Q4_K, ByteSize(64_000_000));
    request.plan().expect("possible").write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("room");
    let model = Model::read(&std::fs::File::open(&path).expect("there")).expect("sound");
    let reads = TokenReads::of(&[&model]);

    // As told, so that nothing is measured but memory.
    let output = plan(&path, &["--json", "--no-run", "--drive", "100MB", "--ram", "64G", "--target", "2tok/s"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["model_bytes"], model.file_bytes);
    assert_eq!(report["dense_bytes"], reads.dense_bytes);
    assert_eq!(report["active_expert_bytes"], reads.active_expert_bytes);
    assert_eq!(report["ram_bytes"], 64u64 << 30);
    assert_eq!(report["compute"]["by"], "memory");
    let rate = report["compute"]["bytes_per_s"].as_f64().expect("a number");
    let compute_ms = reads.bytes() as f64 / rate * 1e3;
    assert!((report["compute_ms"].as_f64().expect("a number") / compute_ms - 1.0).abs() < 1e-6);
    // Everything fits: the computation is all that takes time.
    for row in report["expected"].as_array().expect("rows") {
        assert_eq!((row["read_bytes"].as_u64(), row["drive_bound"].as_bool()), (Some(0), Some(false)), "{row}");
        let ms = 1e3 / row["tokens_per_s"].as_f64().expect("a number");
        assert!((ms / compute_ms - 1.0).abs() < 1e-6, "{row}");
        assert!(
            row["target"]["budget_bytes"].as_u64().is_some_and(|budget| budget <= model.file_bytes + (1 << 20)),
            "{row}"
        );
    }

    let output = plan(&path, &["--no-run", "--drive", "100MB", "--target", "2"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for told in ["8 of 16 experts", "KV cache", "reuse of experts", "by chance", "for 2 tokens/s", "as told"] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn what_cannot_be_planned_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("no.gguf");
    assert!(!plan(&path, &[]).status.success());
    std::fs::write(&path, "no model").expect("writable");
    let output = plan(&path, &["--no-run"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no.gguf"));
    assert_eq!(plan(&path, &["--target", "fast"]).status.code(), Some(2));
}
