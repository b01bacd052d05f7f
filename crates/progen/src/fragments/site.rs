//! What kind of program it is to be: type, place of attachment, target.

use skep_abi::{AttachType as A, ProgramType as P};

use crate::{Choices, Family};

/// Where a program would be attached.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) prog_type: P,
    pub(crate) attach_type: Option<A>,
    pub(crate) target: Option<String>,
    pub(crate) sleepable: bool,
}

/// Types with packets that are read and written directly.
const PACKETS: &[(P, Option<A>)] = &[
    (P::Xdp, None),
    (P::Xdp, None),
    (P::SchedCls, None),
    (P::SchedCls, Some(A::TcxIngress)),
    (P::SchedAct, None),
    (P::SkSkb, Some(A::SkSkbStreamVerdict)),
    (P::LwtXmit, None),
    (P::LwtIn, None),
    (P::CgroupSkb, Some(A::CgroupInetIngress)),
    (P::SkMsg, Some(A::SkMsgVerdict)),
    (P::SkReuseport, Some(A::SkReuseportSelectOrMigrate)),
    (P::FlowDissector, Some(A::FlowDissector)),
];

/// All the types that load by number alone.
const ALL: &[(P, Option<A>)] = &[
    (P::SocketFilter, None),
    (P::Xdp, None),
    (P::SchedCls, None),
    (P::SchedAct, None),
    (P::Kprobe, None),
    (P::Tracepoint, None),
    (P::RawTracepoint, None),
    (P::RawTracepointWritable, None),
    (P::PerfEvent, None),
    (P::CgroupSkb, Some(A::CgroupInetIngress)),
    (P::CgroupSkb, Some(A::CgroupInetEgress)),
    (P::CgroupSock, Some(A::CgroupInetSockCreate)),
    (P::CgroupSock, Some(A::CgroupInet4PostBind)),
    (P::CgroupSock, Some(A::CgroupInet6PostBind)),
    (P::CgroupSock, Some(A::CgroupInetSockRelease)),
    (P::CgroupSockAddr, Some(A::CgroupInet4Connect)),
    (P::CgroupSockAddr, Some(A::CgroupInet6Connect)),
    (P::CgroupSockAddr, Some(A::CgroupInet4Bind)),
    (P::CgroupSockAddr, Some(A::CgroupInet6Bind)),
    (P::CgroupSockAddr, Some(A::CgroupUdp4Sendmsg)),
    (P::CgroupSockAddr, Some(A::CgroupUdp6Recvmsg)),
    (P::CgroupSockAddr, Some(A::CgroupInet4Getpeername)),
    (P::SockOps, Some(A::CgroupSockOps)),
    (P::SkLookup, Some(A::SkLookup)),
    (P::SkMsg, Some(A::SkMsgVerdict)),
    (P::SkSkb, Some(A::SkSkbStreamVerdict)),
    (P::SkSkb, Some(A::SkSkbStreamParser)),
    (P::SkReuseport, Some(A::SkReuseportSelect)),
    (P::LwtIn, None),
    (P::LwtOut, None),
    (P::LwtXmit, None),
    (P::LwtSeg6local, None),
    (P::FlowDissector, Some(A::FlowDissector)),
    (P::CgroupSockopt, Some(A::CgroupGetsockopt)),
    (P::CgroupSockopt, Some(A::CgroupSetsockopt)),
    (P::CgroupSysctl, Some(A::CgroupSysctl)),
    (P::CgroupDevice, Some(A::CgroupDevice)),
    (P::Syscall, None),
    (P::Netfilter, Some(A::Netfilter)),
];

/// Types that see kernel objects by their BTF, and kernel functions.
const TYPED: &[&str] = &["sched_switch", "sched_process_exit", "task_newtask", "sys_enter", "netif_receive_skb"];

/// Types in which a fragment of the middle of a program is most at home.
const ORDINARY: &[(P, Option<A>)] = &[
    (P::SocketFilter, None),
    (P::Xdp, None),
    (P::SchedCls, None),
    (P::SchedCls, None),
    (P::Kprobe, None),
    (P::Tracepoint, None),
    (P::RawTracepoint, None),
    (P::PerfEvent, None),
    (P::CgroupSkb, Some(A::CgroupInetEgress)),
    (P::SockOps, Some(A::CgroupSockOps)),
    (P::Syscall, None),
];

/// Types that look sockets up.
const SOCKETS: &[(P, Option<A>)] = &[
    (P::SchedCls, None),
    (P::Xdp, None),
    (P::CgroupSockAddr, Some(A::CgroupInet4Connect)),
    (P::CgroupSkb, Some(A::CgroupInetIngress)),
    (P::SkSkb, Some(A::SkSkbStreamVerdict)),
    (P::SockOps, Some(A::CgroupSockOps)),
    (P::SkLookup, Some(A::SkLookup)),
];

/// Types that load from packets by instruction.
const INSTRUCTIONS: &[(P, Option<A>)] = &[(P::SocketFilter, None), (P::SchedCls, None), (P::SchedAct, None)];

/// Types that may take locks and start timers; the last ones may not.
const LOCKING: &[(P, Option<A>)] = &[
    (P::SchedCls, None),
    (P::Xdp, None),
    (P::CgroupSkb, Some(A::CgroupInetEgress)),
    (P::SchedAct, None),
    (P::Syscall, None),
    (P::SockOps, Some(A::CgroupSockOps)),
    (P::SchedCls, Some(A::TcxEgress)),
    (P::Kprobe, None),
];

impl Site {
    pub(crate) fn choose(family: Family, c: &mut Choices<'_>) -> Site {
        let list = match family {
            Family::Packet => PACKETS,
            Family::Context | Family::Helpers | Family::Mixed => ALL,
            Family::Sockets => SOCKETS,
            Family::Instructions if c.chance(50) => INSTRUCTIONS,
            Family::Locks | Family::Timers => LOCKING,
            Family::Objects => return Site::typed(c),
            _ if c.chance(25) => ALL,
            _ => ORDINARY,
        };
        if matches!(family, Family::Context | Family::Helpers | Family::Mixed | Family::Iterators) && c.chance(10) {
            return Site::typed(c);
        }
        let (prog_type, attach_type) = c.pick_ref(list).copied().unwrap_or((P::SocketFilter, None));
        Site { prog_type, attach_type, target: None, sleepable: prog_type == P::Syscall }
    }

    fn typed(c: &mut Choices<'_>) -> Site {
        let target = c.pick_ref(TYPED).map(|name| (*name).to_owned());
        Site { prog_type: P::Tracing, attach_type: Some(A::TraceRawTp), target, sleepable: false }
    }
}
