//! The report for the terminal.

use comfy_table::{Cell, ContentArrangement, Table};

use super::cycles::Cycle;
use super::figures::rows;
use super::units::{percent, size, time};
use super::{Report, how};

/// Cycles of a log that are shown: so many of the first, and so many of the last.
const FIRST: usize = 8;
const LAST: usize = 4;

/// Headings of the table of cycles.
pub const CYCLE_HEADINGS: [&str; 10] =
    ["cycle", "start", "length", "read", "absent", "in flight", "staged", "hits", "asleep", "evicted (untouched)"];

/// How the table of cycles is computed.
pub const CYCLE_HOW: &str = "a cycle ends where the policy says so; where it does not, each time that the touches fall back \
     from the last quarter of the layers to the first; + marks rows that are no whole cycle; absent, in flight and staged are touches by how they found \
     the block, several threads at one block counted once; hits: touches that found the block staged; asleep: time with a \
     thread asleep; read: bytes of reads that ended within";

/// The cells of one cycle.
pub fn cycle_cells(cycle: &Cycle) -> Vec<String> {
    let [absent, reading, staged] = cycle.touches;
    let all = absent + reading + staged;
    vec![
        format!("{}{}", cycle.number, if cycle.complete { "" } else { "+" }),
        format!("{:.3} s", cycle.start_s),
        time(cycle.length_s * 1e9),
        size(cycle.read_bytes as f64),
        absent.to_string(),
        reading.to_string(),
        staged.to_string(),
        if all > 0 { percent(staged as f64 / all as f64) } else { "-".to_owned() },
        time(cycle.wall.sum_s() * 1e9),
        format!("{} ({})", cycle.evictions, cycle.evictions_untouched),
    ]
}

/// The first and last cycles, and how many are left out in between.
pub fn some_cycles(cycles: &[Cycle], first: usize, last: usize) -> (Vec<&Cycle>, usize) {
    if cycles.len() <= first + last {
        return (cycles.iter().collect(), 0);
    }
    let left_out = cycles.len() - first - last;
    (cycles[..first].iter().chain(&cycles[first + left_out..]).collect(), left_out)
}

/// The figures of `reports` beside each other, then the cycles of each, in at most `width` columns.
pub fn terminal(reports: &[Report], names: &[String], width: u16) -> String {
    let mut out = String::new();
    let rows = rows(reports);
    for (section, text) in how::SECTIONS {
        let mut table = table(width);
        let values = names.iter().map(String::as_str);
        table.set_header([section].into_iter().chain(values).chain(["how it is computed"]));
        let of_section: Vec<_> = rows.iter().filter(|row| row.section == section).collect();
        if of_section.is_empty() {
            continue;
        }
        for row in of_section {
            let values = row.values.iter().map(Cell::new);
            table.add_row([Cell::new(&row.name)].into_iter().chain(values).chain([Cell::new(row.how)]));
        }
        out.push_str(&format!("{table}\n  {text}\n\n"));
    }
    for (report, name) in reports.iter().zip(names) {
        let mut table = table(width);
        table.set_header(CYCLE_HEADINGS);
        let (cycles, left_out) = some_cycles(&report.cycles, FIRST, LAST);
        cycles.into_iter().for_each(|cycle| {
            table.add_row(cycle_cells(cycle));
        });
        let left_out = if left_out > 0 { format!("; {left_out} in the middle are not shown") } else { String::new() };
        out.push_str(&format!("{name}, cycle by cycle\n{table}\n  {CYCLE_HOW}{left_out}\n\n"));
    }
    out
}

fn table(width: u16) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table
}
