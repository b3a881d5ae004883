//! What a contender's whole runs say about experts: figures and the table's lines.

use serde::Serialize;

use super::cell::{bytes, number, percent};
use super::quantile::median;
use crate::stats::{ExpertStats, ForetellerStats};

/// Medians over the rounds, each of the whole run. Shares are of the bytes that routers chose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ExpertFigures {
    /// Share that was in memory.
    pub held: Option<f64>,
    /// ... because it had been used before.
    pub held_used: Option<f64>,
    /// ... because the gate had foretold it.
    pub held_gate: Option<f64>,
    /// ... because co-occurrence had.
    pub held_co_occurrence: Option<f64>,
    /// ... because the drive had nothing better to do.
    pub held_idle: Option<f64>,
    /// Share that was being read.
    pub in_flight: Option<f64>,
    /// Share that was not in memory.
    pub missing: Option<f64>,
    /// Bytes read for experts over those that had to be read, without what an idle drive read.
    pub read_amplification: Option<f64>,
    /// Touches of what was chosen whose read had not begun.
    pub touches_not_begun: Option<f64>,
    /// Touches of what was chosen and had been evicted again.
    pub touches_evicted: Option<f64>,
    /// The next layer's router.
    pub gate: ForetellerFigures,
    /// What was chosen together.
    pub co_occurrence: ForetellerFigures,
}

/// One foreteller; nothing where it was not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ForetellerFigures {
    /// Experts that it foretold.
    pub guesses: Option<f64>,
    /// Share of them that was chosen.
    pub precision: Option<f64>,
    /// Share of what was chosen, while it was asked, that it had foretold.
    pub recall: Option<f64>,
    /// Bytes read for its guesses.
    pub read_bytes: Option<f64>,
    /// Those of them that were not chosen.
    pub wasted_bytes: Option<f64>,
    /// Share of the bytes that was not chosen.
    pub waste: Option<f64>,
    /// Times that it was not asked for a while because of that.
    pub pauses: Option<f64>,
}

impl ExpertFigures {
    /// The figures of `runs`.
    pub fn of(runs: &[&ExpertStats]) -> ExpertFigures {
        let over = |value: &dyn Fn(&ExpertStats) -> Option<f64>| median(runs.iter().filter_map(|run| value(run)));
        let share = |bytes: fn(&ExpertStats) -> u64| over(&|run| run.of_chosen(bytes(run)));
        // Where nobody heard the routers a count of 0 says nothing.
        let count = |count: fn(&ExpertStats) -> u64| over(&|run| (run.chosen_bytes > 0).then(|| count(run) as f64));
        ExpertFigures {
            held: share(ExpertStats::held_bytes),
            held_used: share(|run| run.held_used_bytes),
            held_gate: share(|run| run.held_gate_bytes),
            held_co_occurrence: share(|run| run.held_co_occurrence_bytes),
            held_idle: share(|run| run.held_idle_bytes),
            in_flight: share(|run| run.in_flight_bytes),
            missing: share(|run| run.missing_bytes),
            read_amplification: over(&ExpertStats::read_amplification),
            touches_not_begun: count(|run| run.touches_not_begun),
            touches_evicted: count(|run| run.touches_evicted),
            gate: ForetellerFigures::of(&runs.iter().map(|run| run.gate).collect::<Vec<_>>()),
            co_occurrence: ForetellerFigures::of(&runs.iter().map(|run| run.co_occurrence).collect::<Vec<_>>()),
        }
    }
}

impl ForetellerFigures {
    fn of(runs: &[ForetellerStats]) -> ForetellerFigures {
        let over = |value: fn(&ForetellerStats) -> Option<f64>| median(runs.iter().filter_map(value));
        let count = |count: fn(&ForetellerStats) -> u64| {
            median(runs.iter().filter(|run| run.chosen > 0).map(|run| count(run) as f64))
        };
        ForetellerFigures {
            guesses: count(|run| run.guesses),
            precision: over(ForetellerStats::precision),
            recall: over(ForetellerStats::recall),
            read_bytes: count(|run| run.read_bytes),
            wasted_bytes: count(|run| run.wasted_bytes),
            waste: over(ForetellerStats::waste),
            pauses: count(|run| run.pauses),
        }
    }
}

/// A figure's cell.
pub type Cell = fn(&ExpertFigures) -> String;

/// The lines of the table.
pub const LINES: [(&str, Cell); 22] = [
    ("expert hits, whole run", |it| percent(it.held)),
    ("hits, used before", |it| percent(it.held_used)),
    ("hits, foretold by the gate", |it| percent(it.held_gate)),
    ("hits, foretold by co-occurrence", |it| percent(it.held_co_occurrence)),
    ("hits, read on an idle drive", |it| percent(it.held_idle)),
    ("chosen while being read", |it| percent(it.in_flight)),
    ("chosen and missing", |it| percent(it.missing)),
    ("expert reads x needed", |it| number(it.read_amplification, 3)),
    ("chosen, touched before the read", |it| number(it.touches_not_begun, 0)),
    ("chosen, touched after eviction", |it| number(it.touches_evicted, 0)),
    ("gate: guesses", |it| number(it.gate.guesses, 0)),
    ("gate: precision", |it| percent(it.gate.precision)),
    ("gate: recall", |it| percent(it.gate.recall)),
    ("gate: read", |it| bytes(it.gate.read_bytes)),
    ("gate: read and not used", |it| wasted(&it.gate)),
    ("gate: pauses", |it| number(it.gate.pauses, 0)),
    ("co-occurrence: guesses", |it| number(it.co_occurrence.guesses, 0)),
    ("co-occurrence: precision", |it| percent(it.co_occurrence.precision)),
    ("co-occurrence: recall", |it| percent(it.co_occurrence.recall)),
    ("co-occurrence: read", |it| bytes(it.co_occurrence.read_bytes)),
    ("co-occurrence: read and not used", |it| wasted(&it.co_occurrence)),
    ("co-occurrence: pauses", |it| number(it.co_occurrence.pauses, 0)),
];

fn wasted(of: &ForetellerFigures) -> String {
    match (of.wasted_bytes, of.waste) {
        (Some(_), Some(_)) => format!("{} ({})", bytes(of.wasted_bytes), percent(of.waste)),
        _ => bytes(of.wasted_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_and_say_nothing_where_nothing_was_heard() {
        let of = |gate_bytes, wasted_bytes| ExpertStats {
            chosen_bytes: 1000,
            held_used_bytes: 500 - gate_bytes,
            held_gate_bytes: gate_bytes,
            held_co_occurrence_bytes: 20,
            held_idle_bytes: 30,
            in_flight_bytes: 50,
            missing_bytes: 400,
            needed_bytes: 500,
            read_bytes: 800,
            idle_read_bytes: 275,
            waste_permille: 400,
            touches_not_begun: 3,
            touches_evicted: 2,
            gate: ForetellerStats { chosen: 80, guesses: 40, right: 30, read_bytes: 200, wasted_bytes, pauses: 1 },
            co_occurrence: ForetellerStats::default(),
        };
        let runs = [of(100, 10), of(200, 50), of(100, 30)];
        let it = ExpertFigures::of(&runs.iter().collect::<Vec<_>>());
        let cells: Vec<String> = LINES.iter().map(|(_, cell)| cell(&it)).collect();
        let told = [
            "55.0 %",
            "40.0 %",
            "10.0 %",
            "2.0 %",
            "3.0 %",
            "5.0 %",
            "40.0 %",
            "1.050",
            "3",
            "2",
            "40",
            "75.0 %",
            "37.5 %",
            "200 B",
            "30 B (15.0 %)",
            "1",
            "-",
            "-",
            "-",
            "-",
            "-",
            "-",
        ];
        assert_eq!(cells, told);
        let sum = [it.held_used, it.held_gate, it.held_co_occurrence, it.held_idle, it.in_flight, it.missing];
        assert!((sum.into_iter().flatten().sum::<f64>() - 1.0).abs() < 1e-9, "{it:?}");
        let deaf = ExpertFigures::of(&[&ExpertStats { read_bytes: 7, ..ExpertStats::default() }]);
        assert_eq!(deaf, ExpertFigures::default());
    }
}
