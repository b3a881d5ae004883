//! What the hint thread does: look, tell the policy, advise.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::mm::Advice;

use super::super::command::Choice;
use super::super::cpu_time;
use super::super::fill::Place;
use super::super::meter::Meter;
use super::super::region::advise;
use super::super::trace::Tracer;
use super::super::view::View;
use super::touched::Pagemap;
use crate::config::{Settings, Strategy};
use crate::pager::affinity;
use crate::policy::{BlockId, BlockTable, Need, Placement, Policy, State, Touch};
use crate::stats::Stats;
use crate::status::{Board, Counters, Publisher, Texts, process};
use crate::trace::{Event, Why};

/// Blocks being read at most, when the user does not say.
const DEPTH: u32 = 16;
/// A view and where the computation is in it.
pub(super) struct Watched {
    pub view: View,
    /// Position of the newest touch in the layout's order.
    pub cursor: usize,
}

/// A block that the kernel has been asked for.
pub(super) struct Reading {
    pub id: BlockId,
    pub since_ns: u64,
}

/// What a step has found.
pub(super) struct Step {
    /// The computation has moved, or reads are under way.
    pub moved: bool,
    /// Time of looking, without that of advising.
    pub polling: Duration,
}

/// Everything behind the lock.
pub(super) struct Hints {
    pub(super) views: Vec<Option<Watched>>,
    pub(super) table: BlockTable,
    pub(super) policy: Box<dyn Policy>,
    pub(super) meter: Meter,
    publisher: Publisher,
    pub(super) trace: Tracer,
    /// The views have changed since the page named them.
    pub(super) renamed: bool,
    pub(super) reading: VecDeque<Reading>,
    /// Touched blocks that nobody has asked the kernel for yet; marked as waited for.
    demand: VecDeque<BlockId>,
    pub(super) pagemap: Pagemap,
    depth: u32,
    /// Where the sweep goes on.
    pub(super) hand: BlockId,
    /// Where the search for pages that the kernel took away goes on, and how often it has been done.
    pub(super) audit: (BlockId, usize),
    /// CPU time of hint threads that have ended, and of the present one up to its latest step.
    cpu_s: (f64, f64),
    /// Time of polling, and the number of polls.
    polled: (Duration, u64),
}

impl Hints {
    pub fn new(settings: &Settings, policy: Box<dyn Policy>, board: Arc<Board>) -> io::Result<Hints> {
        let mut meter = Meter::new();
        meter.stats.strategy = Strategy::Kernel.as_str().into();
        Ok(Hints {
            views: Vec::new(),
            table: BlockTable::default(),
            policy,
            meter,
            publisher: Publisher::new(board, settings.runtime_folder.clone()),
            trace: Tracer::new(settings),
            renamed: false,
            reading: VecDeque::new(),
            demand: VecDeque::new(),
            pagemap: Pagemap::open()?,
            depth: settings.queue_depth.unwrap_or(DEPTH),
            hand: 0,
            audit: (0, 0),
            cpu_s: (0.0, 0.0),
            polled: (Duration::ZERO, 0),
        })
    }

    /// Logs what a router has chosen.
    pub fn routed(&mut self, choice: &Choice) {
        self.trace.routed(&self.meter, choice);
        self.trace.affine(&self.meter, choice.layer, &affinity::levels(choice));
    }

    pub fn has_views(&self) -> bool {
        !self.views.is_empty()
    }

    /// The summary. Any thread may ask; CPU time is the hint threads'.
    pub fn stats(&mut self) -> Stats {
        self.trace.finish();
        let mut stats = Stats { pager_cpu_s: self.cpu_s.0 + self.cpu_s.1, ..self.meter.summary() };
        self.trace.report(&mut stats);
        stats
    }

    /// The calling hint thread ends.
    pub fn thread_ends(&mut self) {
        self.cpu_s = (self.cpu_s.0 + cpu_time::of_this_thread_ns() as f64 / 1e9, 0.0);
        self.publish_now();
        let (polling, polls) = self.polled;
        log::debug!("{polls} polls in {polling:?}, {:.3} s of processor time in all", self.cpu_s.0);
    }

    /// Writes the live page if it is time. On the hint thread, whose signals are blocked.
    fn publish(&mut self, moved: bool) {
        if std::mem::take(&mut self.renamed)
            && let Some(watched) = self.views.iter().flatten().next()
        {
            self.publisher.introduce(&Texts {
                program: process::program_name(),
                model: watched.view.file.path().to_string_lossy().into_owned(),
                strategy: self.meter.stats.strategy.clone(),
                ..Texts::default()
            });
            self.publish_now();
        }
        if moved {
            self.publisher.changed();
        }
        if self.publisher.is_due(self.meter.now_ns()) {
            self.publish_now();
        }
    }

    fn publish_now(&mut self) {
        let counters = Counters {
            held_bytes: self.table.held_bytes(),
            pager_cpu_ns: ((self.cpu_s.0 + self.cpu_s.1) * 1e9) as u64,
            ..self.meter.counters()
        };
        self.publisher.publish(self.meter.now_ns(), counters);
    }

    /// One round, on the hint thread.
    pub fn step(&mut self) -> Step {
        let begun = Instant::now();
        let was_reading = !self.reading.is_empty();
        let read = self.completed();
        let touched = self.look();
        self.find_taken();
        let polling = begun.elapsed();
        self.polled = (self.polled.0 + polling, self.polled.1 + 1);
        let moved = was_reading || !touched.is_empty();
        read.into_iter().for_each(|id| self.filled(id));
        touched.into_iter().for_each(|id| self.touched(id));
        self.pump();
        self.cpu_s.1 = cpu_time::of_this_thread_ns() as f64 / 1e9;
        self.publish(moved);
        Step { moved, polling }
    }

    fn filled(&mut self, id: BlockId) {
        self.table.set_state(id, State::Staged);
        let placement = self.policy.filled(&self.table, id);
        // When the policy does not want to know of its touches, it is not looked at.
        if self.table.is_waited_for(id) || placement == Placement::Install {
            self.table.set_waited_for(id, false);
            self.appeared(id);
        }
    }

    fn appeared(&mut self, id: BlockId) {
        self.table.set_state(id, State::Present);
        self.trace.note(&self.meter, Event::Install { block: id });
    }

    fn touched(&mut self, id: BlockId) {
        let touch = match self.table.state(id) {
            State::Absent => Touch::Absent,
            State::Reading => Touch::Reading,
            State::Staged => Touch::Staged,
            State::Present | State::Poisoned | State::Gone => return,
        };
        let now = self.meter.now_ns();
        self.trace.note(&self.meter, Event::Touch { block: id, offset: 0, tid: 0, found: touch });
        self.policy.touched(&self.table, id, touch, now);
        if self.meter.cycles(self.policy.cycles(), now) {
            self.trace.note(&self.meter, Event::Cycle { number: self.policy.cycles() });
        }
        match touch {
            Touch::Staged => self.appeared(id),
            Touch::Reading => self.table.set_waited_for(id, true),
            Touch::Absent => {
                self.table.set_waited_for(id, true);
                self.demand.push_back(id);
            }
        }
        if let Some(mark) = self.policy.rearm(&self.table) {
            assert_eq!(self.table.state(mark), State::Present, "only a present block can be rearmed");
            let _ = advise(self.place(mark).range(), Advice::LinuxDontNeed);
            self.table.set_state(mark, State::Staged);
            self.trace.note(&self.meter, Event::Rearm { block: mark });
        }
    }

    /// Asks for what is wanted: what has been touched first, then what the policy names.
    fn pump(&mut self) {
        while let Some(&id) = self.demand.front() {
            if self.table.state(id) == State::Absent {
                if !self.make_room(Some(id), Need::Demand) {
                    return;
                }
                self.start_read(id, Why::Demand);
            }
            self.demand.pop_front();
        }
        while self.reading.len() < self.depth as usize {
            let Some(id) = self.policy.next_read(&self.table, self.reading.len() as u32) else { break };
            assert_eq!(self.table.state(id), State::Absent, "the policy named block {id}, which is not absent");
            if !self.make_room(Some(id), Need::Readahead) {
                break;
            }
            self.start_read(id, Why::Readahead);
        }
    }

    /// Evicts until `wanted` fits (or until the budget is kept).
    pub fn make_room(&mut self, wanted: Option<BlockId>, need: Need) -> bool {
        while !self.table.has_room_for(wanted) {
            let Some(victim) = self.policy.victim(&self.table, wanted, need) else { return false };
            self.evict(victim);
        }
        true
    }

    fn evict(&mut self, id: BlockId) {
        assert!(self.table.is_evictable(id), "the policy named block {id}, which cannot be evicted");
        self.meter.stats.evictions += 1;
        let untouched = self.table.state(id) == State::Staged;
        self.meter.stats.evictions_untouched += u64::from(untouched);
        self.trace.note(&self.meter, Event::Evict { block: id, untouched });
        let place = self.place(id);
        // The cache keeps what is mapped, so the entries go first. Both are advice: no error matters.
        let _ = advise(place.range(), Advice::LinuxDontNeed);
        let block = *self.table.block(id);
        self.view_of(id).file.forget_cached(block.offset..block.offset + u64::from(block.len));
        self.table.set_state(id, State::Absent);
    }

    fn start_read(&mut self, id: BlockId, why: Why) {
        let place = self.place(id);
        self.table.set_state(id, State::Reading);
        self.meter.held(self.table.held_bytes());
        self.meter.read_started(place.len as u64);
        let len = place.len as u32;
        self.trace.note(&self.meter, Event::Read { read: id, block: id, start: 0, len, source: 0, why });
        // An error is a block that the kernel reads when it is touched.
        let _ = advise(place.range(), Advice::WillNeed);
        self.reading.push_back(Reading { id, since_ns: self.meter.now_ns() });
    }

    /// Takes `ids` out of the lists, and makes them absent; the page cache keeps what it has.
    pub fn release(&mut self, ids: Range<BlockId>) {
        let now = self.meter.now_ns();
        self.demand.retain(|id| !ids.contains(id));
        self.reading.retain(|read| {
            let ends = ids.contains(&read.id);
            if ends {
                let len = self.table.block(read.id).len;
                self.meter.read_done(u64::from(len), now - read.since_ns);
                self.trace.note(&self.meter, Event::ReadEnd { read: read.id, result: len as i32 });
            }
            !ends
        });
        for id in ids {
            self.table.set_waited_for(id, false);
            if self.table.state(id) == State::Reading {
                self.table.set_state(id, State::Staged);
            }
            if self.table.is_evictable(id) {
                self.table.set_state(id, State::Absent);
                self.trace.note(&self.meter, Event::Evict { block: id, untouched: false });
            }
        }
    }

    fn view_of(&self, id: BlockId) -> &View {
        &self.views[self.table.block(id).view as usize].as_ref().expect("blocks belong to views").view
    }

    pub fn place(&self, id: BlockId) -> Place {
        self.view_of(id).place(&self.table, id)
    }
}
