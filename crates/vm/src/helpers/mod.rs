//! The helpers and kernel functions that have a meaning outside the kernel, by number and by name.

mod table;

use crate::env::Env;
use crate::helper::{Builtin, HelperResult};
use crate::map::Map;

/// What helpers keep for the length of a run.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Ring buffer records that are reserved and neither submitted nor discarded: address and bytes.
    pub(crate) records: Vec<(u64, u64)>,
    /// Spin locks that are held, by address.
    locks: Vec<u64>,
}

/// At the end of a run: what a program that faulted still holds is given back.
pub(crate) fn settle(_env: &mut Env) {}

/// The stretch of a map's memory for values that an address lies in: start and bytes.
pub(crate) fn stretch_of(_map: &Map, _addr: u64) -> Option<(u64, u64)> {
    None
}

/// The helper with this number, if it has a meaning here.
pub(crate) fn by_id(id: u32) -> Option<&'static Builtin> {
    table::by_id(id)
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
