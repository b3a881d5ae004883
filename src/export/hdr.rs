//! An HdrHistogram interval log (version 2, compressed), which HistogramLogAnalyzer and the libraries of
//! other languages read: one interval for each second, with a tag for each kind of value. Latencies and
//! sleeps are nanoseconds, sizes bytes; three digits are kept.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder, Tag};

use super::Items;
use crate::report::{Sleep, Sleepers, kind};
use crate::trace::{Event, Header, Item, Why};

/// Length of an interval, in nanoseconds.
const INTERVAL_NS: u64 = 1_000_000_000;

/// The kinds of values. Latencies and sizes: demand, readahead; sleeps: by how the touch found the
/// block.
const TAGS: [&str; 7] = [
    "latency_demand_ns",
    "latency_readahead_ns",
    "size_demand_bytes",
    "size_readahead_bytes",
    "sleep_demand_ns",
    "sleep_in_flight_ns",
    "sleep_staged_ns",
];

fn reason(why: Why) -> usize {
    usize::from(why == Why::Readahead)
}

/// Writes the distributions.
pub fn write(header: &Header, items: Items, mut out: &mut dyn Write) -> anyhow::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let started = UNIX_EPOCH + Duration::from_nanos(header.started_unix_ns);
    let log = IntervalLogWriterBuilder::new()
        .add_comment("ggpager")
        .with_start_time(started)
        .with_base_time(started)
        .begin_log_with(&mut out, &mut serializer)?;
    let empty = Histogram::new_with_bounds(1, 1 << 42, 3)?;
    let mut intervals = Intervals { log, start_ns: None, all: std::array::from_fn(|_| empty.clone()) };
    let mut sleepers = Sleepers::default();
    let mut reads: HashMap<u32, (u64, Why)> = HashMap::new();
    for item in items {
        let Item::Record(record) = item? else { continue };
        let at_ns = record.at_ns;
        intervals.pass(at_ns)?;
        match record.event {
            Event::Touch { block, tid, found, .. } => {
                sleepers.touched(block, tid, Sleep { since_ns: at_ns, found });
            }
            Event::Woken { block, tid } => {
                if let Some(sleep) = sleepers.woken(block, tid) {
                    intervals.add(4 + kind(sleep.found), at_ns - sleep.since_ns);
                }
            }
            Event::Read { read, len, why, .. } => {
                reads.insert(read, (at_ns, why));
                intervals.add(2 + reason(why), u64::from(len));
            }
            Event::ReadEnd { read, .. } => {
                if let Some((since_ns, why)) = reads.remove(&read) {
                    intervals.add(reason(why), at_ns - since_ns);
                }
            }
            Event::Lost { .. } => {
                sleepers.clear();
                reads.clear();
            }
            _ => {}
        }
    }
    intervals.close()
}

struct Intervals<'a, 'b, W: Write> {
    log: IntervalLogWriter<'a, 'b, W, V2DeflateSerializer>,
    /// Start of the interval, in whole intervals from the start of the log.
    start_ns: Option<u64>,
    all: [Histogram<u64>; TAGS.len()],
}

impl<W: Write> Intervals<'_, '_, W> {
    /// Ends the interval when `at_ns` lies behind it.
    fn pass(&mut self, at_ns: u64) -> anyhow::Result<()> {
        let start_ns = at_ns - at_ns % INTERVAL_NS;
        if self.start_ns != Some(start_ns) {
            self.close()?;
            self.start_ns = Some(start_ns);
        }
        Ok(())
    }

    fn add(&mut self, index: usize, value: u64) {
        self.all[index].saturating_record(value);
    }

    /// Writes the interval, if there is anything in it.
    fn close(&mut self) -> anyhow::Result<()> {
        let start = Duration::from_nanos(self.start_ns.unwrap_or_default());
        for (histogram, name) in self.all.iter_mut().zip(TAGS).filter(|(it, _)| !it.is_empty()) {
            let written = self.log.write_histogram(histogram, start, Duration::from_nanos(INTERVAL_NS), Tag::new(name));
            written.map_err(|error| anyhow::anyhow!("{error}"))?;
            histogram.reset();
        }
        Ok(())
    }
}
