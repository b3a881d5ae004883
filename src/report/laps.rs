//! Ends of cycles that the policy does not name: the touches fall back from the last quarter of the model to
//! the first.

/// Laps without a word of the policy from which on a lap ends a cycle: policies say nothing where all
/// that is read in order stays in memory, and some never do.
const SILENT_MAX: u32 = 2;

/// Follows how far the computation has come.
#[derive(Debug, Default)]
pub struct Laps {
    /// The furthest progress in this lap.
    furthest: f64,
    /// Laps since the policy last said that a cycle ended.
    silent: u32,
}

impl Laps {
    /// A block at `progress` of the model, from 0 to 1, was touched. True when that ends a cycle of which the
    /// policy says nothing.
    pub fn touched(&mut self, progress: f64) -> bool {
        if self.furthest < 0.75 || progress >= 0.25 {
            self.furthest = self.furthest.max(progress);
            return false;
        }
        self.furthest = progress;
        self.silent = self.silent.saturating_add(1);
        self.silent >= SILENT_MAX
    }

    /// The policy said that a cycle ended.
    pub fn told(&mut self) {
        self.silent = 0;
    }
}
