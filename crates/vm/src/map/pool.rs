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
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

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

/// Shards at most; threads beyond share them.
const MOST_SHARDS: usize = 16;

/// What one thread (or a few) takes from and puts back to, so that threads seldom wait for one another.
#[derive(Default)]
struct Shard {
    free: Vec<*mut u8>,
    limbo: Vec<*mut u8>,
    batch: Vec<*mut u8>,
    batch_on_its_way: bool,
    since_nudge: u32,
    /// The shard's last chunk, and how many of its elements were never used.
    chunk: Option<NonNull<u8>>,
    fresh: usize,
}

/// Two cache lines each, as the machine fetches them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Padded(Spin<Shard>);

#[derive(Default)]
struct Chunks {
    all: Vec<Region>,
    bytes: u64,
}

/// See the module.
pub(crate) struct Pool {
    shape: Shape,
    block: usize,
    chunk_elements: usize,
    cpu_stride: usize,
    /// Bytes of all chunks.
    most_bytes: u64,
    chunks: Spin<Chunks>,
    /// A power of two of them.
    shards: Box<[Padded]>,
}

// SAFETY: the pointers are to the pool's own chunks, which any thread may touch; the shards are behind locks.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("shape", &self.shape).field("chunk_elements", &self.chunk_elements).finish()
    }
}

/// Shards of a pool: as many as the machine runs threads at once.
fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        threads.next_power_of_two().min(MOST_SHARDS)
    })
}

/// A number of this thread, counted up from 0.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    // A thread that is about to end may have none any more.
    NUMBER.try_with(|number| *number).unwrap_or(0)
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
        let shards = (0..shard_count()).map(|_| Padded::default()).collect();
        Pool { shape, block, chunk_elements, cpu_stride, most_bytes, chunks: Spin::default(), shards }
    }

    /// Bytes between the values of an element from CPU to CPU.
    pub(crate) fn cpu_stride(&self) -> usize {
        self.cpu_stride
    }

    fn own_shard(&self) -> usize {
        thread_number() & (self.shards.len() - 1)
    }

    /// An element whose bytes are whatever they are, but for the address of its values for each CPU, which
    /// [`Pool::values`] reads. `ENOMEM` when there is no memory.
    pub(crate) fn take(&self) -> Result<*mut u8> {
        let own = self.own_shard();
        if let Some(element) = self.take_from(own) {
            return Ok(element);
        }
        // What other threads have put back comes before new memory.
        for other in (0..self.shards.len()).filter(|other| *other != own) {
            let mut stolen = {
                let mut shard = self.shards[other].0.lock();
                let keep = shard.free.len() / 2;
                shard.free.split_off(keep)
            };
            if let Some(element) = stolen.pop() {
                self.shards[own].0.lock().free.append(&mut stolen);
                return Ok(element);
            }
        }
        let chunk = self.new_chunk()?;
        let mut shard = self.shards[own].0.lock();
        // A thread of the same shard may have come first; what is left of its chunk must not be lost.
        while shard.fresh > 0 {
            let element = self.next_fresh(&mut shard);
            shard.free.extend(element);
        }
        (shard.chunk, shard.fresh) = (Some(chunk), self.chunk_elements);
        self.next_fresh(&mut shard).ok_or(Errno::ENOMEM)
    }

    fn take_from(&self, shard: usize) -> Option<*mut u8> {
        let mut shard = self.shards[shard].0.lock();
        shard.free.pop().or_else(|| self.next_fresh(&mut shard))
    }

    fn new_chunk(&self) -> Result<NonNull<u8>> {
        let values = self.shape.per_cpu.map_or(0, |(_, cpus)| self.cpu_stride * cpus as usize);
        let bytes = (self.block * self.chunk_elements).next_multiple_of(128) as u64 + values as u64;
        let mut chunks = self.chunks.lock();
        if chunks.bytes > self.most_bytes {
            return Err(Errno::ENOMEM);
        }
        let chunk = Region::new(bytes)?;
        let base = NonNull::new(chunk.base()).ok_or(Errno::ENOMEM)?;
        chunks.bytes += chunk.len() as u64;
        chunks.all.push(chunk);
        Ok(base)
    }

    /// The next element of a shard's chunk that was never used.
    fn next_fresh(&self, shard: &mut Shard) -> Option<*mut u8> {
        let chunk = shard.chunk.filter(|_| shard.fresh > 0)?.as_ptr();
        let index = self.chunk_elements - shard.fresh;
        shard.fresh -= 1;
        // SAFETY: the chunk was made for so many elements and values.
        unsafe {
            let slot = self.slot(chunk, index);
            if self.shape.per_cpu.is_some() {
                slot.element.add(self.shape.body - 8).cast::<*mut u8>().write(slot.values);
            }
            Some(slot.element)
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
        self.shards[self.own_shard()].0.lock().free.push(element);
    }

    /// Puts back an element that is no longer in the map; others may still hold it for as long as they are pinned.
    pub(crate) fn retire(self: &Arc<Pool>, element: *mut u8, guard: &Guard) {
        let own = self.own_shard();
        let (start, nudge) = {
            let mut shard = self.shards[own].0.lock();
            let shard = &mut *shard;
            shard.limbo.push(element);
            let start = !shard.batch_on_its_way;
            if start {
                shard.start_batch();
            }
            shard.since_nudge += 1;
            let nudge = shard.since_nudge >= NUDGE_EVERY;
            if nudge {
                shard.since_nudge = 0;
            }
            (start, nudge)
        };
        if start {
            self.free_batch_later(own, guard);
        }
        if start || nudge {
            guard.flush();
        }
    }

    fn free_batch_later(self: &Arc<Pool>, shard: usize, guard: &Guard) {
        let pool = self.clone();
        guard.defer(move || pool.batch_is_free(shard));
    }

    fn batch_is_free(self: &Arc<Pool>, number: usize) {
        let next = {
            let mut shard = self.shards[number].0.lock();
            let shard = &mut *shard;
            if shard.free.is_empty() {
                std::mem::swap(&mut shard.free, &mut shard.batch);
            } else {
                shard.free.append(&mut shard.batch);
            }
            // The shard's thread may be gone: what came to the limbo meanwhile is sent off from here.
            shard.batch_on_its_way = !shard.limbo.is_empty();
            if shard.batch_on_its_way {
                shard.start_batch();
            }
            shard.batch_on_its_way
        };
        if next {
            self.free_batch_later(number, &crossbeam_epoch::pin());
        }
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
        let chunks = self.chunks.lock();
        let mut chunks = chunks.all.iter().filter_map(|chunk| in_chunk(chunk.base().addr()));
        chunks.find(|found| found.contains(&addr))
    }

    /// Bytes of address space taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.lock().bytes
    }
}

impl Shard {
    /// All that is in the limbo becomes the batch, which is empty.
    fn start_batch(&mut self) {
        std::mem::swap(&mut self.limbo, &mut self.batch);
        self.batch_on_its_way = true;
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
    fn what_one_thread_puts_back_another_takes() {
        let pool = Arc::new(Pool::new(Shape { header: 0, body: 16, per_cpu: None }, 1000));
        let bytes = |pool: &Pool| pool.bytes() / (64 * 16);
        // One thread only takes, another only puts back: as in a map where one inserts and another deletes.
        let (send, receive) = std::sync::mpsc::sync_channel::<usize>(100);
        std::thread::scope(|scope| {
            let pool = &pool;
            scope.spawn(move || {
                for element in receive {
                    pool.retire(element as *mut u8, &crossbeam_epoch::pin());
                }
            });
            for _ in 0..200_000 {
                send.send(pool.take().expect("memory") as usize).expect("the other thread lives");
            }
            drop(send);
        });
        assert!(bytes(&pool) < 200, "{} times 64 elements for 200000", bytes(&pool));
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
