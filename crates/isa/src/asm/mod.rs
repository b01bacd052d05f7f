//! Text -> instructions.
//!
//! The text is what [`Insn`] prints, a line for each instruction, and what LLVM and bpftool print where that says the
//! same. Beyond that:
//!
//! - `name:` before an instruction or alone on a line is a label; jumps, `call` and `code_addr` take labels for
//!   distances (`goto name`, `if r1 == 0 goto name`, `call name`, `r1 = code_addr(name)`).
//! - Everything after `;`, `//` or `#` is a comment.
//! - A line may begin with its slot number, as in listings (`12: r0 = 0`, `12: (b7) r0 = 0`), and a jump may end with
//!   its target (`goto +5 <18>`). Slot numbers are checked, so that a line missing from a listing is noticed.
//! - Numbers are decimal or hexadecimal (`0x`).
//!
//! Every error has line and column, and there may be up to [`MAX_ERRORS`] of them:
//!
//! ```
//! let errors = skep_isa::assemble("loop: r0 += 1\nr0 = r11\ngoto lop").unwrap_err();
//! assert_eq!(errors[0].to_string(), "line 2, column 6: there is no register r11; the registers are r0 to r10");
//! assert_eq!(errors[1].to_string(), "line 3, column 6: there is no label lop; did you mean loop?");
//! ```
//!
//! Limits: at most [`MAX_SLOTS`] slots. No directives, no expressions, no relocations: a name where a number belongs
//! is an error.

mod lex;
mod parse;

use std::collections::HashMap;

use thiserror::Error;

pub(crate) use lex::{Token, number, tokens, without_comment};
use parse::{Fail, Parser, Statement};

use crate::near::nearest;
use crate::{Call, Insn, Wide};

/// Slots of the longest program that can be assembled; Linux takes no more either (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const MAX_SLOTS: u32 = 1_000_000;

/// Errors that are collected before the assembler gives up.
pub const MAX_ERRORS: usize = 100;

/// What is wrong with a line of assembly.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}, column {column}: {message}{help}", help = help_text(.help))]
pub struct AsmError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that can be told.
    pub help: Option<String>,
}

fn help_text(help: &Option<String>) -> String {
    help.as_ref().map(|text| format!("; {text}")).unwrap_or_default()
}

/// Names that the caller knows numbers for.
pub trait Symbols {
    /// The number of the helper with this name, for `call bpf_ktime_get_ns`.
    fn helper(&self, name: &str) -> Option<u32> {
        let _ = name;
        None
    }

    /// Every name that [`Symbols::helper`] knows, to propose the nearest one.
    fn helper_names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Knows no name.
impl Symbols for () {}

/// Assembles a program in which helpers are called by number.
///
/// # Errors
/// All that is wrong with the text, in order of lines.
pub fn assemble(text: &str) -> Result<Vec<Insn>, Vec<AsmError>> {
    assemble_with(text, &())
}

/// Assembles a program; `symbols` knows the names of helpers.
///
/// # Errors
/// All that is wrong with the text, in order of lines.
pub fn assemble_with(text: &str, symbols: &dyn Symbols) -> Result<Vec<Insn>, Vec<AsmError>> {
    let mut assembler = Assembler::default();
    for (index, line) in text.lines().enumerate() {
        if let Err(fail) = assembler.line(index, line) {
            assembler.errors.push(fail.at_line(index, line));
        }
        if assembler.errors.len() >= MAX_ERRORS {
            break;
        }
    }
    assembler.finish(symbols)
}

/// A name that was used for a place in the program.
struct Reference {
    insn: usize,
    slot: u32,
    name: String,
    line: usize,
    column: usize,
}

#[derive(Default)]
struct Assembler {
    insns: Vec<Insn>,
    slot: u32,
    labels: HashMap<String, u32>,
    references: Vec<Reference>,
    errors: Vec<AsmError>,
    /// Slot number of the last line that had one, minus the slot where it really stands.
    numbering: Option<i64>,
}

impl Assembler {
    fn line(&mut self, index: usize, line: &str) -> Result<(), Fail> {
        let code = without_target(without_comment(line, &[";", "//", "#"]));
        let tokens = tokens(code).map_err(|(at, c)| Fail::new(at, format!("{c:?} has no meaning here")))?;
        let mut parser = Parser::new(&tokens, code.trim_end().len());
        let number = parser.slot_number()?;
        while let Some((at, name)) = parser.label() {
            if self.labels.insert(name.to_owned(), self.slot).is_some() {
                return Err(Fail::new(at, format!("there is a label {name} already")));
            }
        }
        if let Some((at, number)) = number {
            self.check_number(at, number, self.slot)?;
        }
        if parser.at_end() {
            return Ok(());
        }
        let Statement { insn, target } = parser.statement()?;
        if self.slot.saturating_add(insn.slots()) > MAX_SLOTS {
            return Err(Fail::new(0, format!("the program has more than {MAX_SLOTS} slots")));
        }
        if let Some((at, name)) = target {
            let column = column(line, at);
            let reference =
                Reference { insn: self.insns.len(), slot: self.slot, name: name.to_owned(), line: index + 1, column };
            self.references.push(reference);
        }
        self.slot += insn.slots();
        self.insns.push(insn);
        Ok(())
    }

    /// A listing may start anywhere, and a new one may follow from 0; in between a missing line is an error, because
    /// distances in the text would silently lead elsewhere.
    fn check_number(&mut self, at: usize, number: u64, slot: u32) -> Result<(), Fail> {
        let shift = i64::try_from(number).unwrap_or(i64::MAX).saturating_sub(slot.into());
        match self.numbering {
            Some(expected) if expected != shift && number != 0 && self.errors.is_empty() => {
                let expected = expected + i64::from(slot);
                Err(Fail::new(at, format!("this line says slot {number}, but it is slot {expected}"))
                    .help("write jumps with labels and leave the numbers away"))
            }
            _ => {
                self.numbering = Some(shift);
                Ok(())
            }
        }
    }

    fn finish(mut self, symbols: &dyn Symbols) -> Result<Vec<Insn>, Vec<AsmError>> {
        for reference in std::mem::take(&mut self.references) {
            let Err(fail) = self.resolve(&reference, symbols) else { continue };
            if self.errors.len() < MAX_ERRORS {
                let Reference { line, column, .. } = reference;
                self.errors.push(AsmError { line, column, message: fail.message, help: fail.help });
            }
        }
        if self.errors.is_empty() {
            return Ok(self.insns);
        }
        self.errors.sort_by_key(|error| (error.line, error.column));
        Err(self.errors)
    }

    fn resolve(&mut self, reference: &Reference, symbols: &dyn Symbols) -> Result<(), Fail> {
        let Reference { insn, slot, ref name, .. } = *reference;
        let Some(insn) = self.insns.get_mut(insn) else { return Ok(()) };
        let is_call = matches!(insn, Insn::Call(_));
        if let Some(&label) = self.labels.get(name) {
            // Where lines are missing because of errors, distances mean nothing.
            let distance = if self.errors.is_empty() { i64::from(label) - i64::from(slot) - 1 } else { 0 };
            return set_relative(insn, distance);
        }
        if is_call && let Some(id) = symbols.helper(name) {
            *insn = Insn::Call(Call::Helper(id));
            return Ok(());
        }
        let mut known: Vec<&str> = self.labels.keys().map(String::as_str).collect();
        let what = if is_call {
            known.extend(symbols.helper_names());
            "label or helper"
        } else {
            "label"
        };
        let fail = Fail::new(0, format!("there is no {what} {name}"));
        Err(match nearest(name, known) {
            Some(near) => fail.help(format!("did you mean {near}?")),
            None => fail,
        })
    }
}

/// Sets the distance of an instruction that has one, in slots from the next instruction.
fn set_relative(insn: &mut Insn, distance: i64) -> Result<(), Fail> {
    let far = |help: &str| {
        let fail = Fail::new(0, format!("the label is {distance} slots away, too far for this instruction"));
        if help.is_empty() { fail } else { fail.help(help) }
    };
    match insn {
        Insn::Jump { off } => *off = i16::try_from(distance).map_err(|_| far("use gotol"))?,
        Insn::JumpIf { off, .. } | Insn::MayGoto { off } => {
            *off = i16::try_from(distance).map_err(|_| far("jump to a gotol that is near"))?;
        }
        Insn::JumpLong { off } => *off = i32::try_from(distance).map_err(|_| far(""))?,
        Insn::Call(call) => *call = Call::Subprog(i32::try_from(distance).map_err(|_| far(""))?),
        Insn::LoadWide { value, .. } => *value = Wide::Func(i32::try_from(distance).map_err(|_| far(""))?),
        _ => {}
    }
    Ok(())
}

/// The line without the `<18>` that listings put behind a jump.
fn without_target(line: &str) -> &str {
    let trimmed = line.trim_end();
    match trimmed.strip_suffix('>').and_then(|rest| rest.rfind(" <")) {
        Some(start) => &trimmed[..start],
        None => line,
    }
}

/// Column, in characters from 1, of a byte of a line.
pub(crate) fn column(line: &str, at: usize) -> usize {
    line.char_indices().take_while(|&(start, _)| start < at).count() + 1
}
