//! The running kernel's configuration, and values of it as a BPF program's `__kconfig` variables want them.
//!
//! From `/proc/config.gz`, else `/boot/config-RELEASE`. A variable's type says how a value is written, see [`encode`].

use crate::error::{Errno, Error, Result};
use skep_btf::{Btf, Type, TypeId};
use std::collections::HashMap;
use std::io::Read;

/// `CONFIG_NAME` to the text behind `=`.
#[derive(Clone, Debug, Default)]
pub struct Kconfig {
    values: HashMap<String, String>,
}

/// Bytes of unpacked configuration that are read at most; real ones have 300 KiB.
const LIMIT: u64 = 16 << 20;

impl Kconfig {
    /// Reads the running kernel's.
    pub fn read() -> Result<Kconfig> {
        let packed = "/proc/config.gz";
        match std::fs::File::open(packed) {
            Ok(file) => {
                let mut text = String::new();
                flate2::read::GzDecoder::new(file)
                    .take(LIMIT)
                    .read_to_string(&mut text)
                    .map_err(|e| Error::file("read", packed, e))?;
                return Ok(Kconfig::parse(&text));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::file("read", packed, e)),
        }
        let release = crate::sys::kernel_release();
        let plain = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
        for path in &plain {
            match std::fs::read_to_string(path) {
                Ok(text) => return Ok(Kconfig::parse(&text)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file("read", path, e)),
            }
        }
        Err(Error::Unsupported {
            what: "configuration of the running kernel".into(),
            why: format!("neither {packed} nor {} is there", plain[0]),
            next: "declare the `__kconfig` variables `__weak`, or install the kernel's config file".into(),
        })
    }

    /// Takes the text apart; lines that are no settings are passed over.
    pub fn parse(text: &str) -> Kconfig {
        let values = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .filter(|(name, _)| name.starts_with("CONFIG_"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Kconfig { values }
    }

    /// What a setting is set to, as in the file: `y`, `m`, `4096`, `"text"`. `None` when it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Names of settings that look like this one.
    pub(crate) fn near(&self, name: &str) -> Vec<String> {
        crate::error::near(name, self.values.keys().map(String::as_str), 3)
    }
}

/// Writes a value as a variable of a type: `y`, `m`, `n` into `bool`, `char` or `enum libbpf_tristate` (no 0, yes 1,
/// module 2), numbers into integers, quoted text into `char` arrays (always ended by a zero byte).
pub fn encode(btf: &Btf, ty: TypeId, name: &str, value: &str, out: &mut [u8]) -> Result<()> {
    let wrong = |why: String| Error::Invalid { action: "set", object: name.to_owned(), why };
    let bad_type = |source| Error::Btf { of: name.to_owned(), source };
    let resolved = btf.resolve(ty).map_err(bad_type)?;
    match (btf.get(resolved).map_err(bad_type)?, value) {
        (Type::Int(int), "y" | "m" | "n") => {
            let byte = match (int.bool, int.size) {
                (true, _) if value == "m" => return Err(wrong("it is `m`, which does not fit a bool".into())),
                (true, _) => u8::from(value == "y"),
                (false, 1) => value.as_bytes()[0],
                _ => return Err(wrong(format!("it is `{value}`, which takes a bool, a char or a tristate"))),
            };
            put(out, u64::from(byte), name)
        }
        (Type::Enum(e), "y" | "m" | "n") if e.name == "libbpf_tristate" => {
            let number = match value {
                "n" => 0,
                "y" => 1,
                _ => 2,
            };
            put(out, number, name)
        }
        (Type::Array(_), text) => {
            let text = text
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .ok_or_else(|| wrong(format!("it is `{text}`, which is no text")))?;
            let room = out.len().saturating_sub(1);
            out.fill(0);
            for (to, from) in out.iter_mut().take(room).zip(text.bytes()) {
                *to = from;
            }
            Ok(())
        }
        (Type::Int(int), text) => {
            let number = number(text).ok_or_else(|| wrong(format!("it is `{text}`, which is no number")))?;
            let bits = u32::from(int.bits).clamp(1, 64);
            let half = 1i128 << (bits - 1);
            let fits = if int.signed { (-half..half).contains(&number) } else { (0..half * 2).contains(&number) };
            if !fits {
                return Err(wrong(format!("{text} does not fit in {} bytes", int.size)));
            }
            put(out, number as u64, name)
        }
        (other, text) => {
            Err(wrong(format!("it is `{text}`, which does not fit a variable of kind {:?}", other.kind())))
        }
    }
}

fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None => i128::from(digits.parse::<u64>().ok()?),
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Writes the low bytes of a number in the machine's byte order.
pub(crate) fn put(out: &mut [u8], number: u64, name: &str) -> Result<()> {
    let bytes = number.to_ne_bytes();
    let len = out.len();
    let part = if cfg!(target_endian = "little") { bytes.get(..len) } else { bytes.get(8usize.wrapping_sub(len)..) };
    match part {
        Some(part) => {
            out.copy_from_slice(part);
            Ok(())
        }
        None => {
            Err(Error::Invalid { action: "set", object: name.to_owned(), why: format!("{len} bytes are no integer") })
        }
    }
}

/// `LINUX_VERSION_CODE` of the running kernel: major, minor and patch in bits 16, 8 and 0 (patch at most 255).
///
/// Distributions freeze what `uname -r` says and put the true number elsewhere: Ubuntu in `/proc/version_signature`,
/// Debian in `uname -v`.
pub fn kernel_version_code() -> Result<u32> {
    let parse = |text: &str| -> Option<u32> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(major << 16 | minor << 8 | patch.min(255))
    };
    if let Ok(text) = std::fs::read_to_string("/proc/version_signature")
        && let Some(code) = text.split_ascii_whitespace().nth(2).and_then(parse)
    {
        return Ok(code);
    }
    if let Ok(text) = std::fs::read_to_string("/proc/sys/kernel/version")
        && let Some((_, debian)) = text.split_once("Debian ")
        && let Some(code) = parse(debian)
    {
        return Ok(code);
    }
    parse(&crate::sys::kernel_release())
        .ok_or_else(|| Error::file("read", "/proc/sys/kernel/osrelease", Errno(libc::EINVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let k =
            Kconfig::parse("# a comment\nCONFIG_A=y\nCONFIG_HZ=250\n# CONFIG_B is not set\nCONFIG_S=\"x=y\"\nFOO=1\n");
        assert_eq!(k.get("CONFIG_A"), Some("y"));
        assert_eq!(k.get("CONFIG_S"), Some("\"x=y\""));
        assert_eq!(k.get("CONFIG_B"), None);
        assert_eq!(k.get("FOO"), None);
    }

    #[test]
    fn numbers() {
        assert_eq!(number("0x10"), Some(16));
        assert_eq!(number("-3"), Some(-3));
        assert_eq!(number("18446744073709551615"), Some(i128::from(u64::MAX)));
        assert_eq!(number("y"), None);
        let mut out = [0; 4];
        put(&mut out, 0x0102_0304, "x").expect("fits");
        assert_eq!(u32::from_ne_bytes(out), 0x0102_0304);
    }

    #[test]
    fn this_kernel() {
        assert!(kernel_version_code().expect("a version") >= 4 << 16);
    }
}
