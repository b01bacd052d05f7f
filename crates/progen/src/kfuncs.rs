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
];

/// The function of this name, if programs are generated with it.
pub fn by_name(name: &str) -> Option<&'static Kfunc> {
    KFUNCS.iter().find(|kfunc| kfunc.name == name)
}
