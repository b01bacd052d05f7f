//! Which element a full LRU map gives up: the oldest that nobody looked up since it was last passed over.
//!
//! Elements stand in one list, new ones at its head. A lookup by a program sets a mark in the element, nothing more. When
//! room is needed the tail is looked at: with the mark it loses it and goes to the head, without it goes. After
//! [`MOST_PASSED`] marked ones the next goes whatever its mark, so that a full map never waits long for room. Source of
//! what users see: `kernel/bpf/bpf_lru_list.c`, whose lists are by CPU and whose order is therefore another.

#![expect(unsafe_code, reason = "elements link to one another by address")]

use super::super::lock::Spin;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Marked elements that are passed over before one goes in spite of its mark.
const MOST_PASSED: usize = 128;

/// In front of each element of an LRU map.
#[repr(C)]
struct Header {
    newer: *mut u8,
    older: *mut u8,
    listed: bool,
    used: AtomicBool,
}

/// Bytes of it.
pub(crate) const HEADER: usize = size_of::<Header>();

#[derive(Debug)]
struct Ends {
    newest: *mut u8,
    oldest: *mut u8,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Lru {
    ends: Spin<Ends>,
}

// SAFETY: the list's addresses are used under its lock only.
unsafe impl Send for Lru {}
// SAFETY: as above.
unsafe impl Sync for Lru {}

#[inline(always)]
fn header(element: *mut u8) -> *mut Header {
    element.wrapping_sub(HEADER).cast()
}

/// Sets the mark.
///
/// # Safety
/// `element` is one of an LRU map, valid while this thread is pinned.
#[inline(always)]
pub(crate) unsafe fn mark_used(element: *mut u8) {
    // SAFETY: by the contract; the mark is atomic, the rest of the header is not touched.
    let used = unsafe { &(*header(element)).used };
    // Reads first: the line stays shared among CPUs as long as nothing changes.
    if !used.load(Relaxed) {
        used.store(true, Relaxed);
    }
}

impl Lru {
    pub(crate) fn new() -> Lru {
        Lru { ends: Spin::new(Ends { newest: ptr::null_mut(), oldest: ptr::null_mut() }) }
    }

    /// Prepares the header of a new element.
    ///
    /// # Safety
    /// `element` was just taken from the pool and is known to no one else.
    pub(crate) unsafe fn init(element: *mut u8) {
        let blank =
            Header { newer: ptr::null_mut(), older: ptr::null_mut(), listed: false, used: AtomicBool::new(false) };
        // SAFETY: by the contract.
        unsafe { header(element).write(blank) };
    }

    /// Puts an element at the head, while its bucket is locked.
    ///
    /// # Safety
    /// `element` is in the map and not in the list.
    pub(crate) unsafe fn add(&self, element: *mut u8) {
        let mut ends = self.ends.lock();
        // SAFETY: elements in the list are in the map, so alive; under the lock.
        unsafe { ends.push(element) };
    }

    /// Takes an element off the list if it is on it, while its bucket is locked.
    ///
    /// # Safety
    /// `element` is (or was until now) in the map.
    pub(crate) unsafe fn remove(&self, element: *mut u8) {
        let mut ends = self.ends.lock();
        // SAFETY: as above.
        unsafe {
            if (*header(element)).listed {
                ends.unlink(element);
            }
        }
    }

    /// Takes the element that should go off the list; the caller takes it out of the map. `None` if the list is empty.
    ///
    /// # Safety
    /// This thread is pinned as long as it uses the element.
    pub(crate) unsafe fn victim(&self) -> Option<*mut u8> {
        let mut ends = self.ends.lock();
        for _ in 0..MOST_PASSED {
            let oldest = ends.oldest;
            if oldest.is_null() {
                return None;
            }
            // SAFETY: elements in the list are alive; under the lock.
            unsafe {
                ends.unlink(oldest);
                if !(*header(oldest)).used.swap(false, Relaxed) {
                    return Some(oldest);
                }
                ends.push(oldest);
            }
        }
        let oldest = ends.oldest;
        // SAFETY: the list was not empty a moment ago, and it is locked.
        unsafe { ends.unlink(oldest) };
        Some(oldest)
    }
}

impl Ends {
    /// # Safety
    /// `element` is alive and not in the list, which is locked.
    unsafe fn push(&mut self, element: *mut u8) {
        // SAFETY: links are touched under the lock only. No reference to a whole header is made: marks change meanwhile.
        unsafe {
            let header_of = header(element);
            (*header_of).newer = ptr::null_mut();
            (*header_of).older = self.newest;
            (*header_of).listed = true;
            match self.newest.is_null() {
                true => self.oldest = element,
                false => (*header(self.newest)).newer = element,
            }
        }
        self.newest = element;
    }

    /// # Safety
    /// `element` is in the list, which is locked.
    unsafe fn unlink(&mut self, element: *mut u8) {
        // SAFETY: neighbours in the list are alive.
        unsafe {
            let header_of = header(element);
            let (newer, older) = ((*header_of).newer, (*header_of).older);
            match newer.is_null() {
                true => self.newest = older,
                false => (*header(newer)).older = older,
            }
            match older.is_null() {
                true => self.oldest = newer,
                false => (*header(older)).newer = newer,
            }
            (*header_of).listed = false;
        }
    }
}
