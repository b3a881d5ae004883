//! Paired comparison of stock and paged runs against the roofline.
//!
//! A round measures everything within the same minutes: the drive's ceiling under the drive limit,
//! a run with everything in memory for each number of threads, and one run of each contender with a
//! cold (or warm) page cache, in an order that rotates from round to round. Ratios are formed within
//! a round and the median over the rounds is reported, so that a machine that is slower for a while
//! falsifies no ratio.
//!
//! [`model`] provides the models, [`plan`] says what is compared, [`workload`] runs it, [`watch`] and
//! [`sample`] look at it from outside, [`record`] and [`lane`] keep what it did, [`summary`] draws the
//! rounds together, [`pairs`] holds two servers against each other turn by turn, [`roofline`] is the yardstick, and [`table`], [`svg`] and [`Report`] show it.
//! A run may have [`swap`] besides its memory, and part of its model [`pin`]ned there.
//! Whatever a run needs (a control group, another readahead) is a guard that puts things back when it
//! is dropped, also after Ctrl-C.

pub mod ceiling;
mod cell;
pub mod cgroup;
pub mod disk;
pub mod experts;
pub mod fence;
pub mod interrupt;
pub mod lane;
pub mod llama;
pub mod loop_drive;
pub mod model;
pub mod pairs;
pub mod pin;
pub mod plan;
pub mod quantile;
pub mod record;
pub mod report;
pub mod roofline;
pub mod run;
pub mod sample;
pub mod summary;
pub mod svg;
pub mod swap;
pub mod table;
mod tool;
mod variables;
pub mod watch;
pub mod workload;
