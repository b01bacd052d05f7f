//! The table of a hash map: buckets of one cache line, read without a lock.
//!
//! ```text
//! bucket   | tags (8 bytes) | next, lock (8) | 6 addresses of elements (48) |
//! element  | key, rounded up to 8 | value |
//! ```
//!
//! A tag is 7 bits of the hash and a bit that says "taken", so a lookup reads the bucket's line and then, but for one time
//! in twenty, only the element it wants. A seventh element of a bucket goes to a further line that `next` names.
//!
//! Elements never move from place to place, and further lines stay until the table goes; so a reader needs no second
//! look: if it misses a key there was a moment without it. Writers hold the bucket's lock, which is bit 0 of `next`.

#![expect(unsafe_code, reason = "walks buckets and elements by address")]

use super::super::error::{Errno, Result};
use super::super::lock::{Spin, lock_bit, unlock_bit};
use super::super::memory::Region;
use super::key::{K4, K8, K16, Key, Kn, Seed};
use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Elements in a line.
const PLACES: usize = 6;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

#[repr(C, align(64))]
struct Bucket {
    tags: AtomicU64,
    /// Address of a further line, and the lock in bit 0.
    next: AtomicU64,
    places: [AtomicPtr<u8>; PLACES],
}

/// See the module.
pub(crate) struct Table {
    buckets: *mut Bucket,
    mask: u64,
    pub(crate) key_size: usize,
    pub(crate) seed: Seed,
    /// Further lines, to free them.
    lines: Spin<Vec<*mut Bucket>>,
    /// Keeps the buckets.
    _region: Region,
}

// SAFETY: all that is shared is atomic, or written under a bucket's lock.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Where an element stands, see [`Table::after`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    bucket: u64,
    line: *mut Bucket,
    place: usize,
}

/// A place within a locked bucket.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    line: *mut Bucket,
    place: usize,
    tag: u8,
}

/// A bucket that this thread has locked.
pub(crate) struct Locked<'t> {
    table: &'t Table,
    first: *mut Bucket,
    tag: u8,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: buckets live as long as the table.
        unlock_bit(unsafe { &(*self.first).next });
    }
}

#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    (hash >> 57) as u8 | 0x80
}

/// The bytes of `tags` that are `tag`, as their high bits. A byte behind one that is may be in it too; keys are compared.
#[inline(always)]
fn matches(tags: u64, tag: u8) -> u64 {
    let differ = tags ^ LOW.wrapping_mul(u64::from(tag));
    differ.wrapping_sub(LOW) & !differ & HIGH
}

impl Table {
    /// For so many elements.
    pub(crate) fn new(max_entries: u32, key_size: usize, seed: Seed) -> Result<Table> {
        // 1.5 to 3 elements a bucket when full; then 3 buckets in 100 have a further line.
        let buckets = u64::from(max_entries).div_ceil(3).next_power_of_two();
        let region = Region::new(buckets.checked_mul(size_of::<Bucket>() as u64).ok_or(Errno::ENOMEM)?)?;
        Ok(Table {
            buckets: region.base().cast(),
            mask: buckets - 1,
            key_size,
            seed,
            lines: Spin::default(),
            _region: region,
        })
    }

    #[inline(always)]
    unsafe fn hash<K: Key>(&self, key: *const u8) -> u64 {
        // SAFETY: the callers' contracts.
        unsafe { K::hash(key, self.key_size, self.seed) }
    }

    /// The hash of a key, by whichever way its size has.
    ///
    /// # Safety
    /// `key` is readable for the key size.
    unsafe fn hash_any(&self, key: *const u8) -> u64 {
        // SAFETY: by the contract.
        unsafe {
            match self.key_size {
                4 => self.hash::<K4>(key),
                8 => self.hash::<K8>(key),
                16 => self.hash::<K16>(key),
                _ => self.hash::<Kn>(key),
            }
        }
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> *mut Bucket {
        // SAFETY: under the mask there is a bucket for each number.
        unsafe { self.buckets.add((hash & self.mask) as usize) }
    }

    /// The element with this key, null if there is none.
    ///
    /// # Safety
    /// `key` is readable for the key size, which is the one of `K`; this thread is pinned.
    #[inline(always)]
    pub(crate) unsafe fn find<K: Key>(&self, key: *const u8) -> *mut u8 {
        // SAFETY: `key` by the contract; buckets live as long as the table, elements as long as this thread is pinned.
        unsafe {
            let hash = self.hash::<K>(key);
            let tag = tag_of(hash);
            let mut line = self.bucket(hash);
            loop {
                let mut hits = matches((*line).tags.load(Acquire), tag);
                while hits != 0 {
                    let place = (hits.trailing_zeros() / 8) as usize;
                    // A tag stands only where there is a place.
                    let element = (*line).places.get_unchecked(place).load(Acquire);
                    if !element.is_null() && K::equal(element, key, self.key_size) {
                        return element;
                    }
                    hits &= hits - 1;
                }
                let next = (*line).next.load(Acquire) & !1;
                if next == 0 {
                    return ptr::null_mut();
                }
                line = next as *mut Bucket;
            }
        }
    }

    /// [`Table::find`] by whichever way the key size has.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub(crate) unsafe fn find_any(&self, key: *const u8) -> *mut u8 {
        // SAFETY: by the contract.
        unsafe {
            match self.key_size {
                4 => self.find::<K4>(key),
                8 => self.find::<K8>(key),
                16 => self.find::<K16>(key),
                _ => self.find::<Kn>(key),
            }
        }
    }

    /// Locks the bucket where a key belongs.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned while the lock is held, and holds no other of this table.
    pub(crate) unsafe fn lock(&self, key: *const u8) -> Locked<'_> {
        // SAFETY: by the contract.
        let hash = unsafe { self.hash_any(key) };
        let first = self.bucket(hash);
        // SAFETY: buckets live as long as the table.
        lock_bit(unsafe { &(*first).next });
        Locked { table: self, first, tag: tag_of(hash) }
    }

    /// The first element at or behind a position, and its position; `None` starts at the beginning.
    ///
    /// # Safety
    /// The position is from this table; this thread is pinned.
    pub(crate) unsafe fn after(&self, position: Option<Position>) -> Option<(*mut u8, Position)> {
        let mut at = match position {
            None => Position { bucket: 0, line: self.buckets, place: 0 },
            Some(last) => Position { place: last.place + 1, ..last },
        };
        loop {
            // SAFETY: lines live as long as the table.
            unsafe {
                if at.place == 0 && (*at.line).tags.load(Acquire) == 0 {
                    at.place = PLACES;
                }
                while at.place < PLACES {
                    let element = (*at.line).places[at.place].load(Acquire);
                    if !element.is_null() {
                        return Some((element, at));
                    }
                    at.place += 1;
                }
                let next = (*at.line).next.load(Acquire) & !1;
                if next != 0 {
                    at = Position { line: next as *mut Bucket, place: 0, ..at };
                } else if at.bucket == self.mask {
                    return None;
                } else {
                    let bucket = at.bucket + 1;
                    at = Position { bucket, line: self.buckets.add(bucket as usize), place: 0 };
                }
            }
        }
    }

    /// Where the element with this key stands.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub(crate) unsafe fn position(&self, key: *const u8) -> Option<Position> {
        // SAFETY: by the contract; lines live as long as the table.
        unsafe {
            let element = self.find_any(key);
            if element.is_null() {
                return None;
            }
            let bucket = self.hash_any(key) & self.mask;
            let mut line = self.buckets.add(bucket as usize);
            loop {
                if let Some(place) = (*line).places.iter().position(|place| place.load(Relaxed) == element) {
                    return Some(Position { bucket, line, place });
                }
                match (*line).next.load(Acquire) & !1 {
                    0 => return None,
                    next => line = next as *mut Bucket,
                }
            }
        }
    }
}

impl Locked<'_> {
    /// The element with this key and its place, or the place where one would go, if a line has one.
    ///
    /// # Safety
    /// `key` is readable for the key size and is the one that the bucket was locked by.
    pub(crate) unsafe fn find(&self, key: *const u8) -> (Option<(*mut u8, Place)>, Option<Place>) {
        let (mut line, mut free) = (self.first, None);
        loop {
            // SAFETY: lines live as long as the table, elements in it are alive under the lock.
            unsafe {
                for place in 0..PLACES {
                    let here = Place { line, place, tag: self.tag };
                    let element = (*line).places[place].load(Relaxed);
                    if element.is_null() {
                        free = free.or(Some(here));
                    } else if (*line).tags.load(Relaxed) >> (8 * place) & 0xff == u64::from(self.tag)
                        && Kn::equal(element, key, self.table.key_size)
                    {
                        return (Some((element, here)), free);
                    }
                }
                match (*line).next.load(Relaxed) & !1 {
                    0 => return (None, free),
                    next => line = next as *mut Bucket,
                }
            }
        }
    }

    /// Where an element stands, if it still does.
    ///
    /// # Safety
    /// This thread is pinned since before it got `element`.
    pub(crate) unsafe fn place_of(&self, element: *mut u8) -> Option<Place> {
        let mut line = self.first;
        loop {
            // SAFETY: lines live as long as the table.
            unsafe {
                if let Some(place) = (*line).places.iter().position(|place| place.load(Relaxed) == element) {
                    return Some(Place { line, place, tag: self.tag });
                }
                match (*line).next.load(Relaxed) & !1 {
                    0 => return None,
                    next => line = next as *mut Bucket,
                }
            }
        }
    }

    /// Puts a new element in. `free` is what [`Locked::find`] gave.
    pub(crate) fn insert(&self, free: Option<Place>, element: *mut u8) {
        let place = free.unwrap_or_else(|| self.add_line());
        // SAFETY: the place lies in a line of the locked bucket. The element first, the tag that leads to it second.
        unsafe {
            (&(*place.line).places)[place.place].store(element, Release);
            let tags = (*place.line).tags.load(Relaxed) & !(0xff << (8 * place.place));
            (*place.line).tags.store(tags | u64::from(place.tag) << (8 * place.place), Release);
        }
    }

    /// Puts an element in the place of another with the same key.
    pub(crate) fn replace(&self, place: Place, element: *mut u8) {
        // SAFETY: the place lies in a line of the locked bucket.
        unsafe { (&(*place.line).places)[place.place].store(element, Release) };
    }

    /// Takes out what stands there.
    pub(crate) fn remove(&self, place: Place) {
        // SAFETY: the place lies in a line of the locked bucket.
        unsafe {
            let tags = (*place.line).tags.load(Relaxed) & !(0xff << (8 * place.place));
            (*place.line).tags.store(tags, Release);
            (&(*place.line).places)[place.place].store(ptr::null_mut(), Release);
        }
    }

    fn add_line(&self) -> Place {
        let mut last = self.first;
        // SAFETY: lines live as long as the table; only the holder of the lock adds some.
        unsafe {
            loop {
                match (*last).next.load(Relaxed) & !1 {
                    0 => break,
                    next => last = next as *mut Bucket,
                }
            }
            let line = Box::into_raw(Box::new(Bucket {
                tags: AtomicU64::new(0),
                next: AtomicU64::new(0),
                places: Default::default(),
            }));
            self.table.lines.lock().push(line);
            // Keeps the lock's bit where this is the first line.
            (*last).next.fetch_or(line as u64, Release);
            Place { line, place: 0, tag: self.tag }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for line in self.lines.lock().drain(..) {
            // SAFETY: made by `add_line`, listed once; nobody else has the table any more.
            drop(unsafe { Box::from_raw(line) });
        }
    }
}
