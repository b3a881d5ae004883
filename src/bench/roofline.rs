//! The least time that a token can take: `T_min = max(T_compute, bytes_min / W)`.

use serde::Serialize;

use crate::gguf::{Model, TokenReads};

/// What one decoded token reads of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cycle {
    /// Bytes that every token reads.
    pub bytes: u64,
    /// True when there are experts besides: which of them a token reads is not known beforehand.
    pub has_experts: bool,
}

/// The cycle of a model given as its shards. Row tables count for nothing (a token reads one row),
/// a tied embedding in full, layers that ordinary decoding does not read not at all.
pub fn cycle(shards: &[Model]) -> Cycle {
    let reads = TokenReads::of(&shards.iter().collect::<Vec<_>>());
    Cycle { bytes: reads.dense_bytes, has_experts: reads.expert_bytes > 0 }
}

impl Cycle {
    /// The cycle of models that are read one after the other.
    pub fn sum(cycles: impl IntoIterator<Item = Cycle>) -> Cycle {
        cycles.into_iter().fold(Cycle { bytes: 0, has_experts: false }, |sum, cycle| Cycle {
            bytes: sum.bytes + cycle.bytes,
            has_experts: sum.has_experts || cycle.has_experts,
        })
    }
}

/// The yardstick of one lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bounds {
    /// The model's name, or those of a main and a draft model.
    pub name: String,
    /// What a token, or a step with a draft model, reads.
    pub cycle: Cycle,
    /// The pool's size.
    pub budget_bytes: Option<u64>,
    /// The least bytes of a cycle. A draft model is read several times in a step and counts once:
    /// whoever reads least keeps it in memory.
    pub bytes_min: Option<u64>,
}

impl Bounds {
    /// Bounds of models with this `cycle` within a pool of `budget_bytes`.
    pub fn new(name: String, cycle: Cycle, budget_bytes: Option<u64>) -> Bounds {
        let bytes_min = budget_bytes.filter(|_| !cycle.has_experts).map(|budget| bytes_min(cycle.bytes, budget));
        Bounds { name, cycle, budget_bytes, bytes_min }
    }
}

/// The least bytes that a cycle must read with a cache of `budget_bytes`.
///
/// Belady's rule on a cyclic scan of N blocks with room for k of them misses N (N - k) / (N - 1)
/// times a cycle (every miss but the first of a cycle replaces the block just used, which is the one
/// needed last); for small blocks that is the part that does not fit.
pub fn bytes_min(cycle_bytes: u64, budget_bytes: u64) -> u64 {
    cycle_bytes.saturating_sub(budget_bytes)
}

/// `T_min` in milliseconds, of what is known: the time to compute, the bytes to read, and the
/// drive's bytes per second. `None` when nothing is known.
pub fn t_min_ms(compute_ms: Option<f64>, bytes_min: Option<u64>, drive_bytes_per_s: Option<f64>) -> Option<f64> {
    let reading_ms = bytes_min.zip(drive_bytes_per_s).map(|(bytes, rate)| bytes as f64 / rate * 1e3);
    match (compute_ms, reading_ms) {
        (Some(compute), Some(reading)) => Some(compute.max(reading)),
        (known, None) | (None, known) => known,
    }
}

/// The least milliseconds of a mean token that takes as long as its computation or as its own bytes, whichever is longer: what is
/// first known to be needed within a token can hide behind this token's computation alone. `None` without bytes of tokens.
pub fn overlapped_ms(compute_ms: f64, token_bytes: &[f64], drive_bytes_per_s: f64) -> Option<f64> {
    let ms = token_bytes.iter().map(|bytes| compute_ms.max(bytes / drive_bytes_per_s * 1e3));
    (!token_bytes.is_empty()).then(|| ms.sum::<f64>() / token_bytes.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Misses of Belady's rule on a cyclic scan, by brute force: evict what is needed last.
    fn belady_misses(blocks: usize, room: usize, cycles: usize) -> Vec<usize> {
        let mut held: Vec<usize> = Vec::new();
        let mut misses = vec![0; cycles];
        for (now, block) in (0..cycles).flat_map(|cycle| (0..blocks).map(move |block| (cycle, block))) {
            if held.contains(&block) {
                continue;
            }
            misses[now] += 1;
            if held.len() == room {
                let distance = |other: usize| (other + blocks - block - 1) % blocks;
                let last = (0..held.len()).max_by_key(|&index| distance(held[index])).unwrap();
                held.swap_remove(last);
            }
            held.push(block);
        }
        misses
    }

    #[test]
    fn the_formula_is_what_belady_reads() {
        for (blocks, room) in [(100usize, 50usize), (100, 80), (200, 30)] {
            let misses = belady_misses(blocks, room, 60);
            let steady = misses[20..].iter().sum::<usize>() as f64 / 40.0;
            let exact = blocks as f64 * (blocks - room) as f64 / (blocks - 1) as f64;
            assert!((steady - exact).abs() < 0.5, "{steady} {exact}");
            let limit = bytes_min(blocks as u64, room as u64) as f64;
            assert!(steady >= limit && steady <= limit * 1.02 + 0.5, "{steady} {limit}");
        }
        assert_eq!(bytes_min(5, 9), 0);
    }

    #[test]
    fn the_slower_of_the_two_rules() {
        assert_eq!(t_min_ms(Some(100.0), Some(1_000_000), Some(1e6)), Some(1000.0));
        assert_eq!(t_min_ms(Some(2000.0), Some(1_000_000), Some(1e6)), Some(2000.0));
        assert_eq!(t_min_ms(Some(5.0), None, Some(1e6)), Some(5.0));
        assert_eq!(t_min_ms(None, Some(1_000_000), Some(1e6)), Some(1000.0));
        assert_eq!(t_min_ms(None, None, Some(1e6)), None);
        // Three tokens compute, one reads for 400 ms.
        assert_eq!(overlapped_ms(100.0, &[0.0, 0.0, 50_000.0, 400_000.0], 1e6), Some(175.0));
        assert_eq!(overlapped_ms(100.0, &[], 1e6), None);
    }
}
