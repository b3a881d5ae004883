//! How the budget is divided: rows, experts, window, resident blocks.

use super::stream::Stream;
use super::{BlockId, BlockTable};

/// The window's parts in frames of the largest size. The window is what is read more than the
/// theoretical minimum in every cycle, so it grows with what the minimum is anyway.
const AHEAD_FRAMES_MIN: u64 = 12;
const AHEAD_FRAMES_MAX: u64 = 28;
const IN_USE_FRAMES_MIN: u64 = 6;
const IN_USE_FRAMES_MAX: u64 = 16;

/// Blocks that eight threads may be inside of at once, some of them at the seam of two. The part of
/// them that is streamed comes on top of the least window.
const THREADS_FRAMES: u64 = 10;

/// Of what does not fit, these parts per thousand are readahead and tensor in use.
const AHEAD_PER_MILLE: u64 = 30;
const IN_USE_PER_MILLE: u64 = 15;

/// Embedding rows: at most this many frames, and at most this part of the budget.
const ROW_FRAMES: u64 = 64;
const ROW_SHARE: u64 = 16;

/// Expert slices keep at least this many frames, or this part of the budget when that is less.
const EXPERT_FRAMES: u64 = 384;
const EXPERT_SHARE: u64 = 4;

/// A stream of at most this part of the resident share stays whole: a draft model is read several
/// times in each cycle of its main model, and with models that are read equally often it does not
/// matter whose blocks stay.
const WHOLE_SHARE: u64 = 2;

/// What is mapped, in bytes of frames.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mapped {
    /// Largest frame of a block in an order, of a row, of an expert slice.
    pub cyclic_frame: u64,
    pub row_frame: u64,
    pub expert_frame: u64,
    /// All expert slices together.
    pub experts: u64,
}

/// The division. The parts' sum is at most the budget: whoever keeps to its part finds room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub ahead_bytes: u64,
    pub in_use_bytes: u64,
    pub row_bytes: u64,
    pub expert_bytes: u64,
    /// For each stream, what of it stays resident.
    pub quotas: Vec<u64>,
}

impl Plan {
    /// Divides `budget` bytes. `in_use_want` is how many bytes the tensor in use has been seen to
    /// need, 0 when nothing is known.
    pub fn new(table: &BlockTable, streams: &[Stream], mapped: Mapped, in_use_want: u64) -> Plan {
        let budget = table.budget_bytes();
        let (row_bytes, expert_floor) = apart(budget, mapped);
        let mut plan = Plan { row_bytes, quotas: vec![0; streams.len()], ..Plan::default() };
        let available = budget - row_bytes - expert_floor;

        let sizes: Vec<u64> = streams.iter().map(|stream| stream.order.bytes(table)).collect();
        let everything: u64 = sizes.iter().sum();
        // What does not fit is shared by those that are in use.
        let shares = |at: &usize| everything <= available || streams[*at].active;
        let mut sharing: Vec<usize> = (0..streams.len()).filter(shares).collect();
        let wanted: u64 = sharing.iter().map(|&at| sizes[at]).sum();
        (plan.ahead_bytes, plan.in_use_bytes) = window(wanted, available, mapped.cyclic_frame, in_use_want);
        let mut resident = available - plan.ahead_bytes - plan.in_use_bytes;
        sharing.sort_by_key(|&at| sizes[at]);
        let mut left: u64 = wanted;
        for at in sharing {
            let fair = (u128::from(resident) * u128::from(sizes[at]) / u128::from(left.max(1))) as u64;
            let whole = sizes[at] <= resident / WHOLE_SHARE || left <= resident;
            plan.quotas[at] = if whole { sizes[at] } else { fair };
            resident -= plan.quotas[at];
            left -= sizes[at];
        }
        plan.expert_bytes = expert_floor + resident;
        plan
    }

    /// The largest need for the tensor in use that makes sense at this budget, in bytes.
    pub fn in_use_bytes_max(table: &BlockTable) -> u64 {
        table.budget_bytes() / 3
    }
}

/// Of a stream of `wanted` bytes in frames of `unit` bytes, `available` bytes fit: what its readahead and
/// the tensor in use get of them. Nothing when all of it fits.
fn window(wanted: u64, available: u64, unit: u64, in_use_want: u64) -> (u64, u64) {
    let excess = wanted.saturating_sub(available);
    if excess == 0 {
        return (0, 0);
    }
    let ahead_bytes =
        (excess * AHEAD_PER_MILLE / 1000).clamp(unit * AHEAD_FRAMES_MIN, unit * AHEAD_FRAMES_MAX).min(available / 4);
    let streamed_in_use = (u128::from(unit * THREADS_FRAMES) * u128::from(excess) / u128::from(wanted)) as u64;
    let in_use_bytes = (excess * IN_USE_PER_MILLE / 1000)
        .min(unit * IN_USE_FRAMES_MAX)
        .max(unit * IN_USE_FRAMES_MIN + streamed_in_use)
        .max(in_use_want)
        .min(available / 8 * 5);
    (ahead_bytes, in_use_bytes)
}

/// How a budget is divided, before anything is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// What of the cycle stays resident, in bytes.
    pub resident_bytes: u64,
    /// What the experts get, in bytes.
    pub expert_bytes: u64,
}

/// Divides `budget` among a cycle of `cyclic` bytes in frames of `frame`, row tables in frames of
/// `row_frame`, and `experts` bytes of experts in frames of `expert_frame` (0: there are none), as the
/// strategies `readahead` and `learned` do it; in bytes.
pub fn divide(budget: u64, cyclic: u64, frame: u64, row_frame: u64, experts: u64, expert_frame: u64) -> Division {
    let mapped = Mapped { cyclic_frame: frame, row_frame, expert_frame, experts };
    let (row_bytes, expert_floor) = apart(budget, mapped);
    let available = budget - row_bytes - expert_floor;
    let (ahead_bytes, in_use_bytes) = window(cyclic, available, frame, 0);
    let resident_bytes = cyclic.min(available - ahead_bytes - in_use_bytes);
    let rest = available - ahead_bytes - in_use_bytes - resident_bytes;
    Division { resident_bytes, expert_bytes: (expert_floor + rest).min(experts) }
}

/// What rows and experts get of `budget` in any case.
fn apart(budget: u64, mapped: Mapped) -> (u64, u64) {
    let row_bytes = (ROW_FRAMES * mapped.row_frame).min(budget / ROW_SHARE);
    let expert_floor = (EXPERT_FRAMES * mapped.expert_frame).min(mapped.experts).min(budget / EXPERT_SHARE);
    (row_bytes, expert_floor)
}

impl Mapped {
    /// Takes the sizes of `ids` in, or out again (`add` false; the largest frames stay).
    pub fn count(&mut self, table: &BlockTable, ids: impl Iterator<Item = BlockId>, add: bool) {
        for id in ids {
            let frame = u64::from(table.block(id).frame_bytes);
            match table.block(id).role {
                super::Role::Cyclic => self.cyclic_frame = self.cyclic_frame.max(frame),
                super::Role::Row => self.row_frame = self.row_frame.max(frame),
                super::Role::Expert { .. } => {
                    self.expert_frame = self.expert_frame.max(frame);
                    self.experts = if add { self.experts + frame } else { self.experts - frame };
                }
            }
        }
    }
}
