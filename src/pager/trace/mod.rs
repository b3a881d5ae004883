//! Records the fault log: the pager thread puts what happens into a bounded ring, a thread of its own
//! (`ggpager-trace`) writes it.
//!
//! The pager thread never waits for the log: with the ring full, records are dropped and counted. See
//! [`crate::trace`] for what a log is.

mod file;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Sender, bounded};
use rtrb::{Producer, RingBuffer};

use super::command::Choice;
use super::meter::Meter;
use super::signals::BlockedSignals;
use crate::config::Settings;
use crate::stats::Stats;
use crate::status::process;
use crate::trace::{Encoder, Event, Foreteller, Header, Item, Machine, Record, View};
use file::LogFile;
use writer::{Request, Writer};

/// Items that the ring holds: about 2.5 MB.
const RING: usize = 1 << 16;

/// How long the end of a run waits for the log to be written.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// The fault log of a pager, or none. With none, every method is one comparison.
#[derive(Debug, Default)]
pub struct Tracer {
    recorder: Option<Box<Recorder>>,
    /// Where the log is to be, and how long at most, until it has begun.
    planned: Option<(PathBuf, u64)>,
}

/// The pager thread's side.
#[derive(Debug)]
struct Recorder {
    ring: Producer<Item>,
    /// Dropped after the ring: its end is the writer's.
    requests: Sender<Request>,
    counts: Arc<Counts>,
    /// Views that found the ring full: they are not dropped.
    owed: VecDeque<Box<View>>,
    /// Records that found the ring full since the last one that did not, and in all.
    lost: u64,
    lost_in_all: u64,
    /// Items since the writer was last told that there is something to do.
    unannounced: usize,
    /// Time of the newest item.
    at_ns: u64,
}

/// What the writer has done. Relaxed everywhere: counters that nothing else depends on.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    dropped: AtomicU64,
}

impl Tracer {
    /// A log if the user wants one; it begins with the first view.
    pub fn new(settings: &Settings) -> Tracer {
        Tracer { recorder: None, planned: settings.trace.clone().map(|path| (path, settings.trace_limit.0)) }
    }

    /// Begins the log, once, with what `clock` knows about the run. What keeps it from being written
    /// is a warning: there is no log then.
    pub fn begin(&mut self, clock: &Meter) {
        let Some((path, limit_bytes)) = self.planned.take() else { return };
        match start(&path, limit_bytes, &header(clock)) {
            Ok(recorder) => self.recorder = Some(Box::new(recorder)),
            Err(error) => log::warn!("no fault log at {}: {error}", path.display()),
        }
    }

    /// Something happened now, by `clock`.
    #[inline]
    pub fn note(&mut self, clock: &Meter, event: Event) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record(clock.now_ns(), event);
        }
    }

    /// A router has chosen now.
    pub fn routed(&mut self, clock: &Meter, choice: &Choice) {
        if self.recorder.is_some() {
            for (token, chosen) in (0..).zip(choice.experts.chunks(choice.used.max(1) as usize)) {
                for &expert in chosen {
                    self.note(clock, Event::Routed { layer: choice.layer, token, expert });
                }
            }
        }
    }

    /// The router of `layer` that has just chosen came so near to choosing these experts.
    pub fn affine(&mut self, clock: &Meter, layer: u32, levels: &[(u32, u8)]) {
        for &(expert, level) in levels {
            self.note(clock, Event::Affine { layer, expert, level });
        }
    }

    /// `by` expects now that the router of `layer` will choose `experts`.
    pub fn guessed(&mut self, clock: &Meter, layer: u32, experts: &[u32], by: Foreteller) {
        for &expert in experts {
            self.note(clock, Event::Guessed { layer, expert, by });
        }
    }

    /// A view was made now.
    pub fn view(&mut self, clock: &Meter, view: impl FnOnce() -> View) {
        let Some(recorder) = &mut self.recorder else { return };
        let at_ns = recorder.follow(clock.now_ns());
        recorder.owed.push_back(Box::new(View { at_ns, ..view() }));
        recorder.pay();
    }

    /// Waits, but not for long, until everything up to now is in the file.
    pub fn finish(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        // With the ring full, what was lost last finds room only when the writer has emptied it.
        for _ in 0..2 {
            let paid = recorder.pay();
            let (done, is_done) = bounded(1);
            let asked = recorder.requests.send_timeout(Request::Finish(done), FINISH_MAX).is_ok();
            if !asked || is_done.recv_timeout(FINISH_MAX).is_err() || paid {
                return;
            }
        }
    }

    /// Fills in what `stats` says about the log.
    pub fn report(&self, stats: &mut Stats) {
        let Some(recorder) = &self.recorder else { return };
        stats.trace_bytes = recorder.counts.bytes.load(Ordering::Relaxed);
        stats.trace_lost_records = recorder.lost_in_all + recorder.counts.dropped.load(Ordering::Relaxed);
    }
}

fn start(path: &Path, limit_bytes: u64, header: &Header) -> io::Result<Recorder> {
    let (file, used) = LogFile::create(path, limit_bytes)?;
    if let Some(used) = used {
        log::warn!("another process writes {}; the fault log goes to {}", path.display(), used.display());
    }
    let encoder = Encoder::new(file, header)?;
    let (ring, items) = RingBuffer::new(RING);
    let (requests, inbox) = bounded(4);
    let recorder = Recorder::new(ring, requests);
    let writer = Writer::new(encoder, items, inbox, recorder.counts.clone());
    let _signals = BlockedSignals::new();
    std::thread::Builder::new().name("ggpager-trace".into()).spawn(move || writer.run())?;
    Ok(recorder)
}

/// What the run is, as far as the meter knows, and the machine.
fn header(clock: &Meter) -> Header {
    let system = rustix::system::sysinfo();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Header {
        recorder: concat!("ggpager ", env!("CARGO_PKG_VERSION")).into(),
        program: process::program_name(),
        strategy: clock.stats.strategy.clone(),
        fill_rung: clock.stats.fill_rung.clone(),
        io_rung: clock.stats.io_rung.clone(),
        fault_mode: clock.stats.fault_mode.clone(),
        budget_bytes: clock.stats.budget_bytes,
        started_unix_ns: (unix.as_nanos() as u64).saturating_sub(clock.now_ns()),
        machine: Machine {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            memory_bytes: system.totalram as u64 * u64::from(system.mem_unit),
        },
    }
}

impl Recorder {
    fn new(ring: Producer<Item>, requests: Sender<Request>) -> Recorder {
        Recorder {
            ring,
            requests,
            counts: Arc::default(),
            owed: VecDeque::new(),
            lost: 0,
            lost_in_all: 0,
            unannounced: 0,
            at_ns: 0,
        }
    }

    /// The log's time is never turned back.
    fn follow(&mut self, now_ns: u64) -> u64 {
        self.at_ns = self.at_ns.max(now_ns);
        self.at_ns
    }

    fn record(&mut self, now_ns: u64, event: Event) {
        let at_ns = self.follow(now_ns);
        let room = (self.lost == 0 && self.owed.is_empty()) || self.pay();
        if !room || !self.push(Item::Record(Record { at_ns, event })) {
            self.lost += 1;
            self.lost_in_all += 1;
        }
    }

    /// Puts into the ring what has found no room before; false while there is none.
    fn pay(&mut self) -> bool {
        while !self.ring.is_full() {
            if let Some(view) = self.owed.pop_front() {
                self.push(Item::View(view));
            } else if self.lost > 0 {
                let event = Event::Lost { records: std::mem::take(&mut self.lost) };
                self.push(Item::Record(Record { at_ns: self.at_ns, event }));
            } else {
                return true;
            }
        }
        false
    }

    fn push(&mut self, item: Item) -> bool {
        if self.ring.push(item).is_err() {
            return false;
        }
        self.unannounced += 1;
        if self.unannounced >= RING / 2 {
            self.unannounced = 0;
            // With requests waiting, the writer is about to look.
            let _ = self.requests.try_send(Request::Drain);
        }
        true
    }
}
