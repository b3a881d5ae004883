//! The pictures of a report.

mod addresses;
mod heat;
mod histograms;

use super::Report;
use super::svg::{Axis, Chart, WIDTH, escaped};
use super::units::{percent, time};

/// A kind of picture: heading, how it is computed, and the picture of one log, if it has one.
pub struct Plot {
    /// Its heading.
    pub name: &'static str,
    /// How it is computed.
    pub how: &'static str,
    /// The picture as SVG.
    pub draw: fn(&Report) -> Option<String>,
}

/// All pictures, in order.
#[rustfmt::skip]
pub const PLOTS: &[Plot] = &[
    Plot { name: "where the time of a cycle went", draw: breakdown, how:
        "upper bar: the cycle's length; time with threads asleep counts once, for the worst kind. Lower bar: sleep summed \
         over the threads, over their number; what is left of the length is compute or waiting for each other" },
    Plot { name: "addresses over time, whole log", draw: addresses::raster, how:
        "one mark for each cell of time and address with a read (at its submission) or a touch; the files of the log lie \
         one after the other" },
    Plot { name: "addresses over time, one cycle", draw: addresses::last_cycle, how:
        "each read (at its submission) and each touch of the last complete cycle" },
    Plot { name: "touches by layer and tensor role", draw: heat::touches, how:
        "touches of a block on average; blocks count for the tensor that fills most of them; one that stayed in the view \
         through a cycle counts as touched once" },
    Plot { name: "sleep by layer and tensor role", draw: heat::sleep, how: "sleep on its blocks, summed over the threads" },
    Plot { name: "bytes read by layer and tensor role", draw: heat::read, how: "bytes read over the length of its blocks" },
    Plot { name: "experts", draw: heat::experts, how: "share of a layer's tokens that used each expert" },
    Plot { name: "throughput", draw: throughput, how: "bytes of reads that ended within each bin" },
    Plot { name: "reads in flight", draw: in_flight, how: "mean over each bin, pauses included" },
    Plot { name: "stall", draw: stall, how: "threads asleep, mean over each bin" },
    Plot { name: "request sizes", draw: histograms::sizes, how: "share of the requests of each kind; two bars an octave" },
    Plot { name: "read latency", draw: histograms::latencies, how: "submission to completion; share of the reads of each kind" },
    Plot { name: "sleeps", draw: histograms::sleeps, how: "touch to wake-up; share of the sleeps of each kind" },
    Plot { name: "cycle by cycle", draw: cycles, how: "length of each complete cycle, and the part with a thread asleep" },
    Plot { name: "miss-ratio curve", draw: miss_ratios, how:
        "bytes missed over bytes touched, by a memory that starts empty: LRU from stack distances (Mattson 1970), Belady's \
         minimum by replay (1966), at 20 sizes; the pager's point is bytes read over bytes touched, at its budget" },
    Plot { name: "reuse distances", draw: histograms::reuse, how:
        "distinct bytes since the last touch of the same block; share of the touches that have one" },
    Plot { name: "uniformity by tensor role", draw: uniformity, how:
        "over the touches of the role's blocks; even use has a Gini coefficient of 0 and a normalised entropy of 1" },
    Plot { name: "runs", draw: histograms::runs, how: "lengths of runs of touches that follow each other; share of the runs" },
];

fn breakdown(report: &Report) -> Option<String> {
    let it = &report.time;
    (it.length_s > 0.0).then_some(())?;
    let rows = ["all threads", "wall clock"].map(str::to_owned);
    let title = if it.steady { "time, ms: mean of complete cycles" } else { "time, ms: whole log" };
    let mut chart =
        Chart::new("time breakdown", Axis::linear(0.0, it.length_s * 1e3, title), Axis::names(&rows, "")).rows(4);
    let threads = it.threads.max(1) as f64;
    let wall = [it.compute_s, it.wall.demand_s, it.wall.in_flight_s, it.wall.fault_s];
    let summed = [it.summed.demand_s, it.summed.in_flight_s, it.summed.fault_s].map(|value| value / threads);
    let rest = (it.length_s - summed.iter().sum::<f64>()).max(0.0);
    let classes = ["c0", "c3", "c1", "c4"];
    for (row, parts) in [(1.0, wall), (0.0, [rest, summed[0], summed[1], summed[2]])] {
        let mut from = 0.0;
        for (class, part) in classes.iter().zip(parts) {
            let to = from + part * 1e3;
            chart.boxes(class, 1.0, [[(from, row + 0.15), (to, row + 0.85)]].into_iter());
            from = to;
        }
    }
    for (class, (name, part)) in
        classes.iter().zip(["compute", "demand reads", "reads in flight", "fault handling"].into_iter().zip(wall))
    {
        chart.legend(class, format!("{name} {}", percent(part / it.length_s)));
    }
    Some(chart.finish())
}

const GIB: f64 = (1u64 << 30) as f64;

/// A round unit for an axis of bytes up to `most`.
fn byte_unit(most: f64) -> (f64, &'static str) {
    match most {
        _ if most >= 2.0 * GIB => (GIB, "GiB"),
        _ if most >= 2097152.0 => (1048576.0, "MiB"),
        _ => (1024.0, "KiB"),
    }
}

fn series(report: &Report, what: &str, title: &str, value: fn(&super::timeline::Point) -> f64) -> Option<String> {
    let series = &report.timeline;
    let most = series.points.iter().map(value).fold(0.0, f64::max);
    (most > 0.0).then_some(())?;
    let x = Axis::linear(0.0, report.timeline_end_s(), "time, s");
    let mut chart = Chart::new(what, x, Axis::linear(0.0, most * 1.05, title));
    let points = series.points.iter().flat_map(|point| {
        let y = value(point);
        [(point.start_s, y), (point.start_s + series.width_s, y)]
    });
    chart.line("c0", points);
    chart.legend("c0", format!("{what}, bins of {}", time(series.width_s * 1e9)));
    Some(chart.finish())
}

fn throughput(report: &Report) -> Option<String> {
    series(report, "throughput", "rate, MB/s", |point| point.bytes_per_s / 1e6)
}

fn in_flight(report: &Report) -> Option<String> {
    series(report, "reads in flight", "reads", |point| point.in_flight)
}

fn stall(report: &Report) -> Option<String> {
    series(report, "threads asleep", "threads", |point| point.asleep)
}

fn cycles(report: &Report) -> Option<String> {
    let rows: Vec<_> = report.cycles.iter().filter(|cycle| cycle.complete).collect();
    (rows.len() > 1).then_some(())?;
    let longest = rows.iter().map(|cycle| cycle.length_s).fold(0.0, f64::max) * 1e3;
    let (first, last) = (rows[0].number as f64, rows[rows.len() - 1].number as f64);
    let x = Axis::linear(first, last, "cycle");
    let mut chart = Chart::new("cycle by cycle", x, Axis::linear(0.0, longest * 1.05, "time, ms"));
    chart.line("c0", rows.iter().map(|cycle| (cycle.number as f64, cycle.length_s * 1e3)));
    chart.line("c3", rows.iter().map(|cycle| (cycle.number as f64, cycle.wall.sum_s() * 1e3)));
    chart.legend("c0", "length");
    chart.legend("c3", "a thread asleep");
    Some(chart.finish())
}

fn miss_ratios(report: &Report) -> Option<String> {
    let curve = &report.miss_ratios.curve;
    let largest = curve.last()?.memory_bytes.max(report.pager.map_or(0, |it| it.memory_bytes)) as f64;
    let (unit, word) = byte_unit(largest);
    let highest = report.pager.map_or(1.0, |it| it.ratio.max(1.0)) * 100.0;
    let x = Axis::linear(0.0, largest / unit, &format!("memory, {word}"));
    let mut chart = Chart::new("miss-ratio curve", x, Axis::linear(0.0, highest * 1.05, "missed, % of the bytes"));
    let at = |bytes: u64| bytes as f64 / unit;
    let start = [(0.0, 100.0)].into_iter();
    chart.line("c1", start.clone().chain(curve.iter().map(|it| (at(it.memory_bytes), it.lru * 100.0))));
    chart.line("c0", start.chain(curve.iter().map(|it| (at(it.memory_bytes), it.belady * 100.0))));
    chart.legend("c1", "LRU");
    chart.legend("c0", "Belady");
    if let Some(point) = report.pager {
        chart.dots("c3", 9.0, [(at(point.memory_bytes), point.ratio * 100.0)].into_iter());
        chart.word(at(point.memory_bytes), point.ratio * 100.0, &percent(point.ratio));
        chart.legend("c3", "the pager in this log");
    }
    Some(chart.finish())
}

fn uniformity(report: &Report) -> Option<String> {
    let roles: Vec<_> = report.uniformity.iter().rev().filter(|role| role.touches > 0).collect();
    (!roles.is_empty()).then_some(())?;
    let names: Vec<String> = roles.iter().map(|role| role.role.clone()).collect();
    let (x, y) = (Axis::linear(0.0, 1.0, "coefficient, from 0 to 1"), Axis::names(&names, ""));
    let mut chart = Chart::new("uniformity by role", x, y).rows(2 * names.len());
    type Value = fn(&super::uniformity::Uniformity) -> f64;
    let bars: [(_, _, Value, f64); 2] =
        [("c0", "normalised entropy", |it| it.entropy, 0.5), ("c3", "Gini coefficient", |it| it.gini, 0.1)];
    for (class, name, value, low) in bars {
        let of = |(row, role): (usize, &&super::uniformity::Uniformity)| {
            [(0.0, row as f64 + low), (value(role), row as f64 + low + 0.4)]
        };
        chart.boxes(class, 1.0, roles.iter().enumerate().map(of));
        chart.legend(class, name);
    }
    Some(chart.finish())
}

/// A picture of nothing, for a log that has no such picture beside one that has.
pub fn nothing(why: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 60\"><text x=\"{}\" y=\"35\" text-anchor=\"middle\">{}</text></svg>",
        WIDTH / 2.0,
        escaped(why)
    )
}
