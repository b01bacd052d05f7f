//! Numbers in text, and comparing strings: `bpf_strtol`, `bpf_strtoul`, `bpf_strncmp`.
//!
//! Source: `kernel/bpf/helpers.c`, `lib/kstrtox.c`.

use super::fail;
use crate::env::Env;
use crate::helper::HelperResult;

/// Bytes of a number that are looked at, sign and white space in front not counted.
const LONGEST_NUMBER: usize = 63;

/// A number in text: its magnitude, whether a minus stood before it, bytes used; or an error number.
fn parse(text: &[u8], flags: u64) -> Result<(u64, bool, u64), i32> {
    let base = flags & 0x1f;
    if text.is_empty() || !matches!(base, 0 | 8 | 10 | 16) || flags & !0x1f != 0 {
        return Err(libc::EINVAL);
    }
    let space = text.iter().take_while(|byte| is_space(**byte)).count();
    let rest = text.get(space..).unwrap_or_default();
    let negative = rest.first() == Some(&b'-');
    let rest = rest.get(usize::from(negative)..).unwrap_or_default();
    if rest.is_empty() {
        return Err(libc::EINVAL);
    }
    let digits = rest.get(..LONGEST_NUMBER).unwrap_or(rest);
    // Past the end the kernel sees a zero byte, which is no digit.
    let at = |index: usize| digits.get(index).copied().unwrap_or(0).to_ascii_lowercase();
    let hex = at(0) == b'0' && at(1) == b'x';
    let base = match base {
        0 if hex && at(2).is_ascii_hexdigit() => 16,
        0 if at(0) == b'0' => 8,
        0 => 10,
        base => base,
    };
    let prefix = if base == 16 && hex { 2 } else { 0 };
    let (mut value, mut used, mut overflow) = (0u64, prefix, false);
    while let Some(digit) = char::from(at(used)).to_digit(16).map(u64::from).filter(|digit| *digit < base) {
        match value.checked_mul(base).and_then(|value| value.checked_add(digit)) {
            Some(more) => value = more,
            None => overflow = true,
        }
        used += 1;
    }
    if overflow {
        return Err(libc::ERANGE);
    }
    if used == prefix {
        return Err(libc::EINVAL);
    }
    Ok((value, negative, (space + usize::from(negative) + used) as u64))
}

/// White space as the kernel's table of characters has it: the no-break space of Latin 1 is one.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13 | 0xa0)
}

/// `bpf_strtol`: bytes used, or an error.
pub(super) fn strtol(env: &mut Env, [text, len, flags, result, _]: [u64; 5]) -> HelperResult {
    env.write(result, [0; 8])?;
    let parsed = parse(env.bytes(text, len)?, flags);
    let (value, used) = match parsed {
        Err(number) => return fail(number),
        Ok((value, true, used)) => (value.wrapping_neg() as i64, used),
        Ok((value, false, used)) => (value as i64, used),
    };
    let negative = parsed.is_ok_and(|(_, negative, _)| negative);
    if (negative && value > 0) || (!negative && value < 0) {
        return fail(libc::ERANGE);
    }
    env.write(result, value.to_ne_bytes())?;
    Ok(used)
}

/// `bpf_strtoul`: bytes used, or an error; a minus is one.
pub(super) fn strtoul(env: &mut Env, [text, len, flags, result, _]: [u64; 5]) -> HelperResult {
    env.write(result, [0; 8])?;
    match parse(env.bytes(text, len)?, flags) {
        Err(number) => fail(number),
        Ok((_, true, _)) => fail(libc::EINVAL),
        Ok((value, false, used)) => {
            env.write(result, value.to_ne_bytes())?;
            Ok(used)
        }
    }
}

/// `bpf_strncmp`: -1, 0 or 1. The second string ends with a zero byte, in the checked mode at the end of its memory at the
/// latest.
pub(super) fn strncmp(env: &mut Env, [one, size, other, ..]: [u64; 5]) -> HelperResult {
    let size = u64::from(size as u32);
    env.may(one, size, false)?;
    for at in 0..size {
        let ([byte], [against]) = (env.read(one.wrapping_add(at))?, env.read(other.wrapping_add(at))?);
        if byte != against {
            return Ok(if byte < against { u64::MAX } else { 1 });
        }
        if byte == 0 {
            break;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, flags, expected) in [
            ("42", 0, Ok((42, false, 2))),
            ("  -42x", 0, Ok((42, true, 5))),
            ("0x1f", 0, Ok((31, false, 4))),
            ("0x1f", 16, Ok((31, false, 4))),
            ("0x", 0, Ok((0, false, 1))),
            ("0x", 16, Err(libc::EINVAL)),
            ("0X1F", 0, Ok((31, false, 4))),
            ("017", 0, Ok((15, false, 3))),
            ("08", 0, Ok((0, false, 1))),
            ("1f", 16, Ok((31, false, 2))),
            ("9", 8, Err(libc::EINVAL)),
            ("", 0, Err(libc::EINVAL)),
            ("-", 0, Err(libc::EINVAL)),
            ("+1", 0, Err(libc::EINVAL)),
            ("1", 2, Err(libc::EINVAL)),
            ("1", 32, Err(libc::EINVAL)),
            ("18446744073709551615", 0, Ok((u64::MAX, false, 20))),
            ("18446744073709551616", 0, Err(libc::ERANGE)),
        ] {
            assert_eq!(parse(text.as_bytes(), flags), expected, "{text:?} {flags}");
        }
    }
}
