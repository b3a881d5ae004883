//! What routers have chosen, and what they will choose: logged, counted, and read before it is touched where
//! the policy wants that.

use super::Engine;
use crate::pager::command::Choice;
use crate::pager::view::View;
use crate::policy::{BlockId, State};
use crate::trace::Foreteller;

impl Engine {
    /// A router has chosen.
    pub(super) fn routed(&mut self, choice: Choice) {
        self.trace.routed(&self.meter, &choice);
        // Which of two models the choice is about, nobody tells.
        let mut models = self.views.iter().flatten().filter(|view| view.layout.has_experts()).map(|view| &view.model);
        let first = models.next();
        if models.any(|model| Some(model) != first) {
            return;
        }
        let of_layer = |view: &View| view.layout.slices().experts(choice.layer);
        let shares = choice.shares(self.views.iter().flatten().map(of_layer).max().unwrap_or(0));
        let experts: Vec<u32> = shares.keys().copied().collect();
        let mut chosen: Vec<BlockId> = Vec::new();
        let mut missed = false;
        for view in self.views.iter().flatten() {
            for slice in view.layout.slices().chosen(choice.layer, &experts) {
                for id in view.layout.blocks_of(&slice.bytes).map(|index| view.ids.start + index) {
                    // The edge between two that were chosen.
                    if chosen.last() == Some(&id) {
                        continue;
                    }
                    let state = self.table.state(id);
                    self.meter.chosen(u64::from(self.table.block(id).len), state);
                    self.policy.routed(&self.table, id, shares[&slice.expert]);
                    missed |= state == State::Absent;
                    chosen.push(id);
                }
            }
        }
        let outcome = self.lookahead.chosen(choice, missed, &experts, |id| chosen.contains(&id));
        self.meter.guessed(outcome.unwrap_or_default());
    }

    /// Tells the policy what the next layer's router will probably choose; false when nothing new is known.
    pub(super) fn guess(&mut self) -> bool {
        let Some((layer, experts)) = self.lookahead.foretell() else { return false };
        self.trace.guessed(&self.meter, layer, &experts, Foreteller::Gate);
        let mut blocks: Vec<BlockId> = Vec::new();
        // Expert by expert: the likeliest ones as a whole.
        for expert in experts {
            for view in self.views.iter().flatten() {
                blocks.extend(view.layout.chosen(layer, &[expert]).map(|index| view.ids.start + index));
            }
        }
        self.lookahead.about(&blocks);
        self.policy.guessed(&blocks);
        true
    }
}
