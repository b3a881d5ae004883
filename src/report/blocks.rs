//! The blocks of a log: numbers of blocks are used again, and files are mapped again; a *place* is
//! one extent of one file for the whole log.

use std::collections::{BTreeMap, HashMap};

use super::told::{Layers, Told};
use crate::pager::expert_slices::Slices;
use crate::pager::pieces;
use crate::policy::{BlockId, Role};
use crate::trace::{Event, Item, Record, Tensor, View};

/// Index of a place. Places of one view are consecutive, in file order.
pub type PlaceId = u32;

/// The position of a block that is no part of the compute order.
pub const NOWHERE: u32 = u32::MAX;

/// A block is touched at several places of a cycle when its tensors stand further apart in the order of reading
/// than this part of all tensors.
const PARTS: usize = 4;

/// A file of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Its path.
    pub path: String,
    /// Device and inode number.
    pub inode: (u64, u64),
    /// Length in bytes.
    pub bytes: u64,
    /// Where the file starts when all files of the log lie one after the other, in bytes.
    pub base: u64,
}

/// One extent of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Index of the file.
    pub file: u32,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
    /// What it is for the policy.
    pub kind: Role,
    /// Position in the compute order, counted on from view to view, or [`NOWHERE`].
    pub order: u32,
    /// Index of the role's word of the tensor that fills most of it.
    pub role: u16,
    /// Layer of that tensor.
    pub layer: Option<u32>,
    /// The expert in whose slice the whole place lies: none where two experts, or an expert
    /// and something else, share it.
    pub expert: Option<u32>,
    /// Its tensors are read one soon after the other: a touch says how far the cycle has come.
    pub is_one_part: bool,
}

/// What is mapped now.
struct Mapped {
    end: BlockId,
    first_place: PlaceId,
    view: u32,
}

/// All places, and which block numbers mean which of them at the moment.
#[derive(Default)]
pub struct Blocks {
    files: Vec<File>,
    places: Vec<Place>,
    roles: Vec<String>,
    mapped: BTreeMap<BlockId, Mapped>,
    /// By identity of the file and extent of the view.
    known: HashMap<Identity, PlaceId>,
    /// Positions of the compute order that are taken.
    ordered: u32,
    /// Layers that blocks belong to.
    layers: u32,
    /// The most experts that a tensor has.
    experts: u32,
    expert_layers: Layers,
}

/// The byte behind the last one.
fn end_of(tensor: &Tensor) -> u64 {
    tensor.offset.saturating_add(tensor.bytes)
}

/// Path, inode, time of change, offset, length, number of blocks.
type Identity = (String, (u64, u64), i64, u64, u64, usize);

impl Blocks {
    /// Takes in what `item` says of the views; gives the record, if it is one.
    pub fn follow(&mut self, item: &Item) -> Option<Record> {
        match item {
            Item::View(view) => {
                self.map(view);
                None
            }
            Item::Record(record) => {
                if let Event::Unmapped { view } = record.event {
                    self.unmap(view);
                }
                Some(*record)
            }
        }
    }

    fn map(&mut self, view: &View) {
        let identity =
            (view.path.clone(), view.inode, view.modified_unix_ns, view.offset, view.bytes, view.blocks.len());
        let first_place = match self.known.get(&identity) {
            Some(&first) => first,
            None => {
                let first = self.places.len() as PlaceId;
                self.add(view);
                self.known.insert(identity, first);
                first
            }
        };
        self.unmap(view.number);
        let end = view.first_block.saturating_add(view.blocks.len() as BlockId);
        self.mapped.insert(view.first_block, Mapped { end, first_place, view: view.number });
    }

    fn unmap(&mut self, view: u32) {
        self.mapped.retain(|_, mapped| mapped.view != view);
    }

    fn add(&mut self, view: &View) {
        let same = self.files.iter().position(|file| file.path == view.path && file.inode == view.inode);
        let file = same.unwrap_or_else(|| {
            let base = self.files.last().map_or(0, |file| file.base.saturating_add(file.bytes));
            self.files.push(File { path: view.path.clone(), inode: view.inode, bytes: view.file_bytes, base });
            self.files.len() - 1
        }) as u32;
        let mut order = vec![NOWHERE; view.blocks.len()];
        for &index in &view.expected_order {
            // A block on the border of two tensors occurs twice: it is first needed at the first.
            if let Some(position @ &mut NOWHERE) = order.get_mut(index as usize) {
                *position = self.ordered;
                self.ordered += 1;
            }
        }
        // By offset, with their places in the order of reading.
        let mut tensors: Vec<(usize, &Tensor)> = view.tensors.iter().enumerate().collect();
        tensors.retain(|(_, tensor)| tensor.bytes > 0);
        tensors.sort_unstable_by_key(|(_, tensor)| tensor.offset);
        self.experts = tensors.iter().map(|(_, tensor)| tensor.experts).fold(self.experts, u32::max);
        tensors.iter().for_each(|(_, tensor)| self.expert_layers.tensor(tensor));
        let extent = view.offset..view.offset.saturating_add(view.bytes);
        let slices = Slices::of(&pieces::of_tensors(&view.tensors), &extent);
        let mut first = 0;
        for (block, order) in view.blocks.iter().zip(order) {
            let end = block.offset.saturating_add(u64::from(block.len));
            while first < tensors.len() && end_of(tensors[first].1) <= block.offset {
                first += 1;
            }
            let inside = tensors[first..].iter().take_while(|(_, tensor)| tensor.offset < end);
            let (soonest, latest) =
                inside.clone().fold((usize::MAX, 0), |(low, high), (at, _)| (low.min(*at), high.max(*at)));
            let is_one_part = latest.saturating_sub(soonest) <= (view.tensors.len() / PARTS).max(1);
            let most = inside
                .max_by_key(|(_, it)| end.min(end_of(it)).saturating_sub(block.offset.max(it.offset)))
                .map(|(_, tensor)| *tensor);
            let word = most.map_or("unknown", |tensor| tensor.role.as_str());
            let expert = slices.around(block.offset..end).map(|slice| slice.expert);
            let layer = match block.role {
                Role::Expert { layer } => Some(layer),
                _ => most.and_then(|tensor| tensor.layer),
            };
            if let (Some(layer), Some(expert)) = (layer, expert) {
                self.expert_layers.inside(layer, expert);
            }
            self.layers = layer.map_or(self.layers, |layer| self.layers.max(layer.saturating_add(1)));
            let role = self.role(word);
            let (offset, len, kind) = (block.offset, block.len, block.role);
            self.places.push(Place { file, offset, len, kind, order, role, layer, expert, is_one_part });
        }
    }

    fn role(&mut self, word: &str) -> u16 {
        let known = self.roles.iter().position(|role| role == word);
        known.unwrap_or_else(|| {
            self.roles.push(word.to_owned());
            self.roles.len() - 1
        }) as u16
    }

    /// The place that a block number means now; `None` where the log does not say.
    pub fn find(&self, block: BlockId) -> Option<PlaceId> {
        let (&first, mapped) = self.mapped.range(..=block).next_back()?;
        (block < mapped.end).then(|| mapped.first_place + (block - first))
    }

    /// The place `id`.
    pub fn place(&self, id: PlaceId) -> &Place {
        &self.places[id as usize]
    }

    /// All places.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Where `start` bytes behind the begin of place `id` lie, when all files of the log lie one after the
    /// other.
    pub fn address(&self, id: PlaceId, start: u32) -> u64 {
        self.file(id).base.saturating_add(self.offset(id, start))
    }

    /// Where in its file `start` bytes behind the begin of place `id` lie.
    pub fn offset(&self, id: PlaceId, start: u32) -> u64 {
        self.place(id).offset.saturating_add(u64::from(start))
    }

    /// The file that place `id` is in.
    pub fn file(&self, id: PlaceId) -> &File {
        &self.files[self.place(id).file as usize]
    }

    /// All files.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The words of the roles, by index.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// How far a cycle has come that touches place `id`, from 0 to 1: by the compute order, or by the layer
    /// of an expert. None where tensors of different parts of the cycle share the block: in a file whose layers
    /// lie in the order of their names, layer 1 ends where layer 10 begins.
    pub fn progress(&self, id: PlaceId) -> Option<f64> {
        let place = self.place(id);
        match (place.kind, place.layer) {
            _ if !place.is_one_part => None,
            (Role::Expert { .. }, Some(layer)) => Some(f64::from(layer) / f64::from(self.layers)),
            _ if place.order != NOWHERE => Some(f64::from(place.order) / f64::from(self.ordered)),
            _ => None,
        }
    }

    /// The most experts that a tensor has; 0 for a dense model.
    pub fn experts(&self) -> u32 {
        self.experts
    }

    /// The layer and the expert that a touch of place `id` is for; `None` where touches do not tell every
    /// expert of the layer.
    pub fn expert(&self, id: PlaceId) -> Option<(u32, u32)> {
        let Place { layer, expert, .. } = *self.place(id);
        let layer = layer.filter(|&layer| self.expert_layers.are_told(layer))?;
        Some((layer, expert?))
    }

    /// In which layers touches tell the experts.
    pub fn told(&self) -> Told {
        self.expert_layers.count()
    }
}
