//! Policies: what to read next and what to evict.
//!
//! A [`Policy`] sees touches and completions and names reads and victims; it does no I/O and reads
//! no clock, so the live pager and a simulator drive the same code. Who guarantees what:
//!
//! * The **pager** keeps [`BlockTable`] true, calls [`Policy::touched`] for every reported touch in
//!   order, never evicts a block that the policy did not name, and never lets the held bytes exceed
//!   the budget (except while a smaller budget is being reached).
//! * The **policy** names only `Absent` blocks to read and only `Staged` or `Present` blocks as
//!   victims, and names a victim for a demand read whenever any such block exists: otherwise a
//!   faulting thread would wait for ever.

mod cycle;
mod demand;
mod evict;
mod experts;
mod fifo;
mod heat;
mod idle;
mod learned;
mod learner;
mod observe;
mod odds;
mod order;
mod pace;
mod plan;
mod readahead;
mod reads;
mod recall;
mod resident;
mod stream;
mod table;
mod window;

pub use demand::Demand;
pub use learned::Learned;
pub use observe::Observe;
pub use plan::{Division, divide};
pub use readahead::Readahead;
pub use table::{Block, BlockId, BlockTable, Role, State};

use std::ops::Range;

use crate::config::Strategy;

/// Frames that a pool must have at least, of each kind of block that there is: room for eight
/// threads, each at the seam of two blocks.
const FRAMES_MIN: u64 = 16;

/// The smallest budget, in bytes, with which every policy makes progress: threads that touch blocks
/// find them still there when they run again.
pub fn min_budget_bytes(table: &BlockTable) -> u64 {
    let mut largest = [0u64; 3];
    for id in (0..table.len() as BlockId).filter(|&id| table.state(id) != State::Gone) {
        let block = table.block(id);
        let kind = match block.role {
            Role::Cyclic => 0,
            Role::Row => 1,
            Role::Expert { .. } => 2,
        };
        largest[kind] = largest[kind].max(u64::from(block.frame_bytes));
    }
    FRAMES_MIN * largest.iter().sum::<u64>()
}

/// The strategy that pages a model when `strategy` is asked for: `auto` learns, and reads what routers
/// choose where there are experts.
pub fn chosen(strategy: Strategy, has_experts: bool) -> Strategy {
    match strategy {
        Strategy::Auto if has_experts => Strategy::Experts,
        Strategy::Auto => Strategy::Learned,
        other => other,
    }
}

/// Whether the policy of `strategy` reads what routers choose.
pub fn listens(strategy: Strategy) -> bool {
    chosen(strategy, true) == Strategy::Experts
}

/// Whether the policy of `strategy` has an order to keep for the next start.
pub fn learns(strategy: Strategy) -> bool {
    listens(strategy) || strategy == Strategy::Learned
}

/// The policy of a strategy that pages.
pub fn for_strategy(strategy: Strategy) -> Box<dyn Policy> {
    match chosen(strategy, true) {
        Strategy::Demand => Box::new(Demand::default()),
        Strategy::Learned => Box::new(Learned::default()),
        Strategy::Observe => Box::new(Observe::default()),
        Strategy::Experts => Box::new(Learned::led_by_routers()),
        _ => Box::new(Readahead::default()),
    }
}

/// How a touch found its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Not in memory and not being read.
    Absent,
    /// The read was in flight.
    Reading,
    /// In a frame, outside the view.
    Staged,
}

/// Where a block goes when its read completes and nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Keep it outside the view, so that the first touch reports itself.
    Stage,
    /// Put it into the view at once.
    Install,
}

/// Why room is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A thread waits: a victim must be named if there is one at all.
    Demand,
    /// Readahead: `None` is a good answer when everything held is worth more.
    Readahead,
    /// The budget has become smaller: a victim must be named if there is one at all.
    Shrink,
}

/// What to read next and what to evict. See the module's page for who guarantees what.
pub trait Policy: Send {
    /// The strategy's word, for statistics.
    fn name(&self) -> &'static str;

    /// Blocks `ids` came into being (all `Absent`). `order` is the order in which the model's
    /// blocks are expected to be read in one cycle: blocks of `ids`; those that are no part of the
    /// cycle (embedding rows, expert slices) are left out. A block on the border of two tensors may
    /// occur twice: it is then worth twice as much to keep.
    fn mapped(&mut self, table: &BlockTable, ids: Range<BlockId>, order: &[BlockId]);

    /// The experts among what was just mapped, each by its blocks, in the order in which they may be read while there is
    /// nothing better to do. A block that several experts have a part of comes alone.
    fn experts(&mut self, table: &BlockTable, experts: &[Vec<BlockId>]) {
        let _ = (table, experts);
    }

    /// Takes the order that an earlier run learned for the view whose blocks are `ids`, just mapped:
    /// file offsets in bytes, possibly of another program's idea of the model.
    fn recall(&mut self, table: &BlockTable, ids: Range<BlockId>, offsets: &[u64]) {
        let _ = (table, ids, offsets);
    }

    /// A number that changes whenever [`Policy::order`] of the view whose blocks are `ids` does; 0
    /// while there is nothing to keep.
    fn order_revision(&self, ids: &Range<BlockId>) -> u64 {
        let _ = ids;
        0
    }

    /// The learned order of the view whose blocks are `ids`, as file offsets in bytes, for
    /// [`Policy::recall`]; behind it expert slices that were used, the most used first.
    fn order(&self, table: &BlockTable, ids: Range<BlockId>) -> Vec<u64> {
        let _ = (table, ids);
        Vec::new()
    }

    /// Blocks `ids` are gone; they are already `Gone` in the table and their ids may be used again.
    fn unmapped(&mut self, table: &BlockTable, ids: Range<BlockId>);

    /// The budget is now `table.budget_bytes()`.
    fn budget_changed(&mut self, table: &BlockTable);

    /// A thread touched `id` at `now_ns` (monotonic). The table shows the state before the touch is
    /// served.
    fn touched(&mut self, table: &BlockTable, id: BlockId, touch: Touch, now_ns: u64);

    /// The program foretold that it will read `id` soon (madvise WILLNEED on a small range).
    fn hinted(&mut self, table: &BlockTable, id: BlockId) {
        let _ = (table, id);
    }

    /// A router has chosen the experts that these blocks are parts of, each for such a share of the tokens of a batch: they will
    /// be touched in this order before the layer is done.
    fn routed(&mut self, table: &BlockTable, chosen: &[(BlockId, f64)]) {
        let _ = (table, chosen);
    }

    /// The router that has just chosen came near to choosing the experts that these blocks are parts of: the affinity of each is
    /// between 0 and 1, the larger the nearer, and beyond one half for most of what it chose.
    fn affine(&mut self, table: &BlockTable, near: &[(BlockId, f64)]) {
        let _ = (table, near);
    }

    /// The next router will probably choose experts that blocks `ids` are parts of, the likeliest first. What was
    /// guessed before is void.
    fn guessed(&mut self, ids: &[BlockId]) {
        let _ = ids;
    }

    /// The read of `id` completed. The answer counts only when no thread waits for the block;
    /// otherwise it is installed.
    fn filled(&mut self, table: &BlockTable, id: BlockId) -> Placement;

    /// The next block to read ahead, `None` when nothing is worth reading now. Called while fewer
    /// than the allowed reads are in flight (`in_flight` of them are now).
    fn next_read(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId>;

    /// The next block to read although nobody has asked for it. Called where [`Policy::next_read`] has nothing and the drive
    /// is idle but for `in_flight` reads.
    fn next_idle(&mut self, table: &BlockTable, in_flight: u32) -> Option<BlockId> {
        let _ = (table, in_flight);
        None
    }

    /// Whether [`Policy::next_read`] would name a block that will be touched for certain, and soon.
    fn is_certain(&mut self, table: &BlockTable) -> bool {
        let _ = table;
        false
    }

    /// A block to evict so that `wanted` can be read (or the pool can shrink). Called again until
    /// there is room. A block with [`BlockTable::is_waited_for`] may not be named.
    fn victim(&mut self, table: &BlockTable, wanted: Option<BlockId>, need: Need) -> Option<BlockId>;

    /// A block to evict although there is room for `wanted`: to take its memory, where fresh memory takes longer than a
    /// read ([`BlockTable::is_ready`]). Asked before each read.
    fn exchange(&mut self, table: &BlockTable, wanted: BlockId) -> Option<BlockId> {
        let _ = (table, wanted);
        None
    }

    /// Cycles of the first model that have ended, where the policy can tell.
    fn cycles(&self) -> u64 {
        0
    }

    /// A `Present` block to take out of the view without losing its frame, so that its next touch
    /// reports itself. Called once after every touch.
    fn rearm(&mut self, table: &BlockTable) -> Option<BlockId> {
        let _ = table;
        None
    }
}

/// A policy whose bookkeeping tests can check.
#[cfg(test)]
pub(crate) trait Accounts: Policy {
    /// Panics when a frame is not accounted for.
    fn assert_accounts(&self, table: &BlockTable);
}
