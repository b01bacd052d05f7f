//! Perf event arrays: records go to the buffer of the CPU that the program runs on.

use super::error::{Errno, Result};
use super::signal::Signal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes of one record: the size field of a perf record has 16 bits, 16 bytes of it go to headers.
pub const MAX_RECORD: usize = 0xffff - 16;

/// Bytes that a record takes in a buffer besides its own.
const RECORD_HEADER: usize = 4;

/// A buffer for each slot that is open.
#[derive(Debug)]
pub(crate) struct Perf {
    slots: Vec<Mutex<Option<Buffer>>>,
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct Buffer {
    /// Length (4 bytes), then the record; one behind the other.
    bytes: Vec<u8>,
    capacity: usize,
    lost: u64,
}

fn lock(slot: &Mutex<Option<Buffer>>) -> MutexGuard<'_, Option<Buffer>> {
    // Nothing that runs under the lock can panic half way.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Perf {
    /// Slots past the number of CPUs can never be written to and are not kept.
    pub(crate) fn new(max_entries: u32, cpus: u32, signal: Arc<Signal>) -> Perf {
        let slots = (0..max_entries.min(cpus)).map(|_| Mutex::new(None)).collect();
        Perf { slots, signal }
    }

    pub(crate) fn open(&self, capacity: usize) {
        for slot in &self.slots {
            *lock(slot) = Some(Buffer { bytes: Vec::new(), capacity, lost: 0 });
        }
    }

    pub(crate) fn close(&self, index: u32) -> Result<()> {
        let slot = self.slots.get(index as usize).ok_or(Errno::ENOENT)?;
        lock(slot).take().map(drop).ok_or(Errno::ENOENT)
    }

    /// The pieces make up one record. `ENOENT` if the slot is not open, `ENOSPC` (and the loss is counted) if it is full.
    pub(crate) fn output(&self, index: u32, cpu: u32, pieces: &[&[u8]]) -> Result<()> {
        let slot = self.slots.get(index as usize).ok_or(Errno::ENOENT)?;
        let mut slot = lock(slot);
        let buffer = slot.as_mut().ok_or(Errno::ENOENT)?;
        if index != cpu {
            return Err(Errno::EOPNOTSUPP);
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        if len > MAX_RECORD {
            return Err(Errno::E2BIG);
        }
        if buffer.bytes.len() + RECORD_HEADER + len > buffer.capacity {
            buffer.lost += 1;
            return Err(Errno::ENOSPC);
        }
        buffer.bytes.extend_from_slice(&(len as u32).to_ne_bytes());
        pieces.iter().for_each(|piece| buffer.bytes.extend_from_slice(piece));
        drop(slot);
        self.signal.raise();
        Ok(())
    }

    /// Takes all that is there: `(cpu, record)`, CPU by CPU. Returns how many records there were.
    pub(crate) fn poll(&self, each: &mut dyn FnMut(u32, &[u8])) -> usize {
        let mut count = 0;
        let mut taken = Vec::new();
        for (cpu, slot) in self.slots.iter().enumerate() {
            taken.clear();
            // The producers go on with the other piece of memory while this one is read.
            if let Some(buffer) = lock(slot).as_mut() {
                std::mem::swap(&mut buffer.bytes, &mut taken);
            }
            let mut rest = taken.as_slice();
            while let Some((len, behind)) = rest.split_first_chunk::<RECORD_HEADER>() {
                let Some((record, behind)) = behind.split_at_checked(u32::from_ne_bytes(*len) as usize) else { break };
                each(cpu as u32, record);
                count += 1;
                rest = behind;
            }
        }
        count
    }

    /// Whether there are records.
    pub(crate) fn is_ready(&self) -> bool {
        self.slots.iter().any(|slot| lock(slot).as_ref().is_some_and(|buffer| !buffer.bytes.is_empty()))
    }

    /// Records lost so far, by CPU.
    pub(crate) fn lost(&self) -> Vec<u64> {
        self.slots.iter().map(|slot| lock(slot).as_ref().map_or(0, |buffer| buffer.lost)).collect()
    }
}
