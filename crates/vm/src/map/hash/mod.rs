//! Hash maps: plain, with a value for each CPU, both also as LRU, and hashes of maps.
//!
//! A lookup takes no lock and writes nothing (but the mark of an LRU element). What it gives stays what it is until the
//! thread unpins: an update of a key makes a new element, and the old one waits for its grace period, see
//! [`super::pool`]. A value for each CPU is the exception: as in the kernel it is written in place.

#![expect(unsafe_code, reason = "elements are raw memory, given out by address")]

pub(crate) mod key;
pub(crate) mod lru;
mod table;

use super::error::{Errno, Result};
use super::lock::relax;
use super::memory::{check_room, copy_in, zero};
use super::pool::{Pool, Shape};
use super::value::ValueLayout;
use super::{EXIST, F_LOCK, Map, NOEXIST};
use crossbeam_epoch::Guard;
use key::{K4, K8, K16, Key, Kn, Seed};
use lru::Lru;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use table::{Locked, Place, Position, Table};

/// A lookup that machine code can call: the object that [`super::LookupCall`] names, the key, the CPU.
pub(crate) type LookupFn = unsafe extern "C" fn(*const c_void, *const u8, u32) -> *mut u8;

/// What kind of hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flavour {
    pub(crate) lru: bool,
    pub(crate) per_cpu: bool,
    /// Values are maps.
    pub(crate) maps: bool,
}

/// See the module.
pub(crate) struct Hash {
    table: Table,
    /// Bytes from an element to its value (or to what stands there for it).
    value_at: usize,
    cpu_stride: usize,
    cpus: u32,
    flavour: Flavour,
    max_entries: u64,
    count: AtomicU64,
    lru: Lru,
    pool: Arc<Pool>,
    layout: ValueLayout,
}

/// Where a new value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// From a program, on this CPU: other CPUs' values of a new element are zero.
    Program { value: *const u8, cpu: u32 },
    /// From outside: for each CPU its value where each has one.
    User(&'a [u8]),
    /// An inner map, of which the element takes over the count.
    Map(*const Map),
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hash").field("flavour", &self.flavour).field("count", &self.len()).finish_non_exhaustive()
    }
}

impl Hash {
    pub(crate) fn new(
        key_size: u32,
        layout: ValueLayout,
        max_entries: u32,
        cpus: u32,
        zero_seed: bool,
        flavour: Flavour,
    ) -> Result<Hash> {
        let key_size = key_size as usize;
        let value_at = key_size.next_multiple_of(8);
        // Where each CPU has a value, and for maps, an address stands in the value's place.
        let inline = if flavour.per_cpu || flavour.maps { 8 } else { layout.slot };
        let shape = Shape {
            header: if flavour.lru { lru::HEADER } else { 0 },
            body: value_at + inline,
            per_cpu: flavour.per_cpu.then_some((layout.slot, cpus)),
        };
        let values = if flavour.per_cpu { layout.slot as u64 * u64::from(cpus) } else { 0 };
        check_room((shape.body as u64 + values).saturating_mul(u64::from(max_entries)))?;
        let seed = if zero_seed { Seed::ZERO } else { Seed::random() };
        let pool = Arc::new(Pool::new(shape, u64::from(max_entries)));
        Ok(Hash {
            table: Table::new(max_entries, key_size, seed)?,
            value_at,
            cpu_stride: pool.cpu_stride(),
            cpus,
            flavour,
            max_entries: u64::from(max_entries),
            count: AtomicU64::new(0),
            lru: Lru::new(),
            pool,
            layout,
        })
    }

    /// Elements in the map, exactly.
    pub(crate) fn len(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Bytes of address space that its elements take.
    pub(crate) fn bytes(&self) -> u64 {
        self.pool.bytes()
    }

    /// The key, or key and value, or value of a CPU that an address lies in.
    pub(crate) fn stretch(&self, addr: usize) -> Option<std::ops::Range<usize>> {
        // Where an address of ours stands in the value's place, only the key.
        let inline = if self.flavour.per_cpu || self.flavour.maps { 0 } else { self.layout.slot };
        self.pool.stretch(addr, 0..self.value_at + inline)
    }

    /// The lookup made for this key size and flavour.
    pub(crate) fn lookup_fn(&self) -> LookupFn {
        fn by_key<const LRU: bool, const CPU: bool, const MAPS: bool>(key_size: usize) -> LookupFn {
            match key_size {
                4 => lookup::<K4, LRU, CPU, MAPS>,
                8 => lookup::<K8, LRU, CPU, MAPS>,
                16 => lookup::<K16, LRU, CPU, MAPS>,
                _ => lookup::<Kn, LRU, CPU, MAPS>,
            }
        }
        let size = self.table.key_size;
        match (self.flavour.lru, self.flavour.per_cpu, self.flavour.maps) {
            (_, _, true) => by_key::<false, false, true>(size),
            (false, false, _) => by_key::<false, false, false>(size),
            (false, true, _) => by_key::<false, true, false>(size),
            (true, false, _) => by_key::<true, false, false>(size),
            (true, true, _) => by_key::<true, true, false>(size),
        }
    }

    /// The element with this key, without a mark; null if there is none.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub(crate) unsafe fn element(&self, key: *const u8) -> *mut u8 {
        // SAFETY: by the contract.
        unsafe { self.table.find_any(key) }
    }

    /// The value of an element as a program on this CPU sees it.
    ///
    /// # Safety
    /// `element` is one of this map, valid while this thread is pinned; `cpu` is below the map's number of CPUs.
    pub(crate) unsafe fn value_of(&self, element: *mut u8, cpu: u32) -> *mut u8 {
        // SAFETY: by the contract.
        unsafe {
            if self.flavour.per_cpu {
                self.pool.values(element).add(cpu as usize * self.cpu_stride)
            } else if self.flavour.maps {
                element.add(self.value_at).cast::<*mut u8>().read()
            } else {
                element.add(self.value_at)
            }
        }
    }

    /// Puts a key in or changes it. Source for what comes first: `htab_map_update_elem` and its sisters in
    /// `kernel/bpf/hashtab.c`.
    ///
    /// # Safety
    /// `key` is readable for the key size; so is a program's value for the value size.
    pub(crate) unsafe fn update(&self, key: *const u8, source: Source<'_>, flags: u64, guard: &Guard) -> Result<()> {
        let may_lock = !self.flavour.lru && !self.flavour.per_cpu;
        let how = if may_lock { flags & !F_LOCK } else { flags };
        if how > EXIST {
            return Err(Errno::EINVAL);
        }
        let locked = may_lock && flags & F_LOCK != 0;
        if locked && !self.layout.has_lock() {
            return Err(Errno::EINVAL);
        }
        let mut tries = 0;
        loop {
            // SAFETY: by the contract; `guard` pins this thread.
            let bucket = unsafe { self.table.lock(key) };
            // SAFETY: as above.
            let (found, free) = unsafe { bucket.find(key) };
            if let Some((old, place)) = found {
                if how == NOEXIST {
                    return Err(Errno::EEXIST);
                }
                // SAFETY: `old` is in the locked bucket.
                return unsafe { self.change(bucket, old, place, key, source, locked, guard) };
            }
            if how == EXIST {
                return Err(Errno::ENOENT);
            }
            if self.count.fetch_update(Relaxed, Relaxed, |n| (n < self.max_entries).then_some(n + 1)).is_ok() {
                // SAFETY: by the contract.
                return unsafe { self.make(key, source) }
                    .map(|element| {
                        bucket.insert(free, element);
                        if self.flavour.lru {
                            // SAFETY: now in the map, and not yet in the list.
                            unsafe { self.lru.add(element) };
                        }
                    })
                    .inspect_err(|_| {
                        self.count.fetch_sub(1, Relaxed);
                    });
            }
            drop(bucket);
            if !self.flavour.lru {
                return Err(Errno::E2BIG);
            }
            // SAFETY: `guard` pins this thread.
            if !unsafe { self.evict(guard) } {
                // All elements are just being put in or taken out by others.
                relax(&mut tries);
                if tries > 100_000 {
                    return Err(Errno::ENOMEM);
                }
            }
        }
    }

    /// Changes the value of a key that is there.
    ///
    /// # Safety
    /// `old` stands at `place` in the locked bucket; the rest as for [`Hash::update`].
    #[expect(clippy::too_many_arguments, reason = "what update found out")]
    unsafe fn change(
        &self,
        bucket: Locked<'_>,
        old: *mut u8,
        place: Place,
        key: *const u8,
        source: Source<'_>,
        locked: bool,
        guard: &Guard,
    ) -> Result<()> {
        // SAFETY: `old` is an element of this map, held by the bucket's lock.
        unsafe {
            if self.flavour.per_cpu {
                self.set_cpus(old, source, false);
                if self.flavour.lru {
                    lru::mark_used(old);
                }
                return Ok(());
            }
            if locked {
                let value = match source {
                    Source::Program { value, .. } => value,
                    Source::User(value) => value.as_ptr(),
                    Source::Map(_) => return Err(Errno::EINVAL),
                };
                return self.layout.set_locked(old.add(self.value_at), value);
            }
            let new = self.make(key, source)?;
            bucket.replace(place, new);
            if self.flavour.lru {
                self.lru.remove(old);
                self.lru.add(new);
                lru::mark_used(new);
            }
            drop(bucket);
            self.retire(old, guard);
        }
        Ok(())
    }

    /// A new element, not yet in the map.
    ///
    /// # Safety
    /// As for [`Hash::update`].
    unsafe fn make(&self, key: *const u8, source: Source<'_>) -> Result<*mut u8> {
        let element = self.pool.take()?;
        // SAFETY: the element is ours alone, and as large as key and value.
        unsafe {
            if self.flavour.lru {
                Lru::init(element);
            }
            copy_in(element, key, self.table.key_size);
            if self.flavour.per_cpu {
                self.set_cpus(element, source, true);
                return Ok(element);
            }
            let value = element.add(self.value_at);
            match source {
                Source::Program { value: from, .. } => self.layout.set(value, from),
                Source::User(from) => self.layout.set(value, from.as_ptr()),
                Source::Map(map) => value.cast::<*const Map>().write(map),
            }
            self.layout.init_special(value);
        }
        Ok(element)
    }

    /// Sets the values for each CPU that a source has; of a new element the others are zeroed.
    ///
    /// # Safety
    /// `element` has values for each CPU; the rest as for [`Hash::update`].
    unsafe fn set_cpus(&self, element: *mut u8, source: Source<'_>, new: bool) {
        let slot = self.layout.slot;
        for at in 0..self.cpus {
            // SAFETY: a value of ours; a user's value has been checked to be as long as all CPUs' slots.
            unsafe {
                let value = self.value_of(element, at);
                match source {
                    Source::Program { value: from, cpu } if at == cpu => self.layout.set(value, from),
                    Source::Program { .. } if new => zero(value, slot),
                    Source::User(from) => self.layout.set(value, from.as_ptr().add(at as usize * slot)),
                    Source::Program { .. } | Source::Map(_) => {}
                }
            }
        }
    }

    /// Takes a key out; `ENOENT` if it is not there. `before` sees the element while it still cannot change.
    ///
    /// # Safety
    /// `key` is readable for the key size.
    pub(crate) unsafe fn delete(
        &self,
        key: *const u8,
        guard: &Guard,
        before: impl FnOnce(*mut u8) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: by the contract; `guard` pins this thread.
        let element = unsafe {
            let bucket = self.table.lock(key);
            let (Some((element, place)), _) = bucket.find(key) else { return Err(Errno::ENOENT) };
            before(element)?;
            self.take_out(&bucket, element, place);
            element
        };
        // SAFETY: it is out of the map since just now.
        unsafe { self.retire(element, guard) };
        Ok(())
    }

    /// # Safety
    /// `element` stands at `place` of the locked bucket.
    unsafe fn take_out(&self, bucket: &Locked<'_>, element: *mut u8, place: Place) {
        bucket.remove(place);
        if self.flavour.lru {
            // SAFETY: in the map until now, and still locked.
            unsafe { self.lru.remove(element) };
        }
        self.count.fetch_sub(1, Relaxed);
    }

    /// Makes room for one element; false if there was nothing to give up.
    ///
    /// # Safety
    /// This thread is pinned and holds no bucket.
    unsafe fn evict(&self, guard: &Guard) -> bool {
        // SAFETY: pinned, so the victim stays readable, and its key does not change.
        unsafe {
            let Some(victim) = self.lru.victim() else { return false };
            let bucket = self.table.lock(victim);
            // Someone else may have taken it out meanwhile; then there is room too.
            let Some(place) = bucket.place_of(victim) else { return true };
            bucket.remove(place);
            self.count.fetch_sub(1, Relaxed);
            drop(bucket);
            self.retire(victim, guard);
        }
        true
    }

    /// # Safety
    /// `element` was taken out of the map by this thread.
    unsafe fn retire(&self, element: *mut u8, guard: &Guard) {
        if self.flavour.maps {
            // SAFETY: the address came from `Arc::into_raw` and is given back once, by whoever took the element out.
            let map = unsafe { Arc::from_raw(element.add(self.value_at).cast::<*const Map>().read()) };
            guard.defer(move || drop(map));
        }
        self.pool.retire(element, guard);
    }

    /// The key after `key`, or the first where `key` is not there or not given; `ENOENT` at the end.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub(crate) unsafe fn next_key(&self, key: Option<*const u8>) -> Result<*mut u8> {
        // SAFETY: by the contract.
        unsafe {
            let position = key.and_then(|key| self.table.position(key));
            self.table.after(position).map(|(element, _)| element).ok_or(Errno::ENOENT)
        }
    }

    /// The elements, in the order of the table; those that come or go meanwhile may be seen or not.
    ///
    /// # Safety
    /// This thread is pinned as long as it uses the walk and the elements.
    pub(crate) unsafe fn elements(&self) -> Elements<'_> {
        Elements { table: &self.table, position: None }
    }
}

/// Walk over a hash map.
pub(crate) struct Elements<'h> {
    table: &'h Table,
    position: Option<Position>,
}

impl Iterator for Elements<'_> {
    type Item = *mut u8;

    fn next(&mut self) -> Option<*mut u8> {
        // SAFETY: whoever made the walk keeps the thread pinned.
        let (element, position) = unsafe { self.table.after(self.position) }?;
        self.position = Some(position);
        Some(element)
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        if self.flavour.maps {
            // SAFETY: nobody else has this map any more; the inner maps may still be held by running programs, so they
            // wait for their grace period.
            unsafe {
                let guard = crossbeam_epoch::pin();
                for element in self.elements() {
                    let map = Arc::from_raw(element.add(self.value_at).cast::<*const Map>().read());
                    guard.defer(move || drop(map));
                }
                guard.flush();
            }
        }
    }
}

/// # Safety
/// `hash` is a `Hash` of this flavour and key size, `key` is readable, this thread is pinned, `cpu` is one of the map's.
unsafe extern "C" fn lookup<K: Key, const LRU: bool, const CPU: bool, const MAPS: bool>(
    hash: *const c_void,
    key: *const u8,
    cpu: u32,
) -> *mut u8 {
    // SAFETY: by the contract.
    unsafe {
        let hash = &*hash.cast::<Hash>();
        let element = hash.table.find::<K>(key);
        if element.is_null() {
            return ptr::null_mut();
        }
        if LRU {
            lru::mark_used(element);
        }
        let value = element.add(hash.value_at);
        if CPU {
            value.cast::<*mut u8>().read().add(cpu as usize * hash.cpu_stride)
        } else if MAPS {
            value.cast::<*mut u8>().read()
        } else {
            value
        }
    }
}
