//! Random operations on a map and on a simple model of it; needs no kernel.

use crate::map::{Definition, EXIST, Errno, Map, NOEXIST};
use proptest::prelude::*;
use skep_abi::MapType as M;
use std::collections::{BTreeMap, HashMap, VecDeque};

#[derive(Clone, Debug)]
enum Op {
    Update(u16, u64, u64),
    Delete(u16),
    Lookup(u16),
    Take(u16),
}

fn ops(keys: u16) -> impl Strategy<Value = Vec<Op>> {
    let op = (0..keys, any::<u64>(), prop_oneof![3 => Just(0), 1 => Just(NOEXIST), 1 => Just(EXIST)], 0..10).prop_map(
        |(key, value, flags, kind)| match kind {
            0..=5 => Op::Update(key, value, flags),
            6 => Op::Delete(key),
            7 => Op::Take(key),
            _ => Op::Lookup(key),
        },
    );
    proptest::collection::vec(op, 0..400)
}

fn make(map_type: M, key: u32, entries: u32) -> std::sync::Arc<Map> {
    let flags = u64::from(map_type == M::LpmTrie);
    Map::create(&Definition::new("model", map_type, key, 8, entries).with_flags(flags), 1).expect("a map")
}

/// What an update should give, by the elements that are there.
fn expected_update(there: bool, len: usize, entries: usize, flags: u64) -> Result<(), Errno> {
    match (there, flags) {
        (true, NOEXIST) => Err(Errno::EEXIST),
        (false, EXIST) => Err(Errno::ENOENT),
        (false, _) if len == entries => Err(Errno::E2BIG),
        _ => Ok(()),
    }
}

fn key_of(key: u16, size: usize) -> Vec<u8> {
    let mut bytes = vec![7; size.max(2)];
    bytes[..2].copy_from_slice(&key.to_ne_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn hashes_are_maps_of_bounded_size(
        ops in ops(40),
        entries in 1u32..30,
        size in prop_oneof![Just(2usize), Just(4), Just(8), Just(16), Just(33)],
        per_cpu: bool,
    ) {
        let map = make(if per_cpu { M::PercpuHash } else { M::Hash }, size as u32, entries);
        let mut model: HashMap<u16, u64> = HashMap::new();
        let user = map.user();
        for op in ops {
            match op {
                Op::Update(key, value, flags) => {
                    let expected = expected_update(model.contains_key(&key), model.len(), entries as usize, flags);
                    prop_assert_eq!(user.update(&key_of(key, size), &value.to_ne_bytes(), flags), expected);
                    if expected.is_ok() {
                        model.insert(key, value);
                    }
                }
                Op::Delete(key) => {
                    let expected = model.remove(&key).map(drop).ok_or(Errno::ENOENT);
                    prop_assert_eq!(user.delete(&key_of(key, size)), expected);
                }
                Op::Lookup(key) => {
                    let expected = model.get(&key).map(|v| v.to_ne_bytes().to_vec()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(user.lookup(&key_of(key, size), 0), expected);
                }
                Op::Take(key) => {
                    let expected = model.remove(&key).map(|v| v.to_ne_bytes().to_vec()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(user.lookup_and_delete(&key_of(key, size), 0), expected);
                }
            }
            prop_assert_eq!(map.len(), model.len() as u64);
        }
        let mut expected: Vec<_> = model.iter().map(|(k, v)| (key_of(*k, size), v.to_ne_bytes().to_vec())).collect();
        expected.sort();
        let mut entries = user.entries().expect("entries");
        let mut walked = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        while let Ok(next) = user.next_key(key.as_deref()) {
            walked.push(next.clone());
            key = Some(next);
        }
        prop_assert_eq!(&walked, &entries.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
        entries.sort();
        prop_assert_eq!(entries, expected);
    }

    #[test]
    fn lru_maps_hold_the_newest_and_never_too_many(ops in ops(60), entries in 1u32..40) {
        let map = make(M::LruHash, 2, entries);
        let mut model: HashMap<u16, u64> = HashMap::new();
        let user = map.user();
        for op in ops {
            match op {
                Op::Update(key, value, flags) => {
                    let there = user.lookup(&key_of(key, 2), 0).is_ok();
                    // Always room: something else goes.
                    let expected = expected_update(there, 0, 1, flags);
                    prop_assert_eq!(user.update(&key_of(key, 2), &value.to_ne_bytes(), flags), expected);
                    if expected.is_ok() {
                        model.insert(key, value);
                        prop_assert_eq!(user.lookup(&key_of(key, 2), 0), Ok(value.to_ne_bytes().to_vec()));
                    }
                }
                Op::Delete(key) | Op::Take(key) => {
                    let there = user.lookup(&key_of(key, 2), 0).map(drop);
                    prop_assert_eq!(user.delete(&key_of(key, 2)), there);
                    model.remove(&key);
                }
                Op::Lookup(key) => {
                    if let Ok(value) = user.lookup(&key_of(key, 2), 0) {
                        prop_assert_eq!(Some(value), model.get(&key).map(|v| v.to_ne_bytes().to_vec()));
                    }
                }
            }
            prop_assert!(map.len() <= u64::from(entries));
            prop_assert_eq!(map.len() as usize, user.entries().expect("entries").len());
        }
    }

    #[test]
    fn tries_find_the_longest_prefix(
        ops in proptest::collection::vec((0u32..=16, any::<[bool; 16]>(), 0u8..3), 1..120),
        probes in proptest::collection::vec(any::<[bool; 16]>(), 30),
        entries in 1u32..60,
    ) {
        let map = make(M::LpmTrie, 6, entries);
        let user = map.user();
        let bits_of = |bits: [bool; 16]| bits.iter().fold(0u16, |all, bit| all << 1 | u16::from(*bit));
        let key = |len: u32, bits: u16| [&len.to_ne_bytes()[..], &bits.to_be_bytes()].concat();
        let mask = |len: u32, bits: u16| if len == 0 { 0 } else { bits & (u16::MAX << (16 - len)) };
        // Few bits set, so that prefixes meet.
        let few = |bits: [bool; 16]| bits_of(bits) & 0xc0c1;
        let mut model: BTreeMap<(u32, u16), u64> = BTreeMap::new();
        for (at, (len, bits, kind)) in ops.into_iter().enumerate() {
            let bits = few(bits);
            let name = (len, mask(len, bits));
            if kind == 0 {
                let expected = model.remove(&name).map(drop).ok_or(Errno::ENOENT);
                prop_assert_eq!(user.delete(&key(len, bits)), expected);
            } else {
                let full = !model.contains_key(&name) && model.len() == entries as usize;
                let expected = if full { Err(Errno::ENOSPC) } else { Ok(()) };
                prop_assert_eq!(user.update(&key(len, bits), &(at as u64).to_ne_bytes(), 0), expected);
                if !full {
                    model.insert(name, at as u64);
                }
            }
            prop_assert_eq!(map.len(), model.len() as u64);
        }
        for bits in probes.into_iter().map(few) {
            for most in [16, 7] {
                let found = (0..=most).rev().find_map(|len| model.get(&(len, mask(len, bits))));
                let expected = found.map(|v| v.to_ne_bytes().to_vec()).ok_or(Errno::ENOENT);
                prop_assert_eq!(user.lookup(&key(most, bits), 0), expected);
            }
        }
        prop_assert_eq!(user.entries().expect("entries").len(), model.len());
    }

    #[test]
    fn queues_and_stacks_are_deques(ops in ops(4), entries in 1u32..6, stack: bool) {
        let map = make(if stack { M::Stack } else { M::Queue }, 0, entries);
        let mut model: VecDeque<u64> = VecDeque::new();
        let next = |model: &VecDeque<u64>| if stack { model.back() } else { model.front() }.copied();
        for op in ops {
            match op {
                Op::Update(_, value, flags) => {
                    let full = model.len() == entries as usize;
                    let expected = match flags {
                        NOEXIST => Err(Errno::EINVAL),
                        EXIST => Ok(()),
                        _ if full => Err(Errno::E2BIG),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(map.user().update(&[], &value.to_ne_bytes(), flags), expected);
                    if expected.is_ok() {
                        if full {
                            model.pop_front();
                        }
                        model.push_back(value);
                    }
                }
                Op::Lookup(_) => {
                    let expected = next(&model).map(|v| v.to_ne_bytes().to_vec()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(map.user().lookup(&[], 0), expected);
                }
                Op::Delete(_) | Op::Take(_) => {
                    let expected = next(&model).map(|v| v.to_ne_bytes().to_vec()).ok_or(Errno::ENOENT);
                    prop_assert_eq!(map.user().lookup_and_delete(&[], 0), expected);
                    if stack { model.pop_back() } else { model.pop_front() };
                }
            }
            prop_assert_eq!(map.len(), model.len() as u64);
        }
    }
}

#[test]
fn a_large_map_keeps_all_of_its_elements() {
    // Enough that many buckets need further lines, and that elements come from several chunks.
    let entries = 200_000u32;
    let map = make(M::Hash, 4, entries);
    let user = map.user();
    for key in 0..entries {
        user.update(&key.to_ne_bytes(), &u64::from(key).to_ne_bytes(), NOEXIST).expect("room");
    }
    assert_eq!(user.update(&entries.to_ne_bytes(), &[0; 8], 0), Err(Errno::E2BIG));
    for key in (0..entries).step_by(3) {
        assert_eq!(user.delete(&key.to_ne_bytes()), Ok(()));
    }
    for key in 0..entries {
        let expected = if key % 3 == 0 { Err(Errno::ENOENT) } else { Ok(u64::from(key).to_ne_bytes().to_vec()) };
        assert_eq!(user.lookup(&key.to_ne_bytes(), 0), expected, "{key}");
    }
    let mut walk = std::collections::HashSet::new();
    let mut key = None;
    while let Ok(next) = user.next_key(key.as_deref()) {
        assert!(walk.insert(next.clone()), "each key once");
        key = Some(next);
    }
    assert_eq!(walk.len() as u64, map.len());
    assert_eq!(map.len(), u64::from(entries - entries.div_ceil(3)));
}
