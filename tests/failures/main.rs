//! What breaks, and what the program sees of it: nothing, as long as the file is healthy, and SIGBUS
//! for the very pages that cannot be read.
//!
//! `reads` and `panics` use the pager as a library, with faulty parts put in; `disk`, `copies`,
//! `refused` and `hooks` run small C programs (`tests/programs/`) under the preloaded library.

#[allow(dead_code)] // shared with other tests, which need other parts of it
#[path = "../support/mod.rs"]
mod support;

mod copies;
mod disk;
mod hooks;
mod panics;
mod reads;
mod refused;
mod rig;
