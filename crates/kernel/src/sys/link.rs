//! The commands of bpf(2) about attaching: links, the older attach and detach, raw tracepoints, iterators.
#![expect(unsafe_code, reason = "system calls")]

use super::{Attr, bpf, bpf_fd};
use skep_abi::{AttachType, Command};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What the union at the end of `BPF_LINK_CREATE` holds. Source: `union bpf_attr`, `link_create`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extra<'a> {
    None,
    /// `perf_event.bpf_cookie`
    PerfEvent {
        cookie: u64,
    },
    /// `target_btf_id`, `tracing.cookie`
    Tracing {
        target_btf_id: u32,
        cookie: u64,
    },
    /// `tcx`, `netkit` and `cgroup` share one shape.
    Relative {
        fd_or_id: u32,
        revision: u64,
    },
    /// `netfilter`
    Netfilter {
        family: u32,
        hook: u32,
        priority: i32,
        flags: u32,
    },
    /// `iter_info`: `union bpf_iter_link_info`.
    Iter {
        info: &'a [u8],
    },
    /// `kprobe_multi` by symbols.
    KprobeMulti {
        flags: u32,
        symbols: &'a [&'a CStr],
        cookies: &'a [u64],
    },
    /// `uprobe_multi`
    UprobeMulti {
        flags: u32,
        path: &'a CStr,
        offsets: &'a [u64],
        cookies: &'a [u64],
        pid: u32,
    },
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    extra: [u64; 6],
}

// SAFETY: repr(C), 64 bytes without padding, plain integers.
unsafe impl Attr for LinkCreate {}
const _: () = assert!(size_of::<LinkCreate>() == 64);

/// Two 32-bit fields that stand one behind the other, as one of 64 bits.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// `BPF_LINK_CREATE`. `target` is a descriptor or an interface index, by attach type.
pub(crate) fn create(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: AttachType,
    flags: u32,
    extra: Extra<'_>,
) -> io::Result<OwnedFd> {
    let address = |values: &[u64]| if values.is_empty() { 0 } else { values.as_ptr() as u64 };
    let mut addresses = Vec::new();
    let extra = match extra {
        Extra::None => [0; 6],
        Extra::PerfEvent { cookie } => [cookie, 0, 0, 0, 0, 0],
        Extra::Tracing { target_btf_id, cookie } => [pair(target_btf_id, 0), cookie, 0, 0, 0, 0],
        Extra::Relative { fd_or_id, revision } => [pair(fd_or_id, 0), revision, 0, 0, 0, 0],
        Extra::Netfilter { family, hook, priority, flags } => {
            [pair(family, hook), pair(priority as u32, flags), 0, 0, 0, 0]
        }
        Extra::Iter { info: [] } => [0; 6],
        Extra::Iter { info } => [info.as_ptr() as u64, pair(info.len() as u32, 0), 0, 0, 0, 0],
        Extra::KprobeMulti { flags, symbols, cookies } => {
            if !cookies.is_empty() && cookies.len() != symbols.len() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            addresses.extend(symbols.iter().map(|s| s.as_ptr() as u64));
            [pair(flags, symbols.len() as u32), address(&addresses), 0, address(cookies), 0, 0]
        }
        Extra::UprobeMulti { flags, path, offsets, cookies, pid } => {
            if !cookies.is_empty() && cookies.len() != offsets.len() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let path = path.as_ptr() as u64;
            [path, address(offsets), 0, address(cookies), pair(offsets.len() as u32, flags), pair(pid, 0)]
        }
    };
    let mut attr =
        LinkCreate { prog_fd: program.as_raw_fd() as u32, target, attach_type: attach_type.as_u32(), flags, extra };
    // SAFETY: each address in the attribute is that of a live slice or C string, only read by the kernel, with its count
    // beside it (the counts of cookies were compared above); the command returns a descriptor.
    unsafe { bpf_fd(Command::LinkCreate, &mut attr) }
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

// SAFETY: repr(C), 16 bytes without padding, plain integers.
unsafe impl Attr for LinkUpdate {}

/// `BPF_LINK_UPDATE`: another program, or with struct_ops another map.
pub(crate) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: there are no addresses in the attribute.
    unsafe { bpf(Command::LinkUpdate, &mut attr) }.map(drop)
}

#[repr(C)]
struct One {
    fd: u32,
}

// SAFETY: one integer.
unsafe impl Attr for One {}

/// `BPF_LINK_DETACH`: the attachment ends, the link stays as an empty shell.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = One { fd: link.as_raw_fd() as u32 };
    // SAFETY: there are no addresses in the attribute.
    unsafe { bpf(Command::LinkDetach, &mut attr) }.map(drop)
}

#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

// SAFETY: repr(C), 8 bytes without padding, plain integers.
unsafe impl Attr for IterCreate {}

/// `BPF_ITER_CREATE`: a file whose reading runs the iterator.
pub(crate) fn iter_create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = IterCreate { link_fd: link.as_raw_fd() as u32, flags: 0 };
    // SAFETY: there are no addresses in the attribute; the command returns a descriptor.
    unsafe { bpf_fd(Command::IterCreate, &mut attr) }
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    pad: u32,
}

// SAFETY: repr(C), 16 bytes without padding, plain integers.
unsafe impl Attr for RawTracepoint {}

#[repr(C)]
struct RawTracepointCookie {
    plain: RawTracepoint,
    cookie: u64,
}

// SAFETY: repr(C), 24 bytes without padding, plain integers.
unsafe impl Attr for RawTracepointCookie {}

/// `BPF_RAW_TRACEPOINT_OPEN`: the name is for raw tracepoint programs; the others were loaded for their target.
pub(crate) fn raw_tracepoint(program: BorrowedFd<'_>, name: Option<&CStr>, cookie: u64) -> io::Result<OwnedFd> {
    let name = name.map_or(0, |n| n.as_ptr() as u64);
    let mut plain = RawTracepoint { name, prog_fd: program.as_raw_fd() as u32, pad: 0 };
    if cookie == 0 {
        // SAFETY: the name is 0 or a live C string; the command returns a descriptor.
        return unsafe { bpf_fd(Command::RawTracepointOpen, &mut plain) };
    }
    let mut attr = RawTracepointCookie { plain, cookie };
    // SAFETY: the name is 0 or a live C string; the command returns a descriptor.
    unsafe { bpf_fd(Command::RawTracepointOpen, &mut attr) }
}

#[repr(C)]
struct ProgAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

// SAFETY: repr(C), 16 bytes without padding, plain integers.
unsafe impl Attr for ProgAttach {}

/// `BPF_PROG_ATTACH`: stays until it is detached or the target goes away.
pub(crate) fn prog_attach(
    program: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    attach_type: AttachType,
    flags: u32,
) -> io::Result<()> {
    let mut attr = ProgAttach {
        target_fd: target.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: attach_type.as_u32(),
        attach_flags: flags,
    };
    // SAFETY: there are no addresses in the attribute.
    unsafe { bpf(Command::ProgAttach, &mut attr) }.map(drop)
}

/// `BPF_PROG_DETACH` of one program.
pub(crate) fn prog_detach(program: BorrowedFd<'_>, target: BorrowedFd<'_>, attach_type: AttachType) -> io::Result<()> {
    let mut attr = ProgAttach {
        target_fd: target.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: attach_type.as_u32(),
        attach_flags: 0,
    };
    // SAFETY: there are no addresses in the attribute.
    unsafe { bpf(Command::ProgDetach, &mut attr) }.map(drop)
}

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    more: [u64; 4],
}

// SAFETY: repr(C), 64 bytes without padding, plain integers.
unsafe impl Attr for ProgQuery {}
const _: () = assert!(size_of::<ProgQuery>() == 64);

/// `BPF_PROG_QUERY`: ids of the programs attached to a descriptor or an interface (up to 64 of them).
pub(crate) fn prog_query(target: u32, attach_type: AttachType) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let mut attr = ProgQuery {
        target,
        attach_type: attach_type.as_u32(),
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..ProgQuery::default()
    };
    // SAFETY: `ids` is live, exclusive and as long as `prog_cnt` says.
    unsafe { bpf(Command::ProgQuery, &mut attr)? };
    Ok(ids.into_iter().take(attr.prog_cnt as usize).collect())
}
