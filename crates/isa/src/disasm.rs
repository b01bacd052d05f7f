//! Instructions -> text, one instruction at a time. [`crate::assemble`] reads it back.
//!
//! The text is that of LLVM with decimal numbers. Where LLVM's text depends on the processor version it was asked for,
//! this is the kernel's choice: ordinary loads and stores name whole registers (`r0 = *(u32 *)(r1 + 4)`). What has no
//! text in LLVM is called as in RFC 9669: `r1 = map_by_fd(5)`, `r1 = map_val(map_by_fd(5)) + 8`, `r1 = var_addr(7)`,
//! `r1 = code_addr(+12)`, `r1 = map_by_idx(0)`; and kernel functions are `call kfunc(BTF_ID)` or
//! `call kfunc(BTF_ID, INDEX)`.
//!
//! Limits: a relative target is shown as a distance (`goto +5`); [`crate::Listing`] adds where that is.

use std::fmt::{self, Display, Formatter};

use crate::{AluOp, AtomicOp, Call, Insn, NarrowSize, Reg, Size, Source, SwapOp, Wide, Width};

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number())
    }
}

impl Display for Size {
    /// The unsigned C type of this size, `u32`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.bits())
    }
}

/// A register by the name that its width gives it: `r1`, or `w1` for the lower half.
struct Named(Width, Reg);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let letter = match self.0 {
            Width::W32 => 'w',
            Width::W64 => 'r',
        };
        write!(f, "{letter}{}", self.1.number())
    }
}

struct Operand(Width, Source);

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Source::Reg(reg) => Named(self.0, reg).fmt(f),
            Source::Imm(imm) => imm.fmt(f),
        }
    }
}

/// `r1 + 4`, `r10 - 8`
struct Address(Reg, i16);

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = if self.1 < 0 { '-' } else { '+' };
        write!(f, "{} {sign} {}", self.0, self.1.unsigned_abs())
    }
}

fn atomic_size(width: Width) -> Size {
    match width {
        Width::W32 => Size::W,
        Width::W64 => Size::DW,
    }
}

impl Display for Insn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Insn::Alu { width, op, dst, src } => {
                write!(f, "{} {} {}", Named(width, dst), op.symbol(), Operand(width, src))
            }
            Insn::Neg { width, dst } => write!(f, "{0} = -{0}", Named(width, dst)),
            Insn::MovSx { form, dst, src } => {
                write!(f, "{} = (s{}){}", Named(form.width(), dst), form.bits(), Named(form.width(), src))
            }
            Insn::ByteSwap { op, bits, dst } => {
                let name = match op {
                    SwapOp::ToLe => "le",
                    SwapOp::ToBe => "be",
                    SwapOp::Swap => "bswap",
                };
                write!(f, "{dst} = {name}{} {dst}", bits.bits())
            }
            Insn::AddrSpaceCast { cast, dst, src } => {
                let (to, from) = cast.spaces();
                write!(f, "{dst} = addr_space_cast({src}, {to}, {from})")
            }
            Insn::LoadWide { dst, value } => {
                write!(f, "{dst} = ")?;
                write_wide(f, value)
            }
            Insn::Load { size, dst, base, off } => write!(f, "{dst} = *({size} *)({})", Address(base, off)),
            Insn::LoadSx { size, dst, base, off } => {
                write!(f, "{dst} = *(s{} *)({})", Size::from(size).bits(), Address(base, off))
            }
            Insn::Store { size, base, off, src } => {
                write!(f, "*({size} *)({}) = {}", Address(base, off), Operand(Width::W64, src))
            }
            Insn::Atomic { width, op, base, off, src } => write_atomic(f, width, op, Address(base, off), src),
            Insn::LoadAcquire { size, dst, base, off } => {
                write!(f, "{dst} = load_acquire(({size} *)({}))", Address(base, off))
            }
            Insn::StoreRelease { size, base, off, src } => {
                write!(f, "store_release(({size} *)({}), {src})", Address(base, off))
            }
            Insn::LoadAbs { size, off } => write!(f, "r0 = *({} *)skb[{off}]", packet_size(size)),
            Insn::LoadInd { size, src, off } => {
                let sign = if off < 0 { '-' } else { '+' };
                write!(f, "r0 = *({} *)skb[{src} {sign} {}]", packet_size(size), off.unsigned_abs())
            }
            Insn::Jump { off } => write!(f, "goto {off:+}"),
            Insn::JumpLong { off } => write!(f, "gotol {off:+}"),
            Insn::JumpReg { dst } => write!(f, "gotox {dst}"),
            Insn::JumpIf { width, op, dst, src, off } => {
                write!(f, "if {} {} {} goto {off:+}", Named(width, dst), op.symbol(), Operand(width, src))
            }
            Insn::MayGoto { off } => write!(f, "may_goto {off:+}"),
            Insn::Call(Call::Helper(id)) => write!(f, "call {}", id.cast_signed()),
            Insn::Call(Call::Subprog(rel)) => write!(f, "call pc{rel:+}"),
            Insn::Call(Call::Kfunc { btf_id, btf_idx: 0 }) => write!(f, "call kfunc({btf_id})"),
            Insn::Call(Call::Kfunc { btf_id, btf_idx }) => write!(f, "call kfunc({btf_id}, {btf_idx})"),
            Insn::CallReg { dst } => write!(f, "callx {dst}"),
            Insn::Exit => f.write_str("exit"),
        }
    }
}

fn packet_size(size: NarrowSize) -> Size {
    size.into()
}

fn write_wide(f: &mut Formatter<'_>, value: Wide) -> fmt::Result {
    match value {
        Wide::Imm64(number) => write!(f, "{number:#x} ll"),
        Wide::MapFd(fd) => write!(f, "map_by_fd({fd})"),
        Wide::MapValue { fd, off } => write!(f, "map_val(map_by_fd({fd})) + {off}"),
        Wide::BtfVar { btf_id, btf_fd: 0 } => write!(f, "var_addr({btf_id})"),
        Wide::BtfVar { btf_id, btf_fd } => write!(f, "var_addr({btf_id}, {btf_fd})"),
        Wide::Func(rel) => write!(f, "code_addr({rel:+})"),
        Wide::MapIdx(idx) => write!(f, "map_by_idx({idx})"),
        Wide::MapIdxValue { idx, off } => write!(f, "map_val(map_by_idx({idx})) + {off}"),
    }
}

fn write_atomic(f: &mut Formatter<'_>, width: Width, op: AtomicOp, address: Address, src: Reg) -> fmt::Result {
    let size = atomic_size(width);
    let src = Named(width, src);
    let (fetch, symbol, name) = match op {
        AtomicOp::Add { fetch } => (fetch, AluOp::Add.symbol(), "add"),
        AtomicOp::Or { fetch } => (fetch, AluOp::Or.symbol(), "or"),
        AtomicOp::And { fetch } => (fetch, AluOp::And.symbol(), "and"),
        AtomicOp::Xor { fetch } => (fetch, AluOp::Xor.symbol(), "xor"),
        AtomicOp::Xchg => {
            let suffix = if width == Width::W32 { "32_32" } else { "_64" };
            return write!(f, "{src} = xchg{suffix}({address}, {src})");
        }
        AtomicOp::CmpXchg => {
            let suffix = if width == Width::W32 { "32_32" } else { "_64" };
            let r0 = Named(width, Reg::R0);
            return write!(f, "{r0} = cmpxchg{suffix}({address}, {r0}, {src})");
        }
    };
    if fetch {
        write!(f, "{src} = atomic_fetch_{name}(({size} *)({address}), {src})")
    } else {
        write!(f, "lock *({size} *)({address}) {symbol} {src}")
    }
}
