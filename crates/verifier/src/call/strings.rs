//! Constant strings, and the format strings of `bpf_snprintf`, which the kernel reads before the program runs.
//!
//! `"%s: %d\n"` with two arguments passes; `"%y"` does not, and neither does a third specifier. What an argument is, a number
//! or an address that must be safe to read, is seen to when the helper runs.

use skep_isa::Reg;

use crate::Code;
use crate::alu::describe;
use crate::exec::name;
use crate::explore::Verifier;
use crate::mem::{Access, span};
use crate::state::{RegKind, RegState};
use crate::stop::Stop;

/// What is wrong with a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BadFormat {
    /// Byte within the format.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) why: String,
}

fn space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Whether a specifier may end in front of this byte.
fn ends(byte: u8) -> bool {
    byte == 0 || space(byte) || byte.is_ascii_punctuation()
}

/// Checks a format (without its final zero) against a number of arguments. Source: `bpf_bprintf_prepare`.
pub(crate) fn check_format(format: &[u8], args: usize) -> Result<(), BadFormat> {
    let byte = |at: usize| format.get(at).copied().unwrap_or(0);
    let bad = |at: usize, why: String| Err(BadFormat { at, why });
    let mut used = 0;
    let mut at = 0;
    while at < format.len() {
        let c = byte(at);
        if !(c.is_ascii_graphic() || space(c) || c == b' ') {
            return bad(at, format!("the byte {c:#04x} is neither printable nor a space"));
        }
        if c != b'%' {
            at += 1;
            continue;
        }
        if byte(at + 1) == b'%' {
            at += 2;
            continue;
        }
        let start = at;
        let shown = |end: usize| {
            let end = (end + 1).min(format.len());
            String::from_utf8_lossy(format.get(start..end).unwrap_or_default()).into_owned()
        };
        if used >= args {
            return bad(start, format!("it has more specifiers than the {args} arguments"));
        }
        at += 1;
        while matches!(byte(at), b'0' | b'+' | b'-' | b' ') {
            at += 1;
        }
        if matches!(byte(at), b'1'..=b'9') {
            while byte(at).is_ascii_digit() {
                at += 1;
            }
        }
        match byte(at) {
            b'p' => {
                let next = byte(at + 1);
                if matches!(next, b'k' | b'u') && byte(at + 2) == b's' {
                    at += 2;
                    if !ends(byte(at + 1)) {
                        return bad(start, format!("`{}` is followed by a letter", shown(at)));
                    }
                } else if ends(next) || matches!(next, b'K' | b'x' | b's' | b'S' | b'B') {
                    if !ends(next) {
                        at += 1;
                    }
                } else if matches!(next, b'i' | b'I') && matches!(byte(at + 2), b'4' | b'6') {
                    at += 2;
                } else {
                    return bad(start, format!("there is no `{}`", shown(at + 1)));
                }
            }
            b's' => {
                if !ends(byte(at + 1)) {
                    return bad(start, format!("`{}` is followed by a letter", shown(at)));
                }
            }
            b'c' => {}
            _ => {
                if byte(at) == b'l' {
                    at += 1;
                    if byte(at) == b'l' {
                        at += 1;
                    }
                }
                if !matches!(byte(at), b'i' | b'd' | b'u' | b'x' | b'X') {
                    return bad(start, format!("there is no `{}`", shown(at)));
                }
            }
        }
        used += 1;
        at += 1;
    }
    Ok(())
}

impl<'a> Verifier<'_, 'a> {
    /// The zero-terminated constant that a register points to, without the zero. Source: `check_reg_const_str`.
    pub(crate) fn constant_string(&self, helper: &str, reg: Reg, state: &RegState) -> Result<&'a [u8], Stop> {
        let refuse = |label: String, kernel: String| {
            Stop::reject(Code::ConstString, label)
                .title(format!("{helper} needs a constant string"))
                .about(reg)
                .help("use a string constant of the program: `static const char text[] = \"...\";`")
                .kernel(kernel)
        };
        let RegKind::MapValue(map) = state.kind else {
            return Err(refuse(format!("{} holds {}", name(reg), describe(state)), "expected=map_value".to_owned()));
        };
        let Some(info) = self.env.map(map) else { return Err(Stop::unsupported("a map that is not described")) };
        let Some(data) = info.frozen else {
            return Err(refuse(
                format!("{} points into map `{}`, which can change", name(reg), info.name()),
                format!("R{} does not point to a readonly map'", reg.number()),
            ));
        };
        let Some(variable) = state.num.as_const() else {
            return Err(refuse(
                format!("{} is not a constant address", name(reg)),
                format!("R{} is not a constant address'", reg.number()),
            )
            .fact(format!("its offset is {} here", span(state.num.smin, state.num.smax))));
        };
        let size = i64::from(info.spec.value_size).saturating_sub(i64::from(state.off));
        let size = i32::try_from(size).map_err(|_| Stop::unsupported("constants past 2 GB"))?;
        self.check_map_value(reg, state, map, state.off, size, Access::Read, true)?;
        let at = usize::try_from(i64::from(state.off).wrapping_add(variable as i64)).unwrap_or(usize::MAX);
        let text = data.get(at..).unwrap_or_default();
        match text.iter().position(|byte| *byte == 0) {
            Some(end) => Ok(text.get(..end).unwrap_or_default()),
            None => {
                Err(refuse("the string has no zero at its end".to_owned(), "string is not zero-terminated".to_owned()))
            }
        }
    }

    /// `bpf_snprintf(out, size, format, data, data_size)`: the format against the size of the arguments.
    pub(crate) fn check_snprintf(&self) -> Result<(), Stop> {
        let (format, size) = (*self.cur.reg(Reg::R3), *self.cur.reg(Reg::R5));
        let size = size.num.tnum.value;
        if size % 8 != 0 {
            return Err(Stop::reject(Code::Format, format!("r5 is {size}, which is no multiple of 8"))
                .title("the arguments of bpf_snprintf must be an array of 8-byte values")
                .about(Reg::R5)
                .help("use BPF_SNPRINTF(), which makes the array")
                .kernel("data_len must be a multiple of 8"));
        }
        let text = self.constant_string("bpf_snprintf", Reg::R3, &format)?;
        check_format(text, (size / 8) as usize).map_err(|bad| {
            Stop::reject(Code::Format, bad.why.clone())
                .title("the format of bpf_snprintf is not one that the kernel takes")
                .about(Reg::R3)
                .fact(format!("the format is {:?}; byte {} is wrong", String::from_utf8_lossy(text), bad.at))
                .help("known are %d %i %u %x %X (with l or ll), %c, %s, %p, %pks, %pus, %pi4, %pI6 and their like")
                .kernel("Invalid format string")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::check_format;

    #[test]
    fn formats() {
        let fine = |format: &str, args| assert_eq!(check_format(format.as_bytes(), args), Ok(()), "{format}");
        let bad = |format: &str, args| assert!(check_format(format.as_bytes(), args).is_err(), "{format}");
        fine("", 0);
        fine("%d %lu %llx 100%%\n", 3);
        fine("%08x, %-5d", 2);
        fine("%pks %pus", 2);
        fine("%pi4 %pI6 %p %pK", 4);
        fine("%s", 2);
        bad("%d", 0);
        bad("%y", 1);
        bad("%", 1);
        bad("%sd", 1);
        bad("%pi5", 1);
        bad("%f", 1);
        bad("\u{1}", 1);
    }
}
