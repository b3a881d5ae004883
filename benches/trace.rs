//! What fault logs cost: the pager thread to note a record, the writer to encode it, a tool to read it.
//!
//! Asked: ten million records are read in less than two seconds by one thread.

mod common;

use std::io;
use std::time::Instant;

use common::{GB, header, median, setting};
use ggpager::config::{ByteSize, Settings};
use ggpager::pager::meter::Meter;
use ggpager::pager::trace::Tracer;
use ggpager::policy::Touch;
use ggpager::trace::{Encoder, Event, Header, Item, Reader, Record, Why};

/// What happens to block after block of a model that streams: a read ahead, a touch, an eviction.
fn event(at: u64) -> Event {
    let block = (at / 7 % 4000) as u32;
    let read = (at / 7 % 16) as u32;
    match at % 7 {
        0 => Event::Read { read, block: (block + 16) % 4000, start: 0, len: 2 << 20, source: 0, why: Why::Readahead },
        1 => Event::Touch { block, offset: 4096 * read, tid: 40_000 + read % 2, found: Touch::Staged },
        2 => Event::Install { block },
        3 => Event::Woken { block, tid: 40_000 + read % 2 },
        4 => Event::ReadEnd { read, result: 2 << 20 },
        5 => Event::Evict { block: (block + 3900) % 4000, untouched: false },
        _ => Event::Rearm { block: (block + 3990) % 4000 },
    }
}

fn main() -> io::Result<()> {
    header("fault logs: nanoseconds a record");
    let count = setting("GGPAGER_BENCH_RECORDS", 10_000_000);
    let rounds = setting("GGPAGER_BENCH_ROUNDS", 5) as usize;
    let (mut encode, mut decode, mut log) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        log.clear();
        let start = Instant::now();
        let mut encoder = Encoder::new(log, &Header::default())?;
        for at in 0..count {
            encoder.record(&Record { at_ns: at * 1500, event: event(at) })?;
        }
        encoder.finish()?;
        log = encoder.into_inner();
        encode.push(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut reader = Reader::new(log.as_slice()).map_err(io::Error::other)?;
        let (mut seen, mut touches) = (0, 0);
        for item in &mut reader {
            let Item::Record(record) = item.map_err(io::Error::other)? else { continue };
            touches += u64::from(matches!(record.event, Event::Touch { .. }));
            seen += 1;
        }
        decode.push(start.elapsed().as_secs_f64());
        assert_eq!((seen, touches, reader.cut_off()), (count, (count + 5) / 7, None));
    }
    let each = |seconds: &mut [f64]| (median(seconds), median(seconds) * 1e9 / count as f64);
    let ((encoded, encode_ns), (decoded, decode_ns)) = (each(&mut encode), each(&mut decode));
    println!("{count} records, {:.3} GB, {:.2} bytes each", log.len() as f64 / GB, log.len() as f64 / count as f64);
    println!("encode {encoded:.3} s, {encode_ns:.1} ns a record");
    println!("read   {decoded:.3} s, {decode_ns:.1} ns a record");
    let folder = tempfile::tempdir()?;
    let settings =
        Settings { trace: Some(folder.path().join("log")), trace_limit: ByteSize(u64::MAX / 2), ..Settings::default() };
    let (mut tracer, clock) = (Tracer::new(&settings), Meter::new());
    // Fewer than the ring holds, so that none is dropped.
    let burst = 30_000;
    for (what, on) in [("off", false), ("on", true)] {
        if on {
            tracer.begin(&clock);
        }
        let mut note: Vec<f64> = (0..200)
            .map(|_| {
                let start = Instant::now();
                (0..burst).for_each(|at| tracer.note(&clock, std::hint::black_box(event(at))));
                let seconds = start.elapsed().as_secs_f64();
                tracer.finish();
                seconds * 1e9 / burst as f64
            })
            .collect();
        println!("note   {:.1} ns a record with the log {what}", median(&mut note));
    }
    Ok(())
}
