//! The kernel functions (kfuncs) that programs may call by name: `bpf_iter_num_new` <-> flags, who may call it, since when.
//!
//! ```
//! use skep_abi::{ProgramType, kfunc::KfuncFlags, kfuncs};
//! let kfunc = kfuncs::by_name("bpf_task_from_pid").expect("a known kfunc");
//! assert!(kfunc.flags.contains(KfuncFlags::ACQUIRE | KfuncFlags::RET_NULL));
//! assert!(kfunc.programs.contains(ProgramType::Tracing) && !kfunc.programs.contains(ProgramType::Kprobe));
//! ```
//!
//! What a kfunc takes and returns stands in the kernel's BTF and not here. Flags are those of 6.18; from 7.0 on
//! [`KfuncFlags::TRUSTED_ARGS`] holds for all ([`Kfunc::flags_on`]).
//!
//! Limits. The list has what the core, networking and file systems of the kernel offer; kfuncs of modules, of `sched_ext`, HID,
//! TCP congestion control and of the kernel's own tests are left out. Which program types may call is that of 6.18: earlier kernels allow the
//! same or less. Some may only from some places ([`Kfunc::places`]).
//!
//! Source: the sets `BTF_ID_FLAGS` stand in, in `kernel/bpf/helpers.c`, `kernel/bpf/cpumask.c`, `kernel/bpf/crypto.c`,
//! `kernel/trace/bpf_trace.c`, `net/core/filter.c`, `net/core/xdp.c`, `net/netfilter/nf_conntrack_bpf.c`, `fs/bpf_fs_kfuncs.c`.

use crate::helpers::ProgramSet;
use crate::kfunc::KfuncFlags;
use crate::{AttachType, KernelVersion, ProgramType};

/// A kernel function for programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kfunc {
    /// Its name.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: KernelVersion,
    /// What the kernel says of it.
    pub flags: KfuncFlags,
    /// Who may call it.
    pub programs: ProgramSet,
    /// From where only: attach types, empty for no limit.
    pub places: &'static [AttachType],
}

impl Kfunc {
    /// Its flags on that kernel.
    pub fn flags_on(&self, kernel: KernelVersion) -> KfuncFlags {
        if kernel >= KernelVersion::new(7, 0) { self.flags | KfuncFlags::TRUSTED_ARGS } else { self.flags }
    }
}

/// The kfunc of this name.
pub fn by_name(name: &str) -> Option<&'static Kfunc> {
    ALL.iter().find(|kfunc| kfunc.name == name)
}

/// All of them.
pub fn all() -> &'static [Kfunc] {
    ALL
}

const NO: u32 = 0;
const ACQ: u32 = KfuncFlags::ACQUIRE.0;
const REL: u32 = KfuncFlags::RELEASE.0;
const NULL: u32 = KfuncFlags::RET_NULL.0;
const TRUST: u32 = KfuncFlags::TRUSTED_ARGS.0;
const SLEEP: u32 = KfuncFlags::SLEEPABLE.0;
const DESTR: u32 = KfuncFlags::DESTRUCTIVE.0;
const RCU: u32 = KfuncFlags::RCU.0;
const NEW: u32 = KfuncFlags::ITER_NEW.0;
const NEXT: u32 = KfuncFlags::ITER_NEXT.0 | NULL;
const END: u32 = KfuncFlags::ITER_DESTROY.0;
const IN_RCU: u32 = KfuncFlags::RCU_PROTECTED.0;
const FAST: u32 = KfuncFlags::FASTCALL.0;
const ARENA: u32 = KfuncFlags::ARENA_RET.0 | KfuncFlags::ARENA_ARG2.0;

/// A set that the kernel registers for one of these is seen by all types of the group (`bpf_prog_type_to_kfunc_hook`).
const TRACING: ProgramSet =
    ProgramSet::of(&[ProgramType::Tracing, ProgramType::Tracepoint, ProgramType::PerfEvent, ProgramType::Lsm]);
const CGROUP: ProgramSet = ProgramSet::of(&[
    ProgramType::CgroupSkb,
    ProgramType::CgroupSock,
    ProgramType::CgroupDevice,
    ProgramType::CgroupSockAddr,
    ProgramType::CgroupSockopt,
    ProgramType::CgroupSysctl,
    ProgramType::SockOps,
]);
const LWT: ProgramSet =
    ProgramSet::of(&[ProgramType::LwtIn, ProgramType::LwtOut, ProgramType::LwtXmit, ProgramType::LwtSeg6local]);
const XDP: ProgramSet = ProgramSet::of(&[ProgramType::Xdp]);
const TC: ProgramSet = ProgramSet::of(&[ProgramType::SchedCls]);
const TC_ACT: ProgramSet = TC.or(ProgramSet::of(&[ProgramType::SchedAct]));
const SYSCALL: ProgramSet = ProgramSet::of(&[ProgramType::Syscall]);
const OPS: ProgramSet = ProgramSet::of(&[ProgramType::StructOps]);
const LSM: ProgramSet = ProgramSet::of(&[ProgramType::Lsm]);
const KPROBE: ProgramSet = ProgramSet::of(&[ProgramType::Kprobe]);
const ANY: ProgramSet = ProgramSet::of(ProgramType::ALL);
const GENERIC: ProgramSet = TRACING.or(TC).or(XDP).or(OPS).or(SYSCALL).or(CGROUP);
const MASKS: ProgramSet = TRACING.or(OPS).or(SYSCALL);
const SKB: ProgramSet = TC_ACT.or(TRACING).or(CGROUP).or(LWT).or(ProgramSet::of(&[
    ProgramType::SkSkb,
    ProgramType::SocketFilter,
    ProgramType::Netfilter,
]));
const CONNTRACK: ProgramSet = XDP.or(TC);
const CRYPTO: ProgramSet = TC_ACT.or(XDP);
const SOCK_ADDR: ProgramSet = CGROUP;
const SOCK_OPS: ProgramSet = CGROUP;

const fn k(name: &'static str, since: (u16, u16), flags: u32, programs: ProgramSet) -> Kfunc {
    Kfunc { name, since: KernelVersion::new(since.0, since.1), flags: KfuncFlags(flags), programs, places: &[] }
}

const fn at(kfunc: Kfunc, places: &'static [AttachType]) -> Kfunc {
    Kfunc { places, ..kfunc }
}

const SESSION: &[AttachType] = &[AttachType::TraceKprobeSession, AttachType::TraceUprobeSession];

static ALL: &[Kfunc] = &[
    // Objects of the program's own, lists, trees.
    k("bpf_obj_new_impl", (6, 2), ACQ | NULL, GENERIC),
    k("bpf_percpu_obj_new_impl", (6, 7), ACQ | NULL, GENERIC),
    k("bpf_obj_drop_impl", (6, 2), REL, GENERIC),
    k("bpf_percpu_obj_drop_impl", (6, 7), REL, GENERIC),
    k("bpf_refcount_acquire_impl", (6, 4), ACQ | NULL | RCU, GENERIC),
    k("bpf_list_push_front_impl", (6, 4), NO, GENERIC),
    k("bpf_list_push_back_impl", (6, 4), NO, GENERIC),
    k("bpf_list_pop_front", (6, 2), ACQ | NULL, GENERIC),
    k("bpf_list_pop_back", (6, 2), ACQ | NULL, GENERIC),
    k("bpf_list_front", (6, 16), NULL, GENERIC),
    k("bpf_list_back", (6, 16), NULL, GENERIC),
    k("bpf_rbtree_add_impl", (6, 4), NO, GENERIC),
    k("bpf_rbtree_remove", (6, 3), ACQ | NULL, GENERIC),
    k("bpf_rbtree_first", (6, 3), NULL, GENERIC),
    k("bpf_rbtree_root", (6, 16), NULL, GENERIC),
    k("bpf_rbtree_left", (6, 16), NULL, GENERIC),
    k("bpf_rbtree_right", (6, 16), NULL, GENERIC),
    // Tasks and cgroups.
    k("bpf_task_acquire", (6, 2), ACQ | RCU | NULL, GENERIC),
    k("bpf_task_release", (6, 2), REL, GENERIC),
    k("bpf_task_from_pid", (6, 2), ACQ | NULL, GENERIC),
    k("bpf_task_from_vpid", (6, 14), ACQ | NULL, GENERIC),
    k("bpf_task_under_cgroup", (6, 5), RCU, GENERIC),
    k("bpf_task_get_cgroup1", (6, 8), ACQ | RCU | NULL, GENERIC),
    k("bpf_cgroup_acquire", (6, 2), ACQ | RCU | NULL, GENERIC),
    k("bpf_cgroup_release", (6, 2), REL, GENERIC),
    k("bpf_cgroup_ancestor", (6, 2), ACQ | RCU | NULL, GENERIC),
    k("bpf_cgroup_from_id", (6, 4), ACQ | NULL, GENERIC),
    k("bpf_send_signal_task", (6, 13), TRUST, GENERIC),
    k("bpf_throw", (6, 7), NO, GENERIC),
    k("crash_kexec", (6, 1), DESTR, GENERIC),
    // What every program may call.
    k("bpf_cast_to_kern_ctx", (6, 2), FAST, ANY),
    k("bpf_rdonly_cast", (6, 2), FAST, ANY),
    k("bpf_rcu_read_lock", (6, 2), NO, ANY),
    k("bpf_rcu_read_unlock", (6, 2), NO, ANY),
    k("bpf_preempt_disable", (6, 10), NO, ANY),
    k("bpf_preempt_enable", (6, 10), NO, ANY),
    k("bpf_local_irq_save", (6, 14), NO, ANY),
    k("bpf_local_irq_restore", (6, 14), NO, ANY),
    k("bpf_res_spin_lock", (6, 15), NULL, ANY),
    k("bpf_res_spin_unlock", (6, 15), NO, ANY),
    k("bpf_res_spin_lock_irqsave", (6, 15), NULL, ANY),
    k("bpf_res_spin_unlock_irqrestore", (6, 15), NO, ANY),
    k("bpf_dynptr_slice", (6, 4), NULL, ANY),
    k("bpf_dynptr_slice_rdwr", (6, 4), NULL, ANY),
    k("bpf_dynptr_adjust", (6, 5), NO, ANY),
    k("bpf_dynptr_is_null", (6, 5), NO, ANY),
    k("bpf_dynptr_is_rdonly", (6, 5), NO, ANY),
    k("bpf_dynptr_size", (6, 5), NO, ANY),
    k("bpf_dynptr_clone", (6, 5), NO, ANY),
    k("bpf_dynptr_copy", (6, 16), NO, ANY),
    k("bpf_dynptr_memset", (6, 17), NO, ANY),
    k("bpf_iter_num_new", (6, 4), NEW, ANY),
    k("bpf_iter_num_next", (6, 4), NEXT, ANY),
    k("bpf_iter_num_destroy", (6, 4), END, ANY),
    k("bpf_iter_bits_new", (6, 11), NEW, ANY),
    k("bpf_iter_bits_next", (6, 11), NEXT, ANY),
    k("bpf_iter_bits_destroy", (6, 11), END, ANY),
    k("bpf_iter_task_new", (6, 7), NEW | TRUST | IN_RCU, ANY),
    k("bpf_iter_task_next", (6, 7), NEXT, ANY),
    k("bpf_iter_task_destroy", (6, 7), END, ANY),
    k("bpf_iter_task_vma_new", (6, 7), NEW | RCU, ANY),
    k("bpf_iter_task_vma_next", (6, 7), NEXT, ANY),
    k("bpf_iter_task_vma_destroy", (6, 7), END, ANY),
    k("bpf_iter_css_new", (6, 7), NEW | TRUST | IN_RCU, ANY),
    k("bpf_iter_css_next", (6, 7), NEXT, ANY),
    k("bpf_iter_css_destroy", (6, 7), END, ANY),
    k("bpf_iter_css_task_new", (6, 7), NEW | TRUST, ANY),
    k("bpf_iter_css_task_next", (6, 7), NEXT, ANY),
    k("bpf_iter_css_task_destroy", (6, 7), END, ANY),
    k("bpf_iter_kmem_cache_new", (6, 13), NEW | SLEEP, ANY),
    k("bpf_iter_kmem_cache_next", (6, 13), NEXT | SLEEP, ANY),
    k("bpf_iter_kmem_cache_destroy", (6, 13), END | SLEEP, ANY),
    k("bpf_iter_dmabuf_new", (6, 16), NEW | SLEEP, ANY),
    k("bpf_iter_dmabuf_next", (6, 16), NEXT | SLEEP, ANY),
    k("bpf_iter_dmabuf_destroy", (6, 16), END | SLEEP, ANY),
    k("bpf_get_kmem_cache", (6, 13), NO, ANY),
    k("bpf_copy_from_user_str", (6, 12), SLEEP, ANY),
    k("bpf_copy_from_user_task_str", (6, 15), SLEEP, ANY),
    k("bpf_probe_read_user_dynptr", (6, 16), NO, ANY),
    k("bpf_probe_read_kernel_dynptr", (6, 16), NO, ANY),
    k("bpf_probe_read_user_str_dynptr", (6, 16), NO, ANY),
    k("bpf_probe_read_kernel_str_dynptr", (6, 16), NO, ANY),
    k("bpf_copy_from_user_dynptr", (6, 16), SLEEP, ANY),
    k("bpf_copy_from_user_str_dynptr", (6, 16), SLEEP, ANY),
    k("bpf_copy_from_user_task_dynptr", (6, 16), SLEEP | TRUST, ANY),
    k("bpf_copy_from_user_task_str_dynptr", (6, 16), SLEEP | TRUST, ANY),
    k("bpf_strcmp", (6, 17), NO, ANY),
    k("bpf_strcasecmp", (6, 18), NO, ANY),
    k("bpf_strchr", (6, 17), NO, ANY),
    k("bpf_strchrnul", (6, 17), NO, ANY),
    k("bpf_strnchr", (6, 17), NO, ANY),
    k("bpf_strrchr", (6, 17), NO, ANY),
    k("bpf_strlen", (6, 17), NO, ANY),
    k("bpf_strnlen", (6, 17), NO, ANY),
    k("bpf_strspn", (6, 17), NO, ANY),
    k("bpf_strcspn", (6, 17), NO, ANY),
    k("bpf_strstr", (6, 17), NO, ANY),
    k("bpf_strnstr", (6, 17), NO, ANY),
    k("bpf_cgroup_read_xattr", (6, 17), RCU, ANY),
    k("bpf_wq_init", (6, 10), NO, ANY),
    k("bpf_wq_set_callback_impl", (6, 10), NO, ANY),
    k("bpf_wq_start", (6, 10), NO, ANY),
    k("bpf_task_work_schedule_signal_impl", (6, 18), TRUST, ANY),
    k("bpf_task_work_schedule_resume_impl", (6, 18), TRUST, ANY),
    k("bpf_stream_vprintk_impl", (6, 17), TRUST, ANY),
    k("__bpf_trap", (6, 16), NO, ANY),
    k("bpf_map_sum_elem_count", (6, 6), TRUST, ANY),
    k("bpf_arena_alloc_pages", (6, 9), TRUST | SLEEP | ARENA, ANY),
    k("bpf_arena_free_pages", (6, 9), TRUST | SLEEP | KfuncFlags::ARENA_ARG2.0, ANY),
    k("bpf_arena_reserve_pages", (6, 17), TRUST | SLEEP | KfuncFlags::ARENA_ARG2.0, ANY),
    // CPU masks.
    k("bpf_cpumask_create", (6, 3), ACQ | NULL, MASKS),
    k("bpf_cpumask_release", (6, 3), REL, MASKS),
    k("bpf_cpumask_acquire", (6, 3), ACQ | TRUST, MASKS),
    k("bpf_cpumask_first", (6, 3), RCU, MASKS),
    k("bpf_cpumask_first_zero", (6, 3), RCU, MASKS),
    k("bpf_cpumask_first_and", (6, 6), RCU, MASKS),
    k("bpf_cpumask_set_cpu", (6, 3), RCU, MASKS),
    k("bpf_cpumask_clear_cpu", (6, 3), RCU, MASKS),
    k("bpf_cpumask_test_cpu", (6, 3), RCU, MASKS),
    k("bpf_cpumask_test_and_set_cpu", (6, 3), RCU, MASKS),
    k("bpf_cpumask_test_and_clear_cpu", (6, 3), RCU, MASKS),
    k("bpf_cpumask_setall", (6, 3), RCU, MASKS),
    k("bpf_cpumask_clear", (6, 3), RCU, MASKS),
    k("bpf_cpumask_and", (6, 3), RCU, MASKS),
    k("bpf_cpumask_or", (6, 3), RCU, MASKS),
    k("bpf_cpumask_xor", (6, 3), RCU, MASKS),
    k("bpf_cpumask_equal", (6, 3), RCU, MASKS),
    k("bpf_cpumask_intersects", (6, 3), RCU, MASKS),
    k("bpf_cpumask_subset", (6, 3), RCU, MASKS),
    k("bpf_cpumask_empty", (6, 3), RCU, MASKS),
    k("bpf_cpumask_full", (6, 3), RCU, MASKS),
    k("bpf_cpumask_copy", (6, 3), RCU, MASKS),
    k("bpf_cpumask_any_distribute", (6, 6), RCU, MASKS),
    k("bpf_cpumask_any_and_distribute", (6, 6), RCU, MASKS),
    k("bpf_cpumask_weight", (6, 8), RCU, MASKS),
    k("bpf_cpumask_populate", (6, 15), RCU, MASKS),
    // Packets, sockets, connections.
    k("bpf_dynptr_from_skb", (6, 4), TRUST, SKB),
    k("bpf_dynptr_from_skb_meta", (6, 18), TRUST, TC_ACT),
    k("bpf_dynptr_from_xdp", (6, 4), NO, XDP),
    k("bpf_xdp_pull_data", (6, 18), NO, XDP),
    k("bpf_sock_addr_set_sun_path", (6, 7), NO, SOCK_ADDR),
    k("bpf_sk_assign_tcp_reqsk", (6, 9), TRUST, TC),
    k("bpf_sock_ops_enable_tx_tstamp", (6, 15), TRUST, SOCK_OPS),
    at(k("bpf_sock_destroy", (6, 5), TRUST, TRACING), &[AttachType::TraceIter]),
    k("bpf_xdp_metadata_rx_timestamp", (6, 3), TRUST, XDP),
    k("bpf_xdp_metadata_rx_hash", (6, 3), TRUST, XDP),
    k("bpf_xdp_metadata_rx_vlan_tag", (6, 8), TRUST, XDP),
    k("bpf_xdp_get_xfrm_state", (6, 8), ACQ | NULL, XDP),
    k("bpf_xdp_xfrm_state_release", (6, 8), REL, XDP),
    k("bpf_xdp_ct_alloc", (6, 0), ACQ | NULL, CONNTRACK),
    k("bpf_xdp_ct_lookup", (5, 18), ACQ | NULL, CONNTRACK),
    k("bpf_skb_ct_alloc", (6, 0), ACQ | NULL, CONNTRACK),
    k("bpf_skb_ct_lookup", (5, 18), ACQ | NULL, CONNTRACK),
    k("bpf_ct_insert_entry", (6, 0), ACQ | NULL | REL, CONNTRACK),
    k("bpf_ct_release", (5, 18), REL, CONNTRACK),
    k("bpf_ct_set_timeout", (6, 0), TRUST, CONNTRACK),
    k("bpf_ct_change_timeout", (6, 0), TRUST, CONNTRACK),
    k("bpf_ct_set_status", (6, 0), TRUST, CONNTRACK),
    k("bpf_ct_change_status", (6, 0), TRUST, CONNTRACK),
    k("bpf_ct_set_nat_info", (6, 1), TRUST, CONNTRACK),
    // Cryptography and keys.
    k("bpf_crypto_ctx_create", (6, 10), ACQ | NULL | SLEEP, SYSCALL),
    k("bpf_crypto_ctx_release", (6, 10), REL, SYSCALL),
    k("bpf_crypto_ctx_acquire", (6, 10), ACQ | RCU | NULL, SYSCALL),
    k("bpf_crypto_decrypt", (6, 10), RCU, CRYPTO),
    k("bpf_crypto_encrypt", (6, 10), RCU, CRYPTO),
    k("bpf_lookup_user_key", (6, 1), ACQ | NULL | SLEEP, GENERIC),
    k("bpf_lookup_system_key", (6, 1), ACQ | NULL, GENERIC),
    k("bpf_key_put", (6, 1), REL, GENERIC),
    k("bpf_verify_pkcs7_signature", (6, 1), SLEEP, GENERIC),
    // Tracing and security.
    at(k("bpf_session_is_return", (6, 10), NO, KPROBE), SESSION),
    at(k("bpf_session_cookie", (6, 10), NO, KPROBE), SESSION),
    k("css_rstat_updated", (6, 16), NO, TRACING),
    k("css_rstat_flush", (6, 16), SLEEP, TRACING),
    k("bpf_get_task_exe_file", (6, 12), ACQ | TRUST | NULL, LSM),
    k("bpf_put_file", (6, 12), REL, LSM),
    k("bpf_path_d_path", (6, 12), TRUST, LSM),
    k("bpf_get_file_xattr", (6, 8), SLEEP | TRUST, LSM),
    k("bpf_get_dentry_xattr", (6, 12), SLEEP | TRUST, LSM),
    k("bpf_set_dentry_xattr", (6, 15), SLEEP | TRUST, LSM),
    k("bpf_remove_dentry_xattr", (6, 15), SLEEP | TRUST, LSM),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once() {
        for (place, kfunc) in ALL.iter().enumerate() {
            assert!(ALL[..place].iter().all(|other| other.name != kfunc.name), "{}", kfunc.name);
            assert_eq!(by_name(kfunc.name), Some(kfunc));
            assert!(!kfunc.programs.is_empty(), "{}", kfunc.name);
        }
        assert_eq!(by_name("bpf_no_such_thing"), None);
    }

    #[test]
    fn iterators_come_in_threes() {
        for kfunc in ALL.iter().filter(|kfunc| kfunc.flags.contains(KfuncFlags::ITER_NEW)) {
            let stem = kfunc.name.strip_suffix("_new").expect("the name of a constructor");
            let other = |end: &str| by_name(&format!("{stem}_{end}")).map(|other| other.flags);
            assert!(other("next").is_some_and(|flags| flags.contains(KfuncFlags::ITER_NEXT | KfuncFlags::RET_NULL)));
            assert!(other("destroy").is_some_and(|flags| flags.contains(KfuncFlags::ITER_DESTROY)));
        }
    }

    #[test]
    fn every_argument_is_to_be_trusted_since_7_0() {
        let kfunc = by_name("bpf_strlen").expect("a kfunc");
        assert!(!kfunc.flags_on(KernelVersion::new(6, 18)).contains(KfuncFlags::TRUSTED_ARGS));
        assert!(kfunc.flags_on(KernelVersion::new(7, 0)).contains(KfuncFlags::TRUSTED_ARGS));
    }
}
