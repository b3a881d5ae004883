//! What other threads ask for: views come and go here.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use super::super::blocks::Layout;
use super::super::command::{Command, Wanted};
use super::super::region::unmap;
use super::super::view::View;
use super::super::views;
use super::Engine;
use crate::policy::{BlockId, Need, State, min_budget_bytes};
use crate::stats::Stats;
use crate::trace::Event;

/// How a part of a view ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Unmapped.
    Unmap,
    /// Replaced by an ordinary mapping of the file.
    HandOver,
}

impl Engine {
    pub(super) fn obey(&mut self, command: Command) -> io::Result<()> {
        // A sender that has gone away does not need its answer.
        match command {
            Command::Map {
                wanted: Wanted { file, offset, len, pieces, tensors, model, kept },
                budget_bytes,
                governor,
                reply,
            } => {
                let made = self.fill.open_view(offset, len).and_then(|range| {
                    let layout = Layout::with_grain(offset..offset + len as u64, &pieces, self.grain);
                    let live = vec![range.clone()];
                    let sources = self.drives.add(&file);
                    let view =
                        View { ids: 0..0, live, range: range.clone(), offset, file, sources, layout, model, kept };
                    let slot = self.add_view(view)?;
                    self.governor = governor;
                    let enough = self.set_budget(budget_bytes);
                    if enough > budget_bytes && !std::mem::replace(&mut self.warned.budget, true) {
                        log::warn!("a budget of {budget_bytes} bytes is too small; it becomes {enough} bytes");
                    }
                    self.trace.begin(&self.meter);
                    if self.listens {
                        self.lookahead.mapped(slot as u32, &tensors);
                    }
                    let view = self.views[slot].as_ref().expect("just made");
                    self.trace.view(&self.meter, || view.traced(tensors));
                    self.introduce();
                    Ok(range)
                });
                let _ = reply.send(made);
            }
            Command::Unmap { range, reply } => {
                let _ = reply.send(self.end(range, End::Unmap));
            }
            Command::HandOver { range, reply } => {
                let _ = reply.send(self.end(range, End::HandOver));
            }
            Command::WillNeed { range } => self.will_need(range),
            Command::Stats { reply } => {
                self.trace.finish();
                self.publish_now();
                let sources = self.drives.summary(self.meter.now_ns());
                let (queue_limit_bytes, queue_ran_dry) = self.drives.queues();
                let mut stats = Stats { sources, queue_limit_bytes, queue_ran_dry, ..self.meter.summary() };
                stats.pager_cpu_s += self.fill.cpu_ns() as f64 / 1e9;
                self.trace.report(&mut stats);
                let _ = reply.send(stats);
            }
            Command::FinishTrace { reply } => {
                self.trace.finish();
                let _ = reply.send(());
            }
            Command::Panic => panic!("asked to"),
        }
        Ok(())
    }

    /// Gives the view's number.
    fn add_view(&mut self, mut view: View) -> io::Result<usize> {
        let shown = views::View {
            start: view.range.start,
            end: view.range.end,
            fd: view.file.buffered().as_raw_fd(),
            offset: view.offset,
        };
        if let Err(full) = views::add(shown) {
            self.fill.close(view.range.clone());
            unmap(view.range)?;
            return Err(io::Error::other(full));
        }
        let slot = self.views.iter().position(Option::is_none).unwrap_or(self.views.len());
        for block in &mut view.layout.blocks {
            block.view = slot as u32;
        }
        view.ids = self.table.add(&view.layout.blocks);
        let order: Vec<BlockId> = view.layout.order.iter().map(|index| view.ids.start + index).collect();
        self.frames.resize(self.table.len(), None);
        self.unused.resize(self.table.len(), false);
        self.origins.resize(self.table.len());
        let ids = view.ids.clone();
        self.meter.view_added(view.range.len() as u64);
        if slot == self.views.len() {
            self.views.push(None);
        }
        self.views[slot] = Some(view);
        ids.clone().for_each(|id| self.count_missing(id, true));
        self.policy.mapped(&self.table, ids.clone(), &order);
        let layout = &self.views[slot].as_ref().expect("just put there").layout;
        self.policy.experts(&self.table, &layout.by_expert(ids.start));
        self.meter.stats.strategy = self.policy.name().into();
        if let Some(kept) = self.views[slot].as_mut().and_then(|view| view.kept.as_mut()) {
            self.policy.recall(&self.table, ids, &std::mem::take(&mut kept.offsets));
        }
        Ok(slot)
    }

    /// Sets the pool's size, but never to less than what every policy needs to make progress. Gives
    /// what it has become.
    fn set_budget(&mut self, wanted: u64) -> u64 {
        let bytes = wanted.max(min_budget_bytes(&self.table));
        let had = self.pool_bytes();
        self.table.set_budget(bytes);
        self.meter.stats.budget_bytes = bytes;
        self.trace.note(&self.meter, Event::Budget { bytes });
        self.policy.budget_changed(&self.table);
        self.fill.trim(bytes.saturating_sub(self.table.held_bytes()));
        while !self.table.has_room_for(None) {
            let Some(victim) = self.victim(None, Need::Shrink) else { break };
            self.evict(victim);
            // Frame by frame: this thread may lose its core at any time.
            self.fill.trim(bytes.saturating_sub(self.table.held_bytes()));
        }
        self.meter.stats.given_back_bytes += had.saturating_sub(self.pool_bytes());
        bytes
    }

    /// Memory of all frames, with a block or spare.
    pub(super) fn pool_bytes(&self) -> u64 {
        self.table.held_bytes() + self.fill.spare_bytes()
    }

    /// Lets the pool follow the memory that is left, if the budget is elastic.
    pub(super) fn adjust_budget(&mut self) {
        let now = self.meter.now_ns();
        let Some(governor) = self.governor.as_mut().filter(|_| now >= self.adjusts_at_ns) else { return };
        // What is not there yet is still in the room.
        let pool = self.table.held_bytes() + self.fill.spare_bytes() - self.fill.unmade_bytes();
        let budget = self.table.budget_bytes();
        let wanted = governor.adjust(now / 1_000_000, budget, pool);
        self.adjusts_at_ns = now + governor.pause().as_nanos() as u64;
        if wanted == budget {
            return;
        }
        let became = self.set_budget(wanted);
        self.publisher.changed();
        if let Some(governor) = self.governor.as_mut().filter(|_| became > wanted) {
            governor.set_least(became);
        }
        let (given, took_us) = (pool.saturating_sub(self.pool_bytes()), (self.meter.now_ns() - now) / 1000);
        log::debug!("the budget goes from {budget} to {became} bytes; {given} bytes given back in {took_us} us");
    }

    fn end(&mut self, range: Range<usize>, how: End) -> io::Result<()> {
        for slot in 0..self.views.len() {
            let Some(view) = &self.views[slot] else { continue };
            let parts = view.live_in(&range);
            if !parts.is_empty() {
                self.keep_order_now(slot);
            }
            for part in parts {
                self.end_part(slot, part, how)?;
            }
            if self.views[slot].as_ref().is_some_and(|view| view.live.is_empty()) {
                self.end_view(slot);
            }
        }
        while self.views.last().is_some_and(Option::is_none) {
            self.views.pop();
        }
        if self.views.is_empty() {
            self.fill.trim(0);
        }
        Ok(())
    }

    /// Ends the live addresses `part`. Blocks on its border that reach beyond it are served by the
    /// kernel from now on.
    fn end_part(&mut self, slot: usize, part: Range<usize>, how: End) -> io::Result<()> {
        let ids = self.view(slot).ids_in(&part);
        self.quiesce(ids.clone())?;
        let mut gone = Vec::new();
        for id in ids {
            let place = self.place(id);
            let inside = part.start <= place.addr && place.range().end <= part.end;
            self.release(id);
            if inside {
                self.set_state(id, State::Gone);
                gone.push(id);
            } else if self.table.state(id) != State::Poisoned {
                // Only what is still the pager's: an earlier unmapping may have cut the block.
                let view = self.view(slot);
                for rest in view.live_in(&place.range()) {
                    view.file.map_over(rest.clone(), view.offset_of(rest.start))?;
                }
                self.set_state(id, State::Poisoned);
                self.uffd.wake(place.range());
                self.woke(id);
            }
        }
        // Hooks must not take addresses for a view's that are somebody else's already.
        views::remove(part.start, part.len()).map_err(io::Error::other)?;
        match how {
            End::HandOver => self.view(slot).file.map_over(part.clone(), self.view(slot).offset_of(part.start))?,
            End::Unmap => unmap(part.clone())?,
        }
        self.fill.close(part.clone());
        self.views[slot].as_mut().expect("a view").kill(&part);
        self.uffd.wake(part);
        gone.iter().for_each(|&id| self.woke(id));
        self.tell_unmapped(&gone);
        Ok(())
    }

    /// Forgets a view of which nothing is left.
    fn end_view(&mut self, slot: usize) {
        let rest: Vec<BlockId> =
            self.view(slot).ids.clone().filter(|&id| self.table.state(id) != State::Gone).collect();
        rest.iter().for_each(|&id| self.set_state(id, State::Gone));
        self.tell_unmapped(&rest);
        let view = self.views[slot].take().expect("a view");
        self.meter.view_removed(view.range.len() as u64);
        self.table.remove(view.ids);
        self.frames.truncate(self.table.len());
        self.unused.truncate(self.table.len());
        self.origins.resize(self.table.len());
        self.chosen.clear();
        self.lookahead.unmapped(slot as u32);
        self.trace.note(&self.meter, Event::Unmapped { view: slot as u32 });
    }

    fn tell_unmapped(&mut self, ids: &[BlockId]) {
        for run in ids.chunk_by(|a, b| a + 1 == *b) {
            self.policy.unmapped(&self.table, run[0]..run[run.len() - 1] + 1);
        }
    }

    /// Waits until no block of `ids` is being read. Faults are served meanwhile, but touches of
    /// `ids` only sleep.
    fn quiesce(&mut self, ids: Range<BlockId>) -> io::Result<()> {
        self.demand.retain(|id| !ids.contains(id));
        self.closing = Some(ids.clone());
        while ids.clone().any(|id| self.table.state(id) == State::Reading) {
            self.step()?;
        }
        self.closing = None;
        Ok(())
    }

    /// Frees what the block holds.
    fn release(&mut self, id: BlockId) {
        let place = self.place(id);
        match self.table.state(id) {
            State::Staged => {
                if let Some(frame) = self.frames[id as usize].take() {
                    self.fill.discard(&place, frame);
                }
            }
            State::Present => self.fill.evict(&place),
            State::Absent | State::Poisoned | State::Gone => return,
            State::Reading => unreachable!("quiesced"),
        }
        self.lost_frame(id);
        self.set_state(id, State::Absent);
    }

    /// A hint is worth following when it is small; one over the whole file says nothing.
    fn will_need(&mut self, range: Range<usize>) {
        const HINT_BYTES_MAX: usize = 16 << 20;
        if range.len() > HINT_BYTES_MAX {
            return;
        }
        let mut ids = Vec::new();
        for view in self.views.iter().flatten() {
            ids.extend(view.live_in(&range).iter().flat_map(|part| view.ids_in(part)));
        }
        for id in ids {
            self.policy.hinted(&self.table, id);
        }
    }

    fn view(&self, slot: usize) -> &View {
        self.views[slot].as_ref().expect("a view")
    }
}
