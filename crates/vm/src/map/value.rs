//! How a value lies in memory, and copying it: all of it, all but the fields that belong to the engine, under its own lock.

#![expect(unsafe_code, reason = "copies values through raw pointers")]

use super::error::{Errno, Result};
use super::lock::{spin_lock, spin_unlock};
use super::memory::{copy_in, copy_out, zero};

/// A field of a value that programs do not copy: found by its type in the map's BTF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpecialField {
    /// What it is.
    pub kind: SpecialKind,
    /// Bytes from the start of the value.
    pub offset: u32,
}

/// Kinds of [`SpecialField`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SpecialKind {
    /// `struct bpf_spin_lock`.
    SpinLock,
    /// `struct bpf_timer`.
    Timer,
    /// `struct bpf_wq`.
    Workqueue,
}

impl SpecialKind {
    /// Bytes. Source: `include/uapi/linux/bpf.h`.
    pub const fn size(self) -> u32 {
        match self {
            SpecialKind::SpinLock => 4,
            SpecialKind::Timer | SpecialKind::Workqueue => 16,
        }
    }

    /// Alignment in bytes.
    pub const fn align(self) -> u32 {
        match self {
            SpecialKind::SpinLock => 4,
            SpecialKind::Timer | SpecialKind::Workqueue => 8,
        }
    }

    /// Name of the C type.
    pub const fn name(self) -> &'static str {
        match self {
            SpecialKind::SpinLock => "struct bpf_spin_lock",
            SpecialKind::Timer => "struct bpf_timer",
            SpecialKind::Workqueue => "struct bpf_wq",
        }
    }
}

/// How a value lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct ValueLayout {
    /// Bytes as declared.
    pub(crate) size: usize,
    /// Bytes rounded up to 8: what it takes in memory.
    pub(crate) slot: usize,
    /// Sorted by offset, within the value, not overlapping.
    special: Vec<SpecialField>,
    spin_lock: Option<usize>,
}

impl ValueLayout {
    /// The fields have been checked.
    pub(crate) fn new(size: u32, special: &[SpecialField]) -> ValueLayout {
        let mut special = special.to_vec();
        special.sort_by_key(|field| field.offset);
        let spin_lock =
            special.iter().find(|field| field.kind == SpecialKind::SpinLock).map(|field| field.offset as usize);
        ValueLayout { size: size as usize, slot: (size as usize).next_multiple_of(8), special, spin_lock }
    }

    /// Whether there are special fields.
    pub(crate) fn is_special(&self) -> bool {
        !self.special.is_empty()
    }

    /// Whether there is a spin lock, as `BPF_F_LOCK` needs.
    pub(crate) fn has_lock(&self) -> bool {
        self.spin_lock.is_some()
    }

    /// Sets a value but for its special fields.
    ///
    /// # Safety
    /// `value` is the address of a value of this layout, `from` is readable for its size.
    #[inline]
    pub(crate) unsafe fn set(&self, value: *mut u8, from: *const u8) {
        // SAFETY: by the contract; pieces lie within the value.
        unsafe {
            if self.special.is_empty() {
                copy_in(value, from, self.size);
            } else {
                self.set_around(value, from);
            }
        }
    }

    /// # Safety
    /// As for [`ValueLayout::set`].
    #[cold]
    unsafe fn set_around(&self, value: *mut u8, from: *const u8) {
        let mut at = 0;
        let ends = self.special.iter().map(|f| (f.offset as usize, f.kind.size() as usize));
        for (offset, size) in ends.chain([(self.size, 0)]) {
            // SAFETY: `at..offset` lies within the value, between two special fields. Behind a lock it is not aligned to
            // 8, so the first four bytes go by themselves.
            unsafe {
                let head = (offset - at).min(at.next_multiple_of(8) - at);
                for i in at..at + head {
                    (*value.add(i).cast::<std::sync::atomic::AtomicU8>())
                        .store(*from.add(i), std::sync::atomic::Ordering::Relaxed);
                }
                copy_in(value.add(at + head), from.add(at + head), offset - at - head);
            }
            at = offset + size;
        }
    }

    /// [`ValueLayout::set`] under the value's own lock; `EINVAL` if it has none.
    ///
    /// # Safety
    /// As for [`ValueLayout::set`].
    pub(crate) unsafe fn set_locked(&self, value: *mut u8, from: *const u8) -> Result<()> {
        let offset = self.spin_lock.ok_or(Errno::EINVAL)?;
        // SAFETY: the lock lies within the value, aligned to 4 (checked at creation).
        unsafe {
            let lock = value.add(offset).cast();
            spin_lock(lock);
            self.set(value, from);
            spin_unlock(lock);
        }
        Ok(())
    }

    /// Zeroes the special fields of a new value.
    ///
    /// # Safety
    /// `value` is the address of a value of this layout.
    #[inline]
    pub(crate) unsafe fn init_special(&self, value: *mut u8) {
        for field in &self.special {
            // SAFETY: within the value.
            unsafe { zero(value.add(field.offset as usize), field.kind.size() as usize) };
        }
    }

    /// Copies a value out; special fields read as zero. With `locked` under the value's own lock, `EINVAL` if it has none.
    ///
    /// # Safety
    /// `value` is the address of a value of this layout.
    pub(crate) unsafe fn get(&self, value: *mut u8, to: &mut [u8], locked: bool) -> Result<()> {
        let Some(to) = to.get_mut(..self.size) else { return Err(Errno::EINVAL) };
        let lock = match locked {
            true => Some(self.spin_lock.ok_or(Errno::EINVAL)?),
            false => None,
        };
        // SAFETY: the value is valid by the contract, the lock lies in it, and `to` has its size.
        unsafe {
            let lock = lock.map(|offset| value.add(offset).cast());
            lock.into_iter().for_each(|lock| spin_lock(lock));
            copy_out(to.as_mut_ptr(), value, self.size);
            lock.into_iter().for_each(|lock| spin_unlock(lock));
        }
        for field in &self.special {
            to[field.offset as usize..(field.offset + field.kind.size()) as usize].fill(0);
        }
        Ok(())
    }
}
