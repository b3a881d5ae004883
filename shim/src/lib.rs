//! The preloaded library: hooks only, as thin as can be.
