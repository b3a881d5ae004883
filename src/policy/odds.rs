//! How often what was read without its being chosen was chosen soon, by what spoke for it.

/// Passes through the layers within which it is to be chosen.
const SOON_PASSES: u32 = 32;

/// Bytes that the first opinion weighs as much as.
const OPINION_BYTES: f32 = (16 << 20) as f32;

/// After so many passes what has been seen counts half: another text is another thing.
const HALF_LIFE_PASSES: f32 = 128.0;

/// What speaks for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// It came near to being chosen: the quarter of its warmth.
    Likely(u8),
    /// An earlier run used it.
    Liked,
    /// Memory is free.
    Nothing,
}

/// Quarters of warmth.
const QUARTERS: usize = 4;

impl For {
    /// What speaks for a block so warm.
    pub fn likely(warmth: f32) -> For {
        For::Likely(((warmth * QUARTERS as f32) as usize).min(QUARTERS - 1) as u8)
    }

    fn index(self) -> usize {
        match self {
            For::Likely(quarter) => usize::from(quarter),
            For::Liked => QUARTERS,
            For::Nothing => QUARTERS + 1,
        }
    }

    /// The share that is chosen soon, before anything has been seen: what `mkgguf` and the default routers gave.
    fn opinion(self) -> f32 {
        match self {
            For::Likely(quarter) => 0.35 + 0.1 * f32::from(quarter),
            For::Liked => 0.5,
            For::Nothing => 0.2,
        }
    }
}

/// What has been seen, in bytes. A block that waits to be chosen counts a little more for each pass: were it to count
/// when that is decided, the chosen ones, which are decided sooner, would be most of what is known for a while.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    chosen: f32,
    all: f32,
    /// Those that wait.
    waiting: f32,
    /// The pass that they are of.
    pass: u32,
}

impl Seen {
    fn at(self, pass: u32) -> Seen {
        let passes = pass.saturating_sub(self.pass) as f32;
        let part = (-passes / HALF_LIFE_PASSES).exp2();
        let all = self.all * part + self.waiting * (passes / SOON_PASSES as f32).min(1.0);
        Seen { chosen: self.chosen * part, all, waiting: self.waiting, pass }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Odds {
    seen: [Seen; QUARTERS + 2],
}

impl Odds {
    /// What was read so many passes ago without being chosen is taken for unused.
    pub fn is_late(passes: u32) -> bool {
        passes >= SOON_PASSES
    }

    /// `bytes` are read for `why`, in the pass `pass`.
    pub fn begun(&mut self, why: For, bytes: u32, pass: u32) {
        let seen = self.seen[why.index()].at(pass);
        self.seen[why.index()] = Seen { waiting: seen.waiting + bytes as f32, ..seen };
    }

    /// `bytes` that were read for `why` in the pass `began` are chosen, or will not be; in the pass `pass`.
    pub fn ended(&mut self, why: For, bytes: u32, began: u32, chosen: bool, pass: u32) {
        let seen = self.seen[why.index()].at(pass);
        let bytes = bytes as f32;
        let not_counted = 1.0 - ((pass - began) as f32 / SOON_PASSES as f32).min(1.0);
        self.seen[why.index()] = Seen {
            chosen: seen.chosen + if chosen { bytes } else { 0.0 },
            all: seen.all + bytes * not_counted,
            waiting: (seen.waiting - bytes).max(0.0),
            pass,
        };
    }

    /// The share that will be chosen soon.
    pub fn of(&self, why: For, pass: u32) -> f32 {
        let seen = self.seen[why.index()].at(pass);
        (seen.chosen + OPINION_BYTES * why.opinion()) / (seen.all.max(seen.chosen) + OPINION_BYTES)
    }

    /// Whether to read such a block brings more than it costs, where a byte that is not used costs `waste` of what one that is saves.
    pub fn is_worth(&self, why: For, pass: u32, waste: f32) -> bool {
        let odds = self.of(why, pass);
        odds > (1.0 - odds) * waste
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_outweighs_the_opinion_and_fades() {
        let mut odds = Odds::default();
        let why = For::likely(0.3);
        assert_eq!((why, For::likely(0.2), For::likely(9.0)), (For::Likely(1), For::Likely(0), For::Likely(3)));
        assert!(odds.is_worth(why, 0, 0.8) && !odds.is_worth(why, 0, 0.9), "45 of 100");
        for number in 0..1000 {
            odds.begun(why, 1 << 20, 7);
            odds.ended(why, 1 << 20, 7, number % 5 == 0, 7);
        }
        assert!((odds.of(why, 7) - 0.2).abs() < 0.01);
        assert!(odds.is_worth(why, 7, 0.24) && !odds.is_worth(why, 7, 0.26));
        assert_eq!(odds.of(For::likely(0.2), 7), 0.35, "another");
        assert!((odds.of(why, 5000) - 0.45).abs() < 0.01, "tried again some day");
    }

    #[test]
    fn what_waits_counts_little_by_little() {
        let mut odds = Odds::default();
        let why = For::likely(0.3);
        // One of five is chosen, eight passes later.
        (0..1000).for_each(|_| odds.begun(why, 1 << 20, 0));
        (0..200).for_each(|_| odds.ended(why, 1 << 20, 0, true, 8));
        // A quarter of the other 800 counts as well.
        assert!((odds.of(why, 8) - 0.5).abs() < 0.01, "{}", odds.of(why, 8));
        (0..800).for_each(|_| odds.ended(why, 1 << 20, 0, false, SOON_PASSES));
        assert!((odds.of(why, SOON_PASSES) - 0.2).abs() < 0.02, "{}", odds.of(why, SOON_PASSES));
    }
}
