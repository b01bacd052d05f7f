//! Which CPUs the machine may ever have: per-CPU map values have one slot for each *possible* CPU, online or not.
//!
//! `0-3,8` reads as 9 slots: the kernel counts possible CPUs, and numbers need not be dense.
//! Source: `Documentation/admin-guide/cputopology.rst`.

use crate::{Error, error::Result};
use std::sync::OnceLock;

/// Where the kernel tells it.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The numbers in a list such as `0-3,8`; `None` for anything else. At most 65,536 of them.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((a, b)) => (a.trim().parse().ok()?, b.trim().parse().ok()?),
            None => {
                let n: u32 = part.trim().parse().ok()?;
                (n, n)
            }
        };
        if first > last || last >= 65_536 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// How many CPUs the machine may ever have. Read once.
pub fn possible() -> Result<usize> {
    static COUNT: OnceLock<Result<usize>> = OnceLock::new();
    COUNT.get_or_init(|| read(POSSIBLE).map(|cpus| cpus.len())).clone()
}

/// The CPUs that are online now.
pub fn online() -> Result<Vec<u32>> {
    read(ONLINE)
}

fn read(path: &str) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    match parse_list(&text) {
        Some(cpus) if !cpus.is_empty() => Ok(cpus),
        _ => Err(Error::Invalid {
            action: "read",
            object: path.into(),
            why: format!("`{}` is no list of CPUs", text.trim()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(parse_list("0\n"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("x"), None);
        assert_eq!(parse_list("0-4294967295"), None);
    }

    #[test]
    fn this_machine() {
        assert!(possible().expect("sysfs") >= online().expect("sysfs").len());
    }
}
