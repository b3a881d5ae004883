//! What routers have chosen, and what they will choose: logged, counted, and read before it is touched where
//! the policy wants that.

use super::Engine;
use crate::pager::affinity;
use crate::pager::command::Choice;
use crate::pager::cpu_time;
use crate::pager::lookahead::Foretold;
use crate::pager::origins::Origin;
use crate::pager::price::Clocks;
use crate::pager::view::View;
use crate::policy::{BlockId, State, Touch};
use crate::trace::Why;

/// Nothing is read that nobody wants while the drives have something wanted to do for more than this share of the time.
const BUSY_MAX: f64 = 0.75;

impl Engine {
    /// Takes in what routers have chosen, if they have; gives whether they have. Not only what the pager was woken for: before
    /// something is evicted, all has to be heard that speaks for it.
    pub(super) fn hear(&mut self) -> bool {
        if self.choices.is_empty() {
            return false;
        }
        let before_ns = cpu_time::of_this_thread_ns();
        while let Ok(choice) = self.choices.try_recv() {
            self.take_in(choice);
        }
        self.missing.set_eager(self.lookahead.is_ready());
        self.choosing_ns += cpu_time::of_this_thread_ns() - before_ns;
        true
    }

    fn take_in(&mut self, choice: Choice) {
        self.trace.routed(&self.meter, &choice);
        self.chosen.clear();
        // Which of two models the choice is about, nobody tells.
        let mut models = self.views.iter().flatten().filter(|view| view.layout.has_experts()).map(|view| &view.model);
        let first = models.next();
        if models.any(|model| Some(model) != first) {
            return;
        }
        let of_layer = |view: &View| view.layout.slices().experts(choice.layer);
        let shares = choice.shares(self.views.iter().flatten().map(of_layer).max().unwrap_or(0));
        let experts: Vec<u32> = shares.keys().copied().collect();
        let mut chosen: Vec<(BlockId, f64)> = Vec::new();
        let mut missed = false;
        for view in self.views.iter().flatten() {
            for slice in view.layout.slices().chosen(choice.layer, &experts) {
                let share = shares[&slice.expert];
                for id in slice.blocks.clone().map(|index| view.ids.start + index) {
                    // The edge between two that were chosen.
                    if chosen.last().is_some_and(|&(last, _)| last == id) {
                        continue;
                    }
                    let state = self.table.state(id);
                    self.meter.chosen(u64::from(self.table.block(id).len), state, self.origins.used(id));
                    missed |= state == State::Absent;
                    chosen.push((id, share));
                }
            }
        }
        self.policy.routed(&self.table, &chosen);
        self.chosen.extend(chosen.iter().map(|&(id, _)| id));
        self.affine(choice.layer, &affinity::levels(&choice));
        let outcome = self.lookahead.chosen(choice, missed, &experts, |id| self.chosen.contains(&id));
        if let Some(outcome) = outcome {
            self.meter.guessed(outcome, self.lookahead.pauses(outcome.by));
        }
    }

    /// The router of `layer`, which has just chosen, came so near to choosing these experts.
    fn affine(&mut self, layer: u32, levels: &[(u32, u8)]) {
        self.trace.affine(&self.meter, layer, levels);
        let mut near: Vec<(BlockId, f64)> = Vec::new();
        for view in self.views.iter().flatten() {
            for &(expert, level) in levels {
                // Edges are kept anyway.
                let blocks = view.layout.slices().of_expert(layer, expert).flat_map(|slice| slice.inner.clone());
                near.extend(blocks.map(|index| (view.ids.start + index, affinity::of_level(level))));
            }
        }
        self.policy.affine(&self.table, &near);
    }

    /// The read of block `id` begins for `why`; gives whether it is wanted, and no guess.
    pub(super) fn account_read(&mut self, id: BlockId, why: Why) -> bool {
        if self.table.layer(id).is_none() {
            return true;
        }
        let bytes = u64::from(self.table.block(id).len);
        let is_open = why == Why::Readahead && !self.origins.is_used(id);
        let by = if is_open { self.lookahead.begun(id, bytes) } else { None };
        let origin = self.origins.begun(id, why, by);
        self.meter.expert_read(bytes, origin);
        origin == Origin::Used
    }

    /// A thread touched block `id`.
    pub(super) fn account_touch(&mut self, id: BlockId, touch: Touch) {
        if self.table.layer(id).is_some() {
            if touch == Touch::Absent && self.chosen.contains(&id) {
                self.meter.chosen_absent(!self.origins.is_used(id));
            }
            self.origins.used(id);
        }
    }

    /// The drives have no time to give away. What a large batch needs next it needs for sure, or nearly so.
    pub(super) fn is_busy(&mut self) -> bool {
        !self.lookahead.sees_batch() && self.busy.share(self.meter.now_ns()) > BUSY_MAX
    }

    /// Lets the policy know what it costs to read what nobody has asked for.
    pub(super) fn set_price(&mut self) {
        let now_ns = self.meter.now_ns();
        if self.price.is_due(now_ns) {
            self.price.look(Clocks {
                now_ns,
                reading_cpu_ns: cpu_time::of_this_thread_ns() + self.fill.cpu_ns() - self.choosing_ns,
                process_cpu_ns: cpu_time::of_all_threads_ns(),
                read_bytes: self.meter.stats.read_bytes,
            });
            let (rate, busy) = (self.drives.rate(now_ns), self.busy.share(now_ns));
            let waste = self.price.of_waste(rate, busy);
            self.table.set_waste(waste as f32);
            self.meter.stats.experts.waste_permille = (waste * 1e3) as u64;
        }
    }

    /// Tells the policy what the next layer's router will probably choose; false when nothing new is known.
    pub(super) fn guess(&mut self) -> bool {
        let Some(Foretold { by, layer, experts }) = self.lookahead.foretell() else { return false };
        self.trace.guessed(&self.meter, layer, &experts, by);
        let mut blocks: Vec<BlockId> = Vec::new();
        // Expert by expert: the likeliest ones as a whole.
        for expert in experts {
            for view in self.views.iter().flatten() {
                blocks.extend(view.layout.chosen(layer, &[expert]).map(|index| view.ids.start + index));
            }
        }
        self.lookahead.about(&blocks);
        self.policy.guessed(&blocks);
        self.lookahead.ended(by);
        true
    }
}
