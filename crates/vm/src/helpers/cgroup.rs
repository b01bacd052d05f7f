//! Helpers of hooks of cgroups: what the system call that a hook is about is to return.
//!
//! The other helpers of these hooks work on the kernel's sockets (`bpf_bind`, `bpf_setsockopt`, `bpf_getsockopt`,
//! `bpf_get_netns_cookie`, `bpf_get_socket_cookie`), kernel settings (`bpf_sysctl_*`) and memory that the kernel keeps for a
//! cgroup (`bpf_get_local_storage`), which the embedded engine does not have.
#![expect(unsafe_code, reason = "the form in which compiled code calls helpers")]

use crate::env::Env;
use crate::helper::{Builtin, HelperResult, helper_fn};

static GET_RETVAL: Builtin = Builtin { id: 186, name: "bpf_get_retval", function: helper_fn!(get_retval) };
static SET_RETVAL: Builtin = Builtin { id: 187, name: "bpf_set_retval", function: helper_fn!(set_retval) };

/// The helper with this number.
pub(super) fn by_id(id: u32) -> Option<&'static Builtin> {
    [&GET_RETVAL, &SET_RETVAL].into_iter().find(|helper| helper.id == id)
}

fn get_retval(env: &mut Env, _: [u64; 5]) -> HelperResult {
    Ok(env.retval as i64 as u64)
}

/// Errors only: 0, or a negative error number. Source: `bpf_set_retval` in `kernel/bpf/cgroup.c`.
fn set_retval(env: &mut Env, [value, ..]: [u64; 5]) -> HelperResult {
    env.retval = value as i32;
    Ok(0)
}
