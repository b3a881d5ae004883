//! What the doctor found, as a page and as JSON.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::budget::cgroup;
use crate::budget::memory::Machine;
use crate::drive::Rate;
use crate::drive::device::Device;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As good as can be.
    Ok,
    /// Worth knowing; no obstacle.
    Note,
    /// Paging works, on a lower rung or with a restriction.
    Warn,
    /// Paging is impossible.
    Fail,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub status: Status,
    /// What was found.
    pub finding: String,
    /// The command that mends it.
    pub mend: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The model or folder that was looked at.
    pub path: PathBuf,
    /// Size of the model, 0 without one.
    pub model_bytes: u64,
    /// `ok`, `restricted` or `passthrough`.
    pub verdict: &'static str,
    /// 0, 1 or 2, in the order of the verdicts.
    pub exit_code: u8,
    /// The rung of the fill ladder that a run takes, empty under passthrough.
    pub fill_rung: &'static str,
    /// Which faults the userfaultfd sees, empty under passthrough.
    pub fault_mode: &'static str,
    /// The features of the userfaultfd.
    pub uffd_features: Vec<&'static str>,
    /// The rung of the I/O ladder that a run takes, empty under passthrough.
    pub io_rung: &'static str,
    /// What `auto` gives the pool, in bytes; of the model where there is one, else of any.
    pub auto_budget_bytes: u64,
    /// The machine's memory.
    pub machine: Machine,
    /// The cgroup's memory.
    pub cgroup: Option<cgroup::Usage>,
    /// The file system and the drive.
    pub device: Option<Device>,
    /// The measurement, where there was a file to measure.
    pub rate: Option<Rate>,
    /// One entry for each thing looked at.
    pub checks: Vec<Check>,
}

impl Report {
    /// Sets verdict and exit code from the worst check.
    pub fn judge(&mut self) {
        let worst = self.checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        (self.verdict, self.exit_code) = match worst {
            Status::Ok | Status::Note => ("ok", 0),
            Status::Warn => ("restricted", 1),
            Status::Fail => ("passthrough", 2),
        };
        if worst == Status::Fail {
            (self.fill_rung, self.fault_mode, self.io_rung) = ("", "", "");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, status, finding, mend } in &self.checks {
            writeln!(f, "{:<4}  {name:<width$}  {finding}", status.word())?;
            if let Some(mend) = mend {
                writeln!(f, "      {:width$}  mend: {mend}", "")?;
            }
        }
        writeln!(f)?;
        match self.exit_code {
            2 => write!(f, "Paging is impossible here: models are mapped as without ggpager (passthrough)."),
            code => {
                let (fill, faults, io) = (self.fill_rung, self.fault_mode, self.io_rung);
                let tail = if code == 0 { "All good" } else { "Works with restrictions" };
                write!(f, "{tail}: a run takes fill {fill}, faults {faults}, I/O {io}.")
            }
        }
    }
}
