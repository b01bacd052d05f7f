//! The face of maps towards the code around programs: what bpf(2) does, with its errors.
//!
//! Keys and values are slices of exactly the map's sizes, else `EINVAL`. A value of a per-CPU map is one slot for each CPU,
//! each rounded up to 8 bytes. Source for checks and their order: `map_lookup_elem` and its sisters in
//! `kernel/bpf/syscall.c`.

#![expect(unsafe_code, reason = "gives slices as addresses")]

use super::error::{Errno, Result};
use super::hash::Source;
use super::{EXIST, F_LOCK, Kind, Map, NOEXIST, TailTarget, pin};
use skep_abi::MapType;
use skep_abi::flags::map_create::{BPF_F_RDONLY, BPF_F_WRONLY};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct User<'m> {
    map: &'m Map,
}

impl<'m> User<'m> {
    pub(crate) fn new(map: &'m Map) -> User<'m> {
        User { map }
    }

    /// Bytes of a value here: all CPUs' slots for per-CPU maps, 4 for maps of programs and maps (an id).
    pub fn value_len(self) -> usize {
        match self.map.map_type {
            MapType::ProgArray | MapType::ArrayOfMaps | MapType::HashOfMaps => 4,
            _ if self.map.is_per_cpu() => self.map.layout.slot * self.map.cpus as usize,
            _ => self.map.layout.size,
        }
    }

    fn may_read(self) -> Result<()> {
        if u64::from(self.map.flags) & BPF_F_WRONLY != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    fn may_write(self) -> Result<()> {
        let frozen = self.map.frozen.load(Ordering::Relaxed);
        if frozen || u64::from(self.map.flags) & BPF_F_RDONLY != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    fn check_lock(self, flags: u64) -> Result<()> {
        if flags & F_LOCK != 0 && !self.map.layout.has_lock() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn check_key(self, key: &[u8]) -> Result<()> {
        if key.len() == self.map.key_size as usize { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn index(self, key: &[u8]) -> Result<u32> {
        key.try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL)
    }

    /// `BPF_MAP_LOOKUP_ELEM`: a copy of the value; `ENOENT` if there is none. `flags`: 0 or [`F_LOCK`]. For queues and stacks
    /// the key is empty and this looks without taking; for bloom filters see [`User::contains`].
    pub fn lookup(self, key: &[u8], flags: u64) -> Result<Vec<u8>> {
        let mut value = vec![0; self.value_len()];
        self.lookup_into(key, &mut value, flags)?;
        Ok(value)
    }

    /// [`User::lookup`] into a buffer of [`User::value_len`] bytes. Of a bloom filter reads the buffer.
    pub fn lookup_into(self, key: &[u8], value: &mut [u8], flags: u64) -> Result<()> {
        if flags & !F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.may_read()?;
        self.check_lock(flags)?;
        self.check_key(key)?;
        if value.len() != self.value_len() {
            return Err(Errno::EINVAL);
        }
        let guard = pin();
        let map = self.map;
        // SAFETY: key and value have the map's sizes; the guard pins this thread.
        unsafe {
            match &map.kind {
                Kind::Array(array) => {
                    let index = self.index(key)?;
                    for (cpu, slot) in self.slots(value).enumerate() {
                        let from = array.at(index, cpu as u32).ok_or(Errno::ENOENT)?;
                        map.layout.get(from, slot, flags & F_LOCK != 0)?;
                    }
                    Ok(())
                }
                Kind::Hash(hash) => {
                    let element = hash.element(key.as_ptr());
                    if element.is_null() {
                        return Err(Errno::ENOENT);
                    }
                    self.copy_element(hash, element, value, flags)
                }
                Kind::Lpm(lpm) => {
                    let from = lpm.lookup(key.as_ptr());
                    if from.is_null() { Err(Errno::ENOENT) } else { map.layout.get(from, value, false) }
                }
                Kind::Programs(slots) => {
                    let program = slots.get_shared(self.index(key)?, &guard).ok_or(Errno::ENOENT)?;
                    value.copy_from_slice(&program.id.to_ne_bytes());
                    Ok(())
                }
                Kind::Maps(slots) => {
                    let inner = slots.get_shared(self.index(key)?, &guard).ok_or(Errno::ENOENT)?;
                    value.copy_from_slice(&inner.id.to_ne_bytes());
                    Ok(())
                }
                Kind::Queue(queue) => queue.get(value.as_mut_ptr(), false),
                Kind::Bloom(bloom) => bloom.peek(value.as_ptr()),
                Kind::Ring(_) | Kind::Perf(_) => Err(Errno::ENOTSUPP),
            }
        }
    }

    /// The slots of a value: one for each CPU, or the value.
    fn slots(self, value: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
        let slot = if self.map.is_per_cpu() { self.map.layout.slot } else { value.len() };
        value.chunks_mut(slot.max(1))
    }

    /// # Safety
    /// `element` is one of `hash`, this thread is pinned; `value` has this face's length.
    unsafe fn copy_element(
        self,
        hash: &super::hash::Hash,
        element: *mut u8,
        value: &mut [u8],
        flags: u64,
    ) -> Result<()> {
        // SAFETY: by the contract; each slot holds a value.
        unsafe {
            if self.map.map_type == MapType::HashOfMaps {
                let inner = &*hash.value_of(element, 0).cast::<Map>();
                value.copy_from_slice(&inner.id.to_ne_bytes());
                return Ok(());
            }
            for (cpu, slot) in self.slots(value).enumerate() {
                self.map.layout.get(hash.value_of(element, cpu as u32), slot, flags & F_LOCK != 0)?;
            }
        }
        Ok(())
    }

    /// Whether a value may be in a bloom filter: `false` is certain.
    pub fn contains(self, value: &[u8]) -> Result<bool> {
        let mut copy = value.to_vec();
        match self.lookup_into(&[], &mut copy, 0) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// `BPF_MAP_UPDATE_ELEM`: sets a value, all CPUs' for per-CPU maps. For queues, stacks and bloom filters the key is empty
    /// and this pushes. For maps of programs and maps `EBADF`: see [`User::set_program`], [`User::set_map`].
    pub fn update(self, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        self.may_write()?;
        self.check_lock(flags)?;
        self.check_key(key)?;
        if value.len() != self.value_len() {
            return Err(Errno::EINVAL);
        }
        let guard = pin();
        let map = self.map;
        // SAFETY: key and value have the map's sizes; the guard pins this thread.
        unsafe {
            match &map.kind {
                Kind::Array(array) => {
                    let index = self.index(key)?;
                    array.check(&map.layout, index, flags)?;
                    if !map.is_per_cpu() {
                        return array.update(&map.layout, index, value.as_ptr(), flags, 0);
                    }
                    for (cpu, slot) in value.chunks(map.layout.slot).enumerate() {
                        array.update(&map.layout, index, slot.as_ptr(), flags, cpu as u32)?;
                    }
                    Ok(())
                }
                Kind::Hash(_) if map.map_type == MapType::HashOfMaps => Err(Errno::EBADF),
                Kind::Hash(hash) => hash.update(key.as_ptr(), Source::User(value), flags, &guard),
                Kind::Lpm(lpm) => lpm.update(key.as_ptr(), value.as_ptr(), flags, &guard),
                Kind::Queue(queue) => queue.push(value.as_ptr(), flags),
                Kind::Bloom(bloom) => bloom.push(value.as_ptr(), flags),
                Kind::Programs(_) | Kind::Maps(_) | Kind::Perf(_) => self.check_slot(key, flags).and(Err(Errno::EBADF)),
                Kind::Ring(_) => Err(Errno::ENOTSUPP),
            }
        }
    }

    /// Source: `bpf_fd_array_map_update_elem`.
    fn check_slot(self, key: &[u8], flags: u64) -> Result<u32> {
        let index = self.index(key)?;
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        if index >= self.map.max_entries {
            return Err(Errno::E2BIG);
        }
        Ok(index)
    }

    /// Puts a program into a program array.
    pub fn set_program(self, key: &[u8], program: Arc<TailTarget>, flags: u64) -> Result<()> {
        self.may_write()?;
        self.check_key(key)?;
        match &self.map.kind {
            Kind::Programs(slots) => slots.set(self.check_slot(key, flags)?, program, &pin()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Puts a map into a map of maps; `EINVAL` if it is not like the template.
    pub fn set_map(self, key: &[u8], inner: Arc<Map>, flags: u64) -> Result<()> {
        self.may_write()?;
        self.check_key(key)?;
        let fits = |inner: &Map| match &self.map.inner {
            Some(template) if **template == inner.template() => Ok(()),
            _ => Err(Errno::EINVAL),
        };
        match &self.map.kind {
            Kind::Maps(slots) => {
                let index = self.check_slot(key, flags)?;
                fits(&inner)?;
                slots.set(index, inner, &pin())
            }
            Kind::Hash(hash) if self.map.map_type == MapType::HashOfMaps => {
                fits(&inner)?;
                let inner = Arc::into_raw(inner);
                // SAFETY: the key has the map's size; the count of `inner` goes to the element, or back below.
                unsafe {
                    hash.update(key.as_ptr(), Source::Map(inner), flags, &pin())
                        .inspect_err(|_| drop(Arc::from_raw(inner)))
                }
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// The inner map at a key of a map of maps; `ENOENT` if there is none.
    pub fn inner_map(self, key: &[u8]) -> Result<Arc<Map>> {
        self.may_read()?;
        self.check_key(key)?;
        let guard = pin();
        match &self.map.kind {
            Kind::Maps(slots) => slots.get_shared(self.index(key)?, &guard).ok_or(Errno::ENOENT),
            // SAFETY: the key has the map's size; the element's own count lives at least until the guard goes.
            Kind::Hash(hash) if self.map.map_type == MapType::HashOfMaps => unsafe {
                let element = hash.element(key.as_ptr());
                if element.is_null() {
                    return Err(Errno::ENOENT);
                }
                let inner = hash.value_of(element, 0).cast::<Map>().cast_const();
                Arc::increment_strong_count(inner);
                Ok(Arc::from_raw(inner))
            },
            _ => Err(Errno::EINVAL),
        }
    }

    /// The program at an index of a program array; `ENOENT` if there is none.
    pub fn program(self, key: &[u8]) -> Result<Arc<TailTarget>> {
        self.may_read()?;
        self.check_key(key)?;
        match &self.map.kind {
            Kind::Programs(slots) => slots.get_shared(self.index(key)?, &pin()).ok_or(Errno::ENOENT),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `BPF_MAP_DELETE_ELEM`: `ENOENT` if it is not there; arrays and queues cannot.
    pub fn delete(self, key: &[u8]) -> Result<()> {
        self.may_write()?;
        self.check_key(key)?;
        let guard = pin();
        // SAFETY: the key has the map's size.
        unsafe {
            match &self.map.kind {
                Kind::Array(_) | Kind::Queue(_) => Err(Errno::EINVAL),
                Kind::Hash(hash) => hash.delete(key.as_ptr(), &guard, |_| Ok(())),
                Kind::Lpm(lpm) => lpm.delete(key.as_ptr(), &guard),
                Kind::Programs(slots) => slots.clear(self.index(key)?, &guard),
                Kind::Maps(slots) => slots.clear(self.index(key)?, &guard),
                Kind::Perf(perf) => match self.index(key)? {
                    index if index >= self.map.max_entries => Err(Errno::E2BIG),
                    index => perf.close(index),
                },
                Kind::Bloom(_) => Err(Errno::EOPNOTSUPP),
                Kind::Ring(_) => Err(Errno::ENOTSUPP),
            }
        }
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`: hash maps, queues, stacks; others `ENOTSUPP`.
    pub fn lookup_and_delete(self, key: &[u8], flags: u64) -> Result<Vec<u8>> {
        if flags & !F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.may_read()?;
        self.may_write()?;
        if flags != 0 && matches!(self.map.kind, Kind::Queue(_)) {
            return Err(Errno::EINVAL);
        }
        self.check_lock(flags)?;
        self.check_key(key)?;
        let mut value = vec![0; self.value_len()];
        // SAFETY: key and value have the map's sizes; the guard pins this thread.
        unsafe {
            match &self.map.kind {
                Kind::Hash(hash) if self.map.map_type != MapType::HashOfMaps => {
                    let guard = pin();
                    hash.delete(key.as_ptr(), &guard, |element| self.copy_element(hash, element, &mut value, flags))?;
                }
                Kind::Queue(queue) => queue.get(value.as_mut_ptr(), true)?,
                _ => return Err(Errno::ENOTSUPP),
            }
        }
        Ok(value)
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the key after `key`, the first for `None` and after a key that is not there; `ENOENT` at the
    /// end.
    pub fn next_key(self, key: Option<&[u8]>) -> Result<Vec<u8>> {
        self.may_read()?;
        if let Some(key) = key {
            self.check_key(key)?;
        }
        let _guard = pin();
        let mut next = vec![0; self.map.key_size as usize];
        let index = key.map(|key| self.index(key)).transpose();
        let after = |max_entries: u32, key: Option<u32>| match key {
            Some(key) if key == max_entries - 1 => Err(Errno::ENOENT),
            Some(key) if key < max_entries => Ok(key + 1),
            _ => Ok(0),
        };
        // SAFETY: the key has the map's size; the guard pins this thread.
        unsafe {
            match &self.map.kind {
                Kind::Array(array) => next.copy_from_slice(&array.next_key(index?)?.to_ne_bytes()),
                Kind::Programs(_) | Kind::Maps(_) | Kind::Perf(_) => {
                    next.copy_from_slice(&after(self.map.max_entries, index?)?.to_ne_bytes());
                }
                Kind::Hash(hash) => {
                    let element = hash.next_key(key.map(<[u8]>::as_ptr))?;
                    std::ptr::copy_nonoverlapping(element, next.as_mut_ptr(), next.len());
                }
                Kind::Lpm(lpm) => lpm.next_key(key.map(<[u8]>::as_ptr), &mut next)?,
                Kind::Queue(_) => return Err(Errno::EINVAL),
                Kind::Bloom(_) => return Err(Errno::EOPNOTSUPP),
                Kind::Ring(_) => return Err(Errno::ENOTSUPP),
            }
        }
        Ok(next)
    }

    /// Copies every element: `(key, value)`, in the order of [`User::next_key`]; what comes or goes meanwhile may be in it or
    /// not. Empty slots of maps of programs and maps are left out.
    pub fn entries(self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.may_read()?;
        let mut all = Vec::new();
        if let Kind::Hash(hash) = &self.map.kind {
            let _guard = pin();
            // SAFETY: the guard pins this thread; elements have the map's sizes.
            unsafe {
                for element in hash.elements() {
                    let key = std::slice::from_raw_parts(element, self.map.key_size as usize).to_vec();
                    let mut value = vec![0; self.value_len()];
                    self.copy_element(hash, element, &mut value, 0)?;
                    all.push((key, value));
                }
            }
            return Ok(all);
        }
        let mut key = None;
        // A tree can change under the walk and start it anew; it has no more elements than this.
        for _ in 0..=u64::from(self.map.max_entries) + (1 << 20) {
            let next = match self.next_key(key.as_deref()) {
                Ok(next) => next,
                Err(Errno::ENOENT) => break,
                Err(e) => return Err(e),
            };
            match self.lookup(&next, 0) {
                Ok(value) => all.push((next.clone(), value)),
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(e),
            }
            key = Some(next);
        }
        Ok(all)
    }

    /// `BPF_MAP_FREEZE`: from now on only programs may write to it. `ENOTSUPP` where values have special fields, `EPERM` the
    /// second time.
    pub fn freeze(self) -> Result<()> {
        if self.map.layout.is_special() {
            return Err(Errno::ENOTSUPP);
        }
        self.may_write()?;
        if self.map.frozen.swap(true, Ordering::Relaxed) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Whether it was frozen.
    pub fn is_frozen(self) -> bool {
        self.map.frozen.load(Ordering::Relaxed)
    }

    /// Pushes a value into a queue, a stack or a bloom filter. With `make_room` a full queue drops its oldest.
    pub fn push(self, value: &[u8], make_room: bool) -> Result<()> {
        self.update(&[], value, if make_room { EXIST } else { 0 })
    }

    /// Makes a key, `EEXIST` when it is there.
    pub fn insert(self, key: &[u8], value: &[u8]) -> Result<()> {
        self.update(key, value, NOEXIST)
    }

    /// Gives each record of a ring buffer that is ready to `each`, until it breaks off; how many there were. Perf event
    /// arrays: see [`User::poll_perf`].
    pub fn poll(self, each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<usize> {
        match &self.map.kind {
            Kind::Ring(ring) => Ok(ring.poll(each)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Waits until records have come (or may have) or the time is up; whether there are any.
    pub fn wait(self, timeout: Duration) -> Result<bool> {
        let seen = self.map.signal.count();
        let ready = || match &self.map.kind {
            Kind::Ring(ring) => Ok(ring.is_ready()),
            Kind::Perf(perf) => Ok(perf.is_ready()),
            _ => Err(Errno::EINVAL),
        };
        Ok(ready()? || (self.map.signal.wait_past(seen, timeout) && ready()?))
    }

    /// Opens the buffers of a perf event array: one for each CPU, of so many bytes. What was in older ones is gone.
    pub fn open_perf(self, bytes_per_cpu: usize) -> Result<()> {
        match &self.map.kind {
            Kind::Perf(perf) => {
                perf.open(bytes_per_cpu);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Takes all records of a perf event array: `each(cpu, record)`; how many there were.
    pub fn poll_perf(self, each: &mut dyn FnMut(u32, &[u8])) -> Result<usize> {
        match &self.map.kind {
            Kind::Perf(perf) => Ok(perf.poll(each)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Records that found no room so far: for each CPU of a perf event array, one number for a ring buffer, else none.
    pub fn lost(self) -> Vec<u64> {
        match &self.map.kind {
            Kind::Ring(ring) => vec![ring.lost()],
            Kind::Perf(perf) => perf.lost(),
            _ => Vec::new(),
        }
    }
}
