//! How views come and go: as ordinary mappings that are listed while hints are given for them.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use rustix::mm::Advice;

use super::super::blocks::Layout;
use super::super::command::Wanted;
use super::super::region::{HUGE, Region, advise, unmap};
use super::super::view::View;
use super::super::views;
use super::hints::{Hints, Watched};
use crate::policy::{BlockId, Need, Role, State, min_budget_bytes};
use crate::trace::Event;

/// How a part of a view ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Unmapped.
    Unmap,
    /// Left as the ordinary mapping that it is, without hints.
    HandOver,
}

impl Hints {
    /// Maps what is `wanted` and begins to give hints for it.
    pub fn map(&mut self, wanted: Wanted, budget_bytes: u64) -> io::Result<Range<usize>> {
        let Wanted { file, offset, len, pieces, tensors, model, kept: _ } = wanted;
        // Congruent to the file, so that a block has a page table of its own.
        let region = Region::reserve(len, offset as usize % HUGE)?;
        let range = region.range();
        file.map_over(range.clone(), offset)?;
        views::add(views::View { start: range.start, end: range.end, fd: file.buffered().as_raw_fd(), offset })
            .map_err(io::Error::other)?;
        let range = region.leak();
        let mut view = View {
            ids: 0..0,
            live: vec![range.clone()],
            range: range.clone(),
            offset,
            file,
            sources: Vec::new(),
            layout: Layout::new(offset..offset + len as u64, &pieces),
            model,
            kept: None,
        };
        let slot = self.views.iter().position(Option::is_none).unwrap_or(self.views.len());
        view.layout.blocks.iter_mut().for_each(|block| block.view = slot as u32);
        view.ids = self.table.add(&view.layout.blocks);
        let ids = view.ids.clone();
        let order: Vec<BlockId> = view.layout.order.iter().map(|index| ids.start + index).collect();
        for rows in row_runs(&view) {
            let _ = advise(rows, Advice::Random);
        }
        self.meter.view_added(range.len() as u64);
        if slot == self.views.len() {
            self.views.push(None);
        }
        let traced = view.traced(tensors);
        // Before the first touch the computation stands before the first block.
        self.views[slot] = Some(Watched { cursor: order.len().saturating_sub(1), view });
        self.renamed = true;
        self.policy.mapped(&self.table, ids, &order);
        self.set_budget(budget_bytes);
        self.trace.begin(&self.meter);
        self.trace.view(&self.meter, || traced);
        Ok(range)
    }

    fn set_budget(&mut self, wanted: u64) {
        let bytes = wanted.max(min_budget_bytes(&self.table));
        if bytes > wanted {
            log::warn!("a budget of {wanted} bytes is too small; it becomes {bytes} bytes");
        }
        self.table.set_budget(bytes);
        self.meter.stats.budget_bytes = bytes;
        self.trace.note(&self.meter, Event::Budget { bytes });
        self.policy.budget_changed(&self.table);
        self.make_room(None, Need::Shrink);
    }

    /// Ends the parts of views that lie in `range`. Blocks on a border are left to the kernel.
    pub fn end(&mut self, range: Range<usize>, how: End) -> io::Result<()> {
        for slot in 0..self.views.len() {
            let Some(watched) = &self.views[slot] else { continue };
            for part in watched.view.live_in(&range) {
                self.end_part(slot, part, how)?;
            }
            if self.views[slot].as_ref().is_some_and(|watched| watched.view.live.is_empty()) {
                self.end_view(slot);
            }
        }
        while self.views.last().is_some_and(Option::is_none) {
            self.views.pop();
        }
        Ok(())
    }

    fn end_part(&mut self, slot: usize, part: Range<usize>, how: End) -> io::Result<()> {
        // First: after this, nothing can fail half-way but the unmapping itself. And hooks must not
        // take addresses for a view's that are somebody else's already.
        views::remove(part.start, part.len()).map_err(io::Error::other)?;
        let ids = self.view(slot).ids_in(&part);
        self.release(ids.clone());
        let mut gone = Vec::new();
        for id in ids {
            // The rest was cut by an earlier unmapping.
            if self.table.state(id) != State::Absent {
                continue;
            }
            let place = self.view(slot).place(&self.table, id);
            if part.start <= place.addr && place.range().end <= part.end {
                self.table.set_state(id, State::Gone);
                gone.push(id);
            } else {
                self.table.set_state(id, State::Poisoned);
            }
        }
        self.views[slot].as_mut().expect("a view").view.kill(&part);
        self.tell_unmapped(&gone);
        match how {
            End::Unmap => unmap(part),
            // Also what was random is ordinary now.
            End::HandOver => {
                let _ = advise(part, Advice::Normal);
                Ok(())
            }
        }
    }

    /// Forgets a view of which nothing is left.
    fn end_view(&mut self, slot: usize) {
        let ids = self.view(slot).ids.clone();
        let rest: Vec<BlockId> = ids.clone().filter(|&id| self.table.state(id) != State::Gone).collect();
        rest.iter().for_each(|&id| self.table.set_state(id, State::Gone));
        self.tell_unmapped(&rest);
        let watched = self.views[slot].take().expect("a view");
        self.meter.view_removed(watched.view.range.len() as u64);
        self.table.remove(ids);
        self.trace.note(&self.meter, Event::Unmapped { view: slot as u32 });
    }

    fn tell_unmapped(&mut self, ids: &[BlockId]) {
        for run in ids.chunk_by(|a, b| a + 1 == *b) {
            self.policy.unmapped(&self.table, run[0]..run[run.len() - 1] + 1);
        }
    }

    /// Leaves every view to the kernel, whatever state this is in.
    pub fn forget_everything(&mut self) {
        for watched in self.views.drain(..).flatten() {
            for run in watched.view.live {
                let _ = views::remove(run.start, run.len());
                let _ = advise(run, Advice::Normal);
            }
        }
    }

    fn view(&self, slot: usize) -> &View {
        &self.views[slot].as_ref().expect("a view").view
    }
}

/// The addresses of embedding rows, in runs of blocks that follow each other.
fn row_runs(view: &View) -> impl Iterator<Item = Range<usize>> {
    let runs = view.layout.blocks.chunk_by(|a, b| (a.role == Role::Row) == (b.role == Role::Row));
    runs.filter(|run| run[0].role == Role::Row).map(|run| {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let address = |offset: u64| view.range.start + (offset - view.offset) as usize;
        address(first.offset)..address(last.offset + u64::from(last.len))
    })
}
