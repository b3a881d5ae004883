//! The trace event format of Chrome ("Trace Event Format", N. Duca and D. Sinclair), which Perfetto
//! reads: sleeps are slices of their threads, reads and cycles asynchronous slices, the number of reads
//! in flight, the bytes read and the budget are counters. Times are microseconds.

use std::collections::HashMap;
use std::io::Write;

use serde_json::{Value, json};

use super::Items;
use crate::report::blocks::Blocks;
use crate::report::{Sleep, Sleepers, kind};
use crate::trace::{Event, Header, Item, Record, Why};

/// The process of all events.
const PID: u32 = 1;

/// Writes all items.
pub fn write(header: &Header, items: Items, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut events = Events {
        out,
        count: 0,
        sleepers: Sleepers::default(),
        reads: HashMap::new(),
        slices: 0,
        bytes: 0,
        cycle_ns: None,
    };
    let mut blocks = Blocks::default();
    write!(events.out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    let name = if header.program.is_empty() { "ggpager" } else { &header.program };
    events.event(json!({"ph": "M", "name": "process_name", "pid": PID, "args": {"name": name}}))?;
    for item in items {
        let item = item?;
        if let Item::View(view) = &item {
            events.instant(view.at_ns, "view", json!({"path": view.path, "bytes": view.bytes}))?;
        }
        if let Some(record) = blocks.follow(&item) {
            events.record(&record, &blocks)?;
        }
    }
    writeln!(events.out, "\n]}}")?;
    Ok(())
}

struct Events<'a> {
    out: &'a mut dyn Write,
    count: u64,
    sleepers: Sleepers,
    /// The slice of each read in flight.
    reads: HashMap<u32, u64>,
    slices: u64,
    bytes: u64,
    /// End of the cycle before.
    cycle_ns: Option<u64>,
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

impl Events<'_> {
    fn event(&mut self, event: Value) -> anyhow::Result<()> {
        self.out.write_all(if self.count > 0 { b",\n" } else { b"\n" })?;
        self.count += 1;
        Ok(serde_json::to_writer(&mut *self.out, &event)?)
    }

    fn instant(&mut self, at_ns: u64, name: &str, args: Value) -> anyhow::Result<()> {
        self.event(json!({"ph": "i", "s": "p", "name": name, "pid": PID, "tid": PID, "ts": us(at_ns), "args": args}))
    }

    fn counter(&mut self, at_ns: u64, name: &str, value: u64) -> anyhow::Result<()> {
        self.event(json!({"ph": "C", "name": name, "pid": PID, "ts": us(at_ns), "args": {"value": value}}))
    }

    /// A begin (`b`) or an end (`e`).
    fn slice(&mut self, ph: &str, at_ns: u64, category: &str, name: &str, id: u64, args: Value) -> anyhow::Result<()> {
        let id = format!("{id:#x}");
        self.event(json!({"ph": ph, "cat": category, "name": name, "id": id, "pid": PID, "tid": PID, "ts": us(at_ns), "args": args}))
    }

    fn record(&mut self, record: &Record, blocks: &Blocks) -> anyhow::Result<()> {
        let at_ns = record.at_ns;
        match record.event {
            Event::Touch { block, tid, found, .. } => {
                self.sleepers.touched(block, tid, Sleep { since_ns: at_ns, found });
                Ok(())
            }
            Event::Woken { block, tid } => {
                let Some(sleep) = self.sleepers.woken(block, tid) else { return Ok(()) };
                let name = ["demand read", "read in flight", "fault"][kind(sleep.found)];
                let (ts, dur) = (us(sleep.since_ns), us(at_ns - sleep.since_ns));
                let place = blocks.find(block).map(|place| blocks.place(place));
                let args = json!({
                    "offset": place.map(|place| place.offset),
                    "layer": place.and_then(|place| place.layer),
                    "role": place.map(|place| &blocks.roles()[usize::from(place.role)]),
                });
                self.event(json!({"ph": "X", "cat": "sleep", "name": name, "pid": PID, "tid": tid, "ts": ts, "dur": dur, "args": args}))
            }
            Event::Read { read, block, start, len, source, why } => {
                self.slices += 1;
                let id = self.slices;
                self.reads.insert(read, id);
                let name = if why == Why::Demand { "demand" } else { "readahead" };
                let offset = blocks.find(block).map(|place| blocks.offset(place, start));
                self.slice(
                    "b",
                    at_ns,
                    "read",
                    name,
                    id,
                    json!({"offset": offset, "bytes": len, "source": source, "why": name}),
                )?;
                self.counter(at_ns, "reads in flight", self.reads.len() as u64)
            }
            Event::ReadEnd { read, result } => {
                self.bytes += u64::try_from(result).unwrap_or(0);
                self.counter(at_ns, "bytes read", self.bytes)?;
                let Some(id) = self.reads.remove(&read) else { return Ok(()) };
                self.slice("e", at_ns, "read", "", id, json!({"result": result}))?;
                self.counter(at_ns, "reads in flight", self.reads.len() as u64)
            }
            Event::Budget { bytes } => self.counter(at_ns, "budget", bytes),
            Event::Cycle { number } => {
                if let Some(start_ns) = self.cycle_ns.replace(at_ns) {
                    self.slices += 1;
                    let (id, name) = (self.slices, format!("cycle {}", number.saturating_sub(1)));
                    self.slice("b", start_ns, "cycle", &name, id, json!({}))?;
                    self.slice("e", at_ns, "cycle", &name, id, json!({}))?;
                }
                Ok(())
            }
            Event::Lost { records } => {
                self.sleepers.clear();
                self.reads.clear();
                self.instant(at_ns, "lost records", json!({"records": records}))
            }
            Event::Unmapped { view } => self.instant(at_ns, "unmapped", json!({"view": view})),
            Event::Install { .. }
            | Event::Evict { .. }
            | Event::Rearm { .. }
            | Event::Routed { .. }
            | Event::Guessed { .. }
            | Event::Affine { .. } => Ok(()),
        }
    }
}
