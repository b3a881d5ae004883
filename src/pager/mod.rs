//! The pager: views, frames, the pager thread and its rungs.
//!
//! Rooms: [`Pager`] is the handle to it, [`engine`] the thread; [`fill`] and [`io`] are its two ladders;
//! [`blocks`] cuts files into blocks, [`view`] and [`views`] know which addresses show them, [`file`] holds
//! the files, [`source`] and [`replicas`] their copies, between which [`drives`] chooses. [`tuner`] finds how
//! much to have in flight on a drive, and [`notes`] keeps that. [`uffd`], [`region`], [`time_slice`] speak to
//! the operating system. [`meter`] counts and [`trace`] records. [`kernel`] is the strategy that does without
//! faults, and [`load`] serves models that fit. [`lookahead`] foretells what routers will choose.

pub mod affinity;
pub mod blocks;
mod busy;
mod cells;
pub mod command;
mod cpu_time;
pub mod drives;
pub mod engine;
pub mod expert_slices;
pub mod file;
pub mod fill;
mod handle;
pub mod io;
pub mod kernel;
pub mod link;
pub mod load;
mod lookahead;
mod map_error;
pub mod meter;
mod missing;
pub mod notes;
mod origins;
pub mod piece;
pub mod pieces;
pub mod price;
pub mod reads;
pub mod region;
pub mod replicas;
pub mod rescue;
pub mod signals;
pub mod source;
pub mod time_slice;
pub mod trace;
pub mod tuner;
pub mod uffd;
pub mod view;
pub mod views;

pub use handle::Pager;
pub use map_error::MapError;
