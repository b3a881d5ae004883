//! What the hint thread does: look, tell the policy, advise.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::mm::Advice;
use rustix::time::{ClockId, clock_gettime};

use super::super::fill::Place;
use super::super::meter::Meter;
use super::super::region::{PAGE, advise};
use super::super::view::View;
use super::touched::{Pagemap, is_cached};
use crate::config::{Settings, Strategy};
use crate::policy::{BlockId, BlockTable, Need, Placement, Policy, Role, State, Touch};
use crate::stats::Stats;

/// Blocks being read at most, when the user does not say.
const DEPTH: u32 = 16;
/// A block counts as read after this long, whatever mincore(2) says: the kernel may drop readahead.
const PATIENCE_NS: u64 = 500_000_000;
/// Watched blocks that are looked at ahead of the computation in one poll, and positions of the
/// order that are gone through for them.
const LOOK_BLOCKS: usize = 24;
const LOOK_POSITIONS: usize = 256;
/// Positions behind the newest touch that are looked at: threads are spread by a few blocks.
const LOOK_BEHIND: usize = 16;
/// Blocks of all views that are looked at in one poll, by turns: experts, jumps, other views.
const SWEEP_BLOCKS: usize = 16;
const SWEEP_IDS: usize = 512;

/// A view and where the computation is in it.
pub(super) struct Watched {
    pub view: View,
    /// Position of the newest touch in the layout's order.
    pub cursor: usize,
}

/// A block that the kernel has been asked for.
struct Reading {
    id: BlockId,
    since_ns: u64,
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
    reading: VecDeque<Reading>,
    /// Touched blocks that nobody has asked the kernel for yet; marked as waited for.
    demand: VecDeque<BlockId>,
    pagemap: Pagemap,
    depth: u32,
    /// Where the sweep goes on.
    hand: BlockId,
    /// Where the search for pages that the kernel took away goes on, and how often it has been done.
    audit: (BlockId, usize),
    /// CPU time of hint threads that have ended, and of the present one up to its latest step.
    cpu_s: (f64, f64),
}

impl Hints {
    pub fn new(settings: &Settings, policy: Box<dyn Policy>) -> io::Result<Hints> {
        let mut meter = Meter::new();
        meter.stats.strategy = Strategy::Kernel.as_str().into();
        Ok(Hints {
            views: Vec::new(),
            table: BlockTable::default(),
            policy,
            meter,
            reading: VecDeque::new(),
            demand: VecDeque::new(),
            pagemap: Pagemap::open()?,
            depth: settings.queue_depth.unwrap_or(DEPTH),
            hand: 0,
            audit: (0, 0),
            cpu_s: (0.0, 0.0),
        })
    }

    pub fn has_views(&self) -> bool {
        !self.views.is_empty()
    }

    /// The summary. Any thread may ask; CPU time is the hint threads'.
    pub fn stats(&mut self) -> Stats {
        Stats { pager_cpu_s: self.cpu_s.0 + self.cpu_s.1, ..self.meter.summary() }
    }

    /// The calling hint thread ends.
    pub fn thread_ends(&mut self) {
        self.cpu_s = (self.cpu_s.0 + thread_cpu_s(), 0.0);
    }

    /// One round, on the hint thread.
    pub fn step(&mut self) -> Step {
        let begun = Instant::now();
        let was_reading = !self.reading.is_empty();
        let read = self.completed();
        let touched = self.look();
        self.find_taken();
        let polling = begun.elapsed();
        let moved = was_reading || !touched.is_empty();
        read.into_iter().for_each(|id| self.filled(id));
        touched.into_iter().for_each(|id| self.touched(id));
        self.pump();
        self.cpu_s.1 = thread_cpu_s();
        Step { moved, polling }
    }

    /// Blocks whose reads have ended, as far as can be seen.
    fn completed(&mut self) -> Vec<BlockId> {
        let now = self.meter.now_ns();
        let mut done = Vec::new();
        let mut reading = std::mem::take(&mut self.reading);
        reading.retain(|read| {
            let place = self.place(read.id);
            // Reads of a block are started in its order and mostly end in it.
            let ended = now - read.since_ns > PATIENCE_NS || is_cached(place.range().end - PAGE);
            if ended {
                self.meter.read_done(place.len as u64, now - read.since_ns);
                done.push(read.id);
            }
            !ended
        });
        self.reading = reading;
        done
    }

    fn filled(&mut self, id: BlockId) {
        self.table.set_state(id, State::Staged);
        let placement = self.policy.filled(&self.table, id);
        if self.table.is_waited_for(id) {
            self.table.set_waited_for(id, false);
            self.table.set_state(id, State::Present);
        } else if placement == Placement::Install {
            // Nobody wants to know of its touches: it is not looked at.
            self.table.set_state(id, State::Present);
        }
    }

    /// Whether the next touch of `id` is news.
    fn is_watched(&self, id: BlockId) -> bool {
        matches!(self.table.state(id), State::Absent | State::Reading | State::Staged)
            && !self.table.is_waited_for(id)
            && self.table.block(id).role != Role::Row
    }

    fn is_touched(&self, id: BlockId) -> bool {
        self.pagemap.is_touched(self.place(id).range()).unwrap_or(false)
    }

    /// Watched blocks that have been touched, in the order in which that is expected to have
    /// happened.
    fn look(&mut self) -> Vec<BlockId> {
        let mut found = Vec::new();
        for slot in 0..self.views.len() {
            let Some(watched) = &self.views[slot] else { continue };
            let (order, first) = (&watched.view.layout.order, watched.view.ids.start);
            let (mut looked, mut newest) = (0, None);
            for step in 0..order.len().min(LOOK_BEHIND + LOOK_POSITIONS) {
                let position = (watched.cursor + order.len() - LOOK_BEHIND.min(order.len()) + step) % order.len();
                let id = first + order[position];
                if !self.is_watched(id) || found.contains(&id) {
                    continue;
                }
                looked += 1;
                if self.is_touched(id) {
                    found.push(id);
                    newest = (step > LOOK_BEHIND).then_some(position).or(newest);
                }
                if looked == LOOK_BLOCKS {
                    break;
                }
            }
            if let (Some(position), Some(watched)) = (newest, &mut self.views[slot]) {
                watched.cursor = position;
            }
        }
        let in_order = found.len();
        self.sweep(&mut found);
        if in_order == 0
            && let Some(&id) = found.last()
        {
            self.jump(id);
        }
        found
    }

    /// Looks at some blocks of all views, wherever the computation is expected.
    fn sweep(&mut self, found: &mut Vec<BlockId>) {
        let count = self.table.len() as BlockId;
        let mut looked = 0;
        for _ in 0..SWEEP_IDS.min(count as usize) {
            self.hand = (self.hand + 1) % count;
            if self.is_watched(self.hand) && !found.contains(&self.hand) {
                looked += 1;
                if self.is_touched(self.hand) {
                    found.push(self.hand);
                }
                if looked == SWEEP_BLOCKS {
                    break;
                }
            }
        }
    }

    /// The computation is at `id`, where it was not expected.
    fn jump(&mut self, id: BlockId) {
        let slot = self.table.block(id).view as usize;
        if let Some(watched) = &mut self.views[slot] {
            let index = id - watched.view.ids.start;
            if let Some(position) = watched.view.layout.order.iter().position(|&at| at == index) {
                watched.cursor = position;
            }
        }
    }

    /// Looks at one page of one block that should be in memory: under pressure the kernel takes what
    /// it likes. What has gone is absent, and the policy reads it again.
    fn find_taken(&mut self) {
        let count = self.table.len() as BlockId;
        let (hand, round) = &mut self.audit;
        for _ in 0..SWEEP_IDS.min(count as usize) {
            *hand = (*hand + 1) % count;
            if *hand == 0 {
                *round += 1;
            }
            if self.table.is_evictable(*hand) {
                break;
            }
        }
        let (id, round) = self.audit;
        if id < count && self.table.is_evictable(id) {
            let place = self.place(id);
            // Another page in every round, spread over the block.
            let page = (round * 97 + 51) % (place.len / PAGE);
            if !is_cached(place.addr + page * PAGE) {
                // What is left of its entries is no touch.
                let _ = advise(place.range(), Advice::LinuxDontNeed);
                self.table.set_state(id, State::Absent);
            }
        }
    }

    fn touched(&mut self, id: BlockId) {
        let touch = match self.table.state(id) {
            State::Absent => Touch::Absent,
            State::Reading => Touch::Reading,
            State::Staged => Touch::Staged,
            State::Present | State::Poisoned | State::Gone => return,
        };
        let now = self.meter.now_ns();
        self.policy.touched(&self.table, id, touch, now);
        match touch {
            Touch::Staged => self.table.set_state(id, State::Present),
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
        }
    }

    /// Asks for what is wanted: what has been touched first, then what the policy names.
    fn pump(&mut self) {
        while let Some(&id) = self.demand.front() {
            if self.table.state(id) == State::Absent {
                if !self.make_room(Some(id), Need::Demand) {
                    return;
                }
                self.start_read(id);
            }
            self.demand.pop_front();
        }
        while self.reading.len() < self.depth as usize {
            let Some(id) = self.policy.next_read(&self.table, self.reading.len() as u32) else { break };
            assert_eq!(self.table.state(id), State::Absent, "the policy named block {id}, which is not absent");
            if !self.make_room(Some(id), Need::Readahead) {
                break;
            }
            self.start_read(id);
        }
    }

    /// Evicts until `wanted` fits (or until the budget is kept).
    pub fn make_room(&mut self, wanted: Option<BlockId>, need: Need) -> bool {
        loop {
            let enough = match wanted {
                Some(id) => self.table.has_room(id),
                None => self.table.held_bytes() <= self.table.budget_bytes(),
            };
            if enough {
                return true;
            }
            let Some(victim) = self.policy.victim(&self.table, wanted, need) else { return false };
            self.evict(victim);
        }
    }

    fn evict(&mut self, id: BlockId) {
        assert!(self.table.is_evictable(id), "the policy named block {id}, which cannot be evicted");
        self.meter.stats.evictions += 1;
        self.meter.stats.evictions_untouched += u64::from(self.table.state(id) == State::Staged);
        let place = self.place(id);
        // The cache keeps what is mapped, so the entries go first. Both are advice: no error matters.
        let _ = advise(place.range(), Advice::LinuxDontNeed);
        let block = *self.table.block(id);
        self.view_of(id).file.forget_cached(block.offset..block.offset + u64::from(block.len));
        self.table.set_state(id, State::Absent);
    }

    fn start_read(&mut self, id: BlockId) {
        let place = self.place(id);
        self.table.set_state(id, State::Reading);
        self.meter.held(self.table.held_bytes());
        self.meter.read_started(place.len as u64);
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
                self.meter.read_done(u64::from(self.table.block(read.id).len), now - read.since_ns);
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
            }
        }
    }

    fn view_of(&self, id: BlockId) -> &View {
        &self.views[self.table.block(id).view as usize].as_ref().expect("blocks belong to views").view
    }

    fn place(&self, id: BlockId) -> Place {
        self.view_of(id).place(&self.table, id)
    }
}

/// CPU time of the calling thread in seconds.
fn thread_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
