//! Types that are the same on every kernel: headers on the wire, structs of the system call interface, contexts of BPF
//! programs. A program that was compiled against a kernel's `vmlinux.h` has CO-RE records for these too; here they hold as
//! they were compiled.

use skep_btf::Btf;
use skep_object::{ProgramSpec, core};

/// Structs, unions and enums. Sources: `include/uapi/linux` and the standards that it follows.
const STABLE: &[&str] = &[
    // Headers on the wire.
    "arphdr",
    "ethhdr",
    "frag_hdr",
    "gre_base_hdr",
    "icmp6hdr",
    "icmphdr",
    "igmphdr",
    "in6_addr",
    "in_addr",
    "ip_auth_hdr",
    "ip_esp_hdr",
    "iphdr",
    "ipv6_destopt_hao",
    "ipv6_opt_hdr",
    "ipv6_rt_hdr",
    "ipv6_sr_hdr",
    "ipv6hdr",
    "rt0_hdr",
    "sctphdr",
    "tcp_word_hdr",
    "tcphdr",
    "udphdr",
    "vlan_ethhdr",
    "vlan_hdr",
    "vxlanhdr",
    // System calls.
    "__kernel_old_timeval",
    "__kernel_sockaddr_storage",
    "__kernel_timespec",
    "clone_args",
    "epoll_event",
    "flock",
    "io_uring_params",
    "iovec",
    "linux_dirent64",
    "open_how",
    "pollfd",
    "rlimit64",
    "rusage",
    "siginfo",
    "sockaddr",
    "sockaddr_in",
    "sockaddr_in6",
    "sockaddr_un",
    "stat",
    "statx",
    "statx_timestamp",
    "user_msghdr",
    // BPF's own.
    "__sk_buff",
    "bpf_attach_type",
    "bpf_cgroup_dev_ctx",
    "bpf_dynptr",
    "bpf_fib_lookup",
    "bpf_flow_keys",
    "bpf_func_id",
    "bpf_iter_bits",
    "bpf_iter_num",
    "bpf_lpm_trie_key",
    "bpf_lpm_trie_key_hdr",
    "bpf_lpm_trie_key_u8",
    "bpf_map_type",
    "bpf_perf_event_data",
    "bpf_perf_event_value",
    "bpf_pidns_info",
    "bpf_prog_type",
    "bpf_sk_lookup",
    "bpf_sock",
    "bpf_sock_addr",
    "bpf_sock_ops",
    "bpf_sock_tuple",
    "bpf_sockopt",
    "bpf_spin_lock",
    "bpf_sysctl",
    "bpf_tcp_sock",
    "bpf_timer",
    "bpf_tunnel_key",
    "bpf_xfrm_state",
    "sk_msg_md",
    "sk_reuseport_md",
    "xdp_action",
    "xdp_md",
];

/// Takes the records of stable types off a program: its instructions hold the right values as they are.
pub(crate) fn keep_as_compiled(btf: &Btf, program: &mut ProgramSpec) {
    program.core_relocs.retain(|record| {
        let name = btf.resolve(record.ty).and_then(|id| btf.name(id)).unwrap_or_default();
        !STABLE.contains(&core::essential_name(name))
    });
}
