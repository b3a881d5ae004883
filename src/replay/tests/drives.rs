//! Drives, told and found.

use super::recording::Span;
use super::*;

#[test]
fn the_drive_is_found_in_the_reads() {
    let order: Vec<BlockId> = (0..1000).collect();
    let program = Program::cyclic(Vec::new(), &order, 6);
    let (_, log) = program.run(&mut Learned::default(), program.bytes() / 2, 2);
    let found = drive::measured(&read(log).reads).unwrap();
    assert_near(found.bytes_per_s, drive().bytes_per_s, 0.03, "rate");
    assert_near(found.latency_ns as f64, drive().latency_ns as f64, 0.2, "latency");
    assert!((15..=18).contains(&found.queue_depth), "{found:?}");
    assert_eq!(drive::measured(&[]), None);
}

#[test]
fn drives_are_told_in_words() {
    let told = |text: &str| text.parse::<drive::Choice>();
    let drive = Drive { bytes_per_s: 8e8, latency_ns: 100_000, queue_depth: 32 };
    assert_eq!(told("800MB/s:100us:32"), Ok(drive::Choice::Told(drive)));
    assert_eq!(told("800MB:0.1ms:32"), Ok(drive::Choice::Told(drive)));
    assert_eq!(told("Measured"), Ok(drive::Choice::Measured));
    let Ok(drive::Choice::Told(short)) = told("1GB/s") else { panic!("a rate alone is a drive") };
    assert_eq!((short.bytes_per_s, short.queue_depth), (1e9, 16));
    for text in ["", "fast", "0", "1GB/s:5", "1GB/s:5us:0", "1GB/s:5us:1:1", "1GB/s:-5us"] {
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
    let found = drive::measured(&reads).unwrap();
    assert_near(found.bytes_per_s, rate, 0.01, "rate");
    assert_near(found.latency_ns as f64, latency_ns as f64, 0.02, "latency");
    // Nothing that follows on another: its own time is all there is.
    let found = drive::measured(&reads[..1]).unwrap();
    assert_eq!((found.bytes_per_s, found.latency_ns), (400_000.0 / 1.4e6 * 1e9, 0));
}
