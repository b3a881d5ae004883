use super::super::piece::{EXPERT_BLOCK, ROW_BLOCK};
use super::*;

const M: u64 = HUGE as u64;

#[test]
fn a_plain_file_is_read_in_file_order() {
    let layout = Layout::new(0..5 * M + 100, &[]);
    assert_eq!(layout.blocks.len(), 6);
    assert_eq!(layout.blocks[5].len, 4096);
    assert_eq!(layout.order, [0, 1, 2, 3, 4, 5]);
    assert_eq!(layout.index_at(5 * M + 99), Some(5));
    assert_eq!(layout.index_at(6 * M), None);
}

#[test]
fn a_mapping_may_begin_inside_a_cell() {
    let layout = Layout::new(3 * M + 8192..5 * M, &[]);
    assert_eq!(layout.blocks[0].offset, 3 * M + 8192);
    assert_eq!(layout.blocks[0].len as u64, M - 8192);
    assert_eq!(layout.index_at(3 * M + 8192), Some(0));
    assert_eq!(layout.index_at(4 * M), Some(1));
    assert_eq!(layout.index_at(3 * M), None);
}

#[test]
fn embedding_rows_are_small_blocks_where_they_fill_a_cell() {
    let pieces = [
        Piece { bytes: M / 2..3 * M + M / 2, role: Role::Row, expert: None },
        Piece { bytes: 3 * M + M / 2..4 * M, role: Role::Cyclic, expert: None },
    ];
    let layout = Layout::new(0..4 * M, &pieces);
    let per_cell = HUGE / ROW_BLOCK;
    // Three cells of rows (the first with the header's half), one shared with a matrix.
    assert_eq!(layout.blocks.len(), 3 * per_cell + 1);
    for (index, block) in layout.blocks.iter().enumerate() {
        for offset in [block.offset, block.offset + u64::from(block.len) - 1] {
            assert_eq!(layout.index_at(offset), Some(index as u32));
        }
    }
    assert_eq!(layout.order, [3 * per_cell as u32]);
}

#[test]
fn a_grain_cuts_every_block() {
    let pieces = [
        Piece { bytes: 0..2 * M, role: Role::Row, expert: None },
        Piece { bytes: 2 * M + M / 2..4 * M + 5, role: Role::Cyclic, expert: None },
        Piece { bytes: 2 * M..2 * M + M / 2, role: Role::Expert { layer: 0 }, expert: Some(0) },
    ];
    for grain in [4096, 65536] {
        let layout = Layout::with_grain(8192..4 * M + 5, &pieces, grain);
        for (index, block) in layout.blocks.iter().enumerate() {
            let most = if block.role == Role::Row { grain.min(ROW_BLOCK) } else { grain };
            assert!(block.frame_bytes as usize == most && block.len <= block.frame_bytes);
            assert_eq!(layout.index_at(block.offset + u64::from(block.len) - 1), Some(index as u32));
        }
        // Nothing is cyclic that the order does not have.
        let cyclic = layout.blocks.iter().filter(|block| block.role == Role::Cyclic).count();
        assert_eq!(cyclic as u64, (M + M / 2).div_ceil(grain as u64) + 1);
        assert_eq!(layout.order.len(), cyclic);
        assert_eq!(layout.index_at(4 * M), Some(layout.blocks.len() as u32 - 1));
    }
}

#[test]
fn a_block_shared_by_two_tensors_far_apart_is_expected_twice() {
    let pieces = [
        Piece { bytes: 0..20 * M + 5, role: Role::Cyclic, expert: None },
        Piece { bytes: 40 * M..60 * M, role: Role::Cyclic, expert: None },
        Piece { bytes: 20 * M + 5..40 * M, role: Role::Cyclic, expert: None },
    ];
    let layout = Layout::new(0..60 * M, &pieces);
    assert_eq!(layout.order.iter().filter(|&&index| index == 20).count(), 2);
    assert_eq!(layout.order.len(), 61);
}

#[test]
fn an_experts_slices_are_companions() {
    // Three tensors of four experts each, a slice 900 000 bytes, in another order than they are read.
    let slice = 900_000u64;
    let tensor = |start: u64| {
        (0..4u32).map(move |expert| Piece {
            bytes: start + u64::from(expert) * slice..start + u64::from(expert + 1) * slice,
            role: Role::Expert { layer: 7 },
            expert: Some(expert),
        })
    };
    let (down, gate, up) = (0, 2 * M, 4 * M);
    let pieces: Vec<Piece> = tensor(gate).chain(tensor(up)).chain(tensor(down)).collect();
    let layout = Layout::new(0..8 * M, &pieces);
    let covers = |ids: &[u32], bytes: Range<u64>| {
        (bytes.start..bytes.end).step_by(4096).all(|offset| ids.contains(&layout.index_at(offset).unwrap()))
    };
    let of = |tensor: u64, expert: u64| tensor + expert * slice..tensor + (expert + 1) * slice;
    let after_gate: Vec<u32> = layout.companions(gate + slice + 5000).collect();
    for tensor in [gate, up, down] {
        assert!(covers(&after_gate, of(tensor, 1)));
    }
    assert!(after_gate.len() <= 3 * 5, "{after_gate:?}");
    let after_up: Vec<u32> = layout.companions(up + slice + 5000).collect();
    assert!(covers(&after_up, of(down, 1)) && !covers(&after_up, of(gate, 1)));
    assert_eq!(layout.companions(8 * M - 1).count(), 0);
    assert_eq!(layout.companions((up + slice) / 4096 * 4096).count(), 0, "whose page it is, is not known");
}

#[test]
fn slices_are_blocks_and_their_edges_are_apart() {
    let slice = 200_001u64;
    let tensor = |start: u64| {
        (0..4u32).map(move |expert| Piece {
            bytes: start + u64::from(expert) * slice..start + u64::from(expert + 1) * slice,
            role: Role::Expert { layer: 3 },
            expert: Some(expert),
        })
    };
    let cyclic = |bytes: Range<u64>| Piece { bytes, role: Role::Cyclic, expert: None };
    let (gate, up) = (300_000, 300_000 + 4 * slice);
    let end = up + 4 * slice;
    let mut pieces = vec![cyclic(0..gate)];
    pieces.extend(tensor(gate).chain(tensor(up)));
    pieces.push(cyclic(end..3 * M));
    let layout = Layout::new(0..3 * M, &pieces);
    let mut at = 0;
    for (index, block) in layout.blocks.iter().enumerate() {
        assert_eq!(block.offset, at, "no gaps");
        at += u64::from(block.len);
        assert_eq!(layout.index_at(at - 1), Some(index as u32));
        assert!(block.len <= block.frame_bytes && block.len + 4096 >= block.frame_bytes, "{block:?}");
    }
    assert_eq!((at, layout.index_at(at)), (3 * M, None));
    let expert_blocks = |len: &dyn Fn(u32) -> bool| {
        layout.blocks.iter().filter(|block| block.role == Role::Expert { layer: 3 } && len(block.len)).count()
    };
    // Eight slices, seven pages between them; the pages at both ends belong to others as well.
    assert_eq!((expert_blocks(&|len| len > 4096), expert_blocks(&|len| len == 4096)), (8, 7));
    let own =
        |expert: u64| [gate, up].map(|tensor| layout.index_at(tensor + expert * slice + slice / 2).expect("inside"));
    let chosen: Vec<u32> = layout.chosen(3, &[2, 1]).collect();
    let whole = |index: &u32| layout.blocks[*index as usize].len > 4096;
    let of_slices: Vec<u32> = chosen.iter().copied().filter(whole).collect();
    assert_eq!(of_slices, [own(2)[0], own(1)[0], own(2)[1], own(1)[1]], "tensor by tensor, nobody else's");
    let inner: Vec<u32> = layout.slices().of_expert(3, 2).flat_map(|slice| slice.inner.clone()).collect();
    assert_eq!(inner, own(2), "without edges");
    let experts = layout.by_expert(100);
    let those = |is: &dyn Fn(&Vec<u32>) -> bool| experts.iter().filter(|ids| is(ids)).cloned().collect::<Vec<_>>();
    let whole_ones: Vec<Vec<u32>> = (0..4).map(|expert| own(expert).map(|index| 100 + index).to_vec()).collect();
    assert_eq!(those(&|ids| ids.len() > 1), whole_ones);
    assert_eq!(those(&|ids| ids.len() == 1).len(), 7 + 1, "edges, and the page behind the last slice");
    for offset in (gate + slice..gate + 3 * slice).step_by(4096) {
        assert!(chosen.contains(&layout.index_at(offset).expect("inside")));
    }
    assert_eq!(layout.chosen(4, &[1]).count(), 0);
    // What lies beside slices is in the order.
    let cyclic = layout.blocks.iter().filter(|block| block.role == Role::Cyclic).count();
    assert_eq!(layout.order.len(), cyclic);
    assert!(layout.blocks.iter().any(|block| block.frame_bytes == HUGE as u32));
}

#[test]
fn small_slices_are_no_blocks() {
    let pieces: Vec<Piece> = (0..64u32)
        .map(|expert| Piece {
            bytes: u64::from(expert) * 40_000..u64::from(expert + 1) * 40_000,
            role: Role::Expert { layer: 0 },
            expert: Some(expert),
        })
        .collect();
    let layout = Layout::new(0..2 * M, &pieces);
    assert_eq!(layout.blocks.len(), 2 * HUGE / EXPERT_BLOCK);
    for expert in 0..64 {
        let inner: Vec<_> = layout.slices().of_expert(0, expert).map(|slice| slice.inner.clone()).collect();
        assert!(inner.len() == 1 && !inner[0].is_empty(), "{expert}: what is shared counts");
    }
}
