//! Names that C accepts, each used once in its name space.
//!
//! Structs, unions and enums share one name space (tags), typedefs, enumerators and functions the other. BTF of a kernel
//! has some names twice, since two source files may use one for different things; the second becomes `NAME___2`, the form
//! that CO-RE reads as "the type called NAME".

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Words that cannot be names in C (up to C17), and names that clang has built in.
const KEYWORDS: &[&str] = &[
    "_Alignas",
    "_Alignof",
    "_Atomic",
    "_Bool",
    "_Complex",
    "_Float16",
    "_Generic",
    "_Imaginary",
    "_Noreturn",
    "_Static_assert",
    "_Thread_local",
    "__attribute__",
    "__bf16",
    "__builtin_va_list",
    "__float128",
    "__int128",
    "asm",
    "auto",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "typedef",
    "typeof",
    "union",
    "unsigned",
    "void",
    "volatile",
    "while",
];

/// The name if C accepts it; else one made of it.
pub(super) fn identifier(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !is_keyword(name) {
        return Cow::Borrowed(name);
    }
    let mut text: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if is_keyword(&text) {
        text.push('_');
    }
    Cow::Owned(text)
}

fn is_keyword(name: &str) -> bool {
    KEYWORDS.binary_search(&name).is_ok()
}

/// A name space.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Names that stand in the BTF, with how often each was given out.
    own: HashMap<Cow<'a, str>, u32>,
    /// Names made by a suffix.
    made: HashSet<String>,
}

impl<'a> Names<'a> {
    /// Notes a name that will be asked for, so that no made name takes it.
    pub(super) fn note(&mut self, name: &'a str) {
        self.own.entry(identifier(name)).or_insert(0);
    }

    /// Whether the name was given out.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.own.get(name).is_some_and(|count| *count > 0) || self.made.contains(name)
    }

    /// The name itself the first time, `NAME___2` the second.
    pub(super) fn take(&mut self, name: &'a str) -> Cow<'a, str> {
        let name = identifier(name);
        let mut count = *self.own.get(&name).unwrap_or(&0);
        let mut chosen = name.clone();
        loop {
            count += 1;
            if count > 1 {
                chosen = Cow::Owned(format!("{name}___{count}"));
                if self.own.contains_key(&chosen) || !self.made.insert(chosen.clone().into_owned()) {
                    continue;
                }
            }
            break;
        }
        self.own.insert(name, count);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn names_are_made_valid_and_unique() {
        assert_eq!(identifier("a.b<c>"), "a_b_c_");
        assert_eq!(identifier("9p"), "_9p");
        assert_eq!(identifier("int"), "int_");
        let mut names = Names::default();
        for name in ["x", "x___2", "y"] {
            names.note(name);
        }
        let taken: Vec<_> = ["x", "x", "x___2", "x", "y"].iter().map(|n| names.take(n).into_owned()).collect();
        assert_eq!(taken, ["x", "x___3", "x___2", "x___4", "y"]);
    }
}
