//! Kernel versions: `6.1.0-13-cloud-amd64` -> [`KernelVersion`] 6.1.0, ordered.
//!
//! Only the numbers count: what a distribution writes after them (`-13-cloud`, `-rc1`, `+`) says nothing that can be
//! compared, so a release candidate equals its release, and a feature a distribution ported back is not seen here.

use std::{fmt, str::FromStr};

/// A kernel release: `major.minor.patch`. The patch is 0 where it is not given, so `6.1` and `6.1.0` are equal.
///
/// ```
/// use skep_abi::KernelVersion;
/// let debian: KernelVersion = "6.1.0-13-cloud-amd64".parse()?;
/// assert!(debian >= KernelVersion::new(5, 8));
/// assert_eq!(debian.to_string(), "6.1");
/// # Ok::<(), skep_abi::ParseVersionError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KernelVersion {
    /// `6` in `6.1.55`.
    pub major: u16,
    /// `1` in `6.1.55`.
    pub minor: u16,
    /// `55` in `6.1.55`.
    pub patch: u16,
}

impl KernelVersion {
    /// The first release of a series: `new(6, 1)` is 6.1.0.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// The number `LINUX_VERSION_CODE` has for it, which a `kern_version` attribute takes: each part in a byte, a
    /// patch above 255 counted as 255, as the kernel does since 5.4.
    pub fn code(self) -> u32 {
        (u32::from(self.major) << 16) | (u32::from(self.minor.min(255)) << 8) | u32::from(self.patch.min(255))
    }

    /// The release that has this `LINUX_VERSION_CODE`.
    pub fn from_code(code: u32) -> Self {
        let byte = |shift: u32| (code >> shift) as u16 & 0xff;
        Self { major: (code >> 16) as u16, minor: byte(8), patch: byte(0) }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.patch == 0 {
            f.pad(&format!("{}.{}", self.major, self.minor))
        } else {
            f.pad(&format!("{}.{}.{}", self.major, self.minor, self.patch))
        }
    }
}

/// The text is not a kernel version: it does not start with `MAJOR.MINOR`, or a part is above 65535.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseVersionError {
    text: String,
}

impl fmt::Display for ParseVersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a kernel version: write MAJOR.MINOR or MAJOR.MINOR.PATCH, such as 6.1 or 5.15.167",
            self.text
        )
    }
}

impl std::error::Error for ParseVersionError {}

impl FromStr for KernelVersion {
    type Err = ParseVersionError;

    /// Reads what `uname -r` prints, or what a person writes; a leading `v` is allowed.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let error = || ParseVersionError { text: text.chars().take(64).collect() };
        let trimmed = text.trim();
        let mut rest = trimmed.strip_prefix('v').unwrap_or(trimmed);
        let mut parts = [0u16; 3];
        for (index, part) in parts.iter_mut().enumerate() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(digits);
            *part = number.parse().map_err(|_| error())?;
            rest = after;
            // "6.1-rc1" and "6.1.y" end after the minor; "6" alone names a series, not a release.
            match rest.strip_prefix('.') {
                Some(next) if index < 2 && next.starts_with(|c: char| c.is_ascii_digit()) => rest = next,
                _ if index == 0 => return Err(error()),
                _ => break,
            }
        }
        // A letter straight after a digit ("6.1x") is a typing mistake; "6.1.y", "6.1-rc1", "6.1+", "6.1_foo" are names in use.
        if rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(error());
        }
        Ok(Self { major: parts[0], minor: parts[1], patch: parts[2] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<(u16, u16, u16)>) {
        let version = text.parse::<KernelVersion>().ok().map(|v| (v.major, v.minor, v.patch));
        assert_eq!(version, expected, "{text:?}");
    }

    #[test]
    fn parses_what_uname_prints() {
        check("6.1", Some((6, 1, 0)));
        check("v6.1", Some((6, 1, 0)));
        check("6.1.0-13-cloud-amd64", Some((6, 1, 0)));
        check("5.10.0-rc1", Some((5, 10, 0)));
        check("7.2-rc3", Some((7, 2, 0)));
        check("6.18.44-fc-v669", Some((6, 18, 44)));
        check("5.15.167.4-microsoft-standard-WSL2", Some((5, 15, 167)));
        check("4.14.336+", Some((4, 14, 336)));
        check("6.1.y\n", Some((6, 1, 0)));
        for bad in ["", "6", "6.", "linux", ".1", "6.x", "6.1x", "-6.1", "65536.1", "6.1.99999"] {
            check(bad, None);
        }
    }

    #[test]
    fn orders_by_number_and_not_by_text() {
        let v = |text: &str| text.parse::<KernelVersion>().expect(text);
        assert!(v("5.9") < v("5.10"));
        assert!(v("5.19.17") < v("6.0"));
        assert!(v("6.1") < v("6.1.1"));
        assert_eq!(v("6.1"), v("6.1.0"));
    }

    #[test]
    fn code_is_the_kernels() {
        assert_eq!(KernelVersion::new(6, 1).code(), 0x06_01_00);
        assert_eq!("4.14.336".parse::<KernelVersion>().expect("version").code(), 0x04_0e_ff);
        assert_eq!(KernelVersion::from_code(0x05_0a_07).to_string(), "5.10.7");
    }

    proptest! {
        #[test]
        fn any_text_is_a_version_or_an_error(text in ".*") {
            let _ = text.parse::<KernelVersion>();
        }

        #[test]
        fn display_parses_back(major: u16, minor: u16, patch: u16) {
            let version = KernelVersion { major, minor, patch };
            prop_assert_eq!(version.to_string().parse::<KernelVersion>(), Ok(version));
        }
    }
}
