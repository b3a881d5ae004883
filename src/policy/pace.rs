//! The pace of one stream: where in the cycle the computation waits for the drive, and where the
//! drive rests because the readahead is full.
//!
//! A cycle that only waits is bound by the drive, one that only rests by the computation, and
//! moving the resident set would help neither. Only when both happen in the same cycle do the streamed
//! blocks lie unevenly in compute time.

use super::order::Order;
use super::{BlockId, Touch};

/// Parts of the cycle whose compute times are measured apart.
const PARTS: usize = 64;

/// Steps longer than this say nothing about single blocks.
const STEPS_MAX: usize = 64;

/// Steps without a wait that make a part's compute time known.
const STEPS_MIN: f64 = 4.0;

/// The share of the cycle that both waiting and resting must have before evening out is worth its
/// reads.
const UNEVEN_SHARE: f64 = 0.05;

/// Cycles to leave alone after evening out, at first; doubled each time, because what evening out did
/// not mend twice has other reasons.
const REST_CYCLES: u32 = 1;

/// Time spent on some blocks.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    time_ns: f64,
    blocks: f64,
}

impl Spent {
    fn add(&mut self, time_ns: u64, blocks: usize) {
        self.time_ns += time_ns as f64;
        self.blocks += blocks as f64;
    }

    fn halved(self) -> Spent {
        Spent { time_ns: self.time_ns / 2.0, blocks: self.blocks / 2.0 }
    }

    /// Nanoseconds for a block, if there are at least `blocks_min`.
    fn each(self, blocks_min: f64) -> Option<f64> {
        (self.blocks >= blocks_min).then(|| self.time_ns / self.blocks)
    }
}

/// One part of the cycle.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Steps between two touches that did not wait.
    clean: Spent,
    /// All steps: a bound for the compute time.
    all: Spent,
}

/// The touch before this one.
#[derive(Debug, Clone, Copy)]
struct Before {
    id: BlockId,
    at_ns: u64,
    waited: bool,
    full: bool,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Pace {
    parts: Vec<Part>,
    /// Compute time of one block relative to the mean of those that did not wait, for each part; fixed
    /// during a cycle.
    weights: Vec<f64>,
    before: Option<Before>,
    /// Of the present cycle.
    waiting_ns: u64,
    resting_ns: u64,
    whole_ns: u64,
    rest_cycles: u32,
    next_rest: u32,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            parts: vec![Part::default(); PARTS],
            weights: vec![1.0; PARTS],
            before: None,
            waiting_ns: 0,
            resting_ns: 0,
            whole_ns: 0,
            rest_cycles: 0,
            next_rest: REST_CYCLES,
        }
    }

    /// Takes in a touch. `full`: all that may be read ahead has been read.
    pub fn touched(&mut self, order: &Order, id: BlockId, touch: Touch, now_ns: u64, full: bool) {
        let waited = touch != Touch::Staged;
        let Some(before) = self.before.replace(Before { id, at_ns: now_ns, waited, full }) else { return };
        let time_ns = now_ns.saturating_sub(before.at_ns);
        self.whole_ns += time_ns;
        // Between a touch that waits and the next one lies the wait.
        self.waiting_ns += if before.waited { time_ns } else { 0 };
        self.resting_ns += if before.full && full { time_ns } else { 0 };
        let Some((from, to)) = order.place(before.id).zip(order.place(id)) else { return };
        let steps = order.distance(from, to);
        if (1..=STEPS_MAX).contains(&steps) {
            let part = &mut self.parts[to * PARTS / order.len()];
            part.all.add(time_ns, steps);
            if !before.waited && !waited {
                part.clean.add(time_ns, steps);
            }
        }
    }

    /// Compute time of `id` relative to the mean block, 0.25 to 4.
    pub fn cost(&self, order: &Order, id: BlockId) -> f64 {
        order.place(id).map_or(1.0, |place| self.weights[place * PARTS / order.len()])
    }

    /// Ends a cycle. True when the streamed blocks lay so unevenly that [`Pace::cost`] should be
    /// used to place them anew; it has then changed.
    pub fn close(&mut self) -> bool {
        let [waiting, resting] =
            [self.waiting_ns, self.resting_ns].map(|ns| ns as f64 / (self.whole_ns as f64).max(1.0));
        (self.waiting_ns, self.resting_ns, self.whole_ns) = (0, 0, 0);
        let resting_still = self.rest_cycles > 0;
        self.rest_cycles = self.rest_cycles.saturating_sub(1);
        let uneven = waiting.min(resting) > UNEVEN_SHARE && !resting_still && self.weigh();
        if uneven {
            self.rest_cycles = self.next_rest;
            self.next_rest = self.next_rest.saturating_mul(2);
        }
        self.parts.iter_mut().for_each(|part| *part = Part { clean: part.clean.halved(), all: part.all.halved() });
        uneven
    }

    /// Forgets what was measured: the cycle was another kind of work.
    pub fn forget(&mut self) {
        *self = Pace { weights: std::mem::take(&mut self.weights), ..Pace::new() };
    }

    fn weigh(&mut self) -> bool {
        let clean: Vec<f64> = self.parts.iter().filter_map(|part| part.clean.each(STEPS_MIN)).collect();
        let mean_ns = clean.iter().sum::<f64>() / clean.len() as f64;
        if clean.is_empty() || mean_ns <= 0.0 {
            return false;
        }
        // Where everything waited, compute time is at most what passed, and else taken to be usual.
        let bound = |part: &Part| part.all.each(1.0).unwrap_or(mean_ns).min(mean_ns);
        for (weight, part) in self.weights.iter_mut().zip(&self.parts) {
            let each_ns = part.clean.each(STEPS_MIN).unwrap_or_else(|| bound(part));
            *weight = (each_ns / mean_ns).clamp(0.25, 4.0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order::new(0..1000, &(0..1000).collect::<Vec<_>>())
    }

    /// A cycle of a touch each millisecond, slow blocks taking four.
    fn cycle(pace: &mut Pace, order: &Order, start_ns: u64, touch: impl Fn(BlockId) -> (Touch, bool)) -> u64 {
        let mut now_ns = start_ns;
        for id in 0..1000 {
            let (kind, full) = touch(id);
            pace.touched(order, id, kind, now_ns, full);
            now_ns += if id < 500 { 4_000_000 } else { 1_000_000 };
        }
        now_ns
    }

    #[test]
    fn what_is_bound_by_one_side_is_not_evened_out() {
        for (touch, full) in [(Touch::Reading, false), (Touch::Staged, true)] {
            let (order, mut pace) = (order(), Pace::new());
            cycle(&mut pace, &order, 0, |_| (touch, full));
            assert!(!pace.close());
            assert_eq!(pace.cost(&order, 1), 1.0);
        }
    }

    #[test]
    fn waits_in_one_part_and_rests_in_another_are() {
        let (order, mut pace) = (order(), Pace::new());
        let uneven = |id| if id < 500 { (Touch::Staged, true) } else { (Touch::Reading, false) };
        let mut now_ns = cycle(&mut pace, &order, 0, uneven);
        assert!(pace.close());
        assert!(pace.cost(&order, 1) >= 1.0 && pace.cost(&order, 999) < 0.5);
        // What it does not mend is tried again less and less often.
        let mut tries = 0;
        for _ in 0..30 {
            now_ns = cycle(&mut pace, &order, now_ns, uneven);
            tries += u32::from(pace.close());
        }
        assert!((2..=4).contains(&tries), "{tries}");
    }
}
