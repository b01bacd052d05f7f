//! Text that a person typed as bytes of a type.

use super::is_char;
use crate::{Btf, Endian, Enum, Error, Int, Kind, Type, TypeId};

/// Elements of an array that can be given: what fits on a command line.
const ELEMENTS: u64 = 1 << 14;

/// The bytes of a value of the type `id`, in the byte order of the BTF.
///
/// | type | text |
/// |---|---|
/// | integer | `42`, `-1`, `0x2a`, `0b101010`, `0o52`; a single character in quotes for `char`; it must fit |
/// | `_Bool` | `true`, `false`, `1`, `0` |
/// | enumeration | the name of a value, or a number |
/// | `char[N]` | any text of at most N-1 bytes |
/// | `float`, `double` | `1.5`, `inf` |
/// | array | elements with commas between, the rest becomes 0 |
/// | `__be16`, `__be32`, `__be64` | a number as people write it, which is stored in network order; for `__be32` also `10.0.0.1` |
///
/// Anything else is an error that says what would be right.
pub fn encode(btf: &Btf, id: TypeId, text: &str) -> Result<Vec<u8>, Error> {
    let size = btf.size_of(id)?;
    let bad = |cause: String| Error::BadValue { text: text.to_owned(), ty: btf.type_name(value_type(btf, id)), cause };
    let at = btf.resolve(value_type(btf, id))?;
    match btf.get(at)? {
        Type::Array(array) => {
            let element = btf.size_of(array.element)?;
            if let Type::Int(int) = btf.get(btf.resolve(array.element)?)?
                && is_char(&int)
            {
                let room = (size as usize).saturating_sub(1);
                if text.len() > room {
                    return Err(bad(format!("it holds at most {room} bytes, this has {}", text.len())));
                }
                if text.contains('\0') {
                    return Err(bad("a string cannot contain a NUL".to_owned()));
                }
                if size > ELEMENTS {
                    return Err(bad(format!("arrays of more than {ELEMENTS} bytes cannot be given as text")));
                }
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(size as usize, 0);
                return Ok(bytes);
            }
            if size > ELEMENTS * 16 || element == 0 {
                return Err(bad(format!("arrays of more than {ELEMENTS} elements cannot be given as text")));
            }
            let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            if parts.len() > array.count as usize {
                return Err(bad(format!("it holds {} elements, {} are given", array.count, parts.len())));
            }
            if let Type::Array(_) = btf.get(btf.resolve(array.element)?)? {
                return Err(bad("an array of arrays cannot be given as text".to_owned()));
            }
            let mut bytes = Vec::with_capacity(size as usize);
            for part in parts {
                bytes.extend(encode(btf, array.element, part)?);
            }
            bytes.resize(size as usize, 0);
            Ok(bytes)
        }
        Type::Int(int) => {
            let network = network_order(btf, id);
            if let (true, 4, Some(address)) = (network, int.size, dotted(text)) {
                return Ok(address.to_vec());
            }
            let endian = if network { Endian::Big } else { btf.endian() };
            Ok(bytes_of(integer(&int, text).map_err(bad)?, int.size, endian))
        }
        Type::Enum(e) => Ok(bytes_of(enumerator(&e, text).map_err(bad)?, e.size, btf.endian())),
        Type::Float { size, .. } => {
            let value: f64 = text.parse().map_err(|_| bad("it is not a number such as 1.5".to_owned()))?;
            let bits = match size {
                4 => u128::from((value as f32).to_bits()),
                8 => u128::from(value.to_bits()),
                _ => return Err(bad(format!("a float of {size} bytes cannot be given as text"))),
            };
            Ok(bytes_of(bits, size, btf.endian()))
        }
        other => {
            let what = match other.kind() {
                Kind::Struct | Kind::Union => "a struct or union cannot be given as text; give its parts as variables",
                Kind::Ptr => "an address cannot be given as text",
                _ => "this type has no values; numbers, booleans, enums and char arrays can be given as text",
            };
            Err(bad(what.to_owned()))
        }
    }
}

/// The type of a variable, or the type itself.
fn value_type(btf: &Btf, id: TypeId) -> TypeId {
    match btf.get(id) {
        Ok(Type::Var { target, .. }) => target,
        _ => id,
    }
}

/// Whether a typedef on the way says that the value is big endian whatever the machine is.
fn network_order(btf: &Btf, id: TypeId) -> bool {
    let mut at = value_type(btf, id);
    for _ in 0..crate::DEPTH_LIMIT {
        match btf.get(at) {
            Ok(Type::Typedef { name: "__be16" | "__be32" | "__be64", .. }) => return true,
            Ok(
                Type::Typedef { target, .. }
                | Type::Const { target }
                | Type::Volatile { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. },
            ) => at = target,
            _ => return false,
        }
    }
    false
}

fn dotted(text: &str) -> Option<[u8; 4]> {
    text.parse::<std::net::Ipv4Addr>().ok().map(|address| address.octets())
}

fn bytes_of(bits: u128, size: u32, endian: Endian) -> Vec<u8> {
    let size = (size as usize).min(16);
    match endian {
        Endian::Little => bits.to_le_bytes()[..size].to_vec(),
        Endian::Big => bits.to_be_bytes()[16 - size..].to_vec(),
    }
}

/// A number with its sign apart.
fn number(text: &str) -> Option<(bool, u128)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        _ => (10, lower.as_str()),
    };
    // from_str_radix would take a sign here.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, radix).ok().map(|value| (negative, value))
}

/// The number in two's complement, if it fits `bits` bits.
fn fit(text: &str, bits: u32, signed: bool) -> Result<u128, String> {
    let (negative, value) = number(text).ok_or("it is not a number such as 42, -1 or 0x2a")?;
    let half = 1u128 << (bits.clamp(1, 128) - 1);
    let top = half - 1 + half;
    let fits = match (negative, signed) {
        (false, true) => value < half,
        (false, false) => value <= top,
        (true, true) => value <= half,
        (true, false) => value == 0,
    };
    if !fits {
        let range = if signed { format!("-{half} to {}", half - 1) } else { format!("0 to {top}") };
        return Err(format!("it holds {range}"));
    }
    Ok(if negative { value.wrapping_neg() } else { value })
}

fn integer(int: &Int<'_>, text: &str) -> Result<u128, String> {
    if int.bool {
        return match text {
            "true" | "1" => Ok(1),
            "false" | "0" => Ok(0),
            _ => Err("it is not true, false, 1 or 0".to_owned()),
        };
    }
    if int.size > 16 || int.size == 0 {
        return Err("it is wider than 16 bytes".to_owned());
    }
    if let [b'\'', c, b'\''] = text.as_bytes()
        && is_char(int)
    {
        return Ok(u128::from(*c));
    }
    fit(text, int.size * 8, int.signed)
}

fn enumerator(e: &Enum<'_>, text: &str) -> Result<u128, String> {
    if let Some(variant) = e.variants.iter().find(|variant| variant.name == text) {
        return Ok(variant.value.cast_unsigned());
    }
    if number(text).is_some() {
        return fit(text, e.size.min(16) * 8, e.signed);
    }
    let mut names: Vec<&str> = e.variants.iter().take(12).map(|variant| variant.name).collect();
    if e.variants.len() > names.len() {
        names.push("...");
    }
    Err(format!("it is one of {}", names.join(", ")))
}
