//! The connection from any thread to the pager thread, and that thread's beginning and end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::command::Command;
use super::engine::{Engine, Setup};
use super::io::{WrapIo, threads};
use super::kernel::Kernel;
use super::signals::BlockedSignals;
use super::time_slice;
use super::uffd::raise;
use crate::config::{Settings, Strategy};
use crate::policy::{self, Policy};
use crate::status::Board;

/// Makes a policy.
pub type MakePolicy = dyn Fn(Strategy) -> Box<dyn Policy> + Send + Sync;

/// Parts of the pager that tests replace.
#[derive(Default)]
pub struct Parts {
    /// Instead of [`policy::for_strategy`].
    pub make_policy: Option<Arc<MakePolicy>>,
    /// Around the I/O rung.
    pub wrap_io: Option<Arc<WrapIo>>,
}

/// A running pager thread, or what stands in for it under strategy `kernel`.
pub struct Link {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
    kernel: Option<Kernel>,
    mapped_bytes: u64,
}

impl Link {
    /// Starts the thread and waits until it is up or has been refused something.
    pub fn start(settings: &Settings, parts: &Parts, board: &Arc<Board>) -> io::Result<Link> {
        let bell = Arc::new(raise(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let (commands, inbox) = unbounded();
        let (up, is_up) = bounded(1);
        let strategy = settings.strategy;
        let policy = match &parts.make_policy {
            Some(make) => make(strategy),
            None => policy::for_strategy(strategy),
        };
        if strategy == Strategy::Kernel {
            let kernel = Some(Kernel::new(settings, policy, board.clone())?);
            return Ok(Link { commands, bell, kernel, mapped_bytes: 0 });
        }
        let setup =
            Setup { settings: settings.clone(), commands: inbox, bell: bell.clone(), policy, board: board.clone() };
        let wrap_io = parts.wrap_io.clone();
        let _signals = BlockedSignals::new();
        std::thread::Builder::new().name("ggpager".into()).spawn(move || {
            serve(setup, wrap_io, |result| {
                let _ = up.send(result);
            });
        })?;
        is_up.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Link { commands, bell, kernel: None, mapped_bytes: 0 })
    }

    /// Bytes of all views.
    pub fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes
    }

    /// Views have grown or shrunk by `change` bytes.
    pub fn mapped(&mut self, change: i64) {
        self.mapped_bytes = self.mapped_bytes.saturating_add_signed(change);
    }

    /// Sends a command; does not wait.
    pub fn tell(&self, command: Command) {
        if let Some(kernel) = &self.kernel {
            return kernel.obey(command);
        }
        if self.commands.send(command).is_ok() {
            threads::signal(self.bell.as_raw_fd());
        }
    }

    /// Sends a command and waits for its answer; `None` when the pager has stopped.
    pub fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.tell(command(reply));
        answer.recv().ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Wakes the thread so that it sees the channel's end.
        let (commands, _) = unbounded();
        self.commands = commands;
        threads::signal(self.bell.as_raw_fd());
    }
}

/// The thread's body. Whatever ends it, the views end as ordinary mappings.
fn serve(setup: Setup, wrap_io: Option<Arc<WrapIo>>, up: impl FnOnce(io::Result<()>)) {
    let board = setup.board.clone();
    let mut engine = match catch_unwind(AssertUnwindSafe(|| Engine::new(setup, wrap_io.as_deref()))) {
        Ok(Ok(engine)) => engine,
        Ok(Err(error)) => return up(Err(error)),
        Err(_) => return up(Err(io::Error::other("panic while starting"))),
    };
    if let Err(error) = time_slice::ask_for_short_slice() {
        log::debug!("the pager's time slice stays as it is: {error}");
    }
    up(Ok(()));
    let end = catch_unwind(AssertUnwindSafe(|| engine.run()));
    let why = match end {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("a bug (panic)".to_owned()),
    };
    let _ = catch_unwind(AssertUnwindSafe(|| engine.hand_over_everything()));
    let _ = catch_unwind(AssertUnwindSafe(|| board.withdraw()));
    if let Some(why) = why {
        log::error!("the pager has stopped: {why}; the kernel serves the model from now on, see `ggpager doctor`");
    }
    match catch_unwind(AssertUnwindSafe(|| engine.drain())) {
        // Closing the userfaultfd wakes whoever still sleeps in a view.
        Ok(Ok(true)) => drop(catch_unwind(AssertUnwindSafe(|| drop(engine)))),
        // The frames, and the descriptors that are read from, may not become anybody else's.
        _ => engine.abandon(),
    }
}
