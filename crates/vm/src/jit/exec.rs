//! Memory for machine code: written first, executable then, never both at once.
//!
//! Code is put near this program's own code where there is room, so that it calls helpers directly (a near call reaches
//! 2 GB).
#![expect(unsafe_code, reason = "maps executable memory")]

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far below our own code the memory may lie.
const REACH: usize = 1 << 30;

/// Free space kept between our code and that which is made.
const GAP: usize = 1 << 20;

/// Tries to find room near before any place will do.
const TRIES: usize = 8;

/// Pages of our own that no code has come to yet, or whose code may be run.
struct Pages {
    at: NonNull<u8>,
    len: usize,
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `Blank::new`; whoever runs the code keeps its owner alive.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

/// Room for code, at an address that is known.
pub(super) struct Blank {
    pages: Pages,
}

/// Code that can be run and no longer changed.
pub(super) struct Executable {
    pages: Pages,
    len: usize,
}

// SAFETY: nothing changes it.
unsafe impl Send for Executable {}
// SAFETY: as above.
unsafe impl Sync for Executable {}

impl Blank {
    /// Room for so many bytes.
    pub(super) fn new(bytes: usize) -> io::Result<Blank> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let page = rustix::param::page_size();
        let len =
            bytes.max(1).checked_next_multiple_of(page).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let ours = Blank::new as fn(usize) -> io::Result<Blank> as usize;
        let near = |at: usize| at.abs_diff(ours) < REACH && at.abs_diff(ours) >= len;
        for _ in 0..TRIES {
            let hint = match NEXT.load(Ordering::Relaxed) {
                0 => ours.saturating_sub(GAP + len),
                last => last.saturating_sub(len),
            } & !(page - 1);
            if hint == 0 || !near(hint) {
                NEXT.store(0, Ordering::Relaxed);
                break;
            }
            NEXT.store(hint, Ordering::Relaxed);
            let pages = map(hint, len)?;
            if near(pages.at.as_ptr() as usize) {
                return Ok(Blank { pages });
            }
            // Something else stands there: look further down.
            NEXT.store(hint.saturating_sub(GAP), Ordering::Relaxed);
        }
        Ok(Blank { pages: map(0, len)? })
    }

    /// Where the code will stand.
    pub(super) fn address(&self) -> usize {
        self.pages.at.as_ptr() as usize
    }

    /// Bytes that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.pages.len
    }

    /// Writes the code, which must fit, and makes it executable. What is too much is given back.
    pub(super) fn write(mut self, code: &[u8]) -> io::Result<Executable> {
        if code.len() > self.pages.len {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let page = rustix::param::page_size();
        // SAFETY: the pages are ours alone, writable, and long enough.
        unsafe { self.pages.at.as_ptr().copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        let used = code.len().max(1).next_multiple_of(page).min(self.pages.len);
        if used < self.pages.len {
            // SAFETY: the end of the mapping, which nothing refers to.
            unsafe { rustix::mm::munmap(self.pages.at.as_ptr().add(used).cast(), self.pages.len - used) }?;
            self.pages.len = used;
        }
        let protection = MprotectFlags::READ | MprotectFlags::EXEC;
        // SAFETY: the whole mapping is ours; nothing writes to it any more.
        unsafe { rustix::mm::mprotect(self.pages.at.as_ptr().cast(), self.pages.len, protection) }?;
        Ok(Executable { pages: self.pages, len: code.len() })
    }
}

fn map(hint: usize, len: usize) -> io::Result<Pages> {
    let hint = std::ptr::without_provenance_mut(hint);
    // SAFETY: a new private mapping; the hint does not put it over one that exists.
    let at = unsafe { rustix::mm::mmap_anonymous(hint, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
    let at = NonNull::new(at.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(Pages { at, len })
}

impl Executable {
    /// The address of the byte at this offset.
    pub(super) fn address(&self, offset: usize) -> usize {
        self.pages.at.as_ptr() as usize + offset
    }

    /// The code.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: written before, readable, and never changed.
        unsafe { std::slice::from_raw_parts(self.pages.at.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn code_is_executable_and_not_writable() {
        let blank = Blank::new(5000).expect("memory");
        let at = blank.address();
        // mov eax, 42; ret
        let code = blank.write(&[0xb8, 42, 0, 0, 0, 0xc3]).expect("executable");
        assert_eq!(code.address(0), at);
        // SAFETY: the bytes are a function of this form.
        let function = unsafe { std::mem::transmute::<usize, extern "C" fn() -> u64>(code.address(0)) };
        assert_eq!(function(), 42);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        let line = maps.lines().find(|line| line.starts_with(&format!("{at:x}-"))).expect("mapped");
        assert!(line.contains(" r-xp "), "{line}");
        drop(code);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        assert!(!maps.lines().any(|line| line.starts_with(&format!("{at:x}-")) && line.contains("r-xp")));
    }
}
