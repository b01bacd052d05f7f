//! Many threads on one map: whoever holds a value sees that value, whole, of the key it asked for, until it lets go.
//!
//! A value tells its key, a version and a checksum of both. Where two threads may write the same value at once (arrays,
//! values for each CPU) a torn value is what the kernel gives too, so those are not here.

#![expect(unsafe_code, reason = "plays the part of programs")]

use crate::map::{Definition, EXIST, F_LOCK, Map, NOEXIST, SpecialField, SpecialKind, pin};
use skep_abi::MapType as M;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const WORDS: usize = 4;

fn checksum(key: u64, version: u64) -> u64 {
    (key ^ version.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555
}

fn value(key: u64, version: u64) -> [u64; WORDS] {
    [key, version, checksum(key, version), !key]
}

/// Reads a value as a program does, word by word.
///
/// # Safety
/// `at` came from a lookup and this thread is pinned since.
unsafe fn read(at: *mut u8) -> [u64; WORDS] {
    // SAFETY: by the contract; atomic, as other threads may write meanwhile where values are changed in place.
    std::array::from_fn(|i| unsafe { (*at.cast::<AtomicU64>().add(i)).load(Relaxed) })
}

fn assert_value(key: u64, seen: [u64; WORDS], when: &str) {
    assert_eq!(seen, value(key, seen[1]), "key {key}: another key's value, or half of one, {when}");
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Keys of any size that start with their number.
fn key_bytes(key: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0x11; size.max(8)];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes.truncate(size);
    bytes
}

/// Runs `threads` on the map for `time` and returns how many values were looked at.
fn stress(map: &Arc<Map>, keys: u64, threads: u64, time: Duration) -> u64 {
    let (stop, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    let size = map.key_size() as usize;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, looked) = (&stop, &looked);
            scope.spawn(move || {
                let mut dice = Dice(thread + 1);
                let mut seen = 0;
                while !stop.load(Relaxed) {
                    let guard = pin();
                    // One run of a program: some values are held while others change the map.
                    let mut held: Vec<(u64, *mut u8, [u64; WORDS])> = Vec::new();
                    for _ in 0..20 {
                        let key = dice.roll(keys);
                        let bytes = key_bytes(key, size);
                        // SAFETY: keys and values have the map's sizes; this thread is pinned.
                        unsafe {
                            match dice.roll(8) {
                                0..=3 => {
                                    let at = map.lookup(bytes.as_ptr(), 0);
                                    if !at.is_null() {
                                        let now = read(at);
                                        assert_value(key, now, "at once");
                                        held.push((key, at, now));
                                    }
                                }
                                4..=6 => {
                                    let new = value(key, dice.roll(1 << 40));
                                    let flags = [0, 0, NOEXIST, EXIST][dice.roll(4) as usize];
                                    let result = map.update(bytes.as_ptr(), new.as_ptr().cast(), flags, 0);
                                    assert!([0, -2, -7, -17].contains(&result), "{result}");
                                }
                                _ => {
                                    let result = map.delete(bytes.as_ptr());
                                    assert!([0, -2].contains(&result), "{result}");
                                }
                            }
                        }
                        if dice.roll(64) == 0 {
                            std::thread::yield_now();
                        }
                    }
                    seen += held.len() as u64;
                    for (key, at, before) in held {
                        // SAFETY: held since the lookup.
                        let now = unsafe { read(at) };
                        assert_eq!(now, before, "key {key}: the value changed under its holder");
                    }
                    drop(guard);
                }
                looked.fetch_add(seen, Relaxed);
            });
        }
        let start = Instant::now();
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(5));
            assert!(map.len() <= u64::from(map.max_entries()), "{} elements", map.len());
            for (key, seen) in map.user().entries().expect("entries") {
                let words: [u64; WORDS] =
                    std::array::from_fn(|i| u64::from_ne_bytes(seen[i * 8..][..8].try_into().expect("8")));
                let number = u64::from_le_bytes(key_bytes(words[0], 8).try_into().expect("8"));
                assert_eq!(key_bytes(number, size), key, "a walk gives a key with its own value");
                assert_value(number, words, "in a walk");
            }
        }
        stop.store(true, Relaxed);
    });
    // Exact again when all is quiet.
    assert_eq!(map.len(), map.user().entries().expect("entries").len() as u64);
    looked.load(Relaxed)
}

/// Longer with `SKEP_STRESS_MS`.
fn time() -> Duration {
    let ms = std::env::var("SKEP_STRESS_MS").ok().and_then(|ms| ms.parse().ok());
    Duration::from_millis(ms.unwrap_or(400))
}

#[test]
fn holders_of_hash_values_see_only_their_own() {
    for (key_size, max_entries, keys) in [(8, 64, 100), (8, 4, 6), (16, 1000, 1500), (24, 40, 64)] {
        let definition = Definition::new("stress", M::Hash, key_size, 8 * WORDS as u32, max_entries);
        let map = Map::create(&definition, 2).expect("a map");
        assert!(stress(&map, keys, 4, time()) > 0);
        // What waited for its grace period is used again: memory does not grow with the number of updates.
        assert!(map.element_bytes() < 64 << 20, "{} bytes", map.element_bytes());
    }
}

#[test]
fn holders_of_lru_values_see_only_their_own() {
    for (max_entries, keys) in [(64, 100), (3, 6), (500, 5000)] {
        let definition = Definition::new("stress", M::LruHash, 8, 8 * WORDS as u32, max_entries);
        let map = Map::create(&definition, 2).expect("a map");
        assert!(stress(&map, keys, 4, time()) > 0);
        assert!(map.element_bytes() < 64 << 20, "{} bytes", map.element_bytes());
    }
}

#[test]
fn holders_of_trie_values_see_only_their_own() {
    // The whole key is the prefix: its length in front, the number behind; neighbours share most of their bits.
    let definition = Definition::new("stress", M::LpmTrie, 12, 8 * WORDS as u32, 200).with_flags(1);
    let map = Map::create(&definition, 2).expect("a map");
    let stop = AtomicBool::new(false);
    let key_of = |key: u64| {
        let mut bytes = 64u32.to_ne_bytes().to_vec();
        bytes.extend(key.to_be_bytes());
        bytes
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (stop, map) = (&stop, &map);
            scope.spawn(move || {
                let mut dice = Dice(thread + 7);
                while !stop.load(Relaxed) {
                    let _guard = pin();
                    let mut held = Vec::new();
                    for _ in 0..20 {
                        let key = dice.roll(256) * 5;
                        let bytes = key_of(key);
                        // SAFETY: sizes of the map; pinned.
                        unsafe {
                            match dice.roll(6) {
                                0..=2 => {
                                    let at = map.lookup(bytes.as_ptr(), 0);
                                    if !at.is_null() {
                                        assert_value(key, read(at), "at once");
                                        held.push((key, at, read(at)));
                                    }
                                }
                                3 | 4 => {
                                    let new = value(key, dice.roll(1 << 40));
                                    let result = map.update(bytes.as_ptr(), new.as_ptr().cast(), 0, 0);
                                    assert!([0, -28].contains(&result), "{result}");
                                }
                                _ => assert!([0, -2].contains(&map.delete(bytes.as_ptr()))),
                            }
                        }
                    }
                    for (key, at, before) in held {
                        // SAFETY: held since the lookup.
                        assert_eq!(unsafe { read(at) }, before, "key {key}");
                    }
                }
            });
        }
        std::thread::sleep(time());
        stop.store(true, Relaxed);
    });
    assert_eq!(map.len(), map.user().entries().expect("entries").len() as u64);
}

#[test]
fn values_under_their_lock_are_whole() {
    let mut definition = Definition::new("locked", M::Array, 4, 8 + 8 * WORDS as u32, 1);
    definition.special = vec![SpecialField { kind: SpecialKind::SpinLock, offset: 0 }];
    let map = Map::create(&definition, 2).expect("a map");
    let stop = AtomicBool::new(false);
    let full = |version: u64| {
        let mut bytes = vec![0xee; 8];
        bytes.extend(value(7, version).iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    };
    map.user().update(&[0; 4], &full(1), 0).expect("update");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (stop, map, full) = (&stop, &map, &full);
            scope.spawn(move || {
                let mut version = thread;
                while !stop.load(Relaxed) {
                    version += 2;
                    map.user().update(&[0; 4], &full(version), F_LOCK).expect("update");
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < time() / 2 {
            let seen = map.user().lookup(&[0; 4], F_LOCK).expect("lookup");
            assert_eq!(seen[..4], [0; 4], "the lock is not shown");
            let words: [u64; WORDS] =
                std::array::from_fn(|i| u64::from_ne_bytes(seen[8 + i * 8..][..8].try_into().expect("8")));
            assert_value(7, words, "under the lock");
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn many_producers_of_a_ring_buffer() {
    let map = Map::create(&Definition::new("ring", M::Ringbuf, 0, 0, 4096), 2).expect("a map");
    let (producers, each) = (3u64, 20_000u64);
    let done = AtomicU64::new(0);
    let mut next = vec![0u64; producers as usize];
    let (mut got, mut discarded) = (0, 0);
    std::thread::scope(|scope| {
        for producer in 0..producers {
            let (map, done) = (&map, &done);
            scope.spawn(move || {
                let mut dice = Dice(producer + 1);
                let mut number = 0;
                while number < each {
                    let words = 2 + dice.roll(30);
                    let record = map.ringbuf_reserve(words * 8, 0).cast::<u64>();
                    if record.is_null() {
                        std::thread::yield_now();
                        continue;
                    }
                    // SAFETY: reserved with so many words, ended once.
                    unsafe {
                        record.write(producer);
                        for i in 1..words {
                            record.add(i as usize).write(number);
                        }
                        match dice.roll(10) {
                            0 => {
                                record.write(u64::MAX);
                                crate::map::ringbuf_discard(record.cast(), 0);
                            }
                            _ => {
                                crate::map::ringbuf_submit(record.cast(), 0);
                                number += 1;
                            }
                        }
                    }
                }
                done.fetch_add(1, Relaxed);
            });
        }
        loop {
            let finished = done.load(Relaxed) == producers;
            let count = map.user().poll(&mut |record| {
                let words: Vec<u64> =
                    record.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8"))).collect();
                discarded += u64::from(words[0] == u64::MAX);
                assert!(words[2..].iter().all(|word| *word == words[1]), "a record of several: {words:?}");
                assert_eq!(words[1], next[words[0] as usize], "in order, none missing");
                next[words[0] as usize] += 1;
                std::ops::ControlFlow::Continue(())
            });
            got += count.expect("poll") as u64;
            if finished && got == producers * each {
                break;
            }
            map.user().wait(Duration::from_millis(200)).expect("wait");
        }
    });
    assert_eq!((got, discarded), (producers * each, 0));
    assert_eq!(map.ringbuf_query(0), 0);
}
