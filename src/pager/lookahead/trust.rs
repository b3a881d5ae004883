//! Whether guesses are worth their reads.

use super::guess::Outcome;
use crate::trace::Foreteller;

/// A wasted byte counts as much as so many used ones. It takes the drive, the pager and the memory of a colder expert, where a
/// used one only comes some moments earlier than it would have come anyway.
const PRICE: i64 = 3;

/// A nanosecond of the pager's processor time counts as so many wasted bytes: what a drive reads in it. Where few experts
/// are missing, guesses bring little, and the processor that they take is one that the program computes with.
const BYTES_PER_NS: i64 = 1;

/// Bytes that may be wasted beyond what was used pays for before guessing stops.
const CREDIT_BYTES: i64 = 16 << 20;

/// Choices of layers for which guessing stops at first, and at most: each time it is twice as long.
const PAUSE_MIN: u32 = 2048;
const PAUSE_MAX: u32 = 1 << 16;

/// The account of what one foreteller's guesses brought and cost.
#[derive(Debug)]
pub struct Trust {
    /// What used bytes pay for, less wasted ones, in bounds.
    balance: i64,
    /// Choices of layers to come in which there is no guessing.
    pause: u32,
    next_pause: u32,
    pauses: u64,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust { balance: CREDIT_BYTES, pause: 0, next_pause: PAUSE_MIN, pauses: 0 }
    }
}

impl Trust {
    /// A layer's router has chosen.
    pub fn pass(&mut self) {
        self.pause = self.pause.saturating_sub(1);
    }

    /// Whether to guess at the next choice.
    pub fn allows(&self) -> bool {
        self.pause == 0
    }

    /// Times that guessing has paused.
    pub fn pauses(&self) -> u64 {
        self.pauses
    }

    /// Takes in what has become of a guess.
    pub fn learn(&mut self, outcome: &Outcome) {
        let wasted = outcome.read_bytes - outcome.used_bytes;
        self.balance = (self.balance + outcome.used_bytes as i64 / PRICE - wasted as i64).min(CREDIT_BYTES);
        self.settle(outcome.by);
    }

    /// To ask `by` has taken `spent_ns` of the pager's processor time.
    pub fn charge(&mut self, by: Foreteller, spent_ns: u64) {
        self.balance -= spent_ns as i64 * BYTES_PER_NS;
        self.settle(by);
    }

    fn settle(&mut self, by: Foreteller) {
        if self.balance <= 0 {
            log::info!(
                "guesses at the next layer's experts by {} cost more than they bring: none for a while",
                match by {
                    Foreteller::Gate => "its router",
                    Foreteller::CoOccurrence => "what was chosen together",
                }
            );
            self.pauses += 1;
            self.balance = CREDIT_BYTES;
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_pauses_longer_each_time_it_wastes() {
        let mut trust = Trust::default();
        let mebibyte = 1 << 20;
        let outcome = |used| Outcome {
            by: Foreteller::Gate,
            guessed: 12,
            right: used,
            chosen: 8,
            read_bytes: 12 * mebibyte,
            used_bytes: used * mebibyte,
        };
        (0..1000).for_each(|_| trust.learn(&outcome(9)));
        assert!(trust.allows());
        let mut pauses = Vec::new();
        for _ in 0..2 {
            // Every other one: each guess costs four mebibytes more than it brings.
            let mut learnt = 0;
            while trust.pause == 0 {
                trust.learn(&outcome(6));
                learnt += 1;
            }
            assert_eq!(learnt, 4);
            let mut choices = 0;
            while !trust.allows() {
                trust.pass();
                choices += 1;
            }
            pauses.push(choices);
        }
        assert_eq!(pauses, [PAUSE_MIN, 2 * PAUSE_MIN]);
        assert_eq!(trust.pauses(), 2);
    }

    #[test]
    fn guesses_that_bring_nothing_are_not_free() {
        let mut trust = Trust::default();
        let asked = (1..).find(|_| {
            trust.charge(Foreteller::CoOccurrence, 40_000);
            !trust.allows()
        });
        assert_eq!(asked, Some((16 << 20) / 40_000 + 1));
    }
}
