//! Kernel symbols and their addresses, from `/proc/kallsyms`.
//!
//! The file has some 200,000 lines and is walked once a call; nothing is kept. Addresses read as 0 without CAP_SYSLOG
//! (`kernel.kptr_restrict`).

use crate::error::{Error, Result, near};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};

const PATH: &str = "/proc/kallsyms";

/// One line.
struct Symbol<'a> {
    address: u64,
    /// `T` and `t` are functions, `D`, `d`, `B`, `b`, `R`, `r` data.
    kind: u8,
    name: &'a str,
}

fn parse(line: &str) -> Option<Symbol<'_>> {
    let mut parts = line.split_ascii_whitespace();
    let address = u64::from_str_radix(parts.next()?, 16).ok()?;
    let kind = *parts.next()?.as_bytes().first()?;
    Some(Symbol { address, kind, name: parts.next()? })
}

fn walk(mut visit: impl FnMut(Symbol<'_>)) -> Result<()> {
    let fail = |e| Error::file("read", PATH, e);
    let mut reader = BufReader::with_capacity(256 << 10, std::fs::File::open(PATH).map_err(fail)?);
    let mut line = String::new();
    while reader.read_line(&mut line).map_err(fail)? > 0 {
        if let Some(symbol) = parse(&line) {
            visit(symbol);
        }
        line.clear();
    }
    Ok(())
}

/// The addresses of these symbols; one that is not there is not in the answer. Of several of one name, the first.
pub fn addresses(names: &[&str]) -> Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    walk(|s| {
        if names.contains(&s.name) {
            found.entry(s.name.to_owned()).or_insert(s.address);
        }
    })?;
    if !found.is_empty() && found.values().all(|a| *a == 0) {
        return Err(Error::Permission {
            action: "read",
            object: PATH.into(),
            missing: "the kernel hides addresses (kernel.kptr_restrict)".into(),
            next: "run as root, or with CAP_SYSLOG".into(),
        });
    }
    Ok(found)
}

/// Whether the kernel has a function of this name.
pub fn has_function(name: &str) -> Result<bool> {
    let mut found = false;
    walk(|s| found |= s.name == name && matches!(s.kind, b'T' | b't' | b'W' | b'w'))?;
    Ok(found)
}

/// Functions whose names look like this one, best first.
pub fn near_functions(name: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    walk(|s| {
        if matches!(s.kind, b'T' | b't' | b'W' | b'w') && s.name.len().abs_diff(name.len()) <= 8 {
            names.push(s.name.to_owned());
        }
    })?;
    Ok(near(name, names.iter().map(String::as_str), 4))
}

/// Symbols of any kind whose names look like this one, best first.
pub(crate) fn near_symbols(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    let walked = walk(|s| {
        if s.name.len().abs_diff(name.len()) <= 8 {
            names.push(s.name.to_owned());
        }
    });
    match walked {
        Ok(()) => near(name, names.iter().map(String::as_str), 4),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let s = parse("ffffffff81000000 T _text\n").expect("a symbol");
        assert_eq!((s.address, s.kind, s.name), (0xffff_ffff_8100_0000, b'T', "_text"));
        let s = parse("ffffffffc0000000 t helper\t[module]").expect("a symbol");
        assert_eq!(s.name, "helper");
        assert!(parse("").is_none() && parse("zz T x").is_none());
    }
}
