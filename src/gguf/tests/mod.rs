//! Tests of the reader as a whole, on files that a tiny writer makes.

mod malformed;
mod order;
mod random;
mod writer;
