//! What a running pager shows: its page, `ggpager top`, and the status line of `ggpager run`.

mod line;
mod page;
mod program;
#[allow(dead_code)] // other tests use the rest
#[path = "../support/mod.rs"]
mod support;
mod top;
