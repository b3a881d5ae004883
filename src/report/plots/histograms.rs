//! Distributions.

use super::super::Report;
use super::super::distribution::Distribution;
use super::super::svg::{Axis, Chart};
use super::super::units::{binary, time};

/// Several distributions on one logarithmic axis, the bars of each beside those of the others.
fn histogram(
    what: &str,
    title: &str,
    base: f64,
    label: fn(f64) -> String,
    all: &[(&'static str, &str, &Distribution)],
) -> Option<String> {
    let all: Vec<_> = all.iter().filter(|(.., it)| it.count > 0).collect();
    let from = all.iter().map(|(.., it)| it.min).min()?.max(1) as f64;
    let to = all.iter().map(|(.., it)| it.max).max()? as f64;
    let share = |count: u64, of: &Distribution| count as f64 / of.count as f64 * 100.0;
    let highest = all.iter().flat_map(|(.., it)| it.bars.iter().map(|bar| share(bar.count, it))).fold(0.0, f64::max);
    let x = Axis::log((from / 1.5).floor(), to * 1.5, base, title, label);
    let mut chart = Chart::new(what, x, Axis::linear(0.0, highest * 1.05, "share, %"));
    for (index, (class, name, it)) in all.iter().enumerate() {
        let boxes = it.bars.iter().filter(|bar| bar.count > 0).map(|bar| {
            let (low, high) = ((bar.from.max(1) as f64).ln(), (bar.to.max(2) as f64).ln());
            let part = |step: usize| (low + (high - low) * step as f64 / all.len() as f64).exp();
            [(part(index), 0.0), (part(index + 1), share(bar.count, it))]
        });
        chart.boxes(class, 1.0, boxes);
        chart.legend(class, format!("{name}: {}", it.count));
    }
    Some(chart.finish())
}

pub fn sizes(report: &Report) -> Option<String> {
    let it = &report.drive.size_bytes;
    let all = [("c3", "demand", &it.demand), ("c2", "readahead", &it.readahead)];
    histogram("request sizes", "size of a request", 4.0, binary, &all)
}

pub fn latencies(report: &Report) -> Option<String> {
    let it = &report.drive.latency_ns;
    let all = [("c3", "demand", &it.demand), ("c2", "readahead", &it.readahead)];
    histogram("read latency", "time from submission to completion", 10.0, short_time, &all)
}

pub fn sleeps(report: &Report) -> Option<String> {
    let it = &report.sleep_ns;
    let all = [("c3", "demand", &it.demand), ("c1", "read in flight", &it.in_flight), ("c4", "fault", &it.staged)];
    histogram("sleeps", "time from touch to wake-up", 10.0, short_time, &all)
}

/// A power of ten.
fn short_time(ns: f64) -> String {
    time(ns).replace(".0 ", " ").replace(".00 ", " ")
}

pub fn reuse(report: &Report) -> Option<String> {
    let all = [("c0", "touches", &report.miss_ratios.distance_bytes)];
    histogram("reuse distances", "distinct bytes since the last touch", 4.0, binary, &all)
}

pub fn runs(report: &Report) -> Option<String> {
    let it = &report.sequentiality;
    let all = [("c0", "file", &it.run_in_file), ("c3", "compute order", &it.run_in_compute)];
    histogram("runs", "blocks in a run", 2.0, |value| format!("{value:.0}"), &all)
}
