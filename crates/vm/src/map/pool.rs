//! The elements of a map: taken, put back, and not used again before every program that might hold one has ended.
//!
//! An element that leaves its map goes to the limbo. From there all of them together become free again when crossbeam's
//! epochs say that whoever was running meanwhile is done ("a batch"; one is on its way at a time). So a map takes memory
//! for its elements and for what was removed within the last few hundred runs, and within runs that still go on; for that
//! there is a limit, [`MOST_WAITING`].
//!
//! A value for each CPU lies apart from its element, in the same chunk: the values of one CPU beside one another.

#![expect(unsafe_code, reason = "elements are raw memory")]

use super::error::{Errno, Result};
use super::lock::Spin;
use super::memory::Region;
use crossbeam_epoch::Guard;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that may wait for their grace period besides what the map holds, or as much as the map can hold if that is more.
/// A program that updates and deletes without end then gets `ENOMEM`.
const MOST_WAITING: u64 = 1 << 30;

/// Bytes of memory asked for at once; untouched pages cost nothing.
const CHUNK_BYTES: usize = 2 << 20;

/// After so many elements put to the limbo the epochs are asked to go on.
const NUDGE_EVERY: u32 = 64;

/// Sizes of what a pool gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Bytes in front of the address that is given out, a multiple of 8.
    pub(crate) header: usize,
    /// Bytes from that address on.
    pub(crate) body: usize,
    /// Bytes of a value of one CPU, a multiple of 8, and the number of CPUs.
    pub(crate) per_cpu: Option<(usize, u32)>,
}

/// An element and, for a map with a value for each CPU, the value of CPU 0.
#[derive(Clone, Copy)]
struct Slot {
    element: *mut u8,
    values: *mut u8,
}

#[derive(Default)]
struct State {
    free: Vec<*mut u8>,
    limbo: Vec<*mut u8>,
    batch: Vec<*mut u8>,
    batch_on_its_way: bool,
    since_nudge: u32,
    chunks: Vec<Region>,
    /// Of all chunks.
    bytes: u64,
    /// Elements of the last chunk that were never used.
    fresh: usize,
}

/// See the module.
pub(crate) struct Pool {
    shape: Shape,
    block: usize,
    chunk_elements: usize,
    cpu_stride: usize,
    /// Bytes of all chunks.
    most_bytes: u64,
    state: Spin<State>,
}

// SAFETY: the pointers are to the pool's own chunks, which any thread may touch; the state is behind a lock.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("shape", &self.shape).field("chunk_elements", &self.chunk_elements).finish()
    }
}

impl Pool {
    /// Takes no memory yet. `elements`: how many there will be in the long run.
    pub(crate) fn new(shape: Shape, elements: u64) -> Pool {
        let bytes = shape.header + shape.body;
        // No small element lies on two cache lines.
        let block = if bytes <= 64 { bytes.next_power_of_two().max(8) } else { bytes.next_multiple_of(16) };
        let (value, cpus) = shape.per_cpu.unwrap_or((0, 0));
        let all = block.saturating_add(value.saturating_mul(cpus as usize));
        let wanted = usize::try_from(elements).unwrap_or(usize::MAX).max(64);
        let chunk_elements = (CHUNK_BYTES / all).clamp(1, wanted);
        let cpu_stride = (value * chunk_elements).next_multiple_of(128);
        let held = elements.saturating_mul(all as u64);
        let most_bytes = held.saturating_add(held.max(MOST_WAITING));
        Pool { shape, block, chunk_elements, cpu_stride, most_bytes, state: Spin::default() }
    }

    /// Bytes between the values of an element from CPU to CPU.
    pub(crate) fn cpu_stride(&self) -> usize {
        self.cpu_stride
    }

    /// An element whose bytes are whatever they are, but for the address of its values for each CPU, which
    /// [`Pool::values`] reads. `ENOMEM` when there is no memory.
    pub(crate) fn take(&self) -> Result<*mut u8> {
        let mut state = self.state.lock();
        if let Some(element) = state.free.pop() {
            return Ok(element);
        }
        if state.fresh == 0 {
            let values = self.shape.per_cpu.map_or(0, |(_, cpus)| self.cpu_stride * cpus as usize);
            if state.bytes > self.most_bytes {
                return Err(Errno::ENOMEM);
            }
            let chunk = Region::new((self.block * self.chunk_elements).next_multiple_of(128) as u64 + values as u64)?;
            state.bytes += chunk.len() as u64;
            state.chunks.push(chunk);
            state.fresh = self.chunk_elements;
        }
        let chunk = state.chunks.last().ok_or(Errno::ENOMEM)?.base();
        let index = self.chunk_elements - state.fresh;
        state.fresh -= 1;
        // SAFETY: the chunk was made for so many elements and values.
        unsafe {
            let slot = self.slot(chunk, index);
            if self.shape.per_cpu.is_some() {
                slot.element.add(self.shape.body - 8).cast::<*mut u8>().write(slot.values);
            }
            Ok(slot.element)
        }
    }

    /// # Safety
    /// `chunk` is one of ours, `index` below the elements of a chunk.
    unsafe fn slot(&self, chunk: *mut u8, index: usize) -> Slot {
        // SAFETY: by the contract.
        unsafe {
            let element = chunk.add(index * self.block + self.shape.header);
            let value = self.shape.per_cpu.map_or(0, |(value, _)| value);
            let values = chunk.add((self.block * self.chunk_elements).next_multiple_of(128) + index * value);
            Slot { element, values }
        }
    }

    /// Address of CPU 0's value; the others follow at [`Pool::cpu_stride`].
    ///
    /// # Safety
    /// `element` was taken from this pool, which has values for each CPU.
    #[inline]
    pub(crate) unsafe fn values(&self, element: *mut u8) -> *mut u8 {
        // SAFETY: written when the element was first taken, never changed.
        unsafe { element.add(self.shape.body - 8).cast::<*mut u8>().read() }
    }

    /// Puts back an element that no one else has ever seen.
    pub(crate) fn put_back(&self, element: *mut u8) {
        self.state.lock().free.push(element);
    }

    /// Puts back an element that is no longer in the map; others may still hold it for as long as they are pinned.
    pub(crate) fn retire(self: &Arc<Pool>, element: *mut u8, guard: &Guard) {
        let (start, nudge) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.limbo.push(element);
            let start = !state.batch_on_its_way;
            if start {
                // The batch before is free by now, so its list is empty.
                std::mem::swap(&mut state.limbo, &mut state.batch);
                state.batch_on_its_way = true;
            }
            state.since_nudge += 1;
            let nudge = state.since_nudge >= NUDGE_EVERY;
            if nudge {
                state.since_nudge = 0;
            }
            (start, nudge)
        };
        if start {
            let pool = self.clone();
            guard.defer(move || pool.batch_is_free());
        }
        if start || nudge {
            guard.flush();
        }
    }

    fn batch_is_free(&self) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.free.is_empty() {
            std::mem::swap(&mut state.free, &mut state.batch);
        } else {
            state.free.append(&mut state.batch);
        }
        state.batch_on_its_way = false;
    }

    /// Where an address lies in an element (in this part of it) or in the value of a CPU: that part, or that value.
    pub(crate) fn stretch(&self, addr: usize, part: Range<usize>) -> Option<Range<usize>> {
        let blocks = self.block * self.chunk_elements;
        let in_chunk = |base: usize| {
            let at = addr.checked_sub(base)?;
            if at < blocks {
                let element = base + at / self.block * self.block + self.shape.header;
                return Some(element + part.start..element + part.end);
            }
            let (value, cpus) = self.shape.per_cpu?;
            let at = at.checked_sub(blocks.next_multiple_of(128))?;
            let (cpu, index) = (at / self.cpu_stride, at % self.cpu_stride / value);
            let start = addr - at % self.cpu_stride % value;
            (cpu < cpus as usize && index < self.chunk_elements).then_some(start..start + value)
        };
        let state = self.state.lock();
        let mut chunks = state.chunks.iter().filter_map(|chunk| in_chunk(chunk.base().addr()));
        chunks.find(|found| found.contains(&addr))
    }

    /// Bytes of address space taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_comes_back_only_after_the_grace_period() {
        let shape = Shape { header: 0, body: 16, per_cpu: None };
        let pool = Arc::new(Pool::new(shape, 1));
        let holder = crossbeam_epoch::pin();
        let first = pool.take().expect("memory");
        pool.retire(first, &holder);
        let mut seen = Vec::new();
        for _ in 0..200 {
            let element = pool.take().expect("memory");
            assert_ne!(element, first, "still held");
            seen.push(element);
            crossbeam_epoch::pin().flush();
        }
        drop(holder);
        for _ in 0..100_000 {
            crossbeam_epoch::pin().flush();
            let element = pool.take().expect("memory");
            if element == first {
                return;
            }
            pool.put_back(element);
            std::thread::yield_now();
        }
        panic!("it never came back");
    }

    #[test]
    fn what_waits_has_a_limit() {
        let pool = Arc::new(Pool::new(Shape { header: 0, body: 4 << 20, per_cpu: None }, 1));
        let guard = crossbeam_epoch::pin();
        let mut taken = 0;
        // Untouched, so it costs no memory.
        while let Ok(element) = pool.take() {
            pool.retire(element, &guard);
            taken += 1;
        }
        assert!((256..=260).contains(&taken), "{taken} elements of 4 MiB");
    }

    #[test]
    fn values_for_each_cpu_do_not_overlap() {
        let shape = Shape { header: 24, body: 16, per_cpu: Some((24, 3)) };
        let pool = Pool::new(shape, 100);
        let mut addresses = Vec::new();
        for _ in 0..300 {
            let element = pool.take().expect("memory");
            // SAFETY: just taken.
            let values = unsafe { pool.values(element) } as usize;
            addresses.extend((0..3).map(|cpu| values + cpu * pool.cpu_stride()));
            addresses.push(element as usize - 24);
        }
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= 24), "24 bytes each");
    }
}
