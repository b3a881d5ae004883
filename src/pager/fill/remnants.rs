//! Remnants: what is left of the memory of slots that parts were cut out of or carried away from.

use std::ops::Range;

/// A part of a slot that still has memory, and the slot where it comes into use again when it is empty.
pub(super) type Remnant = (Option<u32>, Range<usize>);

/// Spare single pages that fill no slot.
#[derive(Default)]
pub(super) struct Remnants {
    list: Vec<Remnant>,
    bytes: usize,
}

impl Remnants {
    /// The sum of all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one in.
    pub fn put(&mut self, remnant: Remnant) {
        if !remnant.1.is_empty() {
            self.bytes += remnant.1.len();
            self.list.push(remnant);
        }
    }

    /// Any of them, the latest first.
    pub fn take(&mut self) -> Option<Remnant> {
        let remnant = self.list.pop()?;
        self.bytes -= remnant.1.len();
        Some(remnant)
    }

    /// `bytes` that lie together, out of the smallest that has them. What comes into use again is not cut: it would
    /// have two users.
    pub fn cut(&mut self, bytes: usize) -> Option<Range<usize>> {
        let fits = |(slot, range): &Remnant| slot.is_none() && range.len() >= bytes;
        let fitting = self.list.iter().enumerate().filter(|(_, remnant)| fits(remnant));
        let (index, _) = fitting.min_by_key(|(_, (_, range))| range.len())?;
        self.bytes -= bytes;
        let range = &mut self.list[index].1;
        let cut = range.start..range.start + bytes;
        range.start = cut.end;
        if range.start == range.end {
            self.list.swap_remove(index);
        }
        Some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_that_has_room_is_cut() {
        let mut remnants = Remnants::default();
        remnants.put((None, 0..10));
        remnants.put((None, 20..24));
        remnants.put((Some(3), 30..33));
        remnants.put((None, 40..40));
        assert_eq!(remnants.bytes(), 17);
        assert_eq!(remnants.cut(3), Some(20..23), "what comes into use again is left");
        assert_eq!(remnants.cut(1), Some(23..24));
        assert_eq!(remnants.cut(11), None);
        assert_eq!(
            (remnants.bytes(), remnants.take(), remnants.take()),
            (13, Some((Some(3), 30..33)), Some((None, 0..10)))
        );
        assert_eq!((remnants.bytes(), remnants.take()), (0, None));
    }
}
