//! Tests of the pool.

use super::super::fresh::Rate;
use super::*;
use crate::pager::region::{PAGE, is_resident};

/// Plain memory.
struct Plain;

impl Ground for Plain {
    fn reserved(&self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

/// Where pages are carried by copying; those at or above the limit are pinned.
struct Carrying(usize);

impl Ground for Carrying {
    fn reserved(&self, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    fn carries(&self) -> bool {
        true
    }

    fn carry(&self, to: usize, from: usize, len: usize) -> Result<(), (usize, io::Error)> {
        assert!(!is_resident(to) && is_resident(from + len - PAGE));
        let done = len.min(self.0.saturating_sub(from));
        // SAFETY: slots of the pool that nobody else uses.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, done) };
        advise(from..from + done, Advice::LinuxDontNeed).unwrap();
        if done == len { Ok(()) } else { Err((done, io::Error::from_raw_os_error(libc::EBUSY))) }
    }
}

/// A pool with one spare slot of each size, every page of which begins with its number.
fn with_spare(sizes: &[usize]) -> Pool {
    let mut pool = Pool::default();
    let slots: Vec<u32> = sizes.iter().map(|&bytes| pool.take_full(bytes, &Plain).unwrap()).collect();
    for (slot, page) in slots.iter().flat_map(|&slot| pool.slots.range(slot).step_by(PAGE)).zip(1u64..) {
        // SAFETY: a page of a slot in hand.
        unsafe { *(slot as *mut u64) = page };
    }
    slots.into_iter().for_each(|slot| pool.put_full(slot));
    pool
}

fn pages(pool: &Pool, slot: u32) -> Vec<u64> {
    // SAFETY: pages of a slot in hand.
    pool.slots.range(slot).step_by(PAGE).map(|page| unsafe { *(page as *const u64) }).collect()
}

/// The spare slots of a size.
fn full(pool: &mut Pool, slot_bytes: usize) -> Vec<u32> {
    pool.slots.of_bytes(slot_bytes).full.clone()
}

fn prepared(room_bytes: u64) -> Pool {
    let mut pool = Pool::default();
    pool.grant(room_bytes);
    pool.prepare(&Plain).unwrap();
    pool
}

/// Waits until all that was asked for is ready.
fn ready(pool: &mut Pool) {
    while pool.fresh.as_ref().is_some_and(|fresh| fresh.pending() > 0) {
        pool.collect();
        std::thread::yield_now();
    }
}

#[test]
fn slots_are_prepared_within_the_room_and_the_lookahead() {
    let mut pool = prepared(3 * HUGE as u64 + 1);
    assert_eq!(pool.spare_bytes(), 3 * HUGE as u64);
    for (room_bytes, ahead_bytes) in [(AHEAD_BYTES_MIN, AHEAD_BYTES_MIN), (u64::MAX, AHEAD_BYTES_MAX)] {
        // As many again do not come on top.
        for _ in 0..2 {
            pool.grant(room_bytes);
            pool.prepare(&Plain).unwrap();
            assert_eq!(pool.spare_bytes(), ahead_bytes);
        }
        // Most of it is taken back: nobody is to zero half a gibibyte for a test.
        pool.free_spare(0);
        assert_eq!(pool.spare_bytes(), 0);
    }
    // A quarter of what then remains.
    ready(&mut pool);
    pool.grant(400 << 20);
    pool.prepare(&Plain).unwrap();
    assert_eq!((pool.spare_bytes(), pool.room_bytes), (80 << 20, 320 << 20));
    pool.free_spare(0);
}

#[test]
fn a_prepared_slot_has_memory_and_is_taken_before_any_other() {
    let mut pool = prepared(2 * HUGE as u64);
    ready(&mut pool);
    assert!(pool.cpu_ns() > 0);
    for left in [1, 0] {
        let slot = pool.take_full(HUGE, &Plain).unwrap();
        assert!(is_resident(pool.addr(slot)) && is_resident(pool.addr(slot) + HUGE - PAGE));
        assert_eq!(pool.spare_bytes(), left * HUGE as u64);
    }
    let fresh = pool.take_full(HUGE, &Plain).unwrap();
    assert_eq!(pool.spare_bytes(), 0);
    pool.put_full(fresh);
    assert_eq!(pool.spare_bytes(), HUGE as u64);
}

#[test]
fn nobody_waits_for_a_thread_that_gives_way() {
    let mut pool = prepared(4 * HUGE as u64);
    let room_bytes = pool.room_bytes;
    // More than is asked for, and whether a thread has begun with any of it or not.
    let slots: Vec<u32> = (0..5).map(|_| pool.take_full(HUGE, &Plain).unwrap()).collect();
    for &slot in &slots {
        assert!(is_resident(pool.addr(slot)) && is_resident(pool.addr(slot) + HUGE - PAGE));
    }
    let pending = pool.fresh.as_ref().unwrap().pending();
    assert!(pool.spare_bytes() <= (pending * HUGE) as u64 && pool.room_bytes <= room_bytes);
    // What a thread has begun with is freed when it is ready, and does not count from now on.
    pool.free_spare(0);
    assert_eq!(pool.spare_bytes(), 0);
    ready(&mut pool);
    assert_eq!((pool.spare_bytes(), pool.condemned), (0, 0));
    assert!(full(&mut pool, HUGE).is_empty());
}

#[test]
fn ready_is_what_has_memory() {
    let mut pool = prepared(2 * HUGE as u64);
    pool.fresh.as_mut().unwrap().claim(Rate::Fast);
    assert_eq!(pool.ready_bytes(), None, "the rest comes as fast");
    ready(&mut pool);
    pool.fresh.as_mut().unwrap().claim(Rate::Slow);
    assert_eq!(pool.ready_bytes(), Some(2 * HUGE as u64));
    let slot = pool.take_full(HUGE, &Plain).unwrap();
    assert_eq!(pool.ready_bytes(), Some(HUGE as u64));
    pool.put_full(slot);
    // Asked for, and not there yet.
    pool.grant(8 * HUGE as u64);
    pool.prepare(&Plain).unwrap();
    let asked_bytes = (pool.fresh.as_ref().unwrap().pending() * HUGE) as u64;
    let unmade_bytes = pool.unmade_bytes();
    assert!(unmade_bytes <= asked_bytes && asked_bytes > 0);
    let ready_bytes = pool.ready_bytes().unwrap();
    assert!(ready_bytes >= pool.spare_bytes() - unmade_bytes, "it becomes less");
    let pending_bytes = (pool.fresh.as_ref().unwrap().pending() * HUGE) as u64;
    assert_eq!(ready_bytes + pending_bytes, pool.spare_bytes());
    ready(&mut pool);
    assert_eq!(pool.unmade_bytes(), 0);
}

#[test]
fn an_empty_slot_is_none_that_is_being_prepared() {
    let mut pool = prepared(AHEAD_BYTES_MIN);
    let empty = pool.take_empty(HUGE, &Plain).unwrap();
    ready(&mut pool);
    for _ in 0..AHEAD_BYTES_MIN / HUGE as u64 {
        assert_ne!(pool.take_full(HUGE, &Plain).unwrap(), empty);
    }
    assert!(!is_resident(pool.addr(empty)));
}

#[test]
fn what_is_prepared_is_freed_as_well() {
    let mut pool = prepared(AHEAD_BYTES_MIN);
    ready(&mut pool);
    pool.free_spare(HUGE as u64);
    assert_eq!(pool.spare_bytes(), HUGE as u64);
    pool.prepare(&Plain).unwrap();
    assert_eq!(pool.spare_bytes(), HUGE as u64, "nothing is granted any more");
    pool.free_spare(0);
    assert_eq!(pool.spare_bytes(), 0);
    let empty = pool.take_empty(HUGE, &Plain).unwrap();
    assert!(!is_resident(pool.addr(empty)));
}

#[test]
fn another_size_does_not_free_what_is_prepared_while_there_is_room() {
    let small = HUGE / 8;
    let mut pool = prepared(2 * HUGE as u64 + 2 * small as u64);
    for _ in 0..2 {
        pool.take_full(small, &Plain).unwrap();
        assert_eq!(pool.spare_bytes(), 2 * HUGE as u64);
    }
    // The room is used up: the sum of all memory may not grow by a third one.
    pool.take_full(small, &Plain).unwrap();
    assert_eq!(pool.spare_bytes(), HUGE as u64);
}

#[test]
fn pages_of_other_sizes_are_carried_over() {
    let mut pool = with_spare(&[5 * PAGE, 2 * PAGE]);
    let emptied = full(&mut pool, 5 * PAGE)[0];
    let slot = pool.take_full(3 * PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pages(&pool, slot), [1, 2, 3], "of the class that has most");
    assert_eq!(pool.spare_bytes(), 4 * PAGE as u64);
    let slot = pool.take_full(4 * PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pages(&pool, slot), [4, 5, 6, 7], "first what is left of the one before");
    assert_eq!(pool.spare_bytes(), 0);
    let slot = pool.take_full(PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pages(&pool, slot), [0], "fresh");
    let slot = pool.take_empty(5 * PAGE, &Plain).unwrap();
    assert!(slot == emptied && !is_resident(pool.addr(slot)), "used again");
}

#[test]
fn fresh_memory_is_in_the_sum() {
    let mut pool = with_spare(&[2 * PAGE]);
    pool.grant(PAGE as u64);
    let slot = pool.take_full(3 * PAGE, &Carrying(usize::MAX)).unwrap();
    // What a huge page has more than was wanted is spare; what is more than was granted is freed elsewhere.
    let rest = (HUGE - 3 * PAGE) as u64;
    assert_eq!((pages(&pool, slot), pool.spare_bytes(), pool.room_bytes), (vec![0; 3], rest, 0));
    assert_eq!((pool.slots.small_bytes(), pool.remnants.bytes() as u64), (0, rest));
}

#[test]
fn a_remnant_is_freed_as_well() {
    let mut pool = with_spare(&[3 * PAGE]);
    pool.take_full(PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!((pool.remnants.bytes(), pool.spare_bytes()), (2 * PAGE, 2 * PAGE as u64));
    let rest = pool.remnants.take().unwrap();
    pool.remnants.put(rest.clone());
    pool.free_spare(0);
    assert_eq!((pool.remnants.bytes(), pool.spare_bytes()), (0, 0));
    assert!(!is_resident(rest.1.start));
}

#[test]
fn pinned_pages_are_left_and_freed() {
    let mut pool = with_spare(&[3 * PAGE]);
    let spare = full(&mut pool, 3 * PAGE)[0];
    let first = pool.addr(spare);
    pool.grant(PAGE as u64);
    let slot = pool.take_full(2 * PAGE, &Carrying(first + PAGE)).unwrap();
    assert_eq!((pages(&pool, slot), pool.spare_bytes()), (vec![1, 0], 0));
    assert!(!is_resident(first + 2 * PAGE));
}

/// Numbers the first pages of the only spare huge slot, from 100 on; gives where it lies.
fn numbered_huge(pool: &mut Pool) -> Range<usize> {
    let spare = full(pool, HUGE)[0];
    let huge = pool.slots.range(spare);
    for (page, number) in huge.clone().step_by(PAGE).zip(100u64..).take(9) {
        // SAFETY: a page of a spare slot.
        unsafe { *(page as *mut u64) = number };
    }
    huge
}

#[test]
fn huge_frames_are_not_made_of_pages_and_taken_apart_only_where_too_few_pages_are() {
    let mut pool = with_spare(&[HUGE, 3 * PAGE]);
    let huge = numbered_huge(&mut pool);
    let slot = pool.take_full(2 * PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pages(&pool, slot).len(), 2);
    assert_eq!((pool.spare_bytes(), full(&mut pool, HUGE).len()), ((HUGE + PAGE) as u64, 1));
    let slot = pool.take_full(4 * PAGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pages(&pool, slot), [100, 101, 102, 103]);
    assert_eq!((pool.spare_bytes(), full(&mut pool, HUGE).len()), ((HUGE - 3 * PAGE) as u64, 0));
    // The address has a page table now.
    pool.grant(HUGE as u64);
    let next = pool.take_full(HUGE, &Carrying(usize::MAX)).unwrap();
    assert_eq!(pool.spare_bytes(), (HUGE - 3 * PAGE) as u64);
    pool.free_spare(0);
    let last = pool.take_full(HUGE, &Carrying(0)).unwrap();
    assert!(pool.spare_bytes() == 0 && pool.addr(next) != huge.start && pool.addr(last) != huge.start);
}

#[test]
fn what_lies_together_is_cut_and_not_carried() {
    let mut pool = with_spare(&[HUGE]);
    let huge = numbered_huge(&mut pool);
    // Nothing can be carried here.
    let ground = Carrying(0);
    let first = pool.take_full(2 * PAGE, &ground).unwrap();
    let second = pool.take_full(3 * PAGE, &ground).unwrap();
    assert_eq!([pages(&pool, first), pages(&pool, second)].concat(), [100, 101, 102, 103, 104]);
    assert_eq!(pool.slots.range(second), huge.start + 2 * PAGE..huge.start + 5 * PAGE);
    assert_eq!((pool.slot_bytes(first), pool.spare_bytes()), (2 * PAGE, (HUGE - 5 * PAGE) as u64));
    // One comes back with its memory, one without.
    pool.put_full(second);
    pool.put_empty(first);
    assert_eq!(pool.spare_bytes(), (HUGE - 2 * PAGE) as u64);
    let again = pool.take_full(PAGE, &ground).unwrap();
    assert_eq!(
        (pages(&pool, again), pool.spare_bytes()),
        (vec![102], (HUGE - 3 * PAGE) as u64),
        "the smallest remnant"
    );
    pool.free_spare(0);
    assert!(pool.spare_bytes() == 0 && is_resident(huge.start + 2 * PAGE) && !is_resident(huge.start + 3 * PAGE));
}

#[test]
fn rests_that_make_a_slot_together_are_carried() {
    let mut pool = with_spare(&[HUGE, HUGE]);
    let most = HUGE - 2 * PAGE;
    let ground = Carrying(usize::MAX);
    let cuts = [most, most].map(|bytes| pool.take_full(bytes, &ground).unwrap());
    assert!(cuts.iter().all(|&cut| Slots::is_cut(cut)));
    assert_eq!((pool.remnants.bytes(), pool.spare_bytes()), (4 * PAGE, 4 * PAGE as u64));
    let slot = pool.take_full(4 * PAGE, &ground).unwrap();
    assert!(!Slots::is_cut(slot) && pool.spare_bytes() == 0 && is_resident(pool.slots.range(slot).end - PAGE));
}

#[test]
fn what_is_prepared_is_apart_where_single_pages_were_wanted() {
    let mut pool = Pool::default();
    let ground = Carrying(0);
    pool.take_full(PAGE, &ground).unwrap();
    pool.free_spare(0);
    pool.grant(2 * HUGE as u64);
    pool.prepare(&ground).unwrap();
    ready(&mut pool);
    assert_eq!((pool.slots.apart.len(), pool.spare_bytes()), (2, 2 * HUGE as u64));
    assert_eq!(pool.ahead_bytes(), 2 * HUGE);
    // One in single pages has them all, none of them zero.
    let slot = pool.take_full(HUGE - PAGE, &ground).unwrap();
    let range = pool.slots.range(slot);
    assert!(range.clone().step_by(PAGE).all(is_resident));
    assert_eq!((pool.slots.apart.len(), pool.spare_bytes()), (1, (HUGE + PAGE) as u64));
    // Whoever wants a whole one does not get the other.
    let whole = pool.take_full(HUGE, &ground).unwrap();
    assert_ne!(pool.addr(whole) / HUGE, range.start / HUGE);
    pool.free_spare(0);
    assert!(pool.slots.apart.is_empty() && pool.spare_bytes() == 0);
    pool.grant(HUGE as u64);
    pool.prepare(&ground).unwrap();
    ready(&mut pool);
    assert_eq!(full(&mut pool, HUGE).len(), 1, "whole ones were wanted last");
}

#[test]
fn a_small_slot_lies_within_one_page_table() {
    let mut pool = Pool::default();
    for slot_bytes in [HUGE / 2, HUGE / 3 / PAGE * PAGE, 100 * PAGE, PAGE] {
        // More than a chunk of the largest; none of them gets memory.
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for _ in 0..300 {
            let slot = pool.take_empty(slot_bytes, &Plain).unwrap();
            ranges.push(pool.slots.range(slot));
        }
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.iter().all(|range| range.start / HUGE == (range.end - 1) / HUGE), "{slot_bytes}");
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{slot_bytes}");
    }
}
