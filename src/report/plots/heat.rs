//! Heat maps: layer by tensor role, and layer by expert.

use std::collections::BTreeMap;

use super::super::Report;
use super::super::heat::Cell;
use super::super::svg::{Axis, Chart, strength};

/// Steps of a heat map's scale.
const LEVELS: usize = 12;

/// A log that names more layers is broken.
const LAYERS_MAX: u32 = 1024;

/// A heat map: rows from the bottom up, and values by column and row.
fn heat(what: &str, columns: Axis, rows: &[String], values: &[(usize, usize, f64)], unit: &str) -> Option<String> {
    let most = values.iter().map(|(.., value)| *value).fold(0.0, f64::max);
    (most > 0.0).then_some(())?;
    let mut chart = Chart::new(what, columns, Axis::names(rows, "")).rows(rows.len());
    let mut by_level: BTreeMap<usize, Vec<[(f64, f64); 2]>> = BTreeMap::new();
    for &(column, row, value) in values {
        let (x, y) = (column as f64, row as f64);
        let level = (value / most * LEVELS as f64).ceil() as usize;
        by_level.entry(level).or_default().push([(x, y), (x + 1.0, y + 1.0)]);
    }
    for (level, boxes) in by_level {
        chart.boxes("heat", strength(level, LEVELS), boxes.into_iter());
    }
    chart.scale(LEVELS, format!("{} {unit}", number(most)));
    Some(chart.finish())
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn by_layer_and_role(report: &Report, what: &str, unit: &str, value: fn(&Cell) -> f64) -> Option<String> {
    let cells: Vec<_> = report.heat.iter().filter(|cell| cell.layer.is_none_or(|it| it < LAYERS_MAX)).collect();
    let mut roles: Vec<String> = Vec::new();
    for cell in &cells {
        if !roles.contains(&cell.role) {
            roles.push(cell.role.clone());
        }
    }
    let layers = cells.iter().filter_map(|cell| Some(cell.layer? as usize + 1)).max().unwrap_or(0);
    let names: Vec<String> =
        std::iter::once("none".to_owned()).chain((0..layers).map(|layer| layer.to_string())).collect();
    let values = cells.iter().map(|cell| {
        let column = cell.layer.map_or(0, |layer| layer as usize + 1);
        let row = roles.iter().position(|role| *role == cell.role).unwrap_or_default();
        (column, row, value(cell))
    });
    heat(what, Axis::names(&names, "layer"), &roles, &values.collect::<Vec<_>>(), unit)
}

pub fn touches(report: &Report) -> Option<String> {
    by_layer_and_role(report, "touches by layer and role", "touches of a block", |cell| cell.touches_per_block)
}

pub fn sleep(report: &Report) -> Option<String> {
    by_layer_and_role(report, "sleep by layer and role", "s", |cell| cell.sleep_s)
}

pub fn read(report: &Report) -> Option<String> {
    by_layer_and_role(report, "reads by layer and role", "times its length", |cell| {
        cell.read_bytes as f64 / cell.bytes.max(1) as f64
    })
}

pub fn experts(report: &Report) -> Option<String> {
    let experts = report.experts.as_ref()?;
    let rows: Vec<String> = experts.popularity.iter().map(|layer| format!("layer {}", layer.layer)).collect();
    let mut values = Vec::new();
    for (row, layer) in experts.popularity.iter().enumerate() {
        let tokens = layer.tokens.max(1) as f64;
        values.extend(layer.uses.iter().enumerate().map(|(expert, &uses)| (expert, row, uses as f64 / tokens * 100.0)));
    }
    let columns = Axis::linear(0.0, experts.experts as f64, "expert");
    heat("experts by layer", columns, &rows, &values, "% of the tokens")
}
