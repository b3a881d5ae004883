//! `scripts/kernel-trace` on a private drive: the pager's log agrees with the kernel, and a run without
//! the pager becomes a log, too.

#[allow(dead_code)]
#[path = "support/llama.rs"]
mod llama;
#[allow(dead_code)] // shared with other tests, which need other parts of it
mod support;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use ggpager::bench::llama::{Call, Prompt};
use ggpager::bench::loop_drive::LoopDrive;
use ggpager::config::ByteSize;
use ggpager::ktrace::parse::Events;
use ggpager::ktrace::traffic;
use ggpager::launch::program;
use ggpager::synth::{Arch, Quant, Request, WriteOptions};
use ggpager::trace::{Event, Item, Reader};
use support::{available, is_root, library};

const MODEL_BYTES: u64 = 600_000_000;

/// What the script needs, or nothing after a line that says what is missing.
fn llama_completion() -> Option<PathBuf> {
    let installed = |name: &str| program::resolve(name.as_ref(), std::env::var_os("PATH").as_deref()).is_some();
    let present = available("root", is_root())
        && available("bpftrace that may load programs", loads_programs())
        && available("filefrag", installed("filefrag"))
        && available("losetup", installed("losetup") && Path::new("/dev/loop-control").exists())
        && available("tracefs", Path::new("/sys/kernel/tracing").exists());
    if present { llama::tool("llama-completion") } else { None }
}

/// Whether bpftrace is there and the kernel lets it work.
fn loads_programs() -> bool {
    Command::new("bpftrace").args(["-e", "BEGIN { exit(); }"]).output().is_ok_and(|output| output.status.success())
}

/// Runs `command` under the script, which leaves what it makes in `folder`.
fn traced(folder: &Path, model: &Path, command: &[OsString]) -> String {
    let tool = env!("CARGO_BIN_EXE_ggpager");
    let mut script = Command::new("timeout");
    script.args(["--kill-after=10", "300"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kernel-trace"));
    script.arg("-o").arg(folder).arg("--model").arg(model).args(["--tool", tool, "--"]).args(command);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GGPAGER")) {
        script.env_remove(name);
    }
    script.env("GGPAGER_LIB", library()).env("GGPAGER_ORDER_CACHE", "off").env("OMP_WAIT_POLICY", "PASSIVE");
    // Nothing of the model is in memory at the start.
    let file = File::open(model).expect("the model");
    file.sync_all().expect("the drive works");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file takes advice");
    let output = script.output().expect("timeout runs");
    let (out, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{messages}", output.status);
    out.into_owned()
}

fn kernel_events(folder: &Path) -> Events {
    Events::read(BufReader::new(File::open(folder.join("events.txt")).expect("events"))).expect("known lines")
}

#[test]
fn the_kernel_and_the_logs_agree() {
    let Some(llama) = llama_completion() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let drive = LoopDrive::new(folder, MODEL_BYTES + (200 << 20));
    let drive = match drive {
        Ok(drive) => drive,
        Err(error) => {
            available(&format!("a loop drive ({error:#})"), false);
            return;
        }
    };
    let model = drive.folder().join("model.gguf");
    let request = Request::new(model.clone(), Arch::Llama, Quant::Q4_0, ByteSize(MODEL_BYTES));
    let plan = request.plan().expect("a possible model");
    plan.write(WriteOptions::default(), &mut |_| ControlFlow::Continue(())).expect("room for the model");
    let model_bytes = plan.bytes();
    let prompt = "Once upon a time";
    let call = Call {
        prompt: Prompt::Text(prompt.into()),
        tokens: 4,
        context: 256,
        batch: None,
        ubatch: None,
        extra: Vec::new(),
    };
    let program: Vec<OsString> = [llama.into()].into_iter().chain(call.completion(&model, prompt, 2)).collect();
    let scratch = tempfile::tempdir().expect("a folder");

    let paged: Vec<OsString> = [env!("CARGO_BIN_EXE_ggpager"), "run", "--quiet", "--budget", "300MB", "--"]
        .map(OsString::from)
        .into_iter()
        .chain(program.iter().cloned())
        .collect();
    let folder = scratch.path().join("paged");
    let told = traced(&folder, &model, &paged);
    let (kernel, _) = traffic::of_kernel(&kernel_events(&folder));
    let log = traffic::of_log(Reader::new(File::open(folder.join("pager.log")).expect("a log")).expect("sound"));
    let log = log.expect("a sound log");
    assert!(kernel.bytes > model_bytes, "half of the model is read for each token: {told}");
    assert!(kernel.bytes.abs_diff(log.bytes) * 100 <= kernel.bytes, "more than 1 % apart: {told}");
    assert!(told.contains("the pager's log against the kernel"), "{told}");

    let folder = scratch.path().join("stock");
    let told = traced(&folder, &model, &program);
    let (kernel, _) = traffic::of_kernel(&kernel_events(&folder));
    assert!(kernel.bytes.abs_diff(model_bytes) * 100 <= model_bytes, "it is read once: {told}");
    let mut log = Reader::new(File::open(folder.join("kernel.log")).expect("a log")).expect("a sound log");
    assert_eq!(log.header().recorder, "kernel tracepoints");
    assert_eq!(log.header().program, "llama-completion");
    let (mut views, mut touched, mut touches, mut woken, mut read) = (0, HashSet::new(), 0u64, 0u64, 0);
    for item in log.by_ref() {
        match item.expect("a sound log") {
            Item::View(view) => {
                assert_eq!((view.file_bytes, view.tensors.len()), (model_bytes, tensors_of(&model)));
                views += 1;
            }
            Item::Record(record) => match record.event {
                Event::Touch { block, .. } => {
                    touches += 1;
                    touched.insert(block);
                }
                Event::Woken { .. } => woken += 1,
                Event::Read { len, .. } => read += u64::from(len),
                _ => {}
            },
        }
    }
    assert_eq!(log.cut_off(), None);
    assert_eq!(views, 1);
    assert!(touches > 0 && touches == woken, "{touches} touches, {woken} threads went on");
    assert!(touched.len() > 10, "{touched:?}");
    assert!(read.abs_diff(kernel.bytes) * 100 <= kernel.bytes, "{read} bytes in the log: {told}");
}

/// Tensors that the header names.
fn tensors_of(model: &Path) -> usize {
    ggpager::gguf::Model::read(&File::open(model).expect("the model")).expect("a sound model").tensors.len()
}
