//! Formatted text exactly as the kernel's BPF helpers make it: format and arguments -> bytes.
//!
//! ```text
//! format(b"pid %d comm %5s\0", [42, address of "sh"]) -> "pid 42 comm    sh"
//! ```
//!
//! Like the kernel, in two steps. [`prepare`] checks the format and packs the arguments into 512 bytes: numbers as 4 or 8
//! bytes, strings and addresses as text. [`print`] reads the format again and takes the arguments from there; where the
//! two read it differently (letters that follow `%pI4` are swallowed), so do these. Conversions: `%d %i %u %x %X` with `l`
//! or `ll`, `%c`, `%s`, `%pks` and `%pus` (a string of the program, of the task), `%p %pK %px`, `%ps %pS %pB`, `%pi4 %pI4
//! %pi6 %pI6`, `%%`; flags `-`, `+`, space and `0`, and a width. Nothing else, no precision. Source:
//! `bpf_bprintf_prepare` in `kernel/bpf/helpers.c`, `bstr_printf` in `lib/vsprintf.c` (6.18).
//!
//! Limits: there are no kernel symbols here, so `%ps`, `%pS` and `%pB` print what the kernel prints for an address without
//! one (`0x` and hex digits). `%p` and `%pK` print a hash of the address, a different one in each process.

use super::text::is_space;

/// Bytes that packed arguments may take. Source: `MAX_BPRINTF_BIN_ARGS`.
const PACKED_BYTES: usize = 512;

/// Most characters of a width; more is this. Source: `FIELD_WIDTH_MAX`.
const MAX_WIDTH: i32 = (1 << 23) - 1;

/// Where strings and IP addresses are read from.
pub(super) trait Memory {
    /// The bytes of a string with its zero byte, at most `most`; `None` where it cannot be read.
    fn string(&mut self, addr: u64, most: usize, of_task: bool) -> Option<Vec<u8>>;
    /// Bytes of the program's own memory.
    fn bytes<const N: usize>(&mut self, addr: u64) -> Option<[u8; N]>;
}

/// Arguments, packed.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    fn room(&self) -> usize {
        PACKED_BYTES.saturating_sub(self.bytes.len())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// How large an argument is, and what is done with it.
enum Argument {
    Number(usize),
    Pointer,
    Symbol,
    Ip { letter: u8, six: bool },
    Text { of_task: bool },
    Char,
}

/// One conversion as the check of the format sees it: the argument, and where the text goes on.
fn conversion(format: &[u8], mut at: usize) -> Result<(Argument, usize), i32> {
    let byte = |at: usize| format.get(at).copied().unwrap_or(0);
    let ends_word = |byte: u8| byte == 0 || is_space(byte) || is_punctuation(byte);
    if !byte(at).is_ascii() {
        return Err(libc::EINVAL);
    }
    while matches!(byte(at), b'0' | b'+' | b'-' | b' ') {
        at += 1;
    }
    if matches!(byte(at), b'1'..=b'9') {
        while byte(at).is_ascii_digit() {
            at += 1;
        }
    }
    match (byte(at), byte(at + 1), byte(at + 2)) {
        (b's', next, _) if ends_word(next) => Ok((Argument::Text { of_task: false }, at + 1)),
        (b'p', letter @ (b'k' | b'u'), b's') if ends_word(byte(at + 3)) => {
            Ok((Argument::Text { of_task: letter == b'u' }, at + 3))
        }
        (b'p', b'k' | b'u', b's') => Err(libc::EINVAL),
        (b'p', b'K' | b'x' | b's' | b'S', _) => Ok((Argument::Pointer, at + 2)),
        (b'p', next, _) if ends_word(next) => Ok((Argument::Pointer, at + 1)),
        (b'p', b'B', _) => Ok((Argument::Symbol, at + 2)),
        (b'p', letter @ (b'i' | b'I'), version @ (b'4' | b'6')) => {
            Ok((Argument::Ip { letter, six: version == b'6' }, at + 3))
        }
        (b'c', ..) => Ok((Argument::Char, at + 1)),
        _ => {
            let longs = (0..2).take_while(|n| byte(at + n) == b'l').count();
            match byte(at + longs) {
                b'i' | b'd' | b'u' | b'x' | b'X' => {
                    Ok((Argument::Number(if longs == 0 { 4 } else { 8 }), at + longs + 1))
                }
                _ => Err(libc::EINVAL),
            }
        }
    }
}

/// `ispunct` of the kernel for ASCII; none of the other bytes is part of a format that passes.
fn is_punctuation(byte: u8) -> bool {
    byte.is_ascii_punctuation()
}

/// Checks a format (without its zero byte) and packs the arguments; an error number where it is wrong.
pub(super) fn prepare(format: &[u8], args: &[u64], memory: &mut impl Memory) -> Result<Packed, i32> {
    let mut packed = Packed { bytes: Vec::new() };
    let mut args = args.iter().copied();
    let mut at = 0;
    while let Some(&byte) = format.get(at) {
        at += 1;
        if byte.is_ascii() && !byte.is_ascii_graphic() && !is_space(byte) {
            return Err(libc::EINVAL);
        }
        if byte != b'%' {
            continue;
        }
        if format.get(at) == Some(&b'%') {
            at += 1;
            continue;
        }
        let arg = args.next().ok_or(libc::EINVAL)?;
        let (argument, next) = conversion(format, at)?;
        at = next;
        match argument {
            Argument::Number(4) => {
                packed.align();
                if packed.room() < 4 {
                    return Err(libc::ENOSPC);
                }
                packed.bytes.extend_from_slice(&(arg as u32).to_ne_bytes());
            }
            Argument::Number(_) | Argument::Pointer => {
                packed.align();
                if packed.room() < 8 {
                    return Err(libc::ENOSPC);
                }
                packed.bytes.extend_from_slice(&arg.to_ne_bytes());
            }
            Argument::Char => {
                if packed.room() == 0 {
                    return Err(libc::ENOSPC);
                }
                packed.bytes.push(arg as u8);
            }
            Argument::Text { of_task } => {
                let room = packed.room();
                if room == 0 {
                    return Err(libc::ENOSPC);
                }
                let mut text = memory.string(arg, room, of_task).unwrap_or_else(|| vec![0]);
                if let Some(last) = text.last_mut() {
                    *last = 0;
                }
                packed.bytes.extend_from_slice(&text);
            }
            Argument::Symbol => push_text(&mut packed, &symbol(arg))?,
            Argument::Ip { letter, six } => {
                if packed.room() < if six { 16 } else { 4 } {
                    return Err(libc::ENOSPC);
                }
                let text = match six {
                    true => ip6(memory.bytes(arg).unwrap_or_default(), letter == b'I'),
                    false => ip4(memory.bytes(arg).unwrap_or_default(), letter == b'I'),
                };
                push_text(&mut packed, &text)?;
            }
        }
    }
    Ok(packed)
}

/// Text made here, with its zero byte. The kernel cuts it where there is no room and goes on past the end of its buffer;
/// here that is what it is elsewhere: no room.
fn push_text(packed: &mut Packed, text: &str) -> Result<(), i32> {
    if packed.room() <= text.len() {
        return Err(libc::ENOSPC);
    }
    packed.bytes.extend_from_slice(text.as_bytes());
    packed.bytes.push(0);
    Ok(())
}

/// An address without a symbol.
fn symbol(addr: u64) -> String {
    format!("{addr:#x}")
}

/// `127.0.0.1`, or with `padded` false (`%pi4`) `127.000.000.001`.
fn ip4(bytes: [u8; 4], plain: bool) -> String {
    let [a, b, c, d] = bytes;
    if plain { format!("{a}.{b}.{c}.{d}") } else { format!("{a:03}.{b:03}.{c:03}.{d:03}") }
}

/// `0001:...` with colons for `%pI6`, without for `%pi6`: never shortened.
fn ip6(bytes: [u8; 16], colons: bool) -> String {
    let (words, _) = bytes.as_chunks::<2>();
    let words: Vec<String> = words.iter().map(|word| format!("{:04x}", u16::from_be_bytes(*word))).collect();
    words.join(if colons { ":" } else { "" })
}

/// What is printed into: as many bytes as there is room for are written, all are counted.
struct Sink<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl Sink<'_> {
    fn put(&mut self, byte: u8) {
        if let Some(to) = self.buffer.get_mut(self.at) {
            *to = byte;
        }
        self.at = self.at.saturating_add(1);
    }

    fn repeat(&mut self, byte: u8, count: i64) {
        let Ok(count) = usize::try_from(count) else { return };
        let end = self.at.saturating_add(count);
        if let Some(to) = self.buffer.get_mut(self.at..end.min(self.buffer.len())) {
            to.fill(byte);
        }
        self.at = end;
    }

    fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|byte| self.put(*byte));
    }

    fn full(&self) -> bool {
        self.at >= self.buffer.len()
    }
}

/// Flags and width of a conversion.
#[derive(Clone, Copy, Debug)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    /// -1: none.
    width: i64,
}

/// Packed arguments, read from the start.
struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self, long: bool) -> u64 {
        self.at = self.at.next_multiple_of(4);
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if long {
            self.at += 8;
            return rest.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        }
        self.at += 4;
        rest.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes).into())
    }

    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or(0)
    }

    /// The string that is next, without its zero byte; it stays next.
    fn peek_text(&self) -> &[u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.get(..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())).unwrap_or_default()
    }
}

/// Prints to the buffer, cut where it ends but always with a zero byte; gives the length that there would be with room.
pub(super) fn print(format: &[u8], args: &Packed, buffer: &mut [u8]) -> u64 {
    let mut args = Reader { bytes: &args.bytes, at: 0 };
    let byte = |at: usize| format.get(at).copied().unwrap_or(0);
    let mut out = Sink { buffer, at: 0 };
    let mut at = 0;
    while let Some(&next) = format.get(at) {
        at += 1;
        if next != b'%' {
            out.put(next);
            continue;
        }
        let mut spec = Spec { left: false, plus: false, space: false, zero: false, width: -1 };
        loop {
            match byte(at) {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'0' => spec.zero = true,
                _ => break,
            }
            at += 1;
        }
        if byte(at).is_ascii_digit() {
            let mut width = 0i32;
            while byte(at).is_ascii_digit() {
                width = width.wrapping_mul(10).wrapping_add(i32::from(byte(at) - b'0'));
                at += 1;
            }
            // A width that does not fit in an `int` wraps around, in the kernel too.
            spec.width = i64::from(width.clamp(-MAX_WIDTH, MAX_WIDTH));
        }
        let longs = (0..2).take_while(|n| byte(at + n) == b'l').count();
        at += longs;
        let kind = byte(at);
        at += 1;
        match kind {
            b'%' => out.put(b'%'),
            b'c' => {
                let value = args.byte();
                if !spec.left {
                    out.repeat(b' ', spec.width - 1);
                }
                out.put(value);
                if spec.left {
                    out.repeat(b' ', spec.width - 1);
                }
            }
            b's' => {
                let text = args.peek_text().to_vec();
                args.at += text.len() + 1;
                padded(&mut out, &text, spec);
            }
            b'p' => {
                let letter = byte(at);
                match letter {
                    b'S' | b's' => {
                        let addr = args.number(true);
                        padded(&mut out, symbol(addr).as_bytes(), spec);
                    }
                    b'x' => pointer(&mut out, args.number(true), spec),
                    // `%pK` is `%p` where kernel.kptr_restrict is 0.
                    b'K' => pointer(&mut out, hidden(args.number(true)), spec),
                    _ if !letter.is_ascii_alphanumeric() => pointer(&mut out, hidden(args.number(true)), spec),
                    // Text already. Where the buffer is full it stays the next argument.
                    _ if !out.full() => {
                        let text = args.peek_text().to_vec();
                        args.at += text.len() + 1;
                        out.text(&text);
                    }
                    _ => {}
                }
                while byte(at).is_ascii_alphanumeric() {
                    at += 1;
                }
            }
            _ => {
                let value = args.number(longs > 0);
                let signed = matches!(kind, b'd' | b'i');
                let value = if signed && longs == 0 { i64::from(value as i32) as u64 } else { value };
                number(&mut out, value, signed, kind, spec);
            }
        }
    }
    let len = out.at;
    if let Some(last) = out.buffer.len().checked_sub(1)
        && let Some(end) = out.buffer.get_mut(len.min(last))
    {
        *end = 0;
    }
    len as u64
}

fn padded(out: &mut Sink, text: &[u8], spec: Spec) {
    let spaces = spec.width - text.len() as i64;
    if !spec.left {
        out.repeat(b' ', spaces);
    }
    out.text(text);
    if spec.left {
        out.repeat(b' ', spaces);
    }
}

fn pointer(out: &mut Sink, value: u64, mut spec: Spec) {
    if spec.width == -1 {
        spec.width = 16;
        spec.zero = true;
    }
    number(out, value, false, b'x', spec);
}

fn number(out: &mut Sink, value: u64, signed: bool, kind: u8, spec: Spec) {
    let (sign, magnitude) = match signed {
        true if (value as i64) < 0 => (Some(b'-'), value.wrapping_neg()),
        true if spec.plus => (Some(b'+'), value),
        true if spec.space => (Some(b' '), value),
        _ => (None, value),
    };
    let digits = match kind {
        b'x' => format!("{magnitude:x}"),
        b'X' => format!("{magnitude:X}"),
        _ => magnitude.to_string(),
    };
    let fill = spec.width - digits.len() as i64 - i64::from(sign.is_some());
    let zeros = spec.zero && !spec.left;
    if !spec.left && !zeros {
        out.repeat(b' ', fill);
    }
    sign.into_iter().for_each(|sign| out.put(sign));
    if zeros {
        out.repeat(b'0', fill);
    }
    out.text(digits.as_bytes());
    if spec.left {
        out.repeat(b' ', fill);
    }
}

/// What `%p` shows of an address: null and error numbers as they are, of any other 32 bits that say nothing of it.
fn hidden(addr: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::OnceLock;
    static KEY: OnceLock<RandomState> = OnceLock::new();
    const MOST_ERRNO: u64 = 4095;
    if addr == 0 || addr >= MOST_ERRNO.wrapping_neg() {
        return addr;
    }
    KEY.get_or_init(RandomState::new).hash_one(addr) & 0xffff_ffff
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
