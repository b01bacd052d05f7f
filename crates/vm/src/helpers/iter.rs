//! Iterators whose state lies on the program's stack: numbers and bits.
//!
//! The state has the kernel's size and, for numbers, its layout. In the checked mode a program can write anything there:
//! a state made up gives other numbers, never other memory.

use super::{fail32, probe};
use crate::env::Env;
use crate::helper::{HelperResult, Stop};

/// Most numbers of an iterator. Source: `BPF_MAX_LOOPS`.
const MAX_NUMBERS: i64 = 8 * 1024 * 1024;

/// Most words of a bit iterator. Source: `BITS_ITER_NR_WORDS_MAX`.
const MAX_WORDS: u64 = 511;

/// Most bit iterators of a run at a time: as many as all the frames that Linux has room for can hold. A program that makes
/// more and ends none (no verifier lets it) gets `ENOMEM`.
const MAX_BITS: usize = 256;

fn numbers(env: &mut Env, iterator: u64) -> Result<(i32, i32), Stop> {
    let current = i32::from_ne_bytes(env.read(iterator)?);
    Ok((current, i32::from_ne_bytes(env.read(iterator.wrapping_add(4))?)))
}

fn set_numbers(env: &mut Env, iterator: u64, current: i32, end: i32) -> Result<(), Stop> {
    env.write(iterator, current.to_ne_bytes())?;
    env.write(iterator.wrapping_add(4), end.to_ne_bytes())
}

/// kfunc `bpf_iter_num_new`.
pub(super) fn num_new(env: &mut Env, [iterator, start, end, ..]: [u64; 5]) -> HelperResult {
    let (start, end) = (start as i32, end as i32);
    let number = match i64::from(end) - i64::from(start) {
        count if count < 0 => libc::EINVAL,
        count if count > MAX_NUMBERS => libc::E2BIG,
        _ => {
            set_numbers(env, iterator, start.wrapping_sub(1), end)?;
            return Ok(0);
        }
    };
    set_numbers(env, iterator, 0, 0)?;
    fail32(number)
}

/// kfunc `bpf_iter_num_next`: the address of the next number, which is the state itself; null at the end.
pub(super) fn num_next(env: &mut Env, [iterator, ..]: [u64; 5]) -> HelperResult {
    let (current, end) = numbers(env, iterator)?;
    let next = current.wrapping_add(1);
    if next >= end {
        set_numbers(env, iterator, 0, 0)?;
        return Ok(0);
    }
    set_numbers(env, iterator, next, end)?;
    Ok(iterator)
}

/// kfunc `bpf_iter_num_destroy`.
pub(super) fn num_destroy(env: &mut Env, [iterator, ..]: [u64; 5]) -> HelperResult {
    set_numbers(env, iterator, 0, 0)?;
    Ok(0)
}

/// The state of a bit iterator: which words (1 up, 0 for none), how many bits, which bit is current (-1: none).
fn set_bits(env: &mut Env, iterator: u64, words: u64, count: u32, current: i32) -> Result<(), Stop> {
    env.write(iterator, words.to_ne_bytes())?;
    env.write(iterator.wrapping_add(8), count.to_ne_bytes())?;
    env.write(iterator.wrapping_add(12), current.to_ne_bytes())
}

/// kfunc `bpf_iter_bits_new`: over the bits that are set in words of the program's memory, copied.
pub(super) fn bits_new(env: &mut Env, [iterator, words, count, ..]: [u64; 5]) -> HelperResult {
    let count = u64::from(count as u32);
    set_bits(env, iterator, 0, 0, -1)?;
    if words == 0 || count == 0 {
        return fail32(libc::EINVAL);
    }
    if count > MAX_WORDS {
        return fail32(libc::E2BIG);
    }
    let (found, _) = env.own_bytes(words, count * 8).as_chunks::<8>();
    if found.len() as u64 != count {
        // One word the kernel reads into the state, and does not say why it cannot.
        return fail32(if count == 1 { libc::EFAULT } else { probe::why_not_own(env, words) });
    }
    let copied: Box<[u64]> = found.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let place = env.scratch.bits.iter().position(Option::is_none).unwrap_or(env.scratch.bits.len());
    if place >= MAX_BITS {
        return fail32(libc::ENOMEM);
    }
    match env.scratch.bits.get_mut(place) {
        Some(free) => *free = Some(copied),
        None => env.scratch.bits.push(Some(copied)),
    }
    set_bits(env, iterator, place as u64 + 1, count as u32 * 64, -1)?;
    Ok(0)
}

fn place_of(env: &mut Env, iterator: u64) -> Result<Option<usize>, Stop> {
    let words = u64::from_ne_bytes(env.read(iterator)?);
    Ok(words.checked_sub(1).and_then(|place| usize::try_from(place).ok()))
}

/// kfunc `bpf_iter_bits_next`: the address of the number of the next bit that is set; null at the end.
pub(super) fn bits_next(env: &mut Env, [iterator, ..]: [u64; 5]) -> HelperResult {
    let place = place_of(env, iterator)?;
    let current = i32::from_ne_bytes(env.read(iterator.wrapping_add(12))?);
    let Some(words) = place.and_then(|place| env.scratch.bits.get(place)?.as_ref()) else { return Ok(0) };
    let count = words.len() as i64 * 64;
    let from = i64::from(current) + 1;
    let is_set = |bit: &i64| {
        usize::try_from(bit / 64).ok().and_then(|at| words.get(at)).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    };
    let next = (from.max(0)..count).find(is_set).unwrap_or(count);
    let at = iterator.wrapping_add(12);
    env.write(at, (next as i32).to_ne_bytes())?;
    Ok(if next < count { at } else { 0 })
}

/// kfunc `bpf_iter_bits_destroy`.
pub(super) fn bits_destroy(env: &mut Env, [iterator, ..]: [u64; 5]) -> HelperResult {
    if let Some(place) = place_of(env, iterator)?
        && let Some(words) = env.scratch.bits.get_mut(place)
    {
        *words = None;
    }
    set_bits(env, iterator, 0, 0, -1)?;
    Ok(0)
}
