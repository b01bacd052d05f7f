//! `bpf_trace_printk`, `bpf_trace_vprintk`, `bpf_snprintf`.

use super::format::{self, Memory};
use super::probe::{self, Space};
use super::{errno, fail};
use crate::env::Env;
use crate::helper::{HelperResult, Stop};
use crate::host::Print;

/// Arguments of [`trace_printk`]. Source: `MAX_TRACE_PRINTK_VARARGS`.
const REGISTER_ARGS: usize = 3;

/// Most arguments of the others. Source: `MAX_BPRINTF_VARARGS`.
const MAX_ARGS: u64 = 12;

/// Bytes of a printed line with its zero byte. Source: `MAX_BPRINTF_BUF`.
const LINE_BYTES: usize = 1024;

impl Memory for &mut Env {
    fn string(&mut self, addr: u64, most: usize, of_task: bool) -> Option<Vec<u8>> {
        let space = if of_task { Space::User } else { Space::Kernel };
        probe::string_at(self, addr, most as u64, space)
    }

    fn bytes<const N: usize>(&mut self, addr: u64) -> Option<[u8; N]> {
        self.own_bytes(addr, N as u64).first_chunk().copied()
    }
}

/// Bytes up to a zero byte within `size`, which must be there.
fn text_within(env: &mut Env, addr: u64, size: u64) -> Result<Option<Vec<u8>>, Stop> {
    let bytes = env.bytes(addr, size)?;
    Ok(bytes.iter().position(|byte| *byte == 0).and_then(|end| bytes.get(..end)).map(<[u8]>::to_vec))
}

/// Longest format of [`snprintf`] and of helpers whose text is a constant: as much as the largest value of a map.
const MOST_FORMAT: u64 = 1 << 20;

/// A constant string: it ends with a zero byte, and a verifier has seen to that or its memory ends before.
pub(super) fn constant_text(env: &mut Env, addr: u64) -> Result<Vec<u8>, Stop> {
    let mut text = Vec::new();
    for at in 0..MOST_FORMAT {
        match env.read(addr.wrapping_add(at))? {
            [0] => break,
            [byte] => text.push(byte),
        }
    }
    Ok(text)
}

/// Numbers in the program's memory.
fn numbers(env: &mut Env, addr: u64, len: u64) -> Result<Vec<u64>, Stop> {
    let (words, _) = env.bytes(addr, len)?.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_ne_bytes(*word)).collect())
}

/// Formats and prints a line; gives its length.
fn print_line(mut env: &mut Env, format: &[u8], args: &[u64]) -> HelperResult {
    let packed = match format::prepare(format, args, &mut env) {
        Ok(packed) => packed,
        Err(number) => return fail(number),
    };
    let mut line = [0; LINE_BYTES];
    let len = format::print(format, &packed, &mut line);
    // What is printed ends at the first zero byte, which `%c` may have put there.
    let end = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    let text = String::from_utf8_lossy(line.get(..end).unwrap_or_default());
    let task = env.task().clone();
    let comm = task.comm();
    env.host.print(Print {
        comm: &String::from_utf8_lossy(&comm),
        tid: task.tid(),
        cpu: env.cpu(),
        text: text.strip_suffix('\n').unwrap_or(&text),
    });
    Ok(len)
}

/// `bpf_trace_printk`: the arguments are in registers.
pub(super) fn trace_printk(env: &mut Env, [text, size, a, b, c]: [u64; 5]) -> HelperResult {
    let args: [u64; REGISTER_ARGS] = [a, b, c];
    match text_within(env, text, u64::from(size as u32))? {
        Some(format) => print_line(env, &format, &args),
        None => fail(libc::EINVAL),
    }
}

/// `bpf_trace_vprintk`: the arguments are in memory.
pub(super) fn trace_vprintk(env: &mut Env, [text, size, args, len, _]: [u64; 5]) -> HelperResult {
    let len = u64::from(len as u32);
    if !len.is_multiple_of(8) || len > MAX_ARGS * 8 || (len > 0 && args == 0) {
        return fail(libc::EINVAL);
    }
    let args = numbers(env, args, len)?;
    match text_within(env, text, u64::from(size as u32))? {
        Some(format) => print_line(env, &format, &args),
        None => fail(libc::EINVAL),
    }
}

/// `bpf_snprintf`: the length with its zero byte that there would be with room.
pub(super) fn snprintf(mut env: &mut Env, [out, size, text, args, len]: [u64; 5]) -> HelperResult {
    let (size, len) = (u64::from(size as u32), u64::from(len as u32));
    env.may(out, size, true)?;
    if !len.is_multiple_of(8) || len > MAX_ARGS * 8 || (len > 0 && args == 0) {
        return fail(libc::EINVAL);
    }
    let args = numbers(env, args, len)?;
    let format = constant_text(env, text)?;
    match format::prepare(&format, &args, &mut env) {
        Ok(packed) => Ok(format::print(&format, &packed, env.bytes_mut(out, size)?) + 1),
        Err(number) => Ok(errno(number)),
    }
}
