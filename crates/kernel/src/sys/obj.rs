//! The commands of bpf(2) that work on any kind of object: pin, get, walk the ids, open by id, ask for information.
#![expect(unsafe_code, reason = "system calls")]

use super::{Attr, bpf, bpf_fd};
use crate::info::{BTF_INFO, PROG_INFO};
use skep_abi::Command;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The kinds of objects that have ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Program,
    Map,
    Btf,
    Link,
}

#[repr(C)]
struct Pin {
    pathname: u64,
    fd: u32,
    file_flags: u32,
}

// SAFETY: repr(C), 16 bytes without padding, plain integers.
unsafe impl Attr for Pin {}
const _: () = assert!(size_of::<Pin>() == 16);

/// `BPF_OBJ_PIN`.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let mut attr = Pin { pathname: path.as_ptr() as u64, fd: fd.as_raw_fd() as u32, file_flags: 0 };
    // SAFETY: the path is a live C string; the kernel only reads it.
    unsafe { bpf(Command::ObjPin, &mut attr) }.map(drop)
}

/// `BPF_OBJ_GET`.
pub(crate) fn get(path: &CStr, file_flags: u32) -> io::Result<OwnedFd> {
    let mut attr = Pin { pathname: path.as_ptr() as u64, fd: 0, file_flags };
    // SAFETY: the path is a live C string; the command returns a descriptor.
    unsafe { bpf_fd(Command::ObjGet, &mut attr) }
}

#[repr(C)]
struct Id {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

// SAFETY: repr(C), 12 bytes without padding, plain integers.
unsafe impl Attr for Id {}
const _: () = assert!(size_of::<Id>() == 12);

/// The id after `after` (0 to begin), `None` at the end.
pub(crate) fn next_id(kind: Kind, after: u32) -> io::Result<Option<u32>> {
    let command = match kind {
        Kind::Program => Command::ProgGetNextId,
        Kind::Map => Command::MapGetNextId,
        Kind::Btf => Command::BtfGetNextId,
        Kind::Link => Command::LinkGetNextId,
    };
    let mut attr = Id { id: after, next_id: 0, open_flags: 0 };
    // SAFETY: there are no addresses in the attribute.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A descriptor for an id.
pub(crate) fn open_id(kind: Kind, id: u32) -> io::Result<OwnedFd> {
    let command = match kind {
        Kind::Program => Command::ProgGetFdById,
        Kind::Map => Command::MapGetFdById,
        Kind::Btf => Command::BtfGetFdById,
        Kind::Link => Command::LinkGetFdById,
    };
    let mut attr = Id { id, next_id: 0, open_flags: 0 };
    // SAFETY: there are no addresses in the attribute; the command returns a descriptor.
    unsafe { bpf_fd(command, &mut attr) }
}

#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    info: u64,
}

// SAFETY: repr(C), 16 bytes without padding, plain integers.
unsafe impl Attr for Info {}
const _: () = assert!(size_of::<Info>() == 16);

/// `BPF_OBJ_GET_INFO_BY_FD`. Returns how many bytes the kernel knows and has written.
///
/// # Safety
/// Every address inside `info`, where the object's kind has addresses in its information, is 0 or points to a live
/// buffer of the length that stands beside it.
pub(crate) unsafe fn info(fd: BorrowedFd<'_>, info: &mut [u8]) -> io::Result<usize> {
    let mut attr = Info { fd: fd.as_raw_fd() as u32, len: info.len() as u32, info: info.as_mut_ptr() as u64 };
    // SAFETY: `info` is live and as long as said; what it points to is the caller's promise.
    unsafe { bpf(Command::ObjGetInfoByFd, &mut attr)? };
    Ok(attr.len as usize)
}

/// [`info`] with nothing but room for the answer: no addresses are passed, so only the fixed fields come back.
pub(crate) fn plain_info<const N: usize>(fd: BorrowedFd<'_>) -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: all zeros, so there is no address inside.
    unsafe { info(fd, &mut bytes)? };
    Ok(bytes)
}

/// A variable part of `bpf_prog_info`: where its address and count stand, bytes of an element, how many are wanted.
pub(crate) struct Part {
    pub(crate) address_at: usize,
    pub(crate) count_at: usize,
    pub(crate) element: usize,
    pub(crate) count: usize,
    /// Where the size of an element is to be said, for the parts that have such a field.
    pub(crate) record_at: Option<usize>,
}

/// `bpf_prog_info` with some of its variable parts, each cut to what the kernel filled.
pub(crate) fn program_parts(fd: BorrowedFd<'_>, parts: &[Part]) -> io::Result<([u8; PROG_INFO], Vec<Vec<u8>>)> {
    if super::fd_kind(fd) != Some(Kind::Program) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let mut bytes = [0u8; PROG_INFO];
    let mut buffers: Vec<Vec<u8>> = parts.iter().map(|p| vec![0u8; p.element * p.count]).collect();
    for (part, buffer) in parts.iter().zip(&mut buffers) {
        if part.count == 0 {
            continue;
        }
        put(&mut bytes, part.address_at, &(buffer.as_mut_ptr() as u64).to_ne_bytes())?;
        put(&mut bytes, part.count_at, &(part.count as u32).to_ne_bytes())?;
        if let Some(at) = part.record_at {
            put(&mut bytes, at, &(part.element as u32).to_ne_bytes())?;
        }
    }
    // SAFETY: the descriptor is a program's (asked above); each address points to a live buffer of `count` elements, the
    // count stands in its field, and the kernel writes at most that many of the size it was told or that is fixed.
    unsafe { info(fd, &mut bytes)? };
    for (part, buffer) in parts.iter().zip(&mut buffers) {
        let filled = crate::info::Fields(&bytes).u32(part.count_at) as usize;
        buffer.truncate(filled.min(part.count) * part.element);
    }
    Ok((bytes, buffers))
}

/// `bpf_btf_info` with the name.
pub(crate) fn btf_name(fd: BorrowedFd<'_>) -> io::Result<([u8; BTF_INFO], Vec<u8>)> {
    btf_parts(fd, 0).map(|(bytes, name, _)| (bytes, name))
}

/// The bytes of a BTF object.
pub(crate) fn btf_data(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let (bytes, ..) = btf_parts(fd, 0)?;
    let size = crate::info::Fields(&bytes).u32(8);
    btf_parts(fd, size as usize).map(|(.., data)| data)
}

fn btf_parts(fd: BorrowedFd<'_>, size: usize) -> io::Result<([u8; BTF_INFO], Vec<u8>, Vec<u8>)> {
    if super::fd_kind(fd) != Some(Kind::Btf) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // struct bpf_btf_info: address, u32 size, u32 id, u64 name address, u32 name length, u32 kernel.
    let mut name = vec![0u8; 64];
    let mut data = vec![0u8; size];
    let mut bytes = [0u8; BTF_INFO];
    if size > 0 {
        put(&mut bytes, 0, &(data.as_mut_ptr() as u64).to_ne_bytes())?;
        put(&mut bytes, 8, &(size as u32).to_ne_bytes())?;
    }
    put(&mut bytes, 16, &(name.as_mut_ptr() as u64).to_ne_bytes())?;
    put(&mut bytes, 24, &(name.len() as u32).to_ne_bytes())?;
    // SAFETY: the descriptor is a BTF object's (asked above); both addresses point to live buffers whose lengths stand
    // beside them.
    unsafe { info(fd, &mut bytes)? };
    Ok((bytes, name, data))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> io::Result<()> {
    bytes
        .get_mut(at..at + value.len())
        .map(|room| room.copy_from_slice(value))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

#[repr(C)]
struct EnableStats {
    kind: u32,
}

// SAFETY: one integer.
unsafe impl Attr for EnableStats {}

/// `BPF_ENABLE_STATS` for `BPF_STATS_RUN_TIME`: counted as long as the descriptor is open.
pub(crate) fn enable_run_time_stats() -> io::Result<OwnedFd> {
    let mut attr = EnableStats { kind: 0 };
    // SAFETY: there are no addresses in the attribute; the command returns a descriptor.
    unsafe { bpf_fd(Command::EnableStats, &mut attr) }
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    log_true_size: u32,
}

// SAFETY: repr(C), 32 bytes without padding, plain integers.
unsafe impl Attr for BtfLoad {}
const _: () = assert!(size_of::<BtfLoad>() == 32);

/// `BPF_BTF_LOAD`; with a log buffer the kernel explains itself there.
pub(crate) fn btf_load(btf: &[u8], log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let mut attr = BtfLoad {
        btf: btf.as_ptr() as u64,
        log: 0,
        size: btf.len() as u32,
        log_size: 0,
        log_level: 0,
        log_true_size: 0,
    };
    if let Some(log) = log {
        attr.log = log.as_mut_ptr() as u64;
        attr.log_size = log.len() as u32;
        attr.log_level = 1;
    }
    // SAFETY: the BTF is live and as long as said, and only read; the log buffer is live, exclusive, as long as said.
    unsafe { bpf_fd(Command::BtfLoad, &mut attr) }
}

/// Bytes of `struct bpf_link_info` that are read; kernels that know fewer take zeros behind.
pub(crate) const LINK_INFO: usize = 96;

/// A text within `bpf_link_info`: where its address and its length stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkText {
    pub(crate) address_at: usize,
    pub(crate) len_at: usize,
}

/// `bpf_link_info`, with one of its texts where the link's type has such. Which, the caller knows from a first call
/// without.
pub(crate) fn link_info(fd: BorrowedFd<'_>, text: Option<LinkText>) -> io::Result<([u8; LINK_INFO], Vec<u8>)> {
    if super::fd_kind(fd) != Some(Kind::Link) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    let mut bytes = [0u8; LINK_INFO];
    // A path has at most 4096 bytes.
    let mut room = vec![0u8; 4096];
    if let Some(LinkText { address_at, len_at }) = text {
        put(&mut bytes, address_at, &(room.as_mut_ptr() as u64).to_ne_bytes())?;
        put(&mut bytes, len_at, &(room.len() as u32).to_ne_bytes())?;
    }
    // SAFETY: the descriptor is a link's (asked above); at most one address is set, it points to live room whose length
    // stands in the field for it. Whatever the link's type makes of these two fields, it writes at most that many bytes
    // there: the types that see a count of 8-byte elements in it are never asked with a text.
    unsafe { info(fd, &mut bytes)? };
    Ok((bytes, room))
}
