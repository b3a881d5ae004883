//! The preloaded library: hooks only, as thin as can be.
//!
//! A hook (see `hook.rs`) decides, then either calls the next symbol with the program's own
//! arguments or answers in its place. Rules for everything that runs inside a hook:
//!
//! 1. **It may run at any time**: before any constructor, inside another library's `dlopen`, inside
//!    the host's `malloc`, in a signal handler, in fifty threads at once. So no lock that another
//!    thread can hold for long, no lazy initialisation on the common path, and no `dlsym` after the
//!    constructor (but in `router.rs`, which a program calls when it is ready to compute).
//! 2. **No memory of the host**: allocations come from the allocator in `alloc.rs`, which asks the
//!    kernel directly. A hook that a signal handler may call (`read`, `write`, `send`, ...) does not
//!    allocate at all.
//! 3. **No stdio, no `log` of the host**: `log.rs` formats on the stack and makes one system call.
//! 4. **errno** is the real call's or, where there is none, what it was before, or the error that
//!    the kernel would have given.
//! 5. **A panic never leaves a hook**: deciding is caught, and a panic there means the real call (on a
//!    view, where that would do harm, no effect or an error). The real call is made outside of that net, because the cancellation of a thread unwinds
//!    through it.
//! 6. **What is not about a model is not our business**: the common path is a few loads.
//! 7. **In a forked child everything is inert**: a child must not wait for a pager thread that it
//!    does not have, nor for a lock that some thread of its parent held.

mod advice;
mod alloc;
mod bounce;
mod engine;
mod exit;
mod fork;
mod ggml;
mod hook;
mod inject;
mod io_in;
mod io_out;
mod log;
mod maps;
mod models;
mod next;
mod router;
mod sys;

#[global_allocator]
static ALLOCATOR: alloc::Kernel = alloc::Kernel;

/// Runs when the library is loaded: after the constructors of every library that it needs, but
/// possibly after those of others too.
extern "C" fn constructor() {
    // A panic leaves everything as it was before: raw system calls, no paging.
    let _ = std::panic::catch_unwind(|| {
        maps::resolve();
        advice::resolve();
        io_in::resolve();
        io_out::resolve();
        engine::start();
    });
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;
