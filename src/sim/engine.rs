//! The event loop: threads, drive and the pager's side of the contract.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use crate::pager::price;
use crate::pager::{affinity, drives, tuner};
use crate::policy::{BlockId, BlockTable, Need, Placement, Policy, State, Touch};
use crate::trace;

use super::{Action, Scenario, Server, SimError, Step, Totals};

/// The block that depth counts in, and reads of smaller ones in place of one: see [`super::Drive`].
const BLOCK: u64 = tuner::BLOCK;
const SMALL_READS: u32 = drives::SMALL_READS as u32;

/// Times that a policy may name victims for one block.
const VICTIMS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The read of a block completes.
    Filled(BlockId),
    /// A thread looks for its block: for the first time, or after a wake-up.
    Looks(usize),
    /// A thread has computed its step.
    Computed(usize),
}

/// A run in progress. The blocks' budget is the table's.
pub struct Engine<'a> {
    table: BlockTable,
    policy: &'a mut dyn Policy,
    scenario: Scenario,
    cuts: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    now_ns: u64,
    server: Server,
    in_flight: u32,
    in_flight_bytes: u64,
    next_step: Vec<usize>,
    step: Vec<Option<Step>>,
    /// Where in its script each thread is.
    place: Vec<usize>,
    slept_at: Vec<Option<u64>>,
    waiting: HashMap<BlockId, Vec<usize>>,
    /// What the policy has not been told yet of the next router's choice.
    guess: Arc<[BlockId]>,
    /// Demand reads that have no frame yet.
    starved: VecDeque<BlockId>,
    /// When the pager's thread is through with what it has been given.
    pager_ns: u64,
    /// What it has taken of the processor from each thread since its step began.
    stolen_ns: Vec<u64>,
    untouched: Vec<bool>,
    totals: Totals,
    marks: Vec<Totals>,
    /// What a log of this run would hold.
    #[cfg(test)]
    pub log: Vec<trace::Record>,
    /// When routers chose, and how many records the log held then.
    #[cfg(test)]
    pub chosen: Vec<(u64, usize)>,
}

impl<'a> Engine<'a> {
    /// See [`super::run_cut`].
    pub fn new(mut table: BlockTable, policy: &'a mut dyn Policy, scenario: Scenario, cuts: Vec<usize>) -> Engine<'a> {
        table.set_waste(price::TYPICAL as f32);
        let threads = scenario.threads.len();
        Engine {
            untouched: vec![false; table.len()],
            table,
            policy,
            cuts,
            events: BinaryHeap::new(),
            sequence: 0,
            now_ns: 0,
            server: Server::default(),
            in_flight: 0,
            in_flight_bytes: 0,
            next_step: vec![0; scenario.scripts.len()],
            step: vec![None; threads],
            place: vec![0; threads],
            slept_at: vec![None; threads],
            waiting: HashMap::new(),
            guess: Arc::default(),
            starved: VecDeque::new(),
            pager_ns: 0,
            stolen_ns: vec![0; threads],
            totals: Totals::default(),
            marks: Vec::new(),
            #[cfg(test)]
            log: Vec::new(),
            #[cfg(test)]
            chosen: Vec::new(),
            scenario,
        }
    }

    /// Runs until every script is done.
    pub fn run(&mut self) -> Result<Vec<Totals>, SimError> {
        for thread in 0..self.step.len() {
            self.take_step(thread);
        }
        while let Some(Reverse((at_ns, _, event))) = self.events.pop() {
            self.now_ns = at_ns;
            match event {
                Event::Filled(id) => self.fill(id)?,
                Event::Looks(thread) => self.look(thread)?,
                Event::Computed(thread) => self.computed(thread),
            }
            self.feed_starved()?;
            self.read_ahead()?;
            if self.totals.touches > self.scenario.touches_max {
                return Err(SimError::Livelock(self.totals.touches));
            }
        }
        let waiting = self.step.iter().flatten().count();
        if waiting > 0 {
            return Err(SimError::Deadlock { waiting });
        }
        self.mark();
        Ok(std::mem::take(&mut self.marks))
    }

    /// Logs an event, for whoever tests what reads logs.
    fn note(&mut self, event: trace::Event) {
        #[cfg(test)]
        self.log.push(trace::Record { at_ns: self.now_ns, event });
        #[cfg(not(test))]
        let _ = event;
    }

    /// The pager's thread does something with `id`.
    fn work(&mut self, action: Action, id: BlockId) {
        let ns = self.scenario.work.ns(action, self.table.block(id).frame_bytes);
        self.pager_ns = self.pager_ns.max(self.now_ns) + ns;
        if self.scenario.work.is_crowded() {
            let asleep = |thread: &usize| self.waiting.values().flatten().any(|waiter| waiter == thread);
            let awake: Vec<usize> = (0..self.step.len()).filter(|thread| !asleep(thread)).collect();
            awake.into_iter().for_each(|thread| self.stolen_ns[thread] += ns);
        }
    }

    /// A thread is woken once the pager's thread is through: it looks for its block again.
    fn wake(&mut self, thread: usize) {
        let wait_ns = self.pager_ns.saturating_sub(self.now_ns);
        self.at(wait_ns + self.scenario.wake_ns, Event::Looks(thread));
    }

    fn at(&mut self, delay_ns: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now_ns + delay_ns, self.sequence, event)));
    }

    fn mark(&mut self) {
        self.totals.time_ns = self.now_ns;
        self.marks.push(self.totals);
    }

    fn take_step(&mut self, thread: usize) {
        let script = self.scenario.threads[thread];
        let next = self.next_step[script];
        self.step[thread] = self.scenario.scripts[script].get(next).copied();
        self.place[thread] = next;
        if self.step[thread].is_some() {
            if script == 0 && self.cuts.get(self.marks.len()) == Some(&next) {
                self.mark();
            }
            self.next_step[script] += 1;
            self.routed(script, next);
            self.at(0, Event::Looks(thread));
        }
    }

    fn look(&mut self, thread: usize) -> Result<(), SimError> {
        let Some(step) = self.step[thread] else { return Ok(()) };
        let id = step.block;
        if let Some(since) = self.slept_at[thread].take() {
            self.totals.stall_ns += self.now_ns - since;
            self.note(trace::Event::Woken { block: id, tid: thread as u32 + 1 });
        }
        if self.table.state(id) == State::Present {
            self.untouched[id as usize] = false;
            self.at(step.compute_ns, Event::Computed(thread));
            return Ok(());
        }
        let touch = match self.table.state(id) {
            State::Staged => Touch::Staged,
            State::Reading => Touch::Reading,
            _ => Touch::Absent,
        };
        self.totals.touches += 1;
        self.totals.demand += u64::from(touch == Touch::Absent);
        self.note(trace::Event::Touch { block: id, offset: 0, tid: thread as u32 + 1, found: touch });
        let ended = self.policy.cycles();
        self.policy.touched(&self.table, id, touch, self.now_ns);
        if self.policy.cycles() != ended {
            self.note(trace::Event::Cycle { number: self.policy.cycles() });
        }
        self.hint(thread, id);
        self.untouched[id as usize] = false;
        self.slept_at[thread] = Some(self.now_ns);
        if touch == Touch::Staged {
            self.work(Action::Install, id);
            // It slept meanwhile.
            self.stolen_ns[thread] = 0;
            self.table.set_state(id, State::Present);
            self.note(trace::Event::Install { block: id });
            self.wake(thread);
        } else {
            self.table.set_waited_for(id, true);
            let sleepers = self.waiting.entry(id).or_default();
            sleepers.push(thread);
            if touch == Touch::Absent && !self.starved.contains(&id) {
                self.starved.push_back(id);
                self.feed_starved()?;
            }
        }
        if let Some(id) = self.policy.rearm(&self.table) {
            if self.table.state(id) != State::Present {
                return Err(SimError::Contract(format!("rearmed {id}, which is not present")));
            }
            self.work(Action::Rearm, id);
            self.table.set_state(id, State::Staged);
            self.note(trace::Event::Rearm { block: id });
        }
        Ok(())
    }

    /// Tells the policy what routers have chosen before step `place` of a script.
    fn routed(&mut self, script: usize, place: usize) {
        let Some(foretold) = self.scenario.foretold.get(place).filter(|_| script == 0) else { return };
        #[cfg(test)]
        if !foretold.routed.is_empty() {
            self.chosen.push((self.now_ns, self.log.len()));
        }
        if !foretold.routed.is_empty() {
            let chosen: Vec<(BlockId, f64)> = foretold.routed.iter().map(|&id| (id, 1.0)).collect();
            self.policy.routed(&self.table, &chosen);
            let near = foretold.affine.iter().map(|&(id, level)| (id, affinity::of_level(level)));
            self.policy.affine(&self.table, &near.collect::<Vec<_>>());
            self.guess = foretold.guessed.clone();
        }
    }

    fn hint(&mut self, thread: usize, id: BlockId) {
        if self.scenario.threads[thread] != 0 {
            return;
        }
        let Some(foretold) = self.scenario.foretold.get(self.place[thread]) else { return };
        for &companion in foretold.companions.iter() {
            if companion != id && self.table.state(companion) == State::Absent {
                self.policy.hinted(&self.table, companion);
            }
        }
    }

    fn computed(&mut self, thread: usize) {
        let Some(step) = self.step[thread] else { return };
        let stolen_ns = std::mem::take(&mut self.stolen_ns[thread]);
        if stolen_ns > 0 {
            self.at(stolen_ns, Event::Computed(thread));
        } else if self.table.state(step.block) == State::Present {
            self.take_step(thread);
        } else {
            // Evicted under the thread: it must have the block once more to finish.
            self.totals.lost += 1;
            self.step[thread] = Some(Step { compute_ns: 1, ..step });
            self.at(0, Event::Looks(thread));
        }
    }

    fn feed_starved(&mut self) -> Result<(), SimError> {
        while let Some(&id) = self.starved.front() {
            if !self.make_room(id, Need::Demand)? {
                return Ok(());
            }
            self.starved.pop_front();
            self.start(id);
        }
        Ok(())
    }

    fn read_ahead(&mut self) -> Result<(), SimError> {
        while self.has_room_in_flight() {
            let id = match self.policy.next_read(&self.table, self.in_flight) {
                Some(id) => id,
                None if self.guess() => continue,
                None => match self.policy.next_idle(&self.table, self.in_flight) {
                    Some(id) => id,
                    None => break,
                },
            };
            if self.table.state(id) != State::Absent {
                return Err(SimError::Contract(format!("read of {id}, which is {:?}", self.table.state(id))));
            }
            if self.table.is_waited_for(id) || !self.make_room(id, Need::Readahead)? {
                break;
            }
            self.untouched[id as usize] = true;
            self.start(id);
        }
        Ok(())
    }

    /// Tells the policy what the next router will probably choose; false when nothing new is known.
    fn guess(&mut self) -> bool {
        let blocks = std::mem::take(&mut self.guess);
        if !blocks.is_empty() {
            self.policy.guessed(&blocks);
        }
        !blocks.is_empty()
    }

    fn has_room_in_flight(&self) -> bool {
        let depth = self.scenario.drive.queue_depth;
        self.in_flight < depth * SMALL_READS && self.in_flight_bytes < u64::from(depth) * BLOCK
    }

    fn make_room(&mut self, id: BlockId, need: Need) -> Result<bool, SimError> {
        for _ in 0..VICTIMS_MAX {
            if self.table.has_room(id) {
                return Ok(true);
            }
            let Some(victim) = self.policy.victim(&self.table, Some(id), need) else {
                let evictable = (0..self.table.len() as BlockId).find(|&id| self.table.is_evictable(id));
                return match evictable.filter(|_| need == Need::Demand) {
                    Some(other) => Err(SimError::Contract(format!("no victim, though {other} is evictable"))),
                    None => Ok(false),
                };
            };
            if !self.table.is_evictable(victim) {
                return Err(SimError::Contract(format!("victim {victim} is {:?}", self.table.state(victim))));
            }
            self.totals.wasted += u64::from(self.untouched[victim as usize]);
            self.work(Action::Evict, victim);
            self.table.set_state(victim, State::Absent);
            self.note(trace::Event::Evict { block: victim, untouched: self.untouched[victim as usize] });
        }
        Err(SimError::Contract(format!("{VICTIMS_MAX} victims made no room for {id}")))
    }

    fn start(&mut self, id: BlockId) {
        let bytes = u64::from(self.table.block(id).len);
        self.table.set_state(id, State::Reading);
        let why = if self.table.is_waited_for(id) { trace::Why::Demand } else { trace::Why::Readahead };
        self.note(trace::Event::Read { read: id, block: id, start: 0, len: bytes as u32, source: 0, why });
        self.totals.read_bytes += bytes;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.work(Action::Read, id);
        let done = self.server.ends_ns(&self.scenario.drive, self.pager_ns, bytes);
        self.at(done - self.now_ns, Event::Filled(id));
    }

    fn fill(&mut self, id: BlockId) -> Result<(), SimError> {
        self.in_flight -= 1;
        self.in_flight_bytes -= u64::from(self.table.block(id).len);
        self.note(trace::Event::ReadEnd { read: id, result: self.table.block(id).len as i32 });
        let placement = self.policy.filled(&self.table, id);
        self.table.set_state(id, State::Staged);
        let sleepers = self.waiting.remove(&id).unwrap_or_default();
        self.table.set_waited_for(id, false);
        if !sleepers.is_empty() || placement == Placement::Install {
            self.work(Action::Install, id);
            self.table.set_state(id, State::Present);
            self.note(trace::Event::Install { block: id });
        }
        for thread in sleepers {
            self.stolen_ns[thread] = 0;
            self.wake(thread);
        }
        Ok(())
    }
}
