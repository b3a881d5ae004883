//! Identical output: unmodified llama.cpp says the same from the mapping and through the pager.
//!
//! Every paged run must have been one: a view, the forced rung and strategy, the budget as asked, bytes
//! read, no page unreadable, exit code 0, and a text. [`matrix`] has the settings, [`logits`] compares
//! probabilities, [`loading`] the ways to load and run, [`programs`] what runs more than one context or
//! model in a process, [`cgroup`] a limit and nothing set by hand.

#[allow(dead_code)]
#[path = "../support/llama.rs"]
mod llama;
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

mod cgroup;
mod experts;
mod loading;
mod logits;
mod matrix;
mod observe;
mod programs;
mod server;
