//! A memory limit smaller than the model, and nothing set by hand.

use std::process::{Command, Stdio};

use ggpager::bench::cgroup::{Hierarchy, Limits};
use ggpager::stats::Stats;

use super::llama::{HANG_S, dense, greedy, require_same_text, stock, tool};
use super::support::{self, library, scratch};

/// Half of what is left of the limit is the pool, and the model is more than the limit.
const LIMIT_BYTES: u64 = 400 << 20;
const MODEL_BYTES: u64 = 500_000_000;

#[test]
fn by_itself_it_pages_a_model_larger_than_the_limit() {
    let Some(program) = tool("llama-completion") else { return };
    if !support::available("root", support::is_root()) {
        return;
    }
    let model = dense(MODEL_BYTES, None);
    let args = greedy(model, "8", &[]);
    let expected = stock(&program, &args);
    let limits = Limits { memory_bytes: Some(LIMIT_BYTES), ..Limits::default() };
    let name = format!("ggpager-identity-{}", std::process::id());
    let group = match Hierarchy::find().and_then(|hierarchy| hierarchy.create(&name, &limits)) {
        Ok(group) => group,
        Err(error) => {
            support::available(&format!("a memory cgroup ({error})"), false);
            return;
        }
    };
    let stats = scratch("stats.json");
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", HANG_S, env!("CARGO_BIN_EXE_ggpager"), "run", "--stats"]).arg(&stats).arg("--");
    command.arg(&program).args(&args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["GGPAGER", "LLAMA_ARG", "OMP", "GOMP", "LD_PRELOAD"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // Where the library is, and a cache folder that goes away: neither changes how it pages.
    command.env("GGPAGER_LIB", library()).env("XDG_CACHE_HOME", scratch("cache"));
    group.hold(&mut command);
    let output = command.output().expect("timeout runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {messages}", output.status);
    assert_eq!(group.oom_kills().unwrap_or(0), 0, "{messages}");
    require_same_text(&expected, &output, "auto under a limit");
    let stats: Stats = serde_json::from_slice(&std::fs::read(stats).expect("statistics")).expect("JSON");
    assert!(stats.views > 0 && stats.poisoned_pages == 0 && stats.evictions > 0, "{stats:?}: {messages}");
    assert!(stats.read_bytes > model.bytes && stats.budget_bytes < LIMIT_BYTES, "{stats:?}");
}
