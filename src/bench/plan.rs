//! What is compared with what, and under which limits.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::llama::Call;
use crate::config::Strategy;
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

/// One way to run the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// Stock with everything in the page cache and no limits: gives `T_compute`.
    InMemory,
    /// Stock under the limits.
    Stock(Readahead),
    /// Under the library.
    Paged(Strategy),
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contender::InMemory => f.write_str("in memory"),
            Contender::Stock(Readahead::Own) => f.write_str("stock, own readahead"),
            Contender::Stock(Readahead::KiB(kib)) => write!(f, "stock, {kib} KiB readahead"),
            Contender::Paged(strategy) => write!(f, "ggpager {strategy}"),
        }
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
    /// The model's files, in shard order.
    pub files: Vec<PathBuf>,
    /// The workload's program.
    pub program: PathBuf,
    /// Its call.
    pub call: Call,
    /// `libggpager.so`; only needed with a [`Contender::Paged`].
    pub library: Option<PathBuf>,
    /// What is compared, without [`Contender::InMemory`].
    pub contenders: Vec<Contender>,
    /// How often.
    pub rounds: u32,
    /// Gaps between tokens that are left out at the start of each run.
    pub skip: u32,
    /// Memory limit of a run.
    pub memory_bytes: Option<u64>,
    /// The drive's rate is held to this.
    pub drive_bytes_per_s: Option<u64>,
    /// Variables of the paged runs, checked.
    pub variables: Vec<(String, String)>,
    /// The spin of the paged runs.
    pub spin: OmpSpin,
    /// Request size for the drive's ceiling.
    pub request_bytes: usize,
    /// Requests in flight for the drive's ceiling.
    pub depth: u32,
    /// How long the ceiling is measured.
    pub ceiling_time: Duration,
    /// Longest time of one run.
    pub time_max: Duration,
}

impl Plan {
    /// The contenders of `round` in their order: each round starts with another one, so that what
    /// drifts (clocks, neighbours) does not always meet the same.
    pub fn order(&self, round: u32) -> impl Iterator<Item = Contender> + '_ {
        let count = self.contenders.len().max(1);
        self.contenders.iter().copied().cycle().skip(round as usize % count).take(self.contenders.len())
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

    #[test]
    fn contenders_have_names_of_their_own() {
        let names = [
            Contender::InMemory,
            Contender::Stock(Readahead::Own),
            Contender::Stock(Readahead::KiB(128)),
            Contender::Paged(Strategy::Learned),
        ]
        .map(|contender| contender.to_string());
        assert_eq!(names, ["in memory", "stock, own readahead", "stock, 128 KiB readahead", "ggpager learned"]);
    }
}
