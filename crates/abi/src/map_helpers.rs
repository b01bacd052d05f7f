//! Which helpers take which maps.
//!
//! ```
//! use skep_abi::{MapType, map_helpers};
//! assert!(map_helpers::takes("bpf_ringbuf_output", MapType::Ringbuf));
//! assert!(!map_helpers::takes("bpf_ringbuf_output", MapType::Hash));
//! assert!(!map_helpers::takes("bpf_map_update_elem", MapType::Ringbuf));
//! ```
//!
//! Both sides have a say: some map types go only with some helpers, some helpers only with some map types, and the rest
//! goes with everything. Source: `check_map_func_compatibility` in `kernel/bpf/verifier.c` (6.12).

use crate::{MapType as M, ProgramType, helpers::ProgramSet};

/// Map types that only these helpers take.
pub static ONLY_HELPERS: &[(M, &[&str])] = &[
    (M::ProgArray, &["bpf_tail_call"]),
    (
        M::PerfEventArray,
        &[
            "bpf_perf_event_read",
            "bpf_perf_event_output",
            "bpf_skb_output",
            "bpf_perf_event_read_value",
            "bpf_xdp_output",
        ],
    ),
    (
        M::Ringbuf,
        &[
            "bpf_ringbuf_output",
            "bpf_ringbuf_reserve",
            "bpf_ringbuf_query",
            "bpf_ringbuf_reserve_dynptr",
            "bpf_ringbuf_submit_dynptr",
            "bpf_ringbuf_discard_dynptr",
        ],
    ),
    (M::UserRingbuf, &["bpf_user_ringbuf_drain"]),
    (M::StackTrace, &["bpf_get_stackid"]),
    (M::CgroupArray, &["bpf_skb_under_cgroup", "bpf_current_task_under_cgroup"]),
    (M::CgroupStorage, &["bpf_get_local_storage"]),
    (M::PercpuCgroupStorage, &["bpf_get_local_storage"]),
    (M::Devmap, &["bpf_redirect_map", "bpf_map_lookup_elem"]),
    (M::DevmapHash, &["bpf_redirect_map", "bpf_map_lookup_elem"]),
    (M::Cpumap, &["bpf_redirect_map"]),
    (M::Xskmap, &["bpf_redirect_map", "bpf_map_lookup_elem"]),
    (M::ArrayOfMaps, &["bpf_map_lookup_elem"]),
    (M::HashOfMaps, &["bpf_map_lookup_elem"]),
    (
        M::Sockmap,
        &[
            "bpf_sk_redirect_map",
            "bpf_sock_map_update",
            "bpf_msg_redirect_map",
            "bpf_sk_select_reuseport",
            "bpf_map_lookup_elem",
            "bpf_map_update_elem",
            "bpf_map_delete_elem",
        ],
    ),
    (
        M::Sockhash,
        &[
            "bpf_sk_redirect_hash",
            "bpf_sock_hash_update",
            "bpf_msg_redirect_hash",
            "bpf_sk_select_reuseport",
            "bpf_map_lookup_elem",
            "bpf_map_update_elem",
            "bpf_map_delete_elem",
        ],
    ),
    (M::ReuseportSockarray, &["bpf_sk_select_reuseport"]),
    (M::Queue, &["bpf_map_peek_elem", "bpf_map_pop_elem", "bpf_map_push_elem"]),
    (M::Stack, &["bpf_map_peek_elem", "bpf_map_pop_elem", "bpf_map_push_elem"]),
    (M::SkStorage, &["bpf_sk_storage_get", "bpf_sk_storage_delete", "bpf_kptr_xchg"]),
    (M::InodeStorage, &["bpf_inode_storage_get", "bpf_inode_storage_delete", "bpf_kptr_xchg"]),
    (M::TaskStorage, &["bpf_task_storage_get", "bpf_task_storage_delete", "bpf_kptr_xchg"]),
    (M::CgrpStorage, &["bpf_cgrp_storage_get", "bpf_cgrp_storage_delete", "bpf_kptr_xchg"]),
    (M::BloomFilter, &["bpf_map_peek_elem", "bpf_map_push_elem"]),
    (M::InsnArray, &[]),
];

/// Helpers that only take these map types.
pub static ONLY_MAPS: &[(&str, &[M])] = &[
    ("bpf_tail_call", &[M::ProgArray]),
    ("bpf_perf_event_read", &[M::PerfEventArray]),
    ("bpf_perf_event_output", &[M::PerfEventArray]),
    ("bpf_perf_event_read_value", &[M::PerfEventArray]),
    ("bpf_skb_output", &[M::PerfEventArray]),
    ("bpf_xdp_output", &[M::PerfEventArray]),
    ("bpf_ringbuf_output", &[M::Ringbuf]),
    ("bpf_ringbuf_reserve", &[M::Ringbuf]),
    ("bpf_ringbuf_query", &[M::Ringbuf]),
    ("bpf_ringbuf_reserve_dynptr", &[M::Ringbuf]),
    ("bpf_ringbuf_submit_dynptr", &[M::Ringbuf]),
    ("bpf_ringbuf_discard_dynptr", &[M::Ringbuf]),
    ("bpf_user_ringbuf_drain", &[M::UserRingbuf]),
    ("bpf_get_stackid", &[M::StackTrace]),
    ("bpf_current_task_under_cgroup", &[M::CgroupArray]),
    ("bpf_skb_under_cgroup", &[M::CgroupArray]),
    ("bpf_redirect_map", &[M::Devmap, M::DevmapHash, M::Cpumap, M::Xskmap]),
    ("bpf_sk_redirect_map", &[M::Sockmap]),
    ("bpf_msg_redirect_map", &[M::Sockmap]),
    ("bpf_sock_map_update", &[M::Sockmap]),
    ("bpf_sk_redirect_hash", &[M::Sockhash]),
    ("bpf_msg_redirect_hash", &[M::Sockhash]),
    ("bpf_sock_hash_update", &[M::Sockhash]),
    ("bpf_get_local_storage", &[M::CgroupStorage, M::PercpuCgroupStorage]),
    ("bpf_sk_select_reuseport", &[M::ReuseportSockarray, M::Sockmap, M::Sockhash]),
    ("bpf_map_pop_elem", &[M::Queue, M::Stack]),
    ("bpf_map_peek_elem", &[M::Queue, M::Stack, M::BloomFilter]),
    ("bpf_map_push_elem", &[M::Queue, M::Stack, M::BloomFilter]),
    ("bpf_map_lookup_percpu_elem", &[M::PercpuArray, M::PercpuHash, M::LruPercpuHash]),
    ("bpf_sk_storage_get", &[M::SkStorage]),
    ("bpf_sk_storage_delete", &[M::SkStorage]),
    ("bpf_inode_storage_get", &[M::InodeStorage]),
    ("bpf_inode_storage_delete", &[M::InodeStorage]),
    ("bpf_task_storage_get", &[M::TaskStorage]),
    ("bpf_task_storage_delete", &[M::TaskStorage]),
    ("bpf_cgrp_storage_get", &[M::CgrpStorage]),
    ("bpf_cgrp_storage_delete", &[M::CgrpStorage]),
];

/// The program types that may put sockets into socket maps, and take them out, with the general helpers; sock_ops
/// programs may only take out, tracing programs only as iterators. Source: `may_update_sockmap`.
pub const SOCKMAP_UPDATERS: ProgramSet = ProgramSet::of(&[
    ProgramType::Tracing,
    ProgramType::SocketFilter,
    ProgramType::SchedCls,
    ProgramType::SchedAct,
    ProgramType::Xdp,
    ProgramType::SkReuseport,
    ProgramType::FlowDissector,
    ProgramType::SkLookup,
]);

/// Whether the helper with this name (`bpf_...`) takes a map of this type.
pub fn takes(helper: &str, map: M) -> bool {
    let map_agrees =
        ONLY_HELPERS.iter().find(|(kind, _)| *kind == map).is_none_or(|(_, names)| names.contains(&helper));
    let helper_agrees =
        ONLY_MAPS.iter().find(|(name, _)| *name == helper).is_none_or(|(_, kinds)| kinds.contains(&map));
    map_agrees && helper_agrees
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helpers;

    #[test]
    fn every_name_is_a_helper_and_every_pair_can_be() {
        for (kind, names) in ONLY_HELPERS {
            for name in *names {
                assert!(helpers::by_name(name).is_some(), "{name}");
                assert!(takes(name, *kind), "{name} is for {kind}, which is not for it");
            }
        }
        for (name, kinds) in ONLY_MAPS {
            assert!(helpers::by_name(name).is_some_and(|helper| helper.name == *name), "{name}");
            assert!(kinds.iter().all(|kind| takes(name, *kind)), "{name}");
        }
        assert!(takes("bpf_map_lookup_elem", M::Hash) && takes("bpf_for_each_map_elem", M::LruHash));
    }
}
