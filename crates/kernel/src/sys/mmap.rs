//! Memory shared with the kernel: the pages of ring buffers and perf buffers, and who may read what of them when.
//!
//! A [`Mapping`] gives loads and stores of whole words. The two buffers on top of it, [`RingMemory`] and [`PerfMemory`],
//! keep to the protocol by which the kernel promises not to touch a finished record until its room is given back; only
//! they make slices of shared memory, and only of such records.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use super::page_size;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

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

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        let place = self.place(at, 8)?;
        // SAFETY: within the mapping, aligned (the mapping starts at a page), alive as long as `self`; whoever else writes
        // there is the kernel, which does so with whole words.
        Some(unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// Loads the 64-bit word at a place.
    fn load_u64(&self, at: usize, ordering: Ordering) -> Option<u64> {
        self.word(at).map(|w| w.load(ordering))
    }

    /// Loads the 32-bit word at a place.
    fn load_u32(&self, at: usize, ordering: Ordering) -> Option<u32> {
        let place = self.place(at, 4)?;
        // SAFETY: as in `word`.
        Some(unsafe { AtomicU32::from_ptr(place.cast()) }.load(ordering))
    }

    /// Stores a word with release, into pages that the kernel lets us write.
    fn store_u64(&self, at: usize, value: u64) {
        if self.writable
            && let Some(word) = self.word(at)
        {
            word.store(value, Ordering::Release);
        }
    }

    /// Bytes of the mapping, in place.
    ///
    /// # Safety
    /// Nobody writes to these bytes during the slice's life.
    unsafe fn slice(&self, at: usize, len: usize) -> Option<&[u8]> {
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

/// The memory of a BPF ring buffer: the consumer's page, which may be written; the producer's page and the data, mapped
/// twice in a row so that no record is ever split, which may only be read. Source: `kernel/bpf/ringbuf.c`.
#[derive(Debug)]
pub(crate) struct RingMemory {
    consumer: Mapping,
    rest: Mapping,
    page: usize,
    size: usize,
}

/// In the length word of a record: being written; given up.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes before a record's data: length word and page offset.
const RING_HEADER: usize = 8;

/// What stood at the reader's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A record, which was handed over.
    Record,
    /// One that its program has given up.
    Discarded,
    /// Nothing, or one that is still being written.
    Nothing,
}

impl RingMemory {
    /// Maps a ring buffer of `size` data bytes, a power of two.
    pub(crate) fn new(fd: BorrowedFd<'_>, size: usize) -> io::Result<RingMemory> {
        let page = page_size();
        if !size.is_power_of_two() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let consumer = Mapping::new(fd, 0, page, true)?;
        let rest = Mapping::new(fd, page, page + 2 * size, false)?;
        Ok(RingMemory { consumer, rest, page, size })
    }

    /// Bytes of data that there is room for.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// How far this reader is.
    pub(crate) fn position(&self) -> u64 {
        self.consumer.load_u64(0, Ordering::Relaxed).unwrap_or(0)
    }

    /// How far the writers are.
    pub(crate) fn producer(&self) -> u64 {
        self.rest.load_u64(0, Ordering::Acquire).unwrap_or(0)
    }

    /// Hands over the next record, if there is one, and gives its room back.
    pub(crate) fn next(&mut self, sink: &mut dyn FnMut(&[u8])) -> Step {
        let position = self.position();
        if position >= self.producer() {
            return Step::Nothing;
        }
        let at = self.page + (position as usize & (self.size - 1));
        let Some(word) = self.rest.load_u32(at, Ordering::Acquire) else { return Step::Nothing };
        if word & BUSY != 0 {
            return Step::Nothing;
        }
        let len = (word & !(BUSY | DISCARDED)) as usize;
        let discarded = word & DISCARDED != 0;
        if !discarded {
            // SAFETY: the record lies between the consumer's and the producer's position and is finished (acquire), so the
            // kernel lets no program write it until the position below is stored, after the slice's life. `&mut self`
            // keeps other threads from storing it through this reader. A process that has mapped the same buffer could
            // store it too; it has the rights of this one, and there is to be one reader a buffer.
            let Some(data) = (unsafe { self.rest.slice(at + RING_HEADER, len) }) else { return Step::Nothing };
            sink(data);
        }
        self.consumer.store_u64(0, position + (len + RING_HEADER).next_multiple_of(8) as u64);
        // The kernel wakes the reader only for a record that it finds it waiting for. It writes its position and then
        // reads ours; we write ours and then read its. Without a full barrier both could read the old one.
        fence(Ordering::SeqCst);
        if discarded { Step::Discarded } else { Step::Record }
    }
}

/// The memory of a perf event: a page with the positions, then the ring. Source: `struct perf_event_mmap_page`.
#[derive(Debug)]
pub(crate) struct PerfMemory {
    memory: Mapping,
    page: usize,
}

const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
/// `struct perf_event_header`: type, misc, size.
const PERF_HEADER: usize = 8;

impl PerfMemory {
    /// Maps the ring of an event, of so many pages, a power of two.
    pub(crate) fn new(event: BorrowedFd<'_>, pages: usize) -> io::Result<PerfMemory> {
        let page = page_size();
        if !pages.is_power_of_two() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(PerfMemory { memory: Mapping::new(event, 0, page * (1 + pages), true)?, page })
    }

    /// Copies every finished record's body behind what is in `out`, tells its type and where it starts, and gives the room
    /// back. The callback may cut `out` back to where the body started.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>, mut record: impl FnMut(u32, usize, &mut Vec<u8>)) {
        let size = self.memory.len() - self.page;
        let Some(head) = self.memory.load_u64(DATA_HEAD, Ordering::Acquire) else { return };
        let Some(mut tail) = self.memory.load_u64(DATA_TAIL, Ordering::Relaxed) else { return };
        while tail < head {
            // Records start at multiples of 8, so a header, which is one word, does not go around the end.
            let word = self.memory.load_u64(self.page + (tail as usize & (size - 1)), Ordering::Relaxed);
            let [k0, k1, k2, k3, _, _, l0, l1] = word.unwrap_or(0).to_ne_bytes();
            let (kind, len) = (u32::from_ne_bytes([k0, k1, k2, k3]), u16::from_ne_bytes([l0, l1]));
            let body = usize::from(len).checked_sub(PERF_HEADER);
            let Some(body) = body.filter(|_| u64::from(len) <= head - tail) else {
                // Not to be understood: give the rest up rather than stand still.
                tail = head;
                break;
            };
            let at = out.len();
            if self.copy(tail + PERF_HEADER as u64, body, size, out).is_none() {
                tail = head;
                break;
            }
            record(kind, at, out);
            tail += u64::from(len);
        }
        self.memory.store_u64(DATA_TAIL, tail);
    }

    /// Appends bytes between tail and head, around the ring's end where need be.
    fn copy(&self, position: u64, len: usize, size: usize, out: &mut Vec<u8>) -> Option<()> {
        if len > size {
            return None;
        }
        let start = position as usize & (size - 1);
        let first = len.min(size - start);
        for (at, len) in [(self.page + start, first), (self.page, len - first)] {
            // SAFETY: `drain` asks only for bytes between the tail and the head that it loaded with acquire; the kernel
            // writes none of them until the new tail is stored, after this slice's life.
            out.extend_from_slice(unsafe { self.memory.slice(at, len) }?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};

    #[test]
    fn words_and_their_bounds() {
        // SAFETY: a C string; the descriptor is new.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"skep".as_ptr(), libc::MFD_CLOEXEC)) };
        std::fs::File::from(fd.try_clone().expect("clone")).set_len(page_size() as u64).expect("length");
        let map = Mapping::new(fd.as_fd(), 0, page_size(), true).expect("map");
        map.store_u64(8, 7);
        assert_eq!(map.load_u64(8, Ordering::Relaxed), Some(7));
        assert_eq!(map.load_u64(page_size() - 8, Ordering::Relaxed), Some(0));
        for at in [1, page_size() - 4, page_size(), usize::MAX - 7] {
            assert_eq!(map.load_u64(at, Ordering::Relaxed), None, "{at}");
        }
        let read_only = Mapping::new(fd.as_fd(), 0, page_size(), false).expect("map");
        read_only.store_u64(8, 9);
        assert_eq!(read_only.load_u64(8, Ordering::Relaxed), Some(7), "stores into read-only pages are left out");
        // SAFETY: nobody writes.
        assert!(unsafe { read_only.slice(page_size() - 1, 2) }.is_none());
    }
}
