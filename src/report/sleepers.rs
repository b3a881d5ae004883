//! Threads that sleep on blocks.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::policy::{BlockId, Touch};

/// A thread that sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleep {
    /// Since when, in nanoseconds.
    pub since_ns: u64,
    /// How its touch found the block.
    pub found: Touch,
}

/// Index of a kind of touch in arrays.
pub fn kind(found: Touch) -> usize {
    match found {
        Touch::Absent => 0,
        Touch::Reading => 1,
        Touch::Staged => 2,
    }
}

/// Who sleeps now. A thread sleeps on one block at a time; threads without a number (0) may be many.
#[derive(Debug, Default)]
pub struct Sleepers {
    asleep: BTreeMap<(u32, BlockId), VecDeque<Sleep>>,
    on_block: HashMap<BlockId, u32>,
    by_kind: [u32; 3],
}

impl Sleepers {
    /// Thread `tid` touched `block` and sleeps. True when nobody slept on the block before.
    pub fn touched(&mut self, block: BlockId, tid: u32, sleep: Sleep) -> bool {
        if tid != 0 {
            // The end of its sleep before is missing in the log.
            let stale: Vec<_> = self.asleep.range((tid, 0)..=(tid, BlockId::MAX)).map(|(key, _)| *key).collect();
            for (tid, block) in stale {
                self.woken(block, tid);
            }
        }
        self.by_kind[kind(sleep.found)] += 1;
        self.asleep.entry((tid, block)).or_default().push_back(sleep);
        let count = self.on_block.entry(block).or_default();
        *count += 1;
        *count == 1
    }

    /// Thread `tid` was woken: how it slept, if the log has its touch.
    pub fn woken(&mut self, block: BlockId, tid: u32) -> Option<Sleep> {
        let queue = self.asleep.get_mut(&(tid, block))?;
        let sleep = queue.pop_front()?;
        if queue.is_empty() {
            self.asleep.remove(&(tid, block));
        }
        self.by_kind[kind(sleep.found)] -= 1;
        let count = self.on_block.get_mut(&block).expect("a sleeper was counted");
        *count -= 1;
        if *count == 0 {
            self.on_block.remove(&block);
        }
        Some(sleep)
    }

    /// Threads asleep, by the [`kind`] of their touch.
    pub fn by_kind(&self) -> [u32; 3] {
        self.by_kind
    }

    /// Forgets everybody: what follows does not say who woke.
    pub fn clear(&mut self) {
        *self = Sleepers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_sleeps_once_and_nobody_stays_behind() {
        let mut all = Sleepers::default();
        let sleep = |since_ns, found| Sleep { since_ns, found };
        assert!(all.touched(7, 1, sleep(10, Touch::Absent)));
        assert!(!all.touched(7, 2, sleep(11, Touch::Reading)));
        assert!(all.touched(8, 0, sleep(12, Touch::Staged)));
        assert!(!all.touched(8, 0, sleep(13, Touch::Staged)));
        assert_eq!(all.by_kind(), [1, 1, 2]);
        // Thread 1 touches again although nobody saw it wake.
        assert!(all.touched(9, 1, sleep(14, Touch::Absent)));
        assert_eq!(all.by_kind(), [1, 1, 2]);
        assert_eq!(all.woken(7, 1), None);
        assert_eq!(all.woken(8, 0), Some(sleep(12, Touch::Staged)));
        assert_eq!(all.woken(8, 0), Some(sleep(13, Touch::Staged)));
        assert_eq!(all.woken(7, 2), Some(sleep(11, Touch::Reading)));
        assert_eq!(all.woken(9, 1), Some(sleep(14, Touch::Absent)));
        assert_eq!(all.by_kind(), [0; 3]);
        assert!(all.touched(7, 2, sleep(20, Touch::Absent)));
    }
}
