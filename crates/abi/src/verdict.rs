//! What a program's return value means, by program type: `(Xdp, 2)` <-> `XDP_PASS`.
//!
//! ```
//! use skep_abi::{AttachType, ProgramType, verdict};
//! assert_eq!(verdict::name(ProgramType::SchedCls, None, 2), Some("TC_ACT_SHOT"));
//! assert_eq!(verdict::name(ProgramType::SchedCls, Some(AttachType::TcxIngress), 2), Some("TCX_DROP"));
//! assert_eq!(verdict::allowed(ProgramType::CgroupDevice, None), Some(0..=1));
//! ```
//!
//! Sources: `include/uapi/linux/bpf.h`, `pkt_cls.h`, `netfilter.h`, `if_link.h`; the ranges from `check_return_code` in
//! `kernel/bpf/verifier.c`.

use std::ops::RangeInclusive;

use crate::{AttachType, ProgramType};

/// A return value with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What the program returns, as the 32-bit number that the kernel reads.
    pub value: i32,
    /// The kernel's name, or ours in words where it has none.
    pub name: &'static str,
    /// What then happens.
    pub meaning: &'static str,
}

const fn v(value: i32, name: &'static str, meaning: &'static str) -> Verdict {
    Verdict { value, name, meaning }
}

static XDP: &[Verdict] = &[
    v(0, "XDP_ABORTED", "the program failed: dropped, and the xdp_exception tracepoint is hit"),
    v(1, "XDP_DROP", "dropped"),
    v(2, "XDP_PASS", "goes on into the network stack"),
    v(3, "XDP_TX", "sent back out of the device it came in by"),
    v(4, "XDP_REDIRECT", "goes where bpf_redirect or bpf_redirect_map said"),
];

static TC: &[Verdict] = &[
    v(-1, "TC_ACT_UNSPEC", "the next filter decides, or the default action"),
    v(0, "TC_ACT_OK", "goes on, no further filter is asked"),
    v(1, "TC_ACT_RECLASSIFY", "classified again from the start"),
    v(2, "TC_ACT_SHOT", "dropped"),
    v(3, "TC_ACT_PIPE", "the next action of the filter runs"),
    v(4, "TC_ACT_STOLEN", "taken: freed without counting as dropped"),
    v(5, "TC_ACT_QUEUED", "taken: queued elsewhere"),
    v(6, "TC_ACT_REPEAT", "the action runs again"),
    v(7, "TC_ACT_REDIRECT", "goes where bpf_redirect said"),
    v(8, "TC_ACT_TRAP", "hardware hands it to the CPU; in software as TC_ACT_STOLEN"),
];

static TCX: &[Verdict] = &[
    v(-1, "TCX_NEXT", "the next program decides"),
    v(0, "TCX_PASS", "goes on, no further program is asked"),
    v(2, "TCX_DROP", "dropped"),
    v(7, "TCX_REDIRECT", "goes where bpf_redirect said"),
];

static NETKIT: &[Verdict] = &[
    v(-1, "NETKIT_NEXT", "the next program decides"),
    v(0, "NETKIT_PASS", "goes on to the peer"),
    v(2, "NETKIT_DROP", "dropped"),
    v(7, "NETKIT_REDIRECT", "goes where bpf_redirect said"),
];

static ALLOW: &[Verdict] = &[v(0, "deny", "refused with EPERM"), v(1, "allow", "goes on")];

static CGROUP_INGRESS: &[Verdict] = &[v(0, "deny", "dropped"), v(1, "allow", "goes on")];

static CGROUP_EGRESS: &[Verdict] = &[
    v(0, "deny", "dropped"),
    v(1, "allow", "goes on"),
    v(2, "deny, congested", "dropped, the sender is told of congestion"),
    v(3, "allow, congested", "goes on, the sender is told of congestion"),
];

static CGROUP_BIND: &[Verdict] = &[
    v(0, "deny", "refused with EPERM"),
    v(1, "allow", "goes on"),
    v(2, "deny, any port", "refused with EPERM"),
    v(3, "allow, any port", "goes on, without the check for privileged ports"),
];

static SK: &[Verdict] =
    &[v(0, "SK_DROP", "dropped, or refused"), v(1, "SK_PASS", "goes on, to the socket chosen if one was")];

static SOCK_OPS: &[Verdict] = &[v(0, "0", "no answer"), v(1, "1", "reply holds the answer")];

static LWT: &[Verdict] = &[
    v(0, "BPF_OK", "goes on"),
    v(2, "BPF_DROP", "dropped"),
    v(7, "BPF_REDIRECT", "goes where bpf_redirect said (lwt_xmit)"),
    v(128, "BPF_LWT_REROUTE", "its header changed: routed again"),
];

static FLOW_DISSECTOR: &[Verdict] = &[
    v(0, "BPF_OK", "dissected"),
    v(2, "BPF_DROP", "not dissected"),
    v(129, "BPF_FLOW_DISSECTOR_CONTINUE", "the kernel's own dissector is asked"),
];

static NETFILTER: &[Verdict] = &[v(0, "NF_DROP", "dropped"), v(1, "NF_ACCEPT", "goes on")];

static SOCKET_FILTER: &[Verdict] = &[v(0, "drop", "dropped; any other number is how many bytes are kept")];

static PERF_EVENT: &[Verdict] = &[v(0, "0", "no sample is written"), v(1, "1", "the sample is written")];

static LSM: &[Verdict] = &[v(0, "allow", "the next module is asked; a negative error number refuses")];

static ITER: &[Verdict] = &[v(0, "0", "on to the next object"), v(1, "1", "the same object again")];

/// The named return values of a program of this type at this place (`None`: the type's usual one).
pub fn all(program: ProgramType, attach: Option<AttachType>) -> &'static [Verdict] {
    match (program, attach) {
        (ProgramType::Xdp, _) => XDP,
        (ProgramType::SchedCls, Some(AttachType::TcxIngress | AttachType::TcxEgress)) => TCX,
        (ProgramType::SchedCls, Some(AttachType::NetkitPrimary | AttachType::NetkitPeer)) => NETKIT,
        (ProgramType::SchedCls | ProgramType::SchedAct, _) => TC,
        (ProgramType::CgroupSkb, Some(AttachType::CgroupInetEgress)) => CGROUP_EGRESS,
        (ProgramType::CgroupSkb, _) => CGROUP_INGRESS,
        (ProgramType::CgroupSockAddr, Some(AttachType::CgroupInet4Bind | AttachType::CgroupInet6Bind)) => CGROUP_BIND,
        (
            ProgramType::CgroupSock
            | ProgramType::CgroupSockAddr
            | ProgramType::CgroupDevice
            | ProgramType::CgroupSysctl
            | ProgramType::CgroupSockopt,
            _,
        ) => ALLOW,
        (ProgramType::Lsm, Some(AttachType::LsmCgroup)) => ALLOW,
        (ProgramType::Lsm, _) => LSM,
        (ProgramType::SkSkb | ProgramType::SkMsg | ProgramType::SkLookup | ProgramType::SkReuseport, _) => SK,
        (ProgramType::SockOps, _) => SOCK_OPS,
        (ProgramType::LwtIn | ProgramType::LwtOut | ProgramType::LwtXmit | ProgramType::LwtSeg6local, _) => LWT,
        (ProgramType::FlowDissector, _) => FLOW_DISSECTOR,
        (ProgramType::Netfilter, _) => NETFILTER,
        (ProgramType::SocketFilter, _) => SOCKET_FILTER,
        (ProgramType::PerfEvent, _) => PERF_EVENT,
        (ProgramType::Tracing, Some(AttachType::TraceIter)) => ITER,
        _ => &[],
    }
}

/// The name of a return value.
pub fn name(program: ProgramType, attach: Option<AttachType>, value: i32) -> Option<&'static str> {
    all(program, attach).iter().find(|verdict| verdict.value == value).map(|verdict| verdict.name)
}

/// The values that the verifier lets a program of this type return, `None` where it does not look.
///
/// An lsm program's range depends on the hook (errors down to -4095 and 0 for most, 0 and 1 for some that answer yes or
/// no) and is not here; nor are struct_ops programs', which have their member's type.
pub fn allowed(program: ProgramType, attach: Option<AttachType>) -> Option<RangeInclusive<i32>> {
    use AttachType as A;
    match (program, attach) {
        (
            ProgramType::CgroupSockAddr,
            Some(
                A::CgroupUdp4Recvmsg
                | A::CgroupUdp6Recvmsg
                | A::CgroupUnixRecvmsg
                | A::CgroupInet4Getpeername
                | A::CgroupInet6Getpeername
                | A::CgroupUnixGetpeername
                | A::CgroupInet4Getsockname
                | A::CgroupInet6Getsockname
                | A::CgroupUnixGetsockname,
            ),
        ) => Some(1..=1),
        (ProgramType::CgroupSockAddr, Some(A::CgroupInet4Bind | A::CgroupInet6Bind)) => Some(0..=3),
        (ProgramType::CgroupSkb, Some(A::CgroupInetEgress)) => Some(0..=3),
        (
            ProgramType::CgroupSkb
            | ProgramType::CgroupSock
            | ProgramType::SockOps
            | ProgramType::CgroupDevice
            | ProgramType::CgroupSysctl
            | ProgramType::CgroupSockopt
            | ProgramType::CgroupSockAddr
            | ProgramType::SkLookup
            | ProgramType::Netfilter,
            _,
        ) => Some(0..=1),
        (ProgramType::Lsm, Some(A::LsmCgroup)) => Some(0..=1),
        (ProgramType::RawTracepoint, _) => None,
        (ProgramType::Tracing, Some(A::TraceFentry | A::TraceFexit)) => Some(0..=0),
        (ProgramType::Tracing, Some(A::TraceIter)) => Some(0..=1),
        (ProgramType::Kprobe, Some(A::TraceKprobeSession | A::TraceUprobeSession)) => Some(0..=1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lie_in_the_allowed_range() {
        for &program in ProgramType::ALL {
            for attach in AttachType::ALL.iter().copied().map(Some).chain([None]) {
                let Some(range) = allowed(program, attach) else { continue };
                for verdict in all(program, attach) {
                    assert!(
                        range.contains(&verdict.value) || range == (1..=1),
                        "{program} {attach:?}: {} is outside {range:?}",
                        verdict.name
                    );
                }
            }
        }
    }

    #[test]
    fn values_come_once() {
        for &program in ProgramType::ALL {
            for attach in AttachType::ALL.iter().copied().map(Some).chain([None]) {
                let table = all(program, attach);
                assert!(table.windows(2).all(|pair| pair[0].value < pair[1].value), "{program} {attach:?}");
            }
        }
    }
}
