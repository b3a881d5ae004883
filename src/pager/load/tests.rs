use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use super::super::file::Sharing;
use super::chunks::Chunks;
use super::reader::Reader;
use super::*;
use crate::policy::Role;

const CHUNK: u64 = HUGE as u64;

fn piece(bytes: std::ops::Range<u64>, role: Role) -> Piece {
    Piece { bytes, role, expert: None }
}

#[test]
fn chunks_come_in_the_order_of_computation_and_each_once() {
    let pieces = [
        piece(0..CHUNK / 2, Role::Row),
        piece(6 * CHUNK + 5..7 * CHUNK + 1, Role::Cyclic),
        piece(2 * CHUNK..4 * CHUNK, Role::Cyclic),
        piece(3 * CHUNK..3 * CHUNK + 9, Role::Cyclic),
        piece(6 * CHUNK..6 * CHUNK + 5, Role::Expert { layer: 1 }),
    ];
    let chunks = Chunks::new(0..8 * CHUNK + 7, &pieces);
    assert_eq!(chunks.order, [6, 7, 2, 3, 0, 1, 4, 5, 8]);
    assert_eq!(chunks.bytes(8), 8 * CHUNK..8 * CHUNK + 7);
    assert_eq!(chunks.within(CHUNK..3 * CHUNK + 1).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(chunks.within(7 * CHUNK..9 * CHUNK).collect::<Vec<_>>(), [7, 8]);
    // A mapping that begins inside of a chunk and ends before the last piece.
    let part = Chunks::new(2 * CHUNK + 4096..6 * CHUNK + 6, &pieces);
    assert_eq!(part.order, [4, 0, 1, 2, 3]);
    assert_eq!((part.bytes(0), part.bytes(4)), (2 * CHUNK + 4096..3 * CHUNK, 6 * CHUNK..6 * CHUNK + 6));
}

/// A file of `bytes` bytes that is not in the page cache, or nothing where that cannot be had.
fn cold_file(bytes: u64) -> Option<(File, ModelFile)> {
    let mut file = tempfile::tempfile_in(".").unwrap();
    file.write_all(&vec![3u8; bytes as usize]).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let model = ModelFile::reopen(file.as_fd(), Sharing::Shared, false).unwrap();
    if cached::count(file.as_fd(), 0..bytes).ok() != Some(0) {
        eprintln!("skipped: no cachestat, or a page cache that cannot be emptied");
        assert!(std::env::var_os("GGPAGER_REQUIRE_ALL").is_none());
        return None;
    }
    Some((file, model))
}

#[test]
fn both_rungs_read_the_chunk_and_only_that() {
    let bytes = 3 * CHUNK + 5000;
    for advice in [false, true] {
        let Some((file, model)) = cold_file(bytes) else { return };
        let reader = if advice { Reader::by_advice() } else { Reader::new(&model, 0..bytes) };
        let pages = |bytes: std::ops::Range<u64>| cached::count(file.as_fd(), bytes).unwrap();
        reader.read(&model, CHUNK..2 * CHUNK).unwrap();
        assert_eq!(pages(CHUNK..2 * CHUNK), 512, "by advice: {advice}");
        assert_eq!(pages(0..CHUNK), 0, "by advice: {advice}");
        reader.read(&model, 3 * CHUNK..bytes).unwrap();
        assert_eq!(pages(3 * CHUNK..bytes), 2, "by advice: {advice}");
        // Shorter now: an error, no signal.
        file.set_len(CHUNK).unwrap();
        assert!(reader.read(&model, 2 * CHUNK..3 * CHUNK).is_err(), "by advice: {advice}");
    }
}

#[test]
fn the_page_cache_is_asked_by_counting_and_by_sampling() {
    let Some((file, _)) = cold_file(CHUNK) else { return };
    // Asking starts a readahead, and a fast drive may have answered before the kernel looks again.
    let is_cold = |_| {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        !Cached::Sample(cached::sample(file.as_fd(), 0..CHUNK)).is_all()
    };
    assert!((0..1000).any(is_cold));
    let mut all = vec![0u8; CHUNK as usize];
    rustix::io::pread(&file, &mut all, 0).unwrap();
    assert_eq!(Cached::ask(file.as_fd(), 0..CHUNK - 1), Cached::Pages { present: 512, all: 512 });
    assert!(cached::sample(file.as_fd(), 0..CHUNK - 1) && cached::sample(file.as_fd(), 4096..4097));
    // A hole between two samples of a large file is not seen; a cold end is.
    rustix::fs::fadvise(&file, CHUNK - 4096, None, rustix::fs::Advice::DontNeed).unwrap();
    if cached::count(file.as_fd(), 0..CHUNK).unwrap() < 512 {
        assert!(!cached::sample(file.as_fd(), 0..CHUNK));
    }
}
