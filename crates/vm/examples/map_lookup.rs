//! Nanoseconds for operations on maps as programs make them: `cargo run --release -p skep-vm --example map_lookup`.
//!
//! Each lookup goes to a key of its own, in an order that no predictor knows. Half of the lookups of a row "miss" find
//! nothing.

#![expect(unsafe_code, reason = "plays the part of programs")]

use skep_abi::MapType as M;
use skep_vm::map::{Definition, Map, pin};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 2_000_000;

fn key_of(i: u64, size: usize, map_type: M) -> Vec<u8> {
    if map_type == M::LpmTrie {
        let mut key = (8 * (size as u32 - 4)).to_ne_bytes().to_vec();
        key.extend(&(i as u32).wrapping_mul(0x9e37_79b1).to_be_bytes());
        key.resize(size, 0);
        return key;
    }
    let mut key = vec![0; size.max(8)];
    key[..8].copy_from_slice(&i.to_le_bytes());
    key.truncate(size);
    key
}

/// Best of five, in nanoseconds an operation.
fn time(mut work: impl FnMut()) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
        })
        .fold(f64::MAX, f64::min)
}

fn shuffled(keys: u64, size: usize, map_type: M) -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252u64;
    (0..8192)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            key_of(state % keys, size, map_type)
        })
        .collect()
}

fn filled(map_type: M, key_size: usize, entries: u32) -> Arc<Map> {
    let flags = u64::from(map_type == M::LpmTrie);
    let definition = Definition::new("bench", map_type, key_size as u32, 8, entries).with_flags(flags);
    let map = Map::create(&definition, 2).expect("a map");
    let guard = pin();
    for i in 0..u64::from(entries) {
        let key = key_of(i, key_size, map_type);
        // SAFETY: sizes of the map; pinned.
        let result = unsafe { map.update(key.as_ptr(), (&raw const i).cast(), 0, 0) };
        assert_eq!(result, 0);
    }
    drop(guard);
    map
}

fn main() {
    println!("{:16} {:>4} {:>9} {:>8} {:>8} {:>8}", "type", "key", "entries", "hit ns", "miss ns", "update");
    let rows = [
        (M::Array, 4, 10_000),
        (M::PercpuArray, 4, 10_000),
        (M::Hash, 4, 10_000),
        (M::Hash, 8, 10_000),
        (M::Hash, 16, 10_000),
        (M::Hash, 64, 10_000),
        (M::Hash, 8, 1_000_000),
        (M::PercpuHash, 8, 10_000),
        (M::LruHash, 8, 10_000),
        (M::LpmTrie, 8, 10_000),
    ];
    for (map_type, key_size, entries) in rows {
        let map = filled(map_type, key_size, entries);
        let call = map.lookup_call();
        let lookup = |keys: &[Vec<u8>]| {
            time(|| {
                let _guard = pin();
                for round in 0..ROUNDS {
                    let key = &keys[round & 8191];
                    // SAFETY: sizes of the map; pinned.
                    black_box(unsafe { (call.function)(call.object, key.as_ptr(), 0) });
                }
            })
        };
        let keys = shuffled(u64::from(entries), key_size, map_type);
        let hit = lookup(&keys);
        let miss = lookup(&shuffled(u64::from(entries) * 2, key_size, map_type));
        let update = time(|| {
            for round in 0..ROUNDS {
                let _guard = pin();
                let key = &keys[round & 8191];
                // SAFETY: sizes of the map; pinned.
                unsafe { map.update(key.as_ptr(), (&raw const round).cast(), 0, 0) };
            }
        });
        println!("{map_type:16} {key_size:>4} {entries:>9} {hit:>8.1} {miss:>8.1} {update:>8.1}");
    }
    let pinning = time(|| {
        for _ in 0..ROUNDS {
            black_box(&pin());
        }
    });
    println!("pin and unpin: {pinning:.1} ns");
    let start = Instant::now();
    let map = Map::create(&Definition::new("large", M::Hash, 8, 8, 1 << 20), 2).expect("a map");
    println!("creation of a hash of {} entries: {:?}", map.max_entries(), start.elapsed());
}
