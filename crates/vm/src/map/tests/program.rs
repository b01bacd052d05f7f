//! What programs get, type by type: results and error numbers of helpers.

#![expect(unsafe_code, reason = "plays the part of programs")]

use crate::map::{
    Definition, EXIST, Errno, FORCE_WAKEUP, Map, MapError, NO_WAKEUP, NOEXIST, PERF_MAX_RECORD, SpecialField,
    SpecialKind, TailTarget, pin, ringbuf_discard, ringbuf_submit,
};
use skep_abi::{MapType as M, flags::BPF_F_CURRENT_CPU};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

const CPUS: u32 = 3;

fn map(map_type: M, key: u32, value: u32, entries: u32) -> Arc<Map> {
    let flags = u64::from(map_type == M::LpmTrie);
    Map::create(&Definition::new("m", map_type, key, value, entries).with_flags(flags), CPUS).expect("a map")
}

fn errno(result: i64) -> &'static str {
    if result == 0 { "ok" } else { Errno(-result as i32).name() }
}

/// The helpers with numbers for keys and values, for maps with keys of 4 bytes and values of 8.
struct Program<'m>(&'m Map);

impl Program<'_> {
    fn at(&self, key: u32, cpu: u32) -> Option<*mut u64> {
        // SAFETY: a key of 4 bytes; every test is pinned.
        let at = unsafe { self.0.lookup((&raw const key).cast(), cpu) };
        (!at.is_null()).then_some(at.cast())
    }

    fn get(&self, key: u32, cpu: u32) -> Option<u64> {
        // SAFETY: a value of 8 bytes.
        self.at(key, cpu).map(|at| unsafe { *at })
    }

    fn get_of(&self, key: u32, cpu: u32) -> Option<u64> {
        // SAFETY: as above.
        let at = unsafe { self.0.lookup_percpu((&raw const key).cast(), cpu) };
        // SAFETY: as above.
        (!at.is_null()).then(|| unsafe { *at.cast() })
    }

    fn set(&self, key: u32, value: u64, flags: u64, cpu: u32) -> &'static str {
        // SAFETY: as above.
        errno(unsafe { self.0.update((&raw const key).cast(), (&raw const value).cast(), flags, cpu) })
    }

    fn delete(&self, key: u32) -> &'static str {
        // SAFETY: as above.
        errno(unsafe { self.0.delete((&raw const key).cast()) })
    }

    fn push(&self, value: u64, flags: u64) -> &'static str {
        // SAFETY: as above.
        errno(unsafe { self.0.push((&raw const value).cast(), flags) })
    }

    fn pop(&self) -> (&'static str, u64) {
        let mut value = 99u64;
        // SAFETY: as above.
        (errno(unsafe { self.0.pop((&raw mut value).cast()) }), value)
    }

    fn peek(&self, mut value: u64) -> (&'static str, u64) {
        // SAFETY: as above.
        (errno(unsafe { self.0.peek((&raw mut value).cast()) }), value)
    }

    fn walk(&self, flags: u64, cpu: u32, stop_at: usize) -> (i64, Vec<(u32, u64)>) {
        let mut seen = Vec::new();
        let mut each = |key: *mut u8, value: *mut u8| {
            // SAFETY: as above.
            seen.push(unsafe { (key.cast::<u32>().read(), value.cast::<u64>().read()) });
            u64::from(seen.len() == stop_at)
        };
        // SAFETY: pinned.
        let calls = unsafe { self.0.for_each(flags, cpu, &mut each) };
        seen.sort_unstable();
        (calls, seen)
    }
}

#[test]
fn arrays() {
    let (map, _guard) = (map(M::Array, 4, 8, 3), pin());
    let program = Program(&map);
    assert_eq!(program.get(0, 0), Some(0));
    assert_eq!(program.set(2, 5, 0, 0), "ok");
    assert_eq!((program.get(2, 0), program.get(2, 2), program.get(3, 0)), (Some(5), Some(5), None));
    assert_eq!(program.set(3, 5, 0, 0), "E2BIG");
    assert_eq!(program.set(0, 5, NOEXIST, 0), "EEXIST");
    assert_eq!(program.set(0, 5, EXIST, 0), "ok");
    assert_eq!(program.set(0, 5, 3, 0), "EINVAL");
    assert_eq!(program.set(0, 5, 4, 0), "EINVAL", "no spin lock in it");
    assert_eq!(program.delete(0), "EINVAL");
    assert_eq!(program.push(1, 0), "EOPNOTSUPP");
    assert_eq!(program.walk(0, 0, 0), (3, vec![(0, 5), (1, 0), (2, 5)]));
    assert_eq!(program.walk(0, 0, 2).0, 2);
    assert_eq!(program.walk(1, 0, 0).0, -22);
    assert_eq!(program.get_of(0, 0), None, "not by CPU");
    let facts = map.array_facts().expect("an array");
    assert_eq!((facts.stride, facts.cpu_stride, facts.max_entries, facts.index_mask), (8, 0, 3, 3));
    assert_eq!(program.at(2, 0).expect("there").cast::<u8>(), facts.base.wrapping_add(2 * 8));
}

#[test]
fn index_masks_cover_every_index() {
    for (entries, mask) in
        [(1, 0), (2, 1), (3, 3), (4, 3), (5, 7), (1 << 20, (1 << 20) - 1), ((1 << 20) + 1, (1 << 21) - 1)]
    {
        let map = map(M::Array, 4, 1, entries);
        let facts = map.array_facts().expect("an array");
        assert_eq!((facts.index_mask, facts.stride), (mask, 8), "{entries}");
        // SAFETY: memory is there for each index under the mask.
        unsafe { assert_eq!(*facts.base.add(mask as usize * facts.stride + 7), 0) };
    }
}

#[test]
fn arrays_by_cpu() {
    let (map, _guard) = (map(M::PercpuArray, 4, 8, 2), pin());
    let program = Program(&map);
    for cpu in 0..CPUS {
        assert_eq!(program.set(1, 10 + u64::from(cpu), 0, cpu), "ok");
    }
    assert_eq!((program.get(1, 0), program.get(1, 2), program.get_of(1, 1)), (Some(10), Some(12), Some(11)));
    assert_eq!((program.get_of(1, CPUS), program.get_of(2, 0)), (None, None));
    assert_eq!(program.set(1, 0, 4, 0), "EINVAL");
    assert_eq!(program.walk(0, 1, 0), (2, vec![(0, 0), (1, 11)]));
    let all = map.user().lookup(&1u32.to_ne_bytes(), 0).expect("there");
    assert_eq!(all, [10u64, 11, 12].map(u64::to_ne_bytes).concat());
    let facts = map.array_facts().expect("an array");
    let expected = facts.base.wrapping_add(2 * facts.cpu_stride + facts.stride);
    assert_eq!(program.at(1, 2).expect("there").cast::<u8>(), expected);
}

#[test]
fn hashes() {
    for map_type in [M::Hash, M::PercpuHash] {
        let (map, _guard) = (map(map_type, 4, 8, 2), pin());
        let program = Program(&map);
        assert_eq!(program.get(1, 0), None);
        assert_eq!(program.set(1, 5, EXIST, 0), "ENOENT");
        assert_eq!(program.set(1, 5, 3, 0), "EINVAL");
        assert_eq!(program.set(1, 5, 4, 0), "EINVAL");
        assert_eq!(program.set(1, 5, NOEXIST, 0), "ok");
        assert_eq!(program.set(1, 6, NOEXIST, 0), "EEXIST");
        assert_eq!(program.set(2, 7, 0, 0), "ok");
        assert_eq!(program.set(3, 8, 0, 0), "E2BIG");
        assert_eq!(program.set(2, 9, 0, 0), "ok", "full, but it is there");
        assert_eq!(program.walk(0, 0, 0), (2, vec![(1, 5), (2, 9)]));
        assert_eq!(program.delete(1), "ok");
        assert_eq!(program.delete(1), "ENOENT");
        assert_eq!(program.set(3, 8, 0, 0), "ok");
        assert_eq!((map.len(), program.get(3, 0)), (2, Some(8)));
        assert_eq!(program.pop().0, "EOPNOTSUPP");
    }
}

#[test]
fn a_new_element_is_zero_on_other_cpus() {
    for map_type in [M::PercpuHash, M::LruPercpuHash] {
        let map = map(map_type, 4, 8, 4);
        let program = Program(&map);
        // Many runs, so that elements come back with what was in them.
        for round in 0..2000 {
            let _guard = pin();
            for cpu in 0..CPUS {
                assert_eq!(program.set(1, 5, 0, cpu), "ok");
            }
            assert_eq!(program.get_of(1, 2), Some(5));
            assert_eq!(program.delete(1), "ok");
            assert_eq!(program.set(1, 6, 0, 1), "ok");
            let all: Vec<_> = (0..CPUS).map(|cpu| program.get_of(1, cpu)).collect();
            assert_eq!(all, [Some(0), Some(6), Some(0)], "round {round}");
            assert_eq!(program.delete(1), "ok");
        }
    }
}

#[test]
fn a_held_value_outlives_its_key() {
    let (map, guard) = (map(M::Hash, 4, 8, 1), pin());
    let program = Program(&map);
    program.set(1, 41, 0, 0);
    let held = program.at(1, 0).expect("there");
    program.set(1, 42, 0, 0);
    let second = program.at(1, 0).expect("there");
    program.delete(1);
    for i in 0..2000 {
        assert_eq!(program.set(2, 1000 + i, 0, 0), "ok");
        assert_eq!(program.delete(2), "ok");
    }
    // SAFETY: still pinned.
    assert_eq!(unsafe { (*held, *second) }, (41, 42));
    drop(guard);
}

#[test]
fn a_callback_may_delete_what_it_is_at() {
    let (map, _guard) = (map(M::Hash, 4, 8, 100), pin());
    for key in 0..100 {
        Program(&map).set(key, 1, 0, 0);
    }
    let mut each = |key: *mut u8, value: *mut u8| {
        // SAFETY: pinned; key and value are those of the map.
        unsafe {
            assert_eq!(map.delete(key), 0);
            assert_eq!(*value.cast::<u64>(), 1);
        }
        0
    };
    // SAFETY: pinned.
    assert_eq!(unsafe { map.for_each(0, 0, &mut each) }, 100);
    assert!(map.is_empty());
}

#[test]
fn a_full_lru_map_gives_up_what_is_old_and_unused() {
    for map_type in [M::LruHash, M::LruPercpuHash] {
        let (map, _guard) = (map(map_type, 4, 8, 100), pin());
        let program = Program(&map);
        for key in 0..100 {
            assert_eq!(program.set(key, u64::from(key), 0, 0), "ok");
        }
        for key in 0..10 {
            assert_eq!(program.get(key, 0), Some(u64::from(key)));
        }
        // User space looks without leaving a mark.
        assert!(map.user().lookup(&20u32.to_ne_bytes(), 0).is_ok());
        for key in 100..150 {
            assert_eq!(program.set(key, u64::from(key), 0, 0), "ok");
            assert_eq!(map.len(), 100);
        }
        let left: Vec<u32> = program.walk(0, 0, 0).1.into_iter().map(|(key, _)| key).collect();
        let expected: Vec<u32> = (0..10).chain(60..150).collect();
        assert_eq!(left, expected, "the used ones, and the newest");
        assert_eq!(program.set(1, 1, NOEXIST, 0), "EEXIST");
        assert_eq!(program.set(1000, 1, EXIST, 0), "ENOENT");
        assert_eq!(program.set(1, 1, 4, 0), "EINVAL");
        // All used: one goes all the same.
        for key in expected {
            program.get(key, 0);
        }
        assert_eq!((program.set(1000, 1, 0, 0), map.len()), ("ok", 100));
    }
}

#[test]
fn an_lru_map_of_one() {
    let (map, _guard) = (map(M::LruHash, 4, 8, 1), pin());
    let program = Program(&map);
    for key in 0..1000 {
        assert_eq!((program.set(key, 1, 0, 0), map.len()), ("ok", 1));
        assert_eq!(program.get(key, 0), Some(1));
    }
}

#[test]
fn longest_prefixes() {
    let (map, _guard) = (map(M::LpmTrie, 8, 8, 3), pin());
    let key = |len: u32, ip: [u8; 4]| [len.to_ne_bytes(), ip].concat();
    // SAFETY: keys and values have the map's sizes; pinned.
    unsafe {
        let set =
            |len, ip, value: u64, flags| errno(map.update(key(len, ip).as_ptr(), (&raw const value).cast(), flags, 0));
        let get = |len, ip| {
            let at = map.lookup(key(len, ip).as_ptr(), 0).cast::<u64>();
            (!at.is_null()).then(|| *at)
        };
        assert_eq!(set(8, [10, 0, 0, 0], 8, 0), "ok");
        assert_eq!(set(16, [10, 1, 0, 0], 16, NOEXIST), "ok");
        assert_eq!(set(16, [10, 1, 9, 9], 17, NOEXIST), "EEXIST", "bits behind the prefix do not count");
        assert_eq!(set(24, [10, 1, 2, 0], 24, EXIST), "ENOENT");
        assert_eq!(set(33, [0; 4], 1, 0), "EINVAL");
        assert_eq!(set(8, [0; 4], 1, 3), "EINVAL");
        assert_eq!(set(0, [0; 4], 0, 0), "ok");
        assert_eq!(set(24, [10, 1, 2, 0], 24, 0), "ENOSPC");
        assert_eq!(get(32, [10, 1, 2, 3]), Some(16));
        assert_eq!(get(32, [10, 2, 2, 3]), Some(8));
        assert_eq!(get(32, [11, 2, 2, 3]), Some(0));
        assert_eq!(get(12, [10, 1, 0, 0]), Some(8), "shorter than 16 bits");
        assert_eq!(get(33, [10, 1, 2, 3]), None);
        assert_eq!(errno(map.delete(key(33, [0; 4]).as_ptr())), "EINVAL");
        assert_eq!(errno(map.delete(key(9, [10, 0, 0, 0]).as_ptr())), "ENOENT");
        assert_eq!(errno(map.delete(key(8, [10, 0, 0, 0]).as_ptr())), "ok");
        assert_eq!(get(32, [10, 2, 2, 3]), Some(0));
        assert_eq!(map.for_each(0, 0, &mut |_, _| 0), -22);
    }
}

#[test]
fn queues_and_stacks() {
    for (map_type, order) in [(M::Queue, [1, 2]), (M::Stack, [2, 1])] {
        let map = map(map_type, 0, 8, 2);
        let program = Program(&map);
        assert_eq!(program.pop(), ("ENOENT", 0));
        assert_eq!(program.peek(7), ("ENOENT", 0));
        assert_eq!((program.push(1, 0), program.push(2, 0), program.push(3, 0)), ("ok", "ok", "E2BIG"));
        assert_eq!((program.push(1, NOEXIST), program.push(1, 4)), ("EINVAL", "EINVAL"));
        assert_eq!((program.peek(7), map.len()), (("ok", order[0]), 2));
        assert_eq!(program.pop(), ("ok", order[0]));
        assert_eq!(program.pop(), ("ok", order[1]));
        assert_eq!((program.push(4, 0), program.push(5, 0), program.push(6, EXIST)), ("ok", "ok", "ok"));
        let left = [program.pop().1, program.pop().1];
        assert_eq!(left, if map_type == M::Queue { [5, 6] } else { [6, 5] }, "the oldest made room");
    }
}

#[test]
fn bloom_filters() {
    let map = map(M::BloomFilter, 0, 8, 100);
    let program = Program(&map);
    assert_eq!((program.peek(5).0, program.push(5, 0), program.peek(5).0), ("ENOENT", "ok", "ok"));
    assert_eq!((program.push(5, 1), program.pop().0, program.delete(0)), ("EINVAL", "EOPNOTSUPP", "EOPNOTSUPP"));
}

#[test]
fn maps_of_maps() {
    let template = map(M::Array, 4, 8, 2);
    for outer_type in [M::ArrayOfMaps, M::HashOfMaps] {
        let mut definition = Definition::new("outer", outer_type, 4, 4, 2);
        definition.inner = Some(template.clone());
        let outer = Map::create(&definition, CPUS).expect("a map");
        let inner = map(M::Array, 4, 8, 2);
        let guard = pin();
        let program = Program(&outer);
        assert!(program.at(0, 0).is_none());
        outer.user().set_map(&[0; 4], inner.clone(), 0).expect("set");
        let found = program.at(0, 0).expect("there").cast::<Map>().cast_const();
        assert_eq!(found, Arc::as_ptr(&inner));
        // SAFETY: the address of a map, pinned.
        assert_eq!(Program(unsafe { &*found }).set(1, 77, 0, 0), "ok");
        assert_eq!(outer.user().lookup(&[0; 4], 0), Ok(inner.id().to_ne_bytes().to_vec()));
        assert!(Arc::ptr_eq(&outer.user().inner_map(&[0; 4]).expect("there"), &inner));
        assert_eq!(outer.user().update(&[0; 4], &[0; 4], 0), Err(Errno::EBADF));
        // Replaced and let go by everyone else, it lives as long as the run.
        outer.user().set_map(&[0; 4], template.clone(), 0).expect("set");
        let weak = Arc::downgrade(&inner);
        drop(inner);
        // SAFETY: pinned since the lookup.
        assert_eq!(Program(unsafe { &*found }).get(1, 0), Some(77));
        assert_eq!(outer.user().delete(&[0; 4]), Ok(()));
        assert_eq!(outer.user().delete(&[0; 4]), Err(Errno::ENOENT));
        drop(guard);
        for _ in 0..100_000 {
            pin().flush();
            if weak.upgrade().is_none() {
                break;
            }
            std::thread::yield_now();
        }
        assert!(weak.upgrade().is_none(), "let go when the run was over");
        assert_eq!(program.set(0, 0, 0, 0), if outer_type == M::HashOfMaps { "EINVAL" } else { "ENOTSUPP" });
    }
    // What still stands in a map of maps goes with it.
    let mut definition = Definition::new("outer", M::HashOfMaps, 4, 4, 2);
    definition.inner = Some(template.clone());
    let outer = Map::create(&definition, CPUS).expect("a map");
    let inner = map(M::Array, 4, 8, 2);
    let weak = Arc::downgrade(&inner);
    outer.user().set_map(&[0; 4], inner, 0).expect("set");
    drop(outer);
    for _ in 0..100_000 {
        pin().flush();
        if weak.upgrade().is_none() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the inner map is still there");
}

#[test]
fn program_arrays() {
    let map = map(M::ProgArray, 4, 4, 2);
    let target = Arc::new(TailTarget { entry: 0x1234, id: 9, program: Arc::new(()) });
    let guard = pin();
    assert!(map.tail_target(0).is_null() && map.tail_target(2).is_null());
    map.user().set_program(&1u32.to_ne_bytes(), target.clone(), 0).expect("set");
    assert_eq!(map.user().set_program(&2u32.to_ne_bytes(), target.clone(), 0), Err(Errno::E2BIG));
    assert_eq!(map.user().set_program(&1u32.to_ne_bytes(), target.clone(), 1), Err(Errno::EINVAL));
    assert_eq!(map.tail_target(1), Arc::as_ptr(&target));
    let (base, slots) = map.program_slots().expect("slots");
    // SAFETY: as machine code does it: slot 1, then the word at the address in it.
    unsafe {
        let slot = base.add(8).cast::<*const usize>().read();
        assert_eq!((slots, *slot), (2, 0x1234));
    }
    assert_eq!(map.user().lookup(&1u32.to_ne_bytes(), 0), Ok(9u32.to_ne_bytes().to_vec()));
    assert_eq!(map.user().delete(&1u32.to_ne_bytes()), Ok(()));
    assert_eq!(map.user().lookup(&1u32.to_ne_bytes(), 0), Err(Errno::ENOENT));
    drop(guard);
}

fn records(map: &Map) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let each = &mut |record: &[u8]| {
        all.push(record.to_vec());
        ControlFlow::Continue(())
    };
    map.user().poll(each).expect("a ring buffer");
    all
}

#[test]
fn ring_buffers() {
    let map = map(M::Ringbuf, 0, 0, 4096);
    // SAFETY: records are written within what was reserved, and ended once.
    unsafe {
        assert_eq!([0, 1, 2, 3, 4].map(|what| map.ringbuf_query(what)), [0, 4096, 0, 0, 0]);
        assert!(map.ringbuf_reserve(8, 1).is_null(), "no flags are known");
        let first = map.ringbuf_reserve(5, 0);
        assert!(map.ringbuf_range().expect("a ring").contains(&(first as usize)));
        assert_eq!(errno(map.ringbuf_output(b"second".as_ptr(), 6, 0)), "ok");
        assert_eq!(records(&map), Vec::<Vec<u8>>::new(), "the first is not ready");
        assert_eq!([0, 2, 3].map(|what| map.ringbuf_query(what)), [32, 0, 32]);
        first.copy_from_nonoverlapping(b"first".as_ptr(), 5);
        ringbuf_submit(first, 0);
        assert_eq!(records(&map), [b"first".to_vec(), b"second".to_vec()]);
        ringbuf_discard(map.ringbuf_reserve(100, 0), 0);
        assert_eq!(records(&map), Vec::<Vec<u8>>::new(), "passed over");
        assert_eq!(errno(map.ringbuf_output([0; 8].as_ptr(), 8, 4)), "EINVAL");
        // Full: a record of all bytes but one word would leave no room to tell full from empty.
        assert!(map.ringbuf_reserve(4096 - 8, 0).is_null());
        assert!(map.ringbuf_reserve(4096, 0).is_null() && map.ringbuf_reserve(1 << 31, 0).is_null());
        assert_eq!(map.user().lost(), [3]);
        let big = map.ringbuf_reserve(4096 - 16, 0);
        big.write_bytes(0xab, 4096 - 16);
        assert_eq!(errno(map.ringbuf_output([0; 8].as_ptr(), 8, 0)), "EAGAIN");
        ringbuf_submit(big, 0);
        assert_eq!(records(&map), [vec![0xab; 4096 - 16]], "in one piece around the end");
        // Around and around.
        for i in 0..2000u32 {
            let record = vec![i as u8; i as usize % 700];
            assert_eq!(errno(map.ringbuf_output(record.as_ptr(), record.len() as u64, 0)), "ok");
            assert_eq!(records(&map), [record]);
        }
    }
}

#[test]
fn ring_buffers_wake_their_consumer() {
    let map = map(M::Ringbuf, 0, 0, 4096);
    let raised = || map.signal().count();
    // SAFETY: 8 bytes.
    let output = |flags| unsafe { map.ringbuf_output([0; 8].as_ptr(), 8, flags) };
    let start = raised();
    output(NO_WAKEUP);
    assert_eq!(raised(), start, "told not to");
    output(0);
    assert_eq!(raised(), start, "the consumer has not caught up: it comes by itself");
    output(FORCE_WAKEUP);
    assert_eq!(raised(), start + 1);
    assert_eq!(map.user().wait(Duration::ZERO), Ok(true));
    assert_eq!(records(&map).len(), 3);
    assert_eq!(map.user().wait(Duration::from_millis(1)), Ok(false));
    output(0);
    assert_eq!(raised(), start + 2);
    // A consumer may stop between records.
    output(0);
    let mut seen = 0;
    let each = &mut |_: &[u8]| {
        seen += 1;
        ControlFlow::Break(())
    };
    assert_eq!(map.user().poll(each), Ok(1));
    assert_eq!(records(&map).len(), 1);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(map.user().wait(Duration::from_secs(20)), Ok(true)));
        std::thread::sleep(Duration::from_millis(10));
        output(0);
    });
}

#[test]
fn perf_event_arrays() {
    let map = map(M::PerfEventArray, 4, 4, CPUS);
    let output = |flags, cpu, data: &[u8]| errno(map.perf_output(flags, cpu, &[data]));
    assert_eq!(output(BPF_F_CURRENT_CPU, 0, b"x"), "ENOENT", "not open");
    map.user().open_perf(100).expect("open");
    assert_eq!(output(BPF_F_CURRENT_CPU, 1, b"one"), "ok");
    assert_eq!(output(2, 2, b"two"), "ok");
    assert_eq!(errno(map.perf_output(2, 2, &[b"in ", b"pieces"])), "ok");
    assert_eq!(output(1, 0, b"other"), "EOPNOTSUPP", "the buffer of another CPU");
    assert_eq!(output(CPUS.into(), 0, b"x"), "E2BIG");
    assert_eq!(output(1 << 32, 0, b"x"), "EINVAL");
    assert_eq!(output(0, 0, &[0; 97]), "ENOSPC");
    assert_eq!(output(0, 0, &[0; PERF_MAX_RECORD + 1]), "E2BIG");
    assert_eq!(map.user().wait(Duration::ZERO), Ok(true));
    let mut seen = Vec::new();
    let count = map.user().poll_perf(&mut |cpu, record| seen.push((cpu, record.to_vec())));
    assert_eq!(count, Ok(3));
    assert_eq!(seen, [(1, b"one".to_vec()), (2, b"two".to_vec()), (2, b"in pieces".to_vec())]);
    assert_eq!(map.user().lost(), [1, 0, 0]);
    assert_eq!(map.user().delete(&1u32.to_ne_bytes()), Ok(()));
    assert_eq!(output(1, 1, b"x"), "ENOENT");
}

#[test]
fn special_fields_are_kept_and_hidden() {
    for map_type in [M::Array, M::Hash] {
        let mut definition = Definition::new("s", map_type, 4, 40, 4);
        definition.special = vec![
            SpecialField { kind: SpecialKind::Timer, offset: 16 },
            SpecialField { kind: SpecialKind::SpinLock, offset: 4 },
        ];
        let map = Map::create(&definition, CPUS).expect("a map");
        let _guard = pin();
        let bytes: Vec<u8> = (1..=40).collect();
        map.user().update(&[0; 4], &bytes, 0).expect("update");
        let shown = |mut bytes: Vec<u8>| {
            bytes[4..8].fill(0);
            bytes[16..32].fill(0);
            bytes
        };
        assert_eq!(map.user().lookup(&[0; 4], 0), Ok(shown(bytes.clone())));
        // SAFETY: key and value have the map's sizes; pinned.
        unsafe {
            let at = map.lookup([0u8; 4].as_ptr(), 0);
            assert_eq!(std::slice::from_raw_parts(at, 40), shown(bytes.clone()), "new ones start at zero");
            at.add(16).write_bytes(0x77, 16);
            let other: Vec<u8> = (101..=140).collect();
            assert_eq!(errno(map.update([0u8; 4].as_ptr(), other.as_ptr(), 4, 0)), "ok");
            let mut expected = shown(other.clone());
            assert_eq!(map.user().lookup(&[0; 4], 4), Ok(expected.clone()), "not shown");
            expected[16..32].fill(0x77);
            assert_eq!(std::slice::from_raw_parts(at, 40), expected, "kept");
        }
    }
}

#[test]
fn what_is_not_here_is_refused_by_name() {
    for map_type in M::ALL.iter().copied().filter(|map_type| !super::kernel::TYPES.contains(map_type)) {
        let error = Map::create(&Definition::new("odd", map_type, 4, 4, 1), CPUS).expect_err("refused");
        assert_eq!(error, MapError::Unsupported { name: "odd".into(), map_type });
        let name = map_type.to_string();
        assert!(error.to_string().contains(&name), "{error}");
    }
    let error = Map::create(&Definition::new("m", M::Hash, 4, 8, 0), CPUS).expect_err("refused");
    assert_eq!(error.to_string(), "create map m (hash, key 4, value 8, 0 entries): set max_entries (EINVAL)");
}

#[test]
fn large_maps_cost_nothing_until_used() {
    let start = std::time::Instant::now();
    for _ in 0..10 {
        let map = map(M::Hash, 8, 8, 1 << 20);
        assert_eq!(map.element_bytes(), 0);
    }
    map(M::Array, 4, 64, 1 << 24);
    map(M::LruPercpuHash, 8, 64, 1 << 20);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let refused = Map::create(&Definition::new("huge", M::Array, 4, 1 << 20, 1 << 30), CPUS).map(drop);
    assert_eq!(refused.map_err(|e| e.errno()), Err(Errno::ENOMEM));
}
