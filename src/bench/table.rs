//! The report as a table: on the terminal and in Markdown.

use super::Report;
use super::record::TextMatch;
use super::summary::Summary;
use crate::config::ByteSize;

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.1} %", value * 100.0))
}

fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| ByteSize(value as u64).to_string())
}

fn text(text: TextMatch) -> String {
    match text {
        TextMatch::Reference => "reference".to_owned(),
        TextMatch::Identical => "identical".to_owned(),
        TextMatch::Shorter(bytes) => format!("identical but for {bytes} lost bytes at the end"),
        TextMatch::Differs(at) => format!("DIFFERS from byte {at} on"),
        TextMatch::Missing => "-".to_owned(),
    }
}

/// The cells: a heading for each column, then a row for each contender.
fn cells(report: &Report) -> (Vec<String>, Vec<Vec<String>>) {
    type Column = (String, Box<dyn Fn(&Summary) -> String>);
    let column = |name: &str, cell: fn(&Summary) -> String| -> Column { (name.to_owned(), Box::new(cell)) };
    let mut columns: Vec<Column> = vec![
        column("contender", |it| it.contender.to_string()),
        column("tok/s", |it| number(it.tokens_per_s, 3)),
        column("ms/token", |it| number(it.ms_per_token, 1)),
        column("p50 ms", |it| number(it.gap_p50_ms, 1)),
        column("p99 ms", |it| number(it.gap_p99_ms, 1)),
    ];
    for (index, stock) in report.stock().enumerate() {
        columns.push((
            format!("x {stock}"),
            Box::new(move |it| number(it.speedups.get(index).and_then(|pair| pair.1), 2)),
        ));
    }
    columns.extend([
        column("T_min/T", |it| percent(it.roofline_share)),
        column("read/token", |it| bytes(it.bytes_per_token)),
        column("x bytes_min", |it| number(it.bytes_ratio, 3)),
        column("of drive", |it| percent(it.drive_share)),
        column("in flight", |it| number(it.reads_in_flight, 1)),
        column("stall s", |it| number(it.stall_s, 2)),
        column("pager CPU s/GB", |it| number(it.pager_cpu_s_per_gb, 3)),
        column("prompt ms/token", |it| number(it.prompt_ms_per_token, 1)),
        column("first token s", |it| number(it.first_token_s, 2)),
        column("peak memory", |it| bytes(it.memory_peak_bytes.map(|bytes| bytes as f64))),
        column("text", |it| text(it.text)),
    ]);
    let rows = report.summaries.iter().map(|summary| columns.iter().map(|(_, cell)| cell(summary)).collect()).collect();
    (columns.into_iter().map(|(name, _)| name).collect(), rows)
}

/// What stands before and after the table, one line each.
fn notes(report: &Report) -> Vec<String> {
    let mut notes: Vec<String> = report.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let drive = report.drive_bytes_per_s.map(|rate| ByteSize(rate as u64));
    notes.push(format!("drive ceiling W: {}", drive.map_or("unknown".to_owned(), |rate| format!("{rate}/s"))));
    notes.push(format!("T_compute (everything in memory): {} ms per token", number(report.compute_ms, 1)));
    if let Some(cycle) = report.cycle {
        notes.push(format!("bytes every token reads: {}", ByteSize(cycle.bytes)));
        if cycle.has_experts {
            notes
                .push("bytes_min is not defined here: which experts a token reads is known only afterwards".to_owned());
        }
    }
    if let (Some(least), Some(budget)) = (report.bounds.bytes_min, report.budget_bytes) {
        notes.push(format!(
            "bytes_min (cycle less budget, Belady): {} with a budget of {}",
            ByteSize(least),
            ByteSize(budget)
        ));
    }
    notes.push(
        "ms/token is llama.cpp's own eval time per token, the median of the rounds; p50 and p99 are of the gaps between tokens \
         as they arrive on a pipe, all rounds together; bytes are read_bytes of /proc/PID/io between first and last token; ratios \
         are formed within a round"
            .to_owned(),
    );
    for summary in &report.summaries {
        notes.extend(summary.failures.iter().map(|failure| format!("{} failed: {failure}", summary.contender)));
    }
    notes.extend(report.remarks.iter().cloned());
    notes
}

/// For the terminal: a column for each contender, since there are more figures than contenders.
pub fn terminal(report: &Report) -> String {
    let (headings, rows) = cells(report);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    for (index, heading) in headings.iter().enumerate() {
        let line = std::iter::once(heading).chain(rows.iter().map(|row| &row[index]));
        if index == 0 {
            table.set_header(line);
        } else {
            table.add_row(line);
        }
    }
    format!("{table}\n{}\n", notes(report).join("\n"))
}

/// For documents.
pub fn markdown(report: &Report) -> String {
    let (headings, rows) = cells(report);
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut out = line(&headings);
    out.push_str(&format!("|{}\n", "---|".repeat(headings.len())));
    rows.iter().for_each(|row| out.push_str(&line(row)));
    out.push('\n');
    notes(report).iter().for_each(|note| out.push_str(&format!("- {note}\n")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Contender, Readahead};
    use crate::bench::summary::{Bounds, summarize};

    #[test]
    fn every_row_has_every_column_and_failures_are_told() {
        let stock = Contender::Stock(Readahead::KiB(128));
        let bounds = Bounds { bytes_min: Some(5), skip: 0 };
        let mut summary = summarize(&[], stock, &[stock], bounds);
        summary.failures.push("killed | twice".to_owned());
        let report = Report {
            version: "0",
            settings: vec![("model", "m.gguf".to_owned())],
            remarks: vec!["a remark".to_owned()],
            cycle: None,
            budget_bytes: Some(1),
            bounds,
            drive_bytes_per_s: Some(8e8),
            compute_ms: None,
            summaries: vec![summary],
            rounds: Vec::new(),
        };
        let markdown = markdown(&report);
        let widths: Vec<_> = markdown.lines().take(3).map(|line| line.matches('|').count()).collect();
        assert!(widths.iter().all(|&width| width == widths[0]) && widths[0] > 15, "{widths:?}\n{markdown}");
        for text in ["- model: m.gguf", "800.00 MB/s", "a remark", "killed | twice"] {
            assert!(markdown.contains(text), "{text}\n{markdown}");
        }
        assert!(terminal(&report).contains("stock, 128 KiB readahead"));
    }
}
