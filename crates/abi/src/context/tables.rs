//! The context structs, and what programs may do with their fields.
//!
//! Source: `include/uapi/linux/bpf.h` for the structs. What may be read and written was found by attempt on a running
//! 6.18 (a program for each program type, attach type, field and size), and a test repeats those attempts; the rules
//! themselves stand in the `*_is_valid_access` functions of `net/core/filter.c` and `kernel/bpf/cgroup.c`.

use super::{Access, Context, Field, FieldAccess, FieldKind as K};
use crate::{AttachType as A, KernelVersion, ProgramType as P};

const fn field(name: &'static str, offset: u16, size: u16, element: u8, kind: K, major: u16, minor: u16) -> Field {
    Field { name, offset, size, element, kind, since: KernelVersion::new(major, minor) }
}

const fn may(field: &'static str, reads: u8, writes: u8) -> FieldAccess {
    FieldAccess { field, reads, writes }
}

/// `struct __sk_buff`.
pub static SK_BUFF: Context = Context {
    name: "__sk_buff",
    size: 192,
    fields: &[
        field("len", 0, 4, 4, K::Scalar, 4, 1),
        field("pkt_type", 4, 4, 4, K::Scalar, 4, 1),
        field("mark", 8, 4, 4, K::Scalar, 4, 1),
        field("queue_mapping", 12, 4, 4, K::Scalar, 4, 1),
        field("protocol", 16, 4, 4, K::Scalar, 4, 1),
        field("vlan_present", 20, 4, 4, K::Scalar, 4, 1),
        field("vlan_tci", 24, 4, 4, K::Scalar, 4, 1),
        field("vlan_proto", 28, 4, 4, K::Scalar, 4, 1),
        field("priority", 32, 4, 4, K::Scalar, 4, 1),
        field("ingress_ifindex", 36, 4, 4, K::Scalar, 4, 2),
        field("ifindex", 40, 4, 4, K::Scalar, 4, 2),
        field("tc_index", 44, 4, 4, K::Scalar, 4, 2),
        field("cb", 48, 20, 4, K::Scalar, 4, 2),
        field("hash", 68, 4, 4, K::Scalar, 4, 3),
        field("tc_classid", 72, 4, 4, K::Scalar, 4, 3),
        field("data", 76, 4, 4, K::Packet, 4, 7),
        field("data_end", 80, 4, 4, K::PacketEnd, 4, 7),
        field("napi_id", 84, 4, 4, K::Scalar, 4, 12),
        field("family", 88, 4, 4, K::Scalar, 4, 14),
        field("remote_ip4", 92, 4, 4, K::Scalar, 4, 14),
        field("local_ip4", 96, 4, 4, K::Scalar, 4, 14),
        field("remote_ip6", 100, 16, 4, K::Scalar, 4, 14),
        field("local_ip6", 116, 16, 4, K::Scalar, 4, 14),
        field("remote_port", 132, 4, 4, K::Scalar, 4, 14),
        field("local_port", 136, 4, 4, K::Scalar, 4, 14),
        field("data_meta", 140, 4, 4, K::PacketMeta, 4, 15),
        field("flow_keys", 144, 8, 8, K::FlowKeys, 4, 20),
        field("tstamp", 152, 8, 8, K::Scalar, 5, 0),
        field("wire_len", 160, 4, 4, K::Scalar, 5, 0),
        field("gso_segs", 164, 4, 4, K::Scalar, 5, 1),
        field("sk", 168, 8, 8, K::SockCommonOrNull, 5, 1),
        field("gso_size", 176, 4, 4, K::Scalar, 5, 7),
        field("tstamp_type", 180, 1, 1, K::Scalar, 5, 18),
        field("hwtstamp", 184, 8, 8, K::Scalar, 5, 16),
    ],
};

/// `struct xdp_md`.
pub static XDP_MD: Context = Context {
    name: "xdp_md",
    size: 24,
    fields: &[
        field("data", 0, 4, 4, K::Packet, 4, 8),
        field("data_end", 4, 4, 4, K::PacketEnd, 4, 8),
        field("data_meta", 8, 4, 4, K::PacketMeta, 4, 15),
        field("ingress_ifindex", 12, 4, 4, K::Scalar, 4, 16),
        field("rx_queue_index", 16, 4, 4, K::Scalar, 4, 16),
        field("egress_ifindex", 20, 4, 4, K::Scalar, 5, 8),
    ],
};

/// `struct bpf_sock_addr`.
pub static BPF_SOCK_ADDR: Context = Context {
    name: "bpf_sock_addr",
    size: 72,
    fields: &[
        field("user_family", 0, 4, 4, K::Scalar, 4, 17),
        field("user_ip4", 4, 4, 4, K::Scalar, 4, 17),
        field("user_ip6", 8, 16, 4, K::Scalar, 4, 17),
        field("user_port", 24, 4, 4, K::Scalar, 4, 17),
        field("family", 28, 4, 4, K::Scalar, 4, 17),
        field("type", 32, 4, 4, K::Scalar, 4, 17),
        field("protocol", 36, 4, 4, K::Scalar, 4, 17),
        field("msg_src_ip4", 40, 4, 4, K::Scalar, 4, 18),
        field("msg_src_ip6", 44, 16, 4, K::Scalar, 4, 18),
        field("sk", 64, 8, 8, K::Sock, 5, 3),
    ],
};

/// `struct bpf_sock_ops`.
pub static BPF_SOCK_OPS: Context = Context {
    name: "bpf_sock_ops",
    size: 224,
    fields: &[
        field("op", 0, 4, 4, K::Scalar, 4, 13),
        field("args", 4, 16, 4, K::Scalar, 4, 13),
        field("reply", 4, 4, 4, K::Scalar, 4, 13),
        field("replylong", 4, 16, 4, K::Scalar, 4, 13),
        field("family", 20, 4, 4, K::Scalar, 4, 13),
        field("remote_ip4", 24, 4, 4, K::Scalar, 4, 13),
        field("local_ip4", 28, 4, 4, K::Scalar, 4, 13),
        field("remote_ip6", 32, 16, 4, K::Scalar, 4, 13),
        field("local_ip6", 48, 16, 4, K::Scalar, 4, 13),
        field("remote_port", 64, 4, 4, K::Scalar, 4, 13),
        field("local_port", 68, 4, 4, K::Scalar, 4, 13),
        field("is_fullsock", 72, 4, 4, K::Scalar, 4, 16),
        field("snd_cwnd", 76, 4, 4, K::Scalar, 4, 16),
        field("srtt_us", 80, 4, 4, K::Scalar, 4, 16),
        field("bpf_sock_ops_cb_flags", 84, 4, 4, K::Scalar, 4, 16),
        field("state", 88, 4, 4, K::Scalar, 4, 16),
        field("rtt_min", 92, 4, 4, K::Scalar, 4, 16),
        field("snd_ssthresh", 96, 4, 4, K::Scalar, 4, 16),
        field("rcv_nxt", 100, 4, 4, K::Scalar, 4, 16),
        field("snd_nxt", 104, 4, 4, K::Scalar, 4, 16),
        field("snd_una", 108, 4, 4, K::Scalar, 4, 16),
        field("mss_cache", 112, 4, 4, K::Scalar, 4, 16),
        field("ecn_flags", 116, 4, 4, K::Scalar, 4, 16),
        field("rate_delivered", 120, 4, 4, K::Scalar, 4, 16),
        field("rate_interval_us", 124, 4, 4, K::Scalar, 4, 16),
        field("packets_out", 128, 4, 4, K::Scalar, 4, 16),
        field("retrans_out", 132, 4, 4, K::Scalar, 4, 16),
        field("total_retrans", 136, 4, 4, K::Scalar, 4, 16),
        field("segs_in", 140, 4, 4, K::Scalar, 4, 16),
        field("data_segs_in", 144, 4, 4, K::Scalar, 4, 16),
        field("segs_out", 148, 4, 4, K::Scalar, 4, 16),
        field("data_segs_out", 152, 4, 4, K::Scalar, 4, 16),
        field("lost_out", 156, 4, 4, K::Scalar, 4, 16),
        field("sacked_out", 160, 4, 4, K::Scalar, 4, 16),
        field("sk_txhash", 164, 4, 4, K::Scalar, 4, 16),
        field("bytes_received", 168, 8, 8, K::Scalar, 4, 16),
        field("bytes_acked", 176, 8, 8, K::Scalar, 4, 16),
        field("sk", 184, 8, 8, K::SockOrNull, 5, 3),
        field("skb_data", 192, 8, 8, K::Packet, 5, 10),
        field("skb_data_end", 200, 8, 8, K::PacketEnd, 5, 10),
        field("skb_len", 208, 4, 4, K::Scalar, 5, 10),
        field("skb_tcp_flags", 212, 4, 4, K::Scalar, 5, 10),
        field("skb_hwtstamp", 216, 8, 8, K::Scalar, 6, 2),
    ],
};

/// `struct bpf_sk_lookup`.
pub static BPF_SK_LOOKUP: Context = Context {
    name: "bpf_sk_lookup",
    size: 72,
    fields: &[
        field("sk", 0, 8, 8, K::SockOrNull, 5, 9),
        field("cookie", 0, 8, 8, K::Scalar, 5, 13),
        field("family", 8, 4, 4, K::Scalar, 5, 9),
        field("protocol", 12, 4, 4, K::Scalar, 5, 9),
        field("remote_ip4", 16, 4, 4, K::Scalar, 5, 9),
        field("remote_ip6", 20, 16, 4, K::Scalar, 5, 9),
        field("remote_port", 36, 2, 2, K::Scalar, 5, 9),
        field("local_ip4", 40, 4, 4, K::Scalar, 5, 9),
        field("local_ip6", 44, 16, 4, K::Scalar, 5, 9),
        field("local_port", 60, 4, 4, K::Scalar, 5, 9),
        field("ingress_ifindex", 64, 4, 4, K::Scalar, 5, 17),
    ],
};

/// `struct bpf_perf_event_data`.
pub static BPF_PERF_EVENT_DATA: Context = Context {
    name: "bpf_perf_event_data",
    size: 184,
    fields: &[
        field("regs", 0, 168, 8, K::Scalar, 4, 9),
        field("sample_period", 168, 8, 8, K::Scalar, 4, 9),
        field("addr", 176, 8, 8, K::Scalar, 4, 17),
    ],
};

/// `struct sk_msg_md`.
pub static SK_MSG_MD: Context = Context {
    name: "sk_msg_md",
    size: 80,
    fields: &[
        field("data", 0, 8, 8, K::Packet, 4, 17),
        field("data_end", 8, 8, 8, K::PacketEnd, 4, 17),
        field("family", 16, 4, 4, K::Scalar, 4, 18),
        field("remote_ip4", 20, 4, 4, K::Scalar, 4, 18),
        field("local_ip4", 24, 4, 4, K::Scalar, 4, 18),
        field("remote_ip6", 28, 16, 4, K::Scalar, 4, 18),
        field("local_ip6", 44, 16, 4, K::Scalar, 4, 18),
        field("remote_port", 60, 4, 4, K::Scalar, 4, 18),
        field("local_port", 64, 4, 4, K::Scalar, 4, 18),
        field("size", 68, 4, 4, K::Scalar, 5, 0),
        field("sk", 72, 8, 8, K::Sock, 5, 8),
    ],
};

/// `struct bpf_cgroup_dev_ctx`.
pub static BPF_CGROUP_DEV_CTX: Context = Context {
    name: "bpf_cgroup_dev_ctx",
    size: 12,
    fields: &[
        field("access_type", 0, 4, 4, K::Scalar, 4, 15),
        field("major", 4, 4, 4, K::Scalar, 4, 15),
        field("minor", 8, 4, 4, K::Scalar, 4, 15),
    ],
};

/// `struct bpf_sysctl`.
pub static BPF_SYSCTL: Context = Context {
    name: "bpf_sysctl",
    size: 8,
    fields: &[field("write", 0, 4, 4, K::Scalar, 5, 2), field("file_pos", 4, 4, 4, K::Scalar, 5, 2)],
};

/// `struct bpf_sockopt`.
pub static BPF_SOCKOPT: Context = Context {
    name: "bpf_sockopt",
    size: 40,
    fields: &[
        field("sk", 0, 8, 8, K::Sock, 5, 3),
        field("optval", 8, 8, 8, K::Packet, 5, 3),
        field("optval_end", 16, 8, 8, K::PacketEnd, 5, 3),
        field("level", 24, 4, 4, K::Scalar, 5, 3),
        field("optname", 28, 4, 4, K::Scalar, 5, 3),
        field("optlen", 32, 4, 4, K::Scalar, 5, 3),
        field("retval", 36, 4, 4, K::Scalar, 5, 3),
    ],
};

/// `struct sk_reuseport_md`.
pub static SK_REUSEPORT_MD: Context = Context {
    name: "sk_reuseport_md",
    size: 56,
    fields: &[
        field("data", 0, 8, 8, K::Packet, 4, 19),
        field("data_end", 8, 8, 8, K::PacketEnd, 4, 19),
        field("len", 16, 4, 4, K::Scalar, 4, 19),
        field("eth_protocol", 20, 4, 4, K::Scalar, 4, 19),
        field("ip_protocol", 24, 4, 4, K::Scalar, 4, 19),
        field("bind_inany", 28, 4, 4, K::Scalar, 4, 19),
        field("hash", 32, 4, 4, K::Scalar, 4, 19),
        field("sk", 40, 8, 8, K::Sock, 5, 14),
        field("migrating_sk", 48, 8, 8, K::SockCommonOrNull, 5, 14),
    ],
};

/// `struct bpf_sock`.
pub static BPF_SOCK: Context = Context {
    name: "bpf_sock",
    size: 80,
    fields: &[
        field("bound_dev_if", 0, 4, 4, K::Scalar, 4, 10),
        field("family", 4, 4, 4, K::Scalar, 4, 11),
        field("type", 8, 4, 4, K::Scalar, 4, 11),
        field("protocol", 12, 4, 4, K::Scalar, 4, 11),
        field("mark", 16, 4, 4, K::Scalar, 4, 14),
        field("priority", 20, 4, 4, K::Scalar, 4, 14),
        field("src_ip4", 24, 4, 4, K::Scalar, 4, 17),
        field("src_ip6", 28, 16, 4, K::Scalar, 4, 17),
        field("src_port", 44, 4, 4, K::Scalar, 4, 17),
        field("dst_port", 48, 2, 2, K::Scalar, 5, 1),
        field("dst_ip4", 52, 4, 4, K::Scalar, 5, 1),
        field("dst_ip6", 56, 16, 4, K::Scalar, 5, 1),
        field("state", 72, 4, 4, K::Scalar, 5, 1),
        field("rx_queue_mapping", 76, 4, 4, K::Scalar, 5, 8),
    ],
};

/// `struct bpf_nf_ctx`.
pub static BPF_NF_CTX: Context = Context {
    name: "bpf_nf_ctx",
    size: 16,
    fields: &[
        field("state", 0, 8, 8, K::Kernel("nf_hook_state"), 6, 4),
        field("skb", 8, 8, 8, K::Kernel("sk_buff"), 6, 4),
    ],
};

static SK_BUFF_1: &[FieldAccess] = &[
    may("len", 7, 0),
    may("pkt_type", 7, 0),
    may("mark", 7, 0),
    may("queue_mapping", 7, 0),
    may("protocol", 7, 0),
    may("vlan_present", 7, 0),
    may("vlan_tci", 7, 0),
    may("vlan_proto", 7, 0),
    may("priority", 7, 0),
    may("ingress_ifindex", 7, 0),
    may("ifindex", 7, 0),
    may("tc_index", 7, 0),
    may("cb", 15, 15),
    may("hash", 7, 0),
    may("napi_id", 7, 0),
    may("gso_segs", 7, 0),
    may("sk", 8, 0),
    may("gso_size", 7, 0),
];

static SK_BUFF_2: &[FieldAccess] = &[
    may("len", 7, 0),
    may("pkt_type", 7, 0),
    may("mark", 7, 4),
    may("queue_mapping", 7, 4),
    may("protocol", 7, 0),
    may("vlan_present", 7, 0),
    may("vlan_tci", 7, 0),
    may("vlan_proto", 7, 0),
    may("priority", 7, 4),
    may("ingress_ifindex", 7, 0),
    may("ifindex", 7, 0),
    may("tc_index", 7, 4),
    may("cb", 15, 15),
    may("hash", 7, 0),
    may("tc_classid", 7, 4),
    may("data", 4, 0),
    may("data_end", 4, 0),
    may("napi_id", 7, 0),
    may("data_meta", 4, 0),
    may("tstamp", 8, 8),
    may("wire_len", 7, 0),
    may("gso_segs", 7, 0),
    may("sk", 8, 0),
    may("gso_size", 7, 0),
    may("tstamp_type", 1, 0),
    may("hwtstamp", 8, 0),
];

static SK_BUFF_3: &[FieldAccess] = &[
    may("len", 7, 0),
    may("pkt_type", 7, 0),
    may("mark", 7, 4),
    may("queue_mapping", 7, 0),
    may("protocol", 7, 0),
    may("vlan_present", 7, 0),
    may("vlan_tci", 7, 0),
    may("vlan_proto", 7, 0),
    may("priority", 7, 4),
    may("ingress_ifindex", 7, 0),
    may("ifindex", 7, 0),
    may("tc_index", 7, 0),
    may("cb", 15, 15),
    may("hash", 7, 0),
    may("data", 4, 0),
    may("data_end", 4, 0),
    may("napi_id", 7, 0),
    may("family", 7, 0),
    may("remote_ip4", 4, 0),
    may("local_ip4", 4, 0),
    may("remote_ip6", 4, 0),
    may("local_ip6", 4, 0),
    may("remote_port", 7, 0),
    may("local_port", 7, 0),
    may("tstamp", 8, 8),
    may("gso_segs", 7, 0),
    may("sk", 8, 0),
    may("gso_size", 7, 0),
    may("hwtstamp", 8, 0),
];

static SK_BUFF_4: &[FieldAccess] = &[
    may("len", 7, 0),
    may("pkt_type", 7, 0),
    may("mark", 7, 4),
    may("queue_mapping", 7, 0),
    may("protocol", 7, 0),
    may("vlan_present", 7, 0),
    may("vlan_tci", 7, 0),
    may("vlan_proto", 7, 0),
    may("priority", 7, 4),
    may("ingress_ifindex", 7, 0),
    may("ifindex", 7, 0),
    may("tc_index", 7, 0),
    may("cb", 15, 15),
    may("hash", 7, 0),
    may("data", 4, 0),
    may("data_end", 4, 0),
    may("napi_id", 7, 0),
    may("gso_segs", 7, 0),
    may("sk", 8, 0),
    may("gso_size", 7, 0),
];

static SK_BUFF_5: &[FieldAccess] = &[
    may("len", 7, 0),
    may("pkt_type", 7, 0),
    may("queue_mapping", 7, 0),
    may("protocol", 7, 0),
    may("vlan_present", 7, 0),
    may("vlan_tci", 7, 0),
    may("vlan_proto", 7, 0),
    may("priority", 7, 4),
    may("ingress_ifindex", 7, 0),
    may("ifindex", 7, 0),
    may("tc_index", 7, 4),
    may("cb", 15, 0),
    may("hash", 7, 0),
    may("data", 4, 0),
    may("data_end", 4, 0),
    may("napi_id", 7, 0),
    may("family", 7, 0),
    may("remote_ip4", 4, 0),
    may("local_ip4", 4, 0),
    may("remote_ip6", 4, 0),
    may("local_ip6", 4, 0),
    may("remote_port", 7, 0),
    may("local_port", 7, 0),
    may("gso_segs", 7, 0),
    may("sk", 8, 0),
    may("gso_size", 7, 0),
];

static SK_BUFF_6: &[FieldAccess] = &[may("data", 4, 0), may("data_end", 4, 0), may("flow_keys", 8, 0)];

static XDP_MD_1: &[FieldAccess] = &[
    may("data", 4, 0),
    may("data_end", 4, 0),
    may("data_meta", 4, 0),
    may("ingress_ifindex", 4, 0),
    may("rx_queue_index", 4, 0),
];

static BPF_SOCK_ADDR_1: &[FieldAccess] = &[
    may("user_family", 4, 0),
    may("user_ip4", 7, 4),
    may("user_port", 7, 4),
    may("family", 4, 0),
    may("type", 4, 0),
    may("protocol", 4, 0),
    may("sk", 8, 0),
];

static BPF_SOCK_ADDR_2: &[FieldAccess] = &[
    may("user_family", 4, 0),
    may("user_ip6", 15, 12),
    may("user_port", 7, 4),
    may("family", 4, 0),
    may("type", 4, 0),
    may("protocol", 4, 0),
    may("sk", 8, 0),
];

static BPF_SOCK_ADDR_3: &[FieldAccess] = &[
    may("user_family", 4, 0),
    may("user_ip4", 7, 4),
    may("user_port", 7, 4),
    may("family", 4, 0),
    may("type", 4, 0),
    may("protocol", 4, 0),
    may("msg_src_ip4", 7, 4),
    may("sk", 8, 0),
];

static BPF_SOCK_ADDR_4: &[FieldAccess] = &[
    may("user_family", 4, 0),
    may("user_ip6", 15, 12),
    may("user_port", 7, 4),
    may("family", 4, 0),
    may("type", 4, 0),
    may("protocol", 4, 0),
    may("msg_src_ip6", 7, 4),
    may("sk", 8, 0),
];

static BPF_SOCK_ADDR_5: &[FieldAccess] = &[
    may("user_family", 4, 0),
    may("user_port", 7, 4),
    may("family", 4, 0),
    may("type", 4, 0),
    may("protocol", 4, 0),
    may("sk", 8, 0),
];

static BPF_SOCK_OPS_1: &[FieldAccess] = &[
    may("op", 4, 0),
    may("args", 4, 4),
    may("reply", 4, 4),
    may("replylong", 4, 4),
    may("family", 4, 0),
    may("remote_ip4", 4, 0),
    may("local_ip4", 4, 0),
    may("remote_ip6", 4, 0),
    may("local_ip6", 4, 0),
    may("remote_port", 4, 0),
    may("local_port", 4, 0),
    may("is_fullsock", 4, 0),
    may("snd_cwnd", 4, 0),
    may("srtt_us", 4, 0),
    may("bpf_sock_ops_cb_flags", 4, 0),
    may("state", 4, 0),
    may("rtt_min", 4, 0),
    may("snd_ssthresh", 4, 0),
    may("rcv_nxt", 4, 0),
    may("snd_nxt", 4, 0),
    may("snd_una", 4, 0),
    may("mss_cache", 4, 0),
    may("ecn_flags", 4, 0),
    may("rate_delivered", 4, 0),
    may("rate_interval_us", 4, 0),
    may("packets_out", 4, 0),
    may("retrans_out", 4, 0),
    may("total_retrans", 4, 0),
    may("segs_in", 4, 0),
    may("data_segs_in", 4, 0),
    may("segs_out", 4, 0),
    may("data_segs_out", 4, 0),
    may("lost_out", 4, 0),
    may("sacked_out", 4, 0),
    may("sk_txhash", 4, 4),
    may("bytes_received", 8, 0),
    may("bytes_acked", 8, 0),
    may("sk", 8, 0),
    may("skb_data", 8, 0),
    may("skb_data_end", 8, 0),
    may("skb_len", 4, 0),
    may("skb_tcp_flags", 7, 0),
    may("skb_hwtstamp", 8, 0),
];

static BPF_SK_LOOKUP_1: &[FieldAccess] = &[
    may("sk", 8, 0),
    may("family", 7, 0),
    may("protocol", 7, 0),
    may("remote_ip4", 7, 0),
    may("remote_ip6", 7, 0),
    may("remote_port", 7, 0),
    may("local_ip4", 7, 0),
    may("local_ip6", 7, 0),
    may("local_port", 7, 0),
    may("ingress_ifindex", 7, 0),
];

static BPF_PERF_EVENT_DATA_1: &[FieldAccess] = &[may("regs", 8, 0), may("sample_period", 15, 0), may("addr", 15, 0)];

static SK_MSG_MD_1: &[FieldAccess] = &[
    may("data", 8, 0),
    may("data_end", 8, 0),
    may("family", 4, 0),
    may("remote_ip4", 4, 0),
    may("local_ip4", 4, 0),
    may("remote_ip6", 4, 0),
    may("local_ip6", 4, 0),
    may("remote_port", 4, 0),
    may("local_port", 4, 0),
    may("size", 4, 0),
    may("sk", 8, 0),
];

static BPF_CGROUP_DEV_CTX_1: &[FieldAccess] = &[may("access_type", 7, 0), may("major", 4, 0), may("minor", 4, 0)];

static BPF_SYSCTL_1: &[FieldAccess] = &[may("write", 7, 0), may("file_pos", 7, 4)];

static BPF_SOCKOPT_1: &[FieldAccess] = &[
    may("sk", 8, 0),
    may("optval", 8, 0),
    may("optval_end", 8, 0),
    may("level", 4, 0),
    may("optname", 4, 0),
    may("optlen", 4, 4),
    may("retval", 4, 4),
];

static BPF_SOCKOPT_2: &[FieldAccess] = &[
    may("sk", 8, 0),
    may("optval", 8, 0),
    may("optval_end", 8, 0),
    may("level", 4, 4),
    may("optname", 4, 4),
    may("optlen", 4, 4),
];

static SK_REUSEPORT_MD_1: &[FieldAccess] = &[
    may("data", 8, 0),
    may("data_end", 8, 0),
    may("len", 7, 0),
    may("eth_protocol", 6, 0),
    may("ip_protocol", 7, 0),
    may("bind_inany", 7, 0),
    may("hash", 4, 0),
    may("sk", 8, 0),
    may("migrating_sk", 8, 0),
];

static BPF_SOCK_1: &[FieldAccess] = &[
    may("bound_dev_if", 4, 4),
    may("family", 7, 0),
    may("type", 7, 0),
    may("protocol", 7, 0),
    may("mark", 4, 4),
    may("priority", 4, 4),
    may("dst_port", 7, 0),
    may("dst_ip4", 7, 0),
    may("dst_ip6", 7, 0),
    may("state", 7, 0),
    may("rx_queue_mapping", 7, 0),
];

static BPF_SOCK_2: &[FieldAccess] = &[
    may("family", 7, 0),
    may("type", 7, 0),
    may("protocol", 7, 0),
    may("src_ip4", 7, 0),
    may("src_port", 7, 0),
    may("dst_port", 7, 0),
    may("dst_ip4", 7, 0),
    may("dst_ip6", 7, 0),
    may("state", 7, 0),
    may("rx_queue_mapping", 7, 0),
];

static BPF_SOCK_3: &[FieldAccess] = &[
    may("family", 7, 0),
    may("type", 7, 0),
    may("protocol", 7, 0),
    may("src_ip6", 7, 0),
    may("src_port", 7, 0),
    may("dst_port", 7, 0),
    may("dst_ip4", 7, 0),
    may("dst_ip6", 7, 0),
    may("state", 7, 0),
    may("rx_queue_mapping", 7, 0),
];

static BPF_NF_CTX_1: &[FieldAccess] = &[may("state", 8, 0), may("skb", 8, 0)];

/// By program type, then by attach type; the first row of a type is its usual one.
pub(super) static ACCESS: &[Access] = &[
    Access { program: P::SocketFilter, attach: &[], context: &SK_BUFF, fields: SK_BUFF_1 },
    Access { program: P::SchedCls, attach: &[], context: &SK_BUFF, fields: SK_BUFF_2 },
    Access { program: P::SchedAct, attach: &[], context: &SK_BUFF, fields: SK_BUFF_2 },
    Access { program: P::Xdp, attach: &[], context: &XDP_MD, fields: XDP_MD_1 },
    Access { program: P::PerfEvent, attach: &[], context: &BPF_PERF_EVENT_DATA, fields: BPF_PERF_EVENT_DATA_1 },
    Access {
        program: P::CgroupSkb,
        attach: &[A::CgroupInetIngress, A::CgroupInetEgress],
        context: &SK_BUFF,
        fields: SK_BUFF_3,
    },
    Access {
        program: P::CgroupSock,
        attach: &[A::CgroupInetSockCreate, A::CgroupInetSockRelease],
        context: &BPF_SOCK,
        fields: BPF_SOCK_1,
    },
    Access { program: P::CgroupSock, attach: &[A::CgroupInet4PostBind], context: &BPF_SOCK, fields: BPF_SOCK_2 },
    Access { program: P::CgroupSock, attach: &[A::CgroupInet6PostBind], context: &BPF_SOCK, fields: BPF_SOCK_3 },
    Access { program: P::LwtIn, attach: &[], context: &SK_BUFF, fields: SK_BUFF_4 },
    Access { program: P::LwtOut, attach: &[], context: &SK_BUFF, fields: SK_BUFF_4 },
    Access { program: P::LwtXmit, attach: &[], context: &SK_BUFF, fields: SK_BUFF_4 },
    Access { program: P::SockOps, attach: &[], context: &BPF_SOCK_OPS, fields: BPF_SOCK_OPS_1 },
    Access { program: P::SkSkb, attach: &[], context: &SK_BUFF, fields: SK_BUFF_5 },
    Access { program: P::CgroupDevice, attach: &[], context: &BPF_CGROUP_DEV_CTX, fields: BPF_CGROUP_DEV_CTX_1 },
    Access { program: P::SkMsg, attach: &[], context: &SK_MSG_MD, fields: SK_MSG_MD_1 },
    Access {
        program: P::CgroupSockAddr,
        attach: &[
            A::CgroupInet4Bind,
            A::CgroupInet4Connect,
            A::CgroupUdp4Recvmsg,
            A::CgroupInet4Getpeername,
            A::CgroupInet4Getsockname,
        ],
        context: &BPF_SOCK_ADDR,
        fields: BPF_SOCK_ADDR_1,
    },
    Access {
        program: P::CgroupSockAddr,
        attach: &[
            A::CgroupInet6Bind,
            A::CgroupInet6Connect,
            A::CgroupUdp6Recvmsg,
            A::CgroupInet6Getpeername,
            A::CgroupInet6Getsockname,
        ],
        context: &BPF_SOCK_ADDR,
        fields: BPF_SOCK_ADDR_2,
    },
    Access {
        program: P::CgroupSockAddr,
        attach: &[A::CgroupUdp4Sendmsg],
        context: &BPF_SOCK_ADDR,
        fields: BPF_SOCK_ADDR_3,
    },
    Access {
        program: P::CgroupSockAddr,
        attach: &[A::CgroupUdp6Sendmsg],
        context: &BPF_SOCK_ADDR,
        fields: BPF_SOCK_ADDR_4,
    },
    Access {
        program: P::CgroupSockAddr,
        attach: &[
            A::CgroupUnixConnect,
            A::CgroupUnixSendmsg,
            A::CgroupUnixRecvmsg,
            A::CgroupUnixGetpeername,
            A::CgroupUnixGetsockname,
        ],
        context: &BPF_SOCK_ADDR,
        fields: BPF_SOCK_ADDR_5,
    },
    Access { program: P::LwtSeg6local, attach: &[], context: &SK_BUFF, fields: SK_BUFF_4 },
    Access { program: P::SkReuseport, attach: &[], context: &SK_REUSEPORT_MD, fields: SK_REUSEPORT_MD_1 },
    Access { program: P::FlowDissector, attach: &[], context: &SK_BUFF, fields: SK_BUFF_6 },
    Access { program: P::CgroupSysctl, attach: &[], context: &BPF_SYSCTL, fields: BPF_SYSCTL_1 },
    Access { program: P::CgroupSockopt, attach: &[A::CgroupGetsockopt], context: &BPF_SOCKOPT, fields: BPF_SOCKOPT_1 },
    Access { program: P::CgroupSockopt, attach: &[A::CgroupSetsockopt], context: &BPF_SOCKOPT, fields: BPF_SOCKOPT_2 },
    Access { program: P::SkLookup, attach: &[], context: &BPF_SK_LOOKUP, fields: BPF_SK_LOOKUP_1 },
    Access { program: P::Netfilter, attach: &[], context: &BPF_NF_CTX, fields: BPF_NF_CTX_1 },
];
