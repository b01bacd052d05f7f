//! The kernel's enumerations as Rust enums: one row a value, with its number, the kernel's name, the name people type
//! and the kernel it came with.
//!
//! ```
//! use skep_abi::{KernelVersion, MapType};
//! assert_eq!(MapType::from_name("ringbuf"), Some(MapType::Ringbuf));
//! assert_eq!(MapType::Ringbuf.since(), KernelVersion::new(5, 8));
//! ```
//!
//! Source: `include/uapi/linux/bpf.h`. A number that is not in a table is a value of a newer kernel:
//! `from_u32` then gives `None`, never a guess.

use crate::KernelVersion;

macro_rules! kernel_enum {
    ($(#[$doc:meta])* $name:ident {
        $($variant:ident = $number:literal, $kernel:literal, $short:literal, since ($major:literal, $minor:literal);)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum $name { $(#[doc = concat!("`", $kernel, "`")] $variant = $number,)* }

        impl $name {
            /// Every value known here, in the order of the kernel's numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The value with this number, `None` for one that is not known here.
            pub fn from_u32(number: u32) -> Option<Self> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }

            /// The number that bpf(2) takes.
            pub fn as_u32(self) -> u32 { self as u32 }

            /// The name in `linux/bpf.h`, such as `BPF_MAP_TYPE_HASH`.
            pub fn kernel_name(self) -> &'static str {
                match self { $($name::$variant => $kernel,)* }
            }

            /// The name that people type and that libbpf and bpftool print: the kernel's name in lower case
            /// without its prefix, such as `percpu_hash` or `cgroup_inet4_connect`.
            pub fn short_name(self) -> &'static str {
                match self { $($name::$variant => $short,)* }
            }

            /// The first kernel whose headers have this value. A kernel that was built without the option it
            /// needs still refuses it, so this is the lower bound for a hint, never the answer to "can I use it".
            pub fn since(self) -> KernelVersion {
                match self { $($name::$variant => KernelVersion::new($major, $minor),)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.short_name()) }
        }
    };
}

macro_rules! plain_from_name {
    ($($name:ident)*) => { $(
        impl $name {
            /// The value with this short name or kernel name (case does not matter in the latter).
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.short_name() == name || v.kernel_name().eq_ignore_ascii_case(name))
            }
        }
    )* };
}

plain_from_name! { MapType LinkType Command }

impl ProgramType {
    /// The program type with this short name, kernel name, or the word that `bpftool prog load ... type WORD` takes
    /// where that word names a type alone (`socket`, `classifier`, `action`, `cgroup/skb`, `sockops` ...).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|v| v.short_name() == name || v.kernel_name().eq_ignore_ascii_case(name))
            .or_else(|| PROGRAM_TYPE_WORDS.iter().find(|(word, _)| *word == name).map(|&(_, v)| v))
    }
}

/// Other words for program types, as section prefixes and bpftool's arguments have them.
static PROGRAM_TYPE_WORDS: &[(&str, ProgramType)] = &[
    ("socket", ProgramType::SocketFilter),
    ("kretprobe", ProgramType::Kprobe),
    ("uprobe", ProgramType::Kprobe),
    ("uretprobe", ProgramType::Kprobe),
    ("classifier", ProgramType::SchedCls),
    ("tc", ProgramType::SchedCls),
    ("tcx", ProgramType::SchedCls),
    ("action", ProgramType::SchedAct),
    ("raw_tp", ProgramType::RawTracepoint),
    ("tp", ProgramType::Tracepoint),
    ("cgroup/skb", ProgramType::CgroupSkb),
    ("cgroup/sock", ProgramType::CgroupSock),
    ("cgroup/dev", ProgramType::CgroupDevice),
    ("cgroup/sysctl", ProgramType::CgroupSysctl),
    ("sockops", ProgramType::SockOps),
    ("fentry", ProgramType::Tracing),
    ("fexit", ProgramType::Tracing),
    ("fmod_ret", ProgramType::Tracing),
    ("iter", ProgramType::Tracing),
    ("tp_btf", ProgramType::Tracing),
    ("freplace", ProgramType::Ext),
];

impl AttachType {
    /// The attach type with this short name, kernel name or [`word`](Self::word).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|v| v.short_name() == name || v.word() == name || v.kernel_name().eq_ignore_ascii_case(name))
    }

    /// The shorter word that bpftool takes as an argument (`connect4`, `ingress`, `mod_ret`); the short name where
    /// bpftool has no word of its own. Source: `tools/bpf/bpftool/common.c`.
    pub fn word(self) -> &'static str {
        ATTACH_TYPE_WORDS.iter().find(|(v, _)| *v == self).map_or_else(|| self.short_name(), |&(_, word)| word)
    }
}

static ATTACH_TYPE_WORDS: &[(AttachType, &str)] = &[
    (AttachType::CgroupInetIngress, "ingress"),
    (AttachType::CgroupInetEgress, "egress"),
    (AttachType::CgroupInetSockCreate, "sock_create"),
    (AttachType::CgroupInetSockRelease, "sock_release"),
    (AttachType::CgroupSockOps, "sock_ops"),
    (AttachType::CgroupDevice, "device"),
    (AttachType::CgroupInet4Bind, "bind4"),
    (AttachType::CgroupInet6Bind, "bind6"),
    (AttachType::CgroupInet4Connect, "connect4"),
    (AttachType::CgroupInet6Connect, "connect6"),
    (AttachType::CgroupInet4PostBind, "post_bind4"),
    (AttachType::CgroupInet6PostBind, "post_bind6"),
    (AttachType::CgroupInet4Getpeername, "getpeername4"),
    (AttachType::CgroupInet6Getpeername, "getpeername6"),
    (AttachType::CgroupInet4Getsockname, "getsockname4"),
    (AttachType::CgroupInet6Getsockname, "getsockname6"),
    (AttachType::CgroupUdp4Sendmsg, "sendmsg4"),
    (AttachType::CgroupUdp6Sendmsg, "sendmsg6"),
    (AttachType::CgroupSysctl, "sysctl"),
    (AttachType::CgroupUdp4Recvmsg, "recvmsg4"),
    (AttachType::CgroupUdp6Recvmsg, "recvmsg6"),
    (AttachType::CgroupGetsockopt, "getsockopt"),
    (AttachType::CgroupSetsockopt, "setsockopt"),
    (AttachType::TraceRawTp, "raw_tp"),
    (AttachType::TraceFentry, "fentry"),
    (AttachType::TraceFexit, "fexit"),
    (AttachType::ModifyReturn, "mod_ret"),
    (AttachType::SkReuseportSelect, "sk_skb_reuseport_select"),
    (AttachType::SkReuseportSelectOrMigrate, "sk_skb_reuseport_select_or_migrate"),
];

kernel_enum! {
    /// What a program is loaded as: decides its context, its helpers and where it may be attached. Source: `enum bpf_prog_type`.
    ProgramType {
        Unspec = 0, "BPF_PROG_TYPE_UNSPEC", "unspec", since (3, 18);
        SocketFilter = 1, "BPF_PROG_TYPE_SOCKET_FILTER", "socket_filter", since (3, 19);
        Kprobe = 2, "BPF_PROG_TYPE_KPROBE", "kprobe", since (4, 1);
        SchedCls = 3, "BPF_PROG_TYPE_SCHED_CLS", "sched_cls", since (4, 1);
        SchedAct = 4, "BPF_PROG_TYPE_SCHED_ACT", "sched_act", since (4, 1);
        Tracepoint = 5, "BPF_PROG_TYPE_TRACEPOINT", "tracepoint", since (4, 7);
        Xdp = 6, "BPF_PROG_TYPE_XDP", "xdp", since (4, 8);
        PerfEvent = 7, "BPF_PROG_TYPE_PERF_EVENT", "perf_event", since (4, 9);
        CgroupSkb = 8, "BPF_PROG_TYPE_CGROUP_SKB", "cgroup_skb", since (4, 10);
        CgroupSock = 9, "BPF_PROG_TYPE_CGROUP_SOCK", "cgroup_sock", since (4, 10);
        LwtIn = 10, "BPF_PROG_TYPE_LWT_IN", "lwt_in", since (4, 10);
        LwtOut = 11, "BPF_PROG_TYPE_LWT_OUT", "lwt_out", since (4, 10);
        LwtXmit = 12, "BPF_PROG_TYPE_LWT_XMIT", "lwt_xmit", since (4, 10);
        SockOps = 13, "BPF_PROG_TYPE_SOCK_OPS", "sock_ops", since (4, 13);
        SkSkb = 14, "BPF_PROG_TYPE_SK_SKB", "sk_skb", since (4, 14);
        CgroupDevice = 15, "BPF_PROG_TYPE_CGROUP_DEVICE", "cgroup_device", since (4, 15);
        SkMsg = 16, "BPF_PROG_TYPE_SK_MSG", "sk_msg", since (4, 17);
        RawTracepoint = 17, "BPF_PROG_TYPE_RAW_TRACEPOINT", "raw_tracepoint", since (4, 17);
        CgroupSockAddr = 18, "BPF_PROG_TYPE_CGROUP_SOCK_ADDR", "cgroup_sock_addr", since (4, 17);
        LwtSeg6local = 19, "BPF_PROG_TYPE_LWT_SEG6LOCAL", "lwt_seg6local", since (4, 18);
        LircMode2 = 20, "BPF_PROG_TYPE_LIRC_MODE2", "lirc_mode2", since (4, 18);
        SkReuseport = 21, "BPF_PROG_TYPE_SK_REUSEPORT", "sk_reuseport", since (4, 19);
        FlowDissector = 22, "BPF_PROG_TYPE_FLOW_DISSECTOR", "flow_dissector", since (4, 20);
        CgroupSysctl = 23, "BPF_PROG_TYPE_CGROUP_SYSCTL", "cgroup_sysctl", since (5, 2);
        RawTracepointWritable = 24, "BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE", "raw_tracepoint_writable", since (5, 2);
        CgroupSockopt = 25, "BPF_PROG_TYPE_CGROUP_SOCKOPT", "cgroup_sockopt", since (5, 3);
        Tracing = 26, "BPF_PROG_TYPE_TRACING", "tracing", since (5, 5);
        StructOps = 27, "BPF_PROG_TYPE_STRUCT_OPS", "struct_ops", since (5, 6);
        Ext = 28, "BPF_PROG_TYPE_EXT", "ext", since (5, 6);
        Lsm = 29, "BPF_PROG_TYPE_LSM", "lsm", since (5, 7);
        SkLookup = 30, "BPF_PROG_TYPE_SK_LOOKUP", "sk_lookup", since (5, 9);
        Syscall = 31, "BPF_PROG_TYPE_SYSCALL", "syscall", since (5, 14);
        Netfilter = 32, "BPF_PROG_TYPE_NETFILTER", "netfilter", since (6, 4);
    }
}

kernel_enum! {
    /// Where a program of its type is attached. Source: `enum bpf_attach_type`.
    AttachType {
        CgroupInetIngress = 0, "BPF_CGROUP_INET_INGRESS", "cgroup_inet_ingress", since (4, 10);
        CgroupInetEgress = 1, "BPF_CGROUP_INET_EGRESS", "cgroup_inet_egress", since (4, 10);
        CgroupInetSockCreate = 2, "BPF_CGROUP_INET_SOCK_CREATE", "cgroup_inet_sock_create", since (4, 10);
        CgroupSockOps = 3, "BPF_CGROUP_SOCK_OPS", "cgroup_sock_ops", since (4, 13);
        SkSkbStreamParser = 4, "BPF_SK_SKB_STREAM_PARSER", "sk_skb_stream_parser", since (4, 14);
        SkSkbStreamVerdict = 5, "BPF_SK_SKB_STREAM_VERDICT", "sk_skb_stream_verdict", since (4, 14);
        CgroupDevice = 6, "BPF_CGROUP_DEVICE", "cgroup_device", since (4, 15);
        SkMsgVerdict = 7, "BPF_SK_MSG_VERDICT", "sk_msg_verdict", since (4, 17);
        CgroupInet4Bind = 8, "BPF_CGROUP_INET4_BIND", "cgroup_inet4_bind", since (4, 17);
        CgroupInet6Bind = 9, "BPF_CGROUP_INET6_BIND", "cgroup_inet6_bind", since (4, 17);
        CgroupInet4Connect = 10, "BPF_CGROUP_INET4_CONNECT", "cgroup_inet4_connect", since (4, 17);
        CgroupInet6Connect = 11, "BPF_CGROUP_INET6_CONNECT", "cgroup_inet6_connect", since (4, 17);
        CgroupInet4PostBind = 12, "BPF_CGROUP_INET4_POST_BIND", "cgroup_inet4_post_bind", since (4, 17);
        CgroupInet6PostBind = 13, "BPF_CGROUP_INET6_POST_BIND", "cgroup_inet6_post_bind", since (4, 17);
        CgroupUdp4Sendmsg = 14, "BPF_CGROUP_UDP4_SENDMSG", "cgroup_udp4_sendmsg", since (4, 18);
        CgroupUdp6Sendmsg = 15, "BPF_CGROUP_UDP6_SENDMSG", "cgroup_udp6_sendmsg", since (4, 18);
        LircMode2 = 16, "BPF_LIRC_MODE2", "lirc_mode2", since (4, 18);
        FlowDissector = 17, "BPF_FLOW_DISSECTOR", "flow_dissector", since (4, 20);
        CgroupSysctl = 18, "BPF_CGROUP_SYSCTL", "cgroup_sysctl", since (5, 2);
        CgroupUdp4Recvmsg = 19, "BPF_CGROUP_UDP4_RECVMSG", "cgroup_udp4_recvmsg", since (5, 2);
        CgroupUdp6Recvmsg = 20, "BPF_CGROUP_UDP6_RECVMSG", "cgroup_udp6_recvmsg", since (5, 2);
        CgroupGetsockopt = 21, "BPF_CGROUP_GETSOCKOPT", "cgroup_getsockopt", since (5, 3);
        CgroupSetsockopt = 22, "BPF_CGROUP_SETSOCKOPT", "cgroup_setsockopt", since (5, 3);
        TraceRawTp = 23, "BPF_TRACE_RAW_TP", "trace_raw_tp", since (5, 5);
        TraceFentry = 24, "BPF_TRACE_FENTRY", "trace_fentry", since (5, 5);
        TraceFexit = 25, "BPF_TRACE_FEXIT", "trace_fexit", since (5, 5);
        ModifyReturn = 26, "BPF_MODIFY_RETURN", "modify_return", since (5, 7);
        LsmMac = 27, "BPF_LSM_MAC", "lsm_mac", since (5, 7);
        TraceIter = 28, "BPF_TRACE_ITER", "trace_iter", since (5, 8);
        CgroupInet4Getpeername = 29, "BPF_CGROUP_INET4_GETPEERNAME", "cgroup_inet4_getpeername", since (5, 8);
        CgroupInet6Getpeername = 30, "BPF_CGROUP_INET6_GETPEERNAME", "cgroup_inet6_getpeername", since (5, 8);
        CgroupInet4Getsockname = 31, "BPF_CGROUP_INET4_GETSOCKNAME", "cgroup_inet4_getsockname", since (5, 8);
        CgroupInet6Getsockname = 32, "BPF_CGROUP_INET6_GETSOCKNAME", "cgroup_inet6_getsockname", since (5, 8);
        XdpDevmap = 33, "BPF_XDP_DEVMAP", "xdp_devmap", since (5, 8);
        CgroupInetSockRelease = 34, "BPF_CGROUP_INET_SOCK_RELEASE", "cgroup_inet_sock_release", since (5, 9);
        XdpCpumap = 35, "BPF_XDP_CPUMAP", "xdp_cpumap", since (5, 9);
        SkLookup = 36, "BPF_SK_LOOKUP", "sk_lookup", since (5, 9);
        Xdp = 37, "BPF_XDP", "xdp", since (5, 9);
        SkSkbVerdict = 38, "BPF_SK_SKB_VERDICT", "sk_skb_verdict", since (5, 13);
        SkReuseportSelect = 39, "BPF_SK_REUSEPORT_SELECT", "sk_reuseport_select", since (5, 14);
        SkReuseportSelectOrMigrate = 40, "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", "sk_reuseport_select_or_migrate", since (5, 14);
        PerfEvent = 41, "BPF_PERF_EVENT", "perf_event", since (5, 15);
        TraceKprobeMulti = 42, "BPF_TRACE_KPROBE_MULTI", "trace_kprobe_multi", since (5, 18);
        LsmCgroup = 43, "BPF_LSM_CGROUP", "lsm_cgroup", since (6, 0);
        StructOps = 44, "BPF_STRUCT_OPS", "struct_ops", since (6, 4);
        Netfilter = 45, "BPF_NETFILTER", "netfilter", since (6, 4);
        TcxIngress = 46, "BPF_TCX_INGRESS", "tcx_ingress", since (6, 6);
        TcxEgress = 47, "BPF_TCX_EGRESS", "tcx_egress", since (6, 6);
        TraceUprobeMulti = 48, "BPF_TRACE_UPROBE_MULTI", "trace_uprobe_multi", since (6, 6);
        CgroupUnixConnect = 49, "BPF_CGROUP_UNIX_CONNECT", "cgroup_unix_connect", since (6, 7);
        CgroupUnixSendmsg = 50, "BPF_CGROUP_UNIX_SENDMSG", "cgroup_unix_sendmsg", since (6, 7);
        CgroupUnixRecvmsg = 51, "BPF_CGROUP_UNIX_RECVMSG", "cgroup_unix_recvmsg", since (6, 7);
        CgroupUnixGetpeername = 52, "BPF_CGROUP_UNIX_GETPEERNAME", "cgroup_unix_getpeername", since (6, 7);
        CgroupUnixGetsockname = 53, "BPF_CGROUP_UNIX_GETSOCKNAME", "cgroup_unix_getsockname", since (6, 7);
        NetkitPrimary = 54, "BPF_NETKIT_PRIMARY", "netkit_primary", since (6, 7);
        NetkitPeer = 55, "BPF_NETKIT_PEER", "netkit_peer", since (6, 7);
        TraceKprobeSession = 56, "BPF_TRACE_KPROBE_SESSION", "trace_kprobe_session", since (6, 10);
        TraceUprobeSession = 57, "BPF_TRACE_UPROBE_SESSION", "trace_uprobe_session", since (6, 13);
        TraceFsession = 58, "BPF_TRACE_FSESSION", "trace_fsession", since (7, 0);
        TraceFentryMulti = 59, "BPF_TRACE_FENTRY_MULTI", "trace_fentry_multi", since (7, 2);
        TraceFexitMulti = 60, "BPF_TRACE_FEXIT_MULTI", "trace_fexit_multi", since (7, 2);
        TraceFsessionMulti = 61, "BPF_TRACE_FSESSION_MULTI", "trace_fsession_multi", since (7, 2);
    }
}

kernel_enum! {
    /// What kind of map. Source: `enum bpf_map_type`.
    MapType {
        Unspec = 0, "BPF_MAP_TYPE_UNSPEC", "unspec", since (3, 18);
        Hash = 1, "BPF_MAP_TYPE_HASH", "hash", since (3, 19);
        Array = 2, "BPF_MAP_TYPE_ARRAY", "array", since (3, 19);
        ProgArray = 3, "BPF_MAP_TYPE_PROG_ARRAY", "prog_array", since (4, 2);
        PerfEventArray = 4, "BPF_MAP_TYPE_PERF_EVENT_ARRAY", "perf_event_array", since (4, 3);
        PercpuHash = 5, "BPF_MAP_TYPE_PERCPU_HASH", "percpu_hash", since (4, 6);
        PercpuArray = 6, "BPF_MAP_TYPE_PERCPU_ARRAY", "percpu_array", since (4, 6);
        StackTrace = 7, "BPF_MAP_TYPE_STACK_TRACE", "stack_trace", since (4, 6);
        CgroupArray = 8, "BPF_MAP_TYPE_CGROUP_ARRAY", "cgroup_array", since (4, 8);
        LruHash = 9, "BPF_MAP_TYPE_LRU_HASH", "lru_hash", since (4, 10);
        LruPercpuHash = 10, "BPF_MAP_TYPE_LRU_PERCPU_HASH", "lru_percpu_hash", since (4, 10);
        LpmTrie = 11, "BPF_MAP_TYPE_LPM_TRIE", "lpm_trie", since (4, 11);
        ArrayOfMaps = 12, "BPF_MAP_TYPE_ARRAY_OF_MAPS", "array_of_maps", since (4, 12);
        HashOfMaps = 13, "BPF_MAP_TYPE_HASH_OF_MAPS", "hash_of_maps", since (4, 12);
        Devmap = 14, "BPF_MAP_TYPE_DEVMAP", "devmap", since (4, 14);
        Sockmap = 15, "BPF_MAP_TYPE_SOCKMAP", "sockmap", since (4, 14);
        Cpumap = 16, "BPF_MAP_TYPE_CPUMAP", "cpumap", since (4, 15);
        Xskmap = 17, "BPF_MAP_TYPE_XSKMAP", "xskmap", since (4, 18);
        Sockhash = 18, "BPF_MAP_TYPE_SOCKHASH", "sockhash", since (4, 18);
        CgroupStorage = 19, "BPF_MAP_TYPE_CGROUP_STORAGE", "cgroup_storage", since (4, 19);
        ReuseportSockarray = 20, "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", "reuseport_sockarray", since (4, 19);
        PercpuCgroupStorage = 21, "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE", "percpu_cgroup_storage", since (4, 20);
        Queue = 22, "BPF_MAP_TYPE_QUEUE", "queue", since (4, 20);
        Stack = 23, "BPF_MAP_TYPE_STACK", "stack", since (4, 20);
        SkStorage = 24, "BPF_MAP_TYPE_SK_STORAGE", "sk_storage", since (5, 2);
        DevmapHash = 25, "BPF_MAP_TYPE_DEVMAP_HASH", "devmap_hash", since (5, 4);
        StructOps = 26, "BPF_MAP_TYPE_STRUCT_OPS", "struct_ops", since (5, 6);
        Ringbuf = 27, "BPF_MAP_TYPE_RINGBUF", "ringbuf", since (5, 8);
        InodeStorage = 28, "BPF_MAP_TYPE_INODE_STORAGE", "inode_storage", since (5, 10);
        TaskStorage = 29, "BPF_MAP_TYPE_TASK_STORAGE", "task_storage", since (5, 11);
        BloomFilter = 30, "BPF_MAP_TYPE_BLOOM_FILTER", "bloom_filter", since (5, 16);
        UserRingbuf = 31, "BPF_MAP_TYPE_USER_RINGBUF", "user_ringbuf", since (6, 1);
        CgrpStorage = 32, "BPF_MAP_TYPE_CGRP_STORAGE", "cgrp_storage", since (6, 2);
        Arena = 33, "BPF_MAP_TYPE_ARENA", "arena", since (6, 9);
        InsnArray = 34, "BPF_MAP_TYPE_INSN_ARRAY", "insn_array", since (6, 19);
        Rhash = 35, "BPF_MAP_TYPE_RHASH", "rhash", since (7, 2);
    }
}

kernel_enum! {
    /// What kind of link the kernel holds. Source: `enum bpf_link_type`.
    LinkType {
        Unspec = 0, "BPF_LINK_TYPE_UNSPEC", "unspec", since (5, 7);
        RawTracepoint = 1, "BPF_LINK_TYPE_RAW_TRACEPOINT", "raw_tracepoint", since (5, 7);
        Tracing = 2, "BPF_LINK_TYPE_TRACING", "tracing", since (5, 7);
        Cgroup = 3, "BPF_LINK_TYPE_CGROUP", "cgroup", since (5, 7);
        Iter = 4, "BPF_LINK_TYPE_ITER", "iter", since (5, 8);
        Netns = 5, "BPF_LINK_TYPE_NETNS", "netns", since (5, 8);
        Xdp = 6, "BPF_LINK_TYPE_XDP", "xdp", since (5, 9);
        PerfEvent = 7, "BPF_LINK_TYPE_PERF_EVENT", "perf_event", since (5, 15);
        KprobeMulti = 8, "BPF_LINK_TYPE_KPROBE_MULTI", "kprobe_multi", since (5, 18);
        StructOps = 9, "BPF_LINK_TYPE_STRUCT_OPS", "struct_ops", since (5, 19);
        Netfilter = 10, "BPF_LINK_TYPE_NETFILTER", "netfilter", since (6, 4);
        Tcx = 11, "BPF_LINK_TYPE_TCX", "tcx", since (6, 6);
        UprobeMulti = 12, "BPF_LINK_TYPE_UPROBE_MULTI", "uprobe_multi", since (6, 6);
        Netkit = 13, "BPF_LINK_TYPE_NETKIT", "netkit", since (6, 7);
        Sockmap = 14, "BPF_LINK_TYPE_SOCKMAP", "sockmap", since (6, 10);
        TracingMulti = 15, "BPF_LINK_TYPE_TRACING_MULTI", "tracing_multi", since (7, 2);
    }
}

kernel_enum! {
    /// The commands of bpf(2). Source: `enum bpf_cmd`.
    Command {
        MapCreate = 0, "BPF_MAP_CREATE", "map_create", since (3, 18);
        MapLookupElem = 1, "BPF_MAP_LOOKUP_ELEM", "map_lookup_elem", since (3, 18);
        MapUpdateElem = 2, "BPF_MAP_UPDATE_ELEM", "map_update_elem", since (3, 18);
        MapDeleteElem = 3, "BPF_MAP_DELETE_ELEM", "map_delete_elem", since (3, 18);
        MapGetNextKey = 4, "BPF_MAP_GET_NEXT_KEY", "map_get_next_key", since (3, 18);
        ProgLoad = 5, "BPF_PROG_LOAD", "prog_load", since (3, 18);
        ObjPin = 6, "BPF_OBJ_PIN", "obj_pin", since (4, 4);
        ObjGet = 7, "BPF_OBJ_GET", "obj_get", since (4, 4);
        ProgAttach = 8, "BPF_PROG_ATTACH", "prog_attach", since (4, 10);
        ProgDetach = 9, "BPF_PROG_DETACH", "prog_detach", since (4, 10);
        ProgTestRun = 10, "BPF_PROG_TEST_RUN", "prog_test_run", since (4, 12);
        ProgGetNextId = 11, "BPF_PROG_GET_NEXT_ID", "prog_get_next_id", since (4, 13);
        MapGetNextId = 12, "BPF_MAP_GET_NEXT_ID", "map_get_next_id", since (4, 13);
        ProgGetFdById = 13, "BPF_PROG_GET_FD_BY_ID", "prog_get_fd_by_id", since (4, 13);
        MapGetFdById = 14, "BPF_MAP_GET_FD_BY_ID", "map_get_fd_by_id", since (4, 13);
        ObjGetInfoByFd = 15, "BPF_OBJ_GET_INFO_BY_FD", "obj_get_info_by_fd", since (4, 13);
        ProgQuery = 16, "BPF_PROG_QUERY", "prog_query", since (4, 15);
        RawTracepointOpen = 17, "BPF_RAW_TRACEPOINT_OPEN", "raw_tracepoint_open", since (4, 17);
        BtfLoad = 18, "BPF_BTF_LOAD", "btf_load", since (4, 18);
        BtfGetFdById = 19, "BPF_BTF_GET_FD_BY_ID", "btf_get_fd_by_id", since (4, 18);
        TaskFdQuery = 20, "BPF_TASK_FD_QUERY", "task_fd_query", since (4, 18);
        MapLookupAndDeleteElem = 21, "BPF_MAP_LOOKUP_AND_DELETE_ELEM", "map_lookup_and_delete_elem", since (4, 20);
        MapFreeze = 22, "BPF_MAP_FREEZE", "map_freeze", since (5, 2);
        BtfGetNextId = 23, "BPF_BTF_GET_NEXT_ID", "btf_get_next_id", since (5, 4);
        MapLookupBatch = 24, "BPF_MAP_LOOKUP_BATCH", "map_lookup_batch", since (5, 6);
        MapLookupAndDeleteBatch = 25, "BPF_MAP_LOOKUP_AND_DELETE_BATCH", "map_lookup_and_delete_batch", since (5, 6);
        MapUpdateBatch = 26, "BPF_MAP_UPDATE_BATCH", "map_update_batch", since (5, 6);
        MapDeleteBatch = 27, "BPF_MAP_DELETE_BATCH", "map_delete_batch", since (5, 6);
        LinkCreate = 28, "BPF_LINK_CREATE", "link_create", since (5, 7);
        LinkUpdate = 29, "BPF_LINK_UPDATE", "link_update", since (5, 7);
        LinkGetFdById = 30, "BPF_LINK_GET_FD_BY_ID", "link_get_fd_by_id", since (5, 8);
        LinkGetNextId = 31, "BPF_LINK_GET_NEXT_ID", "link_get_next_id", since (5, 8);
        EnableStats = 32, "BPF_ENABLE_STATS", "enable_stats", since (5, 8);
        IterCreate = 33, "BPF_ITER_CREATE", "iter_create", since (5, 8);
        LinkDetach = 34, "BPF_LINK_DETACH", "link_detach", since (5, 9);
        ProgBindMap = 35, "BPF_PROG_BIND_MAP", "prog_bind_map", since (5, 10);
        TokenCreate = 36, "BPF_TOKEN_CREATE", "token_create", since (6, 9);
        ProgStreamReadByFd = 37, "BPF_PROG_STREAM_READ_BY_FD", "prog_stream_read_by_fd", since (6, 17);
        ProgAssocStructOps = 38, "BPF_PROG_ASSOC_STRUCT_OPS", "prog_assoc_struct_ops", since (6, 19);
    }
}
