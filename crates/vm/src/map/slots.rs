//! Arrays of things: programs to jump to, and maps.
//!
//! A slot holds an address that programs read without a lock; what it stood for before goes when nobody can still be
//! using it.

#![expect(unsafe_code, reason = "slots are read by machine code")]

use super::Map;
use super::error::{Errno, Result};
use super::memory::{Region, check_room};
use crossbeam_epoch::Guard;
use std::any::Any;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire},
};

/// What a program array holds: a program of whichever engine runs it.
#[repr(C)]
pub struct TailTarget {
    /// For the engine: the word that its tail call wants, such as the address to jump to. Stands first, so that machine
    /// code reads it at the address in the slot.
    pub entry: usize,
    /// What user space reads from the slot.
    pub id: u32,
    /// The program; lives as long as a slot or a run has it.
    pub program: Arc<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for TailTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TailTarget").field("entry", &self.entry).field("id", &self.id).finish_non_exhaustive()
    }
}

/// Slots with shared things, each an address from [`Arc::into_raw`] or null.
pub(crate) struct Slots<T: Send + Sync + 'static> {
    region: Region,
    max_entries: u32,
    kind: std::marker::PhantomData<Arc<T>>,
}

/// Slots with maps.
pub(crate) type Maps = Slots<Map>;
/// Slots with programs.
pub(crate) type Programs = Slots<TailTarget>;

impl<T: Send + Sync + 'static> std::fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("max_entries", &self.max_entries).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Slots<T> {
    pub(crate) fn new(max_entries: u32) -> Result<Slots<T>> {
        let bytes = u64::from(max_entries) * 8;
        check_room(bytes)?;
        Ok(Slots { region: Region::new(bytes)?, max_entries, kind: std::marker::PhantomData })
    }

    /// Address of slot 0; each takes 8 bytes.
    pub(crate) fn base(&self) -> *const u8 {
        self.region.base()
    }

    pub(crate) fn max_entries(&self) -> u32 {
        self.max_entries
    }

    fn slot(&self, index: u32) -> Option<&AtomicPtr<T>> {
        // SAFETY: the region has so many slots, all zero (null) or written by `set`.
        (index < self.max_entries).then(|| unsafe { &*self.region.base().cast::<AtomicPtr<T>>().add(index as usize) })
    }

    /// What stands in a slot, null if nothing or past the end; valid while this thread is pinned.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> *const T {
        self.slot(index).map_or(ptr::null(), |slot| slot.load(Acquire))
    }

    /// [`Slots::get`] as a handle.
    pub(crate) fn get_shared(&self, index: u32, _pinned: &Guard) -> Option<Arc<T>> {
        let there = self.get(index);
        if there.is_null() {
            return None;
        }
        // SAFETY: the slot's own count lives at least until this thread unpins.
        unsafe {
            Arc::increment_strong_count(there);
            Some(Arc::from_raw(there))
        }
    }

    /// Puts something in. `E2BIG` past the end.
    pub(crate) fn set(&self, index: u32, thing: Arc<T>, guard: &Guard) -> Result<()> {
        let slot = self.slot(index).ok_or(Errno::E2BIG)?;
        give_back(slot.swap(Arc::into_raw(thing).cast_mut(), AcqRel), guard);
        Ok(())
    }

    /// Empties a slot. `E2BIG` past the end, `ENOENT` if it was empty.
    pub(crate) fn clear(&self, index: u32, guard: &Guard) -> Result<()> {
        let old = self.slot(index).ok_or(Errno::E2BIG)?.swap(ptr::null_mut(), AcqRel);
        if old.is_null() {
            return Err(Errno::ENOENT);
        }
        give_back(old, guard);
        Ok(())
    }
}

/// Gives up a slot's count when no run can still use the thing.
fn give_back<T: Send + Sync + 'static>(old: *mut T, guard: &Guard) {
    if !old.is_null() {
        // SAFETY: from `Arc::into_raw`, taken out of its slot by this thread alone.
        let old = unsafe { Arc::from_raw(old) };
        guard.defer(move || drop(old));
        guard.flush();
    }
}

impl<T: Send + Sync + 'static> Drop for Slots<T> {
    fn drop(&mut self) {
        let guard = crossbeam_epoch::pin();
        for index in 0..self.max_entries {
            if let Some(slot) = self.slot(index) {
                let old = slot.swap(ptr::null_mut(), AcqRel);
                give_back(old, &guard);
            }
        }
    }
}
