//! How much memory the frame pool may have.
