//! Reads from addresses that nothing vouches for: of the task (user memory) and of the program itself (kernel memory).
//!
//! User memory is the memory of the task that the event is about, read through [`crate::Task::read`]. Kernel memory is what the
//! program owns: stack, context, packet, map values. There is no other: an address that is none of it is `ERANGE`, as one
//! outside of the kernel's part of the address space is in the kernel, and `EFAULT` where it would be in that part or the
//! program's memory ends before the read does. `bpf_probe_read` and `bpf_probe_read_str`, which do not say which they mean, look at the
//! program's own memory first, then at the task's.

use super::fail;
use crate::env::Env;
use crate::helper::{HelperResult, Stop};

/// Where an address is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Space {
    /// The memory of the task.
    User,
    /// The program's own.
    Kernel,
    /// The program's own, else the task's.
    Either,
}

/// A page, the unit in which memory of a task is there or not.
const PAGE: u64 = 4096;

/// Why an address in the program's own memory cannot be read, or not far enough.
pub(super) fn why_not_own(env: &Env, addr: u64) -> i32 {
    if addr >> 63 == 0 && env.own_bytes(addr, 1).is_empty() { libc::ERANGE } else { libc::EFAULT }
}

/// Fills the program's memory at `to` from an address; an error number (and what is there now is not said) where it cannot
/// be read.
pub(super) fn fill(env: &mut Env, to: u64, len: u64, from: u64, space: Space) -> Result<Result<(), i32>, Stop> {
    env.may(to, len, true)?;
    if space != Space::User && env.own_bytes(from, len).len() as u64 == len && (len > 0 || from >> 63 != 0) {
        env.copy(to, from, len)?;
        return Ok(Ok(()));
    }
    if space == Space::Kernel {
        let readable = len == 0 && !env.own_bytes(from, 1).is_empty();
        return Ok(if readable { Ok(()) } else { Err(why_not_own(env, from)) });
    }
    if len == 0 {
        return Ok(Ok(()));
    }
    let task = env.task().clone();
    Ok(task.read(from, env.bytes_mut(to, len)?).map_err(|_| libc::EFAULT))
}

/// Copies a string with its zero byte to the program's memory at `to`, cut where there is no room: bytes written, or an
/// error number where it cannot be read.
pub(super) fn fill_str(env: &mut Env, to: u64, len: u64, from: u64, space: Space) -> Result<Result<u64, i32>, Stop> {
    env.may(to, len, true)?;
    let Some(mut text) = string_at(env, from, len, space) else {
        return Ok(Err(if space == Space::Kernel { why_not_own(env, from) } else { libc::EFAULT }));
    };
    // It ends with a zero, or has `len` bytes: then the last gives way to one.
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    env.bytes_mut(to, text.len() as u64)?.copy_from_slice(&text);
    Ok(Ok(text.len() as u64))
}

/// The bytes of a string, up to and with its zero byte, at most `most`; `None` where they cannot be read.
pub(super) fn string_at(env: &Env, from: u64, most: u64, space: Space) -> Option<Vec<u8>> {
    let through_zero = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0).map(|zero| zero + 1);
    if space != Space::User {
        let own = env.own_bytes(from, most);
        if let Some(text) = own.get(..through_zero(own).unwrap_or(own.len())).filter(|text| !text.is_empty())
            && (text.ends_with(&[0]) || text.len() as u64 == most)
        {
            return Some(text.to_vec());
        }
    }
    if space == Space::Kernel {
        return if most == 0 { Some(Vec::new()) } else { None };
    }
    let mut text = Vec::new();
    while (text.len() as u64) < most {
        let at = from.checked_add(text.len() as u64)?;
        let piece = (PAGE - at % PAGE).min(most - text.len() as u64) as usize;
        let start = text.len();
        text.resize(start + piece, 0);
        let into = text.get_mut(start..)?;
        env.task().read(at, into).ok()?;
        if let Some(end) = through_zero(into) {
            text.truncate(start + end);
            break;
        }
    }
    Some(text)
}

fn read(env: &mut Env, [to, len, from, ..]: [u64; 5], space: Space) -> HelperResult {
    let len = u64::from(len as u32);
    match fill(env, to, len, from, space)? {
        Ok(()) => Ok(0),
        Err(number) => {
            env.bytes_mut(to, len)?.fill(0);
            fail(number)
        }
    }
}

fn read_str(env: &mut Env, [to, len, from, ..]: [u64; 5], space: Space) -> HelperResult {
    let len = u64::from(len as u32);
    match fill_str(env, to, len, from, space)? {
        Ok(written) => Ok(written),
        Err(number) => {
            env.bytes_mut(to, len)?.fill(0);
            fail(number)
        }
    }
}

/// `bpf_probe_read`.
pub(super) fn probe_read(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read(env, args, Space::Either)
}

/// `bpf_probe_read_user`.
pub(super) fn probe_read_user(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read(env, args, Space::User)
}

/// `bpf_probe_read_kernel`.
pub(super) fn probe_read_kernel(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read(env, args, Space::Kernel)
}

/// `bpf_probe_read_str`.
pub(super) fn probe_read_str(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read_str(env, args, Space::Either)
}

/// `bpf_probe_read_user_str`.
pub(super) fn probe_read_user_str(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read_str(env, args, Space::User)
}

/// `bpf_probe_read_kernel_str`.
pub(super) fn probe_read_kernel_str(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read_str(env, args, Space::Kernel)
}

/// `bpf_copy_from_user`.
pub(super) fn copy_from_user(env: &mut Env, args: [u64; 5]) -> HelperResult {
    read(env, args, Space::User)
}

/// The one flag of [`copy_from_user_str`]: zeros behind the string.
const PAD_ZEROS: u64 = 1;

/// kfunc `bpf_copy_from_user_str`: bytes with the zero byte.
pub(super) fn copy_from_user_str(env: &mut Env, [to, len, from, flags, _]: [u64; 5]) -> HelperResult {
    let len = u64::from(len as u32);
    if flags & !PAD_ZEROS != 0 {
        return super::fail32(libc::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    match fill_str(env, to, len, from, Space::User)? {
        Ok(written) => {
            if flags == PAD_ZEROS {
                env.bytes_mut(to.wrapping_add(written), len - written)?.fill(0);
            }
            Ok(written)
        }
        Err(number) => {
            if flags == PAD_ZEROS {
                env.bytes_mut(to, len)?.fill(0);
            }
            super::fail32(number)
        }
    }
}
