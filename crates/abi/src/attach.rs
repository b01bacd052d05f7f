//! Where programs are attached: which program type a place is for, what it is attached to, and what link holds it.
//!
//! ```
//! use skep_abi::{AttachType, LinkType, ProgramType, attach::{self, Target}};
//! let connect = attach::facts(AttachType::CgroupInet4Connect);
//! assert_eq!((connect.program, connect.target), (ProgramType::CgroupSockAddr, Target::Cgroup));
//! assert_eq!(connect.link, Some(LinkType::Cgroup));
//! ```
//!
//! Source: `attach_type_to_prog_type`, `bpf_prog_load_check_attach`, `link_create` in `kernel/bpf/syscall.c`. Programs
//! that are attached without an attach type (to tracepoints, sockets, qdiscs, perf events of old) are not here.

use crate::{AttachType, LinkType, ProgramType};

/// What a program is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// A cgroup, by a descriptor of its directory.
    Cgroup,
    /// A network namespace, by a descriptor.
    NetNamespace,
    /// A network device, by its index.
    Interface,
    /// A map of sockets, by its descriptor.
    SocketMap,
    /// A perf event, by its descriptor.
    PerfEvent,
    /// A kernel function, tracepoint, hook or kind of iterator: named by its BTF id when the program is loaded.
    BtfTarget,
    /// Kernel functions, by name or address.
    KernelFunctions,
    /// Places in a file of machine code.
    FileOffsets,
    /// A hook of the packet filter, by protocol family, hook number and priority.
    NetfilterHook,
    /// A map that runs it for what is put through: set in the map's value, not attached.
    MapValue,
    /// A struct_ops map.
    StructOps,
    /// An infrared receiver, by a descriptor.
    Receiver,
    /// A socket, by the option that sets it.
    Socket,
}

/// A place of attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachFacts {
    /// The place.
    pub attach: AttachType,
    /// The type of program that goes there; [`AttachType::PerfEvent`] takes tracepoint and perf event programs too.
    pub program: ProgramType,
    /// What it is attached to.
    pub target: Target,
    /// The link that can hold it, `None` where there is only attaching and detaching.
    pub link: Option<LinkType>,
    /// `BPF_PROG_ATTACH` works too, without a link.
    pub plain: bool,
}

/// The facts of a place.
pub fn facts(attach: AttachType) -> &'static AttachFacts {
    // A test holds that the place in the table is the attach type's number.
    &PLACES[attach as usize]
}

/// The places that a program type can be attached to by an attach type, in the order of the kernel's numbers.
pub fn places(program: ProgramType) -> impl Iterator<Item = AttachType> {
    PLACES.iter().filter(move |facts| facts.program == program).map(|facts| facts.attach)
}

/// Whether a program of this type must name its place (`expected_attach_type`) when it is loaded. 0 is a place as well
/// ([`AttachType::CgroupInetIngress`]), so cgroup_skb programs need not.
pub fn named_at_load(program: ProgramType) -> bool {
    use ProgramType as P;
    matches!(
        program,
        P::CgroupSock | P::CgroupSockAddr | P::CgroupSockopt | P::SkLookup | P::Netfilter | P::Tracing | P::Lsm
    )
}

const fn at(
    attach: AttachType,
    program: ProgramType,
    target: Target,
    link: Option<LinkType>,
    plain: bool,
) -> AttachFacts {
    AttachFacts { attach, program, target, link, plain }
}

const fn cgroup(attach: AttachType, program: ProgramType) -> AttachFacts {
    at(attach, program, Target::Cgroup, Some(LinkType::Cgroup), true)
}

const fn sockets(attach: AttachType, program: ProgramType) -> AttachFacts {
    at(attach, program, Target::SocketMap, Some(LinkType::Sockmap), true)
}

const fn by_btf(attach: AttachType, program: ProgramType, link: LinkType) -> AttachFacts {
    at(attach, program, Target::BtfTarget, Some(link), false)
}

use {AttachType as A, LinkType as L, ProgramType as P, Target as T};

/// Every place, at the place of its number.
#[rustfmt::skip]
pub static PLACES: &[AttachFacts] = &[
    cgroup(A::CgroupInetIngress, P::CgroupSkb),
    cgroup(A::CgroupInetEgress, P::CgroupSkb),
    cgroup(A::CgroupInetSockCreate, P::CgroupSock),
    cgroup(A::CgroupSockOps, P::SockOps),
    sockets(A::SkSkbStreamParser, P::SkSkb),
    sockets(A::SkSkbStreamVerdict, P::SkSkb),
    cgroup(A::CgroupDevice, P::CgroupDevice),
    sockets(A::SkMsgVerdict, P::SkMsg),
    cgroup(A::CgroupInet4Bind, P::CgroupSockAddr),
    cgroup(A::CgroupInet6Bind, P::CgroupSockAddr),
    cgroup(A::CgroupInet4Connect, P::CgroupSockAddr),
    cgroup(A::CgroupInet6Connect, P::CgroupSockAddr),
    cgroup(A::CgroupInet4PostBind, P::CgroupSock),
    cgroup(A::CgroupInet6PostBind, P::CgroupSock),
    cgroup(A::CgroupUdp4Sendmsg, P::CgroupSockAddr),
    cgroup(A::CgroupUdp6Sendmsg, P::CgroupSockAddr),
    at(A::LircMode2, P::LircMode2, T::Receiver, None, true),
    at(A::FlowDissector, P::FlowDissector, T::NetNamespace, Some(L::Netns), true),
    cgroup(A::CgroupSysctl, P::CgroupSysctl),
    cgroup(A::CgroupUdp4Recvmsg, P::CgroupSockAddr),
    cgroup(A::CgroupUdp6Recvmsg, P::CgroupSockAddr),
    cgroup(A::CgroupGetsockopt, P::CgroupSockopt),
    cgroup(A::CgroupSetsockopt, P::CgroupSockopt),
    by_btf(A::TraceRawTp, P::Tracing, L::RawTracepoint),
    by_btf(A::TraceFentry, P::Tracing, L::Tracing),
    by_btf(A::TraceFexit, P::Tracing, L::Tracing),
    by_btf(A::ModifyReturn, P::Tracing, L::Tracing),
    by_btf(A::LsmMac, P::Lsm, L::Tracing),
    by_btf(A::TraceIter, P::Tracing, L::Iter),
    cgroup(A::CgroupInet4Getpeername, P::CgroupSockAddr),
    cgroup(A::CgroupInet6Getpeername, P::CgroupSockAddr),
    cgroup(A::CgroupInet4Getsockname, P::CgroupSockAddr),
    cgroup(A::CgroupInet6Getsockname, P::CgroupSockAddr),
    at(A::XdpDevmap, P::Xdp, T::MapValue, None, false),
    cgroup(A::CgroupInetSockRelease, P::CgroupSock),
    at(A::XdpCpumap, P::Xdp, T::MapValue, None, false),
    at(A::SkLookup, P::SkLookup, T::NetNamespace, Some(L::Netns), false),
    at(A::Xdp, P::Xdp, T::Interface, Some(L::Xdp), false),
    sockets(A::SkSkbVerdict, P::SkSkb),
    at(A::SkReuseportSelect, P::SkReuseport, T::Socket, None, false),
    at(A::SkReuseportSelectOrMigrate, P::SkReuseport, T::Socket, None, false),
    at(A::PerfEvent, P::Kprobe, T::PerfEvent, Some(L::PerfEvent), false),
    at(A::TraceKprobeMulti, P::Kprobe, T::KernelFunctions, Some(L::KprobeMulti), false),
    at(A::LsmCgroup, P::Lsm, T::Cgroup, Some(L::Cgroup), true),
    at(A::StructOps, P::StructOps, T::StructOps, Some(L::StructOps), false),
    at(A::Netfilter, P::Netfilter, T::NetfilterHook, Some(L::Netfilter), false),
    at(A::TcxIngress, P::SchedCls, T::Interface, Some(L::Tcx), true),
    at(A::TcxEgress, P::SchedCls, T::Interface, Some(L::Tcx), true),
    at(A::TraceUprobeMulti, P::Kprobe, T::FileOffsets, Some(L::UprobeMulti), false),
    cgroup(A::CgroupUnixConnect, P::CgroupSockAddr),
    cgroup(A::CgroupUnixSendmsg, P::CgroupSockAddr),
    cgroup(A::CgroupUnixRecvmsg, P::CgroupSockAddr),
    cgroup(A::CgroupUnixGetpeername, P::CgroupSockAddr),
    cgroup(A::CgroupUnixGetsockname, P::CgroupSockAddr),
    at(A::NetkitPrimary, P::SchedCls, T::Interface, Some(L::Netkit), true),
    at(A::NetkitPeer, P::SchedCls, T::Interface, Some(L::Netkit), true),
    at(A::TraceKprobeSession, P::Kprobe, T::KernelFunctions, Some(L::KprobeMulti), false),
    at(A::TraceUprobeSession, P::Kprobe, T::FileOffsets, Some(L::UprobeMulti), false),
    by_btf(A::TraceFsession, P::Tracing, L::Tracing),
    by_btf(A::TraceFentryMulti, P::Tracing, L::TracingMulti),
    by_btf(A::TraceFexitMulti, P::Tracing, L::TracingMulti),
    by_btf(A::TraceFsessionMulti, P::Tracing, L::TracingMulti),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_stands_at_its_number_and_is_as_old_as_its_program() {
        assert_eq!(PLACES.len(), AttachType::ALL.len());
        for (number, facts) in PLACES.iter().enumerate() {
            assert_eq!(facts.attach as usize, number);
            assert!(facts.attach.since() >= facts.program.since(), "{}", facts.attach);
        }
    }

    #[test]
    fn places_of_a_program() {
        assert_eq!(places(ProgramType::CgroupSockopt).count(), 2);
        assert!(places(ProgramType::Tracepoint).next().is_none());
        for program in ProgramType::ALL.iter().filter(|&&program| named_at_load(program)) {
            assert!(places(*program).next().is_some(), "{program}");
        }
    }
}
