use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use rtrb::Consumer;

use super::*;
use crate::config::ByteSize;
use crate::policy::Touch;
use crate::trace::Reader;

fn touch(block: u32) -> Event {
    Event::Touch { block, offset: 0, tid: 7, found: Touch::Staged }
}

/// A tracer that logs to `path`.
fn tracer(path: &Path, limit_bytes: u64) -> Tracer {
    let settings = Settings { trace: Some(path.into()), trace_limit: ByteSize(limit_bytes), ..Settings::default() };
    let mut tracer = Tracer::new(&settings);
    tracer.begin(&Meter::new());
    tracer
}

fn events(path: &Path) -> (Vec<Event>, Option<u64>) {
    let mut reader = Reader::new(fs::File::open(path).unwrap()).unwrap();
    let event = |item| match item {
        Item::Record(record) => record.event,
        Item::View(view) => panic!("a view: {view:?}"),
    };
    let events = reader.by_ref().map(|item| event(item.unwrap())).collect();
    (events, reader.cut_off())
}

/// Records that `events` say are missing, and the number of the others.
fn lost_and_kept(events: &[Event]) -> (u64, u64) {
    events.iter().fold((0, 0), |(lost, kept), event| match event {
        Event::Lost { records } => (lost + records, kept),
        _ => (lost, kept + 1),
    })
}

/// A recorder without a writer.
fn recorder(slots: usize) -> (Recorder, Consumer<Item>) {
    let (ring, items) = RingBuffer::new(slots);
    (Recorder::new(ring, bounded(1).0), items)
}

fn take(items: &mut Consumer<Item>) -> Vec<(u64, Option<Event>)> {
    let seen = |item| match item {
        Item::Record(record) => (record.at_ns, Some(record.event)),
        Item::View(view) => (view.at_ns, None),
    };
    std::iter::from_fn(|| items.pop().ok()).map(seen).collect()
}

#[test]
fn a_full_ring_drops_and_says_so() {
    let (mut recorder, mut items) = recorder(4);
    (0..10).for_each(|at| recorder.record(u64::from(at), touch(at)));
    let first: Vec<_> = (0..4).map(|at| (u64::from(at), Some(touch(at)))).collect();
    assert_eq!(take(&mut items), first);
    recorder.record(10, touch(10));
    assert_eq!(take(&mut items), [(10, Some(Event::Lost { records: 6 })), (10, Some(touch(10)))]);
    assert_eq!((recorder.lost, recorder.lost_in_all), (0, 6));
}

#[test]
fn a_view_is_not_dropped_and_time_does_not_run_backwards() {
    let (recorder, mut items) = recorder(2);
    let mut tracer = Tracer { recorder: Some(Box::new(recorder)), planned: None };
    let clock = Meter::new();
    let record = |tracer: &mut Tracer, at_ns, block| {
        tracer.recorder.as_mut().unwrap().record(at_ns, touch(block));
    };
    // A time that is still to come: what follows may be no earlier.
    let late = 1 << 60;
    record(&mut tracer, late, 0);
    record(&mut tracer, 5, 1);
    let view = View {
        at_ns: 0,
        number: 0,
        path: String::new(),
        file_bytes: 0,
        inode: (0, 0),
        modified_unix_ns: 0,
        offset: 0,
        bytes: 0,
        first_block: 0,
        blocks: Vec::new(),
        expected_order: Vec::new(),
        tensors: Vec::new(),
    };
    tracer.view(&clock, || view);
    record(&mut tracer, 6, 2);
    assert_eq!(take(&mut items), [(late, Some(touch(0))), (late, Some(touch(1)))]);
    record(&mut tracer, late + 1, 3);
    assert_eq!(take(&mut items), [(late, None), (late + 1, Some(Event::Lost { records: 1 }))]);
    record(&mut tracer, late + 2, 4);
    assert_eq!(take(&mut items), [(late + 2, Some(Event::Lost { records: 1 })), (late + 2, Some(touch(4)))]);
}

#[test]
fn every_record_is_written_or_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (mut tracer, clock) = (tracer(&path, 1 << 30), Meter::new());
    let noted = 500_000;
    (0..noted).for_each(|block| tracer.note(&clock, touch(block)));
    tracer.finish();
    let mut stats = Stats::default();
    tracer.report(&mut stats);
    let (events, cut_off) = events(&path);
    let (lost, kept) = lost_and_kept(&events);
    assert_eq!((lost + kept, lost, cut_off), (u64::from(noted), stats.trace_lost_records, None));
    assert_eq!(fs::metadata(&path).unwrap().len(), stats.trace_bytes);
    // Nothing new, nothing written.
    tracer.finish();
    assert_eq!(fs::metadata(&path).unwrap().len(), stats.trace_bytes);
}

#[test]
fn the_limit_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for limit in [100_000, 70_000, 3_000] {
        let path = folder.path().join(limit.to_string());
        let (mut tracer, clock) = (tracer(&path, limit), Meter::new());
        let mut noted = 0;
        for _ in 0..5 {
            (0..30_000).for_each(|block| tracer.note(&clock, touch(block)));
            noted += 30_000;
            tracer.finish();
            let mut stats = Stats::default();
            tracer.report(&mut stats);
            let (events, cut_off) = events(&path);
            let (lost, kept) = lost_and_kept(&events);
            assert!(fs::metadata(&path).unwrap().len() <= limit);
            assert_eq!((kept + stats.trace_lost_records, cut_off), (noted, None), "limit {limit}");
            // The reserve has room for some of these sentences, not for any number.
            assert!(lost > 0 && lost <= stats.trace_lost_records, "{lost} of {}", stats.trace_lost_records);
        }
    }
    // Not even the header fits.
    assert!(tracer(&folder.path().join("none"), 100).recorder.is_none());
}

#[test]
fn links_and_pipes_and_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("precious"), "data").unwrap();
    symlink(at("precious"), at("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for path in [at("link"), at("pipe"), folder.path().into(), "/dev/null".into(), at("none/log")] {
        assert!(tracer(&path, 1 << 20).recorder.is_none(), "{}", path.display());
    }
    assert_eq!(fs::read_to_string(at("precious")).unwrap(), "data");
}

#[test]
fn the_file_is_private_and_belongs_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, vec![1; 100_000]).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let clock = Meter::new();
    let mut first = tracer(&path, 1 << 20);
    first.note(&clock, touch(1));
    let mut second = tracer(&path, 1 << 20);
    second.note(&clock, touch(2));
    let mut third = tracer(&folder.path().join("%p-%p"), 1 << 20);
    third.note(&clock, touch(3));
    let pid = std::process::id();
    let (other, own) = (folder.path().join(format!("log.{pid}")), folder.path().join(format!("{pid}-{pid}")));
    for (path, tracer, block) in [(&path, &mut first, 1), (&other, &mut second, 2), (&own, &mut third, 3)] {
        tracer.finish();
        assert_eq!(events(path), (vec![touch(block)], None), "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // As if the machine had gone down: what follows the last whole chunk is left out.
    first.note(&clock, touch(4));
    first.finish();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    assert_eq!(events(&path).0, [touch(1)]);
}
