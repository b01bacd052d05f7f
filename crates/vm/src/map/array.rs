//! Arrays, also with a value for each CPU: one piece of memory, zero until written.
//!
//! Element `i` of CPU `c` lies at `base + c * cpu_stride + i * stride`. The memory reaches to the next power of two of
//! elements, so that an index under the mask never points outside, not even speculatively.

#![expect(unsafe_code, reason = "hands out addresses of elements")]

use super::error::{Errno, Result};
use super::memory::{Region, check_room};
use super::value::ValueLayout;
use super::{EXIST, F_LOCK, NOEXIST};

/// What a compiler needs to know for a lookup without a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArrayFacts {
    /// Address of element 0 of CPU 0.
    pub base: *mut u8,
    /// Bytes from element to element.
    pub stride: usize,
    /// Bytes from CPU to CPU; 0 where all CPUs share the values.
    pub cpu_stride: usize,
    /// Elements.
    pub max_entries: u32,
    /// Power of two minus 1 that covers every index; memory is there for each index under it.
    pub index_mask: u32,
}

/// The elements.
#[derive(Debug)]
pub(crate) struct Array {
    region: Region,
    stride: usize,
    cpu_stride: usize,
    /// CPUs with a value of their own, 1 if they share it.
    slots: u32,
    max_entries: u32,
    index_mask: u32,
}

impl Array {
    /// `cpus`: 1 for a plain array.
    pub(crate) fn new(value: &ValueLayout, max_entries: u32, cpus: u32, per_cpu: bool) -> Result<Array> {
        let slots = if per_cpu { cpus } else { 1 };
        let stride = value.slot;
        let bytes = (stride as u64).checked_mul(u64::from(max_entries)).ok_or(Errno::ENOMEM)?;
        check_room(bytes.checked_mul(u64::from(slots)).ok_or(Errno::ENOMEM)?)?;
        let index_mask = u32::MAX.checked_shr((max_entries - 1).leading_zeros()).unwrap_or(0);
        let covered = (stride as u64).checked_mul(u64::from(index_mask) + 1).ok_or(Errno::ENOMEM)?;
        // Two cache lines, as the machine fetches them in pairs: CPUs do not wait for one another.
        let cpu_stride = covered.checked_next_multiple_of(128).ok_or(Errno::ENOMEM)?;
        let total = if per_cpu { cpu_stride.checked_mul(u64::from(slots)).ok_or(Errno::ENOMEM)? } else { covered };
        let cpu_stride = if per_cpu { usize::try_from(cpu_stride).map_err(|_| Errno::ENOMEM)? } else { 0 };
        Ok(Array { region: Region::new(total)?, stride, cpu_stride, slots, max_entries, index_mask })
    }

    pub(crate) fn facts(&self) -> ArrayFacts {
        ArrayFacts {
            base: self.region.base(),
            stride: self.stride,
            cpu_stride: self.cpu_stride,
            max_entries: self.max_entries,
            index_mask: self.index_mask,
        }
    }

    /// Address of an element, `None` past the end.
    #[inline]
    pub(crate) fn at(&self, index: u32, cpu: u32) -> Option<*mut u8> {
        if index >= self.max_entries || (cpu >= self.slots && self.cpu_stride != 0) {
            return None;
        }
        // SAFETY: index and CPU have just been checked, and the region was made for all of them.
        Some(unsafe { self.region.base().add(cpu as usize * self.cpu_stride + index as usize * self.stride) })
    }

    /// Sets an element of one CPU, as a program does.
    ///
    /// # Safety
    /// `value` is readable for the value's size.
    pub(crate) unsafe fn update(
        &self,
        layout: &ValueLayout,
        index: u32,
        value: *const u8,
        flags: u64,
        cpu: u32,
    ) -> Result<()> {
        self.check(layout, index, flags)?;
        let at = self.at(index, cpu).ok_or(Errno::E2BIG)?;
        // SAFETY: an element of ours, and by the contract.
        unsafe {
            if flags & F_LOCK != 0 {
                return layout.set_locked(at, value);
            }
            layout.set(at, value);
        }
        Ok(())
    }

    /// What the kernel checks before it writes, in its order. Source: `array_map_update_elem`.
    pub(crate) fn check(&self, layout: &ValueLayout, index: u32, flags: u64) -> Result<()> {
        if flags & !F_LOCK > EXIST {
            return Err(Errno::EINVAL);
        }
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags & NOEXIST != 0 {
            return Err(Errno::EEXIST);
        }
        if flags & F_LOCK != 0 && !layout.has_lock() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// The key after `key`. Source: `bpf_array_get_next_key`.
    pub(crate) fn next_key(&self, key: Option<u32>) -> Result<u32> {
        match key {
            Some(key) if key < self.max_entries => {
                if key == self.max_entries - 1 {
                    Err(Errno::ENOENT)
                } else {
                    Ok(key + 1)
                }
            }
            _ => Ok(0),
        }
    }
}
