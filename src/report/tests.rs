//! Logs made in memory, and what is known of them.

use std::convert::Infallible;

mod cycles;
mod experts;

use super::*;
use crate::policy::{Block, Role, Touch};
use crate::trace::{Event, Foreteller, Item, Record, Tensor, View, Why};

const BLOCK: u64 = 1 << 20;

/// A file of `count` blocks of 1 MiB, read in file order: two layers of attention and feed-forward.
pub(crate) fn view(count: u32) -> View {
    let block = |index: u32| Block {
        view: 0,
        offset: u64::from(index) * BLOCK,
        len: BLOCK as u32,
        frame_bytes: BLOCK as u32,
        role: Role::Cyclic,
    };
    let quarter = u64::from(count) * BLOCK / 4;
    let tensor = |part: u64| Tensor {
        name: format!("blk.{}.{part}", part / 2),
        role: if part.is_multiple_of(2) { "attention" } else { "dense_ffn" }.to_owned(),
        layer: Some(part as u32 / 2),
        offset: part * quarter,
        bytes: quarter,
        experts: 0,
    };
    View {
        at_ns: 0,
        number: 0,
        path: "model.gguf".to_owned(),
        file_bytes: u64::from(count) * BLOCK,
        inode: (1, 2),
        modified_unix_ns: 3,
        offset: 0,
        bytes: u64::from(count) * BLOCK,
        first_block: 0,
        blocks: (0..count).map(block).collect(),
        expected_order: (0..count).collect(),
        tensors: (0..4).map(tensor).collect(),
    }
}

/// A log that is being made.
pub(crate) struct Maker {
    pub(crate) items: Vec<Item>,
    pub(crate) now_ns: u64,
    read: u32,
}

impl Maker {
    pub(crate) fn new(view: View) -> Maker {
        Maker { items: vec![Item::View(Box::new(view))], now_ns: 0, read: 0 }
    }

    pub(crate) fn push(&mut self, event: Event) {
        self.items.push(Item::Record(Record { at_ns: self.now_ns, event }));
    }

    /// Thread `tid` touches `block`, which is absent, and sleeps for `ns` while it is read.
    pub(crate) fn demand(&mut self, block: u32, tid: u32, ns: u64) {
        self.push(Event::Touch { block, offset: 0, tid, found: Touch::Absent });
        self.read += 1;
        let (read, len) = (self.read, BLOCK as u32);
        self.push(Event::Read { read, block, start: 0, len, source: 0, why: Why::Demand });
        self.now_ns += ns;
        self.push(Event::ReadEnd { read, result: len as i32 });
        self.push(Event::Install { block });
        self.push(Event::Woken { block, tid });
    }

    /// Thread `tid` touches `block`, which is staged, and sleeps for `ns`.
    pub(crate) fn staged(&mut self, block: u32, tid: u32, ns: u64) {
        self.push(Event::Touch { block, offset: 0, tid, found: Touch::Staged });
        self.now_ns += ns;
        self.push(Event::Install { block });
        self.push(Event::Woken { block, tid });
    }

    pub(crate) fn report(self, header: Header) -> Report {
        self.report_of_drive(header, None)
    }

    fn report_of_drive(self, header: Header, bytes_per_s: Option<f64>) -> Report {
        let mut analysis = Analysis::new(header, bytes_per_s);
        let Ok(()) = analysis.read(self.items.into_iter().map(Ok::<_, Infallible>));
        analysis.finish(None)
    }
}

fn near(value: f64, expected: f64, apart: f64) {
    assert!((value - expected).abs() <= apart, "{value} is not {expected}");
}

fn learned() -> Header {
    Header { strategy: "learned".to_owned(), budget_bytes: 4 * BLOCK, ..Header::default() }
}

#[test]
fn the_time_of_a_cycle_is_shared_out() {
    let mut log = Maker::new(view(8));
    for cycle in 0..4u64 {
        for block in 0..4 {
            log.demand(block, 1, 1_000_000);
            log.push(Event::Evict { block, untouched: false });
            log.now_ns += 500_000;
        }
        for block in 4..6 {
            log.staged(block, 1, 100_000);
            log.push(Event::Rearm { block });
        }
        log.push(Event::Cycle { number: cycle + 1 });
    }
    // A MiB in the millisecond that it is being read is half of what the drive can do.
    let report = log.report_of_drive(learned(), Some(2.0 * BLOCK as f64 * 1e3));
    let time = &report.time;
    assert_eq!((time.steady, time.cycles, time.threads), (true, 2, 1));
    let near = |value, expected| near(value, expected, 1e-9);
    near(time.length_s, 6.2e-3);
    near(time.compute_s, 2e-3);
    near(time.wall.demand_s, 4e-3);
    near(time.wall.fault_s, 0.2e-3);
    near(time.read_bytes, 4.0 * BLOCK as f64);
    assert_eq!(report.bottleneck, bottleneck::Bottleneck::SynchronousWaits);
    // Four ends of cycles, and nothing behind the last one.
    assert_eq!(report.cycles.len(), 5);
    assert_eq!(report.cycles[1].touches, [4, 0, 2]);
    assert_eq!(report.sleep_ns.demand.count, 16);
    assert_eq!(report.drive.gap_ns.count, 15);
    near(report.drive.in_flight, 1.0);
    near(report.drive.share_while_reading.unwrap(), 0.5);
    near(report.drive.share.unwrap(), 16.0 / (2.0 * 4.0 * 6.2));
    assert_eq!(report.drive.busy_bytes_per_s, None);
    // One read at a time: no pause while a thread waits.
    near(report.drive.idle_while_waiting_s, 0.0);
    // Blocks 6 and 7 were never in the view.
    assert_eq!(report.miss_ratios.touches, 24);
    assert_eq!(report.uniformity.iter().map(|role| role.untouched).sum::<u64>(), 2);
}

#[test]
fn threads_asleep_at_once_count_once_on_the_clock() {
    let mut log = Maker::new(view(8));
    let touch = |block, tid, found| Event::Touch { block, offset: 0, tid, found };
    log.push(touch(0, 1, Touch::Absent));
    log.now_ns = 1_000;
    log.push(touch(0, 2, Touch::Reading));
    log.now_ns = 2_000;
    log.push(touch(5, 3, Touch::Staged));
    log.now_ns = 3_000;
    log.push(Event::Woken { block: 0, tid: 1 });
    log.push(Event::Woken { block: 0, tid: 2 });
    log.now_ns = 4_000;
    log.push(Event::Woken { block: 5, tid: 3 });
    log.now_ns = 10_000;
    log.push(Event::Install { block: 5 });
    let report = log.report(learned());
    let row = &report.cycles[0];
    let us = |seconds: f64| (seconds * 1e6).round() as u64;
    assert_eq!((us(row.wall.demand_s), us(row.wall.in_flight_s), us(row.wall.fault_s)), (3, 0, 1));
    assert_eq!((us(row.summed.demand_s), us(row.summed.in_flight_s), us(row.summed.fault_s)), (3, 2, 2));
    assert_eq!((us(row.compute_s()), row.threads, row.joined), (6, 3, 1));
    assert_eq!(row.touches, [1, 0, 1]);
    // Nobody reads while thread 1 waits.
    assert_eq!(us(report.drive.idle_while_waiting_s), 3);
}

#[test]
fn blocks_that_stay_in_the_view_are_touched_unseen() {
    let mut log = Maker::new(view(8));
    for cycle in 0..5u64 {
        for block in 0..8 {
            if block < 4 && cycle > 0 {
                continue;
            }
            log.demand(block, 1, 1_000);
            if block >= 4 {
                log.push(Event::Evict { block, untouched: false });
            }
        }
        log.push(Event::Cycle { number: cycle + 1 });
    }
    let report = log.report(learned());
    assert_eq!(report.miss_ratios.touches, 40);
    near(report.miss_ratios.distance_bytes.p50 as f64 / BLOCK as f64, 8.0, 0.01);
    assert!(report.uniformity.iter().all(|role| role.gini == 0.0), "{:?}", report.uniformity);
    // Eight and four times four of forty: Belady's minimum, which the log reaches.
    let ratio = report.pager.unwrap().ratio;
    near(ratio, 24.0 / 40.0, 1e-9);
    assert_eq!(report.heat.len(), 4);
    assert!(report.heat.iter().all(|cell| cell.touches_per_block == 5.0));
}

#[test]
fn a_log_with_holes_gives_what_it_can() {
    // It starts in mid-run: no view, a thread that was asleep before, a read that began before.
    let mut log = Maker::new(view(4));
    log.items.clear();
    log.now_ns = 5_000;
    log.push(Event::Woken { block: 3, tid: 9 });
    log.push(Event::ReadEnd { read: 77, result: 4096 });
    log.demand(1, 1, 1_000);
    // The wake-up of thread 1 and the end of its read are lost.
    log.push(Event::Touch { block: 2, offset: 0, tid: 1, found: Touch::Absent });
    log.push(Event::Read { read: 5, block: 2, start: 0, len: 4096, source: 1, why: Why::Readahead });
    log.now_ns += 1_000;
    log.push(Event::Lost { records: 12 });
    log.now_ns += 1_000_000;
    log.push(Event::Unmapped { view: 3 });
    let report = log.report(Header::default());
    assert_eq!((report.log.lost, report.log.unknown_touches), (12, 2));
    assert_eq!((report.drive.without_start, report.cycles[0].read_bytes), (1, 4096 + BLOCK));
    // Nobody sleeps behind the gap.
    assert!((report.cycles[0].wall.demand_s - 2e-6).abs() < 1e-9, "{:?}", report.cycles[0].wall);
    assert_eq!(report.miss_ratios.curve, []);
    let (names, reports) = (["a".to_owned(), "b".to_owned()], [report, Maker::new(view(4)).report(learned())]);
    assert!(terminal(&reports, &names, 160).contains("12 records lost"));
    assert!(page(&reports, &names).contains("12 records lost"));
}

#[test]
fn the_page_stands_alone_and_has_every_figure() {
    let mut log = Maker::new(view(8));
    for cycle in 0..3 {
        (0..6).for_each(|block| log.demand(block, 1, 1_000_000));
        log.staged(6, 2, 10_000);
        log.push(Event::Routed { layer: 0, token: 0, expert: cycle as u32 });
        log.push(Event::Cycle { number: cycle + 1 });
    }
    let report = log.report(learned());
    let rows = figures::rows(std::slice::from_ref(&report));
    let names = ["<log>".to_owned()];
    let html = page(std::slice::from_ref(&report), &names);
    let text = terminal(std::slice::from_ref(&report), &names, 200);
    for row in &rows {
        assert!(html.contains(&svg::escaped(&row.name)) && html.contains(&svg::escaped(row.how)), "{}", row.name);
        assert!(text.contains(&row.name), "{}", row.name);
    }
    for plot in plots::PLOTS {
        assert!((plot.draw)(&report).is_some(), "{}", plot.name);
        assert!(html.contains(&svg::escaped(plot.how)), "{}", plot.name);
    }
    assert!(!html.contains("<log>") && html.contains("&lt;log&gt;"));
    for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let mut bytes = Vec::new();
    json(&mut bytes, &[report], &names).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(json["logs"][0]["bottleneck"], "synchronous_waits");
    assert!(json["how"]["reuse"].is_string());
    assert_eq!(json["figures"].as_array().unwrap().len(), rows.len());
}
