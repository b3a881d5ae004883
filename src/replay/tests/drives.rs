//! Drives, told and found.

use super::recording::Span;
use super::*;
use crate::sim::Server;

#[test]
fn the_drive_is_found_in_the_reads() {
    let order: Vec<BlockId> = (0..1000).collect();
    let program = Program::cyclic(Vec::new(), &order, 6);
    let (_, log) = program.run(&mut Learned::default(), program.bytes() / 2, 2);
    let found = drive::measured(&read(log).reads, None).unwrap();
    assert_near(found.bytes_per_s, drive().bytes_per_s, 0.03, "rate");
    assert_near(found.latency_ns as f64, drive().latency_ns as f64, 0.2, "latency");
    assert!((15..=18).contains(&found.queue_depth), "{found:?}");
    assert_eq!(drive::measured(&[], None), None);
}

#[test]
fn drives_are_told_in_words() {
    let told = |text: &str| text.parse::<drive::Choice>();
    let drive = Drive { bytes_per_s: 8e8, latency_ns: 100_000, queue_depth: 32, limit_bytes_per_s: None };
    assert_eq!(told("800MB/s:100us:32"), Ok(drive::Choice::Told(drive)));
    assert_eq!(told("800MB:0.1ms:32"), Ok(drive::Choice::Told(drive)));
    assert_eq!(told("Measured"), Ok(drive::Choice::Measured { limit_bytes_per_s: None }));
    let limited = Drive { limit_bytes_per_s: Some(5e8), ..drive };
    assert_eq!(told("800MB/s:100us:32@500MB/s"), Ok(drive::Choice::Told(limited)));
    assert_eq!(told("measured@500MB/s"), Ok(drive::Choice::Measured { limit_bytes_per_s: Some(5e8) }));
    assert_eq!(drive::name(&limited), "800.00 MB/s, 100 us, depth 32, held to 500.00 MB/s");
    let Ok(drive::Choice::Told(short)) = told("1GB/s") else { panic!("a rate alone is a drive") };
    assert_eq!((short.bytes_per_s, short.queue_depth), (1e9, 16));
    for text in ["", "fast", "0", "1GB/s:5", "1GB/s:5us:0", "1GB/s:5us:1:1", "1GB/s:-5us", "1GB/s@", "measured@0"] {
        assert!(told(text).is_err(), "{text}");
    }
}

#[test]
fn bursts_have_the_latency_of_their_first_read() {
    // Five reads asked for together, 50 us apart, whenever the threads have computed for 3 ms.
    let (rate, latency_ns, bytes) = (1e9, 1_000_000, 400_000);
    let mut reads = Vec::new();
    let mut now_ns = 0;
    for _ in 0..50 {
        let mut free_ns = 0;
        for at in 0..5 {
            let start_ns = now_ns + at * 50_000;
            free_ns = free_ns.max(start_ns + latency_ns) + bytes;
            reads.push(Span { start_ns, end_ns: free_ns, bytes });
        }
        now_ns = free_ns + 3_000_000;
    }
    let found = drive::measured(&reads, None).unwrap();
    assert_near(found.bytes_per_s, rate, 0.01, "rate");
    assert_near(found.latency_ns as f64, latency_ns as f64, 0.02, "latency");
    // Nothing that follows on another: its own time is all there is.
    let found = drive::measured(&reads[..1], None).unwrap();
    assert_eq!((found.bytes_per_s, found.latency_ns), (400_000.0 / 1.4e6 * 1e9, 0));
}

#[test]
fn what_a_limit_held_back_tells_nothing_of_the_drive() {
    // Bursts of five reads, first with so long a pause behind each that the limit allows them, then without.
    let (latency_ns, bytes) = (1_000_000, 400_000);
    let drive = Drive { bytes_per_s: 1e9, latency_ns, queue_depth: 16, limit_bytes_per_s: Some(2e8) };
    let (mut server, mut reads, mut now_ns) = (Server::default(), Vec::new(), 1_000_000_000);
    for burst in 0..200 {
        let start_ns = now_ns;
        for _ in 0..5 {
            now_ns = server.ends_ns(&drive, start_ns, bytes);
            reads.push(Span { start_ns, end_ns: now_ns, bytes });
        }
        now_ns += if burst < 100 { 20_000_000 } else { 100_000 };
    }
    let told = drive::measured(&reads, Some(2e8)).unwrap();
    assert_near(told.bytes_per_s, 1e9, 0.02, "rate");
    assert_near(told.latency_ns as f64, latency_ns as f64, 0.02, "latency");
    assert_eq!(told.limit_bytes_per_s, Some(2e8));
    let untold = drive::measured(&reads, None).unwrap();
    assert!(untold.bytes_per_s < 0.8e9 && untold.limit_bytes_per_s.is_none(), "{untold:?}");
}
