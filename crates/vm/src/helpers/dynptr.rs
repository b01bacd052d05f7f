//! Dynptrs: pointers with a length that is looked at while the program runs.
//!
//! A dynptr is 16 bytes of the program's stack, as in the kernel: the address of the memory, its length (24 bits) with the
//! kind (bits 28 to 30) and a bit for "read-only" (31), and the offset that it starts at. For a packet the address is that
//! of the context, and the bytes are found anew at each use. A verifier keeps programs from writing these bytes; in the
//! checked mode anyone can, so every use looks at the memory meant as if the program had named it itself.
//! Source: `kernel/bpf/helpers.c` (6.18).

use super::maps;
use super::probe::{self, Space};
use super::{fail, fail32};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::{HelperResult, Stop};

/// Most bytes of a dynptr. Source: `DYNPTR_MAX_SIZE`.
const MAX_SIZE: u32 = (1 << 24) - 1;
const KIND_SHIFT: u32 = 28;
const READ_ONLY: u32 = 1 << 31;

/// What a dynptr is over. Numbers as in `enum bpf_dynptr_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Local = 1,
    Record = 2,
    Skb = 3,
    Xdp = 4,
    /// What stands before a socket buffer's packet.
    Metadata = 5,
}

/// A dynptr as it stands in the program's memory.
#[derive(Clone, Copy, Debug)]
struct Dynptr {
    data: u64,
    /// Length, kind and "read-only".
    size: u32,
    offset: u32,
}

impl Dynptr {
    fn load(env: &mut Env, addr: u64) -> Result<Dynptr, Stop> {
        Ok(Dynptr {
            data: u64::from_ne_bytes(env.read(addr)?),
            size: u32::from_ne_bytes(env.read(addr.wrapping_add(8))?),
            offset: u32::from_ne_bytes(env.read(addr.wrapping_add(12))?),
        })
    }

    fn store(self, env: &mut Env, addr: u64) -> Result<(), Stop> {
        env.write(addr, self.data.to_ne_bytes())?;
        env.write(addr.wrapping_add(8), self.size.to_ne_bytes())?;
        env.write(addr.wrapping_add(12), self.offset.to_ne_bytes())
    }

    const NULL: Dynptr = Dynptr { data: 0, size: 0, offset: 0 };

    fn new(data: u64, kind: Kind, len: u32) -> Dynptr {
        Dynptr { data, size: len | (kind as u32) << KIND_SHIFT, offset: 0 }
    }

    fn is_null(self) -> bool {
        self.data == 0
    }

    fn is_read_only(self) -> bool {
        self.size & READ_ONLY != 0
    }

    fn len(self) -> u32 {
        self.size & MAX_SIZE
    }

    /// Whether so many bytes from there on lie in it.
    fn holds(self, offset: u32, len: u32) -> bool {
        self.len().checked_sub(len).is_some_and(|last| offset <= last)
    }

    fn kind(self) -> Result<Kind, Stop> {
        match (self.size & !READ_ONLY) >> KIND_SHIFT {
            1 => Ok(Kind::Local),
            2 => Ok(Kind::Record),
            3 => Ok(Kind::Skb),
            4 => Ok(Kind::Xdp),
            5 => Ok(Kind::Metadata),
            _ => {
                Err(FaultKind::Helper { helper: "dynptr", why: "its bytes are not those of a dynptr".to_owned() }
                    .into())
            }
        }
    }

    /// The address of bytes in it; `None` where the packet no longer has them.
    fn place(self, env: &Env, offset: u32, len: u32) -> Result<Option<u64>, Stop> {
        let offset = u64::from(self.offset) + u64::from(offset);
        match self.kind()? {
            Kind::Local | Kind::Record => Ok(Some(self.data.wrapping_add(offset))),
            kind => Ok(env.packet().and_then(|packet| {
                let (start, end) = match kind {
                    Kind::Metadata => (packet.data_meta(), packet.data()),
                    _ => (packet.data(), packet.data_end()),
                };
                let at = u64::from(start) + offset;
                (at + u64::from(len) <= u64::from(end)).then_some(at)
            })),
        }
    }

    /// The address of bytes in it, as `bpf_dynptr_slice` gives it: null where they are not there.
    fn slice(self, env: &Env, offset: u32, len: u32) -> Result<u64, Stop> {
        if self.is_null() || !self.holds(offset, len) {
            return Ok(0);
        }
        Ok(self.place(env, offset, len)?.unwrap_or(0))
    }

    fn slice_to_write(self, env: &Env, offset: u32, len: u32) -> Result<u64, Stop> {
        if self.is_read_only() { Ok(0) } else { self.slice(env, offset, len) }
    }
}

/// `bpf_dynptr_from_mem`.
pub(super) fn from_mem(env: &mut Env, [data, len, flags, dynptr, _]: [u64; 5]) -> HelperResult {
    let len = len as u32;
    env.may(data, len.into(), true)?;
    let number = match (len > MAX_SIZE, flags) {
        (true, _) => libc::E2BIG,
        (false, 0) => {
            Dynptr::new(data, Kind::Local, len).store(env, dynptr)?;
            return Ok(0);
        }
        _ => libc::EINVAL,
    };
    Dynptr::NULL.store(env, dynptr)?;
    fail(number)
}

/// `bpf_dynptr_read`.
pub(super) fn read(env: &mut Env, [to, len, dynptr, offset, flags]: [u64; 5]) -> HelperResult {
    let (len, offset) = (len as u32, offset as u32);
    let from = Dynptr::load(env, dynptr)?;
    env.may(to, len.into(), true)?;
    if from.is_null() || flags != 0 {
        return fail(libc::EINVAL);
    }
    if !from.holds(offset, len) {
        return fail(libc::E2BIG);
    }
    match from.place(env, offset, len)? {
        Some(at) => env.copy(to, at, len.into())?,
        None => {
            env.bytes_mut(to, len.into())?.fill(0);
            return fail(libc::EFAULT);
        }
    }
    Ok(0)
}

/// Flags of a write to a socket buffer: `BPF_F_RECOMPUTE_CSUM` and `BPF_F_INVALIDATE_HASH`.
const SKB_FLAGS: u64 = 1 | 2;

fn write_to(env: &mut Env, to: Dynptr, offset: u32, from: u64, len: u32, flags: u64) -> HelperResult {
    env.may(from, len.into(), false)?;
    if to.is_null() || to.is_read_only() {
        return fail(libc::EINVAL);
    }
    if !to.holds(offset, len) {
        return fail(libc::E2BIG);
    }
    let known = if to.kind()? == Kind::Skb { SKB_FLAGS } else { 0 };
    if flags & !known != 0 {
        return fail(libc::EINVAL);
    }
    match to.place(env, offset, len)? {
        Some(at) => env.copy(at, from, len.into()).map(|()| 0),
        None => fail(libc::EFAULT),
    }
}

/// `bpf_dynptr_write`.
pub(super) fn write(env: &mut Env, [dynptr, offset, from, len, flags]: [u64; 5]) -> HelperResult {
    let to = Dynptr::load(env, dynptr)?;
    write_to(env, to, offset as u32, from, len as u32, flags)
}

/// `bpf_dynptr_data`: the address of the bytes; null for packets, which have slices instead.
pub(super) fn data(env: &mut Env, [dynptr, offset, len, ..]: [u64; 5]) -> HelperResult {
    let from = Dynptr::load(env, dynptr)?;
    if from.is_null() || from.is_read_only() || !from.holds(offset as u32, len as u32) {
        return Ok(0);
    }
    match from.kind()? {
        Kind::Local | Kind::Record => from.slice(env, offset as u32, len as u32),
        Kind::Skb | Kind::Xdp | Kind::Metadata => Ok(0),
    }
}

/// `bpf_ringbuf_reserve_dynptr`.
pub(super) fn ringbuf_reserve(env: &mut Env, [map, len, flags, dynptr, _]: [u64; 5]) -> HelperResult {
    let len = len as u32;
    let map = env.map(map)?;
    let number = match (flags, len > MAX_SIZE) {
        (0, false) => match maps::reserve(env, map, len.into(), 0)? {
            0 => libc::EINVAL,
            record => {
                Dynptr::new(record, Kind::Record, len).store(env, dynptr)?;
                return Ok(0);
            }
        },
        (0, true) => libc::E2BIG,
        _ => libc::EINVAL,
    };
    Dynptr::NULL.store(env, dynptr)?;
    fail(number)
}

fn ringbuf_end(env: &mut Env, dynptr: u64, flags: u64, discard: bool) -> HelperResult {
    let record = Dynptr::load(env, dynptr)?;
    if !record.is_null() {
        maps::commit(env, record.data, flags, discard)?;
        Dynptr::NULL.store(env, dynptr)?;
    }
    Ok(0)
}

/// `bpf_ringbuf_submit_dynptr`.
pub(super) fn ringbuf_submit(env: &mut Env, [dynptr, flags, ..]: [u64; 5]) -> HelperResult {
    ringbuf_end(env, dynptr, flags, false)
}

/// `bpf_ringbuf_discard_dynptr`.
pub(super) fn ringbuf_discard(env: &mut Env, [dynptr, flags, ..]: [u64; 5]) -> HelperResult {
    ringbuf_end(env, dynptr, flags, true)
}

fn from_packet(env: &mut Env, [context, flags, dynptr, ..]: [u64; 5], kind: Kind) -> HelperResult {
    let made = env.packet().map(|packet| match kind {
        Kind::Metadata => (packet.metadata().len() as u32, packet.writable),
        _ => (packet.bytes().len() as u32, packet.writable),
    });
    match made {
        Some((len, writable)) if flags == 0 => {
            let mut made = Dynptr::new(context, kind, len.min(MAX_SIZE));
            if !writable {
                made.size |= READ_ONLY;
            }
            made.store(env, dynptr)?;
            Ok(0)
        }
        _ => {
            Dynptr::NULL.store(env, dynptr)?;
            fail32(libc::EINVAL)
        }
    }
}

/// kfunc `bpf_dynptr_from_skb`.
pub(super) fn from_skb(env: &mut Env, args: [u64; 5]) -> HelperResult {
    from_packet(env, args, Kind::Skb)
}

/// kfunc `bpf_dynptr_from_skb_meta`.
pub(super) fn from_skb_meta(env: &mut Env, args: [u64; 5]) -> HelperResult {
    from_packet(env, args, Kind::Metadata)
}

/// kfunc `bpf_dynptr_from_xdp`.
pub(super) fn from_xdp(env: &mut Env, args: [u64; 5]) -> HelperResult {
    from_packet(env, args, Kind::Xdp)
}

/// kfunc `bpf_dynptr_slice`: packets are in one piece here, so the buffer is never needed.
pub(super) fn slice(env: &mut Env, [dynptr, offset, _, len, _]: [u64; 5]) -> HelperResult {
    Dynptr::load(env, dynptr)?.slice(env, offset as u32, len as u32)
}

/// kfunc `bpf_dynptr_slice_rdwr`.
pub(super) fn slice_rdwr(env: &mut Env, [dynptr, offset, _, len, _]: [u64; 5]) -> HelperResult {
    Dynptr::load(env, dynptr)?.slice_to_write(env, offset as u32, len as u32)
}

/// kfunc `bpf_dynptr_adjust`: keeps the bytes from `start` to before `end`.
pub(super) fn adjust(env: &mut Env, [dynptr, start, end, ..]: [u64; 5]) -> HelperResult {
    let (start, end) = (start as u32, end as u32);
    let mut adjusted = Dynptr::load(env, dynptr)?;
    if adjusted.is_null() || start > end {
        return fail32(libc::EINVAL);
    }
    if end > adjusted.len() {
        return fail32(libc::ERANGE);
    }
    adjusted.offset = adjusted.offset.wrapping_add(start);
    adjusted.size = adjusted.size & !MAX_SIZE | (end - start);
    adjusted.store(env, dynptr)?;
    Ok(0)
}

/// kfunc `bpf_dynptr_is_null`.
pub(super) fn is_null(env: &mut Env, [dynptr, ..]: [u64; 5]) -> HelperResult {
    Ok(Dynptr::load(env, dynptr)?.is_null().into())
}

/// kfunc `bpf_dynptr_is_rdonly`.
pub(super) fn is_rdonly(env: &mut Env, [dynptr, ..]: [u64; 5]) -> HelperResult {
    let dynptr = Dynptr::load(env, dynptr)?;
    Ok((!dynptr.is_null() && dynptr.is_read_only()).into())
}

/// kfunc `bpf_dynptr_size`.
pub(super) fn size(env: &mut Env, [dynptr, ..]: [u64; 5]) -> HelperResult {
    let dynptr = Dynptr::load(env, dynptr)?;
    if dynptr.is_null() { fail32(libc::EINVAL) } else { Ok(dynptr.len().into()) }
}

/// kfunc `bpf_dynptr_clone`.
pub(super) fn clone(env: &mut Env, [dynptr, other, ..]: [u64; 5]) -> HelperResult {
    let dynptr = Dynptr::load(env, dynptr)?;
    if dynptr.is_null() {
        Dynptr::NULL.store(env, other)?;
        return fail32(libc::EINVAL);
    }
    dynptr.store(env, other)?;
    Ok(0)
}

/// kfunc `bpf_dynptr_copy`.
pub(super) fn copy(env: &mut Env, [to, to_offset, from, from_offset, len]: [u64; 5]) -> HelperResult {
    let (to_offset, from_offset, len) = (to_offset as u32, from_offset as u32, len as u32);
    let (to, from) = (Dynptr::load(env, to)?, Dynptr::load(env, from)?);
    let source = from.slice(env, from_offset, len)?;
    let target = to.slice_to_write(env, to_offset, len)?;
    let number = match (source, target) {
        // Where the target cannot be written directly, as a write refuses it.
        (1.., _) => return write_to(env, to, to_offset, source, len, 0).map(|result| u64::from(result as u32)),
        (0, 1..) if from.is_null() => libc::EINVAL,
        (0, 1..) if from.holds(from_offset, len) => libc::EFAULT,
        (0, 1..) => libc::E2BIG,
        _ if !to.holds(to_offset, len) || !from.holds(from_offset, len) => libc::E2BIG,
        _ if len == 0 => 0,
        _ => libc::EINVAL,
    };
    fail32(number)
}

/// kfunc `bpf_dynptr_memset`.
pub(super) fn memset(env: &mut Env, [dynptr, offset, len, byte, _]: [u64; 5]) -> HelperResult {
    let (offset, len) = (offset as u32, len as u32);
    let dynptr = Dynptr::load(env, dynptr)?;
    if dynptr.is_read_only() {
        return fail32(libc::EINVAL);
    }
    if !dynptr.holds(offset, len) {
        return fail32(libc::E2BIG);
    }
    match dynptr.slice_to_write(env, offset, len)? {
        // Nothing is written, so nothing fails.
        0 if len == 0 => Ok(0),
        0 => fail32(libc::EINVAL),
        at => {
            env.bytes_mut(at, len.into())?.fill(byte as u8);
            Ok(0)
        }
    }
}

/// Reads into a dynptr from an address that nothing vouches for.
fn probe_into(env: &mut Env, [dynptr, offset, len, from, _]: [u64; 5], space: Space, text: bool) -> HelperResult {
    let (offset, len) = (offset as u32, len as u32);
    let to = Dynptr::load(env, dynptr)?;
    let at = to.slice_to_write(env, offset, len)?;
    if at == 0 {
        return fail32(if to.holds(offset, len) { libc::EINVAL } else { libc::E2BIG });
    }
    let read = match text {
        true => probe::fill_str(env, at, len.into(), from, space)?,
        false => probe::fill(env, at, len.into(), from, space)?.map(|()| 0),
    };
    read.map_or_else(fail32, Ok)
}

/// kfuncs `bpf_probe_read_user_dynptr` and `bpf_copy_from_user_dynptr`.
pub(super) fn probe_read_user(env: &mut Env, args: [u64; 5]) -> HelperResult {
    probe_into(env, args, Space::User, false)
}

/// kfunc `bpf_probe_read_kernel_dynptr`.
pub(super) fn probe_read_kernel(env: &mut Env, args: [u64; 5]) -> HelperResult {
    probe_into(env, args, Space::Kernel, false)
}

/// kfuncs `bpf_probe_read_user_str_dynptr` and `bpf_copy_from_user_str_dynptr`.
pub(super) fn probe_read_user_str(env: &mut Env, args: [u64; 5]) -> HelperResult {
    probe_into(env, args, Space::User, true)
}

/// kfunc `bpf_probe_read_kernel_str_dynptr`.
pub(super) fn probe_read_kernel_str(env: &mut Env, args: [u64; 5]) -> HelperResult {
    probe_into(env, args, Space::Kernel, true)
}
