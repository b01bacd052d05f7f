//! Kernel symbols and their addresses, from `/proc/kallsyms`.
//!
//! The file has some 200,000 lines and is walked once a call; nothing is kept. Addresses read as 0 without CAP_SYSLOG
//! (`kernel.kptr_restrict`).

use crate::error::{Error, Near, Result};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};

const PATH: &str = "/proc/kallsyms";

/// One line.
pub(crate) struct Symbol<'a> {
    address: u64,
    /// `T` and `t` are functions, `D`, `d`, `B`, `b`, `R`, `r` data.
    pub(crate) kind: u8,
    pub(crate) name: &'a str,
}

fn parse(line: &str) -> Option<Symbol<'_>> {
    let mut parts = line.split_ascii_whitespace();
    let address = u64::from_str_radix(parts.next()?, 16).ok()?;
    let kind = *parts.next()?.as_bytes().first()?;
    Some(Symbol { address, kind, name: parts.next()? })
}

pub(crate) fn walk(mut visit: impl FnMut(Symbol<'_>)) -> Result<()> {
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

/// Where a symbol is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    At(u64),
    /// Several have the name, such as static functions of several files: two of their addresses.
    Ambiguous(u64, u64),
}

/// Where these symbols are; one that is not there is not in the answer.
pub(crate) fn places(names: &[&str]) -> Result<HashMap<String, Place>> {
    let mut found = HashMap::new();
    walk(|s| add(&mut found, names, &s))?;
    if !found.is_empty() && found.values().all(|place| *place == Place::At(0)) {
        return Err(Error::Permission {
            action: "read",
            object: PATH.into(),
            missing: "the kernel hides addresses (kernel.kptr_restrict)".into(),
            next: "run as root, or with CAP_SYSLOG".into(),
        });
    }
    Ok(found)
}

fn add(found: &mut HashMap<String, Place>, names: &[&str], symbol: &Symbol<'_>) {
    // Static data of a kernel that clang linked as a whole has a suffix that no declaration can have.
    let name = match symbol.name.split_once(".llvm.") {
        Some((name, _)) if symbol.kind == b'd' => name,
        _ => symbol.name,
    };
    if !names.contains(&name) {
        return;
    }
    let place = found.entry(name.to_owned()).or_insert(Place::At(symbol.address));
    if let Place::At(first) = *place
        && first != symbol.address
    {
        *place = Place::Ambiguous(first, symbol.address);
    }
}

/// Why a name that several symbols have is of no use.
pub(crate) fn ambiguous(name: &str, one: u64, other: u64) -> Error {
    Error::Invalid {
        action: "look up",
        object: format!("kernel symbol `{name}`"),
        why: format!("it is ambiguous: the kernel has one at {one:#x} and another at {other:#x}"),
    }
}

/// The addresses of these symbols; one that is not there is not in the answer. A name that several symbols with different
/// addresses have is an error.
pub fn addresses(names: &[&str]) -> Result<HashMap<String, u64>> {
    places(names)?
        .into_iter()
        .map(|(name, place)| match place {
            Place::At(address) => Ok((name, address)),
            Place::Ambiguous(one, other) => Err(ambiguous(&name, one, other)),
        })
        .collect()
}

/// The functions that these addresses lie in: name, and bytes from its start. An address that is in none is not in the
/// answer. Two walks and 8 bytes for each function of the kernel.
pub fn names(addresses: &[u64]) -> Result<HashMap<u64, (String, u64)>> {
    let is_function = |s: &Symbol<'_>| matches!(s.kind, b'T' | b't' | b'W' | b'w') && s.address != 0;
    let mut starts = Vec::new();
    walk(|s| {
        if is_function(&s) {
            starts.push(s.address);
        }
    })?;
    starts.sort_unstable();
    let start_of = |address: u64| match starts.partition_point(|start| *start <= address) {
        0 => None,
        n => starts.get(n - 1).copied(),
    };
    // What lies far behind the last function is not in it.
    let near = |address: &&u64| start_of(**address).is_some_and(|start| **address - start < LONGEST_FUNCTION);
    let wanted: Vec<(u64, u64)> =
        addresses.iter().filter(near).filter_map(|address| Some((start_of(*address)?, *address))).collect();
    let mut found = HashMap::new();
    walk(|s| {
        if is_function(&s) {
            for (start, address) in wanted.iter().filter(|(start, _)| *start == s.address) {
                found.entry(*address).or_insert_with(|| (s.name.to_owned(), address - start));
            }
        }
    })?;
    Ok(found)
}

/// No function of the kernel is longer than this many bytes.
const LONGEST_FUNCTION: u64 = 1 << 20;

/// Whether the kernel has a function of this name.
pub fn has_function(name: &str) -> Result<bool> {
    let mut found = false;
    walk(|s| found |= s.name == name && matches!(s.kind, b'T' | b't' | b'W' | b'w'))?;
    Ok(found)
}

/// Functions whose names look like this one, best first.
pub fn near_functions(name: &str) -> Result<Vec<String>> {
    near_by(name, |s| matches!(s.kind, b'T' | b't' | b'W' | b'w'))
}

/// Symbols of any kind whose names look like this one, best first.
pub(crate) fn near_symbols(name: &str) -> Vec<String> {
    near_by(name, |_| true).unwrap_or_default()
}

fn near_by(name: &str, wanted: impl Fn(&Symbol<'_>) -> bool) -> Result<Vec<String>> {
    let mut near = Near::new(name, 4);
    walk(|s| {
        if wanted(&s) {
            near.offer(s.name);
        }
    })?;
    Ok(near.found())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_within_a_function_has_its_name() {
        let Ok(start) = addresses(&["schedule"]) else { return eprintln!("needs root") };
        let Some(start) = start.get("schedule") else { panic!("no schedule()") };
        let found = names(&[start + 4, 0x1000]).expect("names");
        assert_eq!(found.get(&(start + 4)), Some(&("schedule".to_owned(), 4)));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn two_addresses_are_ambiguous() {
        let mut found = HashMap::new();
        for line in [
            "ff10 t twice",
            "ff20 t other",
            "ff10 T same",
            "ff10 t same",
            "ff30 t twice",
            "ff40 t twice",
            "ff50 d data.llvm.77",
        ] {
            add(&mut found, &["twice", "same", "data"], &parse(line).expect("a symbol"));
        }
        assert_eq!(found.len(), 3);
        assert_eq!(found["data"], Place::At(0xff50));
        assert_eq!(found["twice"], Place::Ambiguous(0xff10, 0xff30));
        assert_eq!(found["same"], Place::At(0xff10));
    }

    #[test]
    fn lines() {
        let s = parse("ffffffff81000000 T _text\n").expect("a symbol");
        assert_eq!((s.address, s.kind, s.name), (0xffff_ffff_8100_0000, b'T', "_text"));
        let s = parse("ffffffffc0000000 t helper\t[module]").expect("a symbol");
        assert_eq!(s.name, "helper");
        assert!(parse("").is_none() && parse("zz T x").is_none());
    }
}
