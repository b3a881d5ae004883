//! Faults in, reads out: the states of blocks change here and nowhere else (but for commands, which
//! end them).

use std::io;
use std::os::fd::AsRawFd;

use super::super::drives::Urgency;
use super::super::io::Read;
use super::super::reads::{Part, Record};
use super::super::region::PAGE;
use super::super::uffd::Fault;
use super::{Engine, Waiter};
use crate::policy::{BlockId, Need, State, Touch, min_budget_bytes};
use crate::trace::{Event, Why};

/// Times a read is tried again without progress before the block is given to the kernel.
const RETRIES_MAX: u32 = 3;

impl Engine {
    /// A thread touched a hole.
    pub(super) fn faulted(&mut self, fault: &Fault) -> io::Result<()> {
        let page = fault.address..fault.address + PAGE;
        let Some(id) = self.views.iter().flatten().find_map(|view| view.block_at(fault.address)) else {
            // Unmapped or handed over in the meantime: the kernel answers the next touch.
            self.uffd.wake(page);
            return Ok(());
        };
        let touch = match self.table.state(id) {
            State::Absent => Touch::Absent,
            State::Reading => Touch::Reading,
            State::Staged => Touch::Staged,
            State::Present if !self.fill.is_intact(fault.address) => {
                self.evict(id);
                Touch::Absent
            }
            // Answered since the event was queued.
            State::Present | State::Poisoned | State::Gone => {
                self.uffd.wake(page);
                return Ok(());
            }
        };
        let now = self.meter.now_ns();
        self.meter.fault(touch, now);
        let offset = (fault.address - self.place(id).addr) as u32;
        self.trace.note(&self.meter, Event::Touch { block: id, offset, tid: fault.tid, found: touch });
        // Several threads may meet in one block; it counts as one touch.
        let first = !self.table.is_waited_for(id);
        if first {
            self.account_touch(id, touch);
            self.policy.touched(&self.table, id, touch, now);
            if self.meter.cycles(self.policy.cycles(), now) {
                self.trace.note(&self.meter, Event::Cycle { number: self.policy.cycles() });
            }
            self.hint_companions(id, fault.address);
        }
        let waiter = Waiter { since_ns: now, touch, tid: fault.tid };
        self.waiters.entry(id).or_default().push(waiter);
        self.table.set_waited_for(id, true);
        match touch {
            Touch::Staged => self.install(id)?,
            Touch::Absent if first && !self.is_closing(id) => self.demand.push_back(id),
            Touch::Absent | Touch::Reading => {}
        }
        if first && let Some(mark) = self.policy.rearm(&self.table) {
            self.rearm(mark)?;
        }
        Ok(())
    }

    /// Who reads a part of an expert will read the rest of it.
    fn hint_companions(&mut self, id: BlockId, address: usize) {
        let view = self.views[self.table.block(id).view as usize].as_ref().expect("blocks belong to views");
        for index in view.layout.companions(view.offset_of(address)) {
            let companion = view.ids.start + index;
            if companion != id && self.table.state(companion) == State::Absent {
                self.origins.used(companion);
                self.policy.hinted(&self.table, companion);
            }
        }
    }

    /// Starts the reads that are wanted: demand first, then what the policy names.
    pub(super) fn pump(&mut self) -> io::Result<()> {
        while let Some(&id) = self.demand.front() {
            if self.table.state(id) == State::Absent {
                if !self.make_room(Some(id), Need::Demand) {
                    if self.reads.blocks() == 0 {
                        return Err(io::Error::other("a bug (the policy names no victim)"));
                    }
                    // Every frame is being read into; the next completion makes room.
                    return Ok(());
                }
                let source = self.choose_source(id, Urgency::Demand).expect("demand reads need no depth");
                if !self.start_read(id, source, Why::Demand)? {
                    continue;
                }
            }
            self.demand.pop_front();
        }
        self.table.set_ready(self.fill.ready_bytes());
        self.set_price();
        loop {
            let certain = self.policy.is_certain(&self.table);
            let urgency = if certain { Urgency::Certain } else { Urgency::Readahead };
            if !self.drives.have_room(urgency) {
                break;
            }
            let in_flight = self.reads.blocks() as u32;
            let id = match self.policy.next_read(&self.table, in_flight) {
                Some(id) => id,
                None if self.is_busy() => break,
                None if self.guess() => continue,
                None => match self.policy.next_idle(&self.table, in_flight) {
                    Some(id) => id,
                    None => break,
                },
            };
            assert_eq!(self.table.state(id), State::Absent, "the policy named block {id}, which is not absent");
            let Some(source) = self.choose_source(id, urgency) else { break };
            if !self.make_room(Some(id), Need::Readahead) || !self.start_read(id, source, Why::Readahead)? {
                break;
            }
        }
        if self.reads.blocks() > 0 {
            // No more than the blocks can fill.
            let wanted_bytes = self.table.budget_bytes().min(self.meter.mapped_bytes());
            self.fill.prepare(wanted_bytes.saturating_sub(self.pool_bytes()));
        }
        Ok(())
    }

    /// Which of its file's sources block `id` is to be read from, if that is not to wait.
    fn choose_source(&self, id: BlockId, urgency: Urgency) -> Option<usize> {
        let bytes = self.table.block(id).len as usize;
        self.drives.choose(&self.view_of(id).sources, bytes, urgency, self.meter.now_ns())
    }

    /// What has to go for `wanted`, by all that has been told until now.
    pub(super) fn victim(&mut self, wanted: Option<BlockId>, need: Need) -> Option<BlockId> {
        self.hear();
        self.policy.victim(&self.table, wanted, need)
    }

    /// Evicts until a frame for `wanted` fits (or until the budget is kept), and what gives its memory to it; false when
    /// the policy names no victim.
    pub(super) fn make_room(&mut self, wanted: Option<BlockId>, need: Need) -> bool {
        while !self.table.has_room_for(wanted) {
            let Some(victim) = self.victim(wanted, need) else { return false };
            self.evict(victim);
        }
        if let Some(id) = wanted {
            self.hear();
            self.table.set_ready(self.fill.ready_bytes());
            if let Some(victim) = self.policy.exchange(&self.table, id) {
                self.evict(victim);
            }
        }
        true
    }

    /// Starts reading an absent block for which there is room from its file's `source`. False when there was no memory for
    /// it: the budget has then been cut down to what there is.
    fn start_read(&mut self, id: BlockId, source: usize, why: Why) -> io::Result<bool> {
        let place = self.place(id);
        let frame = match self.fill.acquire(&place) {
            Ok(frame) => frame,
            Err(error) if self.table.held_bytes() >= min_budget_bytes(&self.table) => {
                let bytes = self.table.held_bytes();
                self.warn_of_memory(&error, "the pool does not grow any more");
                self.table.set_budget(bytes);
                self.meter.stats.budget_bytes = bytes;
                self.trace.note(&self.meter, Event::Budget { bytes });
                self.policy.budget_changed(&self.table);
                return Ok(false);
            }
            // With fewer frames threads would take them from each other without getting on.
            Err(error) => {
                self.warn_of_memory(&error, "the kernel serves what finds none");
                self.give_up(id)?;
                return Ok(true);
            }
        };
        self.set_state(id, State::Reading);
        let wanted = self.account_read(id, why);
        self.meter.held(self.table.held_bytes());
        self.frames[id as usize] = Some(frame);
        let started_ns = self.meter.now_ns();
        let part_bytes = self.read_bytes.min(place.len as u32);
        let parts_left = (place.len as u32).div_ceil(part_bytes);
        let read_from = self.view_of(id).sources[source];
        self.drives.block_started(read_from, place.len, started_ns);
        let bytes = place.len;
        if wanted {
            self.busy.started(started_ns);
        }
        let record = Record { id, frame, bytes, source: read_from, parts_left, failed: false, why, wanted, started_ns };
        let record = self.reads.add(record);
        for start in (0..place.len as u32).step_by(part_bytes as usize) {
            let len = part_bytes.min(place.len as u32 - start);
            self.start_part(Part { record, start, len, source, retries: 0, buffered: false })?;
        }
        Ok(true)
    }

    /// Once, and in plain words.
    fn warn_of_memory(&mut self, error: &io::Error, what: &str) {
        if !std::mem::replace(&mut self.warned.memory, true) {
            log::warn!("no memory for more frames ({error}): {what}");
        }
    }

    fn start_part(&mut self, part: Part) -> io::Result<()> {
        let record = self.reads.record(part.record);
        let (id, frame, why) = (record.id, record.frame, record.why);
        let view = self.view_of(id);
        let source = &view.file.sources()[part.source];
        let fd = if part.buffered { source.buffered().as_raw_fd() } else { source.read_fd().0 };
        let read_from = view.sources[part.source];
        let offset = self.table.block(id).offset + u64::from(part.start);
        let token = self.reads.add_part(part);
        self.meter.read_started(u64::from(part.len));
        let Part { start, len, .. } = part;
        let (read, source) = (token as u32, part.source as u8);
        self.trace.note(&self.meter, Event::Read { read, block: id, start, len, source, why });
        self.drives.read_started(read_from, self.meter.now_ns());
        self.io.start(Read { fd, addr: frame.addr + part.start as usize, len: part.len, offset, token })
    }

    /// A read completed with `result`: bytes, or a negative error number.
    pub(super) fn read_ended(&mut self, token: u64, result: i32) -> io::Result<()> {
        let mut part = self.reads.take_part(token);
        let (id, started_ns) = {
            let record = self.reads.record(part.record);
            (record.id, record.started_ns)
        };
        let now = self.meter.now_ns();
        self.meter.read_done(result.max(0) as u64, now.saturating_sub(started_ns));
        self.trace.note(&self.meter, Event::ReadEnd { read: token as u32, result });
        self.drives.read_ended(self.view_of(id).sources[part.source], result.max(0) as u64, now);
        let is_copy = part.source > 0;
        if is_copy && !self.view_of(id).file.sources()[part.source].is_unchanged() {
            return self.read_elsewhere(id, part, "it was changed");
        }
        if self.missing_bytes(id, &part, result) > 0 {
            let progress = result.max(0) as u32 / PAGE as u32 * PAGE as u32;
            part.start += progress;
            part.len -= progress;
            part.retries = if progress > 0 { 0 } else { part.retries + 1 };
            let hard = !matches!(-result, libc::EINTR | libc::EAGAIN) && progress == 0;
            // Direct I/O may be refused where reading through the page cache works; of a copy it has
            // been tried.
            part.buffered |= hard;
            if part.retries <= RETRIES_MAX && !(is_copy && hard) {
                return self.start_part(part);
            }
            let why =
                if result < 0 { io::Error::from_raw_os_error(-result).to_string() } else { "it ends early".into() };
            let view = self.view_of(id);
            if is_copy || self.drives.has_other(&view.sources, view.sources[0]) {
                return self.read_elsewhere(id, part, &why);
            }
            self.reads.record(part.record).failed = true;
        }
        let record = self.reads.record(part.record);
        record.parts_left -= 1;
        if record.parts_left > 0 {
            return Ok(());
        }
        let record = self.reads.take(part.record);
        if record.wanted {
            self.busy.ended(now);
        }
        self.drives.block_ended(record.source, record.bytes, now);
        if record.failed { self.give_up(id) } else { self.filled(id) }
    }

    /// Leaves the source of `part` out from now on, and reads the part from another.
    fn read_elsewhere(&mut self, id: BlockId, part: Part, why: &str) -> io::Result<()> {
        let view = self.view_of(id);
        let (file, sources) = (view.file.clone(), view.sources.clone());
        if self.drives.leave_out(sources[part.source]) {
            let path = file.sources()[part.source].path().display();
            log::warn!("{path} is not read any more ({why}); other copies of the model are");
        }
        let source = self.choose_source(id, Urgency::Demand).expect("demand reads need no depth");
        self.start_part(Part { source, retries: 0, buffered: false, ..part })
    }

    /// Bytes of `part` that the file has and the read did not bring.
    fn missing_bytes(&self, id: BlockId, part: &Part, result: i32) -> u64 {
        let start = self.table.block(id).offset + u64::from(part.start);
        let wanted = self.view_of(id).file.bytes().saturating_sub(start).min(u64::from(part.len));
        wanted.saturating_sub(result.max(0) as u64)
    }

    fn is_closing(&self, id: BlockId) -> bool {
        self.closing.as_ref().is_some_and(|ids| ids.contains(&id))
    }
}
