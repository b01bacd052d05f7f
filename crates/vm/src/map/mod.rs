//! Maps in this process: a [`Definition`] becomes a [`Map`] that programs and the code around them share.
//!
//! A map has two faces. Programs call the `unsafe` functions of [`Map`] (module `program`) with addresses, from the
//! interpreter and from machine code, and get what helpers return. The code around them uses [`Map::user`], which takes
//! and gives slices and errors as bpf(2) does.
//!
//! ```
//! use skep_vm::map::{Definition, Errno, Map, NOEXIST};
//! use skep_abi::MapType;
//! let counts = Map::create(&Definition::new("counts", MapType::Hash, 4, 8, 1000), 2)?;
//! counts.user().update(&7u32.to_ne_bytes(), &1u64.to_ne_bytes(), 0)?;
//! assert_eq!(counts.user().lookup(&7u32.to_ne_bytes(), 0)?, 1u64.to_ne_bytes());
//! assert_eq!(counts.user().update(&7u32.to_ne_bytes(), &[0; 8], NOEXIST), Err(Errno::EEXIST));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Who may use an address, and how long.** A program runs under a [`Guard`] from [`pin`]. An address that a lookup gave
//! stays that of the same key's value until the guard is dropped, also when the key is deleted meanwhile. Lookups take
//! no lock. A guard that is held for long (a program that loops) only costs memory: what is deleted meanwhile, in any
//! map, is not used again before it ends.
//!
//! Sizes, flags, limits and error numbers are those of Linux 6.18. Limits of ours: the types that [`Map::create`] refuses
//! as [`MapError::Unsupported`]; `BPF_F_NUMA_NODE` is taken and has no effect; user space gives programs and maps by
//! handle ([`User::set_map`], [`User::set_program`]), not by descriptor.

mod array;
mod create;
mod error;
mod hash;
mod lock;
mod lpm;
mod memory;
mod perf;
mod pool;
mod program;
mod queue;
mod ringbuf;
mod signal;
mod slots;
mod user;
mod value;

pub use array::ArrayFacts;
pub use create::Definition;
pub use crossbeam_epoch::{Guard, pin};
pub use error::{Errno, MapError, Result};
pub use lock::{spin_lock, spin_unlock};
pub use perf::MAX_RECORD as PERF_MAX_RECORD;
pub use program::{LookupCall, ringbuf_discard, ringbuf_submit};
pub use ringbuf::{FORCE_WAKEUP, NO_WAKEUP};
pub use signal::Signal;
pub use slots::TailTarget;
pub use user::User;
pub use value::{SpecialField, SpecialKind};

use skep_abi::MapType;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use value::ValueLayout;

/// `BPF_ANY`: make or replace.
pub const ANY: u64 = 0;
/// `BPF_NOEXIST`: make; `EEXIST` when it is there.
pub const NOEXIST: u64 = 1;
/// `BPF_EXIST`: replace; `ENOENT` when it is not there. For queues and stacks: the oldest makes room.
pub const EXIST: u64 = 2;
/// `BPF_F_LOCK`: copy under the spin lock in the value.
pub const F_LOCK: u64 = 4;

/// A map. Shared by programs, other maps and the code around them as an [`Arc`].
#[derive(Debug)]
pub struct Map {
    name: String,
    id: u32,
    map_type: MapType,
    key_size: u32,
    layout: ValueLayout,
    max_entries: u32,
    flags: u32,
    map_extra: u64,
    cpus: u32,
    special: Vec<SpecialField>,
    frozen: AtomicBool,
    /// What inner maps must look like.
    inner: Option<Box<Template>>,
    signal: Arc<Signal>,
    kind: Kind,
}

/// What makes maps alike enough to stand in the same map of maps. Source: `bpf_map_meta_equal`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Template {
    map_type: MapType,
    key_size: u32,
    value_size: u32,
    flags: u32,
    /// Only where it matters: arrays without `BPF_F_INNER_MAP`.
    max_entries: Option<u32>,
    special: Vec<SpecialField>,
}

/// What a map is made of.
#[derive(Debug)]
pub(crate) enum Kind {
    Array(array::Array),
    Hash(Box<hash::Hash>),
    Lpm(Box<lpm::Lpm>),
    Programs(slots::Programs),
    Maps(slots::Maps),
    Queue(queue::Queue),
    Bloom(queue::Bloom),
    Ring(Box<ringbuf::Ring>),
    Perf(perf::Perf),
}

impl Map {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, different from that of every other map of this process, as user space reads it from a map of maps.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its type.
    pub fn map_type(&self) -> MapType {
        self.map_type
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> u32 {
        self.key_size
    }

    /// Bytes of a value, of one CPU's for per-CPU maps, as declared.
    pub fn value_size(&self) -> u32 {
        self.layout.size as u32
    }

    /// Most elements; bytes for ring buffers. With `BPF_F_NO_COMMON_LRU` a multiple of the number of CPUs.
    pub fn max_entries(&self) -> u32 {
        self.max_entries
    }

    /// `BPF_F_*` of its creation.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What it means hangs on the type.
    pub fn map_extra(&self) -> u64 {
        self.map_extra
    }

    /// CPUs that it has values for; programs give numbers below it.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Whether each CPU has a value of its own.
    pub fn is_per_cpu(&self) -> bool {
        skep_abi::maps::facts(self.map_type).per_cpu
    }

    /// The fields of a value that belong to the engine.
    pub fn special_fields(&self) -> &[SpecialField] {
        &self.special
    }

    /// Raised when records come into a ring buffer or perf event array.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// The face towards the code around programs.
    pub fn user(&self) -> User<'_> {
        User::new(self)
    }

    /// Elements in it, exactly; arrays always have all.
    pub fn len(&self) -> u64 {
        match &self.kind {
            Kind::Array(_) => u64::from(self.max_entries),
            Kind::Hash(hash) => hash.len(),
            Kind::Lpm(lpm) => lpm.len(),
            Kind::Queue(queue) => queue.len(),
            Kind::Programs(slots) => (0..self.max_entries).filter(|i| !slots.get(*i).is_null()).count() as u64,
            Kind::Maps(slots) => (0..self.max_entries).filter(|i| !slots.get(*i).is_null()).count() as u64,
            Kind::Bloom(_) | Kind::Ring(_) | Kind::Perf(_) => 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of address space that its elements take so far; what was never touched takes no memory. 0 where it is all
    /// taken at creation.
    pub fn element_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Hash(hash) => hash.bytes(),
            _ => 0,
        }
    }

    /// What it is like, for maps of maps.
    pub(crate) fn template(&self) -> Template {
        let exact = matches!(self.kind, Kind::Array(_)) && self.map_type == MapType::Array;
        let sized_freely = u64::from(self.flags) & skep_abi::flags::map_create::BPF_F_INNER_MAP != 0;
        Template {
            map_type: self.map_type,
            key_size: self.key_size,
            value_size: self.value_size(),
            flags: self.flags,
            max_entries: (exact && !sized_freely).then_some(self.max_entries),
            special: self.special.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
