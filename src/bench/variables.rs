//! The variables of a run's programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::plan::{Contender, Plan, Who};
use super::workload::Workload;
use crate::config::var;
use crate::launch::environment::Environment;
use crate::launch::settings;

/// Where a process leaves its statistics.
pub fn stats_file(folder: &Path, process: usize) -> PathBuf {
    folder.join(format!("stats-{process}.json"))
}

/// The variables of a process of a run, which may leave its files in `folder`: set, or (None) taken away.
pub fn of(plan: &Plan, contender: Contender, process: usize, folder: &Path) -> BTreeMap<String, Option<OsString>> {
    let mut variables: BTreeMap<_, _> = settings::VARIABLES.iter().map(|name| ((*name).to_owned(), None)).collect();
    let (Who::Paged(strategy, spin), Some(library)) = (contender.who, &plan.library) else { return variables };
    let mut environment = Environment::default();
    let current = |name: &str| std::env::var_os(name);
    environment.preload(library, current);
    environment.keep_weights_mapped(current);
    environment.bound_spin(spin, current);
    environment.settings(&plan.variables.iter().cloned().collect());
    let logs = (plan.workload == Workload::Log).then_some(process == 1);
    let strategy = plan.against.filter(|_| logs == Some(false)).unwrap_or(strategy);
    environment.set.insert(var::STRATEGY.to_owned(), strategy.as_str().into());
    environment.set.insert(var::STATS.to_owned(), stats_file(folder, process).into());
    match logs {
        Some(true) => {
            environment.set.entry(var::TRACE.to_owned()).or_insert_with(|| folder.join("run.log").into());
        }
        Some(false) => {
            environment.set.remove(var::TRACE);
        }
        None => {}
    }
    variables.extend(environment.set.into_iter().map(|(name, value)| (name, Some(value))));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Cache;
    use crate::config::Strategy;
    use crate::launch::environment::OmpSpin;

    fn told(workload: Workload, set: &[(&str, &str)], process: usize) -> [Option<OsString>; 2] {
        let plan = Plan {
            workload,
            library: Some("/lib.so".into()),
            against: Some(Strategy::Demand),
            variables: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Plan::empty()
        };
        let contender =
            Contender { who: Who::Paged(Strategy::Observe, OmpSpin::default()), threads: 2, cache: Cache::Cold };
        let mut variables = of(&plan, contender, process, Path::new("/run"));
        [var::STRATEGY, var::TRACE].map(|name| variables.remove(name).flatten())
    }

    #[test]
    fn one_of_two_servers_writes_a_log() {
        let [strategy, log] = ["observe", "/run/run.log"].map(|value| Some(value.into()));
        assert_eq!(told(Workload::Log, &[], 0), [Some("demand".into()), None]);
        assert_eq!(told(Workload::Log, &[], 1), [strategy.clone(), log]);
        let own = [(var::TRACE, "/own.log")];
        assert_eq!(told(Workload::Log, &own, 0), [Some("demand".into()), None]);
        assert_eq!(told(Workload::Log, &own, 1), [strategy.clone(), Some("/own.log".into())]);
        assert_eq!(told(Workload::Turns, &own, 0), [strategy.clone(), Some("/own.log".into())]);
        assert_eq!(told(Workload::Turns, &[], 1), [strategy, None]);
    }
}
