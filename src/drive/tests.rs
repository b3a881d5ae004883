//! Real reads of a real file.

use std::collections::HashSet;

use super::*;

fn file_of(bytes: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    std::fs::write(file.path(), content).unwrap();
    file.as_file().sync_all().unwrap();
    file
}

fn options(request_bytes: u32, bytes_max: u64) -> Options {
    Options { request_bytes, depth: 4, bytes_max, time_max: Duration::from_secs(20), ..Options::default() }
}

#[test]
fn scattered_places_cover_the_file_once_before_any_twice() {
    for count in [1u64, 2, 3, 7, 64, 1000] {
        let options = options(4096, count * 4096);
        let places: Vec<u64> = Places::new(count * 4096 + 100, &options).unwrap().collect();
        let distinct: HashSet<u64> = places.iter().copied().collect();
        assert_eq!((places.len() as u64, distinct.len() as u64), (count, count));
        assert!(places.iter().all(|offset| offset + 4096 <= count * 4096), "{places:?}");
    }
}

#[test]
fn sequential_places_go_around() {
    let options = Options { pattern: Pattern::Sequential { start: 9000 }, ..options(4096, 4 * 4096) };
    let places: Vec<u64> = Places::new(3 * 4096, &options).unwrap().collect();
    assert_eq!(places, [8192, 0, 4096, 8192]);
}

#[test]
fn every_rung_reads_what_was_asked() {
    let file = file_of(8 << 20);
    for (direct, uring) in [(true, true), (false, true), (true, false), (false, false)] {
        let options = Options { direct, uring, ..options(256 << 10, 4 << 20) };
        let rate = measure(file.path(), &options).unwrap();
        assert_eq!((rate.bytes, rate.reads), (4 << 20, 16), "{rate:?}");
        assert!(rate.bytes_per_s > 0.0 && rate.mean_latency_us > 0.0, "{rate:?}");
        assert_eq!(rate.rung == IoRung::Pread, !uring, "{rate:?}");
        assert!(direct || rate.rung != IoRung::UringDirect, "{rate:?}");
        assert!(direct || !rate.direct, "{rate:?}");
    }
}

#[test]
fn a_file_smaller_than_a_request_and_no_time_still_give_one_read() {
    let file = file_of(1000);
    for uring in [true, false] {
        let options = Options { uring, time_max: Duration::ZERO, ..options(1 << 20, u64::MAX) };
        let rate = measure(file.path(), &options).unwrap();
        assert!(rate.reads >= 1 && rate.bytes == rate.reads * 1000, "{rate:?}");
    }
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let file = file_of(0);
    assert!(measure(file.path(), &Options::default()).is_err());
    assert!(measure(Path::new("/nowhere/at/all"), &Options::default()).is_err());
    let greedy = Options { request_bytes: 1 << 30, depth: 1024, ..Options::default() };
    assert_eq!(measure(file.path(), &greedy).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn the_drive_of_a_file_is_found() {
    let file = file_of(4096);
    let device = device::Device::of(file.path()).unwrap();
    assert!(device.filesystem.is_some() && device.source.is_some(), "{device:?}");
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(text.contains(device.source.as_deref().unwrap()), "{device:?}");
    if let Some(drive) = &device.drive {
        assert!(Path::new("/sys/block").join(drive).exists(), "{device:?}");
        assert!(device.read_ahead_kib.is_some() && device.rotational.is_some(), "{device:?}");
    }
    assert!(device::Device::of(Path::new("/nowhere/at/all")).is_err());
    let memory = device::Device::of(Path::new("/proc/self/status")).unwrap();
    assert_eq!((memory.filesystem.as_deref(), memory.drive), (Some("proc"), None));
}
