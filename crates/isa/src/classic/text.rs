//! Classic instructions <-> the text of `tcpdump -d`; filters <-> the numbers of `tcpdump -ddd`.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter, Write as _};

use super::{AluOp, Ancillary, Insn, JmpOp, Operand, PacketOffset, Register, Scratch, SockFilter};
use crate::asm::{Token, column, number, tokens, without_comment};
use crate::near::nearest;
use crate::{AsmError, MAX_ERRORS, NarrowSize};

/// A program as `tcpdump -d` shows it, without spaces at line ends. Targets of jumps are indices.
pub struct Text<'a>(pub &'a [Insn]);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        (0u32..).zip(self.0).try_for_each(|(at, insn)| {
            write_line(f, at, insn)?;
            writeln!(f)
        })
    }
}

fn write_line(f: &mut Formatter<'_>, at: u32, insn: &Insn) -> fmt::Result {
    let (op, operand) = parts(at, insn);
    write!(f, "({at:03}) ")?;
    if let Insn::JumpIf { jt, jf, .. } = *insn {
        let target = |skip: u8| at.saturating_add(1).saturating_add(skip.into());
        write!(f, "{op:<8} {operand:<16} jt {}\tjf {}", target(jt), target(jf))
    } else if operand.is_empty() {
        f.write_str(op)
    } else {
        write!(f, "{op:<8} {operand}")
    }
}

/// Mnemonic and operand.
fn parts(at: u32, insn: &Insn) -> (&'static str, String) {
    let load = |to| if to == Register::X { "ldx" } else { "ld" };
    match *insn {
        Insn::LoadAbs { size, at } => (load_name(size), format!("[{}]", at.value().cast_signed())),
        Insn::LoadAncillary { size, what } => (load_name(size), format!("[{}]", what.name())),
        Insn::LoadInd { size, k } => (load_name(size), format!("[x + {}]", k.cast_signed())),
        Insn::LoadLen(to) => (load(to), "#pktlen".to_owned()),
        Insn::LoadImm(to, k) => (load(to), format!("#{k:#x}")),
        Insn::LoadMem(to, word) => (load(to), format!("M[{}]", word.number())),
        Insn::LoadMsh(k) => ("ldxb", format!("4*([{}]&0xf)", k.cast_signed())),
        Insn::Store(Register::A, word) => ("st", format!("M[{}]", word.number())),
        Insn::Store(Register::X, word) => ("stx", format!("M[{}]", word.number())),
        Insn::Alu(op, Operand::X) => (op.name(), "x".to_owned()),
        Insn::Alu(op @ (AluOp::And | AluOp::Or | AluOp::Xor), Operand::K(k)) => (op.name(), format!("#{k:#x}")),
        Insn::Alu(op, Operand::K(k)) => (op.name(), format!("#{}", k.cast_signed())),
        Insn::Neg => ("neg", String::new()),
        Insn::Jump(k) => ("ja", at.wrapping_add(1).wrapping_add(k).cast_signed().to_string()),
        Insn::JumpIf { op, with: Operand::X, .. } => (op.name(), "x".to_owned()),
        Insn::JumpIf { op, with: Operand::K(k), .. } => (op.name(), format!("#{k:#x}")),
        Insn::Ret(k) => ("ret", format!("#{}", k.cast_signed())),
        Insn::RetA => ("ret", String::new()),
        Insn::Tax => ("tax", String::new()),
        Insn::Txa => ("txa", String::new()),
    }
}

fn load_name(size: NarrowSize) -> &'static str {
    match size {
        NarrowSize::B => "ldb",
        NarrowSize::H => "ldh",
        NarrowSize::W => "ld",
    }
}

const MNEMONICS: [&str; 26] = [
    "ld", "ldh", "ldb", "ldx", "ldxb", "st", "stx", "ja", "jeq", "jgt", "jge", "jset", "add", "sub", "mul", "div",
    "mod", "and", "or", "xor", "lsh", "rsh", "neg", "tax", "txa", "ret",
];

/// Assembles the text of `tcpdump -d`.
///
/// The index in front of a line may be left away; `jt`, `jf` and `ja` take an index or the name of a label (`name:`
/// before an instruction or alone on a line); everything after `;` or `//` is a comment.
///
/// # Errors
/// All that is wrong with the text, in order of lines, at most [`MAX_ERRORS`]. Whether the program as a whole makes
/// sense, [`super::check`] says.
pub fn assemble(text: &str) -> Result<Vec<Insn>, Vec<AsmError>> {
    let mut assembler = Assembler::default();
    for (index, line) in text.lines().enumerate() {
        if let Err(fail) = assembler.line(index, line) {
            assembler.errors.push(fail.at_line(index, line));
        }
        if assembler.errors.len() >= MAX_ERRORS {
            break;
        }
    }
    assembler.finish()
}

struct Fail {
    at: usize,
    message: String,
    help: Option<String>,
}

impl Fail {
    fn new(at: usize, message: impl Into<String>) -> Fail {
        Fail { at, message: message.into(), help: None }
    }

    fn at_line(self, index: usize, line: &str) -> AsmError {
        AsmError { line: index + 1, column: column(line, self.at), message: self.message, help: self.help }
    }
}

/// Where a jump goes: an index, or a name with its place in the text.
enum Place {
    Index(u32),
    Name { name: String, line: usize, column: usize },
}

/// An instruction whose jump targets (`ja`: one, conditional: true and false) are still places.
struct Pending {
    insn: Insn,
    targets: Vec<Place>,
    line: usize,
}

#[derive(Default)]
struct Assembler {
    pending: Vec<Pending>,
    labels: HashMap<String, u32>,
    errors: Vec<AsmError>,
}

impl Assembler {
    fn here(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX)
    }

    fn line(&mut self, index: usize, line: &str) -> Result<(), Fail> {
        let code = without_comment(line, &[";", "//"]);
        let tokens = tokens(code).map_err(|(at, c)| Fail::new(at, format!("{c:?} has no meaning here")))?;
        let mut parser = Parser { tokens: &tokens, end: code.trim_end().len(), line, index };
        if let [(at, Token::Symbol("(")), (_, Token::Number(text)), (_, Token::Symbol(")")), rest @ ..] = parser.tokens
        {
            // Always decimal, also with the zeros in front.
            if text.parse() != Ok(self.here()) && self.errors.is_empty() {
                let message = format!("this line says instruction {text}, but it is instruction {}", self.here());
                let help = "write jumps with labels and leave the numbers away".to_owned();
                return Err(Fail { at: *at, message, help: Some(help) });
            }
            parser.tokens = rest;
        }
        while let [(at, Token::Name(name)), (_, Token::Symbol(":")), rest @ ..] = parser.tokens {
            parser.tokens = rest;
            if self.labels.insert((*name).to_owned(), self.here()).is_some() {
                return Err(Fail::new(*at, format!("there is a label {name} already")));
            }
        }
        if parser.tokens.is_empty() {
            return Ok(());
        }
        let (insn, targets) = parser.instruction()?;
        if !parser.tokens.is_empty() {
            return Err(parser.expected("the end of the line"));
        }
        self.pending.push(Pending { insn, targets, line: index + 1 });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Insn>, Vec<AsmError>> {
        let mut program = Vec::with_capacity(self.pending.len());
        for (at, mut pending) in (0u32..).zip(std::mem::take(&mut self.pending)) {
            let targets: Vec<u32> = pending.targets.iter().map(|place| self.index_of(place)).collect();
            let next = at.wrapping_add(1);
            match (&mut pending.insn, targets.as_slice()) {
                (Insn::Jump(skip), &[target]) => *skip = target.wrapping_sub(next),
                (Insn::JumpIf { jt, jf, .. }, &[when_true, when_false]) => {
                    for (skip, target) in [(jt, when_true), (jf, when_false)] {
                        let distance = target.checked_sub(next).and_then(|distance| u8::try_from(distance).ok());
                        match distance {
                            Some(distance) => *skip = distance,
                            // With lines missing because of errors, distances mean nothing.
                            None if !self.errors.is_empty() => {}
                            None => self.errors.push(AsmError {
                                line: pending.line,
                                column: 1,
                                message: format!("instruction {at} cannot jump to {target}"),
                                help: Some("a conditional jump goes forward, over at most 255 instructions".to_owned()),
                            }),
                        }
                    }
                }
                _ => {}
            }
            program.push(pending.insn);
        }
        if self.errors.is_empty() {
            return Ok(program);
        }
        self.errors.sort_by_key(|error| (error.line, error.column));
        self.errors.truncate(MAX_ERRORS);
        Err(self.errors)
    }

    fn index_of(&mut self, place: &Place) -> u32 {
        match place {
            Place::Index(index) => *index,
            Place::Name { name, line, column } => match self.labels.get(name) {
                Some(&index) => index,
                None => {
                    let near = nearest(name, self.labels.keys().map(String::as_str));
                    let help = near.map(|near| format!("did you mean {near}?"));
                    let message = format!("there is no label {name}");
                    self.errors.push(AsmError { line: *line, column: *column, message, help });
                    0
                }
            },
        }
    }
}

struct Parser<'t, 'a> {
    tokens: &'t [(usize, Token<'a>)],
    end: usize,
    line: &'a str,
    index: usize,
}

impl Parser<'_, '_> {
    fn at(&self) -> usize {
        self.tokens.first().map_or(self.end, |&(at, _)| at)
    }

    fn expected(&self, what: &str) -> Fail {
        match self.tokens.first() {
            Some((at, token)) => Fail::new(*at, format!("expected {what}, found {}", token.text())),
            None => Fail::new(self.end, format!("expected {what}, but the line ends here")),
        }
    }

    fn accept(&mut self, symbol: &str) -> bool {
        match self.tokens {
            [(_, Token::Symbol(next)), rest @ ..] if *next == symbol => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Fail> {
        if self.accept(symbol) { Ok(()) } else { Err(self.expected(symbol)) }
    }

    fn accept_name(&mut self, name: &str) -> bool {
        match self.tokens {
            [(_, Token::Name(next)), rest @ ..] if *next == name => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }

    /// 32 bits, signed or not.
    fn number(&mut self) -> Result<u32, Fail> {
        let at = self.at();
        let negative = self.accept("-");
        let [(_, Token::Number(text)), rest @ ..] = self.tokens else { return Err(self.expected("a number")) };
        let value = number(text).map(i128::from).map(|value| if negative { -value } else { value });
        let value = value
            .and_then(|value| u32::try_from(value).ok().or_else(|| i32::try_from(value).ok().map(i32::cast_unsigned)));
        self.tokens = rest;
        value.ok_or_else(|| Fail::new(at, format!("{text} is no number of 32 bits")))
    }

    fn instruction(&mut self) -> Result<(Insn, Vec<Place>), Fail> {
        let [(start, Token::Name(name)), rest @ ..] = self.tokens else {
            return Err(self.expected("an instruction"));
        };
        self.tokens = rest;
        if let Some(op) = AluOp::ALL.into_iter().find(|op| op.name() == *name) {
            return Ok((Insn::Alu(op, self.operand()?), Vec::new()));
        }
        if let Some(op) = JmpOp::ALL.into_iter().find(|op| op.name() == *name) {
            let with = self.operand()?;
            let mut targets = Vec::new();
            for side in ["jt", "jf"] {
                if !self.accept_name(side) {
                    return Err(self.expected(side));
                }
                targets.push(self.place()?);
            }
            return Ok((Insn::JumpIf { op, with, jt: 0, jf: 0 }, targets));
        }
        let insn = match *name {
            "ld" => self.load(NarrowSize::W)?,
            "ldh" => self.packet_load(NarrowSize::H)?,
            "ldb" => self.packet_load(NarrowSize::B)?,
            "ldx" => self.load_register(Register::X)?,
            "ldxb" => self.load_msh()?,
            "st" => Insn::Store(Register::A, self.scratch()?),
            "stx" => Insn::Store(Register::X, self.scratch()?),
            "ja" => return Ok((Insn::Jump(0), vec![self.place()?])),
            "neg" => Insn::Neg,
            "tax" => Insn::Tax,
            "txa" => Insn::Txa,
            "ret" if self.tokens.is_empty() => Insn::RetA,
            "ret" => {
                self.expect("#")?;
                Insn::Ret(self.number()?)
            }
            _ => {
                let message = format!("there is no instruction {name}");
                let help = nearest(name, MNEMONICS).map(|near| format!("did you mean {near}?"));
                return Err(Fail { at: *start, message, help });
            }
        };
        Ok((insn, Vec::new()))
    }

    /// `#5`, `x`
    fn operand(&mut self) -> Result<Operand, Fail> {
        if self.accept_name("x") {
            return Ok(Operand::X);
        }
        if self.accept("#") {
            return Ok(Operand::K(self.number()?));
        }
        Err(self.expected("#number or x"))
    }

    fn place(&mut self) -> Result<Place, Fail> {
        if let [(at, Token::Name(name)), rest @ ..] = self.tokens {
            self.tokens = rest;
            let column = column(self.line, *at);
            return Ok(Place::Name { name: (*name).to_owned(), line: self.index + 1, column });
        }
        self.number().map(Place::Index)
    }

    /// `M[3]`
    fn scratch(&mut self) -> Result<Scratch, Fail> {
        if !self.accept_name("M") {
            return Err(self.expected("M[number]"));
        }
        self.expect("[")?;
        let at = self.at();
        let number = self.number()?;
        self.expect("]")?;
        Scratch::new(number).ok_or_else(|| Fail::new(at, format!("there is no M[{number}], only M[0] to M[15]")))
    }

    /// What both registers can be loaded with: `#pktlen`, `#5`, `M[3]`.
    fn load_register(&mut self, to: Register) -> Result<Insn, Fail> {
        if self.accept("#") {
            if self.accept_name("pktlen") {
                return Ok(Insn::LoadLen(to));
            }
            return Ok(Insn::LoadImm(to, self.number()?));
        }
        Ok(Insn::LoadMem(to, self.scratch()?))
    }

    fn load(&mut self, size: NarrowSize) -> Result<Insn, Fail> {
        match self.tokens.first() {
            Some((_, Token::Symbol("["))) => self.packet_load(size),
            _ => self.load_register(Register::A),
        }
    }

    /// `[12]`, `[x + 14]`, `[ifidx]`
    fn packet_load(&mut self, size: NarrowSize) -> Result<Insn, Fail> {
        self.expect("[")?;
        let insn = match self.tokens {
            [(_, Token::Name("x")), rest @ ..] => {
                self.tokens = rest;
                let k = if matches!(self.tokens.first(), Some((_, Token::Symbol("]")))) {
                    0
                } else {
                    if !matches!(self.tokens.first(), Some((_, Token::Symbol("-")))) {
                        self.expect("+")?;
                    }
                    self.number()?
                };
                Insn::LoadInd { size, k }
            }
            [(at, Token::Name(name)), rest @ ..] => {
                self.tokens = rest;
                let Some(what) = Ancillary::ALL.into_iter().find(|what| what.name() == *name) else {
                    let message = format!("there is no ancillary data {name}");
                    let near = nearest(name, Ancillary::ALL.into_iter().map(Ancillary::name));
                    return Err(Fail { at: *at, message, help: near.map(|near| format!("did you mean {near}?")) });
                };
                Insn::LoadAncillary { size, what }
            }
            _ => {
                let at = self.at();
                let k = self.number()?;
                match (PacketOffset::new(k), Ancillary::from_offset(k)) {
                    (Some(at), _) => Insn::LoadAbs { size, at },
                    (None, Some(what)) => Insn::LoadAncillary { size, what },
                    (None, None) => {
                        return Err(Fail::new(at, format!("Linux has no ancillary data at {}", k.cast_signed())));
                    }
                }
            }
        };
        self.expect("]")?;
        Ok(insn)
    }

    /// `4*([14]&0xf)`
    fn load_msh(&mut self) -> Result<Insn, Fail> {
        let start = self.at();
        let shape = |message: Fail| Fail { help: Some("the form is 4*([14]&0xf)".to_owned()), ..message };
        if self.number().map_err(shape)? != 4 {
            return Err(shape(Fail::new(start, "ldxb multiplies by 4")));
        }
        for symbol in ["*", "(", "["] {
            self.expect(symbol).map_err(shape)?;
        }
        let k = self.number()?;
        for symbol in ["]", "&"] {
            self.expect(symbol).map_err(shape)?;
        }
        let at = self.at();
        if self.number().map_err(shape)? != 0xf {
            return Err(shape(Fail::new(at, "ldxb takes the low four bits, 0xf")));
        }
        self.expect(")")?;
        Ok(Insn::LoadMsh(k))
    }
}

/// A filter as `tcpdump -ddd` writes it: the number of instructions, then `code jt jf k` on a line each.
pub fn to_numbers(filter: &[SockFilter]) -> String {
    let mut text = format!("{}\n", filter.len());
    for SockFilter { code, jt, jf, k } in filter {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{code} {jt} {jf} {k}");
    }
    text
}

/// Reads a filter as `tcpdump -ddd` writes it; commas count as line ends (iptables' `bpf` match), and the C
/// initializers of `tcpdump -dd` are understood too.
///
/// # Errors
/// All that is wrong with the text, in order of lines, at most [`MAX_ERRORS`].
pub fn parse_numbers(text: &str) -> Result<Vec<SockFilter>, Vec<AsmError>> {
    let mut filter = Vec::new();
    let mut count = None;
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let initializer = line.contains('{');
        let mut start = 0;
        for part in line.split(|c| c == ',' && !initializer) {
            let words: Vec<&str> =
                part.split(|c: char| c.is_whitespace() || "{},".contains(c)).filter(|word| !word.is_empty()).collect();
            let mut error = |message: String| {
                let at = start + part.len() - part.trim_start().len();
                errors.push(AsmError { line: index + 1, column: column(line, at), message, help: None });
            };
            match words.as_slice() {
                [] => {}
                [number] if count.is_none() && filter.is_empty() => match number.parse::<usize>() {
                    Ok(number) => count = Some(number),
                    Err(_) => error(format!("{number} is no number of instructions")),
                },
                [code, jt, jf, k] => match (field(code), field(jt), field(jf), field(k)) {
                    (Some(code), Some(jt), Some(jf), Some(k)) => filter.push(SockFilter { code, jt, jf, k }),
                    _ => error("code (16 bits), jt (8), jf (8) or k (32) is no number or too big".to_owned()),
                },
                _ => error(format!("expected the four numbers code, jt, jf and k, found {}", words.len())),
            }
            start += part.len() + 1;
        }
        if errors.len() >= MAX_ERRORS {
            break;
        }
    }
    if let Some(count) = count.filter(|&count| count != filter.len() && errors.is_empty()) {
        let message = format!("the first line says {count} instructions, but {} follow", filter.len());
        errors.push(AsmError { line: 1, column: 1, message, help: None });
    }
    if errors.is_empty() { Ok(filter) } else { Err(errors) }
}

fn field<T: TryFrom<u64>>(text: &str) -> Option<T> {
    T::try_from(number(text)?).ok()
}
