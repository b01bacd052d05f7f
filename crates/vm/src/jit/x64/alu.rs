//! Arithmetic and jumps.

use super::{Asm, Condition, Emitted, Gp, R0, R3, R4, S9, S10, S11};
use crate::code::arms;
use iced_x86::code_asm::{CodeLabel, registers::gpr8::cl};
use iced_x86::{Code, Instruction, Register};
use skep_isa::{AluOp, JmpOp, SignExtend, Width};

/// The forms of an instruction with two operands: 64 and 32 bits; with registers, a byte, four bytes.
struct Forms {
    reg: [Code; 2],
    imm8: [Code; 2],
    imm32: [Code; 2],
}

macro_rules! forms {
    ($name:ident, $rm64:ident $rm32:ident, $b64:ident $b32:ident, $d64:ident $d32:ident) => {
        const $name: Forms =
            Forms { reg: [Code::$rm64, Code::$rm32], imm8: [Code::$b64, Code::$b32], imm32: [Code::$d64, Code::$d32] };
    };
}
forms!(ADD, Add_rm64_r64 Add_rm32_r32, Add_rm64_imm8 Add_rm32_imm8, Add_rm64_imm32 Add_rm32_imm32);
forms!(SUB, Sub_rm64_r64 Sub_rm32_r32, Sub_rm64_imm8 Sub_rm32_imm8, Sub_rm64_imm32 Sub_rm32_imm32);
forms!(OR, Or_rm64_r64 Or_rm32_r32, Or_rm64_imm8 Or_rm32_imm8, Or_rm64_imm32 Or_rm32_imm32);
forms!(AND, And_rm64_r64 And_rm32_r32, And_rm64_imm8 And_rm32_imm8, And_rm64_imm32 And_rm32_imm32);
forms!(XOR, Xor_rm64_r64 Xor_rm32_r32, Xor_rm64_imm8 Xor_rm32_imm8, Xor_rm64_imm32 Xor_rm32_imm32);
forms!(CMP, Cmp_rm64_r64 Cmp_rm32_r32, Cmp_rm64_imm8 Cmp_rm32_imm8, Cmp_rm64_imm32 Cmp_rm32_imm32);

impl Asm<'_> {
    fn two(&mut self, width: Width, forms: &Forms, dst: Gp, src: Gp) -> Emitted {
        let instruction = match width {
            Width::W64 => Instruction::with2(forms.reg[0], Register::from(dst.r64()), Register::from(src.r64())),
            Width::W32 => Instruction::with2(forms.reg[1], Register::from(dst.r32()), Register::from(src.r32())),
        };
        self.a.add_instruction(instruction?)
    }

    fn two_imm(&mut self, width: Width, forms: &Forms, dst: Gp, imm: i32) -> Emitted {
        let codes = if i8::try_from(imm).is_ok() { &forms.imm8 } else { &forms.imm32 };
        let instruction = match width {
            Width::W64 => Instruction::with2(codes[0], Register::from(dst.r64()), imm),
            Width::W32 => Instruction::with2(codes[1], Register::from(dst.r32()), imm),
        };
        self.a.add_instruction(instruction?)
    }

    /// `dst = src`.
    pub(super) fn mov(&mut self, dst: Gp, src: Gp) -> Emitted {
        if dst == src { Ok(()) } else { self.a.mov(dst.r64(), src.r64()) }
    }

    /// `dst = value`, by the shortest encoding. Changes the flags.
    pub(super) fn mov_imm(&mut self, dst: Gp, value: u64) -> Emitted {
        if value == 0 {
            self.a.xor(dst.r32(), dst.r32())
        } else if let Ok(value) = u32::try_from(value) {
            self.a.mov(dst.r32(), value)
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.a.add_instruction(Instruction::with2(Code::Mov_rm64_imm32, Register::from(dst.r64()), value)?)
        } else {
            self.a.mov(dst.r64(), value)
        }
    }

    /// The upper half of `dst` becomes zero.
    fn zero_upper(&mut self, dst: Gp) -> Emitted {
        self.a.mov(dst.r32(), dst.r32())
    }

    pub(super) fn alu_imm(&mut self, width: Width, op: AluOp, dst: Gp, imm: i32) -> Emitted {
        match op {
            AluOp::Add => self.two_imm(width, &ADD, dst, imm),
            // One byte is enough for 128 the other way round.
            AluOp::Sub if imm == 128 => self.two_imm(width, &ADD, dst, -128),
            AluOp::Sub => self.two_imm(width, &SUB, dst, imm),
            AluOp::Or => self.two_imm(width, &OR, dst, imm),
            AluOp::Xor => self.two_imm(width, &XOR, dst, imm),
            AluOp::And => match imm {
                0xff => self.a.movzx(dst.r32(), dst.r8()),
                0xffff => self.a.movzx(dst.r32(), dst.r16()),
                // The upper half becomes zero either way.
                0.. => self.two_imm(Width::W32, &AND, dst, imm),
                _ => self.two_imm(width, &AND, dst, imm),
            },
            AluOp::Mov => self.mov_imm(dst, if width == Width::W64 { imm as i64 as u64 } else { imm as u32 as u64 }),
            AluOp::Mul if imm > 0 && imm.count_ones() == 1 => {
                self.shift_imm(width, AluOp::Lsh, dst, imm.trailing_zeros())
            }
            AluOp::Mul => match width {
                Width::W64 => self.a.imul_3(dst.r64(), dst.r64(), imm),
                Width::W32 => self.a.imul_3(dst.r32(), dst.r32(), imm),
            },
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => self.shift_imm(width, op, dst, imm as u32),
            AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod => self.divide_imm(width, op, dst, imm),
        }
    }

    pub(super) fn alu_reg(&mut self, width: Width, op: AluOp, dst: Gp, src: Gp) -> Emitted {
        match op {
            AluOp::Add => self.two(width, &ADD, dst, src),
            AluOp::Sub => self.two(width, &SUB, dst, src),
            AluOp::Or => self.two(width, &OR, dst, src),
            AluOp::And => self.two(width, &AND, dst, src),
            AluOp::Xor => self.two(width, &XOR, dst, src),
            AluOp::Mov if width == Width::W64 => self.mov(dst, src),
            AluOp::Mov => self.a.mov(dst.r32(), src.r32()),
            AluOp::Mul => match width {
                Width::W64 => self.a.imul_2(dst.r64(), src.r64()),
                Width::W32 => self.a.imul_2(dst.r32(), src.r32()),
            },
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => self.shift_reg(width, op, dst, src),
            AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod => {
                self.a.mov(S11.r64(), src.r64())?;
                self.divide(width, op, dst)
            }
        }
    }

    pub(super) fn neg(&mut self, width: Width, dst: Gp) -> Emitted {
        match width {
            Width::W64 => self.a.neg(dst.r64()),
            Width::W32 => self.a.neg(dst.r32()),
        }
    }

    pub(super) fn mov_sx(&mut self, form: SignExtend, dst: Gp, src: Gp) -> Emitted {
        match form {
            SignExtend::S8To32 => self.a.movsx(dst.r32(), src.r8()),
            SignExtend::S16To32 => self.a.movsx(dst.r32(), src.r16()),
            SignExtend::S8To64 => self.a.movsx(dst.r64(), src.r8()),
            SignExtend::S16To64 => self.a.movsx(dst.r64(), src.r16()),
            SignExtend::S32To64 => self.a.movsxd(dst.r64(), src.r32()),
        }
    }

    pub(super) fn swap(&mut self, form: u8, dst: Gp) -> Emitted {
        match form {
            arms::TRUNCATE16 => self.a.movzx(dst.r32(), dst.r16()),
            arms::TRUNCATE32 => self.zero_upper(dst),
            arms::REVERSE16 => {
                self.a.rol(dst.r16(), 8)?;
                self.a.movzx(dst.r32(), dst.r16())
            }
            arms::REVERSE32 => self.a.bswap(dst.r32()),
            arms::REVERSE64 => self.a.bswap(dst.r64()),
            // To the machine's own order, all 64 bits.
            _ => Ok(()),
        }
    }

    fn shift_imm(&mut self, width: Width, op: AluOp, dst: Gp, count: u32) -> Emitted {
        match width {
            Width::W64 => match (op, count & 63) {
                (_, 0) => Ok(()),
                (AluOp::Lsh, count) => self.a.shl(dst.r64(), count),
                (AluOp::Rsh, count) => self.a.shr(dst.r64(), count),
                (_, count) => self.a.sar(dst.r64(), count),
            },
            Width::W32 => match (op, count & 31) {
                (_, 0) => self.zero_upper(dst),
                (AluOp::Lsh, count) => self.a.shl(dst.r32(), count),
                (AluOp::Rsh, count) => self.a.shr(dst.r32(), count),
                (_, count) => self.a.sar(dst.r32(), count),
            },
        }
    }

    /// The processor takes the low 5 or 6 bits of the count, as BPF does.
    fn shift_reg(&mut self, width: Width, op: AluOp, dst: Gp, src: Gp) -> Emitted {
        if self.bmi2 {
            return match (width, op) {
                (Width::W64, AluOp::Lsh) => self.a.shlx(dst.r64(), dst.r64(), src.r64()),
                (Width::W64, AluOp::Rsh) => self.a.shrx(dst.r64(), dst.r64(), src.r64()),
                (Width::W64, _) => self.a.sarx(dst.r64(), dst.r64(), src.r64()),
                (Width::W32, AluOp::Lsh) => self.a.shlx(dst.r32(), dst.r32(), src.r32()),
                (Width::W32, AluOp::Rsh) => self.a.shrx(dst.r32(), dst.r32(), src.r32()),
                (Width::W32, _) => self.a.sarx(dst.r32(), dst.r32(), src.r32()),
            };
        }
        // The count must be in cl, which belongs to r4.
        self.a.mov(S11.r64(), dst.r64())?;
        if src != R4 {
            self.a.mov(S10.r64(), R4.r64())?;
            self.a.mov(R4.r32(), src.r32())?;
        }
        match (width, op) {
            (Width::W64, AluOp::Lsh) => self.a.shl(S11.r64(), cl)?,
            (Width::W64, AluOp::Rsh) => self.a.shr(S11.r64(), cl)?,
            (Width::W64, _) => self.a.sar(S11.r64(), cl)?,
            (Width::W32, AluOp::Lsh) => self.a.shl(S11.r32(), cl)?,
            (Width::W32, AluOp::Rsh) => self.a.shr(S11.r32(), cl)?,
            (Width::W32, _) => self.a.sar(S11.r32(), cl)?,
        }
        if width == Width::W32 {
            // With a count of 0 the shift may have left the upper half as it was.
            self.zero_upper(S11)?;
        }
        if src != R4 {
            self.a.mov(R4.r64(), S10.r64())?;
        }
        self.a.mov(dst.r64(), S11.r64())
    }

    fn divide_imm(&mut self, width: Width, op: AluOp, dst: Gp, imm: i32) -> Emitted {
        let divisor = if width == Width::W64 { imm as i64 as u64 } else { imm as u32 as u64 };
        match op {
            AluOp::Div if divisor.is_power_of_two() => self.shift_imm(width, AluOp::Rsh, dst, divisor.trailing_zeros()),
            AluOp::Mod if divisor.is_power_of_two() && divisor <= 1 << 31 => {
                let mask = (divisor - 1) as u32;
                self.two_imm(Width::W32, &AND, dst, mask as i32)
            }
            _ => {
                self.mov_imm(S11, divisor)?;
                self.divide(width, op, dst)
            }
        }
    }

    /// `dst op= r11`.
    fn divide(&mut self, width: Width, op: AluOp, dst: Gp) -> Emitted {
        let (zero, minus_one, done) = (self.a.create_label(), self.a.create_label(), self.a.create_label());
        let signed = matches!(op, AluOp::Sdiv | AluOp::Smod);
        let remainder = matches!(op, AluOp::Mod | AluOp::Smod);
        match width {
            Width::W64 => self.a.test(S11.r64(), S11.r64())?,
            Width::W32 => self.a.test(S11.r32(), S11.r32())?,
        }
        self.a.je(zero)?;
        if signed {
            // The processor faults on the smallest number divided by -1.
            self.two_imm(width, &CMP, S11, -1)?;
            self.a.je(minus_one)?;
        }
        if dst != R0 {
            self.a.mov(S9.r64(), R0.r64())?;
            self.a.mov(R0.r64(), dst.r64())?;
        }
        if dst != R3 {
            self.a.mov(S10.r64(), R3.r64())?;
        }
        match (signed, width) {
            (false, _) => self.a.xor(R3.r32(), R3.r32())?,
            (true, Width::W64) => self.a.cqo()?,
            (true, Width::W32) => self.a.cdq()?,
        }
        match (signed, width) {
            (false, Width::W64) => self.a.div(S11.r64())?,
            (false, Width::W32) => self.a.div(S11.r32())?,
            (true, Width::W64) => self.a.idiv(S11.r64())?,
            (true, Width::W32) => self.a.idiv(S11.r32())?,
        }
        let result = if remainder { R3 } else { R0 };
        if dst != result {
            match dst == R0 || dst == R3 {
                true => self.a.mov(dst.r64(), result.r64())?,
                // Both of the pair are restored below, so by way of the divisor's register.
                false => self.a.mov(S11.r64(), result.r64())?,
            }
        }
        if dst != R0 {
            self.a.mov(R0.r64(), S9.r64())?;
        }
        if dst != R3 {
            self.a.mov(R3.r64(), S10.r64())?;
        }
        if dst != R0 && dst != R3 {
            self.a.mov(dst.r64(), S11.r64())?;
        }
        self.a.jmp(done)?;
        if signed {
            self.set_label(minus_one)?;
            match remainder {
                true => self.a.xor(dst.r32(), dst.r32())?,
                false => self.neg(width, dst)?,
            }
            self.a.jmp(done)?;
        }
        self.set_label(zero)?;
        match (remainder, width) {
            (false, _) => self.a.xor(dst.r32(), dst.r32())?,
            (true, Width::W32) => self.zero_upper(dst)?,
            (true, Width::W64) => self.a.zero_bytes()?,
        }
        self.set_label(done)?;
        Ok(())
    }

    /// Compares, for [`Asm::jump_on`].
    pub(super) fn compare_imm(&mut self, width: Width, jump: JmpOp, left: Gp, imm: i32) -> Emitted {
        match (jump, imm) {
            (JmpOp::Set, 0..=0xff) => self.a.test(left.r8(), imm),
            (JmpOp::Set, 0..) => self.a.test(left.r32(), imm),
            (JmpOp::Set, _) => match width {
                Width::W64 => self.a.test(left.r64(), imm),
                Width::W32 => self.a.test(left.r32(), imm),
            },
            (_, 0) => match width {
                Width::W64 => self.a.test(left.r64(), left.r64()),
                Width::W32 => self.a.test(left.r32(), left.r32()),
            },
            _ => self.two_imm(width, &CMP, left, imm),
        }
    }

    /// The same of two registers.
    pub(super) fn compare_reg(&mut self, width: Width, jump: JmpOp, left: Gp, right: Gp) -> Emitted {
        match (jump, width) {
            (JmpOp::Set, Width::W64) => self.a.test(left.r64(), right.r64()),
            (JmpOp::Set, Width::W32) => self.a.test(left.r32(), right.r32()),
            _ => self.two(width, &CMP, left, right),
        }
    }

    pub(super) fn jump_on(&mut self, condition: Condition, target: CodeLabel) -> Emitted {
        match (condition.jump, condition.holds) {
            (JmpOp::Eq, true) | (JmpOp::Ne | JmpOp::Set, false) => self.a.je(target),
            (JmpOp::Ne | JmpOp::Set, true) | (JmpOp::Eq, false) => self.a.jne(target),
            (JmpOp::Gt, true) | (JmpOp::Le, false) => self.a.ja(target),
            (JmpOp::Ge, true) | (JmpOp::Lt, false) => self.a.jae(target),
            (JmpOp::Lt, true) | (JmpOp::Ge, false) => self.a.jb(target),
            (JmpOp::Le, true) | (JmpOp::Gt, false) => self.a.jbe(target),
            (JmpOp::Sgt, true) | (JmpOp::Sle, false) => self.a.jg(target),
            (JmpOp::Sge, true) | (JmpOp::Slt, false) => self.a.jge(target),
            (JmpOp::Slt, true) | (JmpOp::Sge, false) => self.a.jl(target),
            (JmpOp::Sle, true) | (JmpOp::Sgt, false) => self.a.jle(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Asm;
    use crate::jit::Options;
    use crate::{Config, Context, Limits, Memory, Vm};
    use skep_abi::ProgramType;
    use std::sync::Arc;

    /// Processors without shifts by any register are rare by now, so the way around is tried on the others.
    #[test]
    fn shifts_by_way_of_cl_are_the_same() {
        let config = Config { memory: Memory::Fast, limits: Limits::default(), ..Config::default() };
        let vm = Vm::new(config);
        for (dst, src) in (0..6).flat_map(|dst| (0..6).map(move |src| (dst, src))) {
            for op in ["<<=", ">>=", "s>>="] {
                for form in ['r', 'w'] {
                    let text = format!(
                        "r0 = 0x8000000180000003 ll\nr1 = 33\nr2 = -1\nr3 = 0x123456789abcdef0 ll\nr4 = 5\nr5 = 64\n\
                         {form}{dst} {op} {form}{src}\nr0 ^= r1\nr0 *= 31\nr0 ^= r2\nr0 *= 31\nr0 ^= r3\nr0 *= 31\n\
                         r0 ^= r4\nr0 *= 31\nr0 ^= r5\nexit"
                    );
                    let slots = skep_isa::encode(&skep_isa::assemble(&text).unwrap());
                    let mut program = vm.load_slots("shift", ProgramType::Unspec, &slots).unwrap();
                    let expected = vm.run(&program, &mut Context::memory(&mut []));
                    let loaded = Arc::get_mut(&mut program.loaded).unwrap();
                    let mut asm = Asm::new(&loaded.code, Options { checked: false, counted: false }).unwrap();
                    asm.bmi2 = false;
                    asm.program().unwrap();
                    let native = asm.link().unwrap();
                    loaded.code.native = Some(Box::new(native));
                    assert!(program.is_compiled());
                    assert_eq!(vm.run(&program, &mut Context::memory(&mut [])), expected, "{text}");
                }
            }
        }
    }
}
