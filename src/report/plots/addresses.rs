//! Addresses over time.

use super::super::Report;
use super::super::address::{Mark, Run};
use super::super::svg::{Axis, Chart};
use super::byte_unit;

fn address_legend(chart: &mut Chart) {
    chart.legend("c2", "read");
    chart.legend("c0", "touch, in memory");
    chart.legend("c3", "touch that waited for the drive");
}

pub fn raster(report: &Report) -> Option<String> {
    let it = &report.addresses;
    let runs = || it.read.iter().chain(&it.staged).chain(&it.waited);
    let rows = runs().map(|run| run.row + 1).max()?;
    let most = f64::from(rows) * it.row_bytes as f64;
    let (unit, word) = byte_unit(most);
    let x = Axis::linear(0.0, report.timeline_end_s(), "time, s");
    let mut chart = Chart::new("addresses over time", x, Axis::linear(0.0, most / unit, &format!("address, {word}")));
    address_legend(&mut chart);
    // Three strips in each row, so that none covers another.
    for (strip, (class, runs)) in [("c2", &it.read), ("c0", &it.staged), ("c3", &it.waited)].into_iter().enumerate() {
        let of = |run: &Run| {
            let bottom = (f64::from(run.row) + strip as f64 / 3.0) * it.row_bytes as f64 / unit;
            let height = it.row_bytes as f64 / unit / 3.0;
            let at = |column: u32| f64::from(column) * it.column_s;
            [(at(run.column), bottom), (at(run.column + run.columns), bottom + height)]
        };
        chart.boxes(class, 1.0, runs.iter().map(of));
    }
    Some(chart.finish())
}

pub fn last_cycle(report: &Report) -> Option<String> {
    let dots = &report.addresses.last_cycle;
    let (first, last) = (dots.first()?, dots.last()?);
    let most = dots.iter().map(|dot| dot.address).max()? as f64;
    let (unit, word) = byte_unit(most);
    let x = Axis::linear(first.at_s, last.at_s, "time, s");
    let mut chart =
        Chart::new("addresses in one cycle", x, Axis::linear(0.0, most / unit, &format!("address, {word}")));
    address_legend(&mut chart);
    for (class, mark, size) in [("c2", Mark::Read, 4.0), ("c0", Mark::Staged, 2.0), ("c3", Mark::Waited, 3.0)] {
        let of_mark = dots.iter().filter(|dot| dot.mark == mark);
        chart.dots(class, size, of_mark.map(|dot| (dot.at_s, dot.address as f64 / unit)));
    }
    Some(chart.finish())
}
