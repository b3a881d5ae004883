//! Any bytes as a fault log: items or an error, never a panic. `cargo +nightly fuzz run trace`

#![no_main]

use ggpager::trace::{Encoder, Header, Item, Reader};
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a chunk's head.
const HEAD: usize = 24;

fuzz_target!(|input: &[u8]| {
    read(input);
    // The input as the payload of a chunk whose checksums are right: the fuzzer does not find them.
    let Some((&first, payload)) = input.split_first() else { return };
    let mut log = Encoder::new(Vec::new(), &Header::default()).expect("memory").into_inner();
    let mut head = [u32::from(first % 6), payload.len() as u32, u32::from(first / 6)].map(u32::to_le_bytes).concat();
    head.extend_from_slice(&xxh3_64(payload).to_le_bytes());
    head.extend_from_slice(&xxh3_64(&head).to_le_bytes()[..4]);
    assert_eq!(head.len(), HEAD);
    log.extend_from_slice(&head);
    log.extend_from_slice(payload);
    let items = read(&log);
    let mut again = Encoder::new(Vec::new(), &Header::default()).expect("memory");
    for item in &items {
        again.push(item).expect("what was read can be written");
    }
    again.finish().expect("memory");
    assert_eq!(read(&again.into_inner()), items);
});

fn read(log: &[u8]) -> Vec<Item> {
    let Ok(reader) = Reader::new(log) else { return Vec::new() };
    let mut items = Vec::new();
    for item in reader {
        match item {
            Ok(item) => items.push(item),
            Err(error) => assert!(error.offset() <= log.len() as u64),
        }
    }
    items
}
