//! Tests of the accounts.

use super::*;
use crate::stats::{ExpertStats, ForetellerStats};

#[test]
fn chosen_bytes_are_told_by_cause() {
    let mut meter = Meter::new();
    let (gate, together) = (Origin::Guessed(Foreteller::Gate), Origin::Guessed(Foreteller::CoOccurrence));
    let choices = [
        (State::Present, Origin::Used),
        (State::Staged, gate),
        (State::Present, together),
        (State::Staged, Origin::Idle),
        (State::Reading, gate),
        (State::Reading, Origin::Idle),
        (State::Absent, Origin::Unasked),
        (State::Poisoned, Origin::Used),
    ];
    for (place, (state, origin)) in choices.into_iter().enumerate() {
        meter.chosen(1 << place, state, origin);
    }
    for (bytes, origin) in [(300, gate), (40, Origin::Idle), (5, Origin::Used)] {
        meter.expert_read(bytes, origin);
    }
    [true, false, false].into_iter().for_each(|begun| meter.chosen_absent(begun));
    let outcome =
        Outcome { by: Foreteller::CoOccurrence, guessed: 4, right: 3, chosen: 8, read_bytes: 90, used_bytes: 60 };
    (1..=2).for_each(|pauses| meter.guessed(outcome, pauses));
    let expected = ExpertStats {
        chosen_bytes: 0xff,
        held_used_bytes: 1,
        held_gate_bytes: 2,
        held_co_occurrence_bytes: 4,
        held_idle_bytes: 8,
        in_flight_bytes: 0x30,
        missing_bytes: 0xc0,
        // Both kinds of guess, the one in flight, and what was absent.
        needed_bytes: 2 + 4 + 0x10 + 0x40,
        read_bytes: 345,
        idle_read_bytes: 40,
        waste_permille: 0,
        touches_not_begun: 2,
        touches_evicted: 1,
        gate: ForetellerStats::default(),
        co_occurrence: ForetellerStats {
            chosen: 16,
            guesses: 8,
            right: 6,
            read_bytes: 180,
            wasted_bytes: 60,
            pauses: 2,
        },
    };
    assert_eq!(meter.stats.experts, expected);
    assert_eq!(expected.held_bytes() + expected.in_flight_bytes + expected.missing_bytes, expected.chosen_bytes);
    assert_eq!(expected.read_amplification(), Some(305.0 / 86.0));
}
