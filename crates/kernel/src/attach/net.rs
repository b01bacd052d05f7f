//! Programs of the network: XDP, tc, socket filters, network namespaces, sock maps, netfilter.
//!
//! Interfaces are looked up in the network namespace that the options name; attaching there happens on a thread of its
//! own, as a namespace belongs to a thread.

use super::error::Attempt;
use super::{AttachError, AttachOptions, Direction, TcxOrder, XdpMode, classic_tc, names};
use crate::error::{Errno, near};
use crate::link::Held;
use crate::sys::{link, perf};
use crate::{Link, Program, netlink};
use skep_abi::AttachType;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// Flags of XDP. Source: `XDP_FLAGS_*` in `include/uapi/linux/if_link.h`.
const XDP_SKB: u32 = 1 << 1;
const XDP_DRIVER: u32 = 1 << 2;
const XDP_HARDWARE: u32 = 1 << 3;

/// Flags of an ordered hook. Source: `BPF_F_BEFORE`, `BPF_F_AFTER`, `BPF_F_ID`.
const BEFORE: u32 = 1 << 3;
const AFTER: u32 = 1 << 4;
const BY_ID: u32 = 1 << 5;

fn open_namespace(attempt: &Attempt<'_>, path: &Path) -> Result<File, AttachError> {
    File::open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => attempt.no_such(
            "network namespace",
            &path.display().to_string(),
            Vec::new(),
            "named ones are files in /run/netns, those of processes /proc/PID/ns/net",
        ),
        _ => attempt.other(crate::Error::file("open network namespace", path, e)),
    })
}

/// Does something in a network namespace.
fn inside<T: Send>(
    attempt: &Attempt<'_>,
    netns: Option<&Path>,
    work: impl FnOnce() -> Result<T, AttachError> + Send,
) -> Result<T, AttachError> {
    let Some(path) = netns else { return work() };
    let namespace = open_namespace(attempt, path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind)).map_err(|e| {
                let errno = Errno(e.raw_os_error());
                match errno.0 {
                    libc::EPERM => {
                        attempt.permission(format!("entering {} takes CAP_SYS_ADMIN", path.display()), "run as root")
                    }
                    libc::EINVAL => attempt.usage(format!("{} is no network namespace", path.display()), ""),
                    _ => attempt.kernel(errno, ""),
                }
            })?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(attempt.kernel(Errno(libc::EIO), "the attaching thread ended early")))
    })
}

/// The index of an interface in the namespace of this thread.
fn interface(attempt: &Attempt<'_>, name: &str) -> Result<u32, AttachError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let io = |e: rustix::io::Errno| attempt.refused(&io::Error::from_raw_os_error(e.raw_os_error()));
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(io)?;
    match rustix::net::netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(index),
        Err(rustix::io::Errno::NODEV | rustix::io::Errno::INVAL) => {
            let known = names::interfaces();
            let found = near(name, known.iter().map(String::as_str), names::NEAR);
            let next = format!("there are: {}", known.join(", "));
            Err(attempt.no_such("interface", name, found, next))
        }
        Err(e) => Err(io(e)),
    }
}

fn wanted_interface<'o>(program: &Program, what: &str, options: &'o AttachOptions) -> Result<&'o str, AttachError> {
    options
        .interface
        .as_deref()
        .ok_or_else(|| Attempt::new(program, what).usage("no interface was named", "name one with --iface DEV"))
}

pub(super) fn xdp(
    program: &Program,
    attach_type: Option<AttachType>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    if let Some(map @ (AttachType::XdpDevmap | AttachType::XdpCpumap)) = attach_type {
        let name = if map == AttachType::XdpDevmap { "device map" } else { "CPU map" };
        return Err(Attempt::new(program, format!("a {name}"))
            .unsupported(format!("it runs from an entry of a {name}"), "put its descriptor into the map's value"));
    }
    let dev = wanted_interface(program, "XDP", options)?;
    let attempt = Attempt::new(program, format!("{dev} (XDP)"));
    inside(&attempt, options.netns.as_deref(), || {
        let index = interface(&attempt, dev)?;
        let create = |mode| link::create(program.fd(), index, AttachType::Xdp, mode, link::Extra::None);
        let (mode, word) = match options.xdp {
            XdpMode::Auto | XdpMode::Native => (XDP_DRIVER, "native"),
            XdpMode::Generic => (XDP_SKB, "generic"),
            XdpMode::Offload => (XDP_HARDWARE, "offload"),
        };
        match create(mode) {
            Ok(fd) => Ok(Link::new(Held::Bpf(fd), format!("XDP {dev} ({word})"))),
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) && options.xdp == XdpMode::Auto => {
                let driver = driver_of(dev).map_or_else(String::new, |d| format!(" {d}"));
                match create(XDP_SKB) {
                    Ok(fd) => Ok(Link::new(Held::Bpf(fd), format!("XDP {dev} (generic)")).with_note(format!(
                        "the driver{driver} of {dev} does not run XDP itself now, so it is generic"
                    ))),
                    Err(e) => Err(xdp_refused(&attempt, index, dev, "generic", &e)),
                }
            }
            Err(e) => Err(xdp_refused(&attempt, index, dev, word, &e)),
        }
    })
}

fn driver_of(dev: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/class/net/{dev}/device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn xdp_refused(attempt: &Attempt<'_>, index: u32, dev: &str, word: &str, error: &io::Error) -> AttachError {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            let by = match netlink::xdp_of(index) {
                Ok(Some((mode, id))) => {
                    let mode = match mode {
                        1 => "native",
                        2 => "generic",
                        3 => "offload",
                        _ => "several modes",
                    };
                    let name = Program::from_id(id).map(|p| format!(" ({})", p.name())).unwrap_or_default();
                    format!("program {id}{name} has the hook already ({mode})")
                }
                _ => "another program has the hook already".into(),
            };
            attempt.busy(by, format!("detach it first: end its owner, or ip link set dev {dev} xdp off"))
        }
        Some(libc::EOPNOTSUPP) => attempt.unsupported(
            format!("the driver does not do {word} XDP on {dev} as it is set up"),
            "use the generic mode, or see to the MTU and the number of queues",
        ),
        Some(libc::ERANGE | libc::E2BIG) => attempt.unsupported(
            format!("the MTU of {dev} is too large for {word} XDP"),
            "lower the MTU, make the section xdp.frags, or use the generic mode",
        ),
        _ => attempt.refused(error),
    }
}

pub(super) fn tc(
    program: &Program,
    attach_type: Option<AttachType>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let (attach_type, direction) = match (attach_type, options.direction) {
        (Some(AttachType::TcxIngress), _) | (None, Direction::Ingress) => (AttachType::TcxIngress, Direction::Ingress),
        (Some(AttachType::TcxEgress), _) | (None, Direction::Egress) => (AttachType::TcxEgress, Direction::Egress),
        (Some(other), direction) => (other, direction),
    };
    let side = match (attach_type, direction) {
        (AttachType::NetkitPrimary, _) => "netkit primary",
        (AttachType::NetkitPeer, _) => "netkit peer",
        (_, Direction::Ingress) => "ingress",
        (_, Direction::Egress) => "egress",
    };
    let netkit = matches!(attach_type, AttachType::NetkitPrimary | AttachType::NetkitPeer);
    let dev = wanted_interface(program, &format!("tc {side}"), options)?;
    let attempt = Attempt::new(program, format!("{dev} (tc {side})"));
    inside(&attempt, options.netns.as_deref(), || {
        let index = interface(&attempt, dev)?;
        if options.classic_tc && !netkit {
            return classic(&attempt, program, index, dev, direction, None);
        }
        let (flags, relative) = match options.tcx_order {
            TcxOrder::Last => (0, 0),
            TcxOrder::First => (BEFORE, 0),
            TcxOrder::Before(id) => (BEFORE | BY_ID, id),
            TcxOrder::After(id) => (AFTER | BY_ID, id),
        };
        let extra = link::Extra::Relative { fd_or_id: relative, revision: 0 };
        match link::create(program.fd(), index, attach_type, flags, extra) {
            Ok(fd) => Ok(Link::new(
                Held::Bpf(fd),
                format!("{} {dev}", if netkit { side.into() } else { format!("tcx {side}") }),
            )),
            // Whether EINVAL means "no tcx" (before 6.6), the query tells.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && !netkit && !has_tcx(index, attach_type) => {
                if options.tcx_order != TcxOrder::Last {
                    return Err(attempt.unsupported(
                        "this kernel has no tcx, and the classic hook has no such order",
                        "use a kernel from 6.6 on",
                    ));
                }
                let note = "this kernel has no tcx (before 6.6), so it is on the classic tc hook";
                classic(&attempt, program, index, dev, direction, Some(note))
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && relative != 0 => {
                Err(attempt.no_such("program at this hook with id", &relative.to_string(), Vec::new(), ""))
            }
            Err(e) => Err(attempt.refused(&e)),
        }
    })
}

fn has_tcx(index: u32, attach_type: AttachType) -> bool {
    link::prog_query(index, attach_type).is_ok()
}

fn classic(
    attempt: &Attempt<'_>,
    program: &Program,
    index: u32,
    dev: &str,
    direction: Direction,
    note: Option<&str>,
) -> Result<Link, AttachError> {
    let word = if direction == Direction::Ingress { "ingress" } else { "egress" };
    match classic_tc::attach(program, index, direction) {
        Ok(filter) => {
            let link = Link::new(Held::ClassicTc(filter), format!("classic tc {word} {dev}"));
            Ok(match note {
                Some(note) => link.with_note(note),
                None => link,
            })
        }
        Err(errno) if errno.0 == libc::ENOENT || errno.is_unsupported() => Err(attempt.unsupported(
            format!("the kernel has no clsact qdisc or no BPF classifier ({errno})"),
            "load the modules sch_ingress and cls_bpf, or use a kernel from 6.6 on, which has tcx",
        )),
        Err(errno) => Err(attempt.refused(&io::Error::from_raw_os_error(errno.0))),
    }
}

pub(super) fn socket_filter(program: &Program, options: &AttachOptions) -> Result<Link, AttachError> {
    let place = match &options.interface {
        Some(dev) => format!("packets of {dev} (socket filter)"),
        None => "packets of every interface (socket filter)".into(),
    };
    let attempt = Attempt::new(program, place.clone());
    inside(&attempt, options.netns.as_deref(), || {
        let index = options.interface.as_deref().map_or(Ok(0), |dev| interface(&attempt, dev))?;
        let refused = |e: io::Error| attempt.refused(&e);
        let socket = perf::packet_socket().map_err(refused)?;
        let number = program.fd().as_raw_fd();
        perf::set_socket_option(socket.as_fd(), perf::SocketOption::AttachFilter, number).map_err(refused)?;
        perf::packet_bind(socket.as_fd(), index).map_err(refused)?;
        Ok(Link::new(Held::Socket(socket), place.clone()))
    })
}

/// Hooks of a network namespace.
pub(super) fn namespace(
    program: &Program,
    attach_type: AttachType,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let path = options.netns.as_deref().unwrap_or(Path::new("/proc/thread-self/ns/net"));
    let place = format!("{} of network namespace {}", attach_type.word(), path.display());
    let attempt = Attempt::new(program, place.clone());
    let netns = open_namespace(&attempt, path)?;
    match link::create(program.fd(), netns.as_raw_fd() as u32, attach_type, 0, link::Extra::None) {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), place)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EEXIST | libc::E2BIG | libc::EBUSY)) => {
            let ids = link::prog_query(netns.as_raw_fd() as u32, attach_type).unwrap_or_default();
            let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            Err(attempt.busy(format!("programs {ids} have the hook already"), "detach one first"))
        }
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) && options.netns.is_some() => {
            Err(attempt.usage(format!("{} is no network namespace", path.display()), "such as /run/netns/NAME"))
        }
        Err(e) => Err(attempt.refused(&e)),
    }
}

pub(super) fn netfilter(program: &Program, options: &AttachOptions) -> Result<Link, AttachError> {
    let wanted = options.netfilter;
    let hook = match wanted.hook {
        0 => "prerouting",
        1 => "input",
        2 => "forward",
        3 => "output",
        4 => "postrouting",
        n => return Err(Attempt::new(program, "netfilter").usage(format!("there is no hook {n}"), "hooks are 0 to 4")),
    };
    let family = if wanted.ipv6 { "IPv6" } else { "IPv4" };
    let place = format!("netfilter {family} {hook} (priority {})", wanted.priority);
    let attempt = Attempt::new(program, place.clone());
    inside(&attempt, options.netns.as_deref(), || {
        let extra = link::Extra::Netfilter {
            family: if wanted.ipv6 { 10 } else { 2 },
            hook: wanted.hook,
            priority: wanted.priority,
            flags: u32::from(wanted.defragment),
        };
        match link::create(program.fd(), 0, AttachType::Netfilter, 0, extra) {
            Ok(fd) => Ok(Link::new(Held::Bpf(fd), place.clone())),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                Err(attempt.busy("another BPF program has this priority", "choose another priority"))
            }
            Err(e) if names::kernel_option("CONFIG_NETFILTER_BPF_LINK") == Some(false) => Err(attempt.unsupported(
                format!("this kernel was built without CONFIG_NETFILTER_BPF_LINK ({e})"),
                "use tc or XDP",
            )),
            Err(e) => Err(attempt.refused(&e)),
        }
    })
}

pub(super) fn reuseport(program: &Program, options: &AttachOptions) -> Result<Link, AttachError> {
    let place = "a reuseport group";
    let attempt = Attempt::new(program, place);
    let Some(socket) = &options.socket else {
        return Err(attempt.usage(
            "it serves the group of a socket, and none was given",
            "the program that owns the socket attaches it",
        ));
    };
    let number = program.fd().as_raw_fd();
    perf::set_socket_option(socket.as_fd(), perf::SocketOption::AttachReuseport, number)
        .map_err(|e| attempt.refused(&e))?;
    let socket = socket.try_clone().map_err(|e| attempt.refused(&e))?;
    Ok(Link::new(Held::Reuseport(socket), place))
}

pub(super) fn sock_map(
    program: &Program,
    attach_type: Option<AttachType>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let attach_type = attach_type.unwrap_or(AttachType::SkSkbVerdict);
    let place = format!("{} of a sock map", attach_type.word());
    let attempt = Attempt::new(program, place.clone());
    let Some(map) = &options.map else {
        return Err(
            attempt.usage("it serves the sockets of a map, and none was given", "say which sock map or sock hash")
        );
    };
    match link::create(program.fd(), map.as_raw_fd() as u32, attach_type, 0, link::Extra::None) {
        Ok(fd) => return Ok(Link::new(Held::Bpf(fd), place)),
        // Kernels before 6.10 have no links for sock maps.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
            return Err(attempt.busy("the map has such a program", "detach it first"));
        }
        Err(e) => return Err(attempt.refused(&e)),
    }
    link::prog_attach(program.fd(), map.as_fd(), attach_type, 0).map_err(|e| attempt.refused(&e))?;
    let target = map.try_clone().map_err(|e| attempt.refused(&e))?;
    let program = program.fd().try_clone_to_owned().map_err(|e| attempt.refused(&e))?;
    Ok(Link::new(Held::Attached { target, program, attach_type }, place))
}
