//! The report as a picture: milliseconds per token, a bar to the median and a whisker to the 99th
//! percentile for each contender, and the roofline as a line; below it the bytes that each token
//! read; below that all figures as text.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::plan::Who;
use super::report::Report;
use super::roofline;
use super::summary::Summary;
use super::table;

const WIDTH: u32 = 1100;
const ROW_HEIGHT: u32 = 60;
const CURVES_HEIGHT: u32 = 300;
const LINE_HEIGHT: u32 = 18;
const NAME_WIDTH: u32 = 260;
const STOCK_COLOR: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const PAGED_COLOR: RGBColor = RGBColor(0x2b, 0x7a, 0x78);
const MEMORY_COLOR: RGBColor = RGBColor(0xd0, 0xc0, 0x90);

type Area<D> = DrawingArea<D, Shift>;
type Drawn<D> = Result<(), DrawingAreaErrorKind<<D as DrawingBackend>::ErrorType>>;

/// Draws `report`.
///
/// # Errors
/// When no contender has a figure.
pub fn draw(report: &Report) -> anyhow::Result<String> {
    let bars: Vec<&Summary> = report.summaries.iter().filter(|it| it.gap_p99_ms.is_some()).collect();
    anyhow::ensure!(bars.iter().any(|it| it.gap_p99_ms > Some(0.0)), "no run has a figure to draw");
    let lines = table::lines(report);
    let mut out = String::new();
    {
        let bars_height = ROW_HEIGHT * (bars.len() as u32 + 2);
        let height = bars_height + CURVES_HEIGHT + LINE_HEIGHT * (lines.len() as u32 + 2);
        let root = SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area();
        paint(&root, report, &bars, bars_height, &lines).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(out)
}

fn paint<D: DrawingBackend>(
    root: &Area<D>,
    report: &Report,
    bars: &[&Summary],
    bars_height: u32,
    lines: &[Vec<String>],
) -> Drawn<D> {
    root.fill(&WHITE)?;
    let (upper, rest) = root.split_vertically(bars_height);
    let (middle, lower) = rest.split_vertically(CURVES_HEIGHT);
    paint_bars(&upper, report, bars)?;
    paint_curves(&middle, report)?;
    paint_text(&lower, lines)?;
    root.present()
}

fn color(summary: &Summary) -> RGBColor {
    match summary.contender.who {
        Who::InMemory => MEMORY_COLOR,
        Who::Stock(_) => STOCK_COLOR,
        Who::Paged(..) => PAGED_COLOR,
    }
}

fn paint_bars<D: DrawingBackend>(area: &Area<D>, report: &Report, bars: &[&Summary]) -> Drawn<D> {
    let most = bars.iter().filter_map(|it| it.gap_p99_ms).fold(0.0, f64::max) * 1.15;
    let names: Vec<String> = bars.iter().map(|summary| report.name(summary)).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("milliseconds per {}: median, whisker to the 99th percentile", report.unit),
            ("sans-serif", 18),
        )
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(NAME_WIDTH)
        .build_cartesian_2d(0.0..most, (0..names.len()).into_segmented())?;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(index) => names.get(*index).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    chart.configure_mesh().disable_y_mesh().y_labels(names.len()).y_label_formatter(&label).x_desc("ms").draw()?;
    for (index, summary) in bars.iter().enumerate() {
        let (Some(p50), Some(p99)) = (summary.gap_p50_ms, summary.gap_p99_ms) else { continue };
        let (low, middle) = (SegmentValue::Exact(index), SegmentValue::CenterOf(index));
        let mut bar = Rectangle::new([(0.0, low), (p50, SegmentValue::Exact(index + 1))], color(summary).filled());
        bar.set_margin(12, 12, 0, 0);
        chart.draw_series([bar])?;
        chart.draw_series([PathElement::new([(p50, middle.clone()), (p99, middle.clone())], BLACK.stroke_width(2))])?;
        chart.draw_series([Text::new(format!(" {p50:.0} / {p99:.0}"), (p99, middle), ("sans-serif", 14))])?;
    }
    // One line for all bars: with several models or numbers of threads there is none.
    let mut in_memory = report.summaries.iter().filter(|it| it.contender.who == Who::InMemory);
    let compute = in_memory.next().and_then(|it| it.ms_per_token);
    let [bounds] = &report.bounds[..] else { return Ok(()) };
    if in_memory.next().is_some() {
        return Ok(());
    }
    if let Some(least) = roofline::t_min_ms(compute, bounds.bytes_min, report.drive_bytes_per_s) {
        let (bottom, top) = (SegmentValue::Exact(0), SegmentValue::Exact(bars.len()));
        chart.draw_series([PathElement::new([(least, bottom), (least, top.clone())], RED.stroke_width(2))])?;
        chart.draw_series([Text::new(
            format!(" roofline {least:.0}"),
            (least, top),
            ("sans-serif", 14).into_font().color(&RED),
        )])?;
    }
    Ok(())
}

fn paint_curves<D: DrawingBackend>(area: &Area<D>, report: &Report) -> Drawn<D> {
    let count = report.summaries.iter().map(|it| it.gaps.len()).max().unwrap_or(0);
    let all = report.summaries.iter().flat_map(|it| &it.gaps).map(|gap| gap.bytes);
    let most = all.chain(report.bounds.iter().filter_map(|it| Some(it.bytes_min? as f64))).fold(1e6, f64::max) / 1e6;
    let mut chart = ChartBuilder::on(area)
        .caption("MB read for each token after the first; red: bytes_min", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(1.0..(count.max(2) as f64), 0.0..most * 1.1)?;
    chart.configure_mesh().disable_x_mesh().draw()?;
    for summary in report.summaries.iter().filter(|it| it.contender.who != Who::InMemory) {
        let points = summary.gaps.iter().enumerate().map(|(index, gap)| (index as f64 + 1.0, gap.bytes / 1e6));
        chart.draw_series(LineSeries::new(points, color(summary).stroke_width(2)))?;
    }
    for least in report.bounds.iter().filter_map(|it| Some(it.bytes_min? as f64 / 1e6)) {
        chart.draw_series(LineSeries::new([(1.0, least), (count.max(2) as f64, least)], RED))?;
    }
    Ok(())
}

fn paint_text<D: DrawingBackend>(area: &Area<D>, lines: &[Vec<String>]) -> Drawn<D> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1).max(1) as u32;
    let width = (WIDTH - NAME_WIDTH) / columns;
    for (row, cells) in lines.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            let x = if column == 0 { 10 } else { NAME_WIDTH + (column as u32 - 1) * width };
            let y = LINE_HEIGHT * (row as u32 + 1);
            area.draw(&Text::new(cell.clone(), (x as i32, y as i32), ("sans-serif", 12)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lane::Gap;
    use crate::bench::plan::Contender;
    use crate::bench::summary::summarize;
    use crate::bench::summary::tests::{PAGED, STOCK, bounds, yardstick};

    #[test]
    fn every_contender_the_roofline_and_all_figures_are_drawn() {
        let bounds = bounds(Some(1_000_000));
        let summary = |contender: Contender, p50, p99| Summary {
            gap_p50_ms: p50,
            gap_p99_ms: p99,
            gaps: vec![Gap { ms: 1.0, bytes: 2e6 }; 3],
            load_bytes_per_s: Some(1.5e9),
            ..summarize(&[], contender, yardstick(&bounds))
        };
        let mut report = Report {
            version: "0",
            settings: Vec::new(),
            remarks: Vec::new(),
            lanes: &[],
            unit: "token",
            bounds: vec![bounds.clone()],
            skip: 0,
            drive_bytes_per_s: Some(1e6),
            drive_limit_bytes_per_s: None,
            summaries: vec![summary(STOCK, Some(5000.0), Some(7000.0)), summary(PAGED, Some(1200.0), Some(1300.0))],
            rounds: Vec::new(),
        };
        let svg = draw(&report).unwrap();
        for text in ["stock, own readahead", "ggpager learned", "5000 / 7000", "roofline 1000", "1.50 GB/s"] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        report.summaries.clear();
        assert!(draw(&report).is_err());
    }
}
