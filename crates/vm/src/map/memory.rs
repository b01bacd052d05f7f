//! Memory of maps: zeroed pages that cost nothing until they are touched, the same pages twice in a row for ring
//! buffers, and copies that may race.
//!
//! A [`Region`] of a gigabyte is made in microseconds and takes no memory; the machine gives pages as they are written.
//!
//! Values of maps are read and written by any number of threads at once, as in the kernel: a reader may see half of an old
//! and half of a new value (a program that minds uses a spin lock). [`copy_in`] and [`copy_out`] therefore move words with
//! relaxed atomic accesses: a copy that races is torn by words at most and never undefined.

#![expect(unsafe_code, reason = "maps pages and copies through raw pointers")]

use super::error::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Bytes of a page.
pub(crate) fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(rustix::param::page_size)
}

/// Bytes of memory that the machine has: as in the kernel, no map is larger.
fn machine_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let info = rustix::system::sysinfo();
        info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)))
    })
}

/// Refuses what the machine has no room for, as the kernel's allocator would.
pub(crate) fn check_room(bytes: u64) -> Result<()> {
    if bytes > machine_bytes() { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// Zeroed pages of our own, given back when dropped.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region is plain memory; who may touch it and when is the business of those who take pointers into it.
unsafe impl Send for Region {}
// SAFETY: as above; the region itself is never changed.
unsafe impl Sync for Region {}

impl Region {
    /// At least `bytes` zeroed bytes, aligned to a page, `ENOMEM` when the address space has no room.
    pub(crate) fn new(bytes: u64) -> Result<Region> {
        let len = usize::try_from(bytes.max(1))
            .ok()
            .and_then(|len| len.checked_next_multiple_of(page_size()))
            .ok_or(Errno::ENOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new private mapping at an address that the kernel chooses touches no memory that exists.
        let base =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) };
        let base = base.ok().and_then(|base| NonNull::new(base.cast())).ok_or(Errno::ENOMEM)?;
        Ok(Region { base, len })
    }

    /// One page of control data, then `bytes` (a multiple of the page size), then the same `bytes` again: what is
    /// written past the end of the first appears at its start.
    pub(crate) fn doubled(bytes: usize) -> Result<Region> {
        let page = page_size();
        let once = page.checked_add(bytes).ok_or(Errno::ENOMEM)?;
        let len = once.checked_add(bytes).ok_or(Errno::ENOMEM)?;
        let file = rustix::fs::memfd_create("skep-ringbuf", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| Errno(e.raw_os_error()))?;
        rustix::fs::ftruncate(&file, once as u64).map_err(|e| Errno(e.raw_os_error()))?;
        let region = Region::new(len as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let parts = [(0, once, 0), (once, bytes, page)];
        for (at, part, offset) in parts {
            // SAFETY: `at..at + part` lies within the region just made, to which nobody has a pointer yet.
            let mapped = unsafe {
                let address = region.base.as_ptr().add(at).cast();
                rustix::mm::mmap(address, part, protection, MapFlags::SHARED | MapFlags::FIXED, &file, offset as u64)
            };
            mapped.map_err(|e| Errno(e.raw_os_error()))?;
        }
        Ok(region)
    }

    /// Its first byte.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: base and length are those of the mapping made in `new`; whoever has pointers into a region keeps it
        // alive. An error is not possible for a whole mapping of our own.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Copies into memory that others may read or write meanwhile. `to` is aligned to 8.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap unless they are the same.
#[inline]
pub(crate) unsafe fn copy_in(to: *mut u8, from: *const u8, len: usize) {
    let words = len / 8;
    // SAFETY: within `len`; `to` is aligned to 8, `from` is read as unaligned.
    unsafe {
        for i in 0..words {
            let word = from.cast::<u64>().add(i).read_unaligned();
            (*to.cast::<AtomicU64>().add(i)).store(word, Relaxed);
        }
        for i in words * 8..len {
            (*to.add(i).cast::<AtomicU8>()).store(*from.add(i), Relaxed);
        }
    }
}

/// Copies out of memory that others may write meanwhile. `from` is aligned to 8.
///
/// # Safety
/// As for [`copy_in`].
#[inline]
pub(crate) unsafe fn copy_out(to: *mut u8, from: *const u8, len: usize) {
    let words = len / 8;
    // SAFETY: within `len`; `from` is aligned to 8, `to` is written as unaligned.
    unsafe {
        for i in 0..words {
            let word = (*from.cast::<AtomicU64>().add(i)).load(Relaxed);
            to.cast::<u64>().add(i).write_unaligned(word);
        }
        for i in words * 8..len {
            *to.add(i) = (*from.add(i).cast::<AtomicU8>()).load(Relaxed);
        }
    }
}

/// Zeroes memory that others may read meanwhile. `to` may be unaligned.
///
/// # Safety
/// `to` is writable for `len` bytes.
pub(crate) unsafe fn zero(to: *mut u8, len: usize) {
    let words = if to.addr().is_multiple_of(8) { len / 8 } else { 0 };
    // SAFETY: within `len`, and aligned where words are written.
    unsafe {
        for i in 0..words {
            (*to.cast::<AtomicU64>().add(i)).store(0, Relaxed);
        }
        for i in words * 8..len {
            (*to.add(i).cast::<AtomicU8>()).store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_zero_and_costs_nothing_until_touched() {
        let region = Region::new(1 << 36).expect("64 GiB of addresses");
        // SAFETY: within the region.
        unsafe {
            assert_eq!(*region.base().add((1 << 36) - 1), 0);
        }
        assert_eq!(region.base() as usize % page_size(), 0);
        assert_eq!(Region::new(u64::MAX).map(drop), Err(Errno::ENOMEM));
    }

    #[test]
    fn what_goes_past_the_end_appears_at_the_start() {
        let page = page_size();
        let region = Region::doubled(page).expect("memory");
        // SAFETY: within control page, first and second copy.
        unsafe {
            *region.base().add(2 * page) = 7;
            assert_eq!(*region.base().add(page), 7);
            *region.base().add(2 * page - 1) = 9;
            assert_eq!(*region.base().add(3 * page - 1), 9);
            assert_eq!(*region.base(), 0);
        }
    }
}
