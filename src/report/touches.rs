//! The touches of one cycle, and which blocks are in the view.

use super::blocks::{Blocks, NOWHERE, PlaceId};
use super::heat;
use crate::policy::Role;

/// Touches of a cycle that are kept at most; then the cycle is dealt with in pieces.
const KEPT_MAX: usize = 1 << 21;

/// Collects the touches of the cycle that runs now.
#[derive(Default)]
pub struct Touches {
    /// In order; several threads at one block count once.
    now: Vec<PlaceId>,
    /// The last cycle in which each place was touched, plus 1.
    touched_in: Vec<u64>,
    in_view: Vec<bool>,
}

/// A cycle, or a piece of a long one.
pub struct Taken {
    /// The first touch of each place, in order.
    pub first: Vec<PlaceId>,
    /// All touches in order, and those that nobody saw.
    pub all: Vec<PlaceId>,
}

impl Touches {
    /// Makes room for `places` places.
    pub fn resize(&mut self, places: usize) {
        self.touched_in.resize(places, 0);
        self.in_view.resize(places, false);
    }

    /// `place` came into the view, or left it.
    pub fn set_in_view(&mut self, place: PlaceId, in_view: bool) {
        self.in_view[place as usize] = in_view;
    }

    /// `place` was touched.
    pub fn add(&mut self, place: PlaceId) {
        self.now.push(place);
    }

    /// No more are to be added before [`Touches::take`].
    pub fn is_full(&self) -> bool {
        self.now.len() >= KEPT_MAX
    }

    /// Gives the touches of cycle `cycle` and forgets them. When the cycle is over and `whole`, what stayed in
    /// the view counts as well.
    pub fn take(&mut self, blocks: &Blocks, cycle: u64, whole: bool) -> Taken {
        let touched = std::mem::take(&mut self.now);
        let stamp = cycle + 1;
        let touched_in = &mut self.touched_in;
        let is_first = |place: &&PlaceId| std::mem::replace(&mut touched_in[**place as usize], stamp) != stamp;
        let first = touched.iter().filter(is_first).copied().collect();
        let stayed = |&place: &PlaceId| {
            let of = blocks.place(place);
            of.order != NOWHERE
                && of.kind == Role::Cyclic
                && self.in_view[place as usize]
                && self.touched_in[place as usize] != stamp
        };
        let places = blocks.places().len() as PlaceId;
        let hidden = if whole { (0..places).filter(stayed).collect() } else { Vec::new() };
        Taken { first, all: heat::with_hidden(blocks, &touched, hidden) }
    }
}
