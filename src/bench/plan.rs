//! What is compared with what, and under which limits.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::cgroup::Swap;
use super::llama::Call;
use super::pin::Pin;
use super::workload::Workload;
use crate::config::Strategy;
use crate::drive::Pattern;
use crate::launch::environment::OmpSpin;

/// How far the kernel reads ahead for a stock run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readahead {
    /// As the machine is set.
    Own,
    /// This many KiB.
    KiB(u32),
}

impl FromStr for Readahead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "own" => Ok(Readahead::Own),
            number => match number.parse() {
                Ok(kib @ 0..=1_048_576) => Ok(Readahead::KiB(kib)),
                _ => Err(format!("{text:?} is neither `own` nor a number of KiB")),
            },
        }
    }
}

/// Who runs the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Stock with everything in the page cache and no limits: gives `T_compute`.
    InMemory,
    /// Stock under the limits.
    Stock(Readahead),
    /// Under the library, with this spin of OpenMP's threads.
    Paged(Strategy, OmpSpin),
}

/// What the page cache holds of the model when a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Cache {
    /// Nothing.
    Cold,
    /// Everything.
    Warm,
}

/// One way to run the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// Who.
    pub who: Who,
    /// Compute threads.
    pub threads: u32,
    /// The page cache before the run.
    pub cache: Cache,
}

impl Contender {
    /// The run that says how fast the processor alone is, with so many threads.
    pub fn in_memory(threads: u32) -> Contender {
        Contender { who: Who::InMemory, threads, cache: Cache::Warm }
    }

    /// The same with stock at `readahead`: what a ratio is formed against.
    pub fn stock(self, readahead: Readahead) -> Contender {
        Contender { who: Who::Stock(readahead), ..self }
    }

    /// True for a run under the library.
    pub fn is_paged(self) -> bool {
        matches!(self.who, Who::Paged(..))
    }
}

impl fmt::Display for Readahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Readahead::Own => f.write_str("own readahead"),
            Readahead::KiB(kib) => write!(f, "{kib} KiB readahead"),
        }
    }
}

impl fmt::Display for Contender {
    /// What differs from the usual is named: a warm cache, another spin than that of `ggpager run`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warm = if self.cache == Cache::Warm { ", warm" } else { "" };
        match self.who {
            Who::InMemory => f.write_str("in memory")?,
            Who::Stock(readahead) => write!(f, "stock, {readahead}{warm}")?,
            Who::Paged(strategy, spin) => {
                write!(f, "ggpager {strategy}{warm}")?;
                match spin {
                    OmpSpin::Runtime => f.write_str(", OpenMP's spin")?,
                    OmpSpin::Rounds(rounds) if spin != OmpSpin::default() => write!(f, ", spin {rounds}")?,
                    OmpSpin::Rounds(_) => {}
                }
            }
        }
        write!(f, ", -t {}", self.threads)
    }
}

impl Serialize for Contender {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything that a comparison needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the programs do.
    pub workload: Workload,
    /// The files of each model, in shard order.
    pub models: Vec<Vec<PathBuf>>,
    /// The workload's program.
    pub program: PathBuf,
    /// What is asked of it.
    pub call: Call,
    /// `libggpager.so`; only needed with a [`Who::Paged`].
    pub library: Option<PathBuf>,
    /// What is compared, without [`Who::InMemory`].
    pub contenders: Vec<Contender>,
    /// How often.
    pub rounds: u32,
    /// Turns of each server in a run.
    pub turns: u32,
    /// What the server without a log does in [`Workload::Log`], if not the same as the other.
    pub against: Option<Strategy>,
    /// Gaps between tokens that are left out at the start of each turn.
    pub skip: u32,
    /// Memory limit of a run.
    pub memory_bytes: Option<u64>,
    /// Swap that a run has besides.
    pub swap: Option<Swap>,
    /// What stays in the page cache of a stock run whatever it reads.
    pub pin: Option<Pin>,
    /// The drive's rate is held to this.
    pub drive_bytes_per_s: Option<u64>,
    /// Variables of the paged runs, checked.
    pub variables: Vec<(String, String)>,
    /// Request size for the drive's ceiling.
    pub request_bytes: usize,
    /// Requests in flight for the drive's ceiling.
    pub depth: u32,
    /// In which order the drive's ceiling is measured.
    pub pattern: Pattern,
    /// How long the ceiling is measured.
    pub ceiling_time: Duration,
    /// Longest time of one run.
    pub time_max: Duration,
}

impl Plan {
    /// The contenders of `round` in their order. Those with the same number of threads follow each
    /// other; each round starts with another one of them, so that what drifts (clocks, neighbours)
    /// does not always meet the same.
    pub fn order(&self, round: u32, in_memory: bool) -> Vec<Contender> {
        let mut counts: Vec<u32> = self.contenders.iter().map(|contender| contender.threads).collect();
        counts.dedup();
        let mut order = Vec::new();
        for threads in counts {
            order.extend(in_memory.then(|| Contender::in_memory(threads)));
            let mut peers: Vec<_> = self.contenders.iter().copied().filter(|it| it.threads == threads).collect();
            let start = round as usize % peers.len();
            peers.rotate_left(start);
            order.extend(peers);
        }
        order
    }

    /// A plan of one token of no model, to be filled in.
    pub fn empty() -> Plan {
        Plan {
            workload: Workload::Completion,
            models: Vec::new(),
            program: PathBuf::new(),
            call: Call {
                prompt: super::llama::Prompt::Tokens(1),
                tokens: 1,
                context: 256,
                batch: None,
                ubatch: None,
                extra: Vec::new(),
            },
            library: None,
            contenders: Vec::new(),
            rounds: 1,
            turns: 1,
            against: None,
            skip: 0,
            memory_bytes: None,
            swap: None,
            pin: None,
            drive_bytes_per_s: None,
            variables: Vec::new(),
            request_bytes: 1 << 21,
            depth: 16,
            pattern: Pattern::Sequential { start: 0 },
            ceiling_time: Duration::ZERO,
            time_max: Duration::ZERO,
        }
    }

    /// Every file of every model.
    pub fn files(&self) -> Vec<PathBuf> {
        self.models.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readahead_is_own_or_a_number() {
        assert_eq!("own".parse(), Ok(Readahead::Own));
        assert_eq!("128".parse(), Ok(Readahead::KiB(128)));
        assert!("-1".parse::<Readahead>().is_err() && "big".parse::<Readahead>().is_err());
    }

    fn contender(who: Who) -> Contender {
        Contender { who, threads: 2, cache: Cache::Cold }
    }

    #[test]
    fn contenders_have_names_of_their_own() {
        let paged = contender(Who::Paged(Strategy::Learned, OmpSpin::default()));
        let names = [
            Contender::in_memory(2),
            contender(Who::Stock(Readahead::Own)),
            paged.stock(Readahead::KiB(128)),
            paged,
            Contender { who: Who::Paged(Strategy::Auto, OmpSpin::Runtime), threads: 4, cache: Cache::Warm },
        ]
        .map(|contender| contender.to_string());
        assert_eq!(
            names,
            [
                "in memory, -t 2",
                "stock, own readahead, -t 2",
                "stock, 128 KiB readahead, -t 2",
                "ggpager learned, -t 2",
                "ggpager auto, warm, OpenMP's spin, -t 4"
            ]
        );
    }
}
