//! What the engine is made of.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::Receiver;
use rustc_hash::FxHashMap;

use super::super::busy::Busy;
use super::super::command::{Choice, Command};
use super::super::drives::{self, Drives};
use super::super::fill;
use super::super::io::{self as ladder, WrapIo};
use super::super::lookahead::Lookahead;
use super::super::meter::Meter;
use super::super::missing::Missing;
use super::super::origins::Origins;
use super::super::price::Price;
use super::super::reads::Reads;
use super::super::region;
use super::super::trace::Tracer;
use super::super::tuner;
use super::super::uffd::Uffd;
use super::{Engine, Warned};
use crate::config::{Settings, Strategy};
use crate::policy::{self, BlockTable, Policy};
use crate::status::{Board, Publisher};

/// Blocks in flight when the user has chosen the size of reads, but not this.
const QUEUE_DEPTH: u32 = 16;
/// Size of one read unless the user says otherwise: a whole huge block. With as many bytes in flight
/// smaller reads are not faster.
const READ_BYTES: u32 = tuner::BLOCK as u32;

/// Everything that can be refused by the machine, done on the pager thread before it reports that
/// it is up.
pub struct Setup {
    /// The user's settings.
    pub settings: Settings,
    /// Where commands come from.
    pub commands: Receiver<Command>,
    /// Where choices come from.
    pub choices: Receiver<Choice>,
    /// What their senders look at before they signal the eventfd.
    pub missing: Arc<Missing>,
    /// The eventfd that announces them.
    pub bell: Arc<OwnedFd>,
    /// The policy.
    pub policy: Box<dyn Policy>,
    /// The live page, to be made.
    pub board: Arc<Board>,
}

impl Engine {
    /// Opens the userfaultfd and probes the ladders.
    pub fn new(setup: Setup, wrap_io: Option<&WrapIo>) -> io::Result<Engine> {
        let settings = setup.settings;
        let uffd = Arc::new(Uffd::open()?);
        let fill = fill::choose(&uffd, settings.fill)?;
        let chosen = settings.queue_depth.or_else(|| settings.read_size.map(|_| QUEUE_DEPTH));
        let depth = chosen.unwrap_or(tuner::MOST as u32);
        let read_bytes = settings.read_size.map_or(READ_BYTES, |size| size.0 as u32);
        let parts = depth * (READ_BYTES / read_bytes).max(drives::SMALL_READS as u32);
        let count = 1 + settings.replicas.len() as u32;
        let mut io = ladder::choose(settings.io, uffd.raw_fd(), setup.bell.as_raw_fd(), parts, count)?;
        if let Some(wrap) = wrap_io {
            io = wrap(io);
        }
        let mut meter = Meter::new();
        meter.stats.fill_rung = fill.rung().to_string();
        meter.stats.fault_mode = uffd.mode().as_str().into();
        meter.stats.io_rung = io.rung().to_string();
        meter.stats.strategy = setup.policy.name().into();
        let grain = if settings.strategy == Strategy::Observe { settings.grain.0 as usize } else { region::HUGE };
        Ok(Engine {
            io,
            fill,
            uffd,
            policy: setup.policy,
            table: BlockTable::default(),
            views: Vec::new(),
            frames: Vec::new(),
            unused: Vec::new(),
            origins: Origins::default(),
            chosen: Vec::new(),
            reads: Reads::default(),
            drives: Drives::new(chosen, settings.order_cache),
            waiters: FxHashMap::default(),
            demand: VecDeque::new(),
            closing: None,
            commands: setup.commands,
            choices: setup.choices,
            missing: setup.missing,
            _bell: setup.bell,
            governor: None,
            adjusts_at_ns: 0,
            kept_ns: 0,
            read_bytes,
            grain,
            meter,
            trace: Tracer::new(&settings),
            lookahead: Lookahead::default(),
            busy: Busy::default(),
            price: Price::new(std::thread::available_parallelism().map_or(1, usize::from)),
            choosing_ns: 0,
            listens: policy::listens(settings.strategy),
            publisher: Publisher::new(setup.board, settings.runtime_folder),
            warned: Warned::default(),
            events: Vec::with_capacity(256),
            faults: Vec::new(),
            has_faults: false,
        })
    }
}
