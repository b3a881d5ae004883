//! llama.cpp's programs: where they are, how they are called, what they print.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::launch::program;

/// Tokens that llama.cpp computes at a time (`-ub`) unless it is told.
pub const UBATCH_DEFAULT: u32 = 512;
/// The program that counts tokens.
const TOKENIZER: &str = "llama-tokenize";

/// Finds the program `name`: in `folder`, else in `$GGPAGER_LLAMA`, else on the PATH.
pub fn find(folder: Option<&Path>, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os("GGPAGER_LLAMA").filter(|value| !value.is_empty()).map(PathBuf::from);
    match folder.map(Path::to_owned).or(named) {
        Some(folder) => program::resolve(folder.join(name).as_os_str(), None),
        None => program::resolve(name.as_ref(), std::env::var_os("PATH").as_deref()),
    }
}

/// What a model is to go on from.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// This text.
    Text(String),
    /// So many tokens.
    Tokens(u32),
}

/// One generation, or several of the same kind.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to go on from.
    pub prompt: Prompt,
    /// Tokens to generate.
    pub tokens: u32,
    /// Length of the context in tokens.
    pub context: u32,
    /// Tokens of a logical batch (`-b`), if not the program's own.
    pub batch: Option<u32>,
    /// Tokens computed at a time (`-ub`), if not the program's own.
    pub ubatch: Option<u32>,
    /// Further arguments.
    pub extra: Vec<OsString>,
}

impl Call {
    /// Tokens of a prompt that one pass over the weights serves.
    pub fn tokens_a_pass(&self) -> u32 {
        let ubatch = self.ubatch.unwrap_or(UBATCH_DEFAULT);
        self.batch.map_or(ubatch, |batch| batch.min(ubatch))
    }

    /// What all programs are told: without repacking, so that stock and paged runs compute the same
    /// way on weights in the mapping.
    fn common(&self, model: &Path, threads: u32) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-m".into(), model.into(), "-nr".into()];
        let numbers = [("-t", Some(threads)), ("-c", Some(self.context)), ("-b", self.batch), ("-ub", self.ubatch)];
        for (name, value) in numbers {
            args.extend(value.into_iter().flat_map(|value| [OsString::from(name), value.to_string().into()]));
        }
        args
    }

    /// The arguments of llama-completion, with `prompt` as text: greedy, so that runs can be compared.
    pub fn completion(&self, model: &Path, prompt: &str, threads: u32) -> Vec<OsString> {
        let mut args = self.common(model, threads);
        args.extend(["-p", prompt, "-n", &self.tokens.to_string(), "--seed", "1", "--temp", "0"].map(OsString::from));
        args.extend(["--ignore-eos", "-no-cnv", "--no-display-prompt"].map(OsString::from));
        args.extend(self.extra.iter().cloned());
        args
    }

    /// The arguments of llama-server at `port`: one slot, and with `draft` speculation as `program`
    /// wants to be asked for it.
    pub fn server(&self, program: &Path, model: &Path, draft: Option<&Path>, threads: u32, port: u16) -> Vec<OsString> {
        let mut args = self.common(model, threads);
        args.extend(["-np", "1", "--host", "127.0.0.1", "--port", &port.to_string()].map(OsString::from));
        if let Some(draft) = draft {
            args.extend(["-md".into(), draft.into()]);
            // Builds of 2026 take a draft model only together with the kind of speculation.
            if speaks_of(program, "--spec-type") {
                args.extend(["--spec-type", "draft-simple"].map(OsString::from));
            }
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// The prompt as a server takes it. Every vocabulary in use has these numbers.
    pub fn server_prompt(&self) -> Value {
        match &self.prompt {
            Prompt::Text(text) => text.as_str().into(),
            Prompt::Tokens(count) => {
                json!((0..u64::from(*count)).map(|at| 300 + at * at * 7 % 3000).collect::<Vec<_>>())
            }
        }
    }

    /// The prompt as text: at most so many tokens of `model`, and few less, where `tokenizer` can be
    /// asked; else about as many.
    pub fn text_prompt(&self, tokenizer: Option<&Path>, model: &Path) -> String {
        match &self.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Tokens(tokens) => prompt_of(*tokens, |text| count_tokens(tokenizer?, model, text)),
        }
    }
}

/// Whether the help of `program` names `option`: builds differ in theirs.
fn speaks_of(program: &Path, option: &str) -> bool {
    let help = Command::new(program).arg("--help").stdin(Stdio::null()).stderr(Stdio::null()).output();
    help.is_ok_and(|help| memchr::memmem::find(&help.stdout, option.as_bytes()).is_some())
}

/// The arguments that make `program` map the model and lock it in memory: `--mlock`, which builds of
/// 2026 have in a mode of loading.
pub fn lock_args(program: &Path) -> Vec<OsString> {
    let words: &[&str] = if speaks_of(program, "--load-mode") { &["-lm", "mmap+mlock"] } else { &["--mlock"] };
    words.iter().map(OsString::from).collect()
}

/// llama-tokenize, which lies beside `program` where there is one.
pub fn tokenizer(program: &Path) -> Option<PathBuf> {
    find(Some(program.parent()?), TOKENIZER)
}

/// Tokens of `text`, the first one that begins a text included.
fn count_tokens(tokenizer: &Path, model: &Path, text: &str) -> Option<u32> {
    let mut command = Command::new(tokenizer);
    command.arg("-m").arg(model).args(["-p", text, "--show-count", "--log-disable"]).stdin(Stdio::null());
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("Total number of tokens: ")?.trim().parse().ok())
}

/// Common words up to at most `tokens` tokens by `count`. Where that cannot tell, a token for each
/// word and one for the start; the real number is the one that [`Perf`] reports.
fn prompt_of(tokens: u32, count: impl Fn(&str) -> Option<u32>) -> String {
    const WORDS: [&str; 8] = ["the", "of", "and", "to", "in", "for", "is", "on"];
    let text = |words: u32| WORDS.iter().cycle().take(words as usize).copied().collect::<Vec<_>>().join(" ");
    let one_each = tokens.saturating_sub(1).max(1);
    // The most words that are not too many tokens lie in low..high.
    let (mut low, mut high) = (1, one_each + 1);
    while high - low > 1 {
        let middle = if high > one_each { one_each } else { low.midpoint(high) };
        match count(&text(middle)) {
            None => return text(one_each),
            Some(counted) if counted <= tokens && middle == one_each => return text(middle),
            Some(counted) if counted <= tokens => low = middle,
            Some(_) => high = middle,
        }
    }
    text(low)
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
    fn prompts_have_as_many_tokens_as_asked_for_at_most() {
        let words = |text: &str| u32::try_from(text.split(' ').count()).unwrap();
        assert_eq!(words(&prompt_of(512, |_| None)), 511);
        assert_eq!(words(&prompt_of(512, |text| Some(words(text) + 1))), 511);
        // Two tokens a word and one for the start.
        assert_eq!(words(&prompt_of(512, |text| Some(2 * words(text) + 1))), 255);
        assert_eq!(words(&prompt_of(1, |text| Some(words(text) + 1))), 1);
    }

    #[test]
    fn servers_are_told_what_completions_are_told() {
        let call = |batch, ubatch| Call {
            prompt: Prompt::Tokens(3),
            tokens: 2,
            context: 256,
            batch,
            ubatch,
            extra: vec!["--mlock".into()],
        };
        let calls = [call(None, None), call(None, Some(64)), call(Some(32), Some(64)), call(Some(2048), None)];
        assert_eq!(calls.map(|call| call.tokens_a_pass()), [512, 64, 32, 512]);
        let args = call(Some(32), None).server("x".as_ref(), "m".as_ref(), None, 3, 99);
        let text = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        assert_eq!(text, "-m m -nr -t 3 -c 256 -b 32 -np 1 --host 127.0.0.1 --port 99 --mlock");
        assert_eq!(call(None, None).server_prompt(), json!([300, 307, 328]));
    }
}
