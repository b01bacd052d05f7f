//! Making maps: what the kernel checks, in its order, and the sizes it refuses.
//!
//! Sources: `map_create` in `kernel/bpf/syscall.c`, the `*_alloc_check` functions of each type (6.18).

use super::array::Array;
use super::error::{Errno, MapError, Result};
use super::hash::{Flavour, Hash};
use super::lpm::Lpm;
use super::memory::page_size;
use super::perf::Perf;
use super::queue::{Bloom, Queue};
use super::ringbuf::Ring;
use super::signal::Signal;
use super::slots::Slots;
use super::value::{SpecialField, SpecialKind, ValueLayout};
use super::{Kind, Map};
use skep_abi::MapType;
use skep_abi::flags::map_create::{
    self, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE, BPF_F_RB_OVERWRITE, BPF_F_RDONLY, BPF_F_RDONLY_PROG,
    BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
};
use skep_abi::maps::{SizeRule, facts};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// `KMALLOC_MAX_SIZE` on x86-64 and arm64 with pages of 4 KiB.
const KMALLOC_MAX: u64 = 4 << 20;
/// `PCPU_MIN_UNIT_SIZE`: most bytes of a value for each CPU.
const PER_CPU_MAX: u64 = 32 << 10;
/// `sizeof(struct htab_elem)`.
const KERNEL_HASH_ELEMENT: u64 = 48;
/// `sizeof(struct bucket)` in `kernel/bpf/hashtab.c`.
const KERNEL_BUCKET: u64 = 16;
/// `LPM_DATA_SIZE_MAX` and `sizeof(struct lpm_trie_node)`.
const KERNEL_LPM_NODE: u64 = 256 + 24;
/// Most CPUs that a map can have values for; far above what Linux can be built with (8192).
const MOST_CPUS: u32 = 1 << 16;

/// The rule of [`facts`] for sizes that only memory limits.
const ANY_SIZE: SizeRule = SizeRule::Between(1, i32::MAX as u32);

/// What a map is made from. [`Definition::new`] sets what every map needs, the rest starts at "none".
#[derive(Clone, Debug)]
pub struct Definition {
    /// Name, for messages.
    pub name: String,
    /// Type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU's, for per-CPU maps).
    pub value_size: u32,
    /// Most elements; bytes for ring buffers.
    pub max_entries: u32,
    /// `BPF_F_*` of map creation.
    pub flags: u32,
    /// Hash functions of a bloom filter.
    pub map_extra: u64,
    /// Template for maps of maps: a map like those that will stand in it.
    pub inner: Option<Arc<Map>>,
    /// Fields of the value that belong to the engine, by the map's BTF.
    pub special: Vec<SpecialField>,
    /// The signal to raise when records come; `None` makes one of the map's own.
    pub signal: Option<Arc<Signal>>,
}

impl Definition {
    /// The parameters that every map needs.
    pub fn new(
        name: impl Into<String>,
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> Definition {
        Definition {
            name: name.into(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            map_extra: 0,
            inner: None,
            special: Vec::new(),
            signal: None,
        }
    }

    /// With these `BPF_F_*`.
    pub fn with_flags(self, flags: u64) -> Definition {
        Definition { flags: flags as u32, ..self }
    }

    fn refuse<T>(&self, errno: Errno, why: impl Into<String>) -> std::result::Result<T, MapError> {
        let what = format!(
            "{} ({}, key {}, value {}, {} entries)",
            self.name, self.map_type, self.key_size, self.value_size, self.max_entries
        );
        Err(MapError::Refused { errno, what, why: why.into() })
    }

    fn has(&self, flag: u64) -> bool {
        u64::from(self.flags) & flag != 0
    }
}

/// The types that are here.
fn is_supported(map_type: MapType) -> bool {
    use MapType as M;
    matches!(
        map_type,
        M::Hash
            | M::Array
            | M::ProgArray
            | M::PerfEventArray
            | M::PercpuHash
            | M::PercpuArray
            | M::LruHash
            | M::LruPercpuHash
            | M::LpmTrie
            | M::ArrayOfMaps
            | M::HashOfMaps
            | M::Queue
            | M::Stack
            | M::Ringbuf
            | M::BloomFilter
    )
}

impl Map {
    /// Makes a map with values for `cpus` CPUs (at least 1): the errors are those of `BPF_MAP_CREATE`, with their causes.
    pub fn create(definition: &Definition, cpus: u32) -> std::result::Result<Arc<Map>, MapError> {
        let d = definition;
        if !is_supported(d.map_type) {
            return Err(MapError::Unsupported { name: d.name.clone(), map_type: d.map_type });
        }
        if cpus == 0 || cpus > MOST_CPUS {
            return d.refuse(Errno::EINVAL, format!("{cpus} CPUs: there must be 1 to {MOST_CPUS}"));
        }
        check_flags(d)?;
        check_sizes(d)?;
        check_special(d)?;
        let inner = check_inner(d)?;
        let max_entries = match d.has(BPF_F_NO_COMMON_LRU) {
            // A list for each CPU, all of the same length.
            true => d.max_entries.checked_next_multiple_of(cpus).unwrap_or(d.max_entries / cpus * cpus),
            false => d.max_entries,
        };
        let layout = ValueLayout::new(d.value_size, &d.special);
        let signal = d.signal.clone().unwrap_or_default();
        let kind = match make_kind(d, &layout, max_entries, cpus, &signal) {
            Ok(kind) => kind,
            Err(Errno::ENOMEM) => return d.refuse(Errno::ENOMEM, "the machine has no room for it; make it smaller"),
            Err(errno) => return d.refuse(errno, "its memory could not be had"),
        };
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        Ok(Arc::new(Map {
            name: d.name.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            map_type: d.map_type,
            key_size: d.key_size,
            layout,
            max_entries,
            flags: d.flags,
            map_extra: d.map_extra,
            cpus,
            special: d.special.clone(),
            frozen: AtomicBool::new(false),
            inner,
            signal,
            kind,
        }))
    }
}

fn make_kind(d: &Definition, layout: &ValueLayout, max_entries: u32, cpus: u32, signal: &Arc<Signal>) -> Result<Kind> {
    use MapType as M;
    let zero_seed = d.has(BPF_F_ZERO_SEED);
    let hash = |lru, per_cpu, maps| {
        let flavour = Flavour { lru, per_cpu, maps };
        Hash::new(d.key_size, layout.clone(), max_entries, cpus, zero_seed, flavour).map(|h| Kind::Hash(Box::new(h)))
    };
    match d.map_type {
        M::Array => Array::new(layout, max_entries, cpus, false).map(Kind::Array),
        M::PercpuArray => Array::new(layout, max_entries, cpus, true).map(Kind::Array),
        M::Hash => hash(false, false, false),
        M::PercpuHash => hash(false, true, false),
        M::LruHash => hash(true, false, false),
        M::LruPercpuHash => hash(true, true, false),
        M::HashOfMaps => hash(false, false, true),
        M::LpmTrie => Lpm::new(d.key_size, layout.clone(), max_entries).map(|lpm| Kind::Lpm(Box::new(lpm))),
        M::ProgArray => Slots::new(max_entries).map(Kind::Programs),
        M::ArrayOfMaps => Slots::new(max_entries).map(Kind::Maps),
        M::Queue => Queue::new(d.value_size, max_entries, false).map(Kind::Queue),
        M::Stack => Queue::new(d.value_size, max_entries, true).map(Kind::Queue),
        M::BloomFilter => Bloom::new(d.value_size, max_entries, d.map_extra, zero_seed).map(Kind::Bloom),
        M::Ringbuf => Ring::new(max_entries, signal.clone()).map(Kind::Ring),
        M::PerfEventArray => Ok(Kind::Perf(Perf::new(max_entries, cpus, signal.clone()))),
        _ => Err(Errno::EINVAL),
    }
}

fn check_flags(d: &Definition) -> std::result::Result<(), MapError> {
    let both = |pair: u64| u64::from(d.flags) & pair == pair;
    if both(BPF_F_RDONLY | BPF_F_WRONLY) {
        return d.refuse(Errno::EINVAL, "it cannot be read-only and write-only for user space");
    }
    if d.map_type == MapType::BloomFilter {
        if u64::from(d.value_size) > KMALLOC_MAX {
            return d.refuse(Errno::E2BIG, format!("its values have at most {KMALLOC_MAX} bytes"));
        }
        if d.map_extra & !0xf != 0 {
            return d.refuse(Errno::EINVAL, "map_extra: at most 15 hash functions");
        }
    } else if d.map_extra != 0 {
        return d.refuse(Errno::EINVAL, "maps of this type have no map_extra; leave it 0");
    }
    let is_lru = matches!(d.map_type, MapType::LruHash | MapType::LruPercpuHash);
    // To these two the kernel has answers of their own.
    let told_apart =
        if is_lru { BPF_F_NO_PREALLOC } else { 0 } | if facts(d.map_type).per_cpu { BPF_F_NUMA_NODE } else { 0 };
    let known = facts(d.map_type).flags & !BPF_F_RB_OVERWRITE | told_apart;
    let refuse_flags = |what: &str, flags: u64| {
        d.refuse(Errno::EINVAL, format!("maps of this type {what} {}", skep_abi::flags::names(map_create::ALL, flags)))
    };
    let unknown = u64::from(d.flags) & !known;
    if unknown != 0 {
        return refuse_flags("do not take", unknown);
    }
    let missing = facts(d.map_type).required_flags & !u64::from(d.flags);
    if missing != 0 {
        return refuse_flags("need", missing);
    }
    if both(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) {
        return d.refuse(Errno::EINVAL, "it cannot be read-only and write-only for programs");
    }
    if is_lru && d.has(BPF_F_NO_PREALLOC) {
        return d.refuse(Errno::ENOTSUPP, "LRU maps do not take BPF_F_NO_PREALLOC");
    }
    if facts(d.map_type).per_cpu && d.has(BPF_F_NUMA_NODE) {
        return refuse_flags("do not take", BPF_F_NUMA_NODE);
    }
    Ok(())
}

fn check_sizes(d: &Definition) -> std::result::Result<(), MapError> {
    use MapType as M;
    let facts = facts(d.map_type);
    let (key, value) = (u64::from(d.key_size), u64::from(d.value_size));
    if d.map_type == M::Ringbuf {
        if key != 0 || value != 0 {
            return d.refuse(Errno::EINVAL, "ring buffers have no key and value sizes; leave them 0");
        }
        if !d.max_entries.is_power_of_two() || !(d.max_entries as usize).is_multiple_of(page_size()) {
            let page = page_size();
            return d.refuse(Errno::EINVAL, format!("max_entries is its size in bytes: a power of two from {page}"));
        }
        return Ok(());
    }
    if d.max_entries == 0 {
        return d.refuse(Errno::EINVAL, "set max_entries");
    }
    // What is only too large is told apart below.
    let refused = |rule: SizeRule, size: u32| !(rule.allows(size) || (rule == ANY_SIZE && size > 0));
    if refused(facts.key, d.key_size) {
        return d.refuse(Errno::EINVAL, format!("its key size must be {}", rule_text(facts.key)));
    }
    if refused(facts.value, d.value_size) {
        return d.refuse(Errno::EINVAL, format!("its value size must be {}", rule_text(facts.value)));
    }
    let slot = value.next_multiple_of(8);
    let too_big = match d.map_type {
        M::Hash | M::PercpuHash | M::LruHash | M::LruPercpuHash | M::HashOfMaps
            if key + value >= KMALLOC_MAX - KERNEL_HASH_ELEMENT =>
        {
            Some(format!("key and value together must stay below {} bytes", KMALLOC_MAX - KERNEL_HASH_ELEMENT))
        }
        M::PercpuHash | M::LruPercpuHash | M::PercpuArray if slot > PER_CPU_MAX => {
            Some(format!("a value for each CPU has at most {PER_CPU_MAX} bytes"))
        }
        M::Hash | M::PercpuHash | M::LruHash | M::LruPercpuHash | M::HashOfMaps
            if u64::from(d.max_entries).next_power_of_two() > u64::from(u32::MAX) / KERNEL_BUCKET =>
        {
            Some(format!("at most {} entries", 1u32 << 27))
        }
        M::Queue | M::Stack if value > KMALLOC_MAX => Some(format!("its values have at most {KMALLOC_MAX} bytes")),
        M::Array if value > i32::MAX as u64 => Some(format!("its values have at most {} bytes", i32::MAX)),
        _ => None,
    };
    if let Some(why) = too_big {
        return d.refuse(Errno::E2BIG, why);
    }
    if d.map_type == M::LpmTrie && value > KMALLOC_MAX - KERNEL_LPM_NODE {
        return d.refuse(Errno::EINVAL, format!("its values have at most {} bytes", KMALLOC_MAX - KERNEL_LPM_NODE));
    }
    Ok(())
}

fn rule_text(rule: SizeRule) -> String {
    use SizeRule as R;
    match rule {
        R::OneOf(sizes) => {
            let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
            sizes.join(" or ")
        }
        R::Between(low, high) if high == i32::MAX as u32 => format!("at least {low}"),
        R::Between(low, high) => format!("{low} to {high}"),
        R::MultipleOf(unit) => format!("a multiple of {unit}"),
        R::KernelStruct => "that of the kernel's struct".into(),
    }
}

/// Source: `map_check_btf`.
fn check_special(d: &Definition) -> std::result::Result<(), MapError> {
    let facts = facts(d.map_type);
    let mut end = 0;
    let mut sorted = d.special.clone();
    sorted.sort_by_key(|field| field.offset);
    for field in &sorted {
        let name = field.kind.name();
        let behind = field.offset.checked_add(field.kind.size()).filter(|behind| *behind <= d.value_size);
        let Some(behind) = behind.filter(|_| field.offset >= end && field.offset % field.kind.align() == 0) else {
            return d.refuse(Errno::EINVAL, format!("{name} at byte {} does not fit into the value", field.offset));
        };
        end = behind;
        if d.has(BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) {
            return d.refuse(Errno::EACCES, format!("programs must read and write a value with a {name}"));
        }
        let allowed = match field.kind {
            SpecialKind::SpinLock => facts.spin_lock,
            SpecialKind::Timer | SpecialKind::Workqueue => facts.timer,
        };
        if !allowed {
            return d.refuse(Errno::EOPNOTSUPP, format!("values of this type cannot have a {name}"));
        }
        if sorted.iter().filter(|other| other.kind == field.kind).count() > 1 {
            return d.refuse(Errno::E2BIG, format!("a value has at most one {name}"));
        }
    }
    Ok(())
}

/// Source: `bpf_map_meta_alloc`.
fn check_inner(d: &Definition) -> std::result::Result<Option<Box<super::Template>>, MapError> {
    if !facts(d.map_type).holds_maps {
        return Ok(None);
    }
    let Some(inner) = &d.inner else {
        return d.refuse(Errno::EINVAL, "a map of maps needs a template for them (`__array(values, ...)`)");
    };
    if inner.inner.is_some() {
        return d.refuse(Errno::EINVAL, format!("{} is a map of maps itself; there is one level only", inner.name()));
    }
    if !facts(inner.map_type()).can_be_inner {
        let (name, map_type) = (inner.name(), inner.map_type());
        return d.refuse(Errno::ENOTSUPP, format!("{name} cannot stand in it: maps of type {map_type} cannot"));
    }
    Ok(Some(Box::new(inner.template())))
}
