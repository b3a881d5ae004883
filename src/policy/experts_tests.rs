//! Tests of what is read and kept of experts.

use super::super::heat::IN_USE;
use super::super::reads::GUESSED_READS;
use super::super::{Block, Learned, Need, Placement, Policy, Role, Touch};
use super::*;

const SLICE: u32 = 64 << 10;
const FRAME: u32 = 2 << 20;
const DENSE: u32 = 40;
const SLICES: u32 = 600;
/// Slices of a layer.
const LAYER: u32 = 300;

/// Dense blocks, behind them slices with an edge between each two.
fn table(budget_slices: u32) -> BlockTable {
    let mut blocks = Vec::new();
    let mut offset = 0;
    let mut add = |bytes: u32, role| {
        blocks.push(Block { view: 0, offset, len: bytes, frame_bytes: bytes, role });
        offset += u64::from(bytes);
    };
    (0..DENSE).for_each(|_| add(FRAME, Role::Cyclic));
    for slice in 0..SLICES {
        let role = Role::Expert { layer: slice / LAYER };
        add(SLICE, role);
        if slice + 1 < SLICES {
            add(EDGE_BYTES, role);
        }
    }
    let mut table = BlockTable::default();
    table.add(&blocks);
    table.set_budget(u64::from(DENSE) * u64::from(FRAME) + u64::from(budget_slices * SLICE));
    table
}

fn slice(number: u32) -> BlockId {
    DENSE + 2 * number
}

fn policy(table: &BlockTable) -> Learned {
    let mut policy = Learned::led_by_routers();
    let order: Vec<BlockId> = (0..DENSE).collect();
    policy.mapped(table, 0..table.len() as BlockId, &order);
    policy.experts(table, &(0..SLICES).map(|number| vec![slice(number)]).collect::<Vec<_>>());
    policy
}

/// Reads all that the policy wants, one block after the other; gives the expert blocks among it.
fn read_all(table: &mut BlockTable, policy: &mut Learned) -> Vec<BlockId> {
    let mut experts = Vec::new();
    while let Some(id) = policy.next_read(table, 0).or_else(|| policy.next_idle(table, 0)) {
        while !table.has_room(id) {
            let Some(victim) = policy.victim(table, Some(id), Need::Readahead) else { return experts };
            table.set_state(victim, State::Absent);
        }
        table.set_state(id, State::Reading);
        let placement = policy.filled(table, id);
        table.set_state(id, State::Staged);
        if placement == Placement::Install {
            table.set_state(id, State::Present);
        }
        experts.extend(Some(id).filter(|&id| id >= DENSE));
    }
    experts
}

fn touch(table: &mut BlockTable, policy: &mut Learned, id: BlockId) {
    let found = if table.state(id) == State::Absent { Touch::Absent } else { Touch::Staged };
    policy.touched(table, id, found, 0);
    if found == Touch::Absent {
        table.set_state(id, State::Reading);
        policy.filled(table, id);
        table.set_state(id, State::Staged);
    }
    table.set_state(id, State::Present);
}

#[test]
fn free_memory_is_filled_once_the_model_is_computed() {
    let mut table = table(20);
    let mut policy = policy(&table);
    assert!(read_all(&mut table, &mut policy).is_empty(), "nobody may ever compute with it");
    touch(&mut table, &mut policy, 0);
    let read = read_all(&mut table, &mut policy);
    let part = table.budget_bytes() / 4 / u64::from(SLICE);
    assert!((part * 9 / 10..=part).contains(&(read.len() as u64)), "{} of {part} slices", read.len());
    assert!(read.iter().copied().eq((0..).map(slice).take(read.len())), "{read:?}");
    // What is full stays as it is.
    assert!(read_all(&mut table, &mut policy).is_empty());
}

#[test]
fn what_nobody_chose_waits_for_an_idle_drive() {
    let mut table = table(20);
    let mut policy = policy(&table);
    touch(&mut table, &mut policy, 0);
    while let Some(id) = policy.next_read(&table, 2) {
        assert!(id < DENSE);
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
    }
    assert_eq!([policy.next_idle(&table, 2), policy.next_idle(&table, 1)], [None, Some(slice(0))]);
    table.set_state(slice(0), State::Reading);
    let chosen = slice(50);
    policy.routed(&table, &[(chosen, 1.0)]);
    assert_eq!(policy.next_read(&table, 9), Some(chosen));
}

#[test]
fn guesses_wait_for_a_drive_that_has_little_to_do() {
    let mut table = table(20);
    let mut policy = policy(&table);
    touch(&mut table, &mut policy, 0);
    while let Some(id) = policy.next_read(&table, GUESSED_READS) {
        assert!(id < DENSE);
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
    }
    let few = GUESSED_READS - 1;
    policy.guessed(&[slice(50), slice(51)]);
    assert_eq!(policy.next_read(&table, GUESSED_READS), None);
    assert_eq!(policy.next_read(&table, few), Some(slice(50)));
    table.set_state(slice(50), State::Reading);
    policy.routed(&table, &[(slice(60), 1.0)]);
    assert_eq!(policy.next_read(&table, GUESSED_READS), Some(slice(60)));
    table.set_state(slice(60), State::Reading);
    // What was guessed before is void.
    policy.guessed(&[slice(52)]);
    assert_eq!(policy.next_read(&table, few), Some(slice(52)));
    table.set_state(slice(52), State::Reading);
    assert_eq!(policy.next_read(&table, few), None);
}

#[test]
fn a_prompt_counts_as_one_token() {
    let table = table(20);
    let mut policy = policy(&table);
    (0..3).for_each(|_| policy.routed(&table, &[(slice(1), 1.0)]));
    // Each of all slices for one of twenty tokens.
    (0..SLICES).for_each(|number| policy.routed(&table, &[(slice(number), 0.05)]));
    (0..2).for_each(|_| policy.routed(&table, &[(slice(2), 1.0)]));
    assert_eq!(
        policy.order(&table, 0..table.len() as BlockId)[DENSE as usize..][..2],
        [1, 2].map(|number| table.block(slice(number)).offset)
    );
}

#[test]
fn a_warm_up_run_changes_nothing_of_what_is_liked() {
    let table = table(20);
    let ids = 0..table.len() as BlockId;
    let warm_up = |policy: &mut Learned| {
        (0..20).for_each(|_| (0..SLICES).for_each(|number| policy.routed(&table, &[(slice(number), 0.0)])));
    };
    let liked = |policy: &Learned| policy.order(&table, ids.clone())[DENSE as usize..].to_vec();
    let mut fresh = policy(&table);
    warm_up(&mut fresh);
    assert!(liked(&fresh).is_empty(), "nothing is known, and nothing is stored");
    (0..2).for_each(|_| fresh.routed(&table, &[(slice(7), 1.0)]));
    fresh.routed(&table, &[(slice(3), 1.0)]);
    let stored = liked(&fresh);
    assert_eq!(stored, [7, 3].map(|number| table.block(slice(number)).offset));
    let mut next = policy(&table);
    next.recall(&table, ids.clone(), &stored);
    warm_up(&mut next);
    assert_eq!(liked(&next), stored);
    // What it chose is in use, and old uses do not fade for it.
    let mut experts = Experts::default();
    experts.routed(&table, &[(slice(1), 1.0)]);
    let warmth = experts.heat.warmth(slice(1));
    (0..2 * SLICES).for_each(|number| experts.routed(&table, &[(slice(number % SLICES), 0.0)]));
    assert_eq!(experts.heat.warmth(slice(1)), warmth);
    assert!(experts.heat.is_in_use(&table, slice(SLICES - 1), u64::from(SLICES)));
}

#[test]
fn a_slice_makes_room_for_one_as_long() {
    let expert = |offset, len| Block { view: 0, offset, len, frame_bytes: len, role: Role::Expert { layer: 0 } };
    let mut table = BlockTable::default();
    let lens = (0..200u32).map(|number| if number % 4 == 0 { 2 * SLICE } else { SLICE });
    table.add(
        &lens.scan(0, |at, len| Some(expert(std::mem::replace(at, *at + u64::from(len)), len))).collect::<Vec<_>>(),
    );
    table.set_budget(1 << 30);
    let mut experts = Experts::default();
    for id in 0..199 {
        experts.hold(&table, id);
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
    }
    // All but the long ones are cold, and none is new.
    (0..199).step_by(4).for_each(|id| experts.routed(&table, &[(id, 1.0)]));
    (0..200).for_each(|_| experts.routed(&table, &[(199, 0.0)]));
    let len_for = |wanted| experts.coldest(&table, wanted).map(|id| table.block(id).len);
    assert_eq!([len_for(Some(196)), len_for(Some(199)), len_for(None)], [Some(2 * SLICE), Some(SLICE), Some(SLICE)]);
}

#[test]
fn what_an_earlier_run_liked_comes_first_with_its_edges() {
    let mut table = table(20);
    let mut first = policy(&table);
    touch(&mut table, &mut first, 0);
    for (number, uses) in [(30, 2), (31, 5), (32, 1)] {
        (0..uses).for_each(|_| first.routed(&table, &[(slice(number), 1.0)]));
    }
    let stored = first.order(&table, 0..table.len() as BlockId);
    let mut table = self::table(20);
    let mut second = policy(&table);
    second.recall(&table, 0..table.len() as BlockId, &stored);
    touch(&mut table, &mut second, 0);
    let read = read_all(&mut table, &mut second);
    let (edge, liked) = (|number: u32| slice(number) + 1, [slice(31), slice(30), slice(32)]);
    let expected = [edge(30), edge(31), liked[0], edge(29), liked[1], edge(32), liked[2], slice(0)];
    assert_eq!(read[..expected.len()], expected);
}

#[test]
fn an_order_is_stored_again_when_much_was_used() {
    let table = table(20);
    let mut policy = policy(&table);
    let ids = 0..table.len() as BlockId;
    for revision in [0, 1] {
        assert_eq!(policy.order_revision(&ids), revision);
        (0..REVISION_USES).for_each(|_| policy.routed(&table, &[(slice(1), 1.0)]));
    }
    assert_eq!(policy.order_revision(&ids), 2);
    policy.routed(&table, &[(slice(1), 1.0)]);
    assert_eq!(policy.order_revision(&ids), 2, "not with every use");
}

#[test]
fn slices_report_themselves_again_only_where_some_had_to_go() {
    let mut table = table(20);
    let mut experts = Experts::default();
    for number in 0..10 {
        experts.touched(&table, slice(number));
        table.set_state(slice(number), State::Reading);
        table.set_state(slice(number), State::Staged);
        table.set_state(slice(number), State::Present);
    }
    (0..IN_USE).for_each(|_| experts.touched(&table, slice(20)));
    assert_eq!(experts.rearm(&table), None);
    experts.remove(&table, slice(3));
    let rearmed = (0..10).filter_map(|_| experts.rearm(&table)).count();
    assert_eq!(rearmed as u32, REARMS);
}

#[test]
fn what_is_chosen_is_certain_until_it_is_on_its_way() {
    let mut table = table(20);
    let mut policy = policy(&table);
    assert!(!policy.is_certain(&table));
    for id in [slice(3), slice(4)] {
        policy.routed(&table, &[(id, 1.0)]);
    }
    for id in [slice(3), slice(4)] {
        assert!(policy.is_certain(&table));
        // Named again while the drive has no room for it.
        assert_eq!([policy.next_read(&table, 9), policy.next_read(&table, 9)], [Some(id); 2]);
        assert!(policy.is_certain(&table));
        table.set_state(id, State::Reading);
    }
    assert!(!policy.is_certain(&table));
}

#[test]
fn only_what_is_chosen_has_memory_made_for_it() {
    let mut table = table(20);
    let mut policy = policy(&table);
    touch(&mut table, &mut policy, 0);
    read_all(&mut table, &mut policy);
    let held: Vec<BlockId> = (0..SLICES).map(slice).filter(|&id| table.state(id) != State::Absent).collect();
    let free_two = |table: &mut BlockTable, policy: &mut Learned| {
        table.set_budget(table.held_bytes() + 2 * u64::from(SLICE));
        policy.budget_changed(table);
    };
    free_two(&mut table, &mut policy);
    let missing = slice(held.len() as u32 + 5);
    policy.guessed(&[missing]);
    table.set_ready(Some(u64::from(SLICE) - 1));
    let next =
        |policy: &mut Learned, table: &BlockTable| policy.next_read(table, 0).or_else(|| policy.next_idle(table, 0));
    assert_eq!(next(&mut policy, &table), None, "neither a guess nor what may be of use some day");
    policy.routed(&table, &[(slice(held.len() as u32 + 7), 1.0)]);
    assert_eq!(policy.next_read(&table, 0), Some(slice(held.len() as u32 + 7)));
    table.set_state(slice(held.len() as u32 + 7), State::Reading);
    table.set_ready(Some(u64::from(SLICE)));
    assert_eq!(policy.next_read(&table, 0), Some(missing), "the guess, which was not forgotten");
    // Where the pool is full a victim's memory is there.
    table.set_ready(Some(0));
    table.set_budget(table.held_bytes());
    assert!(table.is_ready(missing));
}

#[test]
fn a_chosen_expert_takes_the_memory_of_a_colder_one_of_another_layer() {
    let mut table = table(500);
    let mut policy = Learned::led_by_routers();
    policy.mapped(&table, 0..table.len() as BlockId, &(0..DENSE).collect::<Vec<_>>());
    touch(&mut table, &mut policy, 0);
    let choose = |table: &mut BlockTable, policy: &mut Learned, number: u32, share: f64| {
        policy.routed(table, &[(slice(number), share)]);
        read_all(table, policy);
    };
    // Cold ones of the first layer, warm ones of the second, and then what is in use.
    (0..10).for_each(|number| choose(&mut table, &mut policy, number, 0.1));
    for number in (LAYER..LAYER + 10).chain(LAYER + 20..LAYER + 40) {
        choose(&mut table, &mut policy, number, 1.0);
    }
    let is_cold = |id: BlockId| (slice(0)..=slice(9)).contains(&id);
    let [other_layer, own_layer] = [slice(LAYER + 15), slice(15)];
    for id in [other_layer, own_layer] {
        policy.routed(&table, &[(id, 1.0)]);
        assert_eq!(policy.exchange(&table, id), None, "memory comes as fast as reads do");
    }
    table.set_ready(Some(0));
    let victim = policy.exchange(&table, other_layer).expect("it is chosen, and has no memory");
    assert!(is_cold(victim), "{victim}");
    table.set_state(victim, State::Absent);
    assert_eq!(policy.exchange(&table, DENSE - 1), None, "the dense part is needed in every cycle");
    // Of its own layer none, of the other one none that is warmer.
    let hot = slice(LAYER + 16);
    policy.routed(&table, &[(slice(16), 0.05)]);
    for wanted in [own_layer, slice(16)] {
        let victim = policy.exchange(&table, wanted);
        assert!(victim.is_none_or(|id| id >= slice(LAYER)), "{victim:?} of its own layer");
    }
    assert_eq!(policy.exchange(&table, slice(16)), None);
    policy.routed(&table, &[(hot, 1.0)]);
    table.set_ready(Some(u64::from(SLICE)));
    assert_eq!(policy.exchange(&table, hot), None, "there is memory for it");
}

#[test]
fn what_is_computed_now_is_evicted_last() {
    let mut table = table(20);
    let mut experts = Experts::default();
    let hold = |experts: &mut Experts, table: &mut BlockTable, slice: BlockId| {
        experts.routed(table, &[(slice, 1.0)]);
        if table.state(slice) == State::Absent {
            experts.expect(table, slice);
            table.set_state(slice, State::Reading);
            table.set_state(slice, State::Staged);
        }
    };
    // Two passes through the first layer made these warm.
    for _ in 0..2 {
        (0..100).for_each(|number| hold(&mut experts, &mut table, slice(number)));
        experts.routed(&table, &[(slice(LAYER + 299), 1.0)]);
    }
    // The second chooses more than the newest blocks that count as in use.
    (0..90).for_each(|number| hold(&mut experts, &mut table, slice(LAYER + number)));
    let evictable = |experts: &Experts, layer: u32, numbers: Range<u32>| {
        numbers.filter(|number| experts.is_evictable(&table, slice(layer * LAYER + number))).count()
    };
    assert_eq!([evictable(&experts, 0, 0..100), evictable(&experts, 1, 0..90)], [100, 0]);
    // The next pass has begun: only the newest are kept.
    experts.routed(&table, &[(slice(299), 1.0)]);
    assert_eq!([evictable(&experts, 0, 0..100), evictable(&experts, 1, 0..90)], [100, 90 - IN_USE as usize + 1]);
}

#[test]
fn a_block_of_the_cycle_is_neither_guessed_nor_foreseen() {
    let mut table = table(20);
    let mut policy = Learned::led_by_routers();
    // In no order, so that only a guess could name it.
    let shared = 3;
    let order: Vec<BlockId> = (0..DENSE).filter(|&id| id != shared).collect();
    policy.mapped(&table, 0..table.len() as BlockId, &order);
    touch(&mut table, &mut policy, 0);
    while let Some(id) = policy.next_read(&table, GUESSED_READS) {
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
    }
    policy.guessed(&[shared, slice(50)]);
    assert_eq!(policy.next_read(&table, 0), Some(slice(50)));
    let mut experts = Experts::default();
    experts.foresee(&table, &[vec![shared, slice(50)]]);
    assert_eq!(experts.next_idle(&table, |_, _| true), Some(slice(50)));
}

#[test]
fn what_was_nearly_chosen_is_read_first_with_its_edges() {
    let mut table = table(20);
    let mut policy = policy(&table);
    touch(&mut table, &mut policy, 0);
    // The longer it has been near, the warmer it is.
    for (number, passes) in [(30, 3), (31, 9), (32, 1)] {
        (0..passes).for_each(|_| policy.affine(&table, &[(slice(number), 0.6)]));
    }
    policy.affine(&table, &[(slice(33), 0.1)]);
    let read = read_all(&mut table, &mut policy);
    let edge = |number: u32| slice(number) + 1;
    assert_eq!(read, [edge(30), edge(31), slice(31), edge(29), slice(30)], "the others are not near enough");
    // When nothing likely is missing any more, just any are read.
    for layer in [1, 0, 1, 0] {
        policy.routed(&table, &[(slice(layer * LAYER + 30), 1.0)]);
        read_all(&mut table, &mut policy);
    }
    assert_ne!(table.state(slice(0)), State::Absent);
}

#[test]
fn what_was_nearly_chosen_takes_the_memory_of_what_is_clearly_colder() {
    let mut table = table(20);
    let mut policy = policy(&table);
    touch(&mut table, &mut policy, 0);
    let held = read_all(&mut table, &mut policy);
    let choose = |policy: &mut Learned, passes: u32, ids: &[BlockId]| {
        for _ in 0..passes {
            ids.iter().for_each(|&id| policy.routed(&table, &[(id, 1.0)]));
            policy.routed(&table, &[(slice(LAYER), 1.0)]);
        }
    };
    let near = slice(SLICES - 1);
    choose(&mut policy, 9, &held);
    // Likely enough to be read into free memory, of which there is none.
    (0..2).for_each(|_| policy.affine(&table, &[(near, 0.9)]));
    assert_eq!(policy.next_idle(&table, 0), None, "everything held is warmer");
    let warm: Vec<BlockId> = held.iter().copied().step_by(2).collect();
    choose(&mut policy, 40, &warm);
    (0..9).for_each(|_| policy.affine(&table, &[(near, 0.9)]));
    let read = policy.next_idle(&table, 0).expect("one is cold");
    assert_eq!(read, near - 1, "the edge before it");
    let victim = policy.victim(&table, Some(read), Need::Readahead);
    assert!(victim.is_some_and(|id| held.contains(&id) && !warm.contains(&id)), "{victim:?}");
}

#[test]
fn where_routers_are_not_heard_a_touch_shows_that_a_read_was_right() {
    let mut table = table(SLICES);
    let mut experts = Experts::default();
    experts.foresee(&table, &(0..SLICES).map(|number| vec![slice(number)]).collect::<Vec<_>>());
    // Choices of what has no slices tell nothing.
    experts.routed(&table, &[]);
    assert!(!experts.is_heard());
    let read = |experts: &mut Experts, table: &mut BlockTable, waste: f32, touches: bool| {
        table.set_waste(waste);
        let id = experts.next_idle(table, |_, _| true)?;
        table.set_state(id, State::Reading);
        table.set_state(id, State::Staged);
        if touches {
            experts.touched(table, id);
        }
        Some(id)
    };
    assert_eq!(read(&mut experts, &mut table, 0.5, true), None, "every fifth is thought to be right");
    assert!((0..200).all(|_| read(&mut experts, &mut table, 0.1, true).is_some()));
    assert!(read(&mut experts, &mut table, 0.5, false).is_some(), "all were");
}

#[test]
fn what_is_gone_does_not_count_against_what_comes() {
    let mut table = table(SLICES);
    let mut experts = Experts::default();
    let foresee = |experts: &mut Experts, table: &BlockTable| {
        experts.foresee(table, &(0..SLICES).map(|number| vec![slice(number)]).collect::<Vec<_>>());
    };
    foresee(&mut experts, &table);
    table.set_waste(0.01);
    assert!((0..400).all(|_| experts.next_idle(&table, |_, _| true).is_some()));
    experts.forget(&table, &(0..table.len() as BlockId));
    // Long after.
    for _ in 0..5000 {
        [LAYER, 0].iter().for_each(|&number| experts.heat.used(&table, [(slice(number), 1.0)]));
    }
    foresee(&mut experts, &table);
    table.set_waste(0.15);
    assert!((0..50).all(|_| experts.next_idle(&table, |_, _| true).is_some()));
}
