//! Ways to load a model and to run it.

use std::path::Path;
use std::process::Command;

use ggpager::synth::Arch;

use super::llama::{Paging, dense, greedy, model, require_same_text, stock, tool};

/// Compares llama-completion with `more` arguments.
fn compare(more: &[&str]) {
    let Some(program) = tool("llama-completion") else { return };
    let model = model(Arch::Llama);
    let args = greedy(model, "16", more);
    let outcome = Paging::USUAL.run(&program, &args, model);
    require_same_text(&stock(&program, &args), &outcome.output, &format!("{more:?}"));
}

/// Whether the program's help has this word.
fn knows(program: &Path, word: &str) -> bool {
    let help = Command::new("timeout").args(["30".as_ref(), program.as_os_str(), "--help".as_ref()]).output();
    let help = help.expect("timeout runs");
    [help.stdout, help.stderr].iter().any(|text| memchr::memmem::find(text, word.as_bytes()).is_some())
}

#[test]
fn a_split_model_says_what_stock_says() {
    let Some(program) = tool("llama-completion") else { return };
    let model = dense(145_000_000, Some(40_000_000));
    assert!(model.files >= 3, "{model:?}");
    let args = greedy(model, "16", &[]);
    let outcome = Paging::USUAL.run(&program, &args, model);
    assert_eq!(outcome.stats.as_ref().expect("paged").views, model.files as u64);
    require_same_text(&stock(&program, &args), &outcome.output, "split");
}

#[test]
fn locked_in_memory() {
    let Some(program) = tool("llama-completion") else { return };
    // Builds before 2026 have a flag of its own, and map by default.
    compare(if knows(&program, "--load-mode") { &["--load-mode", "mmap+mlock"] } else { &["--mlock"] });
}

#[test]
fn every_tensor_checked_while_loading() {
    compare(&["--check-tensors"]);
}

#[test]
fn one_thread() {
    compare(&["-t", "1"]);
}

#[test]
fn eight_threads() {
    compare(&["-t", "8"]);
}
