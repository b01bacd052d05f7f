//! What each map type takes: sizes, flags, and what user space can do with it.
//!
//! ```
//! use skep_abi::{MapType, maps::{self, SizeRule}};
//! let array = maps::facts(MapType::Array);
//! assert_eq!(array.key, SizeRule::OneOf(&[4]));
//! assert!(!array.key.allows(8));
//! assert!(maps::facts(MapType::PercpuHash).per_cpu);
//! ```
//!
//! Sources: the `*_alloc_check` and `*_alloc` functions and `bpf_map_ops` tables in `kernel/bpf/`, `net/core/sock_map.c`,
//! `net/xdp/xskmap.c`; `map_create`, `map_check_btf` and `bpf_map_copy_value` in `kernel/bpf/syscall.c` (6.12).
//! Upper limits that hang on memory or on the number of CPUs are not here: an attempt tells those.

use crate::{
    MapType,
    flags::map_create::{
        BPF_F_CLONE as CLONE, BPF_F_INNER_MAP as INNER_MAP, BPF_F_LINK as LINK, BPF_F_MMAPABLE as MMAPABLE,
        BPF_F_NO_COMMON_LRU as NO_COMMON_LRU, BPF_F_NO_PREALLOC as NO_PREALLOC, BPF_F_NO_USER_CONV as NO_USER_CONV,
        BPF_F_NUMA_NODE as NUMA_NODE, BPF_F_PRESERVE_ELEMS as PRESERVE_ELEMS, BPF_F_RB_OVERWRITE as RB_OVERWRITE,
        BPF_F_RDONLY as RDONLY, BPF_F_RDONLY_PROG as RDONLY_PROG, BPF_F_SEGV_ON_FAULT as SEGV_ON_FAULT,
        BPF_F_STACK_BUILD_ID as STACK_BUILD_ID, BPF_F_VTYPE_BTF_OBJ_FD as VTYPE_BTF_OBJ_FD, BPF_F_WRONLY as WRONLY,
        BPF_F_WRONLY_PROG as WRONLY_PROG, BPF_F_ZERO_SEED as ZERO_SEED,
    },
};

/// A rule for a key or value size, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeRule {
    /// One of these; `[0]` where there is none.
    OneOf(&'static [u32]),
    /// Between these, both included.
    Between(u32, u32),
    /// A multiple of the first, above 0.
    MultipleOf(u32),
    /// The size of the kernel struct that the map's type names.
    KernelStruct,
}

impl SizeRule {
    /// Whether a size keeps to the rule; the size of a kernel struct is not known here, so any but 0 does.
    pub fn allows(self, size: u32) -> bool {
        match self {
            SizeRule::OneOf(sizes) => sizes.contains(&size),
            SizeRule::Between(low, high) => (low..=high).contains(&size),
            SizeRule::MultipleOf(unit) => size > 0 && size.is_multiple_of(unit),
            SizeRule::KernelStruct => size > 0,
        }
    }
}

/// A rule for `max_entries`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntriesRule {
    /// At least 1.
    Some,
    /// Exactly this.
    Exactly(u32),
    /// Bytes: a power of two that is a multiple of the page size.
    PowerOfTwoPages,
    /// Pages of memory, at least 1, together at most 4 GiB.
    Pages,
}

/// What a lookup from user space gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserLookup {
    /// Nothing: not supported.
    None,
    /// The value.
    Value,
    /// A value for each possible CPU, each rounded up to 8 bytes.
    ValuePerCpu,
    /// The id of the program or map that was put there by descriptor.
    Id,
    /// The socket's cookie, where the value size is 8.
    SocketCookie,
    /// The next value of a queue or stack, without a key.
    Peek,
    /// Whether the value may be in the filter: it is passed as the value, without a key.
    Membership,
}

/// How a map takes type information when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BtfRule {
    /// Refuses it.
    Refused,
    /// Takes it, and keeps it for those who print the map.
    Optional,
    /// Cannot be made without.
    Required,
}

/// Whether a map's memory can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmapRule {
    /// It cannot.
    No,
    /// With `BPF_F_MMAPABLE`.
    WithFlag,
    /// Always: it is how the map is used.
    Always,
}

/// What is needed to make a map where unprivileged BPF is otherwise allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Nothing.
    None,
    /// `CAP_BPF`.
    Bpf,
    /// `CAP_NET_ADMIN`.
    NetAdmin,
}

/// Which operations on many elements at once (`BPF_MAP_*_BATCH`) a type has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// `BPF_MAP_LOOKUP_BATCH`.
    pub lookup: bool,
    /// `BPF_MAP_LOOKUP_AND_DELETE_BATCH`.
    pub lookup_and_delete: bool,
    /// `BPF_MAP_UPDATE_BATCH`.
    pub update: bool,
    /// `BPF_MAP_DELETE_BATCH`.
    pub delete: bool,
}

/// What a map type takes and does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapFacts {
    /// The type.
    pub kind: MapType,
    /// Key size.
    pub key: SizeRule,
    /// Value size.
    pub value: SizeRule,
    /// Number of entries.
    pub entries: EntriesRule,
    /// The flags it takes, from [`crate::flags::map_create`]; `BPF_F_TOKEN_FD` goes with every type.
    pub flags: u64,
    /// The flags it must be made with.
    pub required_flags: u64,
    /// Each CPU has a value of its own.
    pub per_cpu: bool,
    /// What a lookup from user space gives.
    pub lookup: UserLookup,
    /// User space can put elements in.
    pub update: bool,
    /// User space can take elements out.
    pub delete: bool,
    /// User space can go from key to key.
    pub iterate: bool,
    /// User space can take out and read in one step.
    pub lookup_and_delete: bool,
    /// Operations on many elements.
    pub batch: Batch,
    /// Type information.
    pub btf: BtfRule,
    /// Mapping into a process.
    pub mmap: MmapRule,
    /// Its values are maps, and it is made from a template for them (`inner_map_fd`).
    pub holds_maps: bool,
    /// It can be such a value.
    pub can_be_inner: bool,
    /// Values may have a `struct bpf_spin_lock`.
    pub spin_lock: bool,
    /// Values may have a `struct bpf_timer` or `struct bpf_wq`, lists and trees.
    pub timer: bool,
    /// Values may have pointers to kernel objects.
    pub kptr: bool,
    /// What making it needs.
    pub capability: Capability,
}

impl MapFacts {
    /// Whether its values are descriptors of something: the kernel keeps the thing, and gives back an id or nothing.
    pub fn value_is_descriptor(&self) -> bool {
        use MapType as M;
        matches!(
            self.kind,
            M::ProgArray
                | M::PerfEventArray
                | M::CgroupArray
                | M::ArrayOfMaps
                | M::HashOfMaps
                | M::Xskmap
                | M::Sockmap
                | M::Sockhash
                | M::ReuseportSockarray
        )
    }

    /// The bytes one element takes in a buffer passed to bpf(2), with this many possible CPUs.
    pub fn user_value_size(&self, value_size: u32, possible_cpus: u32) -> u64 {
        if self.per_cpu {
            u64::from(value_size).next_multiple_of(8) * u64::from(possible_cpus)
        } else {
            u64::from(value_size)
        }
    }
}

/// The facts of a type.
pub fn facts(kind: MapType) -> &'static MapFacts {
    // A test holds that the place in the table is the type's number.
    &MAPS[kind as usize]
}

const ACCESS: u64 = RDONLY | WRONLY | RDONLY_PROG | WRONLY_PROG;
const HASH: u64 = NO_PREALLOC | NUMA_NODE | ACCESS | ZERO_SEED;
const NO_BATCH: Batch = Batch { lookup: false, lookup_and_delete: false, update: false, delete: false };
const ALL_BATCH: Batch = Batch { lookup: true, lookup_and_delete: true, update: true, delete: true };
const ARRAY_BATCH: Batch = Batch { lookup: true, update: true, ..NO_BATCH };
const FOUR: SizeRule = SizeRule::OneOf(&[4]);
const NONE: SizeRule = SizeRule::OneOf(&[0]);
const SOCKET: SizeRule = SizeRule::OneOf(&[4, 8]);
/// Any size; the kernel's own limit is memory.
const ANY: SizeRule = SizeRule::Between(1, i32::MAX as u32);

/// What most types have in common; each row says where it differs.
const fn like(kind: MapType) -> MapFacts {
    MapFacts {
        kind,
        key: ANY,
        value: ANY,
        entries: EntriesRule::Some,
        flags: 0,
        required_flags: 0,
        per_cpu: false,
        lookup: UserLookup::Value,
        update: true,
        delete: true,
        iterate: true,
        lookup_and_delete: false,
        batch: NO_BATCH,
        btf: BtfRule::Optional,
        mmap: MmapRule::No,
        holds_maps: false,
        can_be_inner: true,
        spin_lock: false,
        timer: false,
        kptr: false,
        capability: Capability::None,
    }
}

const fn hash(kind: MapType) -> MapFacts {
    MapFacts { flags: HASH, lookup_and_delete: true, batch: ALL_BATCH, kptr: true, ..like(kind) }
}

/// Arrays have every key from the start: nothing is taken out.
const fn array(kind: MapType) -> MapFacts {
    MapFacts { key: FOUR, flags: NUMA_NODE | ACCESS, delete: false, batch: ARRAY_BATCH, kptr: true, ..like(kind) }
}

/// An array of descriptors.
const fn descriptors(kind: MapType, lookup: UserLookup) -> MapFacts {
    MapFacts { key: FOUR, value: FOUR, flags: NUMA_NODE | RDONLY | WRONLY, lookup, btf: BtfRule::Refused, ..like(kind) }
}

/// Values that live as long as a kernel object; the key is a descriptor of it.
const fn object_storage(kind: MapType) -> MapFacts {
    MapFacts {
        key: FOUR,
        value: SizeRule::Between(1, 0xffff),
        entries: EntriesRule::Exactly(0),
        flags: NO_PREALLOC | CLONE,
        required_flags: NO_PREALLOC,
        iterate: false,
        btf: BtfRule::Required,
        spin_lock: true,
        kptr: true,
        capability: Capability::Bpf,
        ..like(kind)
    }
}

const fn ring(kind: MapType) -> MapFacts {
    MapFacts {
        key: NONE,
        value: NONE,
        entries: EntriesRule::PowerOfTwoPages,
        flags: NUMA_NODE,
        lookup: UserLookup::None,
        update: false,
        delete: false,
        iterate: false,
        btf: BtfRule::Refused,
        mmap: MmapRule::Always,
        ..like(kind)
    }
}

const fn queue(kind: MapType) -> MapFacts {
    MapFacts {
        key: NONE,
        flags: NUMA_NODE | ACCESS,
        lookup: UserLookup::Peek,
        delete: false,
        iterate: false,
        lookup_and_delete: true,
        btf: BtfRule::Refused,
        capability: Capability::Bpf,
        ..like(kind)
    }
}

/// Storage attached with a program to a cgroup; the key is the cgroup's id, or that and the attach type.
const fn cgroup_storage(kind: MapType) -> MapFacts {
    MapFacts {
        key: SizeRule::OneOf(&[8, 16]),
        value: SizeRule::Between(1, 0xffff),
        entries: EntriesRule::Exactly(0),
        flags: NUMA_NODE | ACCESS,
        delete: false,
        can_be_inner: false,
        ..like(kind)
    }
}

/// XDP redirect targets.
const fn redirect(kind: MapType) -> MapFacts {
    MapFacts {
        key: FOUR,
        flags: NUMA_NODE | RDONLY | WRONLY,
        btf: BtfRule::Refused,
        capability: Capability::NetAdmin,
        ..like(kind)
    }
}

/// Every type, at the place of its number.
pub static MAPS: &[MapFacts] = &[
    MapFacts {
        lookup: UserLookup::None,
        update: false,
        delete: false,
        iterate: false,
        can_be_inner: false,
        ..like(MapType::Unspec)
    },
    MapFacts { spin_lock: true, timer: true, ..hash(MapType::Hash) },
    MapFacts {
        flags: NUMA_NODE | ACCESS | MMAPABLE | INNER_MAP,
        mmap: MmapRule::WithFlag,
        spin_lock: true,
        timer: true,
        ..array(MapType::Array)
    },
    MapFacts { can_be_inner: false, btf: BtfRule::Optional, ..descriptors(MapType::ProgArray, UserLookup::Id) },
    MapFacts {
        flags: NUMA_NODE | RDONLY | WRONLY | PRESERVE_ELEMS,
        ..descriptors(MapType::PerfEventArray, UserLookup::None)
    },
    MapFacts { per_cpu: true, lookup: UserLookup::ValuePerCpu, flags: HASH & !NUMA_NODE, ..hash(MapType::PercpuHash) },
    MapFacts { per_cpu: true, lookup: UserLookup::ValuePerCpu, flags: ACCESS, ..array(MapType::PercpuArray) },
    MapFacts {
        key: FOUR,
        value: SizeRule::MultipleOf(8),
        flags: NUMA_NODE | RDONLY | WRONLY | STACK_BUILD_ID,
        update: false,
        btf: BtfRule::Refused,
        capability: Capability::Bpf,
        ..like(MapType::StackTrace)
    },
    descriptors(MapType::CgroupArray, UserLookup::None),
    MapFacts {
        flags: HASH & !NO_PREALLOC | NO_COMMON_LRU,
        timer: true,
        capability: Capability::Bpf,
        ..hash(MapType::LruHash)
    },
    MapFacts {
        per_cpu: true,
        lookup: UserLookup::ValuePerCpu,
        flags: HASH & !NO_PREALLOC & !NUMA_NODE | NO_COMMON_LRU,
        capability: Capability::Bpf,
        ..hash(MapType::LruPercpuHash)
    },
    MapFacts {
        // A length in bits (4 bytes), then 1 to 256 bytes of data.
        key: SizeRule::Between(5, 260),
        flags: NO_PREALLOC | NUMA_NODE | ACCESS,
        required_flags: NO_PREALLOC,
        batch: Batch { lookup: true, update: true, delete: true, lookup_and_delete: false },
        capability: Capability::Bpf,
        ..like(MapType::LpmTrie)
    },
    MapFacts {
        batch: ARRAY_BATCH,
        holds_maps: true,
        can_be_inner: false,
        ..descriptors(MapType::ArrayOfMaps, UserLookup::Id)
    },
    MapFacts {
        value: FOUR,
        lookup: UserLookup::Id,
        lookup_and_delete: false,
        btf: BtfRule::Refused,
        holds_maps: true,
        can_be_inner: false,
        kptr: false,
        ..hash(MapType::HashOfMaps)
    },
    MapFacts { value: SizeRule::OneOf(&[4, 8]), ..redirect(MapType::Devmap) },
    MapFacts { key: FOUR, value: SOCKET, lookup: UserLookup::SocketCookie, ..redirect(MapType::Sockmap) },
    MapFacts {
        value: SizeRule::OneOf(&[4, 8]),
        flags: NUMA_NODE,
        capability: Capability::Bpf,
        ..redirect(MapType::Cpumap)
    },
    MapFacts { value: FOUR, lookup: UserLookup::None, ..redirect(MapType::Xskmap) },
    MapFacts {
        key: SizeRule::Between(1, 512),
        value: SOCKET,
        lookup: UserLookup::SocketCookie,
        ..redirect(MapType::Sockhash)
    },
    MapFacts { spin_lock: true, ..cgroup_storage(MapType::CgroupStorage) },
    MapFacts {
        key: FOUR,
        value: SOCKET,
        flags: NUMA_NODE | ACCESS,
        lookup: UserLookup::SocketCookie,
        capability: Capability::Bpf,
        ..like(MapType::ReuseportSockarray)
    },
    MapFacts {
        value: SizeRule::Between(1, 0x8000),
        per_cpu: true,
        lookup: UserLookup::ValuePerCpu,
        ..cgroup_storage(MapType::PercpuCgroupStorage)
    },
    queue(MapType::Queue),
    queue(MapType::Stack),
    object_storage(MapType::SkStorage),
    MapFacts { value: SizeRule::OneOf(&[4, 8]), ..redirect(MapType::DevmapHash) },
    MapFacts {
        key: FOUR,
        value: SizeRule::KernelStruct,
        entries: EntriesRule::Exactly(1),
        flags: LINK | VTYPE_BTF_OBJ_FD,
        btf: BtfRule::Required,
        can_be_inner: false,
        capability: Capability::Bpf,
        ..like(MapType::StructOps)
    },
    MapFacts { flags: NUMA_NODE | RB_OVERWRITE, ..ring(MapType::Ringbuf) },
    object_storage(MapType::InodeStorage),
    object_storage(MapType::TaskStorage),
    MapFacts {
        key: NONE,
        flags: NUMA_NODE | ACCESS | ZERO_SEED,
        lookup: UserLookup::Membership,
        delete: false,
        iterate: false,
        capability: Capability::Bpf,
        ..like(MapType::BloomFilter)
    },
    ring(MapType::UserRingbuf),
    object_storage(MapType::CgrpStorage),
    MapFacts {
        key: NONE,
        value: NONE,
        entries: EntriesRule::Pages,
        flags: MMAPABLE | SEGV_ON_FAULT | NO_USER_CONV,
        required_flags: MMAPABLE,
        lookup: UserLookup::None,
        update: false,
        delete: false,
        iterate: false,
        mmap: MmapRule::Always,
        capability: Capability::Bpf,
        ..like(MapType::Arena)
    },
    MapFacts {
        // struct bpf_insn_array_value: where an instruction was, is, and is in machine code.
        key: FOUR,
        value: SizeRule::OneOf(&[16]),
        delete: false,
        capability: Capability::Bpf,
        ..like(MapType::InsnArray)
    },
    // A hash that grows; found by attempt on 7.2.
    MapFacts {
        flags: NO_PREALLOC | NUMA_NODE | ACCESS,
        required_flags: NO_PREALLOC,
        kptr: false,
        capability: Capability::Bpf,
        ..hash(MapType::Rhash)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_stands_at_its_number() {
        assert_eq!(MAPS.len(), MapType::ALL.len());
        for (place, map) in MAPS.iter().enumerate() {
            assert_eq!(map.kind as usize, place);
            assert_eq!(facts(map.kind), map);
            assert_eq!(map.required_flags & !map.flags, 0, "{}", map.kind);
            assert_eq!(map.per_cpu, map.lookup == UserLookup::ValuePerCpu, "{}", map.kind);
        }
    }

    #[test]
    fn sizes() {
        assert!(facts(MapType::LpmTrie).key.allows(8) && !facts(MapType::LpmTrie).key.allows(4));
        assert!(facts(MapType::StackTrace).value.allows(127 * 8) && !facts(MapType::StackTrace).value.allows(4));
        assert_eq!(facts(MapType::PercpuArray).user_value_size(12, 4), 64);
        assert_eq!(facts(MapType::Array).user_value_size(12, 4), 12);
    }
}
