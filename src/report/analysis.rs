//! One pass over a log.

use super::address::{Addresses, Mark};
use super::blocks::{Blocks, PlaceId};
use super::bottleneck::Bottleneck;
use super::cycles::{Breakdown, Cycles};
use super::distribution::Counter;
use super::experts::{Experts, Passes};
use super::guesses::Guesses;
use super::heat::{self, Usage};
use super::laps::Laps;
use super::requests::Requests;
use super::reuse::Reuse;
use super::sequence::Sequences;
use super::sleepers::{Sleep, Sleepers, kind};
use super::timeline::Timeline;
use super::touches::Touches;
use super::{Log, Point, Report, Sleeps, uniformity};
use crate::policy::{BlockId, Touch};
use crate::trace::{Event, Header, Item, Record, Why};

/// Points of a time series.
const POINTS: usize = 300;

/// The first cycles are the load, llama.cpp's warm-up, which uses all experts, and the prompt: many tokens at
/// once. Touches tell nothing about one token's experts there.
const BATCH_CYCLES: u64 = 3;

/// A log that is being read.
#[derive(Default)]
pub struct Analysis {
    header: Header,
    drive_bytes_per_s: Option<f64>,
    blocks: Blocks,
    sleepers: Sleepers,
    requests: Requests,
    timeline: Timeline,
    cycles: Cycles,
    sequences: Sequences,
    reuse: Reuse,
    by_touch: Experts,
    by_router: Experts,
    guesses: Guesses,
    passes: Passes,
    addresses: Addresses,
    usage: Usage,
    sleeps: [Counter; 3],
    /// Number of the cycle, and whether its start is in the log.
    cycle: u64,
    whole: bool,
    laps: Laps,
    touches: Touches,
    /// The touch that came last: the next record tells whether it began a cycle.
    held: Option<Record>,
    budget_bytes: u64,
    records: u64,
    lost: u64,
    unknown: u64,
    first_ns: Option<u64>,
    now_ns: u64,
}

impl Analysis {
    /// Starts; `drive_bytes_per_s` is what the drive can do, if that is known.
    pub fn new(header: Header, drive_bytes_per_s: Option<f64>) -> Analysis {
        Analysis { budget_bytes: header.budget_bytes, header, drive_bytes_per_s, ..Analysis::default() }
    }

    /// Takes the log's items.
    ///
    /// # Errors
    /// The first one of the items.
    pub fn read<E>(&mut self, items: impl Iterator<Item = Result<Item, E>>) -> Result<(), E> {
        for item in items {
            self.item(&item?);
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) {
        if !matches!(item, Item::Record(Record { event: Event::Cycle { .. }, .. })) {
            self.release();
        }
        if let Item::View(view) = item {
            self.pass(view.at_ns);
        }
        let Some(record) = self.blocks.follow(item) else {
            let places = self.blocks.places().len();
            self.usage.resize(places);
            self.touches.resize(places);
            return;
        };
        self.records += 1;
        match record.event {
            Event::Touch { .. } => self.held = Some(record),
            Event::Cycle { .. } => {
                // The touch that begins a cycle comes before the word that it has begun.
                self.pass(self.held.map_or(record.at_ns, |touch| touch.at_ns));
                self.end_cycle();
                self.release();
                self.laps.told();
            }
            _ => self.record(&record),
        }
    }

    /// Takes in the touch that was held back.
    fn release(&mut self) {
        if let Some(touch) = self.held.take() {
            self.record(&touch);
        }
    }

    /// Time goes on to `at_ns`.
    fn pass(&mut self, at_ns: u64) {
        let from_ns = *self.first_ns.get_or_insert_with(|| {
            self.cycles.begin(at_ns);
            self.now_ns = at_ns;
            at_ns
        });
        let from_ns = from_ns.max(self.now_ns);
        if at_ns <= from_ns {
            return;
        }
        let asleep = self.sleepers.by_kind();
        self.timeline.passed(from_ns, at_ns, self.requests.in_flight(), asleep.iter().sum());
        self.requests.passed(from_ns, at_ns, asleep[0] + asleep[1]);
        self.cycles.passed(at_ns - from_ns, asleep);
        self.now_ns = at_ns;
    }

    fn record(&mut self, record: &Record) {
        self.pass(record.at_ns);
        let now = self.now_ns;
        match record.event {
            Event::Touch { block, offset, tid, found } => self.touch(block, offset, tid, found),
            Event::Woken { block, tid } => {
                let Some(sleep) = self.sleepers.woken(block, tid) else { return };
                let slept = now - sleep.since_ns;
                self.sleeps[kind(sleep.found)].add(slept);
                if let Some(place) = self.blocks.find(block) {
                    self.usage.sleep_ns[place as usize] += slept;
                }
            }
            Event::Read { read, block, start, len, source, why } => {
                self.requests.started(now, read, len, source, why);
                if let Some(place) = self.blocks.find(block) {
                    self.usage.read_bytes[place as usize] += u64::from(len);
                    self.addresses.mark(now, self.blocks.address(place, start), Mark::Read);
                    let place = self.blocks.place(place);
                    if let (Some(layer), Some(expert), Why::Readahead) = (place.layer, place.expert, why) {
                        self.guesses.read(layer, expert, len.into());
                    }
                }
            }
            Event::ReadEnd { read, result } => {
                let bytes = self.requests.ended(now, read, result);
                self.timeline.read(now, bytes);
                self.cycles.now().read_bytes += bytes;
            }
            Event::Install { block } => self.set_in_view(block, true),
            Event::Evict { block, untouched } => {
                self.set_in_view(block, false);
                let cycle = self.cycles.now();
                cycle.evictions += 1;
                cycle.evictions_untouched += u64::from(untouched);
            }
            Event::Rearm { block } => self.set_in_view(block, false),
            Event::Budget { bytes } => self.budget_bytes = bytes,
            Event::Routed { layer, token, expert } => {
                let pass = self.passes.at(layer, token, self.cycle);
                self.by_router.used((pass, token), layer, expert, self.blocks.experts());
                self.guesses.routed(layer, expert);
            }
            Event::Affine { .. } => {}
            Event::Guessed { layer, expert, by } => self.guesses.guessed(by, layer, expert),
            // See `item`.
            Event::Cycle { .. } | Event::Unmapped { .. } => {}
            Event::Lost { records } => {
                self.lost = self.lost.saturating_add(records);
                // Who woke and what was read is among them.
                self.sleepers.clear();
                self.requests.clear();
                self.guesses.clear();
            }
        }
    }

    fn set_in_view(&mut self, block: BlockId, in_view: bool) {
        if let Some(place) = self.blocks.find(block) {
            self.touches.set_in_view(place, in_view);
        }
    }

    fn touch(&mut self, block: BlockId, offset: u32, tid: u32, found: Touch) {
        let first = self.sleepers.touched(block, tid, Sleep { since_ns: self.now_ns, found });
        let place = self.blocks.find(block);
        let progress = place.filter(|_| first).and_then(|place| self.blocks.progress(place));
        if progress.is_some_and(|progress| self.laps.touched(progress)) {
            self.end_cycle();
        }
        self.cycles.touched_by(tid);
        if !first {
            self.cycles.now().joined += 1;
            return;
        }
        self.cycles.now().touches[kind(found)] += 1;
        let Some(place) = place else {
            self.unknown += 1;
            return;
        };
        let mark = if found == Touch::Staged { Mark::Staged } else { Mark::Waited };
        self.addresses.mark(self.now_ns, self.blocks.address(place, offset), mark);
        self.sequences.touched(&self.blocks, place);
        if let Some((layer, expert)) = self.blocks.expert(place).filter(|_| self.cycle >= BATCH_CYCLES) {
            self.by_touch.used((self.cycle, 0), layer, expert, self.blocks.experts());
        }
        if self.touches.is_full() {
            self.end_touches(false);
        }
        self.touches.add(place);
    }

    /// A cycle ended.
    fn end_cycle(&mut self) {
        let first_touches = self.end_touches(self.whole);
        let sequence = self.sequences.ended(&self.blocks, &first_touches);
        self.cycles.ended(self.now_ns, self.cycle + 1, sequence);
        self.addresses.ended(self.whole);
        self.cycle += 1;
        self.whole = true;
    }

    /// Accounts for the touches of a cycle, and gives the first touch of each block, in order.
    fn end_touches(&mut self, whole: bool) -> Vec<PlaceId> {
        let taken = self.touches.take(&self.blocks, self.cycle, whole);
        for place in taken.all {
            self.reuse.touched(place, self.blocks.place(place).len);
            self.usage.touches[place as usize] += 1;
        }
        taken.first
    }

    /// The log is over; `cut_off` says where, if it was not finished.
    pub fn finish(mut self, cut_off: Option<u64>) -> Report {
        self.release();
        let first_touches = self.end_touches(false);
        let sequence = self.sequences.ended(&self.blocks, &first_touches);
        self.addresses.ended(false);
        let cycles = self.cycles.finish(self.now_ns, sequence);
        let start_ns = self.first_ns.unwrap_or(0);
        let wall_ns = self.now_ns - start_ns;
        let drive = self.requests.finish(wall_ns, self.drive_bytes_per_s);
        let time = Breakdown::of(&cycles);
        let miss_ratios = self.reuse.finish(&self.blocks);
        let pager = (self.reuse.bytes() > 0 && self.budget_bytes > 0).then(|| Point {
            memory_bytes: self.budget_bytes,
            ratio: self.requests.bytes() as f64 / self.reuse.bytes() as f64,
        });
        Report {
            log: Log {
                wall_s: wall_ns as f64 / 1e9,
                records: self.records,
                lost: self.lost,
                unknown_touches: self.unknown,
                cut_off_at_byte: cut_off,
                budget_bytes: self.budget_bytes,
                files: self.blocks.files().iter().map(|file| file.path.clone()).collect(),
                blocks: self.blocks.places().len() as u64,
                header: self.header,
            },
            bottleneck: Bottleneck::of(&time, &drive),
            time,
            cycles,
            sleep_ns: Sleeps {
                demand: self.sleeps[0].finish(),
                in_flight: self.sleeps[1].finish(),
                staged: self.sleeps[2].finish(),
            },
            timeline: self.timeline.finish(self.now_ns, POINTS),
            addresses: self.addresses.finish(),
            heat: heat::cells(&self.blocks, &self.usage),
            sequentiality: self.sequences.finish(),
            uniformity: uniformity::by_role(&self.blocks, &self.usage.touches),
            miss_ratios,
            pager,
            experts: self.by_router.finish("router").or_else(|| self.by_touch.finish("touches")),
            guesses: self.guesses.finish(),
            expert_layers: self.blocks.told(),
            drive,
        }
    }
}
