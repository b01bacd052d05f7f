//! perf_event_open(2) and its ioctls, and the socket options that take a program.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The part of `struct perf_event_attr` that is used here (`PERF_ATTR_SIZE_VER3`, 96 bytes). Addresses can only be set by
/// the constructors, which tie them to their strings.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Raw {
    kind: u32,
    size: u32,
    config: u64,
    sample: u64,
    sample_type: u64,
    read_format: u64,
    bits: u64,
    wakeup: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clock_id: i32,
}
const _: () = assert!(size_of::<Raw>() == 96);

/// What to open. Source: `include/uapi/linux/perf_event.h`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventAttr<'a> {
    raw: Raw,
    names: PhantomData<&'a CStr>,
}

/// Bits of the flags word.
const DISABLED: u64 = 1 << 0;
const INHERIT: u64 = 1 << 1;
const FREQ: u64 = 1 << 10;
const WATERMARK: u64 = 1 << 14;
const USE_CLOCK: u64 = 1 << 25;
/// `PERF_SAMPLE_TIME`, `PERF_SAMPLE_RAW`.
const SAMPLE_TIME: u64 = 1 << 2;
const SAMPLE_RAW: u64 = 1 << 10;
/// `PERF_FORMAT_TOTAL_TIME_ENABLED`, `PERF_FORMAT_LOST`
const FORMAT_ENABLED: u64 = 1 << 0;
const FORMAT_LOST: u64 = 1 << 4;

/// When a sample is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sampling {
    Period(u64),
    Frequency(u64),
}

impl<'a> EventAttr<'a> {
    fn base(kind: u32, config: u64) -> Raw {
        Raw { kind, config, size: size_of::<Raw>() as u32, ..Raw::default() }
    }

    /// A tracepoint by its id in tracefs.
    pub(crate) fn tracepoint(id: u64) -> EventAttr<'static> {
        let raw = Raw { sample: 1, wakeup: 1, ..Self::base(2, id) };
        EventAttr { raw, names: PhantomData }
    }

    /// A kprobe or uprobe: `kind` is the PMU's number, `config` its flags, then a symbol or path, and an offset.
    pub(crate) fn probe(kind: u32, config: u64, name: &'a CStr, offset: u64) -> EventAttr<'a> {
        let raw = Raw { config1: name.as_ptr() as u64, config2: offset, ..Self::base(kind, config) };
        EventAttr { raw, names: PhantomData }
    }

    /// A counter that interrupts.
    pub(crate) fn sampling(kind: u32, config: u64, sampling: Sampling, inherit: bool) -> EventAttr<'static> {
        let mut raw = Self::base(kind, config);
        raw.bits = DISABLED;
        if inherit {
            raw.bits |= INHERIT;
        }
        raw.sample = match sampling {
            Sampling::Period(period) => period,
            Sampling::Frequency(hz) => {
                raw.bits |= FREQ;
                hz
            }
        };
        EventAttr { raw, names: PhantomData }
    }

    /// Where `bpf_perf_event_output` writes to, with times of CLOCK_MONOTONIC. Wakes up its reader after so many bytes,
    /// or with 0 at each record. Reading the event tells for how long it has been on ([`counts`]), and with `count_lost` its
    /// losses (`PERF_FORMAT_LOST`, 6.0).
    pub(crate) fn bpf_output(watermark: u32, count_lost: bool) -> EventAttr<'static> {
        let mut raw = Raw {
            sample: 1,
            sample_type: SAMPLE_TIME | SAMPLE_RAW,
            read_format: FORMAT_ENABLED | if count_lost { FORMAT_LOST } else { 0 },
            bits: USE_CLOCK,
            clock_id: libc::CLOCK_MONOTONIC,
            wakeup: 1,
            ..Self::base(1, 10)
        };
        if watermark > 0 {
            raw.bits |= WATERMARK;
            raw.wakeup = watermark;
        }
        EventAttr { raw, names: PhantomData }
    }
}

/// perf_event_open(2). `pid` -1 is every process, `cpu` -1 every CPU.
pub(crate) fn open(attr: &EventAttr<'_>, pid: i32, cpu: i32) -> io::Result<OwnedFd> {
    const FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    // SAFETY: the attribute is live and says its own size; an address in it is that of a C string whose borrow the type
    // carries; the kernel only reads.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, std::ptr::from_ref(&attr.raw), pid, cpu, -1, FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What reading an event of [`EventAttr::bpf_output`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    /// Nanoseconds that it has been on; stands still once its CPU went offline.
    pub(crate) enabled_ns: u64,
    /// Records that found no room; `None` before 6.0.
    pub(crate) lost: Option<u64>,
}

/// Reads an event of [`EventAttr::bpf_output`]: the value, the time, the losses.
pub(crate) fn counts(mut event: &File) -> io::Result<Counts> {
    let mut words = [0u8; 24];
    let len = event.read(&mut words)?;
    let word = |n: usize| {
        let bytes = words.get(..len).and_then(|read| read.get(8 * n..8 * n + 8));
        bytes.and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)
    };
    let enabled_ns = word(1).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    Ok(Counts { enabled_ns, lost: word(2) })
}

/// `PERF_EVENT_IOC_ENABLE`.
pub(crate) fn enable(event: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, 0x2400, 0)
}

/// `PERF_EVENT_IOC_SET_BPF`: what older kernels have in place of links to perf events.
pub(crate) fn set_program(event: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    ioctl(event, 0x4004_2408, program.as_raw_fd() as libc::c_ulong)
}

fn ioctl(event: BorrowedFd<'_>, request: libc::c_ulong, argument: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the requests of the two callers take an integer, not an address. On a descriptor that is no perf event
    // they are unknown (the numbers carry perf's letter).
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A packet socket that sees nothing yet, so that nothing arrives before its program is in place. Source: packet(7).
pub(crate) fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no addresses.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a packet socket see every packet of an interface (0: of all interfaces).
pub(crate) fn packet_bind(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    const ALL_PROTOCOLS: u16 = 3;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ALL_PROTOCOLS.to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is live and as long as said.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Socket options that take an integer, here a program's descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketOption {
    /// `SO_ATTACH_BPF`
    AttachFilter,
    /// `SO_ATTACH_REUSEPORT_EBPF`
    AttachReuseport,
    /// `SO_DETACH_REUSEPORT_BPF`
    DetachReuseport,
}

/// setsockopt(2) at `SOL_SOCKET` with an integer.
pub(crate) fn set_socket_option(socket: BorrowedFd<'_>, option: SocketOption, value: i32) -> io::Result<()> {
    let number = match option {
        SocketOption::AttachFilter => libc::SO_ATTACH_BPF,
        SocketOption::AttachReuseport => libc::SO_ATTACH_REUSEPORT_EBPF,
        SocketOption::DetachReuseport => libc::SO_DETACH_REUSEPORT_BPF,
    };
    // SAFETY: the value is live and as long as said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            number,
            std::ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
