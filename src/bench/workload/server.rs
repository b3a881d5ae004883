//! llama-server: one process with a model and a draft model, or two processes asked in turn.
//!
//! Each answer is streamed, so that the arrival of a token's event is the token's time.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{End, Outcome, Turn};
use crate::bench::interrupt::Interrupt;
use crate::bench::llama::{Perf, Phase};
use crate::bench::watch::{Program, RunError, Watch};

/// How long a server may take for its answer to "are you up".
const HEALTH_PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(30);
/// Looks at servers of which one has probably ended.
const LOOKS: u32 = 20;

/// What is asked of the servers.
#[derive(Debug, Clone)]
pub struct Request {
    /// A text, or the numbers of its tokens.
    pub prompt: Value,
    /// Tokens to generate in each turn.
    pub tokens: u32,
    /// Turns of each server.
    pub turns: u32,
    /// The servers come in their order and in the reverse order by turns, so that what drifts meets all of them.
    pub there_and_back: bool,
}

/// A port that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Starts the servers `commands` (each with its port), asks each of them in turn, and ends them; all
/// that for at most `time_max`. `arrived` is called with the number of arrivals of the turn so far.
///
/// # Errors
/// [`RunError`]; the servers have ended in any case. A server that ends too early is no error: its
/// [`End`] tells.
pub fn run(
    commands: &mut [(Command, u16)],
    request: &Request,
    time_max: Duration,
    interrupt: &Interrupt,
    mut arrived: impl FnMut(usize),
) -> Result<Outcome, RunError> {
    let mut watch = Watch::new(time_max, interrupt);
    let mut outcome = Outcome::default();
    let mut programs = Vec::new();
    for (command, _) in commands.iter_mut() {
        // The answers say everything.
        programs.push(Program::start(command.stdout(Stdio::null()))?);
    }
    watch.look_at(&programs);
    let ports: Vec<u16> = commands.iter().map(|(_, port)| *port).collect();
    outcome.ends = match converse(&mut watch, &mut programs, &ports, request, &mut outcome, &mut arrived) {
        Ok(()) => programs.iter_mut().map(|program| end(&mut watch, program)).collect::<Result<_, _>>()?,
        // The connection of a server that ends breaks, or is not to be had.
        Err(RunError::Io(error)) => vec![ended(&mut watch, &mut programs)?.ok_or(error)?],
        Err(error) => return Err(error),
    };
    outcome.wall_s = watch.elapsed_s();
    outcome.timeline = watch.into_timeline();
    Ok(outcome)
}

/// Waits until every server is up, and takes the turns.
fn converse(
    watch: &mut Watch<'_>,
    programs: &mut [Program],
    ports: &[u16],
    request: &Request,
    outcome: &mut Outcome,
    arrived: &mut impl FnMut(usize),
) -> Result<(), RunError> {
    for (program, &port) in programs.iter_mut().zip(ports) {
        while !is_up(port) {
            if program.child.try_wait()?.is_some() {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
            }
            watch.pause()?;
        }
    }
    for turn in 0..request.turns {
        let mut lanes: Vec<usize> = (0..ports.len()).collect();
        if request.there_and_back && turn % 2 == 1 {
            lanes.reverse();
        }
        for lane in lanes {
            let (turn, tokens) = take(watch, lane, ports[lane], request, arrived)?;
            outcome.turns.push(turn);
            outcome.text.extend_from_slice(tokens.as_bytes());
        }
    }
    Ok(())
}

/// Whether the server at `port` has loaded its model.
fn is_up(port: u16) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(HEALTH_PATIENCE))?;
        write!(stream, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        Ok(io::read_to_string(stream)?.starts_with("HTTP/1.1 200 "))
    };
    ask().unwrap_or(false)
}

/// One turn, with the numbers of its tokens as text.
fn take(
    watch: &mut Watch<'_>,
    lane: usize,
    port: u16,
    request: &Request,
    arrived: &mut impl FnMut(usize),
) -> Result<(Turn, String), RunError> {
    let body = json!({ "prompt": request.prompt, "n_predict": request.tokens, "temperature": 0, "seed": 1,
        "ignore_eos": true, "cache_prompt": false, "return_tokens": true, "stream": true })
    .to_string();
    let start = watch.sample();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(stream, "POST /completion HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")?;
    write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = Answer::default();
    let mut arrivals = Vec::new();
    let mut buffer = [0u8; 64 << 10];
    while answer.last.is_none() {
        let (bytes, sample) = watch.read(&mut stream, &mut buffer)?;
        if bytes == 0 {
            // The server has gone, or has refused.
            return Err(match answer.text.is_empty() {
                true => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                false => RunError::Answer(answer.text),
            });
        }
        let before = answer.tokens.len();
        answer.push(&buffer[..bytes])?;
        if answer.tokens.len() > before {
            arrivals.push(sample);
            arrived(arrivals.len());
        }
    }
    let timings = answer.last.unwrap_or_default();
    let (perf, drafted) = figures(&timings);
    let tokens = answer.tokens.iter().map(|token| format!("{token} ")).collect::<String>() + "\n";
    Ok((Turn { lane, start, arrivals, perf, drafted }, tokens))
}

/// What llama-server says at the end of an answer. Its generation time begins with the first token,
/// which the prompt has given, and a step gives one token and those that were drafted well.
fn figures(timings: &Value) -> (Perf, (u64, u64)) {
    let count = |name: &str| timings[name].as_u64().unwrap_or(0);
    let phase = |ms: &str, count: u64| timings[ms].as_f64().map(|ms| Phase { ms, count });
    let drafted = (count("draft_n"), count("draft_n_accepted"));
    let steps = count("predicted_n").saturating_sub(1 + drafted.1);
    let perf = Perf {
        load_ms: None,
        prompt: phase("prompt_ms", count("prompt_n")),
        eval: phase("predicted_ms", steps).filter(|eval| eval.count > 0),
    };
    (perf, drafted)
}

/// An answer as it comes in: server-sent events (WHATWG HTML, 9.2), each in a chunk of its own, so
/// that the lines with a chunk's size can be told from those with data.
#[derive(Debug, Default)]
struct Answer {
    /// What has come and is no whole line yet; after an error the whole answer.
    text: String,
    tokens: Vec<u64>,
    /// The timings of the last event.
    last: Option<Value>,
}

impl Answer {
    fn push(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        self.text.push_str(&String::from_utf8_lossy(bytes));
        if self.text.starts_with("HTTP/1.1 ") && !self.text.starts_with("HTTP/1.1 200 ") {
            return Ok(());
        }
        while let Some((line, rest)) = self.text.split_once('\n') {
            if let Some(data) = line.strip_prefix("data: ") {
                let event: Value =
                    serde_json::from_str(data).map_err(|_| RunError::Answer(data.chars().take(200).collect()))?;
                let tokens = event["tokens"].as_array().into_iter().flatten();
                self.tokens.extend(tokens.filter_map(Value::as_u64));
                if event["stop"] == true {
                    self.last = Some(event["timings"].clone());
                }
            }
            self.text = rest.to_owned();
        }
        Ok(())
    }
}

/// Asks a server to end; one that does not is killed.
fn end(watch: &mut Watch<'_>, program: &mut Program) -> Result<End, RunError> {
    // SAFETY: kill has no memory effects; the child has not been waited for.
    unsafe { libc::kill(program.child.id() as i32, libc::SIGTERM) };
    let asked = Instant::now();
    let status = loop {
        if let Some(status) = program.child.try_wait()? {
            break status;
        }
        if asked.elapsed() > END_MAX {
            program.child.kill()?;
        }
        watch.pause()?;
    };
    Ok(End { status, stderr: program.stderr()? })
}

/// A server that has ended by itself; the connection may break a moment before.
fn ended(watch: &mut Watch<'_>, programs: &mut [Program]) -> Result<Option<End>, RunError> {
    for _ in 0..LOOKS {
        for program in programs.iter_mut() {
            if let Some(status) = program.child.try_wait()? {
                return Ok(Some(End { status, stderr: program.stderr()? }));
            }
        }
        watch.pause()?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_understood_in_whatever_pieces_it_comes() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n\
            data: {\"tokens\":[13593],\"stop\":false}\n\n\r\n20\r\ndata: {\"tokens\":[7, 8],\"stop\":false}\n\n\r\n\
            40\r\ndata: {\"tokens\":[],\"stop\":true,\"timings\":{\"prompt_n\":3,\"prompt_ms\":9.5,\"predicted_n\":7,\
            \"predicted_ms\":40.0,\"draft_n\":9,\"draft_n_accepted\":2}}\n\n\r\n0\r\n\r\n";
        for size in [1, 7, text.len()] {
            let mut answer = Answer::default();
            text.as_bytes().chunks(size).for_each(|bytes| answer.push(bytes).unwrap());
            assert_eq!(answer.tokens, [13593, 7, 8]);
            let (perf, drafted) = figures(&answer.last.unwrap());
            assert_eq!(perf.prompt, Some(Phase { ms: 9.5, count: 3 }));
            // Seven tokens: one of the prompt, two drafted, four of a step each.
            assert_eq!(perf.eval, Some(Phase { ms: 40.0, count: 4 }));
            assert_eq!(drafted, (9, 2));
        }
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        let mut answer = Answer::default();
        assert!(matches!(answer.push(b"data: {\"tok\n"), Err(RunError::Answer(_))));
        let mut refused = Answer::default();
        refused.push(b"HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":1}").unwrap();
        assert!(refused.text.contains("error") && refused.last.is_none());
        assert_eq!(figures(&Value::Null).0, Perf::default());
    }
}
