//! The connection from any thread to the pager thread, and that thread's beginning and end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};

use super::command::{Choice, Command};
use super::engine::{Engine, Setup};
use super::io::{WrapIo, threads};
use super::kernel::Kernel;
use super::missing::Missing;
use super::signals::BlockedSignals;
use super::time_slice;
use super::uffd::raise;
use crate::config::{Settings, Strategy};
use crate::policy::{self, Policy};
use crate::status::Board;

/// Choices that miss nothing and wait to be heard, at most: as many as a pass through a model's layers has, or fewer. What comes near
/// to being chosen is to be read in time.
const UNHEARD_MAX: usize = 32;

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
    choices: Sender<Choice>,
    missing: Arc<Missing>,
    /// The log is to say when a choice was made.
    is_logged: bool,
    bell: Arc<OwnedFd>,
    kernel: Option<Kernel>,
    mapped_bytes: u64,
}

impl Link {
    /// Starts the thread and waits until it is up or has been refused something.
    pub fn start(settings: &Settings, parts: &Parts, board: &Arc<Board>) -> io::Result<Link> {
        let bell = Arc::new(raise(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let (commands, inbox) = unbounded();
        let (choices, heard) = unbounded();
        let missing = Arc::new(Missing::default());
        let (up, is_up) = bounded(1);
        let (strategy, is_logged) = (settings.strategy, settings.trace.is_some());
        let policy = match &parts.make_policy {
            Some(make) => make(strategy),
            None => policy::for_strategy(strategy),
        };
        if strategy == Strategy::Kernel {
            let kernel = Some(Kernel::new(settings, policy, board.clone())?);
            return Ok(Link { commands, choices, missing, is_logged, bell, kernel, mapped_bytes: 0 });
        }
        let setup = Setup {
            settings: settings.clone(),
            commands: inbox,
            choices: heard,
            missing: missing.clone(),
            bell: bell.clone(),
            policy,
            board: board.clone(),
        };
        let wrap_io = parts.wrap_io.clone();
        let _signals = BlockedSignals::new();
        std::thread::Builder::new().name("ggpager".into()).spawn(move || {
            serve(setup, wrap_io, |result| {
                let _ = up.send(result);
            });
        })?;
        is_up.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Link { commands, choices, missing, is_logged, bell, kernel: None, mapped_bytes: 0 })
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

    /// Sends what a router has chosen; does not wait. The pager is woken if something of it is missing.
    pub fn routed(&self, choice: Choice) {
        if let Some(kernel) = &self.kernel {
            return kernel.routed(&choice);
        }
        let (layer, experts) = (choice.layer, choice.experts.clone());
        // Sent first, see `Missing`.
        if self.choices.send(choice).is_ok()
            && (self.missing.is_urgent(layer, &experts) || self.is_logged || self.choices.len() >= UNHEARD_MAX)
        {
            threads::signal(self.bell.as_raw_fd());
        }
    }

    /// Whether what the next router sees is wanted together with its choice.
    pub fn wants_states(&self) -> bool {
        self.missing.is_eager()
    }

    /// Whether a choice tells nothing but what is liked, since every expert is in memory; a log is to have it all the same.
    pub fn has_all_experts(&self) -> bool {
        self.missing.is_nothing() && !self.is_logged
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

#[cfg(test)]
mod tests {
    use crossbeam_channel::Receiver;

    use super::*;

    /// A link without a thread, where expert 0 of layer 0 is missing and expert 1 is not.
    fn link(is_logged: bool) -> (Link, Receiver<Choice>) {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd"));
        let ((commands, _), (choices, heard)) = (unbounded(), unbounded());
        let missing = Arc::<Missing>::default();
        missing.count(0, 0, true);
        (Link { commands, choices, missing, is_logged, bell, kernel: None, mapped_bytes: 0 }, heard)
    }

    /// Whether a choice of `expert` rings.
    fn rings(link: &Link, expert: u32) -> bool {
        link.routed(Choice { used: 1, experts: vec![expert], ..Choice::default() });
        rustix::io::read(&link.bell, &mut [0; 8]).is_ok()
    }

    #[test]
    fn what_misses_nothing_is_heard_later() {
        let (link, heard) = link(false);
        assert!(rings(&link, 0) && !rings(&link, 1));
        assert_eq!(heard.try_iter().map(|choice| choice.experts).collect::<Vec<_>>(), [[0], [1]]);
        assert_eq!((1..=UNHEARD_MAX).map(|_| rings(&link, 1)).filter(|&rang| rang).count(), 1, "the last one");
        heard.try_iter().for_each(drop);
        link.missing.set_eager(true);
        assert!(link.wants_states() && rings(&link, 1));
        assert!(!link.has_all_experts());
        link.missing.count(0, 0, false);
        assert!(link.has_all_experts());
    }

    #[test]
    fn a_log_says_when_it_was() {
        let (link, _heard) = link(true);
        link.missing.count(0, 0, false);
        assert!(rings(&link, 1) && !link.has_all_experts());
    }
}
