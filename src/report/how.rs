//! How the figures are computed: one sentence each, shown beside the figure.

/// Names of sections with what is to be known of all of their figures.
pub const SECTIONS: [(&str, &str); 9] = [
    (RUN, "what the log says of the run"),
    (
        TIME,
        "mean of the complete cycles after the first of them; of the whole log where there are fewer than two. Time \
         with threads asleep is counted once, for the worst that one of them sleeps on: demand read, read in flight, \
         fault. The sum over the threads counts each of them",
    ),
    (SLEEPS, "from the touch to the wake-up of the thread, each thread for itself"),
    (REQUESTS, "each read as it was submitted; latency is from submission to completion as the pager sees it"),
    (
        DRIVE,
        "shares are of the rate given with --drive, or else of the rate while busy; none where the drive never was busy \
         for a second",
    ),
    (
        SEQUENCE,
        "touches in the order of the log; several threads that sleep on one block are one touch; touches of blocks that \
         are in the view are not reported and not counted here",
    ),
    (
        UNIFORMITY,
        "over the blocks of the tensor role that fills most of the block; a block of the compute order that stayed in \
         the view through a whole cycle counts as touched once in it",
    ),
    (
        REUSE,
        "over the same touches, hidden ones at their place in the compute order; long logs are sampled by block (SHARDS)",
    ),
    (
        EXPERTS,
        "from the router's choices where the log has them, else from the touches of blocks that lie wholly inside one \
         expert's slice, in each cycle but the first three (load, warm-up, prompt), which leaves out slices that stayed \
         in the view; gate and co-occurrence are what the pager itself expected of routers (logs from version 2 on)",
    ),
];

/// Names of the sections.
pub const RUN: &str = "run";
/// See [`RUN`].
pub const TIME: &str = "time of a cycle";
/// See [`RUN`].
pub const SLEEPS: &str = "sleeps";
/// See [`RUN`].
pub const REQUESTS: &str = "requests";
/// See [`RUN`].
pub const DRIVE: &str = "drive";
/// See [`RUN`].
pub const SEQUENCE: &str = "sequentiality";
/// See [`RUN`].
pub const UNIFORMITY: &str = "uniformity";
/// See [`RUN`].
pub const REUSE: &str = "reuse";
/// See [`RUN`].
pub const EXPERTS: &str = "experts";
