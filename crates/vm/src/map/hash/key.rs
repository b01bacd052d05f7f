//! Keys by size: how each is hashed and compared.
//!
//! The hash is the folded product of the key's words with secret numbers of the map: fast, and not to be guessed from
//! outside, so that nobody who chooses keys can choose their places too.

#![expect(unsafe_code, reason = "keys are given by address")]

/// Secret numbers of a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    a: u64,
    b: u64,
}

/// Digits of pi, for where there is no seed.
const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

impl Seed {
    /// Random, different in each map.
    pub(crate) fn random() -> Seed {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        Seed { a: state.hash_one(1u8), b: state.hash_one(2u8) | 1 }
    }

    /// Always the same: `BPF_F_ZERO_SEED`.
    pub(crate) const ZERO: Seed = Seed { a: PI[0], b: PI[1] | 1 };

    /// For another hash of the same key.
    pub(crate) fn number(self, n: u32) -> Seed {
        let mix = fold(self.a ^ u64::from(n).wrapping_mul(PI[1]), PI[0]);
        Seed { a: mix, b: self.b.rotate_left(n * 7) | 1 }
    }
}

#[inline(always)]
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
}

/// How keys of a size are hashed and compared.
pub(crate) trait Key {
    /// # Safety
    /// `key` is readable for `len` bytes, which is the size that the type stands for.
    unsafe fn hash(key: *const u8, len: usize, seed: Seed) -> u64;

    /// # Safety
    /// Both are readable for `len` bytes; `stored` is aligned to 8.
    unsafe fn equal(stored: *const u8, key: *const u8, len: usize) -> bool;
}

/// Four bytes.
pub(crate) enum K4 {}
/// Eight bytes.
pub(crate) enum K8 {}
/// Sixteen bytes.
pub(crate) enum K16 {}
/// Any number of bytes.
pub(crate) enum Kn {}

#[inline(always)]
unsafe fn word(p: *const u8, at: usize) -> u64 {
    // SAFETY: by the callers' contracts.
    unsafe { p.add(at).cast::<u64>().read_unaligned() }
}

#[inline(always)]
unsafe fn half(p: *const u8, at: usize) -> u32 {
    // SAFETY: by the callers' contracts.
    unsafe { p.add(at).cast::<u32>().read_unaligned() }
}

impl Key for K4 {
    #[inline(always)]
    unsafe fn hash(key: *const u8, _: usize, seed: Seed) -> u64 {
        // SAFETY: four bytes.
        fold(u64::from(unsafe { half(key, 0) }) ^ seed.a, seed.b)
    }

    #[inline(always)]
    unsafe fn equal(stored: *const u8, key: *const u8, _: usize) -> bool {
        // SAFETY: four bytes each.
        unsafe { half(stored, 0) == half(key, 0) }
    }
}

impl Key for K8 {
    #[inline(always)]
    unsafe fn hash(key: *const u8, _: usize, seed: Seed) -> u64 {
        // SAFETY: eight bytes.
        fold(unsafe { word(key, 0) } ^ seed.a, seed.b)
    }

    #[inline(always)]
    unsafe fn equal(stored: *const u8, key: *const u8, _: usize) -> bool {
        // SAFETY: eight bytes each.
        unsafe { word(stored, 0) == word(key, 0) }
    }
}

impl Key for K16 {
    #[inline(always)]
    unsafe fn hash(key: *const u8, _: usize, seed: Seed) -> u64 {
        // SAFETY: sixteen bytes.
        unsafe { fold(fold(word(key, 0) ^ seed.a, PI[0]) ^ word(key, 8), seed.b) }
    }

    #[inline(always)]
    unsafe fn equal(stored: *const u8, key: *const u8, _: usize) -> bool {
        // SAFETY: sixteen bytes each.
        unsafe { (word(stored, 0) ^ word(key, 0)) | (word(stored, 8) ^ word(key, 8)) == 0 }
    }
}

impl Key for Kn {
    #[inline(always)]
    unsafe fn hash(key: *const u8, len: usize, seed: Seed) -> u64 {
        let mut acc = seed.a ^ len as u64;
        let mut at = 0;
        // SAFETY: `at` with what is read from it stays within `len`.
        unsafe {
            while at + 16 <= len {
                acc = fold(word(key, at) ^ acc, word(key, at + 8) ^ seed.b);
                at += 16;
            }
            let rest = len - at;
            let (low, high) = match rest {
                0 => (0, 0),
                1..=3 => {
                    let (first, middle, last) = (*key.add(at), *key.add(at + rest / 2), *key.add(len - 1));
                    (u64::from(first) | u64::from(middle) << 8 | u64::from(last) << 16, 0)
                }
                4..=7 => (u64::from(half(key, at)) | u64::from(half(key, len - 4)) << 32, 0),
                _ => (word(key, at), word(key, len - 8)),
            };
            fold(fold(low ^ acc, PI[0]) ^ high, seed.b)
        }
    }

    #[inline(always)]
    unsafe fn equal(stored: *const u8, key: *const u8, len: usize) -> bool {
        let mut at = 0;
        // SAFETY: `at` with what is read from it stays within `len`.
        unsafe {
            while at + 8 <= len {
                if word(stored, at) != word(key, at) {
                    return false;
                }
                at += 8;
            }
            while at < len {
                if *stored.add(at) != *key.add(at) {
                    return false;
                }
                at += 1;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn hashes<K: Key>(len: usize, seed: Seed) -> Vec<u64> {
        (0u64..20_000)
            .map(|i| {
                let mut key = vec![0u8; len];
                let bytes = i.to_le_bytes();
                let used = len.min(8);
                // The counter at the end: long keys often share their start.
                key[len - used..].copy_from_slice(&bytes[..used]);
                // SAFETY: `len` bytes.
                unsafe { K::hash(key.as_ptr(), len, seed) }
            })
            .collect()
    }

    #[test]
    fn hashes_of_counters_spread() {
        for seed in [Seed::ZERO, Seed::random()] {
            for (len, hashes) in [
                (4, hashes::<K4>(4, seed)),
                (8, hashes::<K8>(8, seed)),
                (16, hashes::<K16>(16, seed)),
                (13, hashes::<Kn>(13, seed)),
                (40, hashes::<Kn>(40, seed)),
                (511, hashes::<Kn>(511, seed)),
            ] {
                assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len(), "{len}");
                let mut buckets = [0u32; 4096];
                hashes.iter().for_each(|h| buckets[(h & 4095) as usize] += 1);
                // 4.9 on average; 25 in one would come by chance once in a thousand million.
                assert!(buckets.iter().all(|n| *n < 25), "{len}: {:?}", buckets.iter().max());
                let mut tags = [0u32; 128];
                hashes.iter().for_each(|h| tags[(h >> 57) as usize] += 1);
                assert!(tags.iter().all(|n| (60..300).contains(n)), "{len}: {tags:?}");
            }
        }
    }

    #[test]
    fn every_byte_of_a_key_counts() {
        for len in [1usize, 2, 3, 5, 7, 9, 12, 15, 17, 24, 31, 64, 65] {
            let key: Vec<u8> = (0..len as u8).collect();
            // SAFETY: `len` bytes.
            let hash = |key: &[u8]| unsafe { Kn::hash(key.as_ptr(), len, Seed::ZERO) };
            for at in 0..len {
                let mut other = key.clone();
                other[at] ^= 0x10;
                assert_ne!(hash(&key), hash(&other), "{len} bytes, byte {at}");
                // SAFETY: `len` bytes each.
                assert!(!unsafe { Kn::equal(key.as_ptr(), other.as_ptr(), len) });
            }
        }
    }
}
