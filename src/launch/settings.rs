//! The strict reading of the `GGPAGER_*` variables.
//!
//! The preloaded library warns about a bad value and goes on ([`Settings::read`]); a command line
//! refuses it before the program starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::config::{Settings, var};

/// Every variable that the library reads.
pub const VARIABLES: [&str; 15] = [
    var::SWITCH,
    var::BUDGET,
    var::STRATEGY,
    var::TRACE,
    var::TRACE_LIMIT,
    var::GRAIN,
    var::STATS,
    var::MATCH,
    var::FILL,
    var::IO,
    var::QUEUE_DEPTH,
    var::READ_SIZE,
    var::REPLICAS,
    var::LOG,
    var::ORDER_CACHE,
];

/// Variables of this name space that the tools read, not the library.
const TOOL_VARIABLES: [&str; 4] = [super::library::VARIABLE, "GGPAGER_LLAMA", "GGPAGER_READERS", "GGPAGER_REQUIRE_ALL"];

/// All values that could not be understood, one a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", .0.join("\nggpager: "))]
pub struct BadSettings(pub Vec<String>);

/// The variables of a run, with what they mean.
#[derive(Debug)]
pub struct Checked {
    /// The values, understood.
    pub settings: Settings,
    /// The variables to set: options over environment.
    pub variables: BTreeMap<String, String>,
    /// `GGPAGER_*` names in the environment that nothing reads (misspelt, probably).
    pub unknown: Vec<String>,
}

/// Understands the `GGPAGER_*` variables of `environment` and the `options` (variable, value) that
/// override them. An empty variable counts as unset, an empty option is an error.
pub fn check(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    options: &[(&str, String)],
) -> Result<Checked, BadSettings> {
    let mut variables = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy().into_owned();
        if name != var::SWITCH && !name.starts_with("GGPAGER_") || value.is_empty() {
            continue;
        }
        if !VARIABLES.contains(&name.as_str()) {
            if !TOOL_VARIABLES.contains(&name.as_str()) {
                unknown.push(name);
            }
            continue;
        }
        match value.into_string() {
            Ok(value) => drop(variables.insert(name, value)),
            Err(value) => errors.push(format!("{name}: {value:?} is not UTF-8")),
        }
    }
    for (name, value) in options {
        if value.is_empty() {
            errors.push(format!("{name}: empty value"));
        }
        variables.insert((*name).to_owned(), value.clone());
    }
    let settings =
        Settings::read(|name| variables.get(name).cloned(), |name, error| errors.push(format!("{name}: {error}")));
    if let Some(filter) = variables.get(var::LOG) {
        log_filter(filter).unwrap_or_else(|error| errors.push(format!("{}: {error}", var::LOG)));
    }
    check_paths(&settings, &mut errors);
    if errors.is_empty() { Ok(Checked { settings, variables, unknown }) } else { Err(BadSettings(errors)) }
}

/// Files that are to be written need a folder, copies of the model must exist.
fn check_paths(settings: &Settings, errors: &mut Vec<String>) {
    let outputs = [(var::TRACE, &settings.trace), (var::STATS, &settings.stats)];
    for (name, path) in outputs.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?))) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            errors.push(format!("{name}: the folder of {path:?} does not exist"));
        } else if path.is_dir() {
            errors.push(format!("{name}: {path:?} is a folder"));
        }
    }
    for path in settings.replicas.iter().filter(|path| !path.is_file() && !path.is_dir()) {
        errors.push(format!("{}: {path:?} is neither a file nor a folder", var::REPLICAS));
    }
}

/// Accepts `level`, `target=level` and `ggpager...` targets, separated by commas, with an optional
/// `/pattern` behind them: the env_logger syntax, except that a bare word that is neither a level
/// nor a target of ours is an error here (env_logger would take it for a target that never logs).
fn log_filter(text: &str) -> Result<(), String> {
    let directives = text.split('/').next().unwrap_or_default();
    for directive in directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
        let level = match directive.split_once('=') {
            Some((_, level)) => level.trim(),
            None if directive.starts_with("ggpager") => continue,
            None => directive,
        };
        if !level.is_empty() && level.parse::<log::LevelFilter>().is_err() {
            return Err(format!("{level:?} is not one of off, error, warn, info, debug, trace"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BudgetSetting, Strategy};

    fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn options_win_and_strangers_are_named() {
        let checked = check(
            environment(&[
                ("GGPAGER_BUDGET", "1G"),
                ("GGPAGER_STRATEGY", "demand"),
                ("GGPAGER_BUGDET", "2G"),
                ("GGPAGER_LIB", "/lib.so"),
                ("GGPAGER_TRACE", ""),
                ("HOME", "/root"),
            ]),
            &[(var::BUDGET, "50%".into())],
        )
        .unwrap();
        assert_eq!(checked.settings.budget, BudgetSetting::Percent(50.0));
        assert_eq!(checked.settings.strategy, Strategy::Demand);
        assert_eq!(checked.unknown, ["GGPAGER_BUGDET"]);
        assert_eq!(checked.variables.len(), 2, "{:?}", checked.variables);
    }

    #[test]
    fn every_bad_value_is_reported_at_once() {
        let BadSettings(errors) = check(
            environment(&[
                ("GGPAGER", "perhaps"),
                ("GGPAGER_BUDGET", "lots"),
                ("GGPAGER_LOG", "ggpager=loud"),
                ("GGPAGER_TRACE", "/no/such/folder/trace"),
                ("GGPAGER_REPLICAS", "/no/such/copy.gguf"),
            ]),
            &[(var::STATS, String::new())],
        )
        .unwrap_err();
        assert_eq!(errors.len(), 6, "{errors:?}");
        for name in
            ["GGPAGER:", "GGPAGER_BUDGET:", "GGPAGER_LOG:", "GGPAGER_TRACE:", "GGPAGER_REPLICAS:", "GGPAGER_STATS:"]
        {
            assert!(errors.iter().any(|error| error.starts_with(name)), "{name} {errors:?}");
        }
    }

    #[test]
    fn a_bad_option_is_an_error_even_over_a_good_variable() {
        let error = check(environment(&[("GGPAGER_IO", "uring")]), &[(var::IO, "floppy".into())]).unwrap_err();
        assert!(error.to_string().contains("uring-direct"), "{error}");
    }

    #[test]
    fn log_filters_are_levels_and_targets() {
        for good in ["debug", "WARN", "ggpager=trace,info", "ggpager::pager", "ggpager=info/touched", ""] {
            assert_eq!(log_filter(good), Ok(()), "{good}");
        }
        for bad in ["loud", "ggpager=loud", "info,noisy"] {
            assert!(log_filter(bad).is_err(), "{bad}");
        }
    }
}
