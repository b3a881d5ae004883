//! What the pager's thread needs for its own work.

/// Something that the pager's thread does with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Begins a read.
    Read,
    /// Puts it into the view.
    Install,
    /// Takes it out of the view, with its frame kept.
    Rearm,
    /// Takes its frame.
    Evict,
}

/// Times of actions by the size of the frame: a frame that is no huge page is many pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Action, size of the frame in bytes, nanoseconds.
    times: Vec<(Action, u32, u64)>,
    crowded: bool,
}

impl Work {
    /// The pager's thread needs `ns` nanoseconds for `action` on frames of `frame_bytes`.
    pub fn set(&mut self, action: Action, frame_bytes: u32, ns: u64) {
        self.times.retain(|&(known, bytes, _)| (known, bytes) != (action, frame_bytes));
        self.times.push((action, frame_bytes, ns));
    }

    /// Whether no processor is left for the pager's thread: what it does while the threads compute delays them.
    pub fn crowded(self, crowded: bool) -> Work {
        Work { crowded, ..self }
    }

    /// See [`Work::crowded`].
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// The mean of the known times of `action`; 0 where there is none.
    pub fn mean_ns(&self, action: Action) -> f64 {
        let known: Vec<u64> = self.times.iter().filter(|time| time.0 == action).map(|time| time.2).collect();
        known.iter().sum::<u64>() as f64 / known.len().max(1) as f64
    }

    /// The time of `action` on a frame of `frame_bytes`, or on the known one that is nearest in size. Pages that move
    /// out of the view take as long as those that move in; else 0 where nothing is known.
    pub fn ns(&self, action: Action, frame_bytes: u32) -> u64 {
        let is_known = self.times.iter().any(|&(known, ..)| known == action);
        if action == Action::Rearm && !is_known {
            return self.ns(Action::Install, frame_bytes);
        }
        let away = |bytes: u32| u64::from(bytes.max(frame_bytes)) * 1000 / u64::from(bytes.min(frame_bytes).max(1));
        let known = self.times.iter().filter(|(known, ..)| *known == action);
        known.min_by_key(|&&(_, bytes, _)| away(bytes)).map_or(0, |&(.., ns)| ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_size_is_taken() {
        let mut work = Work::default();
        assert_eq!(work.ns(Action::Read, 4096), 0);
        for (bytes, ns) in [(4096, 5), (400_000, 7), (2 << 20, 9), (2 << 20, 3)] {
            work.set(Action::Read, bytes, ns);
        }
        assert_eq!(
            [1, 4096, 30_000, 60_000, 1 << 20, 4 << 20].map(|bytes| work.ns(Action::Read, bytes)),
            [5, 5, 5, 7, 3, 3]
        );
        assert_eq!(work.ns(Action::Evict, 4096), 0);
        work.set(Action::Install, 4096, 11);
        assert_eq!((work.ns(Action::Rearm, 4096), work.mean_ns(Action::Install)), (11, 11.0));
    }
}
