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
            For::Likely(quarter) => 0.4 + 0.1 * f32::from(quarter),
            For::Liked => 0.5,
            For::Nothing => 0.2,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    chosen_bytes: f32,
    bytes: f32,
    /// The pass that they are of.
    pass: u32,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Odds {
    seen: [Seen; QUARTERS + 2],
}

impl Odds {
    /// What was read `read` passes ago without being chosen is taken for unused.
    pub fn is_late(passes: u32) -> bool {
        passes > SOON_PASSES
    }

    /// Something of `bytes`, for which that spoke, was chosen or not; in the pass `pass`.
    pub fn learn(&mut self, why: For, bytes: u32, chosen: bool, pass: u32) {
        let seen = self.at(why, pass);
        let bytes = bytes as f32;
        let chosen_bytes = seen.chosen_bytes + if chosen { bytes } else { 0.0 };
        self.seen[why.index()] = Seen { chosen_bytes, bytes: seen.bytes + bytes, pass };
    }

    fn at(&self, why: For, pass: u32) -> Seen {
        let Seen { chosen_bytes, bytes, pass: of_pass } = self.seen[why.index()];
        let part = (-(pass.saturating_sub(of_pass) as f32) / HALF_LIFE_PASSES).exp2();
        Seen { chosen_bytes: chosen_bytes * part, bytes: bytes * part, pass }
    }

    /// The share that will be chosen soon.
    pub fn of(&self, why: For, pass: u32) -> f32 {
        let seen = self.at(why, pass);
        (seen.chosen_bytes + OPINION_BYTES * why.opinion()) / (seen.bytes + OPINION_BYTES)
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
        assert!(odds.is_worth(why, 0, 0.9) && !odds.is_worth(why, 0, 1.1), "every second one");
        (0..1000).for_each(|number| odds.learn(why, 1 << 20, number % 5 == 0, 7));
        assert!((odds.of(why, 7) - 0.2).abs() < 0.01);
        assert!(odds.is_worth(why, 7, 0.24) && !odds.is_worth(why, 7, 0.26));
        assert_eq!(odds.of(For::likely(0.2), 7), 0.4, "another");
        assert!((odds.of(why, 5000) - 0.5).abs() < 0.01, "tried again some day");
    }
}
