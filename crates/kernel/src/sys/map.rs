//! The map commands of bpf(2), safe to call: a [`Handle`] knows how many bytes the kernel reads and writes for its map
//! (from the kernel itself, never from the caller), and every buffer is checked against that before it is passed.
#![expect(unsafe_code, reason = "system calls")]

use super::{Attr, bpf, bpf_fd};
use skep_abi::Command;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What `BPF_MAP_CREATE` takes; no pointers in it. Fields up to `map_token_fd` of the kernel's struct.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Create {
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    pub(crate) inner_map_fd: u32,
    pub(crate) numa_node: u32,
    pub(crate) name: [u8; 16],
    pub(crate) ifindex: u32,
    pub(crate) btf_fd: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    pub(crate) map_extra: u64,
}

// SAFETY: repr(C), 72 bytes without padding (asserted below), plain integers.
unsafe impl Attr for Create {}
const _: () = assert!(size_of::<Create>() == 72);

#[repr(C)]
#[derive(Default)]
struct Elem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

// SAFETY: repr(C), 32 bytes without implicit padding, plain integers.
unsafe impl Attr for Elem {}
const _: () = assert!(size_of::<Elem>() == 32);

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

// SAFETY: repr(C), 56 bytes without implicit padding, plain integers.
unsafe impl Attr for Batch {}
const _: () = assert!(size_of::<Batch>() == 56);

#[repr(C)]
struct Freeze {
    map_fd: u32,
}

// SAFETY: one integer.
unsafe impl Attr for Freeze {}

/// A map's descriptor with the bytes the kernel moves for a key and for a value.
#[derive(Debug)]
pub(crate) struct Handle {
    fd: OwnedFd,
    key_len: usize,
    value_len: usize,
}

/// Makes a map. `possible_cpus` is what the kernel multiplies per-CPU values with.
pub(crate) fn create(attr: &Create, value_len: usize) -> io::Result<Handle> {
    let mut copy = *attr;
    // SAFETY: there are no addresses in the attribute; the command returns a descriptor.
    let fd = unsafe { bpf_fd(Command::MapCreate, &mut copy)? };
    Ok(Handle { fd, key_len: attr.key_size as usize, value_len })
}

fn address(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 }
}

fn address_mut(bytes: &mut [u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_mut_ptr() as u64 }
}

fn wrong_size() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

impl Handle {
    /// Takes a descriptor whose sizes the kernel has told (`bpf_map_info`).
    ///
    /// # Safety
    /// `key_len` and `value_len` are at least what the kernel reads and writes for a key and a value of this map.
    pub(crate) unsafe fn from_parts(fd: OwnedFd, key_len: usize, value_len: usize) -> Handle {
        Handle { fd, key_len, value_len }
    }

    pub(crate) fn key_len(&self) -> usize {
        self.key_len
    }

    pub(crate) fn value_len(&self) -> usize {
        self.value_len
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn try_clone(&self) -> io::Result<Handle> {
        Ok(Handle { fd: self.fd.try_clone()?, key_len: self.key_len, value_len: self.value_len })
    }

    fn raw(&self) -> u32 {
        self.fd.as_raw_fd() as u32
    }

    fn check(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> io::Result<()> {
        let key_ok = key.is_none_or(|k| k.len() == self.key_len);
        let value_ok = value.is_none_or(|v| v.len() == self.value_len);
        if key_ok && value_ok { Ok(()) } else { Err(wrong_size()) }
    }

    /// `BPF_MAP_LOOKUP_ELEM` or `BPF_MAP_LOOKUP_AND_DELETE_ELEM`: fills `value` (a bloom filter reads it instead).
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64, delete: bool) -> io::Result<()> {
        self.check(Some(key), Some(value))?;
        let mut attr = Elem { map_fd: self.raw(), pad: 0, key: address(key), value: address_mut(value), flags };
        let command = if delete { Command::MapLookupAndDeleteElem } else { Command::MapLookupElem };
        // SAFETY: key and value are live buffers of the sizes the kernel uses for this map (checked above).
        unsafe { bpf(command, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_UPDATE_ELEM`.
    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.check(Some(key), Some(value))?;
        let mut attr = Elem { map_fd: self.raw(), pad: 0, key: address(key), value: address(value), flags };
        // SAFETY: as for `lookup`; the kernel only reads.
        unsafe { bpf(Command::MapUpdateElem, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_DELETE_ELEM`.
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check(Some(key), None)?;
        let mut attr = Elem { map_fd: self.raw(), key: address(key), ..Elem::default() };
        // SAFETY: the key is a live buffer of the size the kernel reads.
        unsafe { bpf(Command::MapDeleteElem, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_GET_NEXT_KEY`: the first key for `None`.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
        self.check(key, None)?;
        self.check(Some(next), None)?;
        let mut attr =
            Elem { map_fd: self.raw(), key: key.map_or(0, address), value: address_mut(next), ..Elem::default() };
        // SAFETY: both buffers are live and of the size the kernel uses for a key.
        unsafe { bpf(Command::MapGetNextKey, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_FREEZE`: from now on only programs may write.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let mut attr = Freeze { map_fd: self.raw() };
        // SAFETY: there are no addresses in the attribute.
        unsafe { bpf(Command::MapFreeze, &mut attr) }.map(drop)
    }

    /// Bytes of a batch cursor: hash tables write a 32-bit bucket, the others a key.
    pub(crate) fn cursor_len(&self) -> usize {
        self.key_len.max(4)
    }

    /// `BPF_MAP_LOOKUP_BATCH` and its deleting twin. Returns how many elements were written, and the error if the call
    /// ended with one (`ENOENT`: that was all; `ENOSPC`: a bucket did not fit).
    pub(crate) fn lookup_batch(
        &self,
        cursor: Option<&[u8]>,
        next: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        elem_flags: u64,
    ) -> (u32, io::Result<()>) {
        let count = keys.len().checked_div(self.key_len).unwrap_or(0);
        let fits = self.key_len > 0
            && keys.len() == count * self.key_len
            && values.len() == count * self.value_len
            && next.len() == self.cursor_len()
            && cursor.is_none_or(|c| c.len() == self.cursor_len())
            && u32::try_from(count).is_ok();
        if !fits {
            return (0, Err(wrong_size()));
        }
        let mut attr = Batch {
            in_batch: cursor.map_or(0, address),
            out_batch: address_mut(next),
            keys: address_mut(keys),
            values: address_mut(values),
            count: count as u32,
            map_fd: self.raw(),
            elem_flags,
            flags: 0,
        };
        let command = if delete { Command::MapLookupAndDeleteBatch } else { Command::MapLookupBatch };
        // SAFETY: cursors hold a key or a bucket number, keys and values `count` elements each (checked above).
        let result = unsafe { bpf(command, &mut attr) }.map(drop);
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
        // The count is only written back when the walk itself ran.
        let count = match errno {
            None | Some(libc::ENOENT) => attr.count.min(count as u32),
            _ => 0,
        };
        (count, result)
    }

    /// `BPF_MAP_UPDATE_BATCH`. Returns how many elements were written.
    pub(crate) fn update_batch(&self, keys: &[u8], values: &[u8], elem_flags: u64) -> (u32, io::Result<()>) {
        let count = keys.len().checked_div(self.key_len).unwrap_or(0);
        if self.key_len == 0
            || keys.len() != count * self.key_len
            || values.len() != count * self.value_len
            || u32::try_from(count).is_err()
        {
            return (0, Err(wrong_size()));
        }
        let mut attr = Batch {
            keys: address(keys),
            values: address(values),
            count: count as u32,
            map_fd: self.raw(),
            elem_flags,
            ..Batch::default()
        };
        // SAFETY: keys and values are live and hold `count` elements each; the kernel only reads them.
        let result = unsafe { bpf(Command::MapUpdateBatch, &mut attr) }.map(drop);
        (attr.count, result)
    }

    /// `BPF_MAP_DELETE_BATCH`. Returns how many elements were deleted.
    pub(crate) fn delete_batch(&self, keys: &[u8]) -> (u32, io::Result<()>) {
        let count = keys.len().checked_div(self.key_len).unwrap_or(0);
        if self.key_len == 0 || keys.len() != count * self.key_len || u32::try_from(count).is_err() {
            return (0, Err(wrong_size()));
        }
        let mut attr = Batch { keys: address(keys), count: count as u32, map_fd: self.raw(), ..Batch::default() };
        // SAFETY: keys are live and hold `count` elements; the kernel only reads them.
        let result = unsafe { bpf(Command::MapDeleteBatch, &mut attr) }.map(drop);
        (attr.count, result)
    }
}
