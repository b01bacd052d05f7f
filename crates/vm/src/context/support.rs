//! Which programs the embedded engine can give a context to, by type and place: `(SchedCls, None)` -> packets from the link
//! header on; `(SockOps, None)` -> refused, since it has no TCP connections.

use skep_abi::{AttachType, ProgramType};

/// Where in a packet `data` points at the start of a program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Start {
    /// The link-layer header: XDP, tc, filters of packet sockets.
    Link,
    /// The network header: cgroup hooks, lightweight tunnels, filters as `BPF_PROG_TEST_RUN` runs them.
    Network,
}

/// What a program of some type needs to be given, see the constructors of [`Context`](super::Context).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Needs {
    /// A packet: [`PacketRunner`](super::PacketRunner) or [`Context::packet_hook`](super::Context::packet_hook).
    Packet(Start),
    /// The record of a tracepoint: [`Context::tracepoint`](super::Context::tracepoint).
    TracepointRecord,
    /// The arguments of a tracepoint as numbers: [`Context::words`](super::Context::words).
    Words,
    /// The arguments of a tracepoint with their types: [`Context::typed_arguments`](super::Context::typed_arguments).
    TypedArguments,
    /// Registers: [`Context::registers`](super::Context::registers).
    Registers,
    /// Registers, sample period and address: [`Context::perf_event`](super::Context::perf_event).
    PerfEvent,
    /// An address given to a system call: [`Context::sock_addr`](super::Context::sock_addr).
    SockAddr,
    /// A socket: [`Context::sock`](super::Context::sock).
    Sock,
    /// A buffer of the caller: [`Context::caller`](super::Context::caller).
    Caller,
}

/// A program that the embedded engine has no context for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("programs of type {}{} cannot run in the embedded engine: {why}; run it with the kernel engine", program.short_name(), place(*attach))]
pub struct Unsupported {
    /// The program's type.
    pub program: ProgramType,
    /// Where it is to be attached, if that is the cause.
    pub attach: Option<AttachType>,
    /// Why it cannot run.
    pub why: &'static str,
}

fn place(attach: Option<AttachType>) -> String {
    attach.map(|attach| format!(" ({attach})")).unwrap_or_default()
}

/// What a program of this type, loaded for this place, needs to be given.
///
/// # Errors
/// The types whose context is an object of the kernel that the embedded engine does not have.
pub fn supported(program: ProgramType, attach: Option<AttachType>) -> Result<Needs, Unsupported> {
    use AttachType as A;
    use ProgramType as P;
    let refuse = |why| Err(Unsupported { program, attach, why });
    Ok(match program {
        P::Xdp => match attach {
            Some(A::XdpDevmap | A::XdpCpumap) => {
                return refuse("it has no device and CPU maps to send packets through");
            }
            _ => Needs::Packet(Start::Link),
        },
        P::SchedCls | P::SchedAct | P::SocketFilter => Needs::Packet(Start::Link),
        P::CgroupSkb | P::LwtIn | P::LwtOut | P::LwtXmit => Needs::Packet(Start::Network),
        P::Tracepoint => Needs::TracepointRecord,
        P::RawTracepoint => Needs::Words,
        P::RawTracepointWritable => return refuse("what it may write is memory of the kernel"),
        P::Tracing => match attach {
            Some(A::TraceRawTp) => Needs::TypedArguments,
            Some(A::TraceIter) => return refuse("it has no kernel objects to iterate over"),
            _ => return refuse("it has no kernel functions to trace"),
        },
        P::Kprobe => Needs::Registers,
        P::PerfEvent => Needs::PerfEvent,
        P::CgroupSockAddr => match attach {
            Some(
                A::CgroupUnixConnect
                | A::CgroupUnixSendmsg
                | A::CgroupUnixRecvmsg
                | A::CgroupUnixGetpeername
                | A::CgroupUnixGetsockname,
            ) => return refuse("paths of Unix sockets are set by kernel functions on the kernel's own address"),
            _ => Needs::SockAddr,
        },
        P::CgroupSock => Needs::Sock,
        P::Syscall => Needs::Caller,
        P::Unspec => Needs::Caller,
        P::SockOps => return refuse("it has no TCP connections to report on"),
        P::SkSkb | P::SkMsg => return refuse("it has no sockets to pass data between"),
        P::SkLookup | P::SkReuseport => return refuse("it has no sockets to choose from"),
        P::FlowDissector => return refuse("it has no flow dissector to take the place of"),
        P::LwtSeg6local => return refuse("it has no routes with segments"),
        P::CgroupDevice => return refuse("it has no device files to guard"),
        P::CgroupSysctl => return refuse("it has no kernel settings"),
        P::CgroupSockopt => return refuse("it has no sockets whose options could be read or set"),
        P::Netfilter => return refuse("its context holds the kernel's own packet"),
        P::Lsm => return refuse("it has no security hooks"),
        P::StructOps => return refuse("it has no kernel structs of functions"),
        P::Ext => return refuse("functions of other programs cannot be replaced in it"),
        P::LircMode2 => return refuse("it has no infrared receivers"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_supported_or_refused_with_a_reason_of_its_own() {
        for &program in ProgramType::ALL {
            if let Err(refused) = supported(program, None) {
                let message = refused.to_string();
                assert!(message.contains(program.short_name()), "{message}");
            }
        }
    }

    #[test]
    fn the_place_decides_where_it_must() {
        use AttachType as A;
        use ProgramType as P;
        for (program, attach, good) in [
            (P::Tracing, A::TraceRawTp, true),
            (P::Tracing, A::TraceFentry, false),
            (P::Tracing, A::TraceIter, false),
            (P::CgroupSockAddr, A::CgroupInet4Connect, true),
            (P::CgroupSockAddr, A::CgroupUnixConnect, false),
            (P::Xdp, A::Xdp, true),
            (P::Xdp, A::XdpDevmap, false),
        ] {
            assert_eq!(supported(program, Some(attach)).is_ok(), good, "{program} {attach}");
        }
    }
}
