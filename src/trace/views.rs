//! The payload of a view's chunk: the length of a JSON text and the text, which holds all but the
//! blocks; runs of blocks; runs of the expected order.

use super::header::View;
use super::varint::{Cursor, What, put, put_signed};
use crate::policy::{Block, Role};

/// Blocks of a view at most: 64 GiB of 4 KiB blocks. The expected order may be twice as long.
const MOST_BLOCKS: usize = 1 << 24;

/// Why `view` cannot be in a log.
pub(super) fn check(view: &View) -> Result<(), What> {
    let blocks = view.blocks.len();
    if blocks > MOST_BLOCKS || view.expected_order.len() > 2 * MOST_BLOCKS {
        return Err("a view of too many blocks");
    }
    if view.first_block.checked_add(blocks as u32).is_none() {
        return Err("block numbers are out of range");
    }
    if view.blocks.iter().any(|block| block.offset.checked_add(block.len.into()).is_none()) {
        return Err("a block is out of range");
    }
    if view.expected_order.iter().any(|&index| index as usize >= blocks) {
        return Err("the expected order names a block that is not there");
    }
    Ok(())
}

/// Appends a sound view.
pub(super) fn encode(out: &mut Vec<u8>, view: &View) {
    let text = serde_json::to_vec(view).expect("plain data");
    put(out, text.len() as u64);
    out.extend_from_slice(&text);
    let follows = |a: &Block, b: &Block| *b == Block { offset: a.offset + u64::from(a.len), ..*a } && b.len > 0;
    put(out, view.blocks.chunk_by(follows).count() as u64);
    let mut end = 0u64;
    for run in view.blocks.chunk_by(follows) {
        let (first, last) = (run[0], run[run.len() - 1]);
        put(out, run.len() as u64);
        put(out, first.view.into());
        put_signed(out, first.offset.wrapping_sub(end) as i64);
        put(out, first.len.into());
        put(out, first.frame_bytes.into());
        put(
            out,
            match first.role {
                Role::Cyclic => 0,
                Role::Row => 1,
                Role::Expert { layer } => 2 + u64::from(layer),
            },
        );
        end = last.offset + u64::from(last.len);
    }
    let next = |a: &u32, b: &u32| a.checked_add(1) == Some(*b);
    put(out, view.expected_order.chunk_by(next).count() as u64);
    let mut end = 0i64;
    for run in view.expected_order.chunk_by(next) {
        put(out, run.len() as u64);
        put_signed(out, i64::from(run[0]) - end);
        end = i64::from(run[0]) + run.len() as i64;
    }
}

/// Takes a view apart; what it gives has been checked.
pub(super) fn decode(from: &mut Cursor) -> Result<View, What> {
    let len = from.narrow()?;
    let mut view: View = serde_json::from_slice(from.slice(len)?).map_err(|_| "a view that cannot be read")?;
    let mut end = 0u64;
    for _ in 0..from.number()? {
        let count = room(view.blocks.len(), MOST_BLOCKS, from.number()?)?;
        let owner = from.narrow()?;
        let mut offset = end.wrapping_add(from.signed()? as u64);
        let (len, frame_bytes) = (from.narrow()?, from.narrow()?);
        let role = match from.number()? {
            0 => Role::Cyclic,
            1 => Role::Row,
            layer => Role::Expert { layer: (layer - 2).try_into().map_err(|_| "a layer is out of range")? },
        };
        for _ in 0..count {
            view.blocks.push(Block { view: owner, offset, len, frame_bytes, role });
            offset = offset.checked_add(len.into()).ok_or("a block is out of range")?;
        }
        end = offset;
    }
    let mut end = 0i64;
    for _ in 0..from.number()? {
        let count = room(view.expected_order.len(), 2 * MOST_BLOCKS, from.number()?)?;
        let start = end.checked_add(from.signed()?).and_then(|start| u32::try_from(start).ok());
        let start = start.ok_or("a number is out of range")?;
        let stop = start.checked_add(count).ok_or("a number is out of range")?;
        view.expected_order.extend(start..stop);
        end = stop.into();
    }
    check(&view)?;
    Ok(view)
}

/// `count` as the length of a run after `have` others.
fn room(have: usize, most: usize, count: u64) -> Result<u32, What> {
    if count == 0 || count > (most - have) as u64 {
        return Err("a run of a wrong length");
    }
    Ok(count as u32)
}
