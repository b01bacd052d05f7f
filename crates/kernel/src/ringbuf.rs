//! Ring buffers (`BPF_MAP_TYPE_RINGBUF`): what programs reserve and submit, in the order of reservation, over all CPUs.
//!
//! A record that is reserved and not yet submitted holds back those behind it. The slice that a caller sees lies in the
//! shared memory itself and is given back to the program when the callback returns.
//!
//! Loss: the kernel does not count the reservations that it refuses when the buffer is full; a program that wants to know
//! counts them itself. [`RingBuffer::fill`] tells how near that is.
//!
//! Source: `kernel/bpf/ringbuf.c`, `Documentation/bpf/ringbuf.rst`. The consumer's page comes first and may be written;
//! the producer's page and the data, mapped twice in a row so that no record is ever split, may only be read.

use crate::Map;
use crate::error::{Error, Result};
use crate::sys::mmap::{Mapping, finished_record, page_size};
use skep_abi::MapType;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

/// In the length word of a record: being written; given up.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Bytes before a record's data: length word and page offset.
const HEADER: usize = 8;

/// A reader of one ring buffer. There should be one reader a buffer: they share the consumer's position.
#[derive(Debug)]
pub struct RingBuffer {
    fd: OwnedFd,
    name: String,
    consumer: Mapping,
    /// The producer's page, then the data twice.
    rest: Mapping,
    page: usize,
    size: usize,
}

impl RingBuffer {
    /// Maps a buffer's memory.
    pub fn new(map: &Map) -> Result<RingBuffer> {
        if map.map_type() != Some(MapType::Ringbuf) {
            return Err(Error::Invalid {
                action: "read records of",
                object: format!("map {}", map.name()),
                why: "it is no ring buffer".into(),
            });
        }
        let page = page_size();
        let size = map.max_entries() as usize;
        let fail = |e| Error::kernel("map the memory of", format!("ring buffer {}", map.name()), e);
        let fd = map.fd().try_clone_to_owned().map_err(fail)?;
        let consumer = Mapping::new(fd.as_fd(), 0, page, true).map_err(fail)?;
        let rest = Mapping::new(fd.as_fd(), page, page + 2 * size, false).map_err(fail)?;
        Ok(RingBuffer { fd, name: map.name().to_owned(), consumer, rest, page, size })
    }

    /// The map's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Becomes readable when there are records.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes that are waiting (headers and records in the making included), and bytes that there is room for.
    pub fn fill(&self) -> (usize, usize) {
        let waiting = self.producer().wrapping_sub(self.position());
        (usize::try_from(waiting).unwrap_or(usize::MAX).min(self.size), self.size)
    }

    fn position(&self) -> u64 {
        self.consumer.word(0).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    fn producer(&self) -> u64 {
        self.rest.word(0).map_or(0, |w| w.load(Ordering::Acquire))
    }

    /// Hands over what is there, oldest first, and gives the number of records. Does not wait. Ends after one buffer full
    /// even if more keeps coming, so that other buffers get their turn.
    pub fn drain(&mut self, mut sink: impl FnMut(&[u8])) -> usize {
        let mut position = self.position();
        let end = position.saturating_add(self.size as u64);
        let mut count = 0;
        while position < end {
            if position >= self.producer() {
                break;
            }
            let at = self.page + (position as usize & (self.size - 1));
            let Some(word) = self.rest.half(at).map(|w| w.load(Ordering::Acquire)) else { break };
            if word & BUSY != 0 {
                break;
            }
            let len = (word & !(BUSY | DISCARDED)) as usize;
            if word & DISCARDED == 0 {
                // Never beyond the second copy of the data: the kernel takes no record larger than the buffer.
                let Some(data) = finished_record(&self.rest, at + HEADER, len) else { break };
                sink(data);
                count += 1;
            }
            position += (len + HEADER).next_multiple_of(8) as u64;
            self.consumer.store_word(0, position);
            // The kernel wakes us only for a record that it finds us waiting for. It writes its position and then reads
            // ours; we write ours and then read its. Without a full barrier both could read the old one.
            fence(Ordering::SeqCst);
        }
        count
    }
}
