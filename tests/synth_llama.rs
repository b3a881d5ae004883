//! Synthetic models in real llama.cpp: it loads and runs them, and llama-quantize agrees on types
//! and order.
//!
//! `GGPAGER_LLAMA` names the folder with the binaries, else they are looked for on `PATH`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ggpager::config::ByteSize;
use ggpager::gguf::Model;
use ggpager::synth::{Arch, Order, Plan, Quant, Request, Summary, WriteOptions};

const ARCHS: [Arch; 4] = [Arch::Llama, Arch::Qwen3Moe, Arch::Deepseek2, Arch::GptOss];

/// The binary, or nothing after a line that says why; with `GGPAGER_REQUIRE_ALL=1` that is a failure.
fn llama(tool: &str) -> Option<PathBuf> {
    let folders = match std::env::var_os("GGPAGER_LLAMA").or_else(|| std::env::var_os("PATH")) {
        Some(folders) => std::env::split_paths(&folders).collect(),
        None => Vec::new(),
    };
    let found = folders.into_iter().map(|folder| folder.join(tool)).find(|path| path.is_file());
    if found.is_none() {
        let why = format!("{tool} is neither in GGPAGER_LLAMA nor on PATH");
        assert!(std::env::var("GGPAGER_REQUIRE_ALL").as_deref() != Ok("1"), "{why}");
        eprintln!("skipped: {why}");
    }
    found
}

fn write(plan: &Plan) -> Summary {
    plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("writable")
}

/// Sixteen greedy tokens.
fn completion(tool: &Path, model: &Path) -> String {
    let output = Command::new(tool)
        .args(["-p", "Hello world", "-n", "16", "--temp", "0", "--seed", "1", "--ignore-eos", "-no-cnv"])
        .args(["--no-display-prompt", "-nr", "-t", "2", "-c", "512", "-m"])
        .arg(model)
        .stdin(Stdio::null())
        .output()
        .expect("runnable");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}\n{log}", model.display(), output.status);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.trim().len() > 16, "{}: hardly any text: {text:?}\n{log}", model.display());
    assert!(!log.contains("nan"), "{}: {log}", model.display());
    text
}

#[test]
fn llama_cpp_runs_every_architecture() {
    let Some(tool) = llama("llama-completion") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    for arch in ARCHS {
        for quant in [Quant::usual(arch), Quant::Q8_0] {
            let out = folder.path().join(format!("{}-{quant:?}.gguf", arch.name()));
            write(&Request::new(&out, arch, quant, ByteSize(16_000_000)).plan().expect("possible"));
            completion(&tool, &out);
        }
    }
}

#[test]
fn a_split_model_says_the_same_as_a_whole_one() {
    let Some(tool) = llama("llama-completion") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let whole = Request::new(folder.path().join("whole.gguf"), Arch::GptOss, Quant::Mxfp4, ByteSize(16_000_000));
    let split = Request { split_max: Some(ByteSize(4_000_000)), out: folder.path().join("s.gguf"), ..whole.clone() };
    let (whole, split) = (whole.plan().expect("possible"), split.plan().expect("possible"));
    assert!(split.files.len() > 2);
    write(&whole);
    write(&split);
    let (whole, split) = (completion(&tool, &whole.files[0].path), completion(&tool, &split.files[0].path));
    // The tool loses its last tokens on stdout now and then.
    assert!(whole.trim_end().starts_with(split.trim_end()) || split.trim_end().starts_with(whole.trim_end()));
}

#[test]
fn llama_quantize_agrees_on_types_and_order() {
    let Some(tool) = llama("llama-quantize") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let table = |path: &Path| -> Vec<(String, String)> {
        let model = Model::read(&std::fs::File::open(path).expect("there")).expect("a model");
        model.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.ggml_type.to_string())).collect()
    };
    for arch in ARCHS {
        let source = folder.path().join("f16.gguf");
        let plan = Request::new(&source, arch, Quant::F16, ByteSize(40_000_000)).plan().expect("possible");
        write(&plan);
        for quant in [Quant::Q4_0, Quant::Q4_K, Quant::Q8_0] {
            let (theirs, ours) = (folder.path().join("theirs.gguf"), folder.path().join("ours.gguf"));
            let output = Command::new(&tool)
                .arg(&source)
                .arg(&theirs)
                .arg(format!("{quant:?}"))
                .stdin(Stdio::null())
                .output()
                .expect("runnable");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            write(&Plan::new(&ours, plan.shape.clone(), quant, Order::Quantize, 1, None).expect("possible"));
            assert_eq!(table(&ours), table(&theirs), "{arch:?} {quant:?}");
            std::fs::remove_file(&theirs).and_then(|()| std::fs::remove_file(&ours)).expect("removable");
        }
        std::fs::remove_file(&source).expect("removable");
    }
}
