//! Map helpers: look up, update, delete, push, pop, peek, walk.
#![expect(unsafe_code, reason = "maps take and give addresses")]

use super::{errno, fail};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::{HelperResult, Stop};
use crate::map::{F_LOCK, Map, SpecialKind};
use crate::memory::RegionName;
use skep_abi::MapType;

fn pointer(addr: u64) -> *const u8 {
    std::ptr::with_exposed_provenance(addr as usize)
}

fn pointer_mut(addr: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(addr as usize)
}

/// The map and its key, which the program may read.
fn map_and_key(env: &mut Env, map: u64, key: u64) -> Result<&'static Map, Stop> {
    let map = env.map(map)?;
    env.may(key, map.key_size().into(), false)?;
    Ok(map)
}

/// What an unverified program may not do with a map that is read-only for programs.
fn writable(env: &Env, map: &Map, helper: &'static str) -> Result<(), Stop> {
    if env.is_checked() && !map.program_may_write() {
        let why = format!("map {} is read-only for programs (BPF_F_RDONLY_PROG)", map.name());
        return Err(FaultKind::Helper { helper, why }.into());
    }
    Ok(())
}

/// The program owns the value that a lookup gave.
fn give(env: &mut Env, map: &Map, value: *mut u8) -> HelperResult {
    let value = value.expose_provenance() as u64;
    if value == 0 || !env.is_checked() {
        return Ok(value);
    }
    if matches!(map.map_type(), MapType::ArrayOfMaps | MapType::HashOfMaps) {
        env.own_map(value);
    } else if map.program_may_read() {
        own_value(env, map, value)?;
    }
    Ok(value)
}

/// The program owns a value but for the fields that belong to the engine; a lock it may lock.
fn own_value(env: &mut Env, map: &Map, value: u64) -> Result<(), Stop> {
    let name = || RegionName::MapValue(map.name().into());
    let (writable, size) = (map.program_may_write(), u64::from(map.value_size()));
    if map.special_fields().is_empty() {
        return env.own(value, size, writable, name);
    }
    let mut special = map.special_fields().to_vec();
    special.sort_by_key(|field| field.offset);
    let mut at = 0;
    for field in special {
        let offset = u64::from(field.offset);
        env.own(value + at, offset.saturating_sub(at), writable, name)?;
        if field.kind == SpecialKind::SpinLock {
            env.own(value + offset, 4, false, || RegionName::SpinLock(map.name().into()))?;
        }
        at = offset + u64::from(field.kind.size());
    }
    env.own(value + at, size.saturating_sub(at), writable, name)
}

/// `bpf_map_lookup_elem`.
pub(super) fn lookup(env: &mut Env, [map, key, ..]: [u64; 5]) -> HelperResult {
    let map = map_and_key(env, map, key)?;
    // SAFETY: the key is the program's, and the run is pinned.
    let value = unsafe { map.lookup(pointer(key), env.cpu()) };
    give(env, map, value)
}

/// `bpf_map_lookup_percpu_elem`.
pub(super) fn lookup_percpu(env: &mut Env, [map, key, cpu, ..]: [u64; 5]) -> HelperResult {
    let map = map_and_key(env, map, key)?;
    // SAFETY: as in `lookup`.
    let value = unsafe { map.lookup_percpu(pointer(key), cpu as u32) };
    give(env, map, value)
}

/// `bpf_map_update_elem`.
pub(super) fn update(env: &mut Env, [map, key, value, flags, _]: [u64; 5]) -> HelperResult {
    let map = map_and_key(env, map, key)?;
    writable(env, map, "bpf_map_update_elem")?;
    if flags & F_LOCK != 0
        && let Some(held) = env.scratch.lock
    {
        // It would wait for itself.
        let why = format!("the program holds the lock at {held:#x}, and BPF_F_LOCK takes one");
        return Err(FaultKind::Helper { helper: "bpf_map_update_elem", why }.into());
    }
    env.may(value, map.value_size().into(), false)?;
    // SAFETY: key and value are the program's, and the run is pinned.
    Ok(unsafe { map.update(pointer(key), pointer(value), flags, env.cpu()) } as u64)
}

/// `bpf_map_delete_elem`.
pub(super) fn delete(env: &mut Env, [map, key, ..]: [u64; 5]) -> HelperResult {
    let map = map_and_key(env, map, key)?;
    writable(env, map, "bpf_map_delete_elem")?;
    // SAFETY: as in `lookup`.
    Ok(unsafe { map.delete(pointer(key)) } as u64)
}

/// `bpf_map_push_elem`.
pub(super) fn push(env: &mut Env, [map, value, flags, ..]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    writable(env, map, "bpf_map_push_elem")?;
    env.may(value, map.value_size().into(), false)?;
    // SAFETY: the value is the program's.
    Ok(unsafe { map.push(pointer(value), flags) } as u64)
}

/// `bpf_map_pop_elem`.
pub(super) fn pop(env: &mut Env, [map, value, ..]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    writable(env, map, "bpf_map_pop_elem")?;
    env.may(value, map.value_size().into(), true)?;
    // SAFETY: the value is the program's.
    Ok(unsafe { map.pop(pointer_mut(value)) } as u64)
}

/// `bpf_map_peek_elem`.
pub(super) fn peek(env: &mut Env, [map, value, ..]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    // A bloom filter only reads the value.
    env.may(value, map.value_size().into(), map.map_type() != MapType::BloomFilter)?;
    // SAFETY: the value is the program's.
    Ok(unsafe { map.peek(pointer_mut(value)) } as u64)
}

/// `bpf_for_each_map_elem`: the callback gets map, key, value and the context.
pub(super) fn for_each(env: &mut Env, [pointer, callback, context, flags, _]: [u64; 5]) -> HelperResult {
    let map = env.map(pointer)?;
    let mut stopped = None;
    let (cpu, key_size) = (env.cpu(), u64::from(map.key_size()));
    let mut each = |key: *mut u8, value: *mut u8| {
        let (key, start) = (key.expose_provenance() as u64, value.expose_provenance() as u64);
        // A walk within a walk over the same map: the outer one's callback still has the key.
        let (known_key, known_value) = (env.owns(key), env.owns(start));
        let called = give(env, map, value).and_then(|value| {
            env.own(key, key_size, false, || RegionName::MapKey(map.name().into()))?;
            let result = env.call_back(callback, [pointer, key, value, context, 0]);
            // The key of an array is gone after the call.
            if !known_key {
                env.disown(key);
            }
            // The value stays, as the callback may have noted where it is; but a large map must not use up all there is.
            if !known_value && env.owns_much() {
                env.disown_all(value, map.value_size().into());
            }
            result
        });
        called.unwrap_or_else(|stop| {
            stopped = Some(stop);
            1
        })
    };
    // SAFETY: the run is pinned; the callback is checked like the rest of the program.
    let calls = unsafe { map.for_each(flags, cpu, &mut each) };
    match stopped {
        Some(stop) => Err(stop),
        None => Ok(calls as u64),
    }
}

/// kfunc `bpf_map_sum_elem_count`: elements of hash maps; 0 of others, which do not count.
pub(super) fn sum_elem_count(env: &mut Env, [map, ..]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    let counts = matches!(
        map.map_type(),
        MapType::Hash | MapType::PercpuHash | MapType::LruHash | MapType::LruPercpuHash | MapType::HashOfMaps
    );
    Ok(if counts { map.len() } else { 0 })
}

/// `bpf_ringbuf_reserve`: the record's address, null where there is no room.
pub(super) fn ringbuf_reserve(env: &mut Env, [map, size, flags, ..]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    reserve(env, map, size, flags)
}

/// Reserves a record for the program.
pub(super) fn reserve(env: &mut Env, map: &Map, size: u64, flags: u64) -> HelperResult {
    let record = map.ringbuf_reserve(size, flags).expose_provenance() as u64;
    if record != 0 {
        env.scratch.records.push((record, size));
        env.own(record, size, true, || RegionName::Record(map.name().into()))?;
    }
    Ok(record)
}

/// Submits or discards a record that the program holds.
pub(super) fn commit(env: &mut Env, record: u64, flags: u64, discard: bool) -> Result<(), Stop> {
    let Some(place) = env.scratch.records.iter().rposition(|(start, _)| *start == record) else {
        let helper = if discard { "bpf_ringbuf_discard" } else { "bpf_ringbuf_submit" };
        let why = format!("{record:#x} is not a record that the program has reserved and still holds");
        return Err(FaultKind::Helper { helper, why }.into());
    };
    let (_, len) = env.scratch.records.swap_remove(place);
    if let Some(lock) = env.scratch.lock.filter(|lock| lock.wrapping_sub(record) < len) {
        // Given back later, it would be written to memory that is another's by then.
        env.scratch.records.push((record, len));
        let helper = if discard { "bpf_ringbuf_discard" } else { "bpf_ringbuf_submit" };
        let why = format!("the program holds the lock at {lock:#x}, which is in the record");
        return Err(FaultKind::Helper { helper, why }.into());
    }
    env.disown(record);
    // SAFETY: reserved in this run and not given back before; its map is one that the program holds.
    unsafe {
        match discard {
            true => crate::map::ringbuf_discard(pointer_mut(record), flags),
            false => crate::map::ringbuf_submit(pointer_mut(record), flags),
        }
    }
    Ok(())
}

/// `bpf_ringbuf_submit`.
pub(super) fn ringbuf_submit(env: &mut Env, [record, flags, ..]: [u64; 5]) -> HelperResult {
    commit(env, record, flags, false)?;
    Ok(0)
}

/// `bpf_ringbuf_discard`.
pub(super) fn ringbuf_discard(env: &mut Env, [record, flags, ..]: [u64; 5]) -> HelperResult {
    commit(env, record, flags, true)?;
    Ok(0)
}

/// `bpf_ringbuf_output`.
pub(super) fn ringbuf_output(env: &mut Env, [map, data, size, flags, _]: [u64; 5]) -> HelperResult {
    let map = env.map(map)?;
    env.may(data, size, false)?;
    // SAFETY: the data is the program's.
    Ok(unsafe { map.ringbuf_output(pointer(data), size, flags) } as u64)
}

/// `bpf_ringbuf_query`.
pub(super) fn ringbuf_query(env: &mut Env, [map, what, ..]: [u64; 5]) -> HelperResult {
    Ok(env.map(map)?.ringbuf_query(what))
}

/// `bpf_perf_event_output`: the data, and behind it as much of the packet as the flags ask for.
pub(super) fn perf_event_output(env: &mut Env, [_, map, flags, data, size]: [u64; 5]) -> HelperResult {
    use skep_abi::flags::{BPF_F_CTXLEN_MASK, BPF_F_INDEX_MASK};
    let map = env.map(map)?;
    let cpu = env.cpu();
    let with_packet = env.packet().is_some();
    let known = if with_packet { BPF_F_CTXLEN_MASK | BPF_F_INDEX_MASK } else { BPF_F_INDEX_MASK };
    if flags & !known != 0 {
        return fail(libc::EINVAL);
    }
    let from_packet = ((flags & BPF_F_CTXLEN_MASK) >> BPF_F_CTXLEN_MASK.trailing_zeros()) as usize;
    env.may(data, size, false)?;
    env.worked(from_packet as u64);
    let packet = match env.packet() {
        Some(packet) => packet.bytes().get(..from_packet),
        None => Some(&[][..]),
    };
    let Some(packet) = packet else { return Ok(errno(libc::EFAULT)) };
    // SAFETY: checked just now; the program's memory stays for the run.
    let data = if size == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pointer(data), size as usize) } };
    Ok(map.perf_output(flags & BPF_F_INDEX_MASK, cpu, &[data, packet]) as u64)
}
