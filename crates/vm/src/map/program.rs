//! The face of maps towards programs: what helpers do, by address, with what helpers return.
//!
//! All of it is for a thread that is pinned ([`super::pin`]). An address that is returned is the value of that key until
//! the thread unpins. None of it takes a lock for a lookup, and no lookup allocates.
//!
//! `BPF_F_RDONLY_PROG` and `BPF_F_WRONLY_PROG` are not looked at here: as in the kernel, the verifier holds programs to
//! them. An engine that runs unverified programs asks [`Map::program_may_write`] and [`Map::program_may_read`].

#![expect(unsafe_code, reason = "programs give addresses")]

use super::array::ArrayFacts;
use super::error::{Errno, ret};
use super::hash::{LookupFn, Source};
use super::{Kind, Map, TailTarget, ringbuf};
use skep_abi::MapType;
use skep_abi::flags::map_create::{BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG};
use std::ffi::c_void;
use std::ptr;

/// A lookup as one call: `function(object, key, cpu)` gives the value's address or null. Valid as long as the map. The
/// caller keeps to the contract of [`Map::lookup`], and `cpu` is below [`Map::cpus`]: the function does not look.
#[derive(Clone, Copy, Debug)]
pub struct LookupCall {
    /// First argument.
    pub object: *const c_void,
    /// Made for the type of map and its key size.
    pub function: unsafe extern "C" fn(*const c_void, *const u8, u32) -> *mut u8,
}

impl Map {
    /// For arrays, what a lookup without a call needs.
    pub fn array_facts(&self) -> Option<ArrayFacts> {
        match &self.kind {
            Kind::Array(array) => Some(array.facts()),
            _ => None,
        }
    }

    /// For program arrays: the address of slot 0 and the number of slots. A slot is 8 bytes, null or the address of a
    /// [`TailTarget`], read with one (acquiring) load.
    pub fn program_slots(&self) -> Option<(*const u8, u32)> {
        match &self.kind {
            Kind::Programs(slots) => Some((slots.base(), slots.max_entries())),
            _ => None,
        }
    }

    /// For maps that have a lookup: the fastest way to call it.
    pub fn lookup_call(&self) -> LookupCall {
        match &self.kind {
            Kind::Hash(hash) => LookupCall { object: ptr::from_ref(&**hash).cast(), function: hash.lookup_fn() },
            _ => LookupCall { object: ptr::from_ref(self).cast(), function: lookup_any },
        }
    }

    /// The part of its memory with keys and values that an address lies in: what a program that names the map may read
    /// by an address that nothing vouches for, in maps that it holds too. Not the records of ring buffers, which are the
    /// business of who holds them. For a thread that is pinned.
    pub fn stretch(&self, addr: usize) -> Option<std::ops::Range<usize>> {
        let found = match &self.kind {
            Kind::Maps(slots) => {
                let inner = (0..self.max_entries).map(|index| slots.get(index)).filter(|inner| !inner.is_null());
                // SAFETY: a map that a slot held while this thread is pinned stays until it unpins.
                return inner.map(|inner| unsafe { &*inner }).find_map(|inner| inner.stretch(addr));
            }
            Kind::Hash(hash) if self.map_type == MapType::HashOfMaps => {
                // SAFETY: as above; `value_of` is the address of the map where the values are maps.
                return unsafe {
                    let mut inner = hash.elements().map(|element| hash.value_of(element, 0).cast_const().cast::<Map>());
                    inner.find_map(|inner| (*inner).stretch(addr))
                };
            }
            Kind::Array(array) => {
                let facts = array.facts();
                let from_base = addr.checked_sub(facts.base.addr())?;
                let cpu = from_base.checked_div(facts.cpu_stride).unwrap_or(0);
                let cpus = if facts.cpu_stride == 0 { 1 } else { self.cpus as usize };
                let start = facts.base.addr() + cpu * facts.cpu_stride;
                (cpu < cpus).then_some(start..start + facts.stride * facts.max_entries as usize)?
            }
            Kind::Hash(hash) => hash.stretch(addr)?,
            Kind::Lpm(lpm) => lpm.stretch(addr)?,
            _ => return None,
        };
        found.contains(&addr).then_some(found)
    }

    /// Whether the verifier would let programs read its values.
    pub fn program_may_read(&self) -> bool {
        u64::from(self.flags) & BPF_F_WRONLY_PROG == 0
    }

    /// Whether the verifier would let programs change it.
    pub fn program_may_write(&self) -> bool {
        u64::from(self.flags) & BPF_F_RDONLY_PROG == 0
    }

    /// `bpf_map_lookup_elem`: the address of the value (of this CPU), null if there is none. For a map of maps the address
    /// of the inner [`Map`].
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned, and stays so while it uses the result.
    pub unsafe fn lookup(&self, key: *const u8, cpu: u32) -> *mut u8 {
        // SAFETY: by the contract.
        unsafe {
            match &self.kind {
                Kind::Array(array) => array.at(key.cast::<u32>().read_unaligned(), cpu).unwrap_or(ptr::null_mut()),
                Kind::Hash(hash) if cpu < self.cpus => {
                    let function: LookupFn = hash.lookup_fn();
                    function(ptr::from_ref(&**hash).cast(), key, cpu)
                }
                Kind::Lpm(lpm) => lpm.lookup(key),
                Kind::Maps(slots) => slots.get(key.cast::<u32>().read_unaligned()).cast::<u8>().cast_mut(),
                _ => ptr::null_mut(),
            }
        }
    }

    /// `bpf_map_lookup_percpu_elem`: the value of another CPU; null for one that is not there, or a map without them.
    ///
    /// # Safety
    /// As for [`Map::lookup`].
    pub unsafe fn lookup_percpu(&self, key: *const u8, cpu: u32) -> *mut u8 {
        if !self.is_per_cpu() || cpu >= self.cpus {
            return ptr::null_mut();
        }
        // SAFETY: by the contract.
        unsafe { self.lookup(key, cpu) }
    }

    /// `bpf_map_update_elem` on this CPU: 0 or a negative error number.
    ///
    /// # Safety
    /// `key` and `value` are readable for their sizes; this thread is pinned.
    pub unsafe fn update(&self, key: *const u8, value: *const u8, flags: u64, cpu: u32) -> i64 {
        if cpu >= self.cpus {
            return Errno::EINVAL.to_ret();
        }
        // SAFETY: by the contract.
        ret(unsafe {
            match &self.kind {
                Kind::Array(array) => array.update(&self.layout, key.cast::<u32>().read_unaligned(), value, flags, cpu),
                Kind::Hash(_) if self.map_type == MapType::HashOfMaps => Err(Errno::EINVAL),
                Kind::Hash(hash) => hash.update(key, Source::Program { value, cpu }, flags, &super::pin()),
                Kind::Lpm(lpm) => lpm.update(key, value, flags, &super::pin()),
                Kind::Queue(_) | Kind::Bloom(_) => Err(Errno::EINVAL),
                Kind::Programs(_) | Kind::Maps(_) | Kind::Ring(_) | Kind::Perf(_) => Err(Errno::ENOTSUPP),
            }
        })
    }

    /// `bpf_map_delete_elem`: 0 or a negative error number.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub unsafe fn delete(&self, key: *const u8) -> i64 {
        // SAFETY: by the contract.
        ret(unsafe {
            match &self.kind {
                Kind::Array(_) | Kind::Queue(_) => Err(Errno::EINVAL),
                Kind::Hash(hash) => hash.delete(key, &super::pin(), |_| Ok(())),
                Kind::Lpm(lpm) => lpm.delete(key, &super::pin()),
                Kind::Bloom(_) => Err(Errno::EOPNOTSUPP),
                Kind::Programs(_) | Kind::Maps(_) | Kind::Ring(_) | Kind::Perf(_) => Err(Errno::ENOTSUPP),
            }
        })
    }

    /// `bpf_map_push_elem` (queue, stack, bloom filter): 0 or a negative error number.
    ///
    /// # Safety
    /// `value` is readable for the value size.
    pub unsafe fn push(&self, value: *const u8, flags: u64) -> i64 {
        // SAFETY: by the contract.
        ret(unsafe {
            match &self.kind {
                Kind::Queue(queue) => queue.push(value, flags),
                Kind::Bloom(bloom) => bloom.push(value, flags),
                _ => Err(Errno::EOPNOTSUPP),
            }
        })
    }

    /// `bpf_map_pop_elem` (queue, stack): 0 or a negative error number; the value is zeroed when there is none.
    ///
    /// # Safety
    /// `value` is writable for the value size.
    pub unsafe fn pop(&self, value: *mut u8) -> i64 {
        // SAFETY: by the contract.
        ret(unsafe {
            match &self.kind {
                Kind::Queue(queue) => queue.get(value, true),
                _ => Err(Errno::EOPNOTSUPP),
            }
        })
    }

    /// `bpf_map_peek_elem`: of a queue or stack copies the next value; of a bloom filter reads the value and tells whether
    /// it may be in it. 0 or a negative error number.
    ///
    /// # Safety
    /// `value` is readable and writable for the value size.
    pub unsafe fn peek(&self, value: *mut u8) -> i64 {
        // SAFETY: by the contract.
        ret(unsafe {
            match &self.kind {
                Kind::Queue(queue) => queue.get(value, false),
                Kind::Bloom(bloom) => bloom.peek(value),
                _ => Err(Errno::EOPNOTSUPP),
            }
        })
    }

    /// `bpf_for_each_map_elem`: calls `each` with the addresses of key and value (of this CPU) until it returns other than
    /// 0; how many times it was called, or `EINVAL` for flags or a map of another type. `each` may change the map, also
    /// delete the key it is at.
    ///
    /// # Safety
    /// This thread is pinned; what `each` does with the addresses is within the sizes.
    pub unsafe fn for_each(&self, flags: u64, cpu: u32, each: &mut dyn FnMut(*mut u8, *mut u8) -> u64) -> i64 {
        if flags != 0 || cpu >= self.cpus {
            return Errno::EINVAL.to_ret();
        }
        let mut calls = 0;
        match &self.kind {
            Kind::Array(array) => {
                for index in 0..self.max_entries {
                    let Some(value) = array.at(index, cpu) else { break };
                    // A key of its own, as programs can write to it.
                    let mut key = [index, 0];
                    calls += 1;
                    if each((&raw mut key).cast(), value) != 0 {
                        break;
                    }
                }
            }
            Kind::Hash(hash) if self.map_type != MapType::HashOfMaps => {
                // SAFETY: pinned by the contract.
                for element in unsafe { hash.elements() } {
                    calls += 1;
                    // SAFETY: an element of this map.
                    if each(element, unsafe { hash.value_of(element, cpu) }) != 0 {
                        break;
                    }
                }
            }
            _ => return Errno::EINVAL.to_ret(),
        }
        calls
    }

    /// What a program array has at an index: the target of a tail call, null if there is none.
    #[inline]
    pub fn tail_target(&self, index: u32) -> *const TailTarget {
        match &self.kind {
            Kind::Programs(slots) => slots.get(index),
            _ => ptr::null(),
        }
    }

    /// `bpf_ringbuf_reserve`: the record's address, null when there is no room or a flag is set. To be given to
    /// [`ringbuf_submit`] or [`ringbuf_discard`], once.
    pub fn ringbuf_reserve(&self, size: u64, flags: u64) -> *mut u8 {
        match &self.kind {
            Kind::Ring(ring) if flags == 0 => ring.reserve(size),
            _ => ptr::null_mut(),
        }
    }

    /// `bpf_ringbuf_output`: 0 or a negative error number.
    ///
    /// # Safety
    /// `data` is readable for `size` bytes.
    pub unsafe fn ringbuf_output(&self, data: *const u8, size: u64, flags: u64) -> i64 {
        match &self.kind {
            // SAFETY: by the contract.
            Kind::Ring(ring) => ret(unsafe { ring.output(data, size, flags) }),
            _ => Errno::EINVAL.to_ret(),
        }
    }

    /// `bpf_ringbuf_query`: 0 available bytes, 1 size, 2 and 3 positions of consumer and producers; else 0.
    pub fn ringbuf_query(&self, what: u64) -> u64 {
        match &self.kind {
            Kind::Ring(ring) => ring.query(what),
            _ => 0,
        }
    }

    /// The addresses where a ring buffer's records lie.
    pub fn ringbuf_range(&self) -> Option<std::ops::Range<usize>> {
        match &self.kind {
            Kind::Ring(ring) => Some(ring.range()),
            _ => None,
        }
    }

    /// `bpf_perf_event_output` of pieces that make up one record. `flags` is an index or `BPF_F_CURRENT_CPU`; other bits are
    /// `EINVAL`. 0 or a negative error number.
    pub fn perf_output(&self, flags: u64, cpu: u32, pieces: &[&[u8]]) -> i64 {
        let Kind::Perf(perf) = &self.kind else { return Errno::EINVAL.to_ret() };
        if flags & !skep_abi::flags::BPF_F_INDEX_MASK != 0 {
            return Errno::EINVAL.to_ret();
        }
        let index = if flags == skep_abi::flags::BPF_F_CURRENT_CPU { cpu } else { flags as u32 };
        if index >= self.max_entries {
            return Errno::E2BIG.to_ret();
        }
        ret(perf.output(index, cpu, pieces))
    }
}

/// # Safety
/// `map` is a [`Map`]; the rest as for [`Map::lookup`].
unsafe extern "C" fn lookup_any(map: *const c_void, key: *const u8, cpu: u32) -> *mut u8 {
    // SAFETY: by the contract.
    unsafe { (*map.cast::<Map>()).lookup(key, cpu) }
}

/// `bpf_ringbuf_submit`.
///
/// # Safety
/// `record` came from [`Map::ringbuf_reserve`] of a map that still is, and was given to neither this nor
/// [`ringbuf_discard`] before.
pub unsafe extern "C" fn ringbuf_submit(record: *mut u8, flags: u64) {
    // SAFETY: by the contract.
    unsafe { ringbuf::commit(record, flags, false) };
}

/// `bpf_ringbuf_discard`.
///
/// # Safety
/// As for [`ringbuf_submit`].
pub unsafe extern "C" fn ringbuf_discard(record: *mut u8, flags: u64) {
    // SAFETY: by the contract.
    unsafe { ringbuf::commit(record, flags, true) };
}
