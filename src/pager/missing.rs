//! How much of every expert is out of memory: the pager keeps the count, and threads that compute look at it before
//! they wake the pager for the sake of a choice.
//!
//! A choice that misses nothing is news that can wait. So that none is lost that does miss something, a thread first sends
//! its choice and then looks here, and the pager first counts here and then looks for choices, before it sleeps: one of
//! the two sees what the other did (a fence on each side, as in Dekker's algorithm).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering, fence};

/// Layers and experts of a layer that are counted; of others something is taken for missing.
const LAYERS_MAX: u32 = 256;
const EXPERTS_MAX: u32 = 1024;

/// See the module's page. The cells are read by other threads than the one that writes them.
#[derive(Debug, Default)]
pub struct Missing {
    /// Blocks that are absent, by layer and expert; none before the first expert is mapped.
    absent: OnceLock<Box<[AtomicU16]>>,
    /// The same of all experts together; a block that two of them share counts twice.
    total: AtomicU32,
    /// Something is counted nowhere.
    uncounted: AtomicBool,
    /// Choices are wanted at once, and with what the router saw.
    eager: AtomicBool,
}

impl Missing {
    /// A block of the `expert` of `layer` has become absent, or is no longer so. Before that of the first one, threads see
    /// everything missing.
    pub fn count(&self, layer: u32, expert: u32, is_absent: bool) {
        let cells = self.absent.get_or_init(|| (0..LAYERS_MAX * EXPERTS_MAX).map(|_| AtomicU16::new(0)).collect());
        let Some(cell) = index(layer, expert).map(|index| &cells[index]) else {
            return self.uncounted.store(true, Ordering::Relaxed);
        };
        // Relaxed: fences order what has to be; this thread alone writes.
        if is_absent {
            cell.fetch_add(1, Ordering::Relaxed);
            self.total.fetch_add(1, Ordering::Relaxed);
        } else {
            cell.fetch_sub(1, Ordering::Relaxed);
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether a choice of `experts` by the router of `layer`, which has been sent, has to be heard now.
    pub fn is_urgent(&self, layer: u32, experts: &[u32]) -> bool {
        fence(Ordering::SeqCst);
        // Relaxed: see the fence.
        let Some(cells) = self.absent.get() else { return true };
        let is_missing = |&expert: &u32| index(layer, expert).is_none_or(|at| cells[at].load(Ordering::Relaxed) > 0);
        self.is_eager() || experts.iter().any(is_missing)
    }

    /// Has to be called between the last [`Missing::count`] and the last look for choices before the pager sleeps.
    pub fn counted(&self) {
        fence(Ordering::SeqCst);
    }

    /// Whether every expert is in memory as a whole.
    pub fn is_nothing(&self) -> bool {
        // Relaxed: nothing else depends on it.
        self.absent.get().is_some()
            && self.total.load(Ordering::Relaxed) == 0
            && !self.uncounted.load(Ordering::Relaxed)
    }

    /// Whether every choice is wanted at once, and with what the router saw, because something is made of it.
    pub fn is_eager(&self) -> bool {
        // Relaxed: nothing else depends on it.
        self.eager.load(Ordering::Relaxed)
    }

    /// See [`Missing::is_eager`].
    pub fn set_eager(&self, eager: bool) {
        self.eager.store(eager, Ordering::Relaxed);
    }
}

fn index(layer: u32, expert: u32) -> Option<usize> {
    (layer < LAYERS_MAX && expert < EXPERTS_MAX).then_some((layer * EXPERTS_MAX + expert) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_urgent_while_a_part_of_it_is_missing() {
        let missing = Missing::default();
        assert!(missing.is_urgent(0, &[3]) && !missing.is_nothing(), "nothing is known");
        let count = |expert, is_absent| missing.count(7, expert, is_absent);
        (0..2).for_each(|_| count(3, true));
        assert!(missing.is_urgent(7, &[1, 3]) && !missing.is_urgent(7, &[1, 2]) && !missing.is_urgent(6, &[3]));
        count(3, false);
        assert!(missing.is_urgent(7, &[3]) && !missing.is_nothing(), "one of two blocks");
        count(3, false);
        assert!(!missing.is_urgent(7, &[3]) && missing.is_nothing());
        missing.set_eager(true);
        assert!(missing.is_urgent(7, &[3]));
    }

    #[test]
    fn what_is_beyond_the_count_is_always_missing() {
        let missing = Missing::default();
        missing.count(0, 0, true);
        missing.count(0, 0, false);
        assert!(missing.is_nothing());
        missing.count(LAYERS_MAX, 0, true);
        missing.count(LAYERS_MAX, 0, false);
        assert!(!missing.is_nothing());
        assert!(missing.is_urgent(LAYERS_MAX, &[0]) && missing.is_urgent(0, &[EXPERTS_MAX]));
    }
}
