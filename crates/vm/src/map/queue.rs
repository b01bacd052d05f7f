//! Queues, stacks and bloom filters: values without keys.

#![expect(unsafe_code, reason = "copies values through raw pointers")]

use super::error::{Errno, Result};
use super::hash::key::{Key, Kn, Seed};
use super::lock::Spin;
use super::memory::{Region, check_room, copy_in, copy_out};
use super::{ANY, EXIST, NOEXIST};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A queue or a stack. Source: `kernel/bpf/queue_stack_maps.c`.
#[derive(Debug)]
pub(crate) struct Queue {
    region: Region,
    stride: usize,
    size: usize,
    capacity: usize,
    last_in_first_out: bool,
    ends: Spin<Ends>,
}

/// Place of the oldest value, and how many there are.
#[derive(Debug, Default)]
struct Ends {
    oldest: usize,
    len: usize,
}

impl Queue {
    pub(crate) fn new(value_size: u32, max_entries: u32, last_in_first_out: bool) -> Result<Queue> {
        let (size, capacity) = (value_size as usize, max_entries as usize);
        let stride = size.next_multiple_of(8);
        let bytes = (stride as u64).checked_mul(u64::from(max_entries)).ok_or(Errno::ENOMEM)?;
        check_room(bytes)?;
        Ok(Queue { region: Region::new(bytes)?, stride, size, capacity, last_in_first_out, ends: Spin::default() })
    }

    /// Puts a value in. `E2BIG` when full, unless the flags say that the oldest should go (`BPF_EXIST`).
    ///
    /// # Safety
    /// `value` is readable for the value size.
    pub(crate) unsafe fn push(&self, value: *const u8, flags: u64) -> Result<()> {
        if flags & NOEXIST != 0 || flags > EXIST {
            return Err(Errno::EINVAL);
        }
        let mut ends = self.ends.lock();
        if ends.len == self.capacity {
            if flags & EXIST == 0 {
                return Err(Errno::E2BIG);
            }
            ends.oldest = (ends.oldest + 1) % self.capacity;
            ends.len -= 1;
        }
        let at = (ends.oldest + ends.len) % self.capacity;
        // SAFETY: below the capacity; under the lock.
        unsafe { copy_in(self.region.base().add(at * self.stride), value, self.size) };
        ends.len += 1;
        Ok(())
    }

    /// Copies the next value, and takes it out with `take`. When there is none: `ENOENT`, and zeroes.
    ///
    /// # Safety
    /// `value` is writable for the value size.
    pub(crate) unsafe fn get(&self, value: *mut u8, take: bool) -> Result<()> {
        let mut ends = self.ends.lock();
        if ends.len == 0 {
            // SAFETY: by the contract.
            unsafe { std::ptr::write_bytes(value, 0, self.size) };
            return Err(Errno::ENOENT);
        }
        let next = if self.last_in_first_out { ends.oldest + ends.len - 1 } else { ends.oldest };
        let at = next % self.capacity;
        // SAFETY: below the capacity; under the lock.
        unsafe { copy_out(value, self.region.base().add(at * self.stride), self.size) };
        if take {
            ends.len -= 1;
            if !self.last_in_first_out {
                ends.oldest = (ends.oldest + 1) % self.capacity;
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.ends.lock().len as u64
    }
}

/// A set of values that sometimes takes one for a member that is none. Source: `kernel/bpf/bloom_filter.c`.
#[derive(Debug)]
pub(crate) struct Bloom {
    words: Region,
    mask: u64,
    hashes: u32,
    size: usize,
    seed: Seed,
}

/// Hash functions where `map_extra` names none.
const DEFAULT_HASHES: u32 = 5;

impl Bloom {
    pub(crate) fn new(value_size: u32, max_entries: u32, map_extra: u64, zero_seed: bool) -> Result<Bloom> {
        let hashes = match map_extra as u32 & 0xf {
            0 => DEFAULT_HASHES,
            n => n,
        };
        // n * k / ln 2 bits, with 7/5 for 1 / ln 2, up to a power of two; all of u32 where that is too many.
        let wanted = max_entries.checked_mul(hashes).and_then(|n| (n / 5).checked_mul(7)).filter(|n| *n <= 1 << 31);
        let bits = wanted.map_or(1 << 32, |n| u64::from(n.max(64).next_power_of_two()));
        check_room(bits / 8)?;
        Ok(Bloom {
            words: Region::new(bits / 8)?,
            mask: bits - 1,
            hashes,
            size: value_size as usize,
            seed: if zero_seed { Seed::ZERO } else { Seed::random() },
        })
    }

    /// # Safety
    /// `value` is readable for the value size.
    unsafe fn bits(&self, value: *const u8) -> impl Iterator<Item = (&AtomicU64, u64)> {
        (0..self.hashes).map(move |n| {
            // SAFETY: by the contract.
            let hash = unsafe { Kn::hash(value, self.size, self.seed.number(n)) } & self.mask;
            // SAFETY: under the mask, each bit has its word.
            let word = unsafe { &*self.words.base().cast::<AtomicU64>().add((hash / 64) as usize) };
            (word, 1 << (hash % 64))
        })
    }

    /// Adds a value.
    ///
    /// # Safety
    /// `value` is readable for the value size.
    pub(crate) unsafe fn push(&self, value: *const u8, flags: u64) -> Result<()> {
        if flags != ANY {
            return Err(Errno::EINVAL);
        }
        // SAFETY: by the contract.
        unsafe { self.bits(value) }.for_each(|(word, bit)| {
            word.fetch_or(bit, Relaxed);
        });
        Ok(())
    }

    /// `ENOENT` for a value that was certainly never added.
    ///
    /// # Safety
    /// `value` is readable for the value size.
    pub(crate) unsafe fn peek(&self, value: *const u8) -> Result<()> {
        // SAFETY: by the contract.
        let all = unsafe { self.bits(value) }.all(|(word, bit)| word.load(Relaxed) & bit != 0);
        if all { Ok(()) } else { Err(Errno::ENOENT) }
    }
}
