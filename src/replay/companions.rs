//! Which blocks of experts are read together: the pager hints its policy at the rest of an expert as
//! soon as a part of it is touched (see [`crate::pager::blocks`]).

use std::collections::HashMap;
use std::ops::Range;

use super::recording::Recording;
use crate::policy::{Block, BlockId, Role};
use crate::trace::View;

/// For each block of `recording` the blocks that whoever touches it will read soon, in order; none for
/// blocks that hold no expert. A block in which two experts meet goes with the one in its middle.
pub fn companions(recording: &Recording) -> Vec<Vec<BlockId>> {
    let mut all = vec![Vec::new(); recording.blocks.len()];
    for (ids, view) in &recording.views {
        let blocks = &recording.blocks[ids.start as usize..ids.end as usize];
        let slices = slices(view);
        let mut family: HashMap<(Option<u32>, u32), Vec<usize>> = HashMap::new();
        for (index, slice) in slices.iter().enumerate() {
            family.entry((slice.layer, slice.expert)).or_default().push(index);
        }
        let mut by_offset: Vec<usize> = (0..slices.len()).collect();
        by_offset.sort_by_key(|&index| slices[index].bytes.start);
        for (id, block) in ids.clone().zip(blocks) {
            let middle = block.offset + u64::from(block.len) / 2;
            let at = by_offset.partition_point(|&index| slices[index].bytes.end <= middle);
            let touched = by_offset.get(at).filter(|&&index| slices[index].bytes.contains(&middle));
            let Some(&touched) = touched.filter(|_| matches!(block.role, Role::Expert { .. })) else { continue };
            let kin = &family[&(slices[touched].layer, slices[touched].expert)];
            let later = kin.iter().filter(|&&index| index >= touched);
            let reached = later.flat_map(|&index| overlapping(blocks, &slices[index].bytes));
            all[id as usize] = reached.map(|index| ids.start + index as BlockId).filter(|&other| other != id).collect();
        }
    }
    all
}

/// One expert's part of a tensor.
struct Slice {
    bytes: Range<u64>,
    layer: Option<u32>,
    expert: u32,
}

/// In the order of reading.
fn slices(view: &View) -> Vec<Slice> {
    let mut slices = Vec::new();
    for tensor in view.tensors.iter().filter(|tensor| tensor.experts > 0) {
        let each = tensor.bytes / u64::from(tensor.experts);
        slices.extend((0..tensor.experts).map(|expert| {
            let start = tensor.offset + u64::from(expert) * each;
            Slice { bytes: start..start + each, layer: tensor.layer, expert }
        }));
    }
    slices
}

fn overlapping(blocks: &[Block], bytes: &Range<u64>) -> Range<usize> {
    let first = blocks.partition_point(|block| block.offset + u64::from(block.len) <= bytes.start);
    let end = blocks.partition_point(|block| block.offset < bytes.end);
    first..end.max(first)
}
