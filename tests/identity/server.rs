//! llama-server: two slots at once, and a main with a draft model.
//!
//! Which tokens share a batch changes the rounding, also of stock, so both prompts go in one request:
//! they then reach their slots in the same step of the server.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::llama::{HANG_S, Model, Paging, arguments, budget_bytes, dense, tool};
use super::support::{Outcome, library, scratch};

/// Looks at a server that comes up: a tenth of a second apart, as long as a run may take.
const ATTEMPTS_MAX: u32 = 6000;

/// What the server says about one prompt.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    prompt_tokens: u64,
    tokens: Vec<Value>,
    /// Tokens that a draft model proposed.
    drafted: u64,
}

/// A running server; asked to end when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(program: &Path, args: &[OsString], variables: &[(&str, OsString)]) -> Server {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let mut command = Command::new("timeout");
        // In the background timeout signals the child and then its group: the server takes the second
        // signal for impatience and exits with 1.
        command.args(["--foreground", "--kill-after=20", HANG_S, "env"]);
        command.args(variables.iter().map(|(name, value)| {
            let mut text = OsString::from(format!("{name}="));
            text.push(value);
            text
        }));
        command.arg(program).args(args).args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let log = std::fs::File::create(scratch("server.log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut server = Server { child: command.spawn().expect("timeout runs"), port };
        for _ in 0..ATTEMPTS_MAX {
            if matches!(server.exchange("GET", "/health", ""), Ok((200, _))) {
                return server;
            }
            if let Some(status) = server.child.try_wait().expect("our child") {
                panic!("the server ended before it was up: {status}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server does not come up");
    }

    /// One request; status and body of the answer.
    fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")?;
        write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, body.to_owned()))
    }

    /// What continues each prompt, all in one request.
    fn complete(&self, prompts: &[Vec<u32>]) -> Vec<Answer> {
        let body = json!({ "prompt": prompts, "n_predict": 12, "temperature": 0, "seed": 1, "ignore_eos": true,
            "cache_prompt": false, "return_tokens": true });
        let (status, answer) = self.exchange("POST", "/completion", &body.to_string()).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let mut answers = answer.as_array().cloned().unwrap_or_else(|| vec![answer]);
        answers.sort_by_key(|answer| answer["index"].as_u64());
        let read = |answer: &Value| Answer {
            prompt_tokens: answer["tokens_evaluated"].as_u64().unwrap_or(0),
            tokens: answer["tokens"].as_array().cloned().unwrap_or_default(),
            drafted: answer["timings"]["draft_n"].as_u64().unwrap_or(0),
        };
        answers.iter().map(read).collect()
    }

    /// Asks the server to end, and waits.
    fn stop(mut self) -> std::process::ExitStatus {
        self.ask_to_end();
        self.child.wait().expect("our child")
    }

    fn ask_to_end(&self) {
        // SAFETY: kill has no memory effects; the child has not been waited for. timeout passes it on.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_end();
            let _ = self.child.wait();
        }
    }
}

/// The tokens of stock and paged servers must be equal; `whole` is what is mapped altogether.
fn compare(program: &Path, args: &[OsString], prompts: &[Vec<u32>], whole: &Model, percent: u64) -> Outcome {
    let passive = ("OMP_WAIT_POLICY", OsString::from("PASSIVE"));
    let server = Server::start(program, args, &[passive]);
    let expected = server.complete(prompts);
    let status = server.stop();
    assert!(status.success(), "stock: {status}");
    let lengths: Vec<u64> = expected.iter().map(|answer| answer.prompt_tokens).collect();
    assert_eq!(lengths, prompts.iter().map(|prompt| prompt.len() as u64).collect::<Vec<_>>());
    assert!(expected.iter().all(|answer| answer.tokens.len() == 12), "{expected:?}");
    let drafts = args.iter().any(|arg| arg == "-md");
    assert!(expected.iter().all(|answer| (answer.drafted > 0) == drafts), "{expected:?}");

    let stats = scratch("stats.json");
    let budget = budget_bytes(whole.bytes, percent);
    let mut variables: Vec<(&str, OsString)> =
        Paging::USUAL.variables().into_iter().map(|(name, value)| (name, value.into())).collect();
    variables.push(("GGPAGER_BUDGET", budget.to_string().into()));
    variables.push(("GGPAGER_STATS", stats.clone().into()));
    variables.push(("LD_PRELOAD", library().into()));
    let server = Server::start(program, args, &variables);
    let answers = server.complete(prompts);
    let status = server.stop();
    assert_eq!(answers, expected);
    let stats = serde_json::from_slice(&std::fs::read(stats).expect("statistics")).expect("JSON");
    let output = std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() };
    let outcome = Outcome { output, stats: Some(stats) };
    Paging::USUAL.require(&outcome, whole, percent);
    outcome
}

fn prompt(length: u32, seed: u32) -> Vec<u32> {
    (0..length).map(|at| 300 + (seed + at * at * 7) % 3000).collect()
}

#[test]
fn two_slots_at_once_say_what_stock_says() {
    let Some(program) = tool("llama-server") else { return };
    let model = dense(80_000_000, None);
    let args = arguments(model, &["-nr", "-t", "2", "-c", "2048", "-np", "2"]);
    compare(&program, &args, &[prompt(512, 1), prompt(40, 2)], model, 50);
}

#[test]
fn a_main_and_a_draft_model_say_what_stock_says() {
    let Some(program) = tool("llama-server") else { return };
    let (main, draft) = (dense(80_000_000, None), dense(30_000_000, None));
    let draft_path = draft.path.to_str().expect("plain");
    let args = arguments(main, &["-md", draft_path, "-nr", "-t", "2", "-c", "256", "-np", "1"]);
    let args: Vec<OsString> = match speaks_of_types(&program) {
        true => args.into_iter().chain(["--spec-type".into(), "draft-simple".into()]).collect(),
        false => args,
    };
    let both = Model { path: main.path.clone(), bytes: main.bytes + draft.bytes, files: 2 };
    let outcome = compare(&program, &args, &[prompt(24, 3)], &both, 50);
    let stats = outcome.stats.expect("paged");
    assert!(stats.views >= 2 && stats.model_bytes >= both.bytes, "{stats:?}");
}

/// Builds of 2026 take a draft model only together with the kind of speculation.
fn speaks_of_types(program: &Path) -> bool {
    let help = Command::new("timeout").args(["30".as_ref(), program.as_os_str(), "--help".as_ref()]).output();
    memchr::memmem::find(&help.expect("timeout runs").stdout, b"--spec-type").is_some()
}
