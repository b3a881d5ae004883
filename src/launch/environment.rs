//! The environment of a program under the library.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::str::FromStr;

/// The loader's list of libraries to load first (ld.so(8)).
pub const PRELOAD: &str = "LD_PRELOAD";

/// llama.cpp's switch for repacking weights into anonymous memory. `common/arg.cpp` takes `0`,
/// `off`, `false` and `disabled` for no; builds up to late 2025 know only the negated name, whose
/// value must be `1`, and later ones take the mere presence of the negated name for no.
const REPACK: [(&str, &str); 2] = [("LLAMA_ARG_REPACK", "0"), ("LLAMA_ARG_NO_REPACK", "1")];

/// How long OpenMP threads spin at a barrier before they sleep.
///
/// A compute thread that waits for a block leaves the others at the next barrier. By default
/// libgomp spins there for 300 000 rounds (some 15 ms) and libomp for 200 ms: on a machine whose
/// cores all compute, that is time taken from the pager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OmpSpin {
    /// What the OpenMP runtime does by itself.
    Runtime,
    /// This many rounds of libgomp's spin loop (40 to 140 cycles each); libomp, which counts
    /// milliseconds, gets 0 for 0 and else 1.
    Rounds(u64),
}

impl Default for OmpSpin {
    /// Long enough to bridge the gaps between two tensors' worth of work, and a small part of the
    /// time that a read takes.
    fn default() -> Self {
        OmpSpin::Rounds(10_000)
    }
}

impl FromStr for OmpSpin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "default" => Ok(OmpSpin::Runtime),
            number => number
                .parse()
                .map(OmpSpin::Rounds)
                .map_err(|_| format!("{text:?} is neither a number of rounds nor `default`")),
        }
    }
}

/// What is to be set for a program; everything else is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Variables and their values.
    pub set: BTreeMap<String, OsString>,
    /// Remarks for the user: what was left as it was and why that may matter.
    pub remarks: Vec<String>,
}

impl Environment {
    /// Prepends `library` to what `current` says about `LD_PRELOAD`.
    pub fn preload(&mut self, library: &Path, current: impl Fn(&str) -> Option<OsString>) {
        let mut value = library.as_os_str().to_owned();
        if let Some(others) = current(PRELOAD).filter(|others| !others.is_empty()) {
            value.push(":");
            value.push(others);
        }
        self.set.insert(PRELOAD.to_owned(), value);
    }

    /// Makes llama.cpp keep its weights in the mapping, unless the user has decided.
    pub fn keep_weights_mapped(&mut self, current: impl Fn(&str) -> Option<OsString>) {
        let [(plain, _), (negated, _)] = REPACK;
        match (current(plain), current(negated)) {
            (None, None) => self.set.extend(REPACK.map(|(name, value)| (name.to_owned(), value.into()))),
            (Some(value), None) if !["0", "off", "false", "disabled"].iter().any(|no| value == **no) => {
                self.remarks.push(format!(
                    "{plain}={} is kept: llama.cpp may copy weights out of the mapping, where they cannot be paged",
                    value.display()
                ));
            }
            _ => {}
        }
    }

    /// Bounds the spin of OpenMP's barriers, unless the user has decided: a set `OMP_WAIT_POLICY`
    /// rules both runtimes, and `GOMP_SPINCOUNT` would overrule it.
    pub fn bound_spin(&mut self, spin: OmpSpin, current: impl Fn(&str) -> Option<OsString>) {
        let OmpSpin::Rounds(rounds) = spin else { return };
        if current("OMP_WAIT_POLICY").is_some() {
            return;
        }
        if current("GOMP_SPINCOUNT").is_none() {
            self.set.insert("GOMP_SPINCOUNT".to_owned(), rounds.to_string().into());
        }
        if current("KMP_BLOCKTIME").is_none() && current("KMP_LIBRARY").is_none() {
            self.set.insert("KMP_BLOCKTIME".to_owned(), rounds.min(1).to_string().into());
        }
    }

    /// Sets `variables` (of [`super::settings::check`]).
    pub fn settings(&mut self, variables: &BTreeMap<String, String>) {
        self.set.extend(variables.iter().map(|(name, value)| (name.clone(), value.into())));
    }
}

/// Whether `program` is llama-bench, which reads no `LLAMA_ARG_` variables, and `args` leave
/// repacking on: then the weights are not in the mapping.
pub fn llama_bench_repacks(program: &Path, args: &[OsString]) -> bool {
    let is_bench = program.file_name().is_some_and(|name| name == OsStr::new("llama-bench"));
    is_bench && !args.iter().any(|arg| ["--repack", "-nr", "--no-repack"].iter().any(|option| arg == option))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn the_library_comes_first() {
        let mut environment = Environment::default();
        environment.preload(Path::new("/a/libggpager.so"), |_| Some("/b.so:/c.so".into()));
        assert_eq!(environment.set[PRELOAD], "/a/libggpager.so:/b.so:/c.so");
        environment.preload(Path::new("/a/libggpager.so"), none);
        assert_eq!(environment.set[PRELOAD], "/a/libggpager.so");
    }

    #[test]
    fn what_the_user_set_stays() {
        let mut environment = Environment::default();
        environment.keep_weights_mapped(|name| (name == "LLAMA_ARG_REPACK").then(|| "on".into()));
        environment.bound_spin(OmpSpin::default(), |name| (name == "OMP_WAIT_POLICY").then(|| "active".into()));
        assert!(environment.set.is_empty(), "{environment:?}");
        assert_eq!(environment.remarks.len(), 1);
        environment.bound_spin(OmpSpin::Rounds(7), |name| (name == "KMP_BLOCKTIME").then(|| "3".into()));
        assert_eq!(environment.set.len(), 1);
        assert_eq!(environment.set["GOMP_SPINCOUNT"], "7");
    }

    #[test]
    fn weights_stay_mapped_and_the_spin_is_bounded_by_default() {
        let mut environment = Environment::default();
        environment.keep_weights_mapped(none);
        environment.bound_spin(OmpSpin::default(), none);
        assert_eq!(environment.set["LLAMA_ARG_REPACK"], "0");
        assert_eq!(environment.set["LLAMA_ARG_NO_REPACK"], "1");
        assert_eq!(environment.set["GOMP_SPINCOUNT"], "10000");
        assert_eq!(environment.set["KMP_BLOCKTIME"], "1");
        let mut untouched = Environment::default();
        untouched.bound_spin("default".parse().unwrap(), none);
        assert!(untouched.set.is_empty());
        assert!("fast".parse::<OmpSpin>().is_err() && "-1".parse::<OmpSpin>().is_err());
    }

    #[test]
    fn llama_bench_is_told_from_its_options() {
        let bench = Path::new("/opt/llama-bench");
        assert!(llama_bench_repacks(bench, &["-m".into(), "x".into()]));
        assert!(!llama_bench_repacks(bench, &["--repack".into(), "0".into()]));
        assert!(!llama_bench_repacks(Path::new("llama-cli"), &[]));
    }
}
