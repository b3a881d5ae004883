//! The live page: what a running pager tells others about itself.
//!
//! A process that pages publishes one page of memory, a file of 4096 bytes that it has mapped. It is
//! named by the process id and lies in `$XDG_RUNTIME_DIR/ggpager`, else in `/dev/shm/ggpager-UID`;
//! the file and the folder are their owner's alone. The thread that pages writes it, at most every
//! [`PERIOD`], and whoever owns it may read it at any time, without the process taking notice.
//!
//! [`page`] is the layout, [`publisher`] the writer, [`reader`] the reader, [`folder`] where pages
//! lie, [`process`] tells processes apart, [`rates`] is what two readings say.
//!
//! # Order of accesses
//!
//! A sequence number makes a reading one state of the pager, so that what is computed from several
//! counters is right: odd while the one writer writes, and two more afterwards (a seqlock; the
//! alternative, independent counters, would save the reader a second look and the writer two stores
//! in 100 ms). Nobody waits: the writer never, and a reader looks again a few times and then says
//! [`ReadError::Busy`].
//!
//! * All words are relaxed atomics: no order among themselves is needed.
//! * The writer's release fence after the odd number keeps the new words behind it, and the release
//!   store of the even number comes after them.
//! * The reader takes the number, the page and the number again, each by a read(2) of its own with
//!   an acquire fence between. It maps nothing: a file that is cut short is an error, not SIGBUS.
//!
//! # Ends
//!
//! The page is removed when the process exits or its pager stops. A process that is killed, ends by
//! `_exit` or executes another program leaves it behind: it is *stale* when no process of this id
//! began at the time that is written in it. Stale pages are removed by whoever lists pages and by
//! the next pager of the same user. After `execve` the process is still the same one, so its page
//! stays until it ends.

pub mod folder;
pub mod page;
pub mod process;
pub mod publisher;
pub mod rates;
pub mod reader;

#[cfg(test)]
mod tests;

pub use page::{Counters, Snapshot, Texts};
pub use publisher::{Board, PERIOD, Publisher};
pub use reader::{ReadError, list, list_in, read, read_in};
