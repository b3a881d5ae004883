//! The replay as a picture: tokens per second, and bytes read per token, over the memory size; a curve a
//! policy and a row a drive.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::case::{Case, Contender, Outcome};
use super::drive;
use super::report::Report;
use crate::sim::Drive;

const WIDTH: u32 = 1200;
const ROW_HEIGHT: u32 = 460;
const LEGEND_HEIGHT: u32 = 60;

type Area<D> = DrawingArea<D, Shift>;
type Drawn<D> = Result<(), DrawingAreaErrorKind<<D as DrawingBackend>::ErrorType>>;
/// One of the two figures: its title, its axis, and what an outcome says of it.
type Figure = (&'static str, &'static str, fn(&Outcome) -> f64);

const FIGURES: [Figure; 2] = [
    ("speed", "tokens per second", |outcome| outcome.tokens_per_s),
    ("reads", "GB read per token", |outcome| outcome.read_bytes / 1e9),
];

/// Colours that stay apart for the colour-blind (M. Okabe, K. Ito, "Color Universal Design", 2008), and
/// greys; the pager's own stand out.
fn style(policy: Contender) -> (RGBColor, u32) {
    match policy {
        Contender::Belady => (BLACK, 2),
        Contender::Experts => (RGBColor(0x8b, 0x45, 0x13), 4),
        Contender::Learned => (RGBColor(0xd5, 0x5e, 0x00), 4),
        Contender::Readahead => (RGBColor(0x00, 0x72, 0xb2), 3),
        Contender::Demand => (RGBColor(0x00, 0x9e, 0x73), 2),
        Contender::Lru => (RGBColor(0xcc, 0x79, 0xa7), 2),
        Contender::S3Fifo => (RGBColor(0x56, 0xb4, 0xe9), 2),
        Contender::Mru => (RGBColor(0xe6, 0x9f, 0x00), 2),
        Contender::Fifo => (RGBColor(0x60, 0x60, 0x60), 1),
        Contender::Clock => (RGBColor(0x90, 0x90, 0x90), 1),
        Contender::Lfu => (RGBColor(0xb8, 0xb8, 0x60), 1),
    }
}

/// Draws `report`.
///
/// # Errors
/// When no case has an outcome.
pub fn draw(report: &Report) -> anyhow::Result<String> {
    anyhow::ensure!(report.cases.iter().any(|row| row.outcome.is_some()), "no case has an outcome to draw");
    let mut out = String::new();
    {
        let drives = report.drives();
        let size = (WIDTH, LEGEND_HEIGHT + ROW_HEIGHT * drives.len() as u32);
        let root = SVGBackend::with_string(&mut out, size).into_drawing_area();
        paint(&root, report, &drives).map_err(|error| anyhow!("{error}"))?;
    }
    Ok(out)
}

fn paint<D: DrawingBackend>(root: &Area<D>, report: &Report, drives: &[Drive]) -> Drawn<D> {
    root.fill(&WHITE)?;
    let (legend, mut rest) = root.split_vertically(LEGEND_HEIGHT);
    paint_legend(&legend, &report.policies())?;
    for drive in drives {
        let (row, below) = rest.split_vertically(ROW_HEIGHT);
        rest = below;
        let (left, right) = row.split_horizontally(WIDTH / 2);
        for (area, figure) in [left, right].iter().zip(FIGURES) {
            paint_curves(area, report, drive, figure)?;
        }
    }
    root.present()
}

/// One legend for all charts, since curves may coincide.
fn paint_legend<D: DrawingBackend>(area: &Area<D>, policies: &[Contender]) -> Drawn<D> {
    let step = (WIDTH as usize - 40) / policies.len().max(1);
    for (index, &policy) in policies.iter().enumerate() {
        let x = (20 + index * step) as i32;
        let (color, width) = style(policy);
        area.draw(&PathElement::new([(x, 32), (x + 24, 32)], color.stroke_width(width)))?;
        area.draw(&Text::new(policy.to_string(), (x + 30, 25), ("sans-serif", 15)))?;
    }
    Ok(())
}

fn paint_curves<D: DrawingBackend>(area: &Area<D>, report: &Report, drive: &Drive, figure: Figure) -> Drawn<D> {
    let (title, unit, of) = figure;
    let curve = |policy: Contender| -> Vec<(f64, f64)> {
        let at = |&memory_bytes: &u64| {
            let outcome = report.outcome(&Case { memory_bytes, policy, drive: *drive })?;
            Some((memory_bytes as f64 / 1e9, of(outcome)))
        };
        let mut points: Vec<(f64, f64)> = report.memories().iter().filter_map(at).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let curves: Vec<_> = report.policies().into_iter().map(|policy| (policy, curve(policy))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(1e-9, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{title}, drive {}", drive::name(drive)), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(65)
        .build_cartesian_2d(0.0..most(|point| point.0), 0.0..most(|point| point.1))?;
    chart.configure_mesh().x_desc("memory for the model, GB").y_desc(unit).label_style(("sans-serif", 13)).draw()?;
    // The pager's own last, on top.
    for (policy, points) in curves.iter().rev() {
        let (color, width) = style(*policy);
        chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(width)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, width + 1, color.filled())))?;
    }
    Ok(())
}
