//! Where in the model it happens: layer by tensor role.

use std::collections::BTreeMap;

use serde::Serialize;

use super::blocks::{Blocks, PlaceId};

/// What happened at each place.
#[derive(Default)]
pub struct Usage {
    /// Touches, those of blocks that stayed in the view included.
    pub touches: Vec<u64>,
    /// Sleep summed over the threads, in nanoseconds.
    pub sleep_ns: Vec<u64>,
    /// Bytes read.
    pub read_bytes: Vec<u64>,
}

impl Usage {
    /// Makes room for `places` places.
    pub fn resize(&mut self, places: usize) {
        for list in [&mut self.touches, &mut self.sleep_ns, &mut self.read_bytes] {
            list.resize(places, 0);
        }
    }
}

/// All blocks of one role in one layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cell {
    /// The layer; none for tensors that belong to none.
    pub layer: Option<u32>,
    /// The role's word.
    pub role: String,
    /// Blocks.
    pub blocks: u64,
    /// Their length, in bytes.
    pub bytes: u64,
    /// Touches of a block, on average.
    pub touches_per_block: f64,
    /// Sleep summed over the threads, in seconds.
    pub sleep_s: f64,
    /// Bytes read.
    pub read_bytes: u64,
}

/// The cells that have blocks, by layer and role.
pub fn cells(blocks: &Blocks, usage: &Usage) -> Vec<Cell> {
    let mut cells: BTreeMap<(Option<u32>, u16), Cell> = BTreeMap::new();
    for (id, place) in blocks.places().iter().enumerate() {
        let cell = cells.entry((place.layer, place.role)).or_insert_with(|| Cell {
            layer: place.layer,
            role: blocks.roles()[usize::from(place.role)].clone(),
            ..Cell::default()
        });
        cell.blocks += 1;
        cell.bytes += u64::from(place.len);
        cell.touches_per_block += usage.touches[id] as f64;
        cell.sleep_s += usage.sleep_ns[id] as f64 / 1e9;
        cell.read_bytes += usage.read_bytes[id];
    }
    let mean = |mut cell: Cell| {
        cell.touches_per_block /= cell.blocks as f64;
        cell
    };
    cells.into_values().map(mean).collect()
}

/// The blocks that the log's view hides: those of the compute order that are in the view and were not
/// touched in a cycle are taken as touched once, at their place in that order.
///
/// Merges them into `touched`, the touches in order.
pub fn with_hidden(blocks: &Blocks, touched: &[PlaceId], mut hidden: Vec<PlaceId>) -> Vec<PlaceId> {
    hidden.sort_unstable_by_key(|&place| blocks.place(place).order);
    let mut all = Vec::with_capacity(touched.len() + hidden.len());
    let mut hidden = hidden.into_iter().peekable();
    for &place in touched {
        let order = blocks.place(place).order;
        if order != super::blocks::NOWHERE {
            while let Some(before) = hidden.next_if(|&before| blocks.place(before).order < order) {
                all.push(before);
            }
        }
        all.push(place);
    }
    all.extend(hidden);
    all
}
