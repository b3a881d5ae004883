//! S3-FIFO: a small queue on probation, a main queue, and a queue of ghosts (J. Yang et al., "FIFO
//! queues are all you need for cache eviction", SOSP 2023, algorithm 1).

use std::collections::{HashMap, VecDeque};

use super::Replacement;
use super::queue::Queue;
use crate::policy::BlockId;

/// The small queue's part of the cache.
const SMALL_SHARE: u64 = 10;
/// Uses are counted up to this.
const USES_MAX: u8 = 3;
/// Uses on probation beyond which a block goes to the main queue.
const USES_PROBATION: u8 = 1;

#[derive(Debug, Clone, Copy)]
struct Known {
    uses: u8,
    bytes: u64,
}

/// See the module's page.
#[derive(Debug)]
pub struct S3Fifo {
    small: VecDeque<BlockId>,
    main: VecDeque<BlockId>,
    /// Evicted from the small queue, as many bytes as the main queue may have.
    ghosts: Queue,
    ghost_bytes: u64,
    ghost_bytes_max: u64,
    /// Held blocks and ghosts.
    known: HashMap<BlockId, Known>,
    small_bytes: u64,
    small_bytes_max: u64,
}

impl S3Fifo {
    /// For a cache of `capacity` bytes.
    pub fn new(capacity: u64) -> S3Fifo {
        S3Fifo {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Queue::default(),
            ghost_bytes: 0,
            ghost_bytes_max: capacity - capacity / SMALL_SHARE,
            known: HashMap::new(),
            small_bytes: 0,
            small_bytes_max: capacity / SMALL_SHARE,
        }
    }

    /// Evicts from the small queue; what was used there goes to the main queue instead.
    fn evict_small(&mut self) -> Option<BlockId> {
        while let Some(id) = self.small.pop_front() {
            let block = self.known.get_mut(&id)?;
            self.small_bytes -= block.bytes;
            if block.uses > USES_PROBATION {
                block.uses = 0;
                self.main.push_back(id);
                continue;
            }
            self.ghost_bytes += block.bytes;
            self.ghosts.push(id);
            self.bound_ghosts();
            return Some(id);
        }
        None
    }

    fn bound_ghosts(&mut self) {
        while self.ghost_bytes > self.ghost_bytes_max
            && let Some(old) = self.ghosts.pop_oldest()
        {
            self.ghost_bytes -= self.known.remove(&old).map_or(0, |block| block.bytes);
        }
    }

    /// Evicts from the main queue; what was used gets another round for each use.
    fn evict_main(&mut self) -> Option<BlockId> {
        loop {
            let id = self.main.pop_front()?;
            let block = self.known.get_mut(&id)?;
            if block.uses == 0 {
                self.known.remove(&id);
                return Some(id);
            }
            block.uses -= 1;
            self.main.push_back(id);
        }
    }
}

impl Replacement for S3Fifo {
    fn hit(&mut self, id: BlockId) {
        if let Some(block) = self.known.get_mut(&id) {
            block.uses = (block.uses + 1).min(USES_MAX);
        }
    }

    fn insert(&mut self, id: BlockId, bytes: u64) {
        self.known.insert(id, Known { uses: 0, bytes });
        if self.ghosts.remove(id) {
            self.ghost_bytes -= bytes;
            self.main.push_back(id);
        } else {
            self.small.push_back(id);
            self.small_bytes += bytes;
        }
    }

    fn evict(&mut self) -> Option<BlockId> {
        let on_probation = self.small_bytes >= self.small_bytes_max || self.main.is_empty();
        let victim = if on_probation { self.evict_small() } else { None };
        victim.or_else(|| self.evict_main())
    }
}
