//! The pager: views, frames, the pager thread and its rungs.
