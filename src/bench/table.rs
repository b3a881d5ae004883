//! The report as a table: on the terminal and in Markdown.

use super::cell::{bytes, number, percent};
use super::experts;
use super::pairs::Pairs;
use super::plan::Who;
use super::record::TextMatch;
use super::report::Report;
use super::summary::{Speedup, Summary};
use crate::config::ByteSize;

/// Tokens after the first of which each is shown.
const TOKENS_SHOWN: usize = 12;

fn text(text: TextMatch) -> String {
    match text {
        TextMatch::Reference => "reference".to_owned(),
        TextMatch::Identical => "identical".to_owned(),
        TextMatch::Shorter(bytes) => format!("identical but for {bytes} lost bytes at the end"),
        TextMatch::Differs(at) => format!("DIFFERS from byte {at} on"),
        TextMatch::Missing => "-".to_owned(),
    }
}

/// The cells: a heading for each contender, then a line for each figure that any of them has.
fn cells(report: &Report) -> (Vec<String>, Vec<Vec<String>>) {
    type Cell = Box<dyn Fn(&Summary) -> String>;
    let mut lines: Vec<(String, Cell)> = Vec::new();
    let mut line = |name: &str, cell: fn(&Summary) -> String| lines.push((name.to_owned(), Box::new(cell)));
    let unit = report.unit;
    line("tokens/s", |it| number(it.tokens_per_s, 3));
    if unit == "step" {
        line("tokens/step", |it| number(it.tokens_per_step, 2));
    }
    line(&format!("ms/{unit}"), |it| number(it.ms_per_token, 1));
    line("p50 ms", |it| number(it.gap_p50_ms, 1));
    line("p99 ms", |it| number(it.gap_p99_ms, 1));
    line("of the speed in memory", |it| percent(it.in_memory_share));
    line("... were its reads hidden", |it| percent(it.overlapped_share));
    line("T_min/T", |it| percent(it.roofline_share));
    line("T_min/T against the limit", |it| percent(it.roofline_share_of_limit));
    line(&format!("read/{unit}"), |it| bytes(it.bytes_per_token));
    line("x bytes_min", |it| number(it.bytes_ratio, 3));
    line("of the drive", |it| percent(it.drive_share));
    line("of the drive's limit", |it| percent(it.drive_share_of_limit));
    line("reads in flight", |it| number(it.reads_in_flight, 1));
    for (name, cell) in experts::LINES {
        lines.push((name.to_owned(), Box::new(move |it| cell(&it.experts))));
    }
    let mut line = |name: &str, cell: fn(&Summary) -> String| lines.push((name.to_owned(), Box::new(cell)));
    line("reads in flight, whole run", |it| number(it.reads_in_flight_of_run, 1));
    line(&format!("stall ms/{unit}, all threads"), |it| number(it.stall_ms_per_token, 1));
    line("stall s, whole run", |it| number(it.stall_s_of_run, 2));
    line("pager CPU s/GB", |it| number(it.pager_cpu_s_per_gb, 3));
    line("pager CPU s/GB, whole run", |it| number(it.pager_cpu_s_per_gb_of_run, 3));
    line("prompt tokens", |it| number(it.prompt_tokens, 0));
    line("prefill ms", |it| number(it.prefill_ms, 0));
    line("prefill ms/token", |it| number(it.prompt_ms_per_token, 1));
    line("prefill T_min/T", |it| percent(it.prefill_roofline_share));
    line("read in prefill", |it| bytes(it.prefill_bytes));
    line("x bytes_min, each ubatch", |it| number(it.prefill_bytes_ratio, 3));
    line("first token s", |it| number(it.first_token_s, 2));
    line("load rate", |it| it.load_bytes_per_s.map_or("-".to_owned(), |rate| bytes(Some(rate)) + "/s"));
    line("load rate of the drive", |it| percent(it.load_drive_share));
    for (index, stock) in report.summaries.first().into_iter().flat_map(|it| it.speedups.iter().enumerate()) {
        let mut ratio = |name: &str, value: fn(&Speedup) -> Option<f64>| {
            let cell = move |it: &Summary| number(it.speedups.get(index).and_then(|pair| value(&pair.1)), 2);
            lines.push((format!("{name} x stock, {}", stock.0), Box::new(cell)));
        };
        ratio("decode", |speedup| speedup.decode);
        ratio("prefill", |speedup| speedup.prefill);
        ratio("first token", |speedup| speedup.first_token);
    }
    let mut line = |name: &str, cell: fn(&Summary) -> String| lines.push((name.to_owned(), Box::new(cell)));
    line("time by turns over that without log", |it| {
        it.pairs.as_ref().map_or("-".to_owned(), |pairs| format!("{:.4} ({} pairs)", pairs.ratio, pairs.count))
    });
    line("its 95 % interval", |it| {
        it.pairs.as_ref().map_or("-".to_owned(), |pairs| format!("{:.4} to {:.4}", pairs.interval.0, pairs.interval.1))
    });
    line("its medians in the rounds", |it| {
        let medians = |pairs: &Pairs| pairs.rounds.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>();
        it.pairs.as_ref().map_or("-".to_owned(), |pairs| medians(pairs).join(" "))
    });
    line("pager CPU beyond that, ms/token", |it| number(it.pairs.as_ref().map(|pairs| pairs.pager_cpu_ms), 3));
    line("peak memory", |it| bytes(it.memory_peak_bytes.map(|bytes| bytes as f64)));
    line("text", |it| text(it.text));
    let rows = lines
        .into_iter()
        .map(|(name, cell)| std::iter::once(name).chain(report.summaries.iter().map(&cell)).collect::<Vec<_>>());
    let told = rows.filter(|row| row.len() == 1 || row[1..].iter().any(|cell| cell != "-"));
    (headings(report, ""), told.collect())
}

fn headings(report: &Report, first: &str) -> Vec<String> {
    let names = report.summaries.iter().map(|summary| report.name(summary));
    std::iter::once(first.to_owned()).chain(names).collect()
}

/// Token by token: milliseconds and bytes read of the first ones after the prompt, and of the last.
fn tokens(report: &Report) -> (Vec<String>, Vec<Vec<String>>) {
    let count = report.summaries.iter().map(|summary| summary.gaps.len()).max().unwrap_or(0);
    let told = (0..count).filter(|&index| index < TOKENS_SHOWN || index + 1 == count);
    let rows = told.map(|index| {
        let cell = |summary: &Summary| match summary.gaps.get(index) {
            Some(gap) => format!("{:.0} ms, {}", gap.ms, bytes(Some(gap.bytes))),
            None => "-".to_owned(),
        };
        std::iter::once((index + 1).to_string()).chain(report.summaries.iter().map(cell)).collect()
    });
    (headings(report, "after the first token"), rows.collect())
}

/// The table as text, without lines: name, then a cell for each contender.
pub fn lines(report: &Report) -> Vec<Vec<String>> {
    let (headings, rows) = cells(report);
    std::iter::once(headings).chain(rows).collect()
}

/// What the roofline is made of, one line a lane and number of threads.
fn bounds(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let unit = report.unit;
    let sources = [
        ("the ceiling", report.drive_bytes_per_s),
        ("the limit", report.drive_limit_bytes_per_s.map(|limit| limit as f64)),
    ];
    for (lane, bounds) in report.bounds.iter().enumerate() {
        notes.push(format!("{}: every {unit} reads {}", bounds.name, ByteSize(bounds.cycle.bytes)));
        if bounds.cycle.has_experts {
            notes.push(format!("bytes_min is not defined here: which experts a {unit} reads is known only afterwards"));
        }
        let (Some(least), Some(budget)) = (bounds.bytes_min, bounds.budget_bytes) else { continue };
        notes.push(format!(
            "{}: bytes_min (cycle less budget, Belady) {} with a budget of {}",
            bounds.name,
            ByteSize(least),
            ByteSize(budget)
        ));
        let in_memory = report.summaries.iter().filter(|it| it.contender.who == Who::InMemory && it.lane == lane);
        for (summary, compute) in in_memory.filter_map(|it| Some((it, it.ms_per_token?))) {
            for (name, rate) in sources {
                let Some(rate) = rate else { continue };
                let reading = least as f64 / rate * 1e3;
                let verdict = if reading <= compute { "in time" } else { "not in time: the drive sets the pace" };
                notes.push(format!(
                    "{}, -t {}: computing takes {compute:.1} ms, reading bytes_min at {name} {reading:.1} ms ({verdict})",
                    bounds.name, summary.contender.threads
                ));
            }
        }
    }
    notes
}

/// What stands after the table, one line each.
fn notes(report: &Report) -> Vec<String> {
    let mut notes: Vec<String> = report.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let drive = report.drive_bytes_per_s.map(|rate| ByteSize(rate as u64));
    notes.push(format!("drive ceiling W: {}", drive.map_or("unknown".to_owned(), |rate| format!("{rate}/s"))));
    notes.extend(bounds(report));
    notes.push(
        "ms/token is llama.cpp's own time, the median of the rounds; p50 and p99 are of the gaps between tokens as they \
         arrive, all rounds together; bytes are read_bytes of /proc/PID/io between first and last token; pager CPU is that \
         of its threads, stall and reads in flight are what its live page says, between first and last token; ratios are formed within a round"
            .to_owned(),
    );
    if report.skip > 0 {
        notes
            .push(format!("the first {} gaps of each turn do not count, but for the list token by token", report.skip));
    }
    for summary in &report.summaries {
        notes.extend(summary.failures.iter().map(|failure| format!("{} failed: {failure}", report.name(summary))));
    }
    notes.extend(report.remarks.iter().cloned());
    notes
}

/// For the terminal.
pub fn terminal(report: &Report) -> String {
    let table = |(headings, rows): (Vec<String>, Vec<Vec<String>>)| {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(headings);
        rows.into_iter().for_each(|row| {
            table.add_row(row);
        });
        table
    };
    format!("{}\n{}\n{}\n", table(cells(report)), table(tokens(report)), notes(report).join("\n"))
}

/// For documents.
pub fn markdown(report: &Report) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut out = String::new();
    for (headings, rows) in [cells(report), tokens(report)] {
        out.push_str(&line(&headings));
        out.push_str(&format!("|{}\n", "---|".repeat(headings.len())));
        rows.iter().for_each(|row| out.push_str(&line(row)));
        out.push('\n');
    }
    notes(report).iter().for_each(|note| out.push_str(&format!("- {note}\n")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lane::Gap;
    use crate::bench::summary::summarize;
    use crate::bench::summary::tests::{STOCK, bounds, yardstick};

    #[test]
    fn every_row_has_every_column_and_failures_are_told() {
        let bounds = bounds(Some(5));
        let mut summary = summarize(&[], STOCK, yardstick(&bounds));
        summary.failures.push("killed | twice".to_owned());
        summary.ms_per_token = Some(7.25);
        summary.prefill_bytes_ratio = Some(1.5);
        summary.gaps = (0..20).map(|n| Gap { ms: f64::from(n), bytes: 3e6 }).collect();
        summary.speedups[0].1.first_token = Some(1.25);
        let report = Report {
            version: "0",
            settings: vec![("model", "m.gguf".to_owned())],
            remarks: vec!["a remark".to_owned()],
            lanes: &[],
            unit: "step",
            bounds: vec![bounds],
            skip: 1,
            drive_bytes_per_s: Some(8e8),
            drive_limit_bytes_per_s: None,
            summaries: vec![summary],
            rounds: Vec::new(),
        };
        let markdown = markdown(&report);
        let table: Vec<_> = markdown.lines().take_while(|line| !line.is_empty()).collect();
        assert!(table.len() == 5 && table.iter().all(|line| line.matches('|').count() == 3), "{markdown}");
        let told = [
            "- model: m.gguf",
            "800.00 MB/s",
            "a remark",
            "killed | twice",
            "| ms/step | 7.2 |",
            "| x bytes_min, each ubatch | 1.500 |",
            "| first token x stock, own readahead | 1.25 |",
            "| 20 | 19 ms, 3.00 MB |",
        ];
        for text in told {
            assert!(markdown.contains(text), "{text}\n{markdown}");
        }
        // What nobody has is left out.
        assert!(!markdown.contains("peak memory"), "{markdown}");
        assert!(terminal(&report).contains("stock, own readahead"));
    }
}
