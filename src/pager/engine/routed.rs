//! What the router has chosen: logged, and read before it is touched where the policy wants that.

use super::Engine;

impl Engine {
    /// The router of `layer` has chosen `experts`, `used` for each token of the batch.
    pub(super) fn routed(&mut self, layer: u32, used: u32, mut experts: Vec<u32>) {
        self.trace.routed(&self.meter, layer, used, &experts);
        // Which of two models the choice is about, nobody tells.
        let mut models = self.views.iter().flatten().filter(|view| view.layout.has_experts()).map(|view| &view.model);
        let first = models.next();
        if models.any(|model| Some(model) != first) {
            return;
        }
        // The order of the computation (`ggml_compute_forward_mul_mat_id`).
        experts.sort_unstable();
        experts.dedup();
        for view in self.views.iter().flatten() {
            for index in view.layout.chosen(layer, &experts) {
                let id = view.ids.start + index;
                self.meter.chosen(u64::from(self.table.block(id).len), self.table.state(id));
                self.policy.routed(&self.table, id);
            }
        }
    }
}
