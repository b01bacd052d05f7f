//! Longest prefix match: a binary tree of prefixes, read without a lock.
//!
//! ```text
//! 192.168.0.0/16
//!   0: 192.168.0.0/17, made only to branch ("joint")
//!      0: 192.168.0.0/24     1: 192.168.64.0/18
//!   1: 192.168.128.0/24
//! ```
//!
//! A node stands for a prefix; below it are longer ones that begin with it, by the bit that follows. Writers take one lock
//! for the tree. A node's prefix never changes: a node that is replaced or removed stays readable for those who are at it
//! until they unpin. Source for what users see, also the order of keys: `kernel/bpf/lpm_trie.c`.

#![expect(unsafe_code, reason = "nodes are raw memory, values given out by address")]

use super::error::{Errno, Result};
use super::lock::Spin;
use super::memory::check_room;
use super::pool::{Pool, Shape};
use super::value::ValueLayout;
use super::{EXIST, NOEXIST};
use crossbeam_epoch::Guard;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

/// In front of a node's bits and value.
#[repr(C)]
struct Node {
    children: [AtomicPtr<Node>; 2],
    /// The first 64 bits as a number, zeroes behind the last of the key: for keys of up to 8 bytes all that a lookup reads.
    head: u64,
    prefix_len: u32,
    /// There only because two branches part here; has no value.
    joint: AtomicBool,
}

/// Bytes of it.
const HEADER: usize = size_of::<Node>();

/// See the module.
pub(crate) struct Lpm {
    root: AtomicPtr<Node>,
    /// Bytes of a key's bits, behind its length.
    data_size: usize,
    value_at: usize,
    max_entries: u64,
    /// Elements; the lock is the writers'.
    count: Spin<u64>,
    pool: Arc<Pool>,
    layout: ValueLayout,
}

impl std::fmt::Debug for Lpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lpm").field("data_size", &self.data_size).finish_non_exhaustive()
    }
}

/// A key in someone's memory: 4 bytes of length, then bits.
#[derive(Clone, Copy)]
struct Prefix {
    len: u32,
    bits: *const u8,
}

impl Prefix {
    /// # Safety
    /// `key` is readable for the key size.
    unsafe fn new(key: *const u8) -> Prefix {
        // SAFETY: keys are at least 5 bytes.
        unsafe { Prefix { len: key.cast::<u32>().read_unaligned(), bits: key.add(4) } }
    }
}

/// The first 64 bits as a number, zeroes behind the last of `size` bytes.
///
/// # Safety
/// `bits` is readable for `size` bytes.
#[inline]
unsafe fn head(bits: *const u8, size: usize) -> u64 {
    // SAFETY: what is read stays within `size`.
    unsafe {
        match size {
            4 => u64::from(u32::from_be(bits.cast::<u32>().read_unaligned())) << 32,
            8.. => u64::from_be(bits.cast::<u64>().read_unaligned()),
            _ => (0..size).fold(0, |all, at| all | u64::from(*bits.add(at)) << (56 - 8 * at)),
        }
    }
}

/// # Safety
/// `bits` is readable for more than `n` bits.
#[inline]
unsafe fn bit(bits: *const u8, n: u32) -> usize {
    // SAFETY: by the contract.
    usize::from(unsafe { *bits.add(n as usize / 8) } >> (7 - n % 8) & 1)
}

/// How many of the first `most` bits are the same.
///
/// # Safety
/// Both are readable for `size` bytes, and `most` is at most that many bits.
#[inline]
unsafe fn common(a: *const u8, b: *const u8, size: usize, most: u32) -> u32 {
    let mut at = 0;
    // SAFETY: what is read at `at` stays within `size`.
    unsafe {
        while at + 8 <= size && (at as u32) * 8 < most {
            let differ = a.add(at).cast::<u64>().read_unaligned() ^ b.add(at).cast::<u64>().read_unaligned();
            if differ != 0 {
                return most.min(at as u32 * 8 + u64::from_be(differ).leading_zeros());
            }
            at += 8;
        }
        if at + 4 <= size && (at as u32) * 8 < most {
            let differ = a.add(at).cast::<u32>().read_unaligned() ^ b.add(at).cast::<u32>().read_unaligned();
            if differ != 0 {
                return most.min(at as u32 * 8 + u32::from_be(differ).leading_zeros());
            }
            at += 4;
        }
        while at < size && (at as u32) * 8 < most {
            let differ = *a.add(at) ^ *b.add(at);
            if differ != 0 {
                return most.min(at as u32 * 8 + differ.leading_zeros());
            }
            at += 1;
        }
    }
    most
}

impl Lpm {
    pub(crate) fn new(key_size: u32, layout: ValueLayout, max_entries: u32) -> Result<Lpm> {
        let data_size = key_size as usize - 4;
        let value_at = (HEADER + data_size).next_multiple_of(8);
        let shape = Shape { header: 0, body: value_at + layout.slot, per_cpu: None };
        check_room((shape.body as u64).saturating_mul(u64::from(max_entries)))?;
        let pool = Arc::new(Pool::new(shape, u64::from(max_entries) * 2));
        let max_entries = u64::from(max_entries);
        Ok(Lpm { root: AtomicPtr::default(), data_size, value_at, max_entries, count: Spin::new(0), pool, layout })
    }

    /// The value that an address lies in.
    pub(crate) fn stretch(&self, addr: usize) -> Option<std::ops::Range<usize>> {
        self.pool.stretch(addr, self.value_at..self.value_at + self.layout.slot)
    }

    pub(crate) fn len(&self) -> u64 {
        *self.count.lock()
    }

    fn most_bits(&self) -> u32 {
        self.data_size as u32 * 8
    }

    #[inline]
    fn bits(node: *mut Node) -> *mut u8 {
        node.cast::<u8>().wrapping_add(HEADER)
    }

    #[inline]
    fn value(&self, node: *mut Node) -> *mut u8 {
        node.cast::<u8>().wrapping_add(self.value_at)
    }

    /// Bits that a node and a key have in common, at most as many as the shorter has.
    ///
    /// # Safety
    /// Both are valid.
    #[inline]
    unsafe fn in_common(&self, node: *mut Node, key: Prefix) -> u32 {
        // SAFETY: by the contract; a length over the most was refused before.
        unsafe { common(Self::bits(node), key.bits, self.data_size, (*node).prefix_len.min(key.len)) }
    }

    /// The value of the longest prefix that the key begins with, null if there is none.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    #[inline]
    pub(crate) unsafe fn lookup(&self, key: *const u8) -> *mut u8 {
        // SAFETY: by the contract; nodes stay readable as long as this thread is pinned.
        unsafe {
            let key = Prefix::new(key);
            if key.len > self.most_bits() {
                return ptr::null_mut();
            }
            if self.data_size <= 8 {
                return self.lookup_short(key);
            }
            let mut best = ptr::null_mut();
            let mut node = self.root.load(Acquire);
            while !node.is_null() {
                let len = (*node).prefix_len;
                let same = self.in_common(node, key);
                if same < len {
                    break;
                }
                if !(*node).joint.load(Relaxed) {
                    best = node;
                }
                if len == self.most_bits() || len >= key.len {
                    break;
                }
                node = (*node).children[bit(key.bits, len)].load(Acquire);
            }
            if best.is_null() { ptr::null_mut() } else { self.value(best) }
        }
    }

    /// [`Lpm::lookup`] for keys of up to 64 bits, which are numbers.
    ///
    /// # Safety
    /// As there.
    #[inline]
    unsafe fn lookup_short(&self, key: Prefix) -> *mut u8 {
        // SAFETY: the key is valid; nodes stay readable as long as this thread is pinned.
        unsafe {
            let bits = head(key.bits, self.data_size);
            let mut best = ptr::null_mut();
            let mut node = self.root.load(Acquire);
            while !node.is_null() {
                let len = (*node).prefix_len;
                // All but the first `len` bits shifted out; a shift by 64 does not exist.
                if len > key.len || len != 0 && (bits ^ (*node).head) >> (64 - len) != 0 {
                    break;
                }
                if !(*node).joint.load(Relaxed) {
                    best = node;
                }
                if len == key.len {
                    break;
                }
                node = (*node).children[(bits >> (63 - len) & 1) as usize].load(Acquire);
            }
            if best.is_null() { ptr::null_mut() } else { self.value(best) }
        }
    }

    /// Makes a node.
    ///
    /// # Safety
    /// The key is valid; `value` is null for a joint, else readable for the value size.
    unsafe fn make(&self, key: Prefix, len: u32, value: *const u8) -> Result<*mut Node> {
        let node = self.pool.take()?.cast::<Node>();
        // SAFETY: the key is valid.
        let head = unsafe { head(key.bits, self.data_size) };
        let header =
            Node { children: Default::default(), head, prefix_len: len, joint: AtomicBool::new(value.is_null()) };
        // SAFETY: the node is ours alone, and has room for bits and value.
        unsafe {
            node.write(header);
            ptr::copy_nonoverlapping(key.bits, Self::bits(node), self.data_size);
            if !value.is_null() {
                self.layout.set(self.value(node), value);
                self.layout.init_special(self.value(node));
            }
        }
        Ok(node)
    }

    /// Sets the value of a prefix. `ENOSPC` when full.
    ///
    /// # Safety
    /// `key` and `value` are readable for their sizes.
    pub(crate) unsafe fn update(&self, key: *const u8, value: *const u8, flags: u64, guard: &Guard) -> Result<()> {
        if flags > EXIST {
            return Err(Errno::EINVAL);
        }
        // SAFETY: by the contract.
        let key = unsafe { Prefix::new(key) };
        if key.len > self.most_bits() {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count.lock();
        // SAFETY: nodes in the tree are alive under the lock.
        unsafe {
            let mut slot = &self.root;
            let mut same = 0;
            let mut node;
            loop {
                node = slot.load(Relaxed);
                if node.is_null() {
                    break;
                }
                same = self.in_common(node, key);
                let len = (*node).prefix_len;
                if len != same || len == key.len {
                    break;
                }
                slot = &(&(*node).children)[bit(key.bits, len)];
            }
            let exact = !node.is_null() && (*node).prefix_len == same && same == key.len;
            let there = exact && !(*node).joint.load(Relaxed);
            if there && flags == NOEXIST {
                return Err(Errno::EEXIST);
            }
            if !there {
                if flags == EXIST {
                    return Err(Errno::ENOENT);
                }
                if *count == self.max_entries {
                    return Err(Errno::ENOSPC);
                }
            }
            let new = self.make(key, key.len, value)?;
            if exact {
                // In the place of the old one, above its children.
                for side in 0..2 {
                    (&(*new).children)[side].store((&(*node).children)[side].load(Relaxed), Relaxed);
                }
                slot.store(new, Release);
                *count += u64::from(!there);
                drop(count);
                self.pool.retire(node.cast(), guard);
                return Ok(());
            }
            if node.is_null() {
                slot.store(new, Release);
            } else if same == key.len {
                // The new prefix is shorter: the node goes below.
                (&(*new).children)[bit(Self::bits(node), key.len)].store(node, Relaxed);
                slot.store(new, Release);
            } else {
                let joint = match self.make(key, same, ptr::null()) {
                    Ok(joint) => joint,
                    Err(e) => {
                        self.pool.put_back(new.cast());
                        return Err(e);
                    }
                };
                let side = bit(key.bits, same);
                (&(*joint).children)[side].store(new, Relaxed);
                (&(*joint).children)[1 - side].store(node, Relaxed);
                slot.store(joint, Release);
            }
            *count += 1;
        }
        Ok(())
    }

    /// Removes a prefix, exactly this one.
    ///
    /// # Safety
    /// `key` is readable for the key size.
    pub(crate) unsafe fn delete(&self, key: *const u8, guard: &Guard) -> Result<()> {
        // SAFETY: by the contract.
        let key = unsafe { Prefix::new(key) };
        if key.len > self.most_bits() {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count.lock();
        // SAFETY: nodes in the tree are alive under the lock.
        unsafe {
            let mut above: Option<(&AtomicPtr<Node>, *mut Node)> = None;
            let mut slot = &self.root;
            let node = loop {
                let node = slot.load(Relaxed);
                if node.is_null() {
                    return Err(Errno::ENOENT);
                }
                let (same, len) = (self.in_common(node, key), (*node).prefix_len);
                if same != len {
                    return Err(Errno::ENOENT);
                }
                if len == key.len {
                    break node;
                }
                above = Some((slot, node));
                slot = &(&(*node).children)[bit(key.bits, len)];
            };
            if (*node).joint.load(Relaxed) {
                return Err(Errno::ENOENT);
            }
            *count -= 1;
            let [left, right] = [0, 1].map(|side| (&(*node).children)[side].load(Relaxed));
            if !left.is_null() && !right.is_null() {
                // Still needed to branch. Its value stays as it is for whoever holds it.
                (*node).joint.store(true, Relaxed);
                return Ok(());
            }
            let only = if left.is_null() { right } else { left };
            if let (true, Some((above_slot, parent))) = (only.is_null(), above)
                && (*parent).joint.load(Relaxed)
            {
                // The joint above has one branch left: that takes its place.
                let sides = [0, 1].map(|side| (&(*parent).children)[side].load(Relaxed));
                above_slot.store(if sides[0] == node { sides[1] } else { sides[0] }, Release);
                drop(count);
                self.pool.retire(parent.cast(), guard);
            } else {
                slot.store(only, Release);
                drop(count);
            }
            self.pool.retire(node.cast(), guard);
        }
        Ok(())
    }

    /// Writes the key after `key` to `next`: longer prefixes come before those they begin with, 0 before 1. The first where
    /// `key` is not there; `ENOENT` at the end.
    ///
    /// # Safety
    /// `key` is readable for the key size; this thread is pinned.
    pub(crate) unsafe fn next_key(&self, key: Option<*const u8>, next: &mut [u8]) -> Result<()> {
        // SAFETY: by the contract; nodes stay readable as long as this thread is pinned.
        unsafe {
            let mut found = ptr::null_mut();
            let mut from = self.root.load(Acquire);
            let mut path = Vec::new();
            let key = key.map(|key| Prefix::new(key)).filter(|key| key.len <= self.most_bits());
            if let Some(key) = key {
                let mut node = from;
                while !node.is_null() {
                    path.push(node);
                    if self.in_common(node, key) != (*node).prefix_len || (*node).prefix_len == key.len {
                        break;
                    }
                    node = (&(*node).children)[bit(key.bits, (*node).prefix_len)].load(Acquire);
                }
                let exact = !node.is_null()
                    && (*node).prefix_len == key.len
                    && self.in_common(node, key) == key.len
                    && !(*node).joint.load(Relaxed);
                if exact {
                    // Up the path: a branch on the right that was not walked, or a prefix that this one begins with.
                    from = ptr::null_mut();
                    path.pop();
                    let mut child = node;
                    while let Some(parent) = path.pop() {
                        if (&(*parent).children)[0].load(Acquire) == child {
                            from = (&(*parent).children)[1].load(Acquire);
                            if !from.is_null() {
                                break;
                            }
                        }
                        if !(*parent).joint.load(Relaxed) {
                            found = parent;
                            break;
                        }
                        child = parent;
                    }
                }
            }
            while !from.is_null() {
                let left = (&(*from).children)[0].load(Acquire);
                let joint = (*from).joint.load(Relaxed);
                if !joint {
                    found = from;
                }
                from = if left.is_null() { (&(*from).children)[1].load(Acquire) } else { left };
            }
            if found.is_null() {
                return Err(Errno::ENOENT);
            }
            let Some((len, bits)) = next.split_first_chunk_mut::<4>() else { return Err(Errno::EINVAL) };
            *len = (*found).prefix_len.to_ne_bytes();
            let Some(bits) = bits.get_mut(..self.data_size) else { return Err(Errno::EINVAL) };
            copy_in_bits(bits, Self::bits(found));
        }
        Ok(())
    }
}

/// # Safety
/// `from` is readable for as many bytes as `to` has.
unsafe fn copy_in_bits(to: &mut [u8], from: *const u8) {
    // SAFETY: by the contract; a slice does not overlap with a node.
    unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
}

// Values are aligned to 8 as nodes are.
const _: () = assert!(HEADER.is_multiple_of(8));
