//! Starting a program under the preloaded library: what `ggpager run` and `ggpager bench` share.
//!
//! [`library`] finds `libggpager.so`, [`settings`] checks every `GGPAGER_*` value before the program
//! starts, [`environment`] makes the variables that the program gets, [`program`] finds the
//! executable and says what would keep the loader from preloading, and [`supervise`] waits for it,
//! passing [`signals`] and the exit status through, while [`line`] shows what its pager does.

pub mod environment;
pub mod library;
pub mod line;
pub mod program;
pub mod settings;
pub mod signals;
pub mod supervise;
