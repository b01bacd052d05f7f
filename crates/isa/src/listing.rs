//! A program -> numbered lines, with the help of whoever knows names and source lines.
//!
//! ```
//! use skep_isa::{assemble, encode, Annotate, Insn, InsnIdx, Listing};
//!
//! struct Names;
//! impl Annotate for Names {
//!     fn before(&self, at: InsnIdx) -> Vec<String> {
//!         if at == InsnIdx(0) { vec!["int pid = bpf_get_current_pid_tgid();".into()] } else { vec![] }
//!     }
//!     fn note(&self, _: InsnIdx, insn: &Insn) -> Option<String> {
//!         matches!(insn, Insn::Call(_)).then(|| "bpf_get_current_pid_tgid".into())
//!     }
//! }
//!
//! let slots = encode(&assemble("call 14\nif r0 == 0 goto +1\nr0 = 1\nexit").unwrap());
//! let text = Listing::with(&slots, &Names).to_string();
//! assert_eq!(text, "\
//! ; int pid = bpf_get_current_pid_tgid();
//!     0: call 14  ; bpf_get_current_pid_tgid
//!     1: if r0 == 0 goto +1 <3>
//!     2: r0 = 1
//!     3: exit
//! ");
//! // What was shown can be assembled again.
//! assert_eq!(encode(&assemble(&text).unwrap()), slots);
//! ```
//!
//! Limits: a slot that is no instruction gets a line that says so, and that the assembler refuses; the listing goes on
//! with the next slot.

use std::fmt::{self, Display, Formatter};

use crate::{Endian, Insn, InsnIdx, Raw, decode_at};

/// What is known about a program beyond its bytes. Every method has a default that knows nothing.
pub trait Annotate {
    /// Lines to show above an instruction: a function's name, the source line it comes from.
    fn before(&self, at: InsnIdx) -> Vec<String> {
        let _ = at;
        Vec::new()
    }

    /// What to show behind an instruction: the name of the helper it calls or of the map it loads.
    fn note(&self, at: InsnIdx, insn: &Insn) -> Option<String> {
        let _ = (at, insn);
        None
    }

    /// Name of a jump or call target, shown in place of its number.
    fn label(&self, target: InsnIdx) -> Option<String> {
        let _ = target;
        None
    }
}

/// Knows nothing.
impl Annotate for () {}

/// A program to be displayed, one line for each instruction.
pub struct Listing<'a> {
    slots: &'a [Raw],
    first: InsnIdx,
    names: &'a dyn Annotate,
}

impl<'a> Listing<'a> {
    /// The whole program, with nothing but what the bytes say.
    pub fn new(slots: &'a [Raw]) -> Listing<'a> {
        Listing::with(slots, &())
    }

    /// The whole program, annotated.
    pub fn with(slots: &'a [Raw], names: &'a dyn Annotate) -> Listing<'a> {
        Listing { slots, first: InsnIdx(0), names }
    }

    /// Numbers the lines from `first`, for a part of a bigger program. The annotations are asked by those numbers.
    #[must_use]
    pub fn numbered_from(self, first: InsnIdx) -> Listing<'a> {
        Listing { first, ..self }
    }

    fn line(&self, f: &mut Formatter<'_>, at: InsnIdx, insn: &Insn) -> fmt::Result {
        write!(f, "{:>5}: {insn}", at.0)?;
        if insn.relative().is_some() {
            match insn.target(at) {
                Some(target) => match self.names.label(target) {
                    Some(name) => write!(f, " <{}>", one_word(&name))?,
                    None => write!(f, " <{target}>")?,
                },
                None => f.write_str(" <before the program>")?,
            }
        }
        if let Some(note) = self.names.note(at, insn) {
            write!(f, "  ; {}", one_line(&note))?;
        }
        writeln!(f)
    }
}

impl Display for Listing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut at = InsnIdx(0);
        while at.as_usize() < self.slots.len() {
            let shown = InsnIdx(self.first.0.saturating_add(at.0));
            for line in self.names.before(shown) {
                writeln!(f, "; {}", one_line(&line))?;
            }
            match decode_at(self.slots, at) {
                Ok(insn) => {
                    self.line(f, shown, &insn)?;
                    at.0 = at.0.saturating_add(insn.slots());
                }
                Err(error) => {
                    write!(f, "{:>5}: invalid", shown.0)?;
                    for byte in error.raw.to_bytes(Endian::Little) {
                        write!(f, " {byte:02x}")?;
                    }
                    writeln!(f, "  ; {}", error.problem)?;
                    at.0 = at.0.saturating_add(1);
                }
            }
        }
        Ok(())
    }
}

/// An annotation cannot break out of its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A label cannot break out of its angle brackets, nor start a comment.
fn one_word(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "_.$@+-".contains(c) { c } else { '_' }).collect()
}
