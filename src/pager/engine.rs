//! The pager thread: one loop that waits for faults, completed reads and commands, and lets the
//! policy decide what comes next.

mod commands;
mod keep;
mod publish;
mod routed;
mod serve;
mod setup;
mod states;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rustc_hash::FxHashMap;

use super::busy::Busy;
use super::command::{Choice, Command};
use super::drives::Drives;
use super::fill::{Fill, Frame};
use super::io::{Event, Io};
use super::lookahead::Lookahead;
use super::meter::Meter;
use super::missing::Missing;
use super::origins::Origins;
use super::price::Price;
use super::reads::Reads;
use super::region;
use super::trace::Tracer;
use super::uffd::{Fault, Uffd};
use super::view::View;
use crate::budget::governor::Governor;
use crate::policy::{BlockId, BlockTable, Policy, Touch};
use crate::status::Publisher;

pub use setup::Setup;

/// Faults read at a time.
const FAULTS: usize = 256;
/// A thread that sleeps on a block.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    since_ns: u64,
    touch: Touch,
    tid: u32,
}

/// What the user has been told: once is enough.
#[derive(Debug, Default)]
struct Warned {
    budget: bool,
    memory: bool,
}

/// What the pager thread owns.
pub struct Engine {
    // Dropped first: the ring's end cancels or completes what is in flight before frames go.
    io: Box<dyn Io>,
    fill: Box<dyn Fill>,
    uffd: Arc<Uffd>,
    policy: Box<dyn Policy>,
    table: BlockTable,
    views: Vec<Option<View>>,
    /// Frames of `Reading` and `Staged` blocks.
    frames: Vec<Option<Frame>>,
    /// Blocks that were read ahead and that nobody has touched since.
    unused: Vec<bool>,
    origins: Origins,
    /// The blocks of the latest choice of a router.
    chosen: Vec<BlockId>,
    reads: Reads,
    drives: Drives,
    /// Threads that sleep, by block.
    waiters: FxHashMap<BlockId, Vec<Waiter>>,
    /// Blocks that threads sleep on and that are not being read yet, oldest first.
    demand: VecDeque<BlockId>,
    /// Blocks that are about to go: touches of them start no reads.
    closing: Option<std::ops::Range<BlockId>>,
    commands: Receiver<Command>,
    /// What routers have chosen, to be heard.
    choices: Receiver<Choice>,
    missing: Arc<Missing>,
    /// Signalled by senders of commands; the ring polls it, so it lives as long.
    _bell: Arc<OwnedFd>,
    governor: Option<Box<Governor>>,
    /// When an elastic budget is looked at again.
    adjusts_at_ns: u64,
    /// When orders were looked at for storing.
    kept_ns: u64,
    read_bytes: u32,
    /// Blocks are no larger than this, in bytes.
    grain: usize,
    meter: Meter,
    publisher: Publisher,
    trace: Tracer,
    lookahead: Lookahead,
    busy: Busy,
    price: Price,
    /// Processor time that choices have taken, in nanoseconds.
    choosing_ns: u64,
    /// The policy reads what routers choose.
    listens: bool,
    warned: Warned,
    events: Vec<Event>,
    faults: Vec<Fault>,
    /// Faults have come that have not been read.
    has_faults: bool,
}

impl Engine {
    /// Serves until the last handle is gone.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            // Whoever tells something and then touches a block is heard first: a touch that has been read here
            // comes after all that its thread has told before.
            let faults = self.read_faults()?;
            let mut told = self.hear();
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command)?,
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return Ok(()),
                }
                told = true;
            }
            if told && !faults.is_empty() {
                self.pump()?;
            }
            self.serve(faults)?;
            self.adjust_budget();
            self.keep_orders();
            self.pump()?;
            self.drives.slept(self.meter.now_ns());
            self.publish();
        }
    }

    /// Replaces every view by an ordinary mapping of its file, whatever state the engine is in, and
    /// wakes whoever sleeps there: the program goes on with the same bytes.
    pub fn hand_over_everything(&mut self) {
        for view in self.views.iter_mut().flatten() {
            for run in std::mem::take(&mut view.live) {
                if let Err(error) = view.file.map_over(run.clone(), view.offset_of(run.start)) {
                    log::error!("a view could not be handed over to the kernel: {error}");
                    // A touch is then an error that the program sees; a hole would read as zeros.
                    let _ = region::unmap(run.clone());
                }
                let _ = super::views::remove(run.start, run.len());
                self.uffd.wake(run);
            }
        }
    }

    /// Waits until no read is in flight; false when that takes longer than a broken drive should
    /// matter. A read that is in flight still writes to its frame.
    pub fn drain(&mut self) -> io::Result<bool> {
        const DRAIN_MAX: Duration = Duration::from_secs(2);
        let start = Instant::now();
        loop {
            for event in self.events.drain(..) {
                if let Event::Done { token, .. } = event {
                    self.reads.take_part(token);
                }
            }
            let left = DRAIN_MAX.saturating_sub(start.elapsed());
            if self.reads.parts() == 0 || left.is_zero() {
                return Ok(self.reads.parts() == 0);
            }
            self.io.wait(&mut self.events, Some(left))?;
        }
    }

    /// Ends without giving anything back: reads that are still in flight may write to their frames
    /// and read from their files at any time. Nobody sleeps in a view any more.
    pub fn abandon(mut self) {
        // Senders of commands see the end.
        self.commands = crossbeam_channel::never();
        self.trace = Tracer::default();
        std::mem::forget(self);
    }

    /// Waits for something to happen and serves faults and completions; starts no reads, since blocks are closing.
    fn step(&mut self) -> io::Result<()> {
        self.wait()?;
        let faults = self.read_faults()?;
        self.serve(faults)
    }

    /// Waits for something to happen and serves completions, between which reads are started.
    fn wait(&mut self) -> io::Result<()> {
        let until_look = || Duration::from_nanos(self.adjusts_at_ns.saturating_sub(self.meter.now_ns()));
        let limit = self.governor.as_ref().map(|_| until_look().max(Duration::from_millis(1)));
        let limit = limit.into_iter().chain(self.publisher.wait(self.meter.now_ns())).min();
        self.missing.counted();
        // While blocks are closing nothing is heard.
        let to_hear = self.closing.is_none() && !self.choices.is_empty();
        let limit = if self.has_faults || to_hear { Some(Duration::ZERO) } else { limit };
        self.io.wait(&mut self.events, limit)?;
        if !self.events.is_empty() {
            self.publisher.changed();
        }
        self.has_faults |= self.events.contains(&Event::Faults);
        // Completions first: a fault that comes with its own block's completion is then a short one.
        // Whatever panics, `events` holds those that have not been served.
        self.events.reverse();
        while let Some(event) = self.events.pop() {
            if let Event::Done { token, result } = event {
                self.read_ended(token, result)?;
                // To put a burst of blocks into place takes as long as several reads: the queue would run dry meanwhile, and
                // threads would get to what waits outside of it.
                if !self.events.is_empty() && self.closing.is_none() {
                    self.pump()?;
                }
            }
        }
        Ok(())
    }

    /// The faults that have come.
    fn read_faults(&mut self) -> io::Result<Vec<Fault>> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.clear();
        // Nothing is taken off where a command waits for reads while faults are served: the list is in use.
        faults.reserve(FAULTS);
        if std::mem::take(&mut self.has_faults) {
            self.uffd.read_faults(&mut faults)?;
            // A full batch may have left more behind; an edge-triggered poll will not say so again.
            self.has_faults = faults.len() + 32 > faults.capacity();
        }
        Ok(faults)
    }

    fn serve(&mut self, faults: Vec<Fault>) -> io::Result<()> {
        for fault in &faults {
            self.faulted(fault)?;
        }
        self.faults = faults;
        Ok(())
    }

    fn view_of(&self, id: BlockId) -> &View {
        self.views[self.table.block(id).view as usize].as_ref().expect("blocks belong to views")
    }
}
