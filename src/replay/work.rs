//! What the pager's thread needed for its work, by the times between the records of a log.

use std::collections::HashMap;

use super::fit::trimmed_mean;
use crate::policy::{BlockId, Touch};
use crate::sim::{Action, Work};
use crate::trace::Event;

/// Fewer times than these are no measure.
const TIMES_MIN: usize = 8;

/// The time from one record to the next is an action's where the pager did nothing else in between.
#[derive(Debug, Default)]
pub struct Times {
    before: Option<(u64, Event)>,
    times: HashMap<(Action, u32), Vec<u64>>,
}

impl Times {
    /// `event` came at `at_ns`; `frame_bytes` are those of a block's frame.
    pub fn happened(&mut self, at_ns: u64, event: Event, frame_bytes: impl Fn(BlockId) -> Option<u32>) {
        if let Some((before_ns, before)) = self.before
            && let Some((action, block)) = action(before, event)
            && let Some(bytes) = frame_bytes(block)
        {
            self.times.entry((action, bytes)).or_default().push(at_ns - before_ns);
        }
        self.before = Some((at_ns, event));
    }

    /// The means: a thread that waits for a processor, or for a page that is still pinned, is a part of every run.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        for (&(action, bytes), times) in self.times.iter().filter(|(_, times)| times.len() >= TIMES_MIN) {
            let mean = trimmed_mean(times.iter().map(|&ns| ns as f64).collect());
            work.set(action, bytes, mean.unwrap_or_default() as u64);
        }
        work
    }
}

/// What the pager did from record `before` to record `event`, and with which block.
fn action(before: Event, event: Event) -> Option<(Action, BlockId)> {
    match (before, event) {
        (Event::Touch { block: touched, found: Touch::Staged, .. }, Event::Install { block }) if touched == block => {
            Some((Action::Install, block))
        }
        (Event::ReadEnd { .. }, Event::Install { block }) => Some((Action::Install, block)),
        (Event::Woken { .. }, Event::Rearm { block }) => Some((Action::Rearm, block)),
        (Event::Read { .. } | Event::Evict { .. }, Event::Evict { block, .. }) => Some((Action::Evict, block)),
        (Event::Read { .. } | Event::Evict { .. }, Event::Read { block, .. }) => Some((Action::Read, block)),
        _ => None,
    }
}
