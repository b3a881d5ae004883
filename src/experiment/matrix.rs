//! From axes to cases.

use std::time::Duration;

use super::case::{Case, Lock, Setup, Way};
use crate::bench::pin::Pin;
use crate::bench::plan::Who;

/// What is varied; each combination that makes sense is a case.
#[derive(Debug, Clone)]
pub struct Axes {
    /// Memory for the model, in percent of it.
    pub memory_percent: Vec<u32>,
    /// Swappiness with swap; `None` is without.
    pub swappiness: Vec<Option<u32>>,
    /// Who reads the weights.
    pub ways: Vec<Way>,
    /// What is locked in memory.
    pub locks: Vec<Lock>,
    /// Size of one read; `None` is the pager's own.
    pub read_bytes: Vec<Option<u64>>,
    /// Reads in flight; `None` is the pager's own.
    pub depth: Vec<Option<u32>>,
    /// How often everything.
    pub rounds: u32,
}

/// The cases of `axes` for the model called `model`, of `model_bytes`. Left out is what cannot be or
/// would be the same as another: what is locked must fit and concerns stock alone, and only the pager
/// has reads of its own.
pub fn cases(model: &str, model_bytes: u64, axes: &Axes, setup: &Setup) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for round in 0..axes.rounds {
        let plain = Case {
            model: model.to_owned(),
            model_bytes,
            memory_percent: 100,
            swappiness: None,
            way: Way(Who::InMemory),
            lock: Lock::None,
            read_bytes: None,
            depth: None,
            drive_bytes_per_s: setup.drive_bytes_per_s,
            room_bytes: setup.room_bytes,
            context: setup.context,
            tokens: setup.tokens,
            threads: setup.threads,
            round,
        };
        for case in combinations(axes, &plain) {
            if is_possible(&case) && !cases.contains(&case) {
                cases.push(case);
            }
        }
    }
    cases
}

fn combinations(axes: &Axes, plain: &Case) -> Vec<Case> {
    fn each<T: Copy>(cases: Vec<Case>, values: &[T], set: impl Fn(&mut Case, T)) -> Vec<Case> {
        let vary = |case: Case| {
            let set = &set;
            values.iter().map(move |&value| {
                let mut case = case.clone();
                set(&mut case, value);
                case
            })
        };
        cases.into_iter().flat_map(vary).collect()
    }
    let memory: Vec<Way> = axes.ways.iter().copied().filter(|way| way.0 == Who::InMemory).collect();
    let limited: Vec<Way> = axes.ways.iter().copied().filter(|way| way.0 != Who::InMemory).collect();
    let mut all = each(vec![plain.clone()], &memory, |case, way| case.way = way);
    let mut cases = each(vec![plain.clone()], &axes.memory_percent, |case, percent| case.memory_percent = percent);
    cases = each(cases, &axes.swappiness, |case, swappiness| case.swappiness = swappiness);
    cases = each(cases, &axes.locks, |case, lock| case.lock = lock);
    cases = each(cases, &axes.read_bytes, |case, bytes| case.read_bytes = bytes);
    cases = each(cases, &axes.depth, |case, depth| case.depth = depth);
    all.extend(each(cases, &limited, |case, way| case.way = way));
    all
}

fn is_possible(case: &Case) -> bool {
    let is_stock = matches!(case.way.0, Who::Stock(_));
    let lock_fits = match case.lock {
        Lock::None => true,
        Lock::Llama => is_stock && case.memory_percent >= 100,
        Lock::Part(Pin { percent, .. }) => is_stock && percent < case.memory_percent,
    };
    let is_forced = case.read_bytes.is_some() || case.depth.is_some();
    lock_fits && (!is_forced || case.way.has_reads_of_its_own())
}

/// Rate of a drive that is not held to one, in bytes per second, for [`estimate`].
const FREE_DRIVE_BYTES_PER_S: u64 = 1_500_000_000;
/// Rate at which weights are computed with, in bytes per second, for [`estimate`].
const COMPUTE_BYTES_PER_S: f64 = 5e9;

/// How long `case` may take, by a rule of thumb: loading, warming up, and every token reads what is not
/// in memory, stock all of it at half of the drive's rate. Mixtures of experts take less.
pub fn estimate(case: &Case) -> Duration {
    let rate = case.drive_bytes_per_s.unwrap_or(FREE_DRIVE_BYTES_PER_S) as f64;
    let model = case.model_bytes as f64;
    let missing = model * (1.0 - f64::from(case.memory_percent.min(100)) / 100.0);
    let reading_s = match case.way.0 {
        Who::InMemory => 0.0,
        Who::Stock(_) if missing > 0.0 => model / (rate / 2.0),
        _ => missing / rate,
    };
    let token_s = reading_s.max(model / COMPUTE_BYTES_PER_S);
    Duration::from_secs_f64(1.0 + 2.0 * model / rate + f64::from(case.tokens) * token_s)
}
