//! llama-completion: where it is, how it is called, what it prints.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::launch::program;

/// The workload's program.
pub const PROGRAM: &str = "llama-completion";

/// Finds the workload: in `folder`, else in `$GGPAGER_LLAMA`, else on the PATH.
pub fn find(folder: Option<PathBuf>) -> Option<PathBuf> {
    let named =
        folder.or_else(|| std::env::var_os("GGPAGER_LLAMA").filter(|value| !value.is_empty()).map(PathBuf::from));
    match named {
        Some(folder) => program::resolve(folder.join(PROGRAM).as_os_str(), None),
        None => program::resolve(PROGRAM.as_ref(), std::env::var_os("PATH").as_deref()),
    }
}

/// One generation.
#[derive(Debug, Clone)]
pub struct Call {
    /// The model.
    pub model: PathBuf,
    /// What to go on from.
    pub prompt: String,
    /// Tokens to generate.
    pub tokens: u32,
    /// Compute threads.
    pub threads: u32,
    /// Length of the context in tokens.
    pub context: u32,
    /// Further arguments.
    pub extra: Vec<OsString>,
}

impl Call {
    /// The arguments: greedy, so that runs can be compared, and without repacking, so that stock
    /// and paged runs compute the same way on weights in the mapping.
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> =
            vec!["-m".into(), self.model.clone().into(), "-p".into(), self.prompt.clone().into()];
        let numbers = [("-n", self.tokens), ("-t", self.threads), ("-c", self.context), ("--seed", 1), ("--temp", 0)];
        args.extend(numbers.iter().flat_map(|(name, value)| [OsString::from(name), value.to_string().into()]));
        args.extend(["--ignore-eos", "-no-cnv", "--no-display-prompt", "-nr"].map(OsString::from));
        args.extend(self.extra.iter().cloned());
        args
    }
}

/// A prompt of about `tokens` tokens: common words are one token each in every vocabulary; the
/// real count is the one that [`Perf`] reports.
pub fn prompt_of(tokens: u32) -> String {
    const WORDS: [&str; 8] = ["the", "of", "and", "to", "in", "for", "is", "on"];
    let words: Vec<_> = WORDS.iter().cycle().take(tokens as usize).copied().collect();
    words.join(" ")
}

/// One phase as llama.cpp reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Time in milliseconds.
    pub ms: f64,
    /// Tokens (prompt) or decodes (eval).
    pub count: u64,
}

impl Phase {
    /// Milliseconds each.
    pub fn ms_each(self) -> Option<f64> {
        (self.count > 0).then(|| self.ms / self.count as f64)
    }
}

/// What llama.cpp reports at the end of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Perf {
    /// Load time in milliseconds.
    pub load_ms: Option<f64>,
    /// Prompt processing.
    pub prompt: Option<Phase>,
    /// Decoding.
    pub eval: Option<Phase>,
}

impl Perf {
    /// Reads the lines `load time = X ms`, `prompt eval time = X ms / N tokens` and
    /// `eval time = X ms / N runs`, whatever stands before them.
    pub fn parse(stderr: &str) -> Perf {
        let mut perf = Perf::default();
        for line in stderr.lines() {
            let Some((label, rest)) = line.split_once(" time =") else { continue };
            let Some((ms, rest)) = rest.split_once("ms") else { continue };
            let Ok(ms) = ms.trim().parse::<f64>() else { continue };
            let count = rest.split_once('/').and_then(|(_, count)| count.split_whitespace().next()?.parse().ok());
            let phase = Phase { ms, count: count.unwrap_or(0) };
            if label.ends_with("prompt eval") {
                perf.prompt = Some(phase);
            } else if label.ends_with(" eval") {
                perf.eval = Some(phase);
            } else if label.ends_with("load") {
                perf.load_ms = Some(ms);
            }
        }
        perf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_lines_of_old_and_new_builds_are_understood() {
        let new = "\
0.00.742.331 I common_perf_print:    samplers time =       0.07 ms /    10 tokens
0.00.742.333 I common_perf_print:        load time =     165.14 ms
0.00.742.334 I common_perf_print: prompt eval time =     132.62 ms /     6 tokens (   22.10 ms per token,    45.24 tokens per second)
0.00.742.335 I common_perf_print:        eval time =     351.72 ms /     3 runs   (  117.24 ms per token,     8.53 tokens per second)
0.00.742.336 I common_perf_print:       total time =     484.84 ms /     9 tokens";
        let perf = Perf::parse(new);
        assert_eq!(perf.load_ms, Some(165.14));
        assert_eq!(perf.prompt, Some(Phase { ms: 132.62, count: 6 }));
        assert_eq!(perf.eval, Some(Phase { ms: 351.72, count: 3 }));
        assert!((perf.eval.unwrap().ms_each().unwrap() - 117.24).abs() < 1e-9);
        let old = "llama_perf_context_print:        eval time =   41492.85 ms /    11 runs   ( 3772.08 ms per token)";
        assert_eq!(Perf::parse(old).eval, Some(Phase { ms: 41492.85, count: 11 }));
        assert_eq!(Perf::parse("eval time = soon\n time =ms"), Perf::default());
    }

    #[test]
    fn prompts_have_as_many_words() {
        assert_eq!(prompt_of(512).split(' ').count(), 512);
        assert_eq!(prompt_of(0), "");
    }
}
