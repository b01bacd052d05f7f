//! The target's types by name, flavours included: who could be meant by a type of the object?
//!
//! Names are looked up in the BTF's own index. Flavoured names (`task_struct___old`) are rare in a kernel, so that they
//! are found by one pass over the strings for `___`, not by a table of all names.

use std::collections::HashMap;

use skep_btf::{Btf, Endian, TypeId};

use super::{compat, essential_name};

/// A type of the target that could be meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    /// Which of the target's BTFs.
    pub(super) btf: usize,
    pub(super) id: TypeId,
}

/// One BTF of the target.
struct Part<'a> {
    btf: &'a Btf,
    /// Flavoured names by the name without the flavour, sorted.
    flavours: Vec<(&'a str, &'a str)>,
}

/// The types that programs are fitted to: the kernel's, and those of its modules.
pub(super) struct Target<'a> {
    parts: Vec<Part<'a>>,
    /// By the object's root type; those that did not match a record are taken out, as libbpf does.
    candidates: HashMap<TypeId, Vec<Candidate>>,
}

impl<'a> Target<'a> {
    pub(super) fn new(btfs: &'a [Btf]) -> Target<'a> {
        let parts = btfs.iter().map(|btf| Part { btf, flavours: flavours(btf) }).collect();
        Target { parts, candidates: HashMap::new() }
    }

    pub(super) fn btf(&self, index: usize) -> Option<&'a Btf> {
        self.parts.get(index).map(|part| part.btf)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The types that could be meant by a type of the object: of its name without flavour and of its kind. A module is asked
    /// only where the kernel itself has none.
    pub(super) fn candidates(&mut self, local: &Btf, id: TypeId) -> Result<&mut Vec<Candidate>, String> {
        if !self.candidates.contains_key(&id) {
            let found = self.search(local, id)?;
            self.candidates.insert(id, found);
        }
        self.candidates.get_mut(&id).ok_or_else(|| "no candidates".to_owned())
    }

    fn search(&self, local: &Btf, id: TypeId) -> Result<Vec<Candidate>, String> {
        let kind = local.kind(id).map_err(|e| e.to_string())?;
        let name = essential_name(local.name(id).map_err(|e| e.to_string())?);
        let mut found = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let first = part.btf.first_id();
            let from = part.flavours.partition_point(|(essential, _)| *essential < name);
            let flavours = part.flavours.iter().skip(from).take_while(|(essential, _)| *essential == name);
            let mut ids: Vec<TypeId> = std::iter::once(name)
                .chain(flavours.map(|(_, full)| *full))
                .flat_map(|name| part.btf.find_all(name))
                // What a module has from the kernel was found there.
                .filter(|id| *id >= first)
                .filter(|id| part.btf.kind(*id).is_ok_and(|other| compat::kinds(kind, other)))
                .collect();
            ids.sort_unstable();
            ids.dedup();
            found.extend(ids.into_iter().map(|id| Candidate { btf: index, id }));
            if index == 0 && !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

/// Every string of the BTF that has a flavour, as (without, with), sorted.
fn flavours(btf: &Btf) -> Vec<(&str, &str)> {
    let strings = string_section(btf).unwrap_or_default();
    let mut found = Vec::new();
    let mut at = 1;
    // Three underscores cannot stand between two places that are three apart without one of them being hit.
    while at + 1 < strings.len() {
        if strings[at] != b'_' {
            at += 3;
            continue;
        }
        let run_start = strings[..at].iter().rposition(|b| *b != b'_').map_or(0, |p| p + 1);
        let run_end = strings[at..].iter().position(|b| *b != b'_').map_or(strings.len(), |p| at + p);
        if run_end - run_start == 3 {
            let start = strings[..run_start].iter().rposition(|b| *b == 0).map_or(0, |p| p + 1);
            let end = strings[run_end..].iter().position(|b| *b == 0).map_or(strings.len(), |p| run_end + p);
            if let Ok(full) = std::str::from_utf8(&strings[start..end])
                && essential_name(full) != full
            {
                found.push((essential_name(full), full));
            }
        }
        at = run_end + 3;
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The string section of a BTF, by its header.
fn string_section(btf: &Btf) -> Option<&[u8]> {
    let bytes = btf.bytes();
    let word = |at: usize| {
        let word = *bytes.get(at..)?.first_chunk::<4>()?;
        let value = match btf.endian() {
            Endian::Little => u32::from_le_bytes(word),
            Endian::Big => u32::from_be_bytes(word),
        };
        usize::try_from(value).ok()
    };
    let start = word(4)?.checked_add(word(16)?)?;
    bytes.get(start..start.checked_add(word(20)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_btf::Builder;

    #[test]
    fn flavoured_names_are_found_at_any_alignment() {
        for shift in 0..6 {
            let mut builder = Builder::new();
            let pad = "p".repeat(shift + 1);
            for name in [pad.as_str(), "a___b", "____x", "plain", "long_name___v2", "x____y", "z___"] {
                builder.structure(name, 0, &[]).expect(name);
            }
            let btf = Btf::parse(builder.build().expect("build")).expect("parse");
            assert_eq!(flavours(&btf), [("a", "a___b"), ("long_name", "long_name___v2")]);
        }
    }
}
