//! Ring buffers: many producers, records in the order of their reservation, one consumer at a time.
//!
//! Memory: one page with the address of the [`Ring`], the data, and the data once more, so that a record that wraps around
//! is in one piece. A record is a header of 8 bytes (length with the bits "busy" and "discard", and the distance in pages to
//! the first page, by which `submit` finds the ring from the record alone), then the data, rounded up to 8.
//! Source: `kernel/bpf/ringbuf.c`.

#![expect(unsafe_code, reason = "records are raw memory, given out by address")]

use super::error::{Errno, Result};
use super::lock::Spin;
use super::memory::{Region, page_size};
use super::signal::Signal;
use skep_abi::flags::ringbuf_header::{BPF_RINGBUF_BUSY_BIT as BUSY, BPF_RINGBUF_DISCARD_BIT as DISCARD};
use std::ptr;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError};

/// `BPF_RB_NO_WAKEUP`.
pub const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`.
pub const FORCE_WAKEUP: u64 = 2;
/// Bytes in front of a record.
const HEADER: u64 = 8;
/// Most bytes of a record.
const MAX_RECORD: u64 = (u32::MAX / 4) as u64;

/// See the module. Boxed by its map, as its own memory has its address.
#[derive(Debug)]
pub(crate) struct Ring {
    region: Region,
    mask: u64,
    consumer: AtomicU64,
    producer: AtomicU64,
    /// Start of the oldest record that may still be busy; the lock is the producers'.
    pending: Spin<u64>,
    lost: AtomicU64,
    reading: Mutex<()>,
    signal: Arc<Signal>,
}

impl Ring {
    /// `size` is a power of two and a multiple of the page size.
    pub(crate) fn new(size: u32, signal: Arc<Signal>) -> Result<Box<Ring>> {
        let ring = Box::new(Ring {
            region: Region::doubled(size as usize)?,
            mask: u64::from(size) - 1,
            consumer: AtomicU64::new(0),
            producer: AtomicU64::new(0),
            pending: Spin::new(0),
            lost: AtomicU64::new(0),
            reading: Mutex::new(()),
            signal,
        });
        // SAFETY: the first page is for this.
        unsafe { ring.region.base().cast::<*const Ring>().write(&raw const *ring) };
        Ok(ring)
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: the data follows the first page.
        unsafe { self.region.base().add(page_size()) }
    }

    /// Address of the header at a position.
    fn header(&self, position: u64) -> *mut u8 {
        // SAFETY: under the mask lies the first copy of the data.
        unsafe { self.data().add((position & self.mask) as usize) }
    }

    /// The ring's bytes, where its records lie.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        let start = self.data() as usize;
        start..start + 2 * (self.mask as usize + 1)
    }

    /// A record's data, null when there is no room (the loss is counted) or it is too long.
    pub(crate) fn reserve(&self, size: u64) -> *mut u8 {
        if size > MAX_RECORD {
            return self.lose();
        }
        let len = (size + HEADER).next_multiple_of(8);
        if len > self.mask + 1 {
            return self.lose();
        }
        let mut pending = self.pending.lock();
        let consumer = self.consumer.load(Acquire);
        let start = self.producer.load(Relaxed);
        let end = start + len;
        while *pending < start {
            // SAFETY: between `pending` and the producer's position there are headers, one behind the other.
            let word = unsafe { &*self.header(*pending).cast::<AtomicU32>() }.load(Acquire);
            if word & BUSY != 0 {
                break;
            }
            *pending += (u64::from(word & !DISCARD) + HEADER).next_multiple_of(8);
        }
        if end - consumer > self.mask || end - *pending > self.mask {
            drop(pending);
            return self.lose();
        }
        let header = self.header(start);
        // SAFETY: the bytes from `start` to `end` are nobody's: the consumer is past what stood there.
        unsafe {
            let pages = (header as usize - self.region.base() as usize) / page_size();
            header.cast::<u32>().add(1).write(pages as u32);
            (*header.cast::<AtomicU32>()).store(size as u32 | BUSY, Relaxed);
            self.producer.store(end, Release);
            header.add(HEADER as usize)
        }
    }

    fn lose(&self) -> *mut u8 {
        self.lost.fetch_add(1, Relaxed);
        ptr::null_mut()
    }

    /// Copies a record in. `EINVAL` for unknown flags, `EAGAIN` when there is no room.
    ///
    /// # Safety
    /// `data` is readable for `size` bytes.
    pub(crate) unsafe fn output(&self, data: *const u8, size: u64, flags: u64) -> Result<()> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let record = self.reserve(size);
        if record.is_null() {
            return Err(Errno::EAGAIN);
        }
        // SAFETY: the record is ours until it is committed, and has `size` bytes.
        unsafe {
            ptr::copy_nonoverlapping(data, record, size as usize);
            commit(record, flags, false);
        }
        Ok(())
    }

    /// `bpf_ringbuf_query`.
    pub(crate) fn query(&self, what: u64) -> u64 {
        let consumer = self.consumer.load(Acquire);
        let producer = self.producer.load(Acquire);
        match what {
            0 => producer.wrapping_sub(consumer),
            1 => self.mask + 1,
            2 => consumer,
            3 => producer,
            _ => 0,
        }
    }

    /// Gives each record that is ready to `each`, in order, until `each` says stop, one is still being written, or none is
    /// left. Returns how many there were.
    pub(crate) fn poll(&self, each: &mut dyn FnMut(&[u8]) -> std::ops::ControlFlow<()>) -> usize {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        let mut position = self.consumer.load(Relaxed);
        while position < self.producer.load(SeqCst) {
            let header = self.header(position);
            // SAFETY: a header stands wherever a record starts.
            let word = unsafe { &*header.cast::<AtomicU32>() }.load(SeqCst);
            if word & BUSY != 0 {
                break;
            }
            let len = u64::from(word & !DISCARD);
            position += (len + HEADER).next_multiple_of(8);
            let mut flow = std::ops::ControlFlow::Continue(());
            if word & DISCARD == 0 {
                // SAFETY: committed, so nobody writes to it until the consumer's position is past it; contiguous, as the
                // data stands twice.
                let record = unsafe { std::slice::from_raw_parts(header.add(HEADER as usize), len as usize) };
                flow = each(record);
                count += 1;
            }
            self.consumer.store(position, SeqCst);
            if flow.is_break() {
                break;
            }
        }
        count
    }

    /// Whether the consumer would find a record now.
    pub(crate) fn is_ready(&self) -> bool {
        let position = self.consumer.load(SeqCst);
        // SAFETY: a header stands wherever a record starts; a consumer that moves on meanwhile leaves some other bytes.
        position < self.producer.load(SeqCst)
            && unsafe { &*self.header(position).cast::<AtomicU32>() }.load(SeqCst) & BUSY == 0
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

/// Ends a reservation: from now on the consumer sees the record, or passes over it with `discard`.
///
/// # Safety
/// `record` came from [`Ring::reserve`] of a ring that still is, and was not committed before.
pub(crate) unsafe fn commit(record: *mut u8, flags: u64, discard: bool) {
    // SAFETY: in front of a record stands its header, and so many pages before it the address of the ring.
    unsafe {
        let header = record.sub(HEADER as usize);
        let pages = header.cast::<u32>().add(1).read() as usize;
        let first = (header as usize & !(page_size() - 1)) - pages * page_size();
        let ring = &*header.with_addr(first).cast::<*const Ring>().read();
        let word = &*header.cast::<AtomicU32>();
        let len = word.load(Relaxed) & !BUSY;
        // In one order with the consumer's: either it sees the record ready, or its position is seen here.
        word.swap(if discard { len | DISCARD } else { len }, SeqCst);
        // A consumer that is further back than this record will come by without being woken.
        let at = header as usize - ring.data() as usize;
        let waits_for_it = ring.consumer.load(SeqCst) & ring.mask == at as u64;
        if flags & FORCE_WAKEUP != 0 || (waits_for_it && flags & NO_WAKEUP == 0) {
            ring.signal.raise();
        }
    }
}
