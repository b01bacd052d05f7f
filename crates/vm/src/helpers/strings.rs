//! The string kernel functions: `bpf_strcmp`, `bpf_strchr`, `bpf_strstr` and the others.
//!
//! They take addresses that nothing vouches for. One outside the program's own memory is `ERANGE` from the start, as in
//! the kernel one outside of its part of the address space; `EFAULT` where the memory ends before the string does, `E2BIG`
//! where the string does not end within 64 KiB. They return `int`, so the upper half of r0 is zero. Source:
//! `kernel/bpf/helpers.c` (6.18; `strncasecmp`, `strcasestr` and `strncasestr`: 7.0).

use super::probe::why_not_own;
use crate::env::Env;
use crate::helper::HelperResult;

/// Bytes of a string that are looked at. Source: `XATTR_SIZE_MAX`.
const MOST: usize = 65536;

/// A string in the program's memory, of which nobody knows that it is one.
struct Text<'m> {
    bytes: &'m [u8],
}

impl Text<'_> {
    fn at(env: &Env, addr: u64) -> Result<Text<'_>, i32> {
        // One more than is looked at, as `strnstr` looks at the byte behind.
        let bytes = env.own_bytes(addr, MOST as u64 + 1);
        if bytes.is_empty() { Err(why_not_own(env, addr)) } else { Ok(Text { bytes }) }
    }

    fn get(&self, index: usize) -> Result<u8, i32> {
        self.bytes.get(index).copied().ok_or(libc::EFAULT)
    }
}

/// An `int` in r0.
fn done(result: Result<i32, i32>) -> HelperResult {
    Ok(u64::from(result.unwrap_or_else(|number| -number) as u32))
}

/// A place in a string as an `int`.
fn place(index: usize) -> Result<i32, i32> {
    i32::try_from(index).map_err(|_| libc::E2BIG)
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    // Latin 1, as the kernel's tolower has it.
    match byte {
        _ if !ignore_case => byte,
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 32,
        _ => byte,
    }
}

fn compare(env: &Env, one: u64, other: u64, most: usize, ignore_case: bool) -> Result<i32, i32> {
    let (one, other) = (Text::at(env, one)?, Text::at(env, other)?);
    for index in 0..most.min(MOST) {
        let (a, b) = (fold(one.get(index)?, ignore_case), fold(other.get(index)?, ignore_case));
        if a != b {
            return Ok(if a < b { -1 } else { 1 });
        }
        if a == 0 {
            return Ok(0);
        }
    }
    if most < MOST { Ok(0) } else { Err(libc::E2BIG) }
}

/// kfunc `bpf_strcmp`.
pub(super) fn strcmp(env: &mut Env, [one, other, ..]: [u64; 5]) -> HelperResult {
    done(compare(env, one, other, MOST, false))
}

/// kfunc `bpf_strcasecmp`.
pub(super) fn strcasecmp(env: &mut Env, [one, other, ..]: [u64; 5]) -> HelperResult {
    done(compare(env, one, other, MOST, true))
}

/// kfunc `bpf_strncasecmp`.
pub(super) fn strncasecmp(env: &mut Env, [one, other, most, ..]: [u64; 5]) -> HelperResult {
    done(compare(env, one, other, usize::try_from(most).unwrap_or(MOST), true))
}

fn find(env: &Env, text: u64, most: u64, wanted: u8) -> Result<i32, i32> {
    let text = Text::at(env, text)?;
    let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
    for index in 0..most {
        match text.get(index)? {
            byte if byte == wanted => return place(index),
            0 => return Err(libc::ENOENT),
            _ => {}
        }
    }
    Err(if most == MOST { libc::E2BIG } else { libc::ENOENT })
}

/// kfunc `bpf_strchr`.
pub(super) fn strchr(env: &mut Env, [text, wanted, ..]: [u64; 5]) -> HelperResult {
    done(find(env, text, u64::MAX, wanted as u8))
}

/// kfunc `bpf_strnchr`.
pub(super) fn strnchr(env: &mut Env, [text, most, wanted, ..]: [u64; 5]) -> HelperResult {
    done(find(env, text, most, wanted as u8))
}

/// kfunc `bpf_strchrnul`: the place of the end where the character is not in the string.
pub(super) fn strchrnul(env: &mut Env, [text, wanted, ..]: [u64; 5]) -> HelperResult {
    done(Text::at(env, text).and_then(|text| {
        for index in 0..MOST {
            let byte = text.get(index)?;
            if byte == 0 || byte == wanted as u8 {
                return place(index);
            }
        }
        Err(libc::E2BIG)
    }))
}

/// kfunc `bpf_strrchr`; the character is an `int`, so one that is no byte is not found.
pub(super) fn strrchr(env: &mut Env, [text, wanted, ..]: [u64; 5]) -> HelperResult {
    done(Text::at(env, text).and_then(|text| {
        let mut last = Err(libc::ENOENT);
        for index in 0..MOST {
            let byte = text.get(index)?;
            if i32::from(byte) == wanted as i32 {
                last = place(index);
            }
            if byte == 0 {
                return last;
            }
        }
        Err(libc::E2BIG)
    }))
}

fn length(env: &Env, text: u64, most: u64) -> Result<i32, i32> {
    let text = Text::at(env, text)?;
    let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
    for index in 0..most {
        if text.get(index)? == 0 {
            return place(index);
        }
    }
    if most == MOST { Err(libc::E2BIG) } else { place(most) }
}

/// kfunc `bpf_strlen`.
pub(super) fn strlen(env: &mut Env, [text, ..]: [u64; 5]) -> HelperResult {
    done(length(env, text, u64::MAX))
}

/// kfunc `bpf_strnlen`.
pub(super) fn strnlen(env: &mut Env, [text, most, ..]: [u64; 5]) -> HelperResult {
    done(length(env, text, most))
}

/// Bytes at the start that are all in the set, or none of which is.
fn span(env: &Env, text: u64, set: u64, inside: bool) -> Result<i32, i32> {
    let (text, set) = (Text::at(env, text)?, Text::at(env, set)?);
    for index in 0..MOST {
        let byte = text.get(index)?;
        if byte == 0 {
            return place(index);
        }
        let mut found = false;
        let mut ended = false;
        for at in 0..MOST {
            let member = set.get(at)?;
            found = member == byte;
            ended = member == 0;
            if found || ended {
                env.worked(at as u64);
                break;
            }
        }
        if !found && !ended {
            return Err(libc::E2BIG);
        }
        if found != inside {
            return place(index);
        }
    }
    Err(libc::E2BIG)
}

/// kfunc `bpf_strspn`.
pub(super) fn strspn(env: &mut Env, [text, accept, ..]: [u64; 5]) -> HelperResult {
    done(span(env, text, accept, true))
}

/// kfunc `bpf_strcspn`.
pub(super) fn strcspn(env: &mut Env, [text, reject, ..]: [u64; 5]) -> HelperResult {
    done(span(env, text, reject, false))
}

/// The place of one string within the first `most` bytes of another.
fn search(env: &Env, text: u64, wanted: u64, most: u64, ignore_case: bool) -> Result<i32, i32> {
    let (text, wanted) = (Text::at(env, text)?, Text::at(env, wanted)?);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    for start in 0..MOST {
        let mut matched = 0;
        while start + matched <= most && matched < MOST {
            let expected = fold(wanted.get(matched)?, ignore_case);
            if expected == 0 {
                return place(start);
            }
            // The end of the wanted string may lie behind the last byte that counts, nothing else.
            if start + matched == most {
                break;
            }
            let byte = fold(text.get(start + matched)?, ignore_case);
            if byte == 0 {
                return Err(libc::ENOENT);
            }
            if byte != expected {
                break;
            }
            matched += 1;
        }
        env.worked(matched as u64);
        if matched == MOST {
            return Err(libc::E2BIG);
        }
        if start + matched == most {
            return Err(libc::ENOENT);
        }
    }
    Err(libc::E2BIG)
}

/// kfunc `bpf_strstr`.
pub(super) fn strstr(env: &mut Env, [text, wanted, ..]: [u64; 5]) -> HelperResult {
    done(search(env, text, wanted, MOST as u64, false))
}

/// kfunc `bpf_strnstr`.
pub(super) fn strnstr(env: &mut Env, [text, wanted, most, ..]: [u64; 5]) -> HelperResult {
    done(search(env, text, wanted, most, false))
}

/// kfunc `bpf_strcasestr`.
pub(super) fn strcasestr(env: &mut Env, [text, wanted, ..]: [u64; 5]) -> HelperResult {
    done(search(env, text, wanted, MOST as u64, true))
}

/// kfunc `bpf_strncasestr`.
pub(super) fn strncasestr(env: &mut Env, [text, wanted, most, ..]: [u64; 5]) -> HelperResult {
    done(search(env, text, wanted, most, true))
}
