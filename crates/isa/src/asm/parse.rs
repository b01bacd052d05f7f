//! Tokens of a line -> an instruction.

use super::lex::{Spanned, Token, number};
use super::{AsmError, column};
use crate::near::nearest;
use crate::{
    AluOp, AtomicOp, Call, Insn, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SpaceCast, SwapBits, SwapOp, Wide,
    Width,
};

/// What is wrong, and at which byte of the line.
#[derive(Debug)]
pub(super) struct Fail {
    at: usize,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fail {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Fail {
        Fail { at, message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Fail {
        Fail { help: Some(help.into()), ..self }
    }

    pub(super) fn at_line(self, index: usize, line: &str) -> AsmError {
        AsmError { line: index + 1, column: column(line, self.at), message: self.message, help: self.help }
    }
}

type Parsed<T> = Result<T, Fail>;

/// An instruction, and the name that stands where its distance belongs.
pub(super) struct Statement<'a> {
    pub(super) insn: Insn,
    pub(super) target: Option<(usize, &'a str)>,
}

impl From<Insn> for Statement<'_> {
    fn from(insn: Insn) -> Self {
        Statement { insn, target: None }
    }
}

/// A register as written, `r1` or `w1`.
#[derive(Clone, Copy)]
struct Operand {
    at: usize,
    width: Width,
    reg: Reg,
}

/// Type and address of a memory operand.
struct Memory {
    at: usize,
    signed: bool,
    size: Size,
    base: Reg,
    off: i16,
}

/// Every word that can start an instruction, and every function on the right of `=`; for near names.
const STATEMENTS: [&str; 10] =
    ["exit", "goto", "gotol", "gotox", "may_goto", "call", "callx", "if", "lock", "store_release"];
const FUNCTIONS: [&str; 24] = [
    "atomic_fetch_add",
    "atomic_fetch_or",
    "atomic_fetch_and",
    "atomic_fetch_xor",
    "xchg_64",
    "xchg32_32",
    "cmpxchg_64",
    "cmpxchg32_32",
    "load_acquire",
    "addr_space_cast",
    "map_by_fd",
    "map_by_idx",
    "map_val",
    "var_addr",
    "code_addr",
    "be16",
    "be32",
    "be64",
    "le16",
    "le32",
    "le64",
    "bswap16",
    "bswap32",
    "bswap64",
];

pub(super) struct Parser<'t, 'a> {
    tokens: &'t [Spanned<'a>],
    /// Where the line ends, for what is missing there.
    end: usize,
    /// Opcode in front of the instruction, as bpftool shows it.
    opcode: Option<(usize, u8)>,
}

impl<'t, 'a> Parser<'t, 'a> {
    pub(super) fn new(tokens: &'t [Spanned<'a>], end: usize) -> Parser<'t, 'a> {
        Parser { tokens, end, opcode: None }
    }

    pub(super) fn at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    fn at(&self) -> usize {
        self.tokens.first().map_or(self.end, |&(at, _)| at)
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.first().map(|&(_, token)| token)
    }

    fn advance(&mut self, count: usize) {
        self.tokens = self.tokens.get(count..).unwrap_or_default();
    }

    fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(Fail::new(self.at(), message))
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        match self.peek() {
            Some(token) => self.fail(format!("expected {what}, found {}", token.text())),
            None => self.fail(format!("expected {what}, but the line ends here")),
        }
    }

    /// Takes the symbol if it is next.
    fn accept(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(next)) if next == symbol);
        if found {
            self.advance(1);
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.accept(symbol) { Ok(()) } else { self.expected(symbol) }
    }

    fn accept_name(&mut self, name: &str) -> bool {
        let found = self.peek() == Some(Token::Name(name));
        if found {
            self.advance(1);
        }
        found
    }

    /// `12:` at the start of a line of a listing, and `(b7)` behind it.
    pub(super) fn slot_number(&mut self) -> Parsed<Option<(usize, u64)>> {
        let [(at, Token::Number(text)), (_, Token::Symbol(":")), rest @ ..] = self.tokens else { return Ok(None) };
        let Some(value) = number(text) else { return self.fail(format!("{text} is no slot number")) };
        self.tokens = rest;
        if let [
            (_, Token::Symbol("(")),
            (at, Token::Name(hex) | Token::Number(hex)),
            (_, Token::Symbol(")")),
            rest @ ..,
        ] = self.tokens
        {
            self.tokens = rest;
            let opcode = u8::from_str_radix(hex, 16).map_err(|_| Fail::new(*at, format!("{hex} is no opcode")))?;
            self.opcode = Some((*at, opcode));
        }
        Ok(Some((*at, value)))
    }

    /// `name:`
    pub(super) fn label(&mut self) -> Option<(usize, &'a str)> {
        let [(at, Token::Name(name)), (_, Token::Symbol(":")), rest @ ..] = self.tokens else { return None };
        self.tokens = rest;
        Some((*at, name))
    }

    /// The instruction that the rest of the line must be.
    pub(super) fn statement(&mut self) -> Parsed<Statement<'a>> {
        let opcode = self.opcode;
        let statement = self.instruction()?;
        if !self.at_end() {
            return self.expected("the end of the line");
        }
        let encoded = statement.insn.encode().first().map(|raw| raw.opcode);
        if let Some((at, opcode)) = opcode
            && encoded != Some(opcode)
        {
            let fail =
                Fail::new(at, format!("this line says opcode {opcode:02x}, but its text is another instruction"));
            return Err(if opcode == crate::opcode::LD_IMM64 { fail.help("64-bit numbers end in ll") } else { fail });
        }
        Ok(statement)
    }

    fn instruction(&mut self) -> Parsed<Statement<'a>> {
        if matches!(self.peek(), Some(Token::Symbol("*"))) {
            return self.store().map(Statement::from);
        }
        let Some(Token::Name(name)) = self.peek() else { return self.expected("an instruction") };
        if is_register(name) {
            return self.assignment();
        }
        let start = self.at();
        self.advance(1);
        match name {
            "exit" => Ok(Insn::Exit.into()),
            "goto" => self.jump(Insn::Jump { off: 0 }),
            "may_goto" => self.jump(Insn::MayGoto { off: 0 }),
            "gotol" => self.jump(Insn::JumpLong { off: 0 }),
            "gotox" => Ok(Insn::JumpReg { dst: self.whole_register()? }.into()),
            "call" => self.call(),
            "callx" => Ok(Insn::CallReg { dst: self.whole_register()? }.into()),
            "if" => self.conditional_jump(),
            "lock" => self.locked().map(Statement::from),
            "store_release" => self.store_release().map(Statement::from),
            "invalid" => {
                Err(Fail::new(start, "the listing shows no instruction here, so there is nothing to assemble"))
            }
            _ => {
                let fail = Fail::new(start, format!("there is no instruction {name}"));
                Err(match nearest(name, STATEMENTS) {
                    Some(near) => fail.help(format!("did you mean {near}?")),
                    None => fail,
                })
            }
        }
    }

    // Operands.

    fn register(&mut self) -> Parsed<Operand> {
        let at = self.at();
        let Some(Token::Name(name)) = self.peek() else { return self.expected("a register") };
        let (width, digits) = match (name.strip_prefix('r'), name.strip_prefix('w')) {
            (Some(digits), _) => (Width::W64, digits),
            (_, Some(digits)) => (Width::W32, digits),
            _ => return self.expected("a register"),
        };
        if !is_register(name) {
            return self.expected("a register");
        }
        let canonical = digits.len() == 1 || !digits.starts_with('0');
        let Some(reg) = digits.parse().ok().filter(|_| canonical).and_then(Reg::new) else {
            return Err(Fail::new(at, format!("there is no register {name}")).help("the registers are r0 to r10"));
        };
        self.advance(1);
        Ok(Operand { at, width, reg })
    }

    fn register_of(&mut self, width: Width) -> Parsed<Reg> {
        let found = self.register()?;
        if found.width == width {
            return Ok(found.reg);
        }
        let (letter, bits) = if width == Width::W64 { ('r', 64) } else { ('w', 32) };
        Err(Fail::new(found.at, format!("this operand has {bits} bits: write {letter}{}", found.reg.number())))
    }

    fn whole_register(&mut self) -> Parsed<Reg> {
        self.register_of(Width::W64)
    }

    /// A register that holds a value of this size in memory: `w1` or `r1` up to 4 bytes, `r1` for 8.
    fn register_for(&mut self, size: Size) -> Parsed<Reg> {
        if size == Size::DW { self.whole_register() } else { Ok(self.register()?.reg) }
    }

    /// A number with its sign.
    fn integer(&mut self) -> Parsed<i128> {
        let negative = self.accept("-") || {
            self.accept("+");
            false
        };
        let Some(Token::Number(text)) = self.peek() else { return self.expected("a number") };
        let Some(magnitude) = number(text) else {
            return self.fail(format!("{text} is no number of up to 64 bits"));
        };
        self.advance(1);
        let magnitude = i128::from(magnitude);
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn ranged<T: TryFrom<i128>>(&mut self, what: &str) -> Parsed<T> {
        let at = self.at();
        let value = self.integer()?;
        T::try_from(value).map_err(|_| Fail::new(at, format!("{value} does not fit {what}")))
    }

    /// A 32-bit immediate, sign-extended where 64 bits are in use. Values above `i32::MAX` mean the same bits only
    /// where no more than 32 are in use.
    fn immediate(&mut self, width: Width) -> Parsed<i32> {
        let at = self.at();
        let value = self.integer()?;
        if let Ok(imm) = i32::try_from(value) {
            return Ok(imm);
        }
        match (u32::try_from(value), width) {
            (Ok(bits), Width::W32) => Ok(bits.cast_signed()),
            (Ok(bits), Width::W64) => Err(Fail::new(
                at,
                format!("{value} does not fit an immediate, which has 32 bits and is sign-extended to 64"),
            )
            .help(format!("write {} if all upper bits are meant to be set, or load it with ll", bits.cast_signed()))),
            (Err(_), _) => Err(Fail::new(at, format!("{value} does not fit an immediate, which has 32 bits"))
                .help("load it into a register with ll")),
        }
    }

    fn source(&mut self, width: Width) -> Parsed<Source> {
        match self.peek() {
            Some(Token::Name(_)) => Ok(Source::Reg(self.register_of(width)?)),
            Some(Token::Number(_) | Token::Symbol("-" | "+")) => Ok(Source::Imm(self.immediate(width)?)),
            _ => self.expected("a register or a number"),
        }
    }

    /// `r1 + 4`
    fn address(&mut self) -> Parsed<(Reg, i16)> {
        let base = self.whole_register()?;
        let off = match self.peek() {
            Some(Token::Symbol("+" | "-")) => self.ranged("an offset, which has 16 bits and a sign")?,
            _ => 0,
        };
        Ok((base, off))
    }

    /// `u32 *)` behind an opening bracket
    fn pointer_type(&mut self) -> Parsed<(bool, Size)> {
        let kind = match self.peek() {
            Some(Token::Name("u8")) => (false, Size::B),
            Some(Token::Name("u16")) => (false, Size::H),
            Some(Token::Name("u32")) => (false, Size::W),
            Some(Token::Name("u64")) => (false, Size::DW),
            Some(Token::Name("s8")) => (true, Size::B),
            Some(Token::Name("s16")) => (true, Size::H),
            Some(Token::Name("s32")) => (true, Size::W),
            _ => return self.expected("a type (u8, u16, u32, u64, s8, s16 or s32)"),
        };
        self.advance(1);
        self.expect("*")?;
        self.expect(")")?;
        Ok(kind)
    }

    /// `(u32 *)(r1 + 4)`, for whom a signed type has no meaning
    fn unsigned_memory(&mut self) -> Parsed<Memory> {
        let at = self.at();
        self.expect("(")?;
        let (signed, size) = self.pointer_type()?;
        if signed {
            return Err(Fail::new(at, "this instruction does not extend signs: use an unsigned type"));
        }
        self.memory(at, signed, size)
    }

    /// `(r1 + 4)` behind a type
    fn memory(&mut self, at: usize, signed: bool, size: Size) -> Parsed<Memory> {
        self.expect("(")?;
        let (base, off) = self.address()?;
        self.expect(")")?;
        Ok(Memory { at, signed, size, base, off })
    }

    // Jumps and calls.

    /// A distance (`+5`, `-3`, `pc+5`) or the name of a place.
    fn place(&mut self) -> Parsed<Result<i128, (usize, &'a str)>> {
        let at = self.at();
        match self.peek() {
            Some(Token::Name("pc")) if matches!(self.tokens.get(1), Some((_, Token::Symbol("+" | "-")))) => {
                self.advance(1);
                Ok(Ok(self.integer()?))
            }
            Some(Token::Symbol("+" | "-")) => Ok(Ok(self.integer()?)),
            Some(Token::Name(name)) => {
                self.advance(1);
                Ok(Err((at, name)))
            }
            Some(Token::Number(text)) => {
                Err(Fail::new(at, "a distance has a sign").help(format!("write +{text}, or the name of a label")))
            }
            _ => self.expected("a distance or a label"),
        }
    }

    fn jump(&mut self, mut insn: Insn) -> Parsed<Statement<'a>> {
        let at = self.at();
        match self.place()? {
            Err(name) => return Ok(Statement { insn, target: Some(name) }),
            Ok(distance) => {
                let far = || Fail::new(at, format!("{distance} does not fit the distance of this instruction"));
                let near = || i16::try_from(distance).map_err(|_| far().help("gotol takes 32 bits"));
                match &mut insn {
                    Insn::Jump { off } | Insn::JumpIf { off, .. } | Insn::MayGoto { off } => *off = near()?,
                    Insn::JumpLong { off } => *off = i32::try_from(distance).map_err(|_| far())?,
                    _ => {}
                }
            }
        }
        Ok(insn.into())
    }

    fn conditional_jump(&mut self) -> Parsed<Statement<'a>> {
        let first = self.register()?;
        let op = match self.peek() {
            Some(Token::Symbol(symbol)) => JmpOp::ALL.into_iter().find(|op| op.symbol() == symbol),
            _ => None,
        };
        let Some(op) = op else { return self.expected("a comparison") };
        self.advance(1);
        let src = self.source(first.width)?;
        if !self.accept_name("goto") {
            return self.expected("goto");
        }
        self.jump(Insn::JumpIf { width: first.width, op, dst: first.reg, src, off: 0 })
    }

    fn call(&mut self) -> Parsed<Statement<'a>> {
        if self.accept_name("kfunc") {
            self.expect("(")?;
            let btf_id = self.ranged("a BTF id")?;
            let btf_idx = if self.accept(",") { self.ranged("an index of 16 bits")? } else { 0 };
            self.expect(")")?;
            return Ok(Insn::Call(Call::Kfunc { btf_id, btf_idx }).into());
        }
        // A number with a sign is a helper too: -1 stands in objects that are not linked yet.
        let is_number = matches!(self.peek(), Some(Token::Number(_) | Token::Symbol("-" | "+")));
        if is_number {
            return Ok(Insn::Call(Call::Helper(self.immediate(Width::W32)?.cast_unsigned())).into());
        }
        let at = self.at();
        match self.place()? {
            Ok(distance) => {
                let rel = i32::try_from(distance)
                    .map_err(|_| Fail::new(at, format!("{distance} does not fit the distance of a call")))?;
                Ok(Insn::Call(Call::Subprog(rel)).into())
            }
            Err(name) => Ok(Statement { insn: Insn::Call(Call::Subprog(0)), target: Some(name) }),
        }
    }

    // Memory.

    /// `*(u32 *)(r1 + 4) = ...`
    fn store(&mut self) -> Parsed<Insn> {
        self.expect("*")?;
        let Memory { size, base, off, .. } = self.unsigned_memory()?;
        self.expect("=")?;
        let src = match self.peek() {
            Some(Token::Name(_)) => Source::Reg(self.register_for(size)?),
            _ if size == Size::DW => self.source(Width::W64)?,
            _ => self.source(Width::W32)?,
        };
        Ok(Insn::Store { size, base, off, src })
    }

    /// `*(u32 *)(r1 + 4) += w2` behind `lock`
    fn locked(&mut self) -> Parsed<Insn> {
        self.expect("*")?;
        let memory = self.unsigned_memory()?;
        let op = match self.peek() {
            Some(Token::Symbol("+=")) => AtomicOp::Add { fetch: false },
            Some(Token::Symbol("|=")) => AtomicOp::Or { fetch: false },
            Some(Token::Symbol("&=")) => AtomicOp::And { fetch: false },
            Some(Token::Symbol("^=")) => AtomicOp::Xor { fetch: false },
            _ => return self.expected("an atomic operation (+=, |=, &= or ^=)"),
        };
        self.advance(1);
        let src = self.register_for(memory.size)?;
        let width = atomic_width(&memory)?;
        Ok(Insn::Atomic { width, op, base: memory.base, off: memory.off, src })
    }

    fn store_release(&mut self) -> Parsed<Insn> {
        self.expect("(")?;
        let Memory { size, base, off, .. } = self.unsigned_memory()?;
        self.expect(",")?;
        let src = self.register_for(size)?;
        self.expect(")")?;
        Ok(Insn::StoreRelease { size, base, off, src })
    }

    // Assignments.

    fn assignment(&mut self) -> Parsed<Statement<'a>> {
        let dst = self.register()?;
        if self.accept("=") {
            return self.right_side(dst);
        }
        let op = match self.peek() {
            Some(Token::Symbol(symbol)) => AluOp::ALL.into_iter().find(|op| op.symbol() == symbol),
            _ => None,
        };
        let Some(op) = op else { return self.expected("an assignment") };
        self.advance(1);
        let src = self.source(dst.width)?;
        Ok(Insn::Alu { width: dst.width, op, dst: dst.reg, src }.into())
    }

    /// What stands behind `r0 =`.
    fn right_side(&mut self, dst: Operand) -> Parsed<Statement<'a>> {
        let mov = |src| Insn::Alu { width: dst.width, op: AluOp::Mov, dst: dst.reg, src };
        match self.peek() {
            Some(Token::Symbol("*")) => self.load(dst).map(Statement::from),
            Some(Token::Symbol("(")) => self.sign_extension(dst).map(Statement::from),
            Some(Token::Symbol("-")) if matches!(self.tokens.get(1), Some((_, Token::Name(_)))) => {
                self.advance(1);
                let at = self.at();
                if self.register_of(dst.width)? != dst.reg {
                    return Err(Fail::new(at, "negation is in place: both registers must be the same"));
                }
                Ok(Insn::Neg { width: dst.width, dst: dst.reg }.into())
            }
            Some(Token::Number(_) | Token::Symbol("-" | "+")) => self.number_or_wide(dst).map(Statement::from),
            Some(Token::Name(name)) if is_register(name) => Ok(mov(Source::Reg(self.register_of(dst.width)?)).into()),
            Some(Token::Name(name)) => self.function(dst, name),
            _ => self.expected("an operand"),
        }
    }

    fn number_or_wide(&mut self, dst: Operand) -> Parsed<Insn> {
        let is_sign = matches!(self.peek(), Some(Token::Symbol(_)));
        let behind = self.tokens.get(if is_sign { 2 } else { 1 });
        if matches!(behind, Some((_, Token::Name("ll")))) {
            need_whole(dst)?;
            let at = self.at();
            let value = self.integer()?;
            self.advance(1);
            let number = u64::try_from(value).or_else(|_| i64::try_from(value).map(i64::cast_unsigned));
            let number = number.map_err(|_| Fail::new(at, format!("{value} does not fit 64 bits")))?;
            return Ok(Insn::LoadWide { dst: dst.reg, value: Wide::Imm64(number) });
        }
        let src = Source::Imm(self.immediate(dst.width)?);
        Ok(Insn::Alu { width: dst.width, op: AluOp::Mov, dst: dst.reg, src })
    }

    /// `(s8)r1`
    fn sign_extension(&mut self, dst: Operand) -> Parsed<Insn> {
        self.expect("(")?;
        let bits = match self.peek() {
            Some(Token::Name("s8")) => 8,
            Some(Token::Name("s16")) => 16,
            Some(Token::Name("s32")) => 32,
            _ => return self.expected("s8, s16 or s32"),
        };
        let Some(form) = SignExtend::new(bits, dst.width) else {
            return self.fail("32 bits need no extension to 32 bits").map_err(|fail| fail.help("write a plain move"));
        };
        self.advance(1);
        self.expect(")")?;
        Ok(Insn::MovSx { form, dst: dst.reg, src: self.register_of(dst.width)? })
    }

    /// `*(u32 *)(r1 + 4)`, `*(u16 *)skb[14]`
    fn load(&mut self, dst: Operand) -> Parsed<Insn> {
        self.expect("*")?;
        let at = self.at();
        self.expect("(")?;
        let (signed, size) = self.pointer_type()?;
        if self.accept_name("skb") {
            return self.packet_load(dst, at, signed, size);
        }
        let Memory { base, off, .. } = self.memory(at, signed, size)?;
        if signed || size == Size::DW {
            need_whole(dst)?;
        }
        match NarrowSize::try_from(size) {
            Ok(size) if signed => Ok(Insn::LoadSx { size, dst: dst.reg, base, off }),
            _ => Ok(Insn::Load { size, dst: dst.reg, base, off }),
        }
    }

    /// `[14]`, `[r2 + 14]` behind `skb`
    fn packet_load(&mut self, dst: Operand, at: usize, signed: bool, size: Size) -> Parsed<Insn> {
        let size = match NarrowSize::try_from(size) {
            Ok(size) if !signed => size,
            _ => return Err(Fail::new(at, "a packet load takes u8, u16 or u32")),
        };
        if dst.reg != Reg::R0 {
            return Err(Fail::new(dst.at, "a packet load always goes to r0"));
        }
        self.expect("[")?;
        let insn = match self.peek() {
            Some(Token::Name(_)) => {
                let src = self.whole_register()?;
                let off = if self.peek() == Some(Token::Symbol("]")) { 0 } else { self.packet_offset()? };
                Insn::LoadInd { size, src, off }
            }
            _ => Insn::LoadAbs { size, off: self.immediate(Width::W32)? },
        };
        self.expect("]")?;
        Ok(insn)
    }

    fn packet_offset(&mut self) -> Parsed<i32> {
        match self.peek() {
            Some(Token::Symbol("+" | "-")) => self.immediate(Width::W32),
            _ => self.expected("+, - or ]"),
        }
    }

    /// The functions on the right of `=`.
    fn function(&mut self, dst: Operand, name: &'a str) -> Parsed<Statement<'a>> {
        let start = self.at();
        self.advance(1);
        if let Some((op, bits)) = swap(name) {
            need_whole(dst)?;
            let at = self.at();
            if self.whole_register()? != dst.reg {
                return Err(Fail::new(at, "a byte swap is in place: both registers must be the same"));
            }
            return Ok(Insn::ByteSwap { op, bits, dst: dst.reg }.into());
        }
        if let Some(form) = AtomicForm::by_name(name) {
            self.expect("(")?;
            return self.atomic(dst, form).map(Statement::from);
        }
        let wide = |value| Statement::from(Insn::LoadWide { dst: dst.reg, value });
        match name {
            "load_acquire" => {
                self.expect("(")?;
                let Memory { size, base, off, .. } = self.unsigned_memory()?;
                self.expect(")")?;
                if size == Size::DW {
                    need_whole(dst)?;
                }
                Ok(Insn::LoadAcquire { size, dst: dst.reg, base, off }.into())
            }
            "addr_space_cast" => self.space_cast(dst).map(Statement::from),
            "map_by_fd" | "map_by_idx" | "map_val" | "var_addr" | "code_addr" => {
                need_whole(dst)?;
                self.expect("(")?;
                if name == "code_addr" {
                    let at = self.at();
                    let place = self.place()?;
                    self.expect(")")?;
                    return match place {
                        Err(target) => Ok(Statement { target: Some(target), insn: wide(Wide::Func(0)).insn }),
                        Ok(distance) => match i32::try_from(distance) {
                            Ok(rel) => Ok(wide(Wide::Func(rel))),
                            Err(_) => Err(Fail::new(at, format!("{distance} does not fit a distance of 32 bits"))),
                        },
                    };
                }
                self.wide(name).map(wide)
            }
            _ => {
                let fail = Fail::new(start, format!("there is no function {name}"));
                Err(match nearest(name, FUNCTIONS) {
                    Some(near) => fail.help(format!("did you mean {near}?")),
                    None => fail,
                })
            }
        }
    }

    /// The map and variable forms behind their name and `(`.
    fn wide(&mut self, name: &str) -> Parsed<Wide> {
        match name {
            "map_by_fd" => {
                let fd = self.ranged("a file descriptor")?;
                self.expect(")")?;
                Ok(Wide::MapFd(fd))
            }
            "map_by_idx" => {
                let idx = self.ranged("an index of 32 bits")?;
                self.expect(")")?;
                Ok(Wide::MapIdx(idx))
            }
            "var_addr" => {
                let btf_id = self.ranged("a BTF id")?;
                let btf_fd = if self.accept(",") { self.ranged("a file descriptor")? } else { 0 };
                self.expect(")")?;
                Ok(Wide::BtfVar { btf_id, btf_fd })
            }
            _ => {
                let by_fd = self.accept_name("map_by_fd");
                if !by_fd && !self.accept_name("map_by_idx") {
                    return self.expected("map_by_fd or map_by_idx");
                }
                self.expect("(")?;
                let map = self.ranged("a file descriptor or index of 32 bits")?;
                self.expect(")")?;
                self.expect(")")?;
                let off = if self.accept("+") { self.ranged("an offset of 32 bits")? } else { 0 };
                Ok(if by_fd { Wide::MapValue { fd: map, off } } else { Wide::MapIdxValue { idx: map, off } })
            }
        }
    }

    fn space_cast(&mut self, dst: Operand) -> Parsed<Insn> {
        need_whole(dst)?;
        self.expect("(")?;
        let src = self.whole_register()?;
        self.expect(",")?;
        let at = self.at();
        let to = self.integer()?;
        self.expect(",")?;
        let from = self.integer()?;
        self.expect(")")?;
        let cast = match (to, from) {
            (0, 1) => SpaceCast::FromArena,
            (1, 0) => SpaceCast::ToArena,
            _ => return Err(Fail::new(at, "the casts that exist are to space 0 from 1 and to space 1 from 0")),
        };
        Ok(Insn::AddrSpaceCast { cast, dst: dst.reg, src })
    }

    /// The fetching atomics behind their name and `(`.
    fn atomic(&mut self, dst: Operand, form: AtomicForm) -> Parsed<Insn> {
        let memory = match form.width {
            // LLVM's exchange has its size in its name, the kernel's has a type.
            Some(size) if !matches!(self.peek(), Some(Token::Symbol("("))) => {
                let at = self.at();
                let (base, off) = self.address()?;
                Memory { at, signed: false, size, base, off }
            }
            _ => self.unsigned_memory()?,
        };
        let width = atomic_width(&memory)?;
        if form.width.is_some_and(|size| size != memory.size) {
            return Err(Fail::new(memory.at, "the type does not fit the name of the operation"));
        }
        if width == Width::W64 {
            need_whole(dst)?;
        }
        self.expect(",")?;
        if form.op == AtomicOp::CmpXchg {
            let at = self.at();
            if self.register_for(memory.size)? != Reg::R0 {
                return Err(Fail::new(at, "compare and exchange always compares with r0"));
            }
            self.expect(",")?;
        }
        let src = self.register_for(memory.size)?;
        self.expect(")")?;
        if form.op.fetches_into(src) != Some(dst.reg) {
            let message = if form.op == AtomicOp::CmpXchg {
                "compare and exchange always returns the old value in r0".to_owned()
            } else {
                format!("the old value comes back in the operand's register, {src}")
            };
            return Err(Fail::new(dst.at, message));
        }
        Ok(Insn::Atomic { width, op: form.op, base: memory.base, off: memory.off, src })
    }
}

/// A fetching atomic by its name, with the size that the name tells.
struct AtomicForm {
    op: AtomicOp,
    width: Option<Size>,
}

impl AtomicForm {
    /// LLVM's names, and the kernel's.
    fn by_name(name: &str) -> Option<AtomicForm> {
        let (op, width) = match name {
            "atomic_fetch_add" => (AtomicOp::Add { fetch: true }, None),
            "atomic_fetch_or" => (AtomicOp::Or { fetch: true }, None),
            "atomic_fetch_and" => (AtomicOp::And { fetch: true }, None),
            "atomic_fetch_xor" => (AtomicOp::Xor { fetch: true }, None),
            "atomic64_fetch_add" => (AtomicOp::Add { fetch: true }, Some(Size::DW)),
            "atomic64_fetch_or" => (AtomicOp::Or { fetch: true }, Some(Size::DW)),
            "atomic64_fetch_and" => (AtomicOp::And { fetch: true }, Some(Size::DW)),
            "atomic64_fetch_xor" => (AtomicOp::Xor { fetch: true }, Some(Size::DW)),
            "xchg_64" | "atomic64_xchg" => (AtomicOp::Xchg, Some(Size::DW)),
            "xchg32_32" | "atomic_xchg" => (AtomicOp::Xchg, Some(Size::W)),
            "cmpxchg_64" | "atomic64_cmpxchg" => (AtomicOp::CmpXchg, Some(Size::DW)),
            "cmpxchg32_32" | "atomic_cmpxchg" => (AtomicOp::CmpXchg, Some(Size::W)),
            _ => return None,
        };
        Some(AtomicForm { op, width })
    }
}

fn atomic_width(memory: &Memory) -> Parsed<Width> {
    match memory.size {
        Size::W if !memory.signed => Ok(Width::W32),
        Size::DW => Ok(Width::W64),
        _ => Err(Fail::new(memory.at, "atomic operations exist for u32 and u64")),
    }
}

fn need_whole(operand: Operand) -> Parsed<()> {
    match operand.width {
        Width::W64 => Ok(()),
        Width::W32 => {
            let number = operand.reg.number();
            Err(Fail::new(operand.at, format!("the result has 64 bits: write r{number}")))
        }
    }
}

fn swap(name: &str) -> Option<(SwapOp, SwapBits)> {
    let (op, bits) = [("le", SwapOp::ToLe), ("be", SwapOp::ToBe), ("bswap", SwapOp::Swap)]
        .into_iter()
        .find_map(|(prefix, op)| name.strip_prefix(prefix).map(|bits| (op, bits)))?;
    let bits = match bits {
        "16" => SwapBits::B16,
        "32" => SwapBits::B32,
        "64" => SwapBits::B64,
        _ => return None,
    };
    Some((op, bits))
}

/// Whether a name is meant as a register, existing or not.
fn is_register(name: &str) -> bool {
    name.strip_prefix(['r', 'w'])
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
}
