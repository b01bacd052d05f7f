//! The helpers and kernel functions that have a meaning outside the kernel, by number and by name.
//!
//! A helper is a function `fn(&mut Env, [u64; 5]) -> HelperResult`: registers in, r0 out, with the results and the error
//! numbers of Linux 6.18 (`tests/vm/helpers.bpf.c` runs in both and must agree). Memory that it is given it takes from
//! [`Env`](crate::Env), which checks it in the checked mode; addresses that nothing vouches for go through `probe`, in both
//! modes. [`refused`] says which helpers are not here and why. Kernel functions: number and bit iterators, dynptrs,
//! strings, RCU, preemption and interrupt sections, `bpf_copy_from_user_str`, `bpf_map_sum_elem_count`.

#[cfg(test)]
mod abuse_tests;
mod cgroup;
mod control;
mod dynptr;
mod format;
mod iter;
mod maps;
mod packet;
mod print;
mod probe;
mod refused;
mod strings;
mod table;
mod task;
mod text;
mod time;
mod tracing;

use crate::helper::{Builtin, HelperResult};

pub(crate) use refused::why_refused;

/// What helpers keep for the length of a run; [`crate::env::Env`] gives back what is left at its end.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Ring buffer records that are reserved and neither submitted nor discarded: address and bytes.
    pub(crate) records: Vec<(u64, u64)>,
    /// The spin lock that is held, by its address.
    pub(crate) lock: Option<u64>,
    /// What bit iterators go over.
    pub(crate) bits: Vec<Option<Box<[u64]>>>,
}

/// The helper with this number, if it has a meaning here.
pub(crate) fn by_id(id: u32) -> Option<&'static Builtin> {
    table::by_id(id).or_else(|| packet::by_id(id)).or_else(|| cgroup::by_id(id))
}

/// The kernel function with this name, if it has a meaning here.
pub(crate) fn kfunc(name: &str) -> Option<&'static Builtin> {
    table::kfunc(name)
}

/// A negative error number as a helper returns it.
const fn errno(number: i32) -> u64 {
    -(number as i64) as u64
}

/// A helper's result that is a negative error number.
const fn fail(number: i32) -> HelperResult {
    Ok(errno(number))
}

/// The same for a kernel function that returns `int`: the upper half of r0 is zero.
const fn fail32(number: i32) -> HelperResult {
    Ok(errno(number) as u32 as u64)
}
