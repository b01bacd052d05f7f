//! Spin locks: `bpf_spin_lock` in values, and the short ones that writers of maps take.
//!
//! In the kernel a holder of a spin lock is never put to sleep; here it may be, so whoever waits gives up its time slice
//! after some tries.

#![expect(unsafe_code, reason = "locks lie in values of maps, given by address")]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Tries before the first yield.
const SPINS: u32 = 100;

/// Waits a moment; `tries` counts how often it did.
#[inline]
pub(crate) fn relax(tries: &mut u32) {
    *tries = tries.saturating_add(1);
    if *tries < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// `bpf_spin_lock`: takes the lock in a value.
///
/// # Safety
/// `lock` is the address of a `struct bpf_spin_lock` in a value of a map, valid while this thread is pinned.
pub unsafe extern "C" fn spin_lock(lock: *mut u32) {
    // SAFETY: valid and aligned by the contract; programs only touch it by these two functions.
    let lock = unsafe { AtomicU32::from_ptr(lock) };
    let mut tries = 0;
    while lock.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        relax(&mut tries);
    }
}

/// `bpf_spin_unlock`: gives it back.
///
/// # Safety
/// As for [`spin_lock`], which this thread called for it before.
pub unsafe extern "C" fn spin_unlock(lock: *mut u32) {
    // SAFETY: valid and aligned by the contract.
    unsafe { AtomicU32::from_ptr(lock) }.store(0, Ordering::Release);
}

/// Takes the lock that is bit 0 of a word whose other bits mean something else.
#[inline]
pub(crate) fn lock_bit(word: &AtomicU64) {
    let mut tries = 0;
    while word.fetch_or(1, Ordering::Acquire) & 1 != 0 {
        relax(&mut tries);
    }
}

/// Gives it back.
#[inline]
pub(crate) fn unlock_bit(word: &AtomicU64) {
    word.fetch_and(!1, Ordering::Release);
}

/// Something behind a spin lock.
#[derive(Debug, Default)]
pub(crate) struct Spin<T> {
    locked: AtomicU32,
    inner: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time at the inner value.
unsafe impl<T: Send> Sync for Spin<T> {}

impl<T> Spin<T> {
    /// Unlocked.
    pub(crate) const fn new(inner: T) -> Spin<T> {
        Spin { locked: AtomicU32::new(0), inner: UnsafeCell::new(inner) }
    }

    /// Waits until it is this thread's. The holder must run no code of others and take it only once.
    #[inline]
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        let mut tries = 0;
        while self.locked.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            relax(&mut tries);
        }
        SpinGuard { spin: self }
    }
}

/// The lock is held as long as this lives.
pub(crate) struct SpinGuard<'s, T> {
    spin: &'s Spin<T>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.spin.inner.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.spin.inner.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.spin.locked.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let spin = Spin::new(0u64);
        let word = AtomicU64::new(8);
        let mut lock = 0u32;
        let lock = &raw mut lock as usize;
        let plain = UnsafeCellOfU64(UnsafeCell::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        *spin.lock() += 1;
                        lock_bit(&word);
                        // SAFETY: under the bit's lock.
                        unsafe { *plain.get() += 1 };
                        unlock_bit(&word);
                        // SAFETY: the lock lives on the outer stack; the counter is touched under it only.
                        unsafe {
                            spin_lock(lock as *mut u32);
                            *plain.get().add(1) += 1;
                            spin_unlock(lock as *mut u32);
                        }
                    }
                });
            }
        });
        assert_eq!(*spin.lock(), 20_000);
        assert_eq!(word.load(Ordering::Relaxed), 8);
        // SAFETY: all threads are gone.
        assert_eq!(unsafe { (*plain.get(), *plain.get().add(1)) }, (20_000, 20_000));
    }

    struct UnsafeCellOfU64(UnsafeCell<u128>);
    impl UnsafeCellOfU64 {
        fn get(&self) -> *mut u64 {
            self.0.get().cast()
        }
    }
    // SAFETY: each half is touched under its own lock only.
    unsafe impl Sync for UnsafeCellOfU64 {}
}
