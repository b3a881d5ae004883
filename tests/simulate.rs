//! `ggpager simulate` on the log of a real run: what it says of the run's own memory is what the run did.

#[allow(dead_code)]
#[path = "support/llama.rs"]
mod llama;
#[allow(dead_code)] // shared with other tests, which need other parts of it
mod support;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ggpager::synth::Arch;
use ggpager::trace::{Event, Item, Reader};
use llama::Paging;
use support::scratch;

/// Cycles in which the run learns.
const LEARNING: u64 = 5;

fn simulate(log: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ggpager")).arg("simulate").arg(log).args(args).output().expect("runnable")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The log of a run with half of a dense model in memory; nothing where there is no llama.cpp.
fn recorded() -> Option<PathBuf> {
    let program = llama::tool("llama-completion")?;
    let model = llama::dense(200_000_000, None);
    let paging = Paging { percent: 50, ..Paging::USUAL };
    Some(paging.traced(&program, &llama::greedy(model, "16", &[]), model).1)
}

/// The pool of the run, and the bytes that it read in each cycle after those in which it learned. On a busy machine a run
/// reads some blocks twice in a cycle, which no replay knows of: they count once.
fn own(log: &Path) -> (u64, f64) {
    let reader = Reader::new(fs::File::open(log).expect("a log")).expect("a sound log");
    let budget_bytes = reader.header().budget_bytes;
    let (mut cycle, mut read, mut at_end, mut counted) = (0, 0, 0, HashSet::new());
    for item in reader {
        let Item::Record(record) = item.expect("a sound log") else { continue };
        match record.event {
            Event::Cycle { number } => {
                (cycle, at_end) = (number, read);
                counted.clear();
            }
            Event::Read { block, start, len, .. } if cycle >= LEARNING && counted.insert((block, start)) => {
                read += u64::from(len);
            }
            _ => {}
        }
    }
    assert!(cycle > LEARNING + 4, "{cycle} cycles");
    (budget_bytes, at_end as f64 / (cycle - LEARNING) as f64)
}

#[test]
fn a_log_foretells_its_own_run() {
    let Some(log) = recorded() else { return };
    let (budget_bytes, own_bytes) = own(&log);
    let (json, svg) = (scratch("simulated.json"), scratch("simulated.svg"));
    let memory = format!("{budget_bytes},100%");
    let [json_word, svg_word] = [&json, &svg].map(|path| path.to_str().expect("a plain path"));
    let args = ["--memory", &memory, "--policy", "belady,learned,lru", "--json", json_word, "--svg", svg_word];
    let output = simulate(&log, &args);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    for told in ["strategy learned", "2 threads", "tokens per second", "MB read per token", "belady", "(100 %)"] {
        assert!(words(&output.stdout).contains(told), "{told}\n{}", words(&output.stdout));
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 6, "{report}");
    let figure = |policy: &str, is_own: bool, figure: &str| {
        let of = |case: &&serde_json::Value| {
            case["policy"] == policy && (case["memory_bytes"].as_u64() == Some(budget_bytes)) == is_own
        };
        cases.iter().find(of).and_then(|case| case[figure].as_f64()).unwrap_or_else(|| panic!("{policy}: {report}"))
    };
    let bytes = ["belady", "learned", "lru"].map(|policy| figure(policy, true, "read_bytes"));
    eprintln!("{own_bytes} bytes a token read, {} foretold", bytes[1]);
    assert!((bytes[1] / own_bytes - 1.0).abs() < 0.15, "{} bytes instead of {own_bytes}", bytes[1]);
    assert!(bytes[0] <= bytes[1] * 1.01 && bytes[1] <= bytes[2] * 1.01, "{bytes:?}");
    assert!(bytes[0] > 0.0 && figure("lru", true, "hit_ratio") < 0.2, "{report}");
    for policy in ["belady", "learned", "lru"] {
        assert!(figure(policy, false, "read_bytes") < bytes[0] / 4.0, "{policy} with everything in memory: {report}");
        assert!(figure(policy, false, "tokens_per_s") >= figure(policy, true, "tokens_per_s"), "{policy}: {report}");
    }
    let picture = fs::read_to_string(&svg).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"), "{picture}");

    // Cut off behind the last record: nothing is missing but the mark of the end.
    let whole = fs::read(&log).expect("a log");
    let cut = scratch("cut.log");
    fs::write(&cut, &whole[..whole.len() - 3]).expect("room");
    let told = |log: &Path| words(&simulate(log, &args[..4]).stdout).replace(&log.display().to_string(), "LOG");
    assert_eq!(told(&cut), told(&log));
    // Cut off before the first token, and within the header.
    for (len, told) in [(whole.len() / 100, "whole cycles"), (20, "cut.log")] {
        fs::write(&cut, &whole[..len]).expect("room");
        let output = simulate(&cut, &args[..4]);
        assert_eq!(output.status.code(), Some(1), "{len} bytes: {}", words(&output.stdout));
        assert!(words(&output.stderr).contains(told), "{len} bytes: {}", words(&output.stderr));
    }
    // A bit flipped in the middle.
    let mut garbled = whole.clone();
    garbled[whole.len() / 2] ^= 4;
    fs::write(&cut, garbled).expect("room");
    let output = simulate(&cut, &args[..4]);
    let message = words(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cut.log: byte "), "{message}");
}

/// The pool of a run of a mixture, and the bytes that it asked for in each of so many tokens, the last ones that the log
/// holds from their first layer on.
fn own_of_mixture(log: &Path, tokens: usize) -> (u64, f64) {
    let reader = Reader::new(fs::File::open(log).expect("a log")).expect("a sound log");
    let budget_bytes = reader.header().budget_bytes;
    // Bytes before each token: where a router chooses that is not above the one before.
    let (mut starts, mut latest, mut read, mut guessed) = (Vec::new(), None, 0u64, 0);
    for item in reader {
        let Item::Record(record) = item.expect("a sound log") else { continue };
        match record.event {
            Event::Routed { layer, .. } => {
                let begins = latest.replace(layer).is_some_and(|latest| layer < latest);
                starts.extend(begins.then_some(read));
            }
            Event::Guessed { .. } => guessed += 1,
            Event::Read { len, .. } => read += u64::from(len),
            _ => {}
        }
    }
    assert!(guessed > 0 && starts.len() > tokens + 4, "{guessed} guesses, {} tokens", starts.len());
    let counted = &starts[starts.len() - 1 - tokens..];
    (budget_bytes, (counted[tokens] - counted[0]) as f64 / tokens as f64)
}

#[test]
fn a_log_of_a_mixture_foretells_its_own_run() {
    const TOKENS: usize = 16;
    let Some(program) = llama::tool("llama-completion") else { return };
    // The run must guess, which it does while the drive rests.
    let model = llama::model_in_memory(Arch::Qwen3Moe);
    let paging = Paging { strategy: "experts", percent: 50, ..Paging::USUAL };
    let log = paging.traced(&program, &llama::greedy(model, "32", &[]), model).1;
    let (budget_bytes, own_bytes) = own_of_mixture(&log, TOKENS);
    let json = scratch("simulated-mixture.json");
    let (memory, tokens) = (format!("{budget_bytes},100%"), TOKENS.to_string());
    let json_word = json.to_str().expect("a plain path");
    let args = ["--memory", &memory, "--policy", "belady,experts,lru", "--cycles", &tokens, "--json", json_word];
    let output = simulate(&log, &args);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    let cases = report["cases"].as_array().expect("cases");
    let bytes = |policy: &str, is_own: bool| {
        let of = |case: &&serde_json::Value| {
            case["policy"] == policy && (case["memory_bytes"].as_u64() == Some(budget_bytes)) == is_own
        };
        cases.iter().find(of).and_then(|case| case["read_bytes"].as_f64()).unwrap_or_else(|| panic!("{report}"))
    };
    let foretold = bytes("experts", true);
    eprintln!("{own_bytes} bytes a token read, {foretold} foretold, {} by lru", bytes("lru", true));
    assert!((foretold / own_bytes - 1.0).abs() < 0.25, "{foretold} bytes instead of {own_bytes}");
    assert!(bytes("belady", true) < foretold && bytes("experts", false) < foretold / 4.0, "{report}");
}

#[test]
fn what_is_no_log_is_refused() {
    let path = scratch("no.log");
    let output = simulate(&path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output.stderr).contains("no.log: No such file"), "{}", words(&output.stderr));
    fs::write(&path, "GGUF and then something").expect("room");
    let output = simulate(&path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output.stderr).contains("no.log"), "{}", words(&output.stderr));
    for (option, word) in [("--memory", "much"), ("--policy", "best"), ("--drive", "fast"), ("--cycles", "0")] {
        let output = simulate(&path, &[option, word]);
        assert!(!output.status.success(), "{option} {word}");
    }
    assert_eq!(simulate(&path, &["--policy", "best"]).status.code(), Some(2));
}
