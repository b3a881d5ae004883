//! ggpager: a user-space pager for GGUF model files.
//!
//! The path of one fault, from the outside in:
//!
//! 1. The preloaded library (`shim/`) sees llama.cpp map a model file and asks [`pager`] for a
//!    *view*: an address range that looks like the mapping but is empty.
//! 2. A compute thread touches a hole in the view and sleeps in the kernel; the pager thread reads
//!    the fault from the userfaultfd and tells the [`policy`] which *block* was touched.
//! 3. The block is read from the drive into a *frame* of the pool, and the frame is put into the
//!    view. The policy names what to read next and what to take out again.
//!
//! [`gguf`] says which tensor lies where and in which order an architecture reads them, [`orders`]
//! keeps what was learned about that for the next start, [`budget`] says how large the pool may be,
//! [`stats`] is what a run reports at its end, [`status`] what it shows while it runs. [`synth`]
//! writes random-weight models, [`trace`] is the log of a run, [`ktrace`] makes one of the kernel's
//! tracepoints, [`report`] explains it, [`export`] writes it for other tools, [`replay`] predicts other
//! runs from it, [`plan`] estimates without a run.
//! [`drive`] measures what the drive can do, [`sim`] drives policies without a kernel, [`bench`] compares
//! runs, [`experiment`] makes a matrix of them, [`launch`] starts programs under the library, [`cli`] is
//! the command line tool.

pub mod bench;
pub mod budget;
pub mod cache;
pub mod cli;
pub mod config;
pub mod drive;
pub mod experiment;
pub mod export;
pub mod gguf;
pub mod ktrace;
pub mod launch;
pub mod orders;
pub mod pager;
pub mod plan;
pub mod policy;
pub mod replay;
pub mod report;
pub mod sim;
pub mod stats;
pub mod status;
pub mod synth;
pub mod trace;
