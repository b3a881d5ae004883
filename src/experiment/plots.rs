//! The figures of a group of runs, as charts.

use super::case::{Case, Lock, Way};
use super::report::Group;
use super::sweep::{Cell, CellRate};
use crate::bench::plan::Who;
use crate::bench::quantile::median;
use crate::replay::report::distinct;
use crate::report::svg::{Axis, Chart};

/// Colours of stock and the strategies, in the order of their first run.
const CLASSES: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c6"];
/// Colour of what has everything in memory.
const MEMORY_CLASS: &str = "c5";

/// A chart with its name.
pub type Figure = (String, String);

fn class(ways: &[String], way: &str) -> &'static str {
    let memory = Way(Who::InMemory).to_string();
    if way == memory {
        return MEMORY_CLASS;
    }
    let at = ways.iter().filter(|known| **known != memory).position(|known| known == way).unwrap_or(0);
    CLASSES[at % CLASSES.len()]
}

/// What a chart's vertical axis has to reach.
fn most(points: &[(String, Vec<(f64, f64)>)]) -> f64 {
    points.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(0.0, f64::max) * 1.05
}

/// Curves over `x`, with a dot for each point.
fn curves(what: &str, x: Axis, ways: &[String], points: &[(String, Vec<(f64, f64)>)]) -> String {
    let mut chart = Chart::new(what, x, Axis::linear(0.0, most(points), "tokens per second"));
    for (way, points) in points.iter().filter(|(_, points)| !points.is_empty()) {
        let class = class(ways, way);
        chart.legend(class, way.clone());
        chart.line(class, points.iter().copied());
        chart.dots(class, 6.0, points.iter().copied());
    }
    chart.finish()
}

fn swappiness_name(swappiness: Option<u32>) -> String {
    swappiness.map_or("no swap".to_owned(), |swappiness| format!("swappiness {swappiness}"))
}

/// Tokens per second over memory, a chart for each swappiness and a curve for each strategy.
pub fn by_memory(group: &Group) -> Vec<Figure> {
    let ways = group.ways();
    let limited = group.rows_where(|case| case.is_plain() && case.way.0 != Who::InMemory);
    let mut figures = Vec::new();
    for swappiness in distinct(limited.iter().map(|(case, _)| case.swappiness)) {
        let memory = distinct(limited.iter().map(|(case, _)| case.memory_percent));
        let points = |way: &String| {
            let at = |&percent: &u32| {
                let here = |case: &Case| {
                    let is_memory = case.way.0 == Who::InMemory;
                    case.is_plain()
                        && case.way.to_string() == *way
                        && (is_memory || case.memory_percent == percent && case.swappiness == swappiness)
                };
                Some((f64::from(percent), group.tokens_per_s(here)?))
            };
            let mut points: Vec<(f64, f64)> = memory.iter().filter_map(at).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let points: Vec<_> = ways.iter().map(|way| (way.clone(), points(way))).collect();
        let largest = memory.iter().max().map_or(100.0, |&percent| f64::from(percent));
        let x = Axis::linear(0.0, largest, "memory for the model, % of it");
        let chart = curves("tokens per second by memory", x, &ways, &points);
        figures.push((swappiness_name(swappiness), chart));
    }
    figures
}

/// Tokens per second over swappiness, a chart for each memory size.
pub fn by_swappiness(group: &Group) -> Vec<Figure> {
    let ways = group.ways();
    let swapped = group.rows_where(|case| case.is_plain() && case.swappiness.is_some());
    let mut figures = Vec::new();
    for percent in distinct(swapped.iter().map(|(case, _)| case.memory_percent)) {
        let values = distinct(swapped.iter().filter_map(|(case, _)| case.swappiness));
        let points = |way: &String| {
            let at = |&swappiness: &u32| {
                let here = |case: &Case| {
                    case.is_plain()
                        && case.way.to_string() == *way
                        && case.memory_percent == percent
                        && case.swappiness == Some(swappiness)
                };
                Some((f64::from(swappiness), group.tokens_per_s(here)?))
            };
            let mut points: Vec<(f64, f64)> = values.iter().filter_map(at).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points
        };
        let points: Vec<_> = ways.iter().map(|way| (way.clone(), points(way))).collect();
        if points.iter().all(|(_, points)| points.len() < 2) {
            continue;
        }
        let largest = values.iter().max().map_or(100.0, |&value| f64::from(value));
        let x = Axis::linear(0.0, largest, "swappiness");
        figures.push((format!("{percent} % in memory"), curves("tokens per second by swappiness", x, &ways, &points)));
    }
    figures
}

/// Tokens per second with parts locked, a chart for each memory size and a bar for each variant.
pub fn by_lock(group: &Group) -> Vec<Figure> {
    let ways = group.ways();
    let has_variants = |case: &Case| matches!(case.way.0, Who::Stock(_)) && case.read_bytes.is_none();
    let rows = group.rows_where(has_variants);
    let locked = rows.iter().filter(|(case, _)| case.lock != Lock::None);
    let mut figures = Vec::new();
    // With and without only under the same swappiness.
    for (percent, swappiness) in distinct(locked.map(|(case, _)| (case.memory_percent, case.swappiness))) {
        let here = |case: &Case| has_variants(case) && case.memory_percent == percent && case.swappiness == swappiness;
        let variants = distinct(group.rows_where(here).iter().map(|(case, _)| case.lock));
        let names: Vec<String> = variants.iter().map(|lock| lock.to_string()).collect();
        let these = distinct(group.rows_where(here).iter().map(|(case, _)| case.way.to_string()));
        let mut bars = Vec::new();
        for (at, lock) in variants.iter().enumerate() {
            for (nth, way) in these.iter().enumerate() {
                let speed = group.tokens_per_s(|case| here(case) && case.lock == *lock && case.way.to_string() == *way);
                let width = 0.8 / these.len() as f64;
                let from = at as f64 + 0.1 + nth as f64 * width;
                bars.extend(speed.map(|speed| (way.clone(), from, from + width * 0.9, speed)));
            }
        }
        let most = bars.iter().map(|bar| bar.3).fold(0.0, f64::max) * 1.1;
        let x = Axis::names(&names, "what is locked in memory (part:% of the model)");
        let mut chart =
            Chart::new("tokens per second by what is locked", x, Axis::linear(0.0, most, "tokens per second"));
        these.iter().for_each(|way| chart.legend(class(&ways, way), way.clone()));
        for (way, from, to, speed) in &bars {
            chart.boxes(class(&ways, way), 1.0, std::iter::once([(*from, 0.0), (*to, *speed)]));
            chart.label(f64::midpoint(*from, *to), speed + most * 0.035, &short(*speed));
        }
        figures.push((format!("{percent} % in memory, {}", swappiness_name(swappiness)), chart.finish()));
    }
    figures
}

/// Tokens per second by size and number of the pager's reads: a map for each strategy and memory size.
pub fn by_request(group: &Group) -> Vec<Figure> {
    let forced = |case: &Case| case.read_bytes.is_some() && case.depth.is_some();
    let rows = group.rows_where(forced);
    let of = |case: &Case| (case.way.to_string(), case.memory_percent, case.swappiness);
    let mut figures = Vec::new();
    for place in distinct(rows.iter().map(|(case, _)| of(case))) {
        let here = group.rows_where(|case| forced(case) && of(case) == place);
        let cell = |case: &Case| Some((case.read_bytes?, case.depth?));
        let mut cells = Vec::new();
        for at in distinct(here.iter().filter_map(|(case, _)| cell(case))) {
            let speed = group.tokens_per_s(|case| of(case) == place && cell(case) == Some(at));
            cells.extend(speed.map(|speed| (at.0, at.1, speed)));
        }
        figures.push((format!("{}, {} % in memory", place.0, place.1), heat("tokens per second", &cells)));
    }
    figures
}

/// The drive's rate by size and number of requests: a map for each pattern and limit.
pub fn drive(rows: &[(Cell, CellRate)]) -> Vec<Figure> {
    let of = |cell: &Cell| (cell.pattern.clone(), cell.drive_bytes_per_s);
    let mut figures = Vec::new();
    for place in distinct(rows.iter().map(|(cell, _)| of(cell))) {
        let here: Vec<_> = rows.iter().filter(|(cell, _)| of(cell) == place).collect();
        let mut cells = Vec::new();
        for (bytes, depth) in distinct(here.iter().map(|(cell, _)| (cell.request_bytes, cell.depth))) {
            let these = here.iter().filter(|(cell, _)| (cell.request_bytes, cell.depth) == (bytes, depth));
            let rate = median(these.map(|(_, rate)| rate.bytes_per_s / 1e6));
            cells.extend(rate.map(|rate| (bytes, depth, rate)));
        }
        let limit = place.1.map_or("free".to_owned(), |limit| format!("held to {} MB/s", limit / 1_000_000));
        figures.push((format!("{}, drive {limit}", place.0), heat("MB per second", &cells)));
    }
    figures
}

/// A map of (bytes of a request, requests in flight, value): the darker the more.
fn heat(what: &str, cells: &[(u64, u32, f64)]) -> String {
    let (mut sizes, mut depths) =
        (distinct(cells.iter().map(|cell| cell.0)), distinct(cells.iter().map(|cell| cell.1)));
    sizes.sort_unstable();
    depths.sort_unstable();
    let size_names: Vec<String> = sizes.iter().map(|&bytes| size_name(bytes)).collect();
    let depth_names: Vec<String> = depths.iter().map(ToString::to_string).collect();
    let most = cells.iter().map(|cell| cell.2).fold(f64::MIN_POSITIVE, f64::max);
    let y = Axis::names(&depth_names, "requests in flight");
    let mut chart = Chart::new(what, Axis::names(&size_names, "size of a request"), y).rows(depths.len() * 2);
    chart.legend("heat", format!("{what}: the fuller the more"));
    for &(bytes, depth, value) in cells {
        let (Ok(x), Ok(y)) = (sizes.binary_search(&bytes), depths.binary_search(&depth)) else { continue };
        let (x, y) = (x as f64, y as f64);
        chart.boxes("heat", 0.6 * value / most, std::iter::once([(x, y), (x + 1.0, y + 1.0)]));
        chart.label(x + 0.5, y + 0.5, &short(value));
    }
    chart.finish()
}

fn size_name(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

/// Three digits.
pub fn short(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 2) as usize;
    format!("{value:.digits$}")
}
