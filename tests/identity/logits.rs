//! The same logits, byte for byte: the strictest comparison that llama.cpp offers.

use ggpager::synth::Arch;

use super::llama::{Paging, arguments, model, stock, tool};
use super::support::scratch;

#[test]
fn saved_logits_are_identical() {
    let Some(program) = tool("llama-perplexity") else { return };
    let text = scratch("text.txt");
    let words: Vec<String> = (0..400u32).map(|i| format!("word{} ", i * i % 97)).collect();
    std::fs::write(&text, words.concat()).expect("a text");
    let text = text.to_str().expect("plain");
    for (arch, fill, strategy) in [
        (Arch::Llama, "move", "readahead"),
        (Arch::Qwen3Moe, "move", "learned"),
        (Arch::Deepseek2, "copy", "demand"),
        (Arch::GptOss, "continue", "readahead"),
    ] {
        let model = model(arch);
        let (theirs, ours) = (scratch("stock.logits"), scratch("paged.logits"));
        let args = |out: &std::path::Path| {
            let out = out.to_str().expect("plain");
            let rest = ["-f", text, "-c", "64", "-b", "64", "--chunks", "2", "-nr", "-t", "2"];
            arguments(model, &[&rest[..], &["--kl-divergence-base", out]].concat())
        };
        stock(&program, &args(&theirs));
        let paging = Paging { fill, strategy, ..Paging::USUAL };
        paging.run(&program, &args(&ours), model);
        let (theirs, ours) = (std::fs::read(theirs).expect("logits"), std::fs::read(ours).expect("logits"));
        // Two chunks, of each the second half, 16 bits for each token of the vocabulary.
        assert!(theirs.len() > 2 * 31 * 2 * 4096, "{arch:?}: hardly any logits: {} bytes", theirs.len());
        assert!(theirs == ours, "{arch:?}: the logits differ");
    }
}
