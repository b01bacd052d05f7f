//! Memory shared with the kernel: the pages of ring buffers and perf buffers.
//!
//! A [`Mapping`] hands out atomics and copies. Plain slices come only from [`Mapping::slice`], whose caller says why
//! nobody writes there in the meantime.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A shared mapping of a descriptor; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping is owned, and its memory is reached only through `&self` methods that give atomics, copies, or
// slices whose stability the caller vouches for.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` of a descriptor.
    pub(crate) fn new(fd: BorrowedFd<'_>, offset: usize, len: usize, writable: bool) -> io::Result<Mapping> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: a new mapping at a place of the kernel's choosing; no existing memory is touched.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { start, len, writable })
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn place(&self, at: usize, size: usize) -> Option<*mut u8> {
        if !at.is_multiple_of(size) || at.checked_add(size)? > self.len {
            return None;
        }
        // SAFETY: within the mapping, checked above.
        Some(unsafe { self.start.as_ptr().add(at) })
    }

    /// The 64-bit word at a place. Only to be stored to where the mapping is writable.
    pub(crate) fn word(&self, at: usize) -> Option<&AtomicU64> {
        let place = self.place(at, 8)?;
        // SAFETY: within the mapping, aligned (the mapping starts at a page), alive as long as `self`; everybody who
        // writes there concurrently is the kernel, which does so with whole words.
        Some(unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// The 32-bit word at a place.
    pub(crate) fn half(&self, at: usize) -> Option<&AtomicU32> {
        let place = self.place(at, 4)?;
        // SAFETY: as in `word`.
        Some(unsafe { AtomicU32::from_ptr(place.cast()) })
    }

    /// Stores a word, for pages that the kernel lets us write; `false` where it is not so.
    pub(crate) fn store_word(&self, at: usize, value: u64) -> bool {
        if !self.writable {
            return false;
        }
        match self.word(at) {
            Some(word) => {
                word.store(value, std::sync::atomic::Ordering::Release);
                true
            }
            None => false,
        }
    }

    /// Bytes of the mapping, in place.
    ///
    /// # Safety
    /// Nobody writes to these bytes during the slice's life.
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> Option<&[u8]> {
        if at.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: within the mapping, which lives as long as `self`; that nobody writes is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this very mapping, owned and never handed out beyond `self`'s life.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Bytes of a page.
pub(crate) fn page_size() -> usize {
    // SAFETY: takes no addresses.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The bytes of a record that the kernel has finished and that the reader has not given back yet.
///
/// Sound as long as positions come from the buffer's own control words: the kernel writes only between the producer's
/// and the consumer's position, and the range given lies between the consumer's and the producer's. A process that got
/// hold of the same map and moves the consumer's position can make the bytes change under the slice; it needs the same
/// rights as this one.
pub(crate) fn finished_record(data: &Mapping, at: usize, len: usize) -> Option<&[u8]> {
    // SAFETY: see above; the two readers of this crate call it between loading the producer's position (acquire) and
    // storing the consumer's (release).
    unsafe { data.slice(at, len) }
}
