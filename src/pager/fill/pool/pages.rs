//! Slots of single pages: cut out of huge pages where they lie together, carried from elsewhere where they do not.

use std::ops::Range;

use rustix::mm::Advice;

use super::super::super::region::{HUGE, advise, mark};
use super::super::remnants::Remnant;
use super::super::slots::Ground;
use super::Pool;

impl Pool {
    /// A cut of a remnant, or of a huge page where no slot can be made of spare single pages.
    pub(super) fn cut(&mut self, slot_bytes: usize, ground: &impl Ground) -> Option<u32> {
        let range = match self.remnants.cut(slot_bytes) {
            Some(range) => range,
            None if slot_bytes > HUGE || self.slots.small_bytes() + self.remnants.bytes() >= slot_bytes => return None,
            None => {
                let remnant = self.take_apart(ground)?;
                self.remnants.put(remnant);
                self.remnants.cut(slot_bytes)?
            }
        };
        self.spare_bytes -= slot_bytes as u64;
        Some(self.slots.cut(range))
    }

    /// Carries spare single pages into the hole `to`; gives how many bytes of it have memory then.
    pub(super) fn gather(&mut self, to: Range<usize>, ground: &impl Ground) -> usize {
        let mut at = to.start;
        while at < to.end {
            let spare = self.remnants.take().or_else(|| self.take_small()).or_else(|| self.take_apart(ground));
            let Some((slot, from)) = spare else { break };
            let len = from.len().min(to.end - at);
            let carried = ground.carry(at, from.start, len);
            let done = carried.as_ref().map_or_else(|(bytes, _)| *bytes, |()| len);
            at += done;
            self.spare_bytes -= done as u64;
            let rest = from.start + done..from.end;
            if carried.is_err() {
                // Somebody pins it: freed when the pin goes. The next might be no better.
                self.free_remnant(slot, rest);
                break;
            }
            if rest.is_empty() {
                self.emptied(slot);
            } else {
                self.remnants.put((slot, rest));
            }
        }
        at - to.start
    }

    /// A spare slot of single pages as a remnant: still counted.
    fn take_small(&mut self) -> Option<Remnant> {
        self.slots.take_small().map(|slot| (Some(slot), self.slots.range(slot)))
    }

    /// A huge page to be taken apart, if it is not yet, spare or fresh, as a remnant: still counted. Where it was there is a
    /// page table then: its slot is never used again.
    fn take_apart(&mut self, ground: &impl Ground) -> Option<Remnant> {
        if let Some(slot) = self.slots.apart.pop() {
            return Some((None, self.slots.range(slot)));
        }
        self.wants_apart = true;
        let slot = match self.slots.of_bytes(HUGE).full.pop() {
            Some(slot) => slot,
            None => {
                let slot = self.take_huge(ground).ok()?;
                self.spare_bytes += HUGE as u64;
                slot
            }
        };
        let range = self.slots.range(slot);
        // SAFETY: the memory of a slot in hand.
        unsafe { mark(range.clone()) };
        Some((None, range))
    }

    pub(super) fn free_remnant(&mut self, slot: Option<u32>, rest: Range<usize>) {
        self.spare_bytes -= rest.len() as u64;
        let _ = advise(rest, Advice::LinuxDontNeed);
        self.emptied(slot);
    }

    /// The last pages of a remnant have left it.
    fn emptied(&mut self, slot: Option<u32>) {
        if let Some(slot) = slot {
            self.put_empty(slot);
        }
    }
}
