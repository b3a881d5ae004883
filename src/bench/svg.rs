//! The report as a picture: milliseconds per token, a bar to the median and a whisker to the 99th
//! percentile for each contender, and the roofline as a line.

use anyhow::anyhow;
use plotters::prelude::*;

use super::Report;
use super::plan::Contender;
use super::roofline;

const WIDTH: u32 = 900;
const ROW_HEIGHT: u32 = 60;
const STOCK_COLOR: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const PAGED_COLOR: RGBColor = RGBColor(0x2b, 0x7a, 0x78);
const MEMORY_COLOR: RGBColor = RGBColor(0xd0, 0xc0, 0x90);

/// Draws `report`.
///
/// # Errors
/// When no contender has a figure.
pub fn draw(report: &Report) -> anyhow::Result<String> {
    let bars: Vec<(Contender, f64, f64)> =
        report.summaries.iter().filter_map(|it| Some((it.contender, it.gap_p50_ms?, it.gap_p99_ms?))).collect();
    let most = bars.iter().map(|bar| bar.2).fold(0.0, f64::max);
    anyhow::ensure!(most > 0.0, "no run has a figure to draw");
    let mut out = String::new();
    {
        let height = ROW_HEIGHT * (bars.len() as u32 + 2);
        let root = SVGBackend::with_string(&mut out, (WIDTH, height)).into_drawing_area();
        paint(&root, report, &bars, most * 1.15).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(out)
}

fn paint<D: DrawingBackend>(
    root: &DrawingArea<D, plotters::coord::Shift>,
    report: &Report,
    bars: &[(Contender, f64, f64)],
    most: f64,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    root.fill(&WHITE)?;
    let names: Vec<String> = bars.iter().map(|bar| bar.0.to_string()).collect();
    let mut chart = ChartBuilder::on(root)
        .caption("milliseconds per token: median, whisker to the 99th percentile", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..most, (0..names.len()).into_segmented())?;
    let label = |segment: &SegmentValue<usize>| match segment {
        SegmentValue::CenterOf(index) => names.get(*index).cloned().unwrap_or_default(),
        _ => String::new(),
    };
    chart.configure_mesh().disable_y_mesh().y_labels(names.len()).y_label_formatter(&label).x_desc("ms").draw()?;
    for (index, &(contender, p50, p99)) in bars.iter().enumerate() {
        let color = match contender {
            Contender::InMemory => MEMORY_COLOR,
            Contender::Stock(_) => STOCK_COLOR,
            Contender::Paged(_) => PAGED_COLOR,
        };
        let (low, middle) = (SegmentValue::Exact(index), SegmentValue::CenterOf(index));
        let mut bar = Rectangle::new([(0.0, low), (p50, SegmentValue::Exact(index + 1))], color.filled());
        bar.set_margin(12, 12, 0, 0);
        chart.draw_series([bar])?;
        chart.draw_series([PathElement::new([(p50, middle.clone()), (p99, middle.clone())], BLACK.stroke_width(2))])?;
        chart.draw_series([Text::new(format!(" {p50:.0} / {p99:.0}"), (p99, middle), ("sans-serif", 14))])?;
    }
    if let Some(least) = roofline::t_min_ms(report.compute_ms, report.bounds.bytes_min, report.drive_bytes_per_s) {
        let (bottom, top) = (SegmentValue::Exact(0), SegmentValue::Exact(bars.len()));
        chart.draw_series([PathElement::new([(least, bottom), (least, top.clone())], RED.stroke_width(2))])?;
        chart.draw_series([Text::new(
            format!(" roofline {least:.0}"),
            (least, top),
            ("sans-serif", 14).into_font().color(&RED),
        )])?;
    }
    root.present()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Readahead;
    use crate::bench::record::TextMatch;
    use crate::bench::summary::{Bounds, Summary, summarize};
    use crate::config::Strategy;

    #[test]
    fn every_contender_and_the_roofline_are_drawn() {
        let bounds = Bounds { bytes_min: Some(1_000_000), skip: 0 };
        let summary = |contender, p50, p99| Summary {
            gap_p50_ms: p50,
            gap_p99_ms: p99,
            text: TextMatch::Identical,
            ..summarize(&[], contender, &[], bounds)
        };
        let mut report = Report {
            version: "0",
            settings: Vec::new(),
            remarks: Vec::new(),
            cycle: None,
            budget_bytes: None,
            bounds,
            drive_bytes_per_s: Some(1e6),
            compute_ms: Some(3.0),
            summaries: vec![
                summary(Contender::Stock(Readahead::Own), Some(5000.0), Some(7000.0)),
                summary(Contender::Paged(Strategy::Learned), Some(1200.0), Some(1300.0)),
            ],
            rounds: Vec::new(),
        };
        let svg = draw(&report).unwrap();
        for text in ["stock, own readahead", "ggpager learned", "5000 / 7000", "roofline 1000"] {
            assert!(svg.contains(text), "{text}\n{svg}");
        }
        report.summaries.clear();
        assert!(draw(&report).is_err());
    }
}
