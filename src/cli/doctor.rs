//! `ggpager doctor`: what this machine allows, and the command that mends each obstacle.

mod kernel;
mod report;
mod storage;
mod userfaultfd;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::budget::{self, Memory};
use crate::config::{BudgetSetting, ByteSize, IoRung};
use crate::drive::device::Device;
use report::{Check, Report, Status};
use userfaultfd::Access;

/// Arguments of `ggpager doctor`.
#[derive(clap::Args)]
#[command(after_help = "Exit code: 0 all good, 1 works with restrictions, 2 paging is impossible.")]
pub struct Args {
    /// A model, or a folder of models of which the largest is taken.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb. The exit code is 0 when all is good, 1 when paging works with restrictions, and 2
/// when it is impossible, also when `path` cannot be looked at.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = match examine(&args) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("ggpager: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(ExitCode::from(report.exit_code))
}

fn examine(args: &Args) -> anyhow::Result<Report> {
    let model = storage::model_in(&args.path);
    let model_bytes = model.as_ref().map_or(0, |(_, bytes)| *bytes);
    let path = model.as_ref().map_or(&args.path, |(path, _)| path).clone();
    let device = Device::of(&path).with_context(|| path.display().to_string())?;
    // Before the drive is measured, which takes memory itself.
    let memory = Memory::probe();
    // Without a model: what a very large one would get.
    let auto_budget_bytes = match model_bytes {
        0 => budget::resolve(BudgetSetting::Auto, memory.machine.total_bytes, &memory),
        bytes => budget::resolve(BudgetSetting::Auto, bytes, &memory),
    };

    let access = Access::probe();
    let (uring, uring_check) = kernel::io_uring();
    let (direct, direct_check) = storage::direct(&path, &device);
    let (rate, drive_check) = storage::drive(model.as_ref().map(|(path, _)| path.as_path()), &device, uring);

    let mut checks = kernel::userfaultfd(&access);
    checks.extend([kernel::huge_pages(), uring_check, direct_check, drive_check]);
    checks.extend(storage::read_ahead(&device));
    checks.extend(kernel::address_space(model_bytes));
    checks.extend(memory_checks(&memory));
    checks.push(budget_check(&memory, model_bytes, auto_budget_bytes));
    checks.push(Check {
        name: "repacking",
        status: Status::Note,
        finding: "`ggpager run` switches it off; without it pass -nr to llama.cpp, or the weights are copied".into(),
        mend: None,
    });

    let mut report = Report {
        path,
        model_bytes,
        verdict: "",
        exit_code: 0,
        fill_rung: access.as_ref().map_or("", |access| access.fill_rung().as_str()),
        fault_mode: access.as_ref().map_or("", Access::mode),
        uffd_features: access.as_ref().map(Access::features).unwrap_or_default(),
        io_rung: match (uring, rate.as_ref().map_or(direct, |rate| rate.direct)) {
            (true, true) => IoRung::UringDirect,
            (true, false) => IoRung::Uring,
            (false, _) => IoRung::Pread,
        }
        .as_str(),
        auto_budget_bytes,
        machine: memory.machine,
        cgroup: memory.cgroup.clone(),
        device: Some(device),
        rate,
        checks,
    };
    report.judge();
    Ok(report)
}

fn memory_checks(memory: &Memory) -> Vec<Check> {
    let note = |name, finding| Check { name, status: Status::Ok, finding, mend: None };
    let machine = &memory.machine;
    let (total, available) = (ByteSize(machine.total_bytes), ByteSize(machine.available_bytes));
    let swap = match machine.swap_total_bytes {
        0 => "none".to_owned(),
        bytes => format!("{}, {} free", ByteSize(bytes), ByteSize(machine.swap_free_bytes)),
    };
    let cgroup = match &memory.cgroup {
        None => "none for memory".to_owned(),
        Some(usage) => {
            let used = ByteSize(usage.usage_bytes - usage.reclaimable_bytes);
            match (usage.limit_bytes, usage.left_bytes) {
                (Some(limit), Some(left)) => {
                    format!(
                        "limit {}, {used} in use, {} left ({})",
                        ByteSize(limit),
                        ByteSize(left),
                        usage.folder.display()
                    )
                }
                _ => format!("no limit, {used} in use"),
            }
        }
    };
    vec![note("RAM", format!("{total}, {available} available")), note("swap", swap), note("cgroup", cgroup)]
}

fn budget_check(memory: &Memory, model_bytes: u64, auto_bytes: u64) -> Check {
    let auto = ByteSize(auto_bytes);
    let (status, finding) = match model_bytes {
        0 => (Status::Ok, format!("auto gives a large model up to {auto}")),
        bytes if budget::fits(BudgetSetting::Auto, bytes, memory) => {
            (Status::Ok, format!("the model of {} fits: auto maps it as without ggpager", ByteSize(bytes)))
        }
        bytes if auto_bytes == 0 => (Status::Warn, format!("no room for any of the model's {}", ByteSize(bytes))),
        bytes => {
            let share = auto_bytes as f64 / bytes as f64 * 100.0;
            (Status::Ok, format!("auto gives {auto}, {share:.0} % of the model's {}", ByteSize(bytes)))
        }
    };
    Check { name: "budget", status, finding, mend: None }
}
