//! The memory that a program may touch: reads and writes by address, and the list of regions that says which are its own.
//!
//! Programs see real addresses of this process, as in the kernel. What keeps them from the rest of the process is either
//! a verifier that looked at the program before (then nothing is checked here) or this list (the checked mode: every
//! access must lie in one region, whole).
//!
//! Limits: at most [`MAX_REGIONS`] regions a run; the region that does not fit is a fault, not a gap in the check.
#![expect(unsafe_code, reason = "BPF programs work on addresses")]

use std::fmt;
use std::sync::Arc;

/// How many regions a run may collect, stack, context and packet not counted: one for each map value that it looked up.
pub(crate) const MAX_REGIONS: usize = 1 << 16;

/// What a region is, for messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegionName {
    /// The frames of the functions that are running.
    Stack,
    /// What r1 points to.
    Context,
    /// The memory that the caller passed.
    Memory,
    /// The packet, from `data` to `data_end`.
    Packet,
    /// What stands before the packet, from `data_meta` to `data`.
    Metadata,
    /// A value of this map.
    MapValue(Arc<str>),
    /// The spin lock in a value of this map.
    SpinLock(Arc<str>),
    /// A key of this map, lent to a callback.
    MapKey(Arc<str>),
    /// A record reserved in this ring buffer.
    Record(Arc<str>),
    /// What this helper or kernel function returned.
    Result(&'static str),
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionName::Stack => f.write_str("the stack"),
            RegionName::Context => f.write_str("the context"),
            RegionName::Memory => f.write_str("the memory"),
            RegionName::Packet => f.write_str("the packet"),
            RegionName::Metadata => f.write_str("the packet's metadata"),
            RegionName::MapValue(map) => write!(f, "a value of map {map}"),
            RegionName::SpinLock(map) => write!(f, "the lock in a value of map {map}"),
            RegionName::MapKey(map) => write!(f, "a key of map {map}"),
            RegionName::Record(map) => write!(f, "a record of {map}"),
            RegionName::Result(helper) => write!(f, "the result of {helper}"),
        }
    }
}

/// A stretch of memory that a program owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    /// First byte.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Whether it may be written.
    pub(crate) writable: bool,
    /// What it is.
    pub(crate) name: RegionName,
}

impl Region {
    /// Whether the whole access lies in it.
    pub(crate) fn holds(&self, addr: u64, size: u64) -> bool {
        addr.checked_sub(self.start).and_then(|at| at.checked_add(size)).is_some_and(|end| end <= self.len)
    }
}

/// The regions of a run that come and go: map values, records, results of helpers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions {
    /// By start; none overlaps another.
    sorted: Vec<Region>,
}

impl Regions {
    pub(crate) fn clear(&mut self) {
        self.sorted.clear();
    }

    /// Adds a region. One that overlaps takes the place of those it overlaps: memory that was handed out again. Gives
    /// `false` where there are too many.
    pub(crate) fn add(&mut self, region: Region) -> bool {
        let from = self.sorted.partition_point(|r| r.start.saturating_add(r.len) <= region.start);
        let to = self.sorted.partition_point(|r| r.start < region.start.saturating_add(region.len));
        if from < to && to - from == 1 && self.sorted.get(from) == Some(&region) {
            return true;
        }
        self.sorted.splice(from..to.max(from), [region]);
        self.sorted.len() <= MAX_REGIONS
    }

    /// Takes away the region that starts here.
    pub(crate) fn remove(&mut self, start: u64) {
        if let Ok(at) = self.sorted.binary_search_by_key(&start, |region| region.start) {
            self.sorted.remove(at);
        }
    }

    /// Takes away the regions that start in this stretch.
    pub(crate) fn remove_within(&mut self, start: u64, len: u64) {
        let from = self.sorted.partition_point(|region| region.start < start);
        let to = self.sorted.partition_point(|region| region.start < start.saturating_add(len));
        self.sorted.drain(from..to.max(from));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The region that this address is in.
    pub(crate) fn at(&self, addr: u64) -> Option<&Region> {
        let after = self.sorted.partition_point(|region| region.start <= addr);
        self.sorted.get(after.checked_sub(1)?).filter(|region| addr - region.start < region.len)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Region> {
        self.sorted.iter()
    }
}

/// Reads 1, 2, 4 or 8 bytes (the size of `T`), at any alignment.
///
/// # Safety
/// The bytes belong to the running program: a verifier passed it, or its regions hold them.
#[inline(always)]
pub(crate) unsafe fn load<T: Copy>(addr: u64) -> T {
    // SAFETY: by the caller. The address is one of this process, made by a program from a pointer it was given.
    unsafe { std::ptr::with_exposed_provenance::<T>(addr as usize).read_unaligned() }
}

/// Writes the bytes of `value`, at any alignment.
///
/// # Safety
/// The bytes belong to the running program and may be written: a verifier passed it, or its regions hold them.
#[inline(always)]
pub(crate) unsafe fn store<T: Copy>(addr: u64, value: T) {
    // SAFETY: by the caller, as in `load`.
    unsafe { std::ptr::with_exposed_provenance_mut::<T>(addr as usize).write_unaligned(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, len: u64) -> Region {
        Region { start, len, writable: true, name: RegionName::Memory }
    }

    #[test]
    fn a_region_is_found_by_any_of_its_bytes_and_no_other() {
        let mut regions = Regions::default();
        for start in [100, 300, 200] {
            assert!(regions.add(region(start, 50)));
        }
        for (addr, start) in
            [(100, Some(100)), (149, Some(100)), (150, None), (99, None), (249, Some(200)), (350, None)]
        {
            assert_eq!(regions.at(addr).map(|r| r.start), start, "{addr}");
        }
        regions.remove(200);
        assert_eq!(regions.at(210), None);
    }

    #[test]
    fn an_overlapping_region_takes_the_place_of_the_old_ones() {
        let mut regions = Regions::default();
        for (start, len) in [(100, 50), (150, 50), (300, 10), (120, 60)] {
            regions.add(region(start, len));
        }
        let left: Vec<_> = regions.iter().map(|r| (r.start, r.len)).collect();
        assert_eq!(left, [(120, 60), (300, 10)]);
    }

    #[test]
    fn an_access_must_lie_in_a_region_whole() {
        let r = region(100, 50);
        for (addr, size, held) in [(100, 50, true), (100, 51, false), (149, 1, true), (149, 2, false), (99, 1, false)] {
            assert_eq!(r.holds(addr, size), held, "{addr} {size}");
        }
        assert!(!r.holds(u64::MAX, 8));
    }
}
