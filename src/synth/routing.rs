//! How the routers of a mixture of experts shall behave.

use super::arch::Arch;
use super::error::Error;

/// What routers do, beyond the luck of random weights. All three are measures of the routers' logits; what
/// comes of them (popularity, reuse, recall) is in `docs/synth.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// Standard deviation of what an expert gets from every token alike, with that of what depends on the
    /// token as unit: 0 makes all experts equally popular.
    pub skew: f64,
    /// Correlation of a router's logits for two tokens of the same topic.
    pub token_similarity: f64,
    /// Correlation of the next layer's router logits with those that its router makes of the present layer's
    /// hidden state.
    pub layer_similarity: f64,
}

/// Beyond this an expert's preference leaves the tokens no say.
const SKEW_MAX: f64 = 4.0;
const TOKEN_SIMILARITY_MAX: f64 = 0.9;
const LAYER_SIMILARITY_MAX: f64 = 0.995;
/// The least correlation of the part that no topic decides: below, the hidden state outgrows itself.
const OWN_SIMILARITY_MIN: f64 = 0.3;

impl Default for Routing {
    /// In the middle of what has been published for trained models.
    fn default() -> Self {
        Routing { skew: 0.4, token_similarity: 0.4, layer_similarity: 0.94 }
    }
}

impl Routing {
    /// The share of the logits' variance that is not the topic's keeps this correlation from layer to layer.
    pub(super) fn own_similarity(&self) -> f64 {
        (self.layer_similarity - self.token_similarity) / (1.0 - self.token_similarity)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Routing`] names the first value that is out of its range.
    pub fn check(&self, arch: Arch) -> Result<(), Error> {
        let bad = |what, value, why| Err(Error::Routing { arch, what, value, why });
        if !(0.0..=SKEW_MAX).contains(&self.skew) {
            return bad("--router-skew", self.skew, "0 to 4");
        }
        if !(0.0..=TOKEN_SIMILARITY_MAX).contains(&self.token_similarity) {
            return bad("--token-similarity", self.token_similarity, "0 to 0.9");
        }
        let large_enough = self.own_similarity() >= OWN_SIMILARITY_MIN;
        if !(large_enough && self.layer_similarity <= LAYER_SIMILARITY_MAX) {
            let why = "at least 0.3 + 0.7 x --token-similarity, at most 0.995";
            return bad("--layer-similarity", self.layer_similarity, why);
        }
        Ok(())
    }
}
