//! Running cases and cells.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::case::{Case, Lock};
use super::outcome::Outcome;
use super::sweep::{Cell, CellRate};
use crate::bench::cgroup::Swap;
use crate::bench::interrupt::Interrupt;
use crate::bench::llama::{self, Call, Prompt};
use crate::bench::model::{Models, Source};
use crate::bench::plan::{Cache, Contender, Plan};
use crate::bench::run::Runner;
use crate::bench::swap::SwapFile;
use crate::config::var;
use crate::drive::Pattern;
use crate::gguf;

/// What every run goes on from.
const PROMPT: &str = "The quick brown fox";
/// How long the drive's ceiling is measured.
const CEILING_TIME: Duration = Duration::from_secs(1);
/// Size of a read for the ceiling, as the pager's.
const CEILING_REQUEST_BYTES: usize = 2 << 20;
/// Reads in flight for the ceiling, as the pager's.
const CEILING_DEPTH: u32 = 16;

/// What all runs of a call need.
#[derive(Debug, Clone)]
pub struct Means {
    /// llama-completion.
    pub program: PathBuf,
    /// Further arguments for it.
    pub extra: Vec<OsString>,
    /// The preloaded library.
    pub library: PathBuf,
    /// Where a swap file goes.
    pub folder: PathBuf,
    /// Size of the swap file.
    pub swap_bytes: u64,
    /// Longest time of one run.
    pub time_max: Duration,
    /// How long a cell of the sweep is measured.
    pub cell_time: Duration,
}

/// Runs under way. The swap file comes with the first run that needs it, and stays until the end.
pub struct Session<'a> {
    means: Means,
    interrupt: &'a Interrupt,
    swap: Option<SwapFile>,
}

/// A model that is there as long as this value.
pub struct Provided {
    files: Vec<PathBuf>,
    /// What the drive gave a null consumer, for each drive limit that was asked for.
    ceilings: Vec<(Option<u64>, Option<f64>)>,
    _models: Models,
}

impl Provided {
    /// Provides `source`; a synthetic model is written to `folder`, and deleted with this value.
    ///
    /// # Errors
    /// As [`Models::provide`].
    pub fn new(source: &Source, folder: &Path, interrupt: &Interrupt) -> anyhow::Result<Provided> {
        let models = Models::provide(std::slice::from_ref(source), folder, false, interrupt)?;
        let files = gguf::shard_paths(&models.paths[0]);
        Ok(Provided { files, ceilings: Vec::new(), _models: models })
    }
}

impl<'a> Session<'a> {
    /// A session that has run nothing yet.
    pub fn new(means: Means, interrupt: &'a Interrupt) -> Session<'a> {
        Session { means, interrupt, swap: None }
    }

    /// Runs `case` on `model`.
    ///
    /// # Errors
    /// An interrupt, or a limit or a swap file that cannot be had. A run that failed has an outcome.
    pub fn run(&mut self, case: &Case, model: &mut Provided) -> anyhow::Result<Outcome> {
        if case.swappiness.is_some() && self.swap.is_none() {
            let folder = TempDir::with_prefix_in("ggpager-swap-", &self.means.folder)?;
            self.swap = Some(SwapFile::new(folder, self.means.swap_bytes).context("no swap can be had")?);
        }
        let ceiling = self.ceiling(case.drive_bytes_per_s, model)?;
        let contender = Contender { who: case.way.0, threads: case.threads, cache: Cache::Cold };
        let plan = self.plan(case, contender, model);
        let mut runner = Runner::new(&plan, self.interrupt)?;
        ensure!(runner.remarks().is_empty(), "{}", runner.remarks().join("; "));
        let (record, text) = runner.single(contender)?;
        Ok(Outcome::new(&record, &text, ceiling))
    }

    /// Measures the drive below `model` as `cell` says.
    ///
    /// # Errors
    /// An interrupt, or a drive that cannot be measured.
    pub fn sweep(&self, cell: &Cell, model: &Provided) -> anyhow::Result<CellRate> {
        let pattern = match cell.pattern == Cell::PATTERNS[0] {
            true => Pattern::Sequential { start: 0 },
            false => Pattern::Scattered { seed: u64::from(cell.round) },
        };
        let plan = Plan {
            request_bytes: usize::try_from(cell.request_bytes)?,
            depth: cell.depth,
            pattern,
            ceiling_time: self.means.cell_time,
            drive_bytes_per_s: cell.drive_bytes_per_s,
            ..self.idle(model)
        };
        let mut runner = Runner::new(&plan, self.interrupt)?;
        let rate = runner.ceiling()?;
        let rate = rate.with_context(|| runner.remarks().join("; "))?;
        Ok(CellRate { bytes_per_s: rate.bytes_per_s, latency_us: rate.latency_us })
    }

    fn ceiling(&self, drive_bytes_per_s: Option<u64>, model: &mut Provided) -> anyhow::Result<Option<f64>> {
        if let Some((_, known)) = model.ceilings.iter().find(|(limit, _)| *limit == drive_bytes_per_s) {
            return Ok(*known);
        }
        let plan = Plan { drive_bytes_per_s, ..self.idle(model) };
        let ceiling = Runner::new(&plan, self.interrupt)?.ceiling()?.map(|ceiling| ceiling.bytes_per_s);
        model.ceilings.push((drive_bytes_per_s, ceiling));
        Ok(ceiling)
    }

    fn plan(&self, case: &Case, contender: Contender, model: &Provided) -> Plan {
        let mut variables = vec![(var::BUDGET.to_owned(), case.share_bytes().to_string())];
        // What one run has learned must not help the next.
        variables.push((var::ORDER_CACHE.to_owned(), "off".to_owned()));
        variables.extend(case.read_bytes.map(|bytes| (var::READ_SIZE.to_owned(), bytes.to_string())));
        variables.extend(case.depth.map(|depth| (var::QUEUE_DEPTH.to_owned(), depth.to_string())));
        let mut plan = self.idle(model);
        plan.call.tokens = case.tokens;
        plan.call.context = case.context;
        if case.lock == Lock::Llama {
            plan.call.extra.extend(llama::lock_args(&plan.program));
        }
        Plan {
            contenders: vec![contender],
            memory_bytes: Some(case.share_bytes() + case.room_bytes),
            swap: case.swappiness.map(|swappiness| Swap { bytes: self.means.swap_bytes, swappiness }),
            pin: match case.lock {
                Lock::Part(pin) => Some(pin),
                Lock::None | Lock::Llama => None,
            },
            drive_bytes_per_s: case.drive_bytes_per_s,
            variables,
            ..plan
        }
    }

    /// A plan that runs nothing.
    fn idle(&self, model: &Provided) -> Plan {
        let nothing = Plan::empty();
        Plan {
            models: vec![model.files.clone()],
            program: self.means.program.clone(),
            call: Call { prompt: Prompt::Text(PROMPT.to_owned()), extra: self.means.extra.clone(), ..nothing.call },
            library: Some(self.means.library.clone()),
            request_bytes: CEILING_REQUEST_BYTES,
            depth: CEILING_DEPTH,
            ceiling_time: CEILING_TIME,
            time_max: self.means.time_max,
            ..nothing
        }
    }
}

/// The name and size of the model that `source` gives.
///
/// # Errors
/// When its file cannot be read.
pub fn describe(source: &Source) -> anyhow::Result<(String, u64)> {
    Ok(match source {
        Source::File(file) => {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, gguf::model_bytes(file).with_context(|| file.display().to_string())?)
        }
        Source::Synthetic(arch, size) => (format!("synthetic {}", arch.name()), size.0),
    })
}
