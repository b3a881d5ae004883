use std::io;

use proptest::collection::vec;
use proptest::prelude::*;

use super::chunk::{self, CHUNK_HEAD, FULL, Kind, LOG_HEAD};
use super::*;
use crate::policy::{Block, Role, Touch};

fn event() -> impl Strategy<Value = Event> {
    let touch = prop_oneof![Just(Touch::Absent), Just(Touch::Reading), Just(Touch::Staged)];
    let why = prop_oneof![Just(Why::Demand), Just(Why::Readahead)];
    let foreteller = prop_oneof![Just(Foreteller::Gate), Just(Foreteller::CoOccurrence)];
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u32>(), touch).prop_map(|(block, offset, tid, found)| Event::Touch {
            block,
            offset,
            tid,
            found
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(block, tid)| Event::Woken { block, tid }),
        (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u8>(), why)
            .prop_map(|(read, block, start, len, source, why)| Event::Read { read, block, start, len, source, why }),
        (any::<u32>(), any::<i32>()).prop_map(|(read, result)| Event::ReadEnd { read, result }),
        any::<u32>().prop_map(|block| Event::Install { block }),
        (any::<u32>(), any::<bool>()).prop_map(|(block, untouched)| Event::Evict { block, untouched }),
        any::<u32>().prop_map(|block| Event::Rearm { block }),
        any::<u64>().prop_map(|bytes| Event::Budget { bytes }),
        any::<u64>().prop_map(|number| Event::Cycle { number }),
        any::<(u32, u32, u32)>().prop_map(|(layer, token, expert)| Event::Routed { layer, token, expert }),
        (any::<u32>(), any::<u32>(), foreteller).prop_map(|(layer, expert, by)| Event::Guessed { layer, expert, by }),
        any::<(u32, u32, u8)>().prop_map(|(layer, expert, level)| Event::Affine { layer, expert, level }),
        any::<u32>().prop_map(|view| Event::Unmapped { view }),
        any::<u64>().prop_map(|records| Event::Lost { records }),
    ]
}

fn block() -> impl Strategy<Value = Block> {
    let role = prop_oneof![Just(Role::Cyclic), Just(Role::Row), any::<u32>().prop_map(|layer| Role::Expert { layer })];
    (any::<u32>(), 0..u64::MAX / 2, any::<u32>(), any::<u32>(), role)
        .prop_map(|(view, offset, len, frame_bytes, role)| Block { view, offset, len, frame_bytes, role })
}

prop_compose! {
    fn tensor()(
        (name, role) in ("\\PC{0,20}", "[a-z_]{0,9}"),
        layer in any::<Option<u32>>(),
        (offset, bytes, experts) in any::<(u64, u64, u32)>(),
    ) -> Tensor {
        Tensor { name, role, layer, offset, bytes, experts }
    }
}

prop_compose! {
    fn view()(
        (number, first_block) in (any::<u32>(), 0..u32::MAX / 2),
        (path, file_bytes, inode, modified_unix_ns) in ("\\PC{0,20}", any::<u64>(), any::<(u64, u64)>(), any::<i64>()),
        (offset, bytes) in any::<(u64, u64)>(),
        strange in vec(block(), 0..20),
        (run, len) in (0..40u32, 0..3u32),
        order in vec(any::<u32>(), 0..40),
        forward in any::<bool>(),
        tensors in vec(tensor(), 0..4),
    ) -> View {
        // A run, as in every model, and then whatever may be.
        let like = Block { view: number, offset: 0, len: len * 4096, frame_bytes: 2 << 20, role: Role::Cyclic };
        let mut blocks: Vec<Block> =
            (0..run).map(|index| Block { offset: u64::from(index * like.len), ..like }).collect();
        blocks.extend(strange);
        let count = blocks.len() as u32;
        let expected_order = match (count, forward) {
            (0, _) => Vec::new(),
            (_, true) => (0..count).chain(0..count / 2).collect(),
            (_, false) => order.into_iter().map(|index| index % count).collect(),
        };
        View {
            at_ns: 0, number, path, file_bytes, inode, modified_unix_ns, offset, bytes, first_block, blocks,
            expected_order, tensors,
        }
    }
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        20 => event().prop_map(|event| Item::Record(Record { at_ns: 0, event })),
        1 => view().prop_map(|view| Item::View(Box::new(view))),
    ]
}

/// Items at times that never decrease.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let step = prop_oneof![5 => 0..5_000_000u64, 1 => 0..u64::MAX >> 12];
    vec((step, item()), 0..200).prop_map(|steps| {
        let mut now = 0;
        let timed = steps.into_iter().map(|(step, mut item)| {
            now += step;
            match &mut item {
                Item::View(view) => view.at_ns = now,
                Item::Record(record) => record.at_ns = now,
            }
            item
        });
        timed.collect()
    })
}

fn header() -> Header {
    Header { recorder: "a test".into(), budget_bytes: 7 << 30, started_unix_ns: 1 << 60, ..Header::default() }
}

/// The bytes of a log whose chunks end after every `flush_every` items.
fn log(items: &[Item], flush_every: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), &header()).unwrap();
    for some in items.chunks(flush_every) {
        some.iter().for_each(|item| encoder.push(item).unwrap());
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap();
    assert_eq!(encoder.bytes(), encoder.get_mut().len() as u64);
    encoder.into_inner()
}

/// What a log gives: its items, and either where it is cut off or its error.
fn read(bytes: &[u8]) -> (Vec<Item>, Result<Option<u64>, Error>) {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Err(error)),
    };
    assert_eq!(reader.header(), &header());
    let mut items = Vec::new();
    while let Some(item) = reader.next() {
        match item {
            Ok(item) => items.push(item),
            Err(error) => {
                assert!(reader.next().is_none() && reader.cut_off().is_none());
                return (items, Err(error));
            }
        }
    }
    (items, Ok(reader.cut_off()))
}

fn times(count: u64) -> Vec<Item> {
    let touch = |at: u64| Event::Touch { block: at as u32 * 7 % 1000, offset: 4096, tid: 77, found: Touch::Staged };
    (0..count).map(|at| Item::Record(Record { at_ns: at * 1000, event: touch(at) })).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in items(), flush_every in 1usize..100) {
        let (have, end) = read(&log(&items, flush_every));
        prop_assert_eq!(have, items);
        prop_assert!(matches!(end, Ok(None)), "{:?}", end);
    }

    #[test]
    fn a_log_that_is_cut_off_gives_its_whole_chunks(items in items(), flush_every in 1usize..50, cut in 0.0..1.0) {
        let bytes = log(&items, flush_every);
        let cut = (bytes.len() as f64 * cut) as usize;
        let (have, end) = read(&bytes[..cut]);
        prop_assert!(items.starts_with(&have));
        match end {
            // Within the header there is no log yet.
            Err(error) => prop_assert!(have.is_empty() && error.offset() <= cut as u64),
            Ok(whole) => {
                let whole = whole.expect("the end is missing") as usize;
                prop_assert!(whole <= cut);
                prop_assert_eq!(read(&bytes[..whole]).0.len(), have.len());
                // No chunk is longer than this, so no more than one is missing.
                prop_assert!(have.len() + 2 * flush_every + 200 >= items.len() || cut - whole < FULL);
            }
        }
    }

    #[test]
    fn no_flipped_bit_is_overlooked(items in items(), flush_every in 1usize..50, at in 0.0..1.0, bit in 0u8..8) {
        let mut bytes = log(&items, flush_every);
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        let (have, end) = read(&bytes);
        prop_assert!(items.starts_with(&have));
        let error = end.expect_err("a flipped bit");
        prop_assert!(error.offset() <= at as u64, "{} for a bit at {}", error, at);
    }

    /// The checksums are right, the content is anything.
    #[test]
    fn any_payload_is_items_or_an_error(payload in vec(any::<u8>(), 0..400), count in 0u32..60, view: bool) {
        let (items, end) = read(&with_chunk(if view { Kind::View } else { Kind::Records }, &payload, count));
        if let Err(error) = end {
            let start = log(&[], 1).len() as u64;
            prop_assert!((start..=start + payload.len() as u64).contains(&error.offset()), "{}", error);
        } else {
            prop_assert_eq!(items.len(), if view { 1 } else { count as usize });
        }
    }
}

/// A log of one chunk without an end.
fn with_chunk(kind: Kind, payload: &[u8], count: u32) -> Vec<u8> {
    let mut chunk = [&[0; CHUNK_HEAD], payload].concat();
    chunk::seal(&mut chunk, kind, count);
    let mut bytes = log(&[], 1);
    bytes.truncate(bytes.len() - CHUNK_HEAD);
    bytes.extend_from_slice(&chunk);
    bytes
}

fn what(bytes: &[u8]) -> &'static str {
    match read(bytes).1 {
        Err(Error::Damaged { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_out_of_range_are_errors() {
    let number = |value: u64| {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, value);
        bytes
    };
    let records = |parts: &[&[u8]], count| with_chunk(Kind::Records, &parts.concat(), count);
    assert_eq!(what(&records(&[&[18, 0]], 1)), "an unknown event");
    assert_eq!(read(&records(&[&[16, 0, 3, 4, 1]], 1)).0.len(), 1);
    assert_eq!(read(&records(&[&[17, 0, 3, 4, 15]], 1)).0.len(), 1);
    let unknown = records(&[&[16, 0, 3, 4, 0], &[16, 0, 3, 4, 2]], 2);
    assert_eq!(what(&unknown), "an unknown foreteller");
    assert_eq!(read(&unknown).1.unwrap_err().offset(), unknown.len() as u64 - 5);
    assert_eq!(what(&records(&[&[16, 0, 3, 4]], 1)), "a text ends early");
    // An install 2^32 blocks behind block 0, one in front of it, and the last one there is.
    assert_eq!(what(&records(&[&[7, 0], &number(2 << 32)], 1)), "a number is out of range");
    assert_eq!(what(&records(&[&[7, 0], &number(1)], 1)), "a number is out of range");
    assert_eq!(read(&records(&[&[7, 0], &number((2 << 32) - 2)], 1)).0.len(), 1);
    // A time that overflows, an eleventh byte, a tenth that is too large.
    assert_eq!(what(&records(&[&[12, 1, 0, 12], &number(u64::MAX), &[0]], 2)), "a time is out of range");
    assert_eq!(what(&records(&[&[12], &[0x80; 10], &[0]], 1)), "a number is out of range");
    assert_eq!(what(&records(&[&[12], &[0xff; 9], &[2, 0]], 1)), "a number is out of range");
    assert_eq!(what(&records(&[&[12, 1, 0]], 2)), "a text ends early");
    assert_eq!(what(&records(&[&[12, 1]], 1)), "a number ends early");
    assert_eq!(what(&records(&[&[12, 1, 0, 0]], 1)), "more bytes than the records need");
    assert_eq!(what(&records(&[], 0)), "a chunk without records");
    // A result of -2^31 - 1.
    assert_eq!(what(&records(&[&[6, 0, 0], &number((1 << 32) + 1)], 1)), "a result is out of range");
    assert_eq!(what(&with_chunk(Kind::Header, b"{}", 1)), "a second header");
}

#[test]
fn time_does_not_run_backwards() {
    let later = [12, 5, 0];
    let mut bytes = with_chunk(Kind::Records, &later, 1);
    let chunk = bytes[bytes.len() - CHUNK_HEAD - later.len()..].to_vec();
    bytes.extend_from_slice(&chunk);
    assert_eq!(read(&bytes).0.len(), 2, "the same time is no earlier");
    bytes.extend_from_slice(&with_chunk(Kind::Records, &[12, 4, 0], 1)[bytes.len() - 2 * chunk.len()..]);
    assert_eq!(what(&bytes), "an item that is earlier than the one before");

    let mut encoder = Encoder::new(io::sink(), &header()).unwrap();
    let items = times(3);
    encoder.push(&items[2]).unwrap();
    assert_eq!(encoder.push(&items[1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_length_is_checked_before_it_is_believed() {
    for (kind, len) in [(Kind::Records, 1u32 << 30), (Kind::View, 1 << 30), (Kind::End, 1)] {
        let mut bytes = with_chunk(kind, &[], 1);
        let at = bytes.len() - CHUNK_HEAD;
        bytes[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
        let sum = chunk::short_sum(&bytes[at..at + 20]);
        bytes[at + 20..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(what(&bytes), "a chunk that is too long");
    }
}

#[test]
fn unknown_chunks_are_passed_over_and_newer_versions_refused() {
    let mut bytes = with_chunk(Kind::Records, &[12, 5, 0], 1);
    let known = bytes.len();
    let foreign = vec![7; 200_000];
    bytes.extend_from_slice(&[&[0; CHUNK_HEAD], foreign.as_slice()].concat());
    chunk::seal(&mut bytes[known..], Kind::Records, 9);
    bytes[known] = 99;
    let sum = chunk::short_sum(&bytes[known..known + 20]);
    bytes[known + 20..known + 24].copy_from_slice(&sum.to_le_bytes());
    let all = bytes.len();
    bytes.extend_from_slice(&with_chunk(Kind::Records, &[12, 6, 0], 1)[known - CHUNK_HEAD - 3..]);
    let (items, end) = read(&bytes);
    assert_eq!((items.len(), end.unwrap()), (2, Some(bytes.len() as u64)));
    assert_eq!(read(&bytes[..all - 1]).1.unwrap(), Some(known as u64));
    bytes[known + 100_000] ^= 1;
    assert_eq!(what(&bytes), "a wrong checksum");

    let of_version = |major: u8| {
        let mut bytes = log(&[], 1);
        bytes[8] = major;
        let sum = chunk::short_sum(&bytes[..12]);
        bytes[12..LOG_HEAD].copy_from_slice(&sum.to_le_bytes());
        read(&bytes).1
    };
    assert!(of_version(1).is_ok(), "an older log");
    assert!(matches!(of_version(4), Err(Error::Version(4))));
    assert!(matches!(read(b"time_ns,tid\n").1, Err(Error::Foreign)));
    assert!(matches!(read(b"").1, Err(Error::Foreign)));
}

#[test]
fn a_view_must_be_sound() {
    let block = Block { view: 0, offset: 0, len: 4096, frame_bytes: 4096, role: Role::Cyclic };
    let view = View {
        at_ns: 0,
        number: 0,
        path: String::new(),
        file_bytes: 4096,
        inode: (1, 2),
        modified_unix_ns: 0,
        offset: 0,
        bytes: 4096,
        first_block: u32::MAX,
        blocks: Vec::new(),
        expected_order: Vec::new(),
        tensors: Vec::new(),
    };
    for bad in [
        View { blocks: vec![block], ..view.clone() },
        View { expected_order: vec![0], ..view.clone() },
        View { first_block: 0, blocks: vec![Block { offset: u64::MAX - 4095, ..block }], ..view.clone() },
    ] {
        let mut payload = Vec::new();
        let mut encoder = Encoder::new(io::sink(), &header()).unwrap();
        assert_eq!(encoder.view(&bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        if bad.blocks.iter().all(|block| block.offset == 0) {
            views::encode(&mut payload, &bad);
            read(&with_chunk(Kind::View, &payload, 1)).1.expect_err("an unsound view");
        }
    }
    // A few bytes that claim 2^40 blocks.
    let mut payload = Vec::new();
    views::encode(&mut payload, &view);
    payload.truncate(payload.len() - 2);
    payload.push(1);
    varint::put(&mut payload, 1 << 40);
    assert_eq!(what(&with_chunk(Kind::View, &payload, 1)), "a run of a wrong length");
}

/// A writer that has room for so many chunks.
struct Disk {
    room: usize,
    bytes: Vec<u8>,
}

impl io::Write for Disk {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= 1;
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_refused_chunk_is_left_out() {
    let items = times(30);
    let mut encoder = Encoder::new(Disk { room: 2, bytes: Vec::new() }, &header()).unwrap();
    let pushed = |encoder: &mut Encoder<Disk>, range: std::ops::Range<usize>| {
        items[range].iter().for_each(|item| encoder.push(item).unwrap());
        encoder.flush()
    };
    pushed(&mut encoder, 0..10).unwrap();
    assert_eq!(pushed(&mut encoder, 10..20).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((encoder.records(), encoder.pending()), (10, 0));
    encoder.get_mut().room = 2;
    pushed(&mut encoder, 20..30).unwrap();
    encoder.finish().unwrap();
    let (have, end) = read(&encoder.into_inner().bytes);
    assert_eq!(have, [&items[..10], &items[20..]].concat());
    assert_eq!(end.unwrap(), None);
}

#[test]
fn chunks_end_by_themselves_and_stay_small() {
    let items = times(200_000);
    let bytes = log(&items, usize::MAX);
    assert!(bytes.len() < 10 * items.len(), "{} bytes", bytes.len());
    let (have, end) = read(&bytes[..bytes.len() / 2]);
    assert!(have.len() > items.len() * 2 / 5, "{} items", have.len());
    assert!(bytes.len() as u64 / 2 - end.unwrap().unwrap() < 2 * FULL as u64);
}
