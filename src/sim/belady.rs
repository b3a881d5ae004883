//! Belady's MIN: the fewest bytes that any policy, even a clairvoyant one, must read.

use std::collections::{BTreeSet, HashMap};

use crate::policy::{BlockId, BlockTable};

/// Bytes read for each part of `sequence` between the indices `cuts` (increasing, at most its
/// length), starting with an empty memory of `capacity` bytes. A miss evicts the block that is
/// needed last (L. A. Belady, "A study of replacement algorithms for a virtual-storage computer",
/// 1966). The minimum is exact when all frames are of one size; otherwise it is a close upper bound
/// of the minimum, which is NP-hard to find.
pub fn min_bytes(table: &BlockTable, sequence: &[BlockId], capacity: u64, cuts: &[usize]) -> Vec<u64> {
    let mut next_use = vec![usize::MAX; sequence.len()];
    let mut seen: HashMap<BlockId, usize> = HashMap::new();
    for (at, &id) in sequence.iter().enumerate().rev() {
        if let Some(later) = seen.insert(id, at) {
            next_use[at] = later;
        }
    }
    let mut held: BTreeSet<(usize, BlockId)> = BTreeSet::new();
    let mut held_bytes = 0;
    let mut read = 0;
    let mut parts = Vec::new();
    for (at, &id) in sequence.iter().enumerate() {
        while parts.len() < cuts.len() && cuts[parts.len()] <= at {
            parts.push(std::mem::take(&mut read));
        }
        let frame = u64::from(table.block(id).frame_bytes);
        if !held.remove(&(at, id)) {
            read += frame;
            held_bytes += frame;
            while held_bytes > capacity {
                let Some((_, last)) = held.pop_last() else { break };
                held_bytes -= u64::from(table.block(last).frame_bytes);
            }
        }
        held.insert((next_use[at], id));
    }
    parts.push(read);
    parts
}
