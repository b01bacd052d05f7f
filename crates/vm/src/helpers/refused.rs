//! The helpers that the embedded engine does not have, and why: a program that calls one is refused when it is loaded.
//!
//! Every helper of the kernel is either in a table of this module's siblings or here; a test sees to that. Helper 12,
//! `bpf_tail_call`, is an instruction of the engine. Here, by what they are for:
//!
//! | helpers | here | not here |
//! |---|---|---|
//! | maps | look up, update, delete, push, pop, peek, per CPU, for each, tail call | storage maps, user ring buffer, redirect maps |
//! | ring buffer, perf events | all that write | reading counters |
//! | clocks, random numbers, CPU | all | |
//! | the task | ids, name, cgroup where known, its memory | its kernel objects, its stack, acting on it |
//! | text | trace_printk, trace_vprintk, snprintf, strtol, strtoul, strncmp | by BTF, to iterators |
//! | dynptrs, loops, locks | all | timers |
//! | packets | load, store, resize, checksums, VLAN, redirect as a verdict | routes, tunnels, sockets, the kernel's hash |
//! | cgroup hooks | get_retval, set_retval | sockets, sysctl |

/// Why, and the helpers that it goes for, without `bpf_`.
static REFUSED: &[(&str, &[&str])] = &[
    (
        "the kernel's sockets are not here",
        &[
            "get_socket_cookie",
            "get_socket_uid",
            "setsockopt",
            "getsockopt",
            "sk_redirect_map",
            "sock_map_update",
            "sock_ops_cb_flags_set",
            "msg_redirect_map",
            "msg_apply_bytes",
            "msg_cork_bytes",
            "msg_pull_data",
            "bind",
            "sock_hash_update",
            "msg_redirect_hash",
            "sk_redirect_hash",
            "sk_select_reuseport",
            "sk_lookup_tcp",
            "sk_lookup_udp",
            "sk_release",
            "msg_push_data",
            "msg_pop_data",
            "sk_fullsock",
            "tcp_sock",
            "get_listener_sock",
            "skc_lookup_tcp",
            "tcp_send_ack",
            "sk_assign",
            "sk_cgroup_id",
            "sk_ancestor_cgroup_id",
            "skc_to_tcp6_sock",
            "skc_to_tcp_sock",
            "skc_to_tcp_timewait_sock",
            "skc_to_tcp_request_sock",
            "skc_to_udp6_sock",
            "skc_to_unix_sock",
            "skc_to_mptcp_sock",
            "sock_from_file",
            "load_hdr_opt",
            "store_hdr_opt",
            "reserve_hdr_opt",
        ],
    ),
    (
        "the secret of its cookies is the kernel's",
        &[
            "tcp_check_syncookie",
            "tcp_gen_syncookie",
            "tcp_raw_gen_syncookie_ipv4",
            "tcp_raw_gen_syncookie_ipv6",
            "tcp_raw_check_syncookie_ipv4",
            "tcp_raw_check_syncookie_ipv6",
        ],
    ),
    (
        "routes, devices and tunnels of the machine are the kernel's",
        &[
            "skb_get_tunnel_key",
            "skb_set_tunnel_key",
            "skb_get_tunnel_opt",
            "skb_set_tunnel_opt",
            "get_route_realm",
            "skb_get_xfrm_state",
            "fib_lookup",
            "redirect_map",
            "lwt_push_encap",
            "lwt_seg6_store_bytes",
            "lwt_seg6_adjust_srh",
            "lwt_seg6_action",
            "check_mtu",
            "get_netns_cookie",
        ],
    ),
    ("its hash of a packet is the kernel's own", &["get_hash_recalc"]),
    (
        "which cgroup a packet, a task or a level stands for is not known",
        &[
            "get_cgroup_classid",
            "skb_under_cgroup",
            "current_task_under_cgroup",
            "skb_cgroup_id",
            "skb_ancestor_cgroup_id",
            "get_current_ancestor_cgroup_id",
            "skb_cgroup_classid",
        ],
    ),
    (
        "the kernel's objects have no address here",
        &[
            "get_current_task",
            "get_current_task_btf",
            "task_pt_regs",
            "find_vma",
            "copy_from_user_task",
            "skb_output",
            "xdp_output",
            "d_path",
            "ima_inode_hash",
            "ima_file_hash",
            "bprm_opts_set",
            "kptr_xchg",
        ],
    ),
    ("there are no kernel variables", &["per_cpu_ptr", "this_cpu_ptr", "kallsyms_lookup_name"]),
    ("there are no types of the kernel to show them by", &["snprintf_btf", "seq_printf_btf", "btf_find_by_name_kind"]),
    (
        "there is no stack of the kernel, and that of the task is not walked",
        &["get_stackid", "get_stack", "get_task_stack"],
    ),
    (
        "counters and branch records of the processor are the kernel's",
        &[
            "perf_event_read",
            "perf_event_read_value",
            "perf_prog_read_value",
            "read_branch_records",
            "get_branch_snapshot",
        ],
    ),
    (
        "the engine observes a task and does not act on it",
        &["probe_write_user", "override_return", "send_signal", "send_signal_thread"],
    ),
    (
        "nothing is attached to a function of the kernel here, nor with a cookie",
        &["get_func_ip", "get_func_ret", "get_attach_cookie"],
    ),
    ("there are no iterators of the kernel that it could print to", &["seq_printf", "seq_write"]),
    (
        "the embedded engine has no maps that store things beside kernel objects",
        &[
            "get_local_storage",
            "sk_storage_get",
            "sk_storage_delete",
            "inode_storage_get",
            "inode_storage_delete",
            "task_storage_get",
            "task_storage_delete",
            "cgrp_storage_get",
            "cgrp_storage_delete",
        ],
    ),
    ("the embedded engine has no user ring buffers", &["user_ringbuf_drain"]),
    ("the embedded engine has no timers", &["timer_init", "timer_set_callback", "timer_start", "timer_cancel"]),
    (
        "settings of the kernel are not here",
        &["sysctl_get_name", "sysctl_get_current_value", "sysctl_get_new_value", "sysctl_set_new_value"],
    ),
    ("there is no remote control", &["rc_repeat", "rc_keydown", "rc_pointer_rel"]),
    ("programs do not make system calls from here", &["sys_bpf", "sys_close"]),
];

/// Why the embedded engine does not have this helper (`bpf_get_stackid`); `None` for one that it has, or that is not known.
pub(crate) fn why_refused(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("bpf_").unwrap_or(name);
    REFUSED.iter().find(|(_, names)| names.contains(&name)).map(|(why, _)| *why)
}

#[cfg(test)]
mod tests {
    use super::super::{by_id, table};
    use super::*;

    #[test]
    fn every_helper_is_here_or_is_said_not_to_be() {
        const TAIL_CALL: u32 = 12;
        for helper in skep_abi::helpers::all() {
            let here = by_id(helper.id);
            assert!(
                here.is_none_or(|builtin| (builtin.id, builtin.name) == (helper.id, helper.name)),
                "{}",
                helper.name
            );
            let refused = why_refused(helper.name).is_some();
            assert_ne!(
                here.is_some() || helper.id == TAIL_CALL,
                refused,
                "{} is in both lists or in none",
                helper.name
            );
        }
        for name in REFUSED.iter().flat_map(|(_, names)| *names) {
            assert!(skep_abi::helpers::by_name(name).is_some(), "there is no helper {name}");
        }
        assert_eq!(why_refused("bpf_nothing"), None);
    }

    #[test]
    fn tables_are_sorted() {
        assert!(table::HELPERS.is_sorted_by_key(|helper| helper.id));
        assert!(table::KFUNCS.is_sorted_by_key(|function| function.name));
    }
}
