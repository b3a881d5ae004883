//! Learned orders on their way to the user's cache folder.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Engine;

/// How often learned orders are looked at.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// How long the end of a view waits for its order to be stored.
const SAVE_MAX: Duration = Duration::from_millis(300);

impl Engine {
    /// Stores the orders that have changed, now and then.
    pub(super) fn keep_orders(&mut self) {
        let now = self.meter.now_ns();
        if now < self.kept_ns + KEEP_EVERY.as_nanos() as u64 {
            return;
        }
        self.kept_ns = now;
        (0..self.views.len()).for_each(|slot| drop(self.keep_order(slot)));
    }

    /// Stores the order of a view that is about to end, and waits a little: the program may be about to
    /// end, too, and the thread with it.
    pub(super) fn keep_order_now(&mut self, slot: usize) {
        if let Some(saved) = self.keep_order(slot) {
            let _ = saved.recv_timeout(SAVE_MAX);
        }
    }

    /// Stores the order of a view if it has changed; on a thread of its own, because the user's
    /// folder may be far away. Gives what ends when that is done.
    fn keep_order(&mut self, slot: usize) -> Option<Receiver<()>> {
        let view = self.views[slot].as_mut()?;
        let kept = view.kept.as_mut()?;
        let revision = self.policy.order_revision(&view.ids);
        if revision == kept.revision {
            return None;
        }
        kept.revision = revision;
        let offsets = self.policy.order(&self.table, view.ids.clone());
        let (store, key) = (kept.store.clone(), kept.key);
        let (done, saved) = bounded(0);
        // The thread inherits that no signal is delivered on this one.
        let saving = std::thread::Builder::new().name("ggpager-order".into()).spawn(move || {
            let _done: Sender<()> = done;
            if let Err(error) = store.save(key, &offsets) {
                log::debug!("the order could not be stored as {}: {error}", store.path(key).display());
            }
        });
        saving.inspect_err(|error| log::debug!("the order is not stored: {error}")).ok()?;
        Some(saved)
    }
}
