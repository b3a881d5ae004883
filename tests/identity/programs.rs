//! Programs that map a model more than once.

use super::llama::{Paging, arguments, dense, tool};

#[test]
fn llama_bench_runs_several_configurations_in_one_process() {
    let Some(program) = tool("llama-bench") else { return };
    let model = dense(145_000_000, None);
    // Another number of GPU layers makes it load the model anew; without a GPU nothing else changes.
    let rest = ["-p", "8", "-n", "2", "-r", "1", "-t", "1,2", "-ngl", "0,1", "-o", "json", "--repack", "0"];
    let outcome = Paging::USUAL.run(&program, &arguments(model, &rest), model);
    assert!(outcome.stats.as_ref().expect("paged").views > 1, "{:?}", outcome.stats);
    let results: serde_json::Value = serde_json::from_slice(&outcome.output.stdout).expect("JSON");
    let results = results.as_array().expect("a list");
    // Two tests, two numbers of threads, two loads.
    assert_eq!(results.len(), 8, "{results:?}");
    for result in results {
        assert!(result["samples_ns"][0].as_u64().is_some_and(|time| time > 0), "{result}");
    }
}
