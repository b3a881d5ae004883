//! In which order blocks are touched: beside the order of the file and the order of the computation.

use std::collections::HashMap;

use serde::Serialize;

use super::blocks::{Blocks, NOWHERE, PlaceId};
use super::distribution::{Counter, Distribution};

/// How a sequence of touches relates to two orders.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sequence {
    /// Touches that have a predecessor.
    pub pairs: u64,
    /// Of those, touches of the block that follows the predecessor's in the file.
    pub next_in_file: u64,
    /// Of those, touches of the block that follows the predecessor's in the compute order.
    pub next_in_compute: u64,
    /// First touches of a cycle that have a predecessor.
    pub first_pairs: u64,
    /// Of those, touches of the block that follows the predecessor's in the file, of those touched.
    pub first_next_in_file: u64,
    /// The same in the compute order; blocks that are no part of it are left out.
    pub first_next_in_compute: u64,
    /// First touches against the order of the file.
    pub file: Option<Correlation>,
    /// First touches against the compute order.
    pub compute: Option<Correlation>,
}

/// Rank correlation: 1 is the same order, -1 the reverse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Correlation {
    /// C. Spearman, "The proof and measurement of association between two things", 1904.
    pub spearman: f64,
    /// M. G. Kendall, "A new measure of rank correlation", 1938.
    pub kendall: f64,
}

impl Correlation {
    /// [`Correlation::of`], or that of the order which begins with the least of the first few keys and
    /// goes on with the least of all behind the largest, whichever agrees better: a cycle has no first
    /// block, and where a policy cuts is its own choice.
    fn of_cycle(keys: &[u64]) -> Option<Correlation> {
        let straight = Correlation::of(keys)?;
        let (least, most) = (keys.iter().min()?, keys.iter().max()?);
        // Threads touch a little out of order.
        let near = (most - least) / 16;
        let begin = keys.iter().take(8).filter(|key| key.abs_diff(keys[0]) <= near).min()?;
        let turned = |&key: &u64| if key >= *begin { key - begin } else { key - least + (most - begin) + 1 };
        let turned = Correlation::of(&keys.iter().map(turned).collect::<Vec<_>>())?;
        Some(if turned.kendall > straight.kendall { turned } else { straight })
    }

    /// Of the order of `keys` (all different) with their own sorted order; `None` for fewer than two.
    ///
    /// Spearman's rho is 1 - 6 sum(d^2) / (n (n^2 - 1)) with d the difference of the ranks, Kendall's
    /// tau 1 - 4 i / (n (n - 1)) with i the number of inversions.
    pub fn of(keys: &[u64]) -> Option<Correlation> {
        if keys.len() < 2 {
            return None;
        }
        let n = keys.len() as f64;
        let mut by_key: Vec<usize> = (0..keys.len()).collect();
        by_key.sort_unstable_by_key(|&at| keys[at]);
        let squares: f64 = by_key.iter().enumerate().map(|(rank, &at)| (rank as f64 - at as f64).powi(2)).sum();
        let mut sorted = keys.to_vec();
        let inversions = inversions(&mut sorted, &mut Vec::with_capacity(keys.len())) as f64;
        Some(Correlation {
            spearman: 1.0 - 6.0 * squares / (n * (n * n - 1.0)),
            kendall: 1.0 - 4.0 * inversions / (n * (n - 1.0)),
        })
    }
}

/// Neighbours in `keys` (all different) that are neighbours in their sorted order as well.
fn successors(keys: &[u64]) -> u64 {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let next: HashMap<u64, u64> = sorted.windows(2).map(|pair| (pair[0], pair[1])).collect();
    keys.windows(2).filter(|pair| next.get(&pair[0]) == Some(&pair[1])).count() as u64
}

/// Sorts `keys` by merging and counts the pairs that stood the wrong way round.
fn inversions(keys: &mut [u64], spare: &mut Vec<u64>) -> u64 {
    if keys.len() < 2 {
        return 0;
    }
    let (left, right) = keys.split_at_mut(keys.len() / 2);
    let mut count = inversions(left, spare) + inversions(right, spare);
    spare.clear();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if r == right.len() || (l < left.len() && left[l] <= right[r]) {
            spare.push(left[l]);
            l += 1;
        } else {
            count += (left.len() - l) as u64;
            spare.push(right[r]);
            r += 1;
        }
    }
    keys.copy_from_slice(spare);
    count
}

/// Collects the touches of the whole log.
#[derive(Default)]
pub struct Sequences {
    runs: [Counter; 2],
    run: [u64; 2],
    last: Option<PlaceId>,
    now: Sequence,
    sum: Sequence,
    /// Sums over the cycles, and how many they are of.
    correlations: [(Correlation, u64); 2],
}

impl Sequences {
    /// `place` was touched.
    pub fn touched(&mut self, blocks: &Blocks, place: PlaceId) {
        let Some(last) = self.last.replace(place) else {
            self.run = [1; 2];
            return;
        };
        let (before, after) = (blocks.place(last), blocks.place(place));
        let in_file = place == last + 1 && before.file == after.file;
        let in_compute = before.order != NOWHERE && before.order.checked_add(1) == Some(after.order);
        self.now.pairs += 1;
        self.now.next_in_file += u64::from(in_file);
        self.now.next_in_compute += u64::from(in_compute);
        for (index, follows) in [in_file, in_compute].into_iter().enumerate() {
            if !follows {
                self.runs[index].add(std::mem::take(&mut self.run[index]));
            }
            self.run[index] += 1;
        }
    }

    /// A cycle ended, in which `first_touches` were touched first, in that order.
    pub fn ended(&mut self, blocks: &Blocks, first_touches: &[PlaceId]) -> Sequence {
        let keys = |key: fn(&Blocks, PlaceId) -> Option<u64>| -> Vec<u64> {
            first_touches.iter().filter_map(|&place| key(blocks, place)).collect()
        };
        let by_file = keys(|blocks, place| Some(blocks.address(place, 0)));
        let by_order = keys(|blocks, place| {
            let order = blocks.place(place).order;
            (order != NOWHERE).then_some(u64::from(order))
        });
        self.now.file = Correlation::of_cycle(&by_file);
        self.now.compute = Correlation::of_cycle(&by_order);
        self.now.first_pairs = first_touches.len().saturating_sub(1) as u64;
        self.now.first_next_in_file = successors(&by_file);
        self.now.first_next_in_compute = successors(&by_order);
        self.sum.first_pairs += self.now.first_pairs;
        self.sum.first_next_in_file += self.now.first_next_in_file;
        self.sum.first_next_in_compute += self.now.first_next_in_compute;
        self.sum.pairs += self.now.pairs;
        self.sum.next_in_file += self.now.next_in_file;
        self.sum.next_in_compute += self.now.next_in_compute;
        for ((sum, count), now) in self.correlations.iter_mut().zip([self.now.file, self.now.compute]) {
            let Some(now) = now else { continue };
            sum.spearman += now.spearman;
            sum.kendall += now.kendall;
            *count += 1;
        }
        std::mem::take(&mut self.now)
    }

    /// The whole log; correlations are means over the cycles.
    pub fn finish(mut self) -> Sequentiality {
        for (runs, run) in self.runs.iter_mut().zip(self.run).filter(|(_, run)| *run > 0) {
            runs.add(run);
        }
        let mean = |index: usize| {
            let (sum, count) = self.correlations[index];
            let n = count as f64;
            (count > 0).then(|| Correlation { spearman: sum.spearman / n, kendall: sum.kendall / n })
        };
        let (file, compute) = (mean(0), mean(1));
        Sequentiality {
            whole: Sequence { file, compute, ..self.sum },
            run_in_file: self.runs[0].finish(),
            run_in_compute: self.runs[1].finish(),
        }
    }
}

/// How sequential the touches of a log are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sequentiality {
    /// All cycles together.
    pub whole: Sequence,
    /// Lengths of runs of blocks that follow each other in the file.
    pub run_in_file: Distribution,
    /// Lengths of runs of blocks that follow each other in the compute order.
    pub run_in_compute: Distribution,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_of_the_textbook() {
        let of = |keys: &[u64]| Correlation::of(keys).unwrap();
        assert_eq!(of(&[1, 5, 9, 20]), Correlation { spearman: 1.0, kendall: 1.0 });
        assert_eq!(of(&[4, 3, 2, 1]), Correlation { spearman: -1.0, kendall: -1.0 });
        // Ranks 2 1 4 3 5: d^2 = 4, two inversions of ten pairs.
        assert_eq!(of(&[20, 10, 40, 30, 50]), Correlation { spearman: 0.8, kendall: 0.6 });
        assert_eq!(Correlation::of(&[1]), None);
    }

    #[test]
    fn a_cycle_may_begin_anywhere() {
        let keys = [63, 60, 80, 90, 10, 20, 30, 40, 50];
        assert!(Correlation::of(&keys).unwrap().kendall < 0.0);
        // Counted from 60 on there is one inversion of 36 pairs: 63 and 60 stand the wrong way round.
        assert_eq!(Correlation::of_cycle(&keys).unwrap().kendall, 1.0 - 4.0 / 72.0);
        assert_eq!(Correlation::of_cycle(&[1, 2, 3]).unwrap().kendall, 1.0);
        // 80 90, and 10 to 50.
        assert_eq!(successors(&keys), 5);
    }
}
