//! The kernel functions that programs are generated with, and how they are declared.
//!
//! Declarations say as much as matching them with the kernel's takes: structs are empty ones of the right name.
//! Source: `kernel/bpf/helpers.c`, `net/core/filter.c` of 6.18.

/// Type of a parameter or result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ty {
    /// Nothing.
    Void,
    /// `int`
    Int,
    /// `u32`
    U32,
    /// `u64`
    U64,
    /// `void *`
    Any,
    /// `int *`
    IntPtr,
    /// `u64 *`
    U64Ptr,
    /// `char *`
    CharPtr,
    /// A pointer to the struct of this name.
    Struct(&'static str),
}

/// A kernel function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kfunc {
    /// Name.
    pub name: &'static str,
    /// Result.
    pub ret: Ty,
    /// Parameters.
    pub params: &'static [Ty],
}

const fn f(name: &'static str, ret: Ty, params: &'static [Ty]) -> Kfunc {
    Kfunc { name, ret, params }
}

const NUM: Ty = Ty::Struct("bpf_iter_num");
const DYNPTR: Ty = Ty::Struct("bpf_dynptr");
const TASK: Ty = Ty::Struct("task_struct");
const CGROUP: Ty = Ty::Struct("cgroup");
const BITS: Ty = Ty::Struct("bpf_iter_bits");
const TASKS: Ty = Ty::Struct("bpf_iter_task");
const FILE: Ty = Ty::Struct("file");
const MASK: Ty = Ty::Struct("bpf_cpumask");
const CONN: Ty = Ty::Struct("nf_conn");

/// All of them.
pub static KFUNCS: &[Kfunc] = &[
    f("bpf_iter_num_new", Ty::Int, &[NUM, Ty::Int, Ty::Int]),
    f("bpf_iter_num_next", Ty::IntPtr, &[NUM]),
    f("bpf_iter_num_destroy", Ty::Void, &[NUM]),
    f("bpf_rcu_read_lock", Ty::Void, &[]),
    f("bpf_rcu_read_unlock", Ty::Void, &[]),
    f("bpf_task_from_pid", TASK, &[Ty::Int]),
    f("bpf_task_acquire", TASK, &[TASK]),
    f("bpf_task_release", Ty::Void, &[TASK]),
    f("bpf_cgroup_from_id", CGROUP, &[Ty::U64]),
    f("bpf_cgroup_release", Ty::Void, &[CGROUP]),
    f("bpf_dynptr_from_skb", Ty::Int, &[Ty::Struct("__sk_buff"), Ty::U64, DYNPTR]),
    f("bpf_dynptr_from_xdp", Ty::Int, &[Ty::Struct("xdp_md"), Ty::U64, DYNPTR]),
    f("bpf_dynptr_slice", Ty::Any, &[DYNPTR, Ty::U32, Ty::Any, Ty::U32]),
    f("bpf_dynptr_slice_rdwr", Ty::Any, &[DYNPTR, Ty::U32, Ty::Any, Ty::U32]),
    f("bpf_dynptr_adjust", Ty::Int, &[DYNPTR, Ty::U32, Ty::U32]),
    f("bpf_dynptr_size", Ty::U32, &[DYNPTR]),
    f("bpf_dynptr_is_null", Ty::Int, &[DYNPTR]),
    f("bpf_dynptr_is_rdonly", Ty::Int, &[DYNPTR]),
    f("bpf_dynptr_clone", Ty::Int, &[DYNPTR, DYNPTR]),
    f("bpf_dynptr_copy", Ty::Int, &[DYNPTR, Ty::U32, DYNPTR, Ty::U32, Ty::U32]),
    f("bpf_dynptr_memset", Ty::Int, &[DYNPTR, Ty::U32, Ty::U32, Ty::U32]),
    f("bpf_dynptr_from_skb_meta", Ty::Int, &[Ty::Struct("__sk_buff"), Ty::U64, DYNPTR]),
    f("bpf_xdp_pull_data", Ty::Int, &[Ty::Struct("xdp_md"), Ty::U32]),
    f("bpf_iter_bits_new", Ty::Int, &[BITS, Ty::U64Ptr, Ty::U32]),
    f("bpf_iter_bits_next", Ty::IntPtr, &[BITS]),
    f("bpf_iter_bits_destroy", Ty::Void, &[BITS]),
    f("bpf_iter_task_new", Ty::Int, &[TASKS, TASK, Ty::U32]),
    f("bpf_iter_task_next", TASK, &[TASKS]),
    f("bpf_iter_task_destroy", Ty::Void, &[TASKS]),
    f("bpf_preempt_disable", Ty::Void, &[]),
    f("bpf_preempt_enable", Ty::Void, &[]),
    f("bpf_local_irq_save", Ty::Void, &[Ty::U64Ptr]),
    f("bpf_local_irq_restore", Ty::Void, &[Ty::U64Ptr]),
    f("bpf_strlen", Ty::Int, &[Ty::CharPtr]),
    f("bpf_cast_to_kern_ctx", Ty::Any, &[Ty::Any]),
    f("bpf_rdonly_cast", Ty::Any, &[Ty::Any, Ty::U32]),
    f("bpf_copy_from_user_str", Ty::Int, &[Ty::Any, Ty::U32, Ty::Any, Ty::U64]),
    f("bpf_cgroup_acquire", CGROUP, &[CGROUP]),
    f("bpf_cgroup_ancestor", CGROUP, &[CGROUP, Ty::Int]),
    f("bpf_task_from_vpid", TASK, &[Ty::Int]),
    f("bpf_task_under_cgroup", Ty::U64, &[TASK, CGROUP]),
    f("bpf_get_task_exe_file", FILE, &[TASK]),
    f("bpf_put_file", Ty::Void, &[FILE]),
    f("bpf_path_d_path", Ty::Int, &[Ty::Struct("path"), Ty::CharPtr, Ty::U64]),
    f("bpf_cpumask_create", MASK, &[]),
    f("bpf_cpumask_release", Ty::Void, &[MASK]),
    f("bpf_cpumask_acquire", MASK, &[MASK]),
    f("bpf_cpumask_set_cpu", Ty::Void, &[Ty::U32, MASK]),
    f("bpf_cpumask_first", Ty::U32, &[Ty::Struct("cpumask")]),
    f(
        "bpf_xdp_ct_lookup",
        CONN,
        &[Ty::Struct("xdp_md"), Ty::Struct("bpf_sock_tuple"), Ty::U32, Ty::Struct("bpf_ct_opts"), Ty::U32],
    ),
    f("bpf_ct_release", Ty::Void, &[CONN]),
];

/// The function of this name, if programs are generated with it.
pub fn by_name(name: &str) -> Option<&'static Kfunc> {
    KFUNCS.iter().find(|kfunc| kfunc.name == name)
}
