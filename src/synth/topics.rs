//! Topics of tokens: text that the model makes stays with a topic for some tokens, and so do its routers.

use super::random::Random;
use super::vocab::FIXED;

/// As many topics as words have last syllables.
const TOPICS_MAX: u64 = 80;
/// Words of a topic at least, when there are so many words.
const WORDS_MIN: u64 = 16;
/// How much nearer to staying than to leaving a topic the logits are, in units of the scale of a topic's maximum.
/// By measurement nine of ten tokens stay.
const STAY: f64 = 4.0;

/// The topics of a vocabulary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Topics {
    codes: Random,
    common: Random,
    topics: u64,
    vocab: u64,
}

impl Topics {
    pub fn new(seed: u64, vocab: u64) -> Topics {
        let topics = ((vocab - FIXED) / WORDS_MIN).clamp(1, TOPICS_MAX);
        Topics { codes: Random::new(seed, "topic"), common: Random::new(seed, "common"), topics, vocab }
    }

    /// The topic of a token: that of a word is its last syllable; all that is not a word is one topic.
    fn of(&self, token: u64) -> u64 {
        token.checked_sub(FIXED).map_or(self.topics, |word| word % self.topics)
    }

    /// Whether text can stay with the token's topic: words can.
    pub fn is_word(&self, token: u64) -> bool {
        token >= FIXED
    }

    /// The code of a token's topic: 1 or -1 for each column.
    pub fn code(&self, token: u64, column: u64) -> f32 {
        sign(self.codes, self.of(token) << 32 | column)
    }

    /// What all tokens have alike: 1 or -1 for each column.
    pub fn common(&self, column: u64) -> f32 {
        sign(self.common, column)
    }

    /// What a topic's own words must have more in their logits than others, whose logits are normal with
    /// standard deviation `sigma`, so that nine of ten tokens keep the topic. The maximum of n logits lies at
    /// sigma sqrt(2 ln n), with a scale of sigma / sqrt(2 ln n).
    pub fn bonus(&self, sigma: f64) -> f64 {
        let height = |count: f64| (2.0 * count.max(2.0).ln()).sqrt();
        let words = (self.vocab - FIXED) as f64 / self.topics as f64;
        let (all, inside) = (height(self.vocab as f64), height(words));
        sigma * (all - inside + STAY / inside)
    }
}

fn sign(random: Random, bit: u64) -> f32 {
    if random.word(bit / 64) >> (bit % 64) & 1 == 0 { 1.0 } else { -1.0 }
}
