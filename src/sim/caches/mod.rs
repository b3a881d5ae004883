//! Classic block caches: what replacement alone would do, without knowing the future.
//!
//! A cache sees every use of every block, which no pager can: hits in mapped memory are invisible to
//! it. Each policy is one file that keeps an order of the held blocks ([`Replacement`]); [`Cache`]
//! does the accounts, [`time()`] adds threads and a drive.

mod clock;
mod fifo;
mod lfu;
mod lru;
mod mru;
mod queue;
mod s3_fifo;
mod timing;

pub use timing::{Reads, time};

use std::collections::HashMap;

use crate::policy::BlockId;

/// Which block goes when there is no room. It is told of every use, and knows exactly the held blocks.
pub trait Replacement {
    /// `id`, which is held, is used.
    fn hit(&mut self, id: BlockId);

    /// `id` is taken in, `bytes` long.
    fn insert(&mut self, id: BlockId, bytes: u64);

    /// Names a held block to evict and forgets it; `None` when nothing is held.
    fn evict(&mut self) -> Option<BlockId>;
}

/// The policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Least recently used.
    Lru,
    /// First in, first out.
    Fifo,
    /// Second chance (F. J. Corbato, "A paging experiment with the Multics system", 1968).
    Clock,
    /// Least frequently used since it was taken in, among equals least recently used.
    Lfu,
    /// S3-FIFO (J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
    S3Fifo,
    /// Most recently used.
    Mru,
}

/// A cache of blocks: the accounts of one [`Replacement`].
pub struct Cache {
    replacement: Box<dyn Replacement>,
    held: HashMap<BlockId, u64>,
    held_bytes: u64,
    capacity: u64,
}

impl Cache {
    /// An empty cache of `capacity` bytes.
    pub fn new(kind: Kind, capacity: u64) -> Cache {
        let replacement: Box<dyn Replacement> = match kind {
            Kind::Lru => Box::new(lru::Lru::default()),
            Kind::Fifo => Box::new(fifo::Fifo::default()),
            Kind::Clock => Box::new(clock::Clock::default()),
            Kind::Lfu => Box::new(lfu::Lfu::default()),
            Kind::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity)),
            Kind::Mru => Box::new(mru::Mru::default()),
        };
        Cache { replacement, held: HashMap::new(), held_bytes: 0, capacity }
    }

    /// Uses block `id` of `bytes` bytes: true when it was held. Otherwise it is taken in, unless it
    /// is larger than the cache.
    pub fn access(&mut self, id: BlockId, bytes: u64) -> bool {
        if self.held.contains_key(&id) {
            self.replacement.hit(id);
            return true;
        }
        if bytes > self.capacity {
            return false;
        }
        while self.held_bytes + bytes > self.capacity {
            let victim = self.replacement.evict().expect("held bytes belong to held blocks");
            self.held_bytes -= self.held.remove(&victim).expect("victims are held");
        }
        self.replacement.insert(id, bytes);
        self.held.insert(id, bytes);
        self.held_bytes += bytes;
        false
    }
}

#[cfg(test)]
mod tests;
