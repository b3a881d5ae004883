//! Making the rounds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::ceiling::Ceiling;
use super::cgroup::{Group, Limits};
use super::disk::{self, Disk};
use super::fence::Fence;
use super::interrupt::Interrupt;
use super::lane::Lane;
use super::llama;
use super::pin;
use super::plan::{Cache, Contender, Plan, Readahead, Who};
use super::record::{Record, TextMatch, compare};
use super::summary::Round;
use super::variables;
use super::watch::RunError;
use super::workload::{End, Outcome, Workload, completion, server};
use crate::config::ByteSize;
use crate::drive::Pattern;

/// The hidden word that makes the command line tool measure the ceiling of a file.
pub const CEILING_WORD: &str = "--measure-ceiling";
/// Room that the kernel and the program need besides the model for a run in memory.
const IN_MEMORY_MARGIN_BYTES: u64 = 1 << 30;

/// A comparison under way.
pub struct Runner<'a> {
    plan: &'a Plan,
    fence: Fence,
    disk: Option<Disk>,
    interrupt: &'a Interrupt,
    progress: ProgressBar,
    /// The prompt as text.
    prompt: String,
    remarks: Vec<String>,
}

impl<'a> Runner<'a> {
    /// Looks at what this machine allows.
    ///
    /// # Errors
    /// When a drive limit is asked for and the model lies on no disk of its own.
    pub fn new(plan: &'a Plan, interrupt: &'a Interrupt) -> anyhow::Result<Runner<'a>> {
        let disk = Disk::of(&plan.models[0][0]);
        let mut remarks = Vec::new();
        if let Err(error) = &disk {
            remarks.push(format!("the model's disk is unknown ({error}): readahead stays as it is"));
            anyhow::ensure!(plan.drive_bytes_per_s.is_none(), "a drive limit needs a disk: {error}");
        }
        let steps = u64::from(plan.rounds) * (plan.order(0, true).len() as u64 + 1);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?;
        let progress = ProgressBar::new(steps).with_style(style);
        let prompt = match plan.workload {
            Workload::Completion => {
                plan.call.text_prompt(llama::tokenizer(&plan.program).as_deref(), &plan.models[0][0])
            }
            _ => String::new(),
        };
        let mut runner = Runner { plan, fence: Fence::None, disk: disk.ok(), interrupt, progress, prompt, remarks };
        let limits = runner.limits(true);
        runner.fence = Fence::find(&limits);
        if matches!(runner.fence, Fence::None) && limits != Limits::default() {
            runner.remarks.push(
                "no control group can be made here (it takes root or a user systemd): there is no memory or drive limit, \
                 the budget alone holds"
                    .to_owned(),
            );
        }
        if matches!(runner.fence, Fence::Scope) && plan.workload == Workload::Turns {
            runner.remarks.push("each server has the limits for itself: a group for both takes root".to_owned());
        }
        Ok(runner)
    }

    /// Makes all rounds; gives them with the remarks.
    ///
    /// # Errors
    /// An interrupt, or a run that could not be made at all. A run that failed is in its record.
    pub fn rounds(mut self) -> anyhow::Result<(Vec<Round>, Vec<String>)> {
        // A log is held against the same run without one.
        let in_memory = self.plan.workload != Workload::Log && self.has_room_for_the_model()?;
        let mut rounds = Vec::new();
        for round in 0..self.plan.rounds {
            let ceiling = self.step("drive ceiling", |runner| runner.ceiling())?;
            let mut records: Vec<Record> = Vec::new();
            // Other threads may add up in another order.
            let mut references: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for contender in self.plan.order(round, in_memory) {
                let (mut record, text) =
                    self.step(&contender.to_string(), |runner| runner.contender(round, contender))?;
                if record.failure.is_none() && !text.is_empty() {
                    record.text = match references.get(&contender.threads) {
                        Some(reference) => compare(&text, reference),
                        None => TextMatch::Reference,
                    };
                    references.entry(contender.threads).or_insert(text);
                }
                self.say(&record);
                records.push(record);
            }
            rounds.push(Round { ceiling, records });
        }
        self.progress.finish_and_clear();
        Ok((rounds, self.remarks))
    }

    /// One run of `contender` outside of any round, with its text.
    ///
    /// # Errors
    /// As [`Runner::rounds`].
    pub fn single(&mut self, contender: Contender) -> anyhow::Result<(Record, Vec<u8>)> {
        self.step(&contender.to_string(), |runner| runner.contender(0, contender))
    }

    /// What could not be done or needs saying.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn step<T>(&mut self, name: &str, work: impl FnOnce(&mut Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.interrupt.check()?;
        self.progress.set_message(name.to_owned());
        let done = work(self).with_context(|| name.to_owned())?;
        // Ctrl-C also reaches the run itself, which then looks like one that failed.
        self.interrupt.check()?;
        self.progress.inc(1);
        Ok(done)
    }

    /// One line a run where there is no progress bar.
    fn say(&self, record: &Record) {
        if !self.progress.is_hidden() {
            return;
        }
        let lane = |lane: &Lane| match lane.decode.and_then(|decode| decode.ms_each()) {
            Some(ms) => format!("{ms:.1} ms per {}", self.plan.workload.unit()),
            None => "too short to tell".to_owned(),
        };
        let result = match &record.failure {
            Some(failure) => format!("failed: {failure}"),
            None => record.lanes.iter().map(lane).collect::<Vec<_>>().join("; "),
        };
        eprintln!("round {} {}: {result}", record.round + 1, record.contender);
    }

    fn limits(&self, memory: bool) -> Limits {
        let drive = self.disk.as_ref().zip(self.plan.drive_bytes_per_s);
        Limits {
            memory_bytes: self.plan.memory_bytes.filter(|_| memory),
            drive: drive.map(|(disk, rate)| (disk.device.clone(), rate)),
            swap: self.plan.swap.filter(|_| memory),
        }
    }

    fn has_room_for_the_model(&mut self) -> anyhow::Result<bool> {
        let bytes = self.plan.files().iter().map(|file| Ok(file.metadata()?.len())).sum::<io::Result<u64>>()?;
        let available = fs::read_to_string("/proc/meminfo")?
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .unwrap_or(0)
            << 10;
        let fits = available >= bytes + IN_MEMORY_MARGIN_BYTES;
        if !fits {
            self.remarks.push(format!(
                "the model ({}) does not fit into what is available ({}): T_compute is unknown, and the roofline is the drive's alone",
                ByteSize(bytes),
                ByteSize(available)
            ));
        }
        Ok(fits)
    }

    /// Measures the drive in a process of its own, inside a group with the drive limit. `None` and a
    /// remark when the drive cannot be measured.
    ///
    /// # Errors
    /// An interrupt, or the limit cannot be set.
    pub fn ceiling(&mut self) -> anyhow::Result<Option<Ceiling>> {
        let plan = self.plan;
        let mut args = vec![
            "bench".into(),
            CEILING_WORD.into(),
            plan.ceiling_time.as_millis().to_string().into(),
            "--model".into(),
            plan.models[0][0].clone().into(),
            "--request-size".into(),
            plan.request_bytes.to_string().into(),
            "--depth".into(),
            plan.depth.to_string().into(),
        ];
        if matches!(plan.pattern, Pattern::Scattered { .. }) {
            args.push("--scattered".into());
        }
        let limits = self.limits(false);
        let group = self.fence.group(&self.group_name(), &limits)?;
        let mut command = self.fence.command(group.as_ref(), &limits, &std::env::current_exe()?, &args);
        disk::drop_caches(&plan.files())?;
        let outcome = completion::run(&mut command, plan.time_max, self.interrupt, |_| {})?;
        let is_well = outcome.ends.iter().all(|end| end.status.success());
        let ceiling = serde_json::from_slice(&outcome.text).ok().filter(|_| is_well);
        if ceiling.is_none() {
            let remark = format!("the drive's ceiling is unknown: {}", outcome.ends[0].stderr.trim());
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
        Ok(ceiling)
    }

    fn group_name(&self) -> String {
        format!("ggpager-bench-{}", std::process::id())
    }

    /// One run, with its text.
    fn contender(&mut self, round: u32, contender: Contender) -> anyhow::Result<(Record, Vec<u8>)> {
        let plan = self.plan;
        let limits = match contender.who {
            Who::InMemory => Limits::default(),
            _ => self.limits(true),
        };
        let _readahead = match (contender.who, &self.disk) {
            (Who::Stock(Readahead::KiB(kib)), Some(disk)) => match disk.set_readahead(kib) {
                Ok(guard) => Some(guard),
                Err(error) => {
                    let failure = format!("readahead cannot be set: {error}");
                    return Ok((Record::failed(round, contender, failure), Vec::new()));
                }
            },
            _ => None,
        };
        disk::drop_caches(&plan.files())?;
        if contender.cache == Cache::Warm {
            disk::warm_caches(&plan.files(), || self.interrupt.signal().is_none())?;
        }
        let group = self.fence.group(&self.group_name(), &limits)?;
        let _pinned = match (&plan.pin, contender.who) {
            (Some(pin), Who::Stock(_)) => {
                let args = pin.args(&plan.models[0][0]);
                let mut command = self.fence.command(group.as_ref(), &limits, &std::env::current_exe()?, &args);
                let pinned = match pin::hold(&mut command, plan.time_max, self.interrupt) {
                    Err(error @ (RunError::Timeout(_) | RunError::Unlocked(_))) => {
                        return Ok((Record::failed(round, contender, error.to_string()), Vec::new()));
                    }
                    held => held?,
                };
                // Readahead around the locked parts.
                disk::drop_caches(&plan.files())?;
                Some(pinned)
            }
            _ => None,
        };
        let paging = group.as_ref().and_then(Group::paging);
        let folder = tempfile::tempdir()?;
        let outcome = match self.run(contender, &limits, group.as_ref(), folder.path()) {
            Ok(outcome) => outcome,
            Err(error @ (RunError::Timeout(_) | RunError::Answer(_))) => {
                return Ok((Record::failed(round, contender, error.to_string()), Vec::new()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut record = Record::new(round, contender, &outcome, plan.workload.lanes().len(), plan.skip);
        if let Some(group) = &group {
            record.memory_peak_bytes = group.memory_peak_bytes().filter(|_| limits.memory_bytes.is_some());
            record.oom_kills = group.oom_kills();
            record.paging = group.paging().zip(paging).map(|(after, before)| after.since(before));
        }
        if contender.is_paged() {
            let read =
                |process| serde_json::from_slice(&fs::read(variables::stats_file(folder.path(), process)).ok()?).ok();
            record.stats = (0..plan.workload.processes()).map_while(read).collect();
        }
        record.failure = failure(&outcome, &record);
        Ok((record, outcome.text))
    }

    /// Runs the workload's programs, which leave their statistics in `folder`.
    fn run(
        &self,
        contender: Contender,
        limits: &Limits,
        group: Option<&Group>,
        folder: &Path,
    ) -> Result<Outcome, RunError> {
        let Plan { workload, call, program, models, .. } = self.plan;
        let command = |process: usize, args: &[OsString]| {
            let mut command = self.fence.command(group, limits, program, args);
            for (name, value) in variables::of(self.plan, contender, process, folder) {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command
        };
        let name = contender.to_string();
        let arrived = |count: usize| {
            self.progress.set_message(format!("{name}: token {count} of {}", call.tokens));
        };
        let threads = contender.threads;
        let model = |index: usize| models[index.min(models.len() - 1)][0].as_path();
        if *workload == Workload::Completion {
            let mut command = command(0, &call.completion(model(0), &self.prompt, threads));
            return completion::run(&mut command, self.plan.time_max, self.interrupt, arrived);
        }
        let server = |process: usize, draft: Option<&Path>| -> io::Result<(Command, u16)> {
            let port = server::free_port()?;
            Ok((command(process, &call.server(program, model(process), draft, threads, port)), port))
        };
        let mut servers = match workload {
            Workload::Draft => vec![server(0, Some(model(1)))?],
            _ => vec![server(0, None)?, server(1, None)?],
        };
        let request = server::Request {
            prompt: call.server_prompt(),
            tokens: call.tokens,
            turns: self.plan.turns,
            there_and_back: *workload == Workload::Log,
        };
        server::run(&mut servers, &request, self.plan.time_max, self.interrupt, arrived)
    }
}

/// Measures the ceiling here and now, and prints it as JSON: what [`CEILING_WORD`] does.
///
/// # Errors
/// When the file cannot be read without the page cache.
pub fn print_ceiling(
    file: &std::path::Path,
    request_bytes: usize,
    depth: u32,
    pattern: Pattern,
    time: std::time::Duration,
) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&super::ceiling::measure(file, request_bytes, depth, pattern, time)?)?);
    Ok(())
}

/// Why a run does not count.
fn failure(outcome: &Outcome, record: &Record) -> Option<String> {
    for End { status, stderr } in &outcome.ends {
        if let Some(signal) = status.signal() {
            let oom = record.oom_kills.filter(|&kills| kills > 0).map_or("", |_| " by the OOM killer");
            return Some(format!("killed{oom} (signal {signal})"));
        }
        if !status.success() {
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
            return Some(format!("exit code {}: {last}", status.code().unwrap_or(-1)));
        }
    }
    outcome.text.trim_ascii().is_empty().then(|| "it wrote no text".to_owned())
}
