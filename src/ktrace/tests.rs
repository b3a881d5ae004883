//! Recorded lines, and what becomes of them.

use super::build::records;
use super::parse::{Error, Event, Events, Extent, Kind};
use super::traffic::{self, Traffic};
use crate::pager::blocks::Layout;
use crate::policy::Touch;
use crate::trace::{Encoder, Event as Told, Header, Reader, Why};

const HEAD: &str = "\
program llama-completion
machine 6.18.44 2 25276510208
model 1048576
extent 0 4096 1024
extent 1024 8192 1024
Attaching 10 probes...
start 1000 1795281973.772906
";

fn events(lines: &str) -> Events {
    Events::read(format!("{HEAD}{lines}").as_bytes()).unwrap()
}

/// Times and events of the log with blocks of 64 KiB.
fn log(lines: &str) -> Vec<(u64, Told)> {
    let events = events(lines);
    let layout = Layout::with_grain(0..events.model_bytes, &[], 64 << 10);
    records(&events, &layout).into_iter().map(|record| (record.at_ns, record.event)).collect()
}

#[test]
fn lines_are_put_in_the_order_of_time() {
    let events = events("C 1300 4096 8 0\nI 1200 4096 4096\nD 1400 3 2\n\nLost 7 events\nfaults 120 3\n");
    assert_eq!(events.started_unix_ns, 1_795_281_973_772_906_000);
    assert_eq!((events.program.as_str(), events.machine.processors), ("llama-completion", 2));
    assert_eq!(events.extents[1], Extent { in_file: 512 << 10, on_drive: 4 << 20, bytes: 512 << 10 });
    let start = 2 << 20;
    let expected = [
        Event { at_ns: 200, kind: Kind::Issued { start, bytes: 4096 } },
        Event { at_ns: 300, kind: Kind::Completed { start, bytes: 4096, error: 0 } },
        Event { at_ns: 400, kind: Kind::Dropped { page: 3, pages: 4 } },
    ];
    assert_eq!(events.events, expected);
    assert_eq!((events.lost, events.faults), (7, (120, 3)));
}

#[test]
fn other_text_is_refused_with_its_line() {
    let huge = format!("F 1 2 {}", u64::MAX);
    for bad in ["X 1 2 3", "F 1", "F 1 2 3 4", "A 1 2 99", "extent 0 1", "stdin:1: ERROR", &huge] {
        let error = Events::read(format!("{HEAD}{bad}\n").as_bytes()).unwrap_err();
        assert!(matches!(&error, Error::Line(8, line) if line == bad), "{bad}: {error}");
    }
}

#[test]
fn a_miss_is_a_touch_a_read_and_a_wake_up() {
    let log = log("F 1100 7 17\nA 1110 16 4\nI 1120 4224 65536\nS 1130 7\nC 1200 4224 128 0\nW 1210 7\nF 1220 7 17\n\
                   M 1230 7 16 31\n");
    let touch = Told::Touch { block: 1, offset: 4096, tid: 7, found: Touch::Absent };
    let read = Told::Read { read: 0, block: 1, start: 0, len: 65536, source: 0, why: Why::Demand };
    let expected = [
        (100, touch),
        (120, read),
        (200, Told::ReadEnd { read: 0, result: 65536 }),
        (230, Told::Woken { block: 1, tid: 7 }),
        (230, Told::Install { block: 1 }),
    ];
    assert_eq!(log, expected);
}

#[test]
fn a_read_whose_end_was_missed_does_not_stay_in_flight() {
    // A hundred reads of a page; the end of the first was missed, and the last one is still under way.
    let sector = |page: u64| 4096 + 8 * page;
    let issued = (0..100).map(|page| format!("I {} {} 4096\n", 1100 + page, sector(page)));
    let ended = (1..99).map(|page| format!("C {} {} 8 0\n", 1300 + page, sector(page)));
    let log = log(&issued.chain(ended).collect::<String>());
    let ends =
        |read| log.iter().filter(move |(_, event)| matches!(event, Told::ReadEnd { read: it, .. } if *it == read));
    assert_eq!(ends(0).collect::<Vec<_>>(), [&(333, Told::ReadEnd { read: 0, result: 4096 })]);
    assert!((1..99).all(|read| ends(read).count() == 1) && ends(99).count() == 0);
    assert_eq!(log.last(), Some(&(398, Told::Lost { records: 2 })));
}

#[test]
fn how_a_touch_found_its_page() {
    // Cached: mapped around at once. Being read: a sleep. In the cache without a sleep.
    let log = log("M 1100 7 0 15\nF 1200 8 16\nS 1210 8\nW 1220 8\nF 1300 8 40\n");
    let touches: Vec<_> = log.iter().filter(|(_, event)| matches!(event, Told::Touch { .. })).collect();
    let touch = |block, offset, tid, found| Told::Touch { block, offset, tid, found };
    let expected = [
        (100, touch(0, 0, 7, Touch::Staged)),
        (200, touch(1, 0, 8, Touch::Reading)),
        (300, touch(2, 32768, 8, Touch::Staged)),
    ];
    assert_eq!(touches, expected.iter().collect::<Vec<_>>());
    assert!(log.contains(&(220, Told::Woken { block: 1, tid: 8 })), "{log:?}");
}

#[test]
fn requests_follow_the_extents_and_are_cut_at_blocks() {
    // Over the end of the first extent, over the start of the second one, and inside. The second one
    // fails; the end of the others is missing.
    let log = log("I 1100 5088 32768\nI 1110 8160 32768\nI 1120 9000 4096\nC 1200 8160 32 0\nC 1210 8192 32 -5\n");
    let read = |read, block, start, len| Told::Read { read, block, start, len, source: 0, why: Why::Readahead };
    let expected = [
        (100, read(0, 7, 49152, 16384)),
        (110, read(1, 8, 0, 16384)),
        (120, read(2, 14, 20480, 4096)),
        (210, Told::ReadEnd { read: 1, result: -5 }),
        (210, Told::Lost { records: 2 }),
    ];
    assert_eq!(log, expected);
}

#[test]
fn a_block_is_evicted_with_its_last_page() {
    let log = log("A 1100 16 2\nD 1200 16 1\nD 1210 18 1\nM 1300 7 32 47\nD 1400 32 0\nD 1410 33 0\n");
    let evictions: Vec<_> = log.into_iter().filter(|(_, event)| matches!(event, Told::Evict { .. })).collect();
    let evict = |block, untouched| Told::Evict { block, untouched };
    // The second one was cached before the trace began.
    assert_eq!(evictions, [(210, evict(1, true)), (400, evict(2, false))]);
}

#[test]
fn traffic_counts_each_request_once() {
    let lines = "I 1100 4096 65536\nQ 1110 4096\nI 1120 4096 65536\nC 1130 4096 128 0\nI 1140 4096 65536\n\
                 I 1150 8192 61440\nI 1160 100 4096\n";
    let traffic =
        |requests, bytes, sizes: &[(u64, u64)]| Traffic { requests, bytes, sizes: sizes.iter().copied().collect() };
    let expected = (traffic(3, 2 * 65536 + 61440, &[(65536, 3)]), traffic(1, 4096, &[(4096, 1)]));
    assert_eq!(traffic::of_kernel(&events(lines)), expected);
    // The log of the same lines knows the one that ended.
    let mut encoder = Encoder::new(Vec::new(), &Header::default()).unwrap();
    let layout = Layout::with_grain(0..1 << 20, &[], 64 << 10);
    records(&events(lines), &layout).iter().for_each(|record| encoder.record(record).unwrap());
    encoder.finish().unwrap();
    let bytes = encoder.into_inner();
    assert_eq!(traffic::of_log(Reader::new(&bytes[..]).unwrap()).unwrap(), traffic(1, 65536, &[(65536, 1)]));
}
