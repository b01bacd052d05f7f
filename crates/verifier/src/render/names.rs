//! Which variable a register holds, guessed from the source lines where they leave one plausible choice.
//!
//! Line records say which line an instruction was made from, not which variable a register is. But `value = lookup(...)`
//! names what its call returns, and where a line has a single variable the value in question is that one. Where there is
//! any doubt no name is given: a wrong one would mislead.

use super::source::Sources;
use crate::{Place, Rejection, StepKind};
use skep_isa::{Insn, InsnIdx, Reg, Source, decode_at};
use skep_object::ProgramSpec;
use std::collections::{BTreeMap, HashMap};

/// Names of what is in registers where the program is refused.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_register: BTreeMap<u8, String>,
    /// The register that the refused instruction is about.
    subject: Option<Reg>,
}

impl Names {
    pub(super) fn of(sources: &Sources<'_>, rejection: &Rejection) -> Names {
        let mut places: HashMap<Place, String> = HashMap::new();
        let text = |insn: InsnIdx| sources.line(insn).map(|line| line.text).unwrap_or_default();
        for step in &rejection.path {
            match &step.kind {
                StepKind::Origin { place, .. } => {
                    if let Some(name) = assigned(&text(step.insn), is_plain) {
                        places.insert(*place, name);
                    } else {
                        places.remove(place);
                    }
                }
                StepKind::Changed { place, .. } => {
                    if let Some(name) = assigned(&text(step.insn), is_arithmetic) {
                        places.insert(*place, name);
                    }
                }
                StepKind::Copied { from, to } => {
                    if let Some(name) = places.get(from).cloned() {
                        places.insert(*to, name);
                    }
                }
                StepKind::Call { .. } | StepKind::Return => places.clear(),
                StepKind::Branch { .. } | StepKind::CheckLost { .. } | StepKind::Acquired { .. } => {}
            }
        }
        let mut by_register = BTreeMap::new();
        for (place, name) in places {
            if let Place::Reg(register) = place {
                by_register.insert(register.number(), name);
            }
        }
        // The line itself, for the register that its instruction is about.
        let subject = subject(sources.program, rejection.insn);
        if let Some(register) = subject
            && !by_register.contains_key(&register.number())
            && let Some(name) = only_variable(&text(rejection.insn))
        {
            by_register.insert(register.number(), name);
        }
        Names { by_register, subject }
    }

    /// The variable that the refused instruction follows or compares.
    pub(super) fn subject(&self) -> Option<&str> {
        self.get(Place::Reg(self.subject?))
    }

    /// The variable in a place.
    pub(super) fn get(&self, place: Place) -> Option<&str> {
        match place {
            Place::Reg(register) => self.by_register.get(&register.number()).map(String::as_str),
            Place::Stack(_) => None,
        }
    }

    /// The text with variables in place of the registers that hold them: `r0 may be null` becomes `` `value` may be null``.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while let Some(c) = rest.chars().next() {
            let word = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
            if word == 0 {
                out.push(c);
                before = c;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            let (name, after) = rest.split_at(word);
            let quoted = before == '`' && after.starts_with('`');
            let register = name.strip_prefix('r').and_then(|number| number.parse::<u8>().ok());
            match register.and_then(|number| self.by_register.get(&number)) {
                Some(variable) if quoted => out.push_str(variable),
                Some(variable) => {
                    out.push('`');
                    out.push_str(variable);
                    out.push('`');
                }
                None => out.push_str(name),
            }
            before = ' ';
            rest = after;
        }
        out
    }
}

/// The register that an instruction follows or compares.
fn subject(program: &ProgramSpec, insn: InsnIdx) -> Option<Reg> {
    match decode_at(&program.insns, insn).ok()? {
        Insn::Load { base, .. }
        | Insn::LoadSx { base, .. }
        | Insn::Store { base, .. }
        | Insn::Atomic { base, .. }
        | Insn::LoadAcquire { base, .. }
        | Insn::StoreRelease { base, .. } => Some(base).filter(|base| *base != Reg::FP),
        Insn::JumpIf { dst, src: Source::Imm(_), .. } => Some(dst),
        _ => None,
    }
}

/// Words of C that are no variables.
const KEYWORDS: &[&str] = &[
    "auto", "bool", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "false", "float", "for", "goto", "if", "inline", "int", "long", "register", "return", "short", "signed", "sizeof",
    "static", "struct", "switch", "true", "typedef", "union", "unsigned", "void", "volatile", "while",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    Mark(&'a str),
}

/// Words and marks of a line, without numbers, strings and comments. Marks are single characters but for `->` and those
/// that contain `=`.
fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") || rest.starts_with("/*") {
            break;
        }
        let length = if c.is_ascii_alphanumeric() || c == '_' {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if c == '"' || c == '\'' {
            rest[1..].find(c).map_or(rest.len(), |end| end + 2)
        } else {
            let marks = ["->", "==", "!=", "<=", ">=", "<<=", ">>=", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^="];
            marks.iter().find(|mark| rest.starts_with(**mark)).map_or(c.len_utf8(), |mark| mark.len())
        };
        let (token, after) = rest.split_at(length);
        if c.is_ascii_alphabetic() || c == '_' {
            out.push(Token::Word(token));
        } else if !c.is_whitespace() && !c.is_ascii_digit() && c != '"' && c != '\'' {
            out.push(Token::Mark(token));
        }
        rest = after;
    }
    out
}

/// What a line assigns to, where that is a plain variable and what is assigned is as it should be: `value` in `u64 *value =
/// lookup(&map, &key);`.
fn assigned(line: &str, as_it_should_be: fn(&str, &[Token<'_>]) -> bool) -> Option<String> {
    let tokens = tokens(line);
    let mut assignments = tokens.iter().enumerate().filter_map(|(at, token)| match token {
        Token::Mark(mark @ ("=" | "+=" | "-=" | "*=" | "/=" | "%=" | "|=" | "&=" | "^=" | "<<=" | ">>=")) => {
            Some((at, *mark))
        }
        _ => None,
    });
    let (at, mark) = assignments.next()?;
    if assignments.next().is_some() || tokens.first() == Some(&Token::Word("for")) {
        return None;
    }
    let Some(Token::Word(name)) = at.checked_sub(1).and_then(|before| tokens.get(before)) else { return None };
    // `*p = x` and `s.f = x` assign to memory; `int *p = x` declares a variable.
    let before = at.checked_sub(2).and_then(|before| tokens.get(before));
    let declares = tokens[..at - 1].iter().any(|token| matches!(token, Token::Word(_)));
    match before {
        Some(Token::Mark("." | "->" | "[" | "]" | ")")) => return None,
        Some(Token::Mark("*")) if !declares => return None,
        _ => {}
    }
    let value = &tokens[at + 1..];
    (is_variable(name) && as_it_should_be(mark, value)).then(|| (*name).to_owned())
}

/// Whether a value is loaded or returned as it is: a member, an element, a call, perhaps cast; not a part of something.
fn is_plain(mark: &str, value: &[Token<'_>]) -> bool {
    let mut depth = 0_i32;
    let mut operand = false;
    for token in value {
        match token {
            Token::Mark("(" | "[") => depth += 1,
            Token::Mark(")" | "]") => depth -= 1,
            Token::Word(_) if depth == 0 => operand = true,
            Token::Mark(";") => break,
            Token::Mark("->" | "." | "&" | "*")
                if depth == 0 && !(operand && matches!(token, Token::Mark("&" | "*"))) => {}
            Token::Mark(_) if depth == 0 => return false,
            _ => {}
        }
    }
    mark == "=" && operand
}

/// Whether a value is a variable with constants, or a change by constants: whatever is computed then is the variable that is
/// assigned.
fn is_arithmetic(mark: &str, value: &[Token<'_>]) -> bool {
    let plain = value.iter().all(|token| !matches!(token, Token::Mark("->" | "." | "[" | "(" | "?")));
    let variables = value.iter().filter(|token| matches!(token, Token::Word(name) if is_variable(name))).count();
    plain && variables <= usize::from(mark == "=")
}

/// The variable of a line that has only one.
fn only_variable(line: &str) -> Option<String> {
    let tokens = tokens(line);
    let mut found: Option<&str> = None;
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(name) = token else { continue };
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let after = tokens.get(at + 1);
        let is_field = matches!(before, Some(Token::Mark("." | "->")));
        let is_type = matches!(before, Some(Token::Word("struct" | "union" | "enum")))
            || matches!(after, Some(Token::Word(_)))
            || name.starts_with("__") && name.len() <= 6;
        let is_called = matches!(after, Some(Token::Mark("(")));
        if is_field || is_type || is_called || !is_variable(name) {
            continue;
        }
        match found {
            Some(other) if other != *name => return None,
            _ => found = Some(name),
        }
    }
    found.map(str::to_owned)
}

/// Neither a keyword nor, by custom, a macro or a type.
fn is_variable(name: &str) -> bool {
    let is_macro = name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let is_type = name.ends_with("_t") || matches!(name, "u8" | "u16" | "u32" | "u64" | "s8" | "s16" | "s32" | "s64");
    !KEYWORDS.contains(&name) && !is_macro && !is_type
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_their_variable() {
        let check =
            |line: &str, expected: Option<&str>| assert_eq!(assigned(line, is_plain).as_deref(), expected, "{line}");
        check("\t__u64 *value = bpf_map_lookup_elem(&counts, &key);", Some("value"));
        check("  len = ctx->len;", Some("len"));
        check("  struct ethhdr *eth = (void *)(long)ctx->data;", Some("eth"));
        check("  len = ctx->len + 4;", None);
        check("  len += ctx->len;", None);
        check("  *value = 3;", None);
        check("  s->len = f();", None);
        check("  table[i] = f();", None);
        check("  a = b = f();", None);
        check("  if (a == b)", None);
        check("  f(\"x = 3\");", None);
        check("  for (int i = f(); i; i++)", None);
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(assigned(line, is_arithmetic).as_deref(), expected, "{line}");
        };
        check("  i += 4; // next", Some("i"));
        check("  len &= MASK;", Some("len"));
        check("  half = len >> 1;", Some("half"));
        check("  sum += slots->slot[at];", None);
        check("  sum += at;", None);
        check("  sum = a + b;", None);
    }

    #[test]
    fn a_line_with_one_variable_names_it() {
        let check = |line: &str, expected: Option<&str>| assert_eq!(only_variable(line).as_deref(), expected, "{line}");
        check("  *value += 1;", Some("value"));
        check("  return eth->h_proto == bpf_htons(ETH_P_IP);", Some("eth"));
        check("  return table[i];", None);
        check("  struct iphdr *ip = 0;", Some("ip"));
        check("  return 0;", None);
    }

    #[test]
    fn registers_become_names() {
        let names = Names { by_register: BTreeMap::from([(0, "value".to_owned())]), subject: None };
        assert_eq!(names.apply("r0 may be null, r10 and r1 not"), "`value` may be null, r10 and r1 not");
        assert_eq!(names.apply("`r0` may be null"), "`value` may be null");
        assert_eq!(names.apply("err0 \u{e9}r0"), "err0 \u{e9}`value`");
    }
}
