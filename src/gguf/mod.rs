//! A bounded reader of GGUF headers: which tensor lies where, and in which order it is read.
