//! The handle to the pager: what hooks and tests call.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::command::{Choice, Command, Wanted};
use super::file::{ModelFile, Sharing};
use super::link::{Link, Parts};
use super::load::{Fitting, Loads};
use super::map_error::MapError;
use super::piece::Piece;
use super::pieces::{self, Contents};
use super::replicas::Replicas;
use super::view::Kept;
use super::{region, rescue, views};
use crate::budget;
use crate::budget::governor::Governor;
use crate::config::{BudgetSetting, ByteSize, IoRung, Settings, Strategy};
use crate::gguf;
use crate::orders::{Key, Store};
use crate::policy;
use crate::stats::Stats;
use crate::status::Board;

/// A handle to the pager of this process: cheap to share, usable from any thread.
pub struct Pager {
    settings: Settings,
    parts: Parts,
    replicas: Replicas,
    /// `None` until the first view.
    link: Mutex<Option<Link>>,
    /// Models that fit.
    loads: Arc<Loads>,
    /// The live page and what is counted for it here.
    board: Arc<Board>,
    /// Set in forked children, where no pager thread exists.
    inert: AtomicBool,
    /// A model with experts is or was paged.
    has_experts: AtomicBool,
}

impl Pager {
    /// Makes the pager; its thread starts with the first view. Never fails: what this machine
    /// refuses shows in the first [`Pager::map`].
    pub fn new(settings: Settings) -> Arc<Pager> {
        Pager::with_parts(settings, Parts::default())
    }

    /// As [`Pager::new`], with some parts replaced; tests put faulty ones in.
    pub fn with_parts(settings: Settings, parts: Parts) -> Arc<Pager> {
        Arc::new(Pager {
            replicas: Replicas::new(&settings.replicas),
            settings,
            parts,
            link: Mutex::new(None),
            loads: Arc::default(),
            board: Arc::default(),
            inert: AtomicBool::new(false),
            has_experts: AtomicBool::new(false),
        })
    }

    /// Makes a view of `len` bytes (not rounded to pages) of `file` from `offset` (page aligned).
    /// The file is reopened: `file` may be closed afterwards. `sharing` is what a hand-over keeps to.
    /// Returns the view's address.
    pub fn map(&self, file: BorrowedFd<'_>, offset: u64, len: usize, sharing: Sharing) -> Result<*mut u8, MapError> {
        if self.inert.load(Ordering::Relaxed) || self.settings.strategy == Strategy::Passthrough {
            self.count_passed_through(len);
            return Err(MapError::Passthrough);
        }
        let direct = self.settings.io != Some(IoRung::Uring);
        let mut file =
            ModelFile::reopen(file, sharing, direct).map_err(|source| MapError::Sys { call: "open", source })?;
        let Contents { pieces, tensors, model_bytes: group_bytes } = pieces::of_file(&file);
        let mut link = self.link.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mapped_bytes = link.as_ref().map_or(0, Link::mapped_bytes);
        let model_bytes = group_bytes.max(mapped_bytes + len as u64);
        let memory = budget::Memory::probe();
        if self.settings.strategy == Strategy::Auto && budget::fits(self.settings.budget, model_bytes, &memory) {
            self.count_passed_through(len);
            return Err(MapError::Fits(Box::new(Fitting { file, pieces, offset, len, model_bytes, memory })));
        }
        let budget_bytes = budget::resolve(self.settings.budget, model_bytes, &memory);
        let wanted = region::wanted_bytes(len as u64, budget_bytes);
        match region::left_bytes() {
            Ok(Some(left)) if left < wanted => return Err(MapError::AddressSpace { left, wanted }),
            Ok(_) => {}
            Err(source) => return Err(MapError::Sys { call: "the size of the process", source }),
        }
        if link.is_none() {
            *link = Some(
                Link::start(&self.settings, &self.parts, &self.board)
                    .map_err(|source| MapError::Sys { call: "the pager thread", source })?,
            );
        }
        let link = link.as_mut().expect("just made");
        let elastic = self.settings.budget == BudgetSetting::Auto;
        let room_bytes = memory.room_bytes();
        if !elastic && link.mapped_bytes() == 0 && budget_bytes > room_bytes {
            log::warn!(
                "a budget of {} where {} of memory are left: the kernel may end the program",
                ByteSize(budget_bytes),
                ByteSize(room_bytes)
            );
        }
        let governor = elastic.then(|| Box::new(Governor::new(memory, model_bytes)));
        let has_experts = pieces.iter().any(|piece| piece.expert.is_some());
        let strategy = policy::chosen(self.settings.strategy, has_experts);
        log::info!(
            "strategy {strategy} for {} of weights: a pool of {} where {} of memory are left, {}",
            ByteSize(model_bytes),
            ByteSize(budget_bytes),
            ByteSize(room_bytes),
            if elastic { "growing and shrinking with them" } else { "as asked for" }
        );
        // The kernel's page cache knows one file alone.
        if self.settings.strategy != Strategy::Kernel {
            let copies = self.replicas.of(&file, direct);
            file.add_copies(copies);
        }
        let kept = self.kept(&file, offset..offset + len as u64, &pieces);
        if has_experts {
            // Relaxed: the program computes with the view long after it has been made.
            self.has_experts.store(true, Ordering::Relaxed);
        }
        let model = gguf::shard_paths(file.path()).swap_remove(0);
        let file = Arc::new(file);
        let wanted = Wanted { file, offset, len, pieces, tensors, model, kept };
        let made = link.ask(|reply| Command::Map { wanted, budget_bytes, governor, reply });
        let range = made.ok_or(MapError::Stopped)?.map_err(|source| MapError::Sys { call: "making a view", source })?;
        link.mapped(range.len() as i64);
        Ok(range.start as *mut u8)
    }

    /// Makes an ordinary mapping of a model that fits, and loads it into the page cache from threads.
    /// `None` when the page cache has it all, or nothing can be done: the program's own call then
    /// serves best.
    pub fn load(&self, fitting: Fitting) -> Option<*mut u8> {
        match self.loads.start(fitting, self.settings.queue_depth) {
            Ok(address) => address,
            Err(error) => {
                log::info!("the model is not loaded ahead: {error}");
                None
            }
        }
    }

    /// The program gives up the mapping at `start..start + len`: what was to be loaded into it is not
    /// wanted any more. Never waits for a read.
    pub fn leaving(&self, start: usize, len: usize) {
        self.loads.leaving(start, len);
    }

    /// Unmaps every part of `start..start + len` that lies in a view. Whole pages: `len` is rounded
    /// up. Parts outside of views are not touched.
    pub fn unmap(&self, start: usize, len: usize) -> std::io::Result<()> {
        let range = start..start + region::page_ceil(len);
        let viewed = viewed_bytes(&range);
        self.request(|reply| Command::Unmap { range, reply }, -(viewed as i64))
    }

    /// Replaces the parts of `start..start + len` that lie in a view by ordinary mappings of their
    /// files, at the same address and with the same content.
    pub fn hand_over(&self, start: usize, len: usize) -> std::io::Result<()> {
        let range = start..start + region::page_ceil(len);
        let viewed = viewed_bytes(&range);
        self.request(|reply| Command::HandOver { range, reply }, -(viewed as i64))
    }

    /// The program says that it will read `start..start + len` soon: read ahead if that is small.
    /// Never blocks.
    pub fn will_need(&self, start: usize, len: usize) {
        self.tell(Command::WillNeed { range: start..start + len });
    }

    /// Whether it is worth while to listen to what routers choose.
    pub fn wants_routes(&self) -> bool {
        let listens = policy::listens(self.settings.strategy) || self.settings.trace.is_some();
        listens && self.has_experts.load(Ordering::Relaxed)
    }

    /// Whether it is worth while to tell what routers saw.
    pub fn wants_states(&self) -> bool {
        policy::listens(self.settings.strategy) && self.with_link(|link| link.wants_states()) == Some(true)
    }

    /// Whether every expert is in memory and nothing is logged: choices tell nothing then but what is liked.
    pub fn has_all_experts(&self) -> bool {
        self.with_link(|link| link.has_all_experts()) == Some(true)
    }

    /// A router has chosen, and what it chose is about to be computed. Never blocks.
    pub fn routed(&self, choice: Choice) {
        self.with_link(|link| link.routed(choice));
    }

    /// Counts bytes that the program itself read from a model file. Lock-free.
    pub fn program_read(&self, bytes: usize) {
        // Relaxed: a counter that nothing else depends on.
        self.board.program_read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        let passed_through = self.board.passed_through_bytes.load(Ordering::Relaxed);
        let asked = self.with_link(|link| link.ask(|reply| Command::Stats { reply })).flatten();
        let stats = asked.unwrap_or_else(|| Stats {
            strategy: Strategy::Passthrough.to_string(),
            model_bytes: passed_through,
            ..Stats::default()
        });
        let program_read_bytes = self.board.program_read_bytes.load(Ordering::Relaxed);
        let mut stats = Stats { program_read_bytes, ..stats };
        self.loads.report(&mut stats);
        stats
    }

    /// The process ends: what the fault log does not have yet is written, if there is one.
    pub fn finish_trace(&self) {
        if self.settings.trace.is_some() {
            self.with_link(|link| link.ask(|reply| Command::FinishTrace { reply }));
        }
    }

    /// The process ends: nothing is published any more. Takes no lock.
    pub fn withdraw(&self) {
        self.board.withdraw();
    }

    /// In a forked child: replaces every view (which the child does not inherit) by an ordinary
    /// mapping of its file, and makes this handle inert. Calls nothing but system calls; takes no
    /// lock.
    pub fn after_fork_in_child(&self) {
        // Relaxed: the child has this one thread.
        self.inert.store(true, Ordering::Relaxed);
        rescue::hand_over_everything();
    }

    /// Makes the pager thread panic. Tests see what becomes of the program.
    pub fn panic_for_test(&self) {
        self.tell(Command::Panic);
    }

    /// Where the order of a view is kept, and what is kept there.
    fn kept(&self, file: &ModelFile, extent: std::ops::Range<u64>, pieces: &[Piece]) -> Option<Kept> {
        let learns = policy::learns(self.settings.strategy);
        let store = Store::of_user(|name| std::env::var_os(name)).filter(|_| learns && self.settings.order_cache)?;
        let key = Key::new(file, extent, pieces);
        let offsets = store.load(key).unwrap_or_default();
        Some(Kept { store, key, offsets, revision: 0 })
    }

    fn count_passed_through(&self, len: usize) {
        // Relaxed: a counter that nothing else depends on.
        self.board.passed_through_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    fn with_link<T>(&self, act: impl FnOnce(&mut Link) -> T) -> Option<T> {
        if self.inert.load(Ordering::Relaxed) {
            return None;
        }
        self.link.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_mut().map(act)
    }

    fn tell(&self, command: Command) {
        self.with_link(|link| link.tell(command));
    }

    fn request(
        &self,
        command: impl FnOnce(crossbeam_channel::Sender<std::io::Result<()>>) -> Command,
        mapped_change: i64,
    ) -> std::io::Result<()> {
        self.with_link(|link| {
            link.mapped(mapped_change);
            // A pager that has stopped has handed everything over: nothing is left to do.
            link.ask(command).unwrap_or(Ok(()))
        })
        .unwrap_or(Ok(()))
    }
}

/// Bytes of `range` that lie in views.
fn viewed_bytes(range: &std::ops::Range<usize>) -> usize {
    views::pieces(range.start, range.len()).filter(|piece| piece.in_view).map(|piece| piece.len).sum()
}
