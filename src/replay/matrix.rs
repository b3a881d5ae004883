//! All cases: memory sizes x policies x drives, by all processors.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::case::{Bench, Case, Contender, Failed, Outcome};
use crate::sim::Drive;

/// A case and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The case.
    pub case: Case,
    /// Its outcome.
    pub outcome: Result<Outcome, Failed>,
}

/// Every combination, by drive, then memory, then policy.
pub fn cases(memory_bytes: &[u64], policies: &[Contender], drives: &[Drive]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &drive in drives {
        for &memory_bytes in memory_bytes {
            cases.extend(policies.iter().map(|&policy| Case { memory_bytes, policy, drive }));
        }
    }
    cases
}

/// Simulates `cases`, as many at a time as there are processors; `tick` is called after each.
pub fn run(bench: &Bench<'_>, cases: &[Case], tick: impl Fn() + Sync) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Done>>> = Mutex::new(vec![None; cases.len()]);
    let workers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(cases.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    // Relaxed: the counter only hands out indexes; results are passed under the lock.
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&case) = cases.get(index) else { break };
                    let outcome = bench.run(&case);
                    done.lock().expect("nothing panics under this lock")[index] = Some(Done { case, outcome });
                    tick();
                }
            });
        }
    });
    done.into_inner().expect("nothing panics under this lock").into_iter().flatten().collect()
}
