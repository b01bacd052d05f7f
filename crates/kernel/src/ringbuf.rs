//! Ring buffers (`BPF_MAP_TYPE_RINGBUF`): what programs reserve and submit, in the order of reservation, over all CPUs.
//!
//! A record that is reserved and not yet submitted holds back those behind it. The slice that a caller sees lies in the
//! shared memory itself and is given back to the program when the callback returns.
//!
//! Loss: the kernel does not count the reservations that it refuses when the buffer is full; a program that wants to know
//! counts them itself. [`RingBuffer::fill`] tells how near that is.
//!
//! Source: `Documentation/bpf/ringbuf.rst`.

use crate::Map;
use crate::error::{Error, Result};
use crate::sys::mmap::{RingMemory, Step};
use skep_abi::MapType;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A reader of one ring buffer. There should be one reader a buffer: they share the consumer's position.
#[derive(Debug)]
pub struct RingBuffer {
    fd: OwnedFd,
    name: String,
    memory: RingMemory,
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
        let fail = |e| Error::kernel("map the memory of", format!("ring buffer {}", map.name()), e);
        let fd = map.fd().try_clone_to_owned().map_err(fail)?;
        let memory = RingMemory::new(fd.as_fd(), map.max_entries() as usize).map_err(fail)?;
        Ok(RingBuffer { fd, name: map.name().to_owned(), memory })
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
        let (position, size) = (self.memory.position(), self.memory.size());
        let waiting = self.memory.producer().saturating_sub(position);
        (usize::try_from(waiting).unwrap_or(usize::MAX).min(size), size)
    }

    /// Hands over what is there, oldest first, and gives the number of records. Does not wait. Ends after one buffer full
    /// even if more keeps coming, so that other buffers get their turn.
    pub fn drain(&mut self, mut sink: impl FnMut(&[u8])) -> usize {
        let end = self.memory.position().saturating_add(self.memory.size() as u64);
        let mut count = 0;
        while self.memory.position() < end {
            match self.memory.next(&mut sink) {
                Step::Record => count += 1,
                Step::Discarded => {}
                Step::Nothing => break,
            }
        }
        count
    }
}
