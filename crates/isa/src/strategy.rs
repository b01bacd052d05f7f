//! Proptest strategies: random instructions, all of them valid. With the feature `strategy`, or in this crate's tests.
//!
//! Limits: instructions, not programs: jumps lead anywhere, registers hold anything.

use proptest::prelude::*;
use proptest::sample::select;

use crate::{
    AluOp, AtomicOp, Call, Insn, JmpOp, NarrowSize, Raw, Reg, SignExtend, Size, Source, SpaceCast, SwapBits, SwapOp,
    Wide, Width, classic,
};

/// Any register.
pub fn reg() -> impl Strategy<Value = Reg> + Clone {
    select(&Reg::ALL[..])
}

fn width() -> impl Strategy<Value = Width> {
    select(&[Width::W32, Width::W64][..])
}

fn size() -> impl Strategy<Value = Size> {
    select(&Size::ALL[..])
}

fn narrow() -> impl Strategy<Value = NarrowSize> {
    select(&NarrowSize::ALL[..])
}

/// A register or a number; numbers at the edges come often.
pub fn source() -> impl Strategy<Value = Source> {
    prop_oneof![reg().prop_map(Source::Reg), imm().prop_map(Source::Imm)]
}

fn imm() -> impl Strategy<Value = i32> {
    prop_oneof![any::<i32>(), select(&[0, 1, -1, i32::MIN, i32::MAX][..])]
}

fn off() -> impl Strategy<Value = i16> {
    prop_oneof![any::<i16>(), select(&[0, 1, -1, i16::MIN, i16::MAX][..])]
}

/// Any 64-bit immediate.
pub fn wide() -> impl Strategy<Value = Wide> {
    prop_oneof![
        any::<u64>().prop_map(Wide::Imm64),
        imm().prop_map(Wide::MapFd),
        (imm(), any::<u32>()).prop_map(|(fd, off)| Wide::MapValue { fd, off }),
        (any::<u32>(), imm()).prop_map(|(btf_id, btf_fd)| Wide::BtfVar { btf_id, btf_fd }),
        imm().prop_map(Wide::Func),
        imm().prop_map(Wide::MapIdx),
        (imm(), any::<u32>()).prop_map(|(idx, off)| Wide::MapIdxValue { idx, off }),
    ]
}

fn arithmetic() -> impl Strategy<Value = Insn> {
    prop_oneof![
        4 => (width(), select(&AluOp::ALL[..]), reg(), source())
            .prop_map(|(width, op, dst, src)| Insn::Alu { width, op, dst, src }),
        1 => (width(), reg()).prop_map(|(width, dst)| Insn::Neg { width, dst }),
        1 => (select(&SignExtend::ALL[..]), reg(), reg())
            .prop_map(|(form, dst, src)| Insn::MovSx { form, dst, src }),
        1 => (select(&SwapOp::ALL[..]), select(&SwapBits::ALL[..]), reg())
            .prop_map(|(op, bits, dst)| Insn::ByteSwap { op, bits, dst }),
        1 => (select(&[SpaceCast::FromArena, SpaceCast::ToArena][..]), reg(), reg())
            .prop_map(|(cast, dst, src)| Insn::AddrSpaceCast { cast, dst, src }),
        1 => (reg(), wide()).prop_map(|(dst, value)| Insn::LoadWide { dst, value }),
    ]
}

fn memory() -> impl Strategy<Value = Insn> {
    prop_oneof![
        (size(), reg(), reg(), off()).prop_map(|(size, dst, base, off)| Insn::Load { size, dst, base, off }),
        (narrow(), reg(), reg(), off()).prop_map(|(size, dst, base, off)| Insn::LoadSx { size, dst, base, off }),
        (size(), reg(), off(), source()).prop_map(|(size, base, off, src)| Insn::Store { size, base, off, src }),
        (width(), select(&AtomicOp::ALL[..]), reg(), off(), reg())
            .prop_map(|(width, op, base, off, src)| Insn::Atomic { width, op, base, off, src }),
        (size(), reg(), reg(), off()).prop_map(|(size, dst, base, off)| Insn::LoadAcquire { size, dst, base, off }),
        (size(), reg(), off(), reg()).prop_map(|(size, base, off, src)| Insn::StoreRelease { size, base, off, src }),
        (narrow(), imm()).prop_map(|(size, off)| Insn::LoadAbs { size, off }),
        (narrow(), reg(), imm()).prop_map(|(size, src, off)| Insn::LoadInd { size, src, off }),
    ]
}

fn control() -> impl Strategy<Value = Insn> {
    prop_oneof![
        off().prop_map(|off| Insn::Jump { off }),
        imm().prop_map(|off| Insn::JumpLong { off }),
        reg().prop_map(|dst| Insn::JumpReg { dst }),
        (width(), select(&JmpOp::ALL[..]), reg(), source(), off())
            .prop_map(|(width, op, dst, src, off)| Insn::JumpIf { width, op, dst, src, off }),
        off().prop_map(|off| Insn::MayGoto { off }),
        any::<u32>().prop_map(|id| Insn::Call(Call::Helper(id))),
        imm().prop_map(|rel| Insn::Call(Call::Subprog(rel))),
        (imm(), off()).prop_map(|(btf_id, btf_idx)| Insn::Call(Call::Kfunc { btf_id, btf_idx })),
        reg().prop_map(|dst| Insn::CallReg { dst }),
        Just(Insn::Exit),
    ]
}

/// Any instruction.
pub fn insn() -> impl Strategy<Value = Insn> {
    prop_oneof![arithmetic(), memory(), control()]
}

/// Any slot, valid or not; small values come often, so that many are valid.
pub fn raw() -> impl Strategy<Value = Raw> {
    let small = || prop_oneof![3 => Just(0u8), 3 => 0u8..=10, 1 => any::<u8>()];
    let off = prop_oneof![3 => Just(0i16), 2 => select(&[1, -1, 8, 16, 32][..]), 1 => any::<i16>()];
    let imm = prop_oneof![
        3 => Just(0i32),
        2 => select(&[1, 0x10000, 16, 32, 64, 0x40, 0x41, 0xe1, 0xf1, 0x100, 0x110][..]),
        1 => any::<i32>(),
    ];
    (any::<u8>(), small(), small(), off, imm).prop_map(|(opcode, dst, src, off, imm)| Raw {
        opcode,
        dst,
        src,
        off,
        imm,
    })
}

/// Any classic instruction.
pub fn classic_insn() -> impl Strategy<Value = classic::Insn> {
    use classic::{Ancillary, Insn, Operand, PacketOffset, Register, Scratch};
    let register = || select(&[Register::A, Register::X][..]);
    let scratch = || (0..classic::MEM_WORDS).prop_filter_map("a word of scratch memory", Scratch::new);
    let packet = || any::<u32>().prop_filter_map("not ancillary", PacketOffset::new);
    let operand = || prop_oneof![any::<u32>().prop_map(Operand::K), Just(Operand::X)];
    prop_oneof![
        (narrow(), packet()).prop_map(|(size, at)| Insn::LoadAbs { size, at }),
        (narrow(), select(&Ancillary::ALL[..])).prop_map(|(size, what)| Insn::LoadAncillary { size, what }),
        (narrow(), any::<u32>()).prop_map(|(size, k)| Insn::LoadInd { size, k }),
        register().prop_map(Insn::LoadLen),
        (register(), any::<u32>()).prop_map(|(to, k)| Insn::LoadImm(to, k)),
        (register(), scratch()).prop_map(|(to, word)| Insn::LoadMem(to, word)),
        any::<u32>().prop_map(Insn::LoadMsh),
        (register(), scratch()).prop_map(|(from, word)| Insn::Store(from, word)),
        (select(&classic::AluOp::ALL[..]), operand()).prop_map(|(op, with)| Insn::Alu(op, with)),
        any::<u32>().prop_map(Insn::Jump),
        (select(&classic::JmpOp::ALL[..]), operand(), any::<u8>(), any::<u8>())
            .prop_map(|(op, with, jt, jf)| Insn::JumpIf { op, with, jt, jf }),
        any::<u32>().prop_map(Insn::Ret),
        select(&[Insn::Neg, Insn::RetA, Insn::Tax, Insn::Txa][..]),
    ]
}
