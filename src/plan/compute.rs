//! How long a token takes to compute with everything in memory: measured on llama.cpp where that can be
//! had, else bounded by the rate at which the threads read memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::llama::{Call, Perf, Prompt};

/// Tokens of the short run.
const TOKENS: u32 = 8;
/// Memory that the threads read together, in bytes: far more than any cache.
const STREAM_BYTES: usize = 512 << 20;
/// How long they read.
const STREAM_TIME: Duration = Duration::from_millis(500);

/// Where a compute time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Compute {
    /// llama.cpp decoded a few tokens.
    Llama {
        /// Time of a token, in milliseconds.
        token_ms: f64,
    },
    /// Threads read memory from end to end: no token takes less than its bytes at this rate.
    Memory {
        /// Bytes per second, all threads together.
        bytes_per_s: f64,
    },
}

impl Compute {
    /// Seconds to compute a token that reads `bytes`.
    pub fn token_s(self, bytes: u64) -> f64 {
        match self {
            Compute::Llama { token_ms } => token_ms / 1e3,
            Compute::Memory { bytes_per_s } => bytes as f64 / bytes_per_s,
        }
    }
}

/// Lets `program` (llama-completion) decode a few tokens of `model`, which is to fit into memory.
///
/// # Errors
/// It cannot be started, fails, or does not say how long the tokens took.
pub fn by_llama(program: &Path, model: &Path, threads: u32) -> anyhow::Result<Compute> {
    let prompt = "The quick brown fox";
    let call = Call {
        prompt: Prompt::Text(prompt.to_owned()),
        tokens: TOKENS,
        context: 256,
        batch: None,
        ubatch: None,
        extra: Vec::new(),
    };
    let output = Command::new(program)
        .args(call.completion(model, prompt, threads))
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = || stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned();
    anyhow::ensure!(output.status.success(), "{} failed: {}", program.display(), last());
    let token_ms = Perf::parse(&stderr).eval.and_then(|eval| eval.ms_each());
    let token_ms = token_ms.ok_or_else(|| anyhow::anyhow!("{} says no decoding time", program.display()))?;
    Ok(Compute::Llama { token_ms })
}

/// The rate at which `threads` threads read anonymous memory from end to end, each its own part.
pub fn by_memory(threads: u32) -> Compute {
    let threads = threads.max(1) as usize;
    let words = STREAM_BYTES / 8 / threads;
    let barrier = Barrier::new(threads);
    let each = |seed: u64| {
        // Written to, so that every page is there.
        let part: Vec<u64> = (0..words as u64).map(|at| at ^ seed).collect();
        barrier.wait();
        let start = Instant::now();
        let mut passes = 0;
        while passes == 0 || start.elapsed() < STREAM_TIME {
            std::hint::black_box(part.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
            passes += 1;
        }
        (passes * words * 8) as f64 / start.elapsed().as_secs_f64()
    };
    let bytes_per_s = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads as u64).map(|seed| scope.spawn(move || each(seed))).collect();
        readers.into_iter().map(|reader| reader.join().expect("readers do not panic")).sum()
    });
    Compute::Memory { bytes_per_s }
}
