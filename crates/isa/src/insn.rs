//! An instruction, taken apart into types that can hold nothing but valid operands.
//!
//! ```
//! use skep_isa::{AluOp, Insn, Reg, Source, Width};
//! let add = Insn::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R0, src: Source::Imm(5) };
//! assert_eq!(add.to_string(), "r0 += 5");
//! assert_eq!(add.encode().as_slice()[0].opcode, 0x07);
//! ```
//!
//! What an [`Insn`] proves: it can be encoded, and no field that the encoding reserves is in use. What it does not
//! prove: that a jump lands on an instruction, that a register holds what the instruction needs, that a helper, map or
//! kernel function exists, that the kernel in use knows the instruction. Those are questions for a verifier.

use crate::{InsnIdx, opcode};

/// A register: `R0` (results), `R1` to `R5` (arguments), `R6` to `R9` (kept over calls), `R10` (frame pointer, read only).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

impl Reg {
    /// The frame pointer.
    pub const FP: Reg = Reg::R10;

    /// Every register, by number.
    pub const ALL: [Reg; 11] =
        [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10];

    /// The register with this number, if there is one (0 to 10).
    pub fn new(number: u8) -> Option<Reg> {
        Reg::ALL.get(usize::from(number)).copied()
    }

    /// 0 to 10.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// 0 to 10, to index a register file with.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How much of the registers an operation uses: the 32-bit forms write zeros to the upper half of their destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Width {
    /// The lower half.
    W32,
    /// The whole register.
    W64,
}

/// Size of a memory access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Size {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
    /// 8 bytes.
    DW,
}

impl Size {
    /// Every size, smallest first.
    pub const ALL: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];

    /// 1, 2, 4 or 8.
    pub const fn bytes(self) -> u8 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::DW => 8,
        }
    }

    /// 8, 16, 32 or 64.
    pub const fn bits(self) -> u8 {
        self.bytes() * 8
    }
}

/// Size of an access that does not exist with 8 bytes: sign-extending loads and packet loads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NarrowSize {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
}

impl NarrowSize {
    /// Every narrow size, smallest first.
    pub const ALL: [NarrowSize; 3] = [NarrowSize::B, NarrowSize::H, NarrowSize::W];
}

impl From<NarrowSize> for Size {
    fn from(narrow: NarrowSize) -> Size {
        match narrow {
            NarrowSize::B => Size::B,
            NarrowSize::H => Size::H,
            NarrowSize::W => Size::W,
        }
    }
}

impl TryFrom<Size> for NarrowSize {
    type Error = ();

    fn try_from(size: Size) -> Result<NarrowSize, ()> {
        match size {
            Size::B => Ok(NarrowSize::B),
            Size::H => Ok(NarrowSize::H),
            Size::W => Ok(NarrowSize::W),
            Size::DW => Err(()),
        }
    }
}

/// Second operand of arithmetic, comparisons and stores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// A register.
    Reg(Reg),
    /// A number, sign-extended to the width of the operation.
    Imm(i32),
}

/// Arithmetic with two operands, `dst op= src`. RFC 9669, section 4.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AluOp {
    /// `+=`
    Add,
    /// `-=`
    Sub,
    /// `*=`
    Mul,
    /// `/=`, unsigned; division by zero gives 0
    Div,
    /// `s/=`, signed, rounding towards zero; division by zero gives 0
    Sdiv,
    /// `|=`
    Or,
    /// `&=`
    And,
    /// `<<=`, by the low 5 or 6 bits of the source
    Lsh,
    /// `>>=`, filling with zeros
    Rsh,
    /// `s>>=`, filling with the sign
    Arsh,
    /// `%=`, unsigned; modulo zero leaves the destination
    Mod,
    /// `s%=`, signed, with the sign of the dividend; modulo zero leaves the destination
    Smod,
    /// `^=`
    Xor,
    /// `=`
    Mov,
}

impl AluOp {
    /// Every operation.
    pub const ALL: [AluOp; 14] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::Sdiv,
        AluOp::Or,
        AluOp::And,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Arsh,
        AluOp::Mod,
        AluOp::Smod,
        AluOp::Xor,
        AluOp::Mov,
    ];

    /// As it is written, `+=` for [`AluOp::Add`].
    pub const fn symbol(self) -> &'static str {
        match self {
            AluOp::Add => "+=",
            AluOp::Sub => "-=",
            AluOp::Mul => "*=",
            AluOp::Div => "/=",
            AluOp::Sdiv => "s/=",
            AluOp::Or => "|=",
            AluOp::And => "&=",
            AluOp::Lsh => "<<=",
            AluOp::Rsh => ">>=",
            AluOp::Arsh => "s>>=",
            AluOp::Mod => "%=",
            AluOp::Smod => "s%=",
            AluOp::Xor => "^=",
            AluOp::Mov => "=",
        }
    }
}

/// A move that sign-extends a part of the source register, written `r0 = (s8)r1`. RFC 9669, section 4.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SignExtend {
    /// 8 bits to 32, upper half zero.
    S8To32,
    /// 16 bits to 32, upper half zero.
    S16To32,
    /// 8 bits to 64.
    S8To64,
    /// 16 bits to 64.
    S16To64,
    /// 32 bits to 64.
    S32To64,
}

impl SignExtend {
    /// Every form.
    pub const ALL: [SignExtend; 5] =
        [SignExtend::S8To32, SignExtend::S16To32, SignExtend::S8To64, SignExtend::S16To64, SignExtend::S32To64];

    /// The form with this many source bits (8, 16, 32) and this width, if it exists.
    pub fn new(bits: u8, width: Width) -> Option<SignExtend> {
        SignExtend::ALL.into_iter().find(|form| form.bits() == bits && form.width() == width)
    }

    /// Bits of the source that count: 8, 16 or 32.
    pub const fn bits(self) -> u8 {
        match self {
            SignExtend::S8To32 | SignExtend::S8To64 => 8,
            SignExtend::S16To32 | SignExtend::S16To64 => 16,
            SignExtend::S32To64 => 32,
        }
    }

    /// Width of the result.
    pub const fn width(self) -> Width {
        match self {
            SignExtend::S8To32 | SignExtend::S16To32 => Width::W32,
            SignExtend::S8To64 | SignExtend::S16To64 | SignExtend::S32To64 => Width::W64,
        }
    }
}

/// Which bytes change places. RFC 9669, section 4.2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapOp {
    /// `le16`: between the machine's order and little endian.
    ToLe,
    /// `be16`: between the machine's order and big endian.
    ToBe,
    /// `bswap16`: always.
    Swap,
}

impl SwapOp {
    /// Every form.
    pub const ALL: [SwapOp; 3] = [SwapOp::ToLe, SwapOp::ToBe, SwapOp::Swap];
}

/// How many low bits of a register a byte swap uses; the bits above become zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SwapBits {
    /// 16 bits.
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
}

impl SwapBits {
    /// Every form.
    pub const ALL: [SwapBits; 3] = [SwapBits::B16, SwapBits::B32, SwapBits::B64];

    /// 16, 32 or 64.
    pub const fn bits(self) -> u8 {
        match self {
            SwapBits::B16 => 16,
            SwapBits::B32 => 32,
            SwapBits::B64 => 64,
        }
    }
}

/// Direction of a cast between address spaces; the only two that Linux has, both for arena maps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpaceCast {
    /// `addr_space_cast(r, 0, 1)`: an arena pointer (space 1) becomes one the program can follow (space 0).
    FromArena,
    /// `addr_space_cast(r, 1, 0)`: a pointer into the arena becomes an arena pointer, valid in user space too.
    ToArena,
}

impl SpaceCast {
    /// Destination and source address space.
    pub const fn spaces(self) -> (u8, u8) {
        match self {
            SpaceCast::FromArena => (0, 1),
            SpaceCast::ToArena => (1, 0),
        }
    }
}

/// What a 64-bit immediate load puts into its register. RFC 9669, section 5.4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wide {
    /// A number.
    Imm64(u64),
    /// A map, by file descriptor.
    MapFd(i32),
    /// An address in the first value of a map: its file descriptor, and bytes into the value.
    MapValue {
        /// File descriptor of the map.
        fd: i32,
        /// Bytes from the start of the value.
        off: u32,
    },
    /// The address of a variable of the kernel.
    BtfVar {
        /// Type id of the variable.
        btf_id: u32,
        /// File descriptor of a module's BTF object; 0 for the kernel proper.
        btf_fd: i32,
    },
    /// The address of a function of this program, in slots from the next instruction.
    ///
    /// As in the kernel the base is one slot after the *first* slot of the load.
    Func(i32),
    /// A map, by index in the file descriptor array given at load time.
    MapIdx(i32),
    /// An address in the first value of a map: its index in the array, and bytes into the value.
    MapIdxValue {
        /// Index of the map in the file descriptor array.
        idx: i32,
        /// Bytes from the start of the value.
        off: u32,
    },
}

/// Comparison of a conditional jump. RFC 9669, section 4.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JmpOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `>`, unsigned
    Gt,
    /// `>=`, unsigned
    Ge,
    /// `<`, unsigned
    Lt,
    /// `<=`, unsigned
    Le,
    /// `&`, any common bit
    Set,
    /// `s>`, signed
    Sgt,
    /// `s>=`, signed
    Sge,
    /// `s<`, signed
    Slt,
    /// `s<=`, signed
    Sle,
}

impl JmpOp {
    /// Every comparison.
    pub const ALL: [JmpOp; 11] = [
        JmpOp::Eq,
        JmpOp::Ne,
        JmpOp::Gt,
        JmpOp::Ge,
        JmpOp::Lt,
        JmpOp::Le,
        JmpOp::Set,
        JmpOp::Sgt,
        JmpOp::Sge,
        JmpOp::Slt,
        JmpOp::Sle,
    ];

    /// As it is written, `s>` for [`JmpOp::Sgt`].
    pub const fn symbol(self) -> &'static str {
        match self {
            JmpOp::Eq => "==",
            JmpOp::Ne => "!=",
            JmpOp::Gt => ">",
            JmpOp::Ge => ">=",
            JmpOp::Lt => "<",
            JmpOp::Le => "<=",
            JmpOp::Set => "&",
            JmpOp::Sgt => "s>",
            JmpOp::Sge => "s>=",
            JmpOp::Slt => "s<",
            JmpOp::Sle => "s<=",
        }
    }
}

/// An atomic operation on memory, with sequentially consistent order where it fetches. RFC 9669, section 5.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AtomicOp {
    /// `+=`; with `fetch` the old value comes back in the source register.
    Add {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// `|=`; with `fetch` the old value comes back in the source register.
    Or {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// `&=`; with `fetch` the old value comes back in the source register.
    And {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// `^=`; with `fetch` the old value comes back in the source register.
    Xor {
        /// Whether the old value is wanted.
        fetch: bool,
    },
    /// Memory and source register change places.
    Xchg,
    /// If memory equals `r0`, it becomes the source register; `r0` becomes the old value either way.
    CmpXchg,
}

impl AtomicOp {
    /// Every operation, with and without fetch.
    pub const ALL: [AtomicOp; 10] = [
        AtomicOp::Add { fetch: false },
        AtomicOp::Or { fetch: false },
        AtomicOp::And { fetch: false },
        AtomicOp::Xor { fetch: false },
        AtomicOp::Add { fetch: true },
        AtomicOp::Or { fetch: true },
        AtomicOp::And { fetch: true },
        AtomicOp::Xor { fetch: true },
        AtomicOp::Xchg,
        AtomicOp::CmpXchg,
    ];

    /// The register that receives the old value, if one does.
    pub fn fetches_into(self, src: Reg) -> Option<Reg> {
        match self {
            AtomicOp::Add { fetch } | AtomicOp::Or { fetch } | AtomicOp::And { fetch } | AtomicOp::Xor { fetch } => {
                fetch.then_some(src)
            }
            AtomicOp::Xchg => Some(src),
            AtomicOp::CmpXchg => Some(Reg::R0),
        }
    }

    /// The `imm` field that means this operation.
    pub const fn code(self) -> i32 {
        let (base, fetch) = match self {
            AtomicOp::Add { fetch } => (opcode::ATOMIC_ADD, fetch),
            AtomicOp::Or { fetch } => (opcode::ATOMIC_OR, fetch),
            AtomicOp::And { fetch } => (opcode::ATOMIC_AND, fetch),
            AtomicOp::Xor { fetch } => (opcode::ATOMIC_XOR, fetch),
            AtomicOp::Xchg => (opcode::ATOMIC_XCHG, true),
            AtomicOp::CmpXchg => (opcode::ATOMIC_CMPXCHG, true),
        };
        if fetch { base | opcode::ATOMIC_FETCH } else { base }
    }
}

/// What is called. RFC 9669, section 4.3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// A helper, by number (`enum bpf_func_id`).
    Helper(u32),
    /// A function of this program, in slots from the next instruction.
    Subprog(i32),
    /// A function of the kernel.
    Kfunc {
        /// Its type id in BTF. An object that is not linked yet has -1 here.
        btf_id: i32,
        /// Where to look the id up: 0 for the kernel proper, else an index in the file descriptor array given at load time.
        btf_idx: i16,
    },
}

/// An instruction. See the module for what it proves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Insn {
    /// `r0 += r1`, `w0 = 5`
    Alu {
        /// Operand width.
        width: Width,
        /// Operation.
        op: AluOp,
        /// First operand and result.
        dst: Reg,
        /// Second operand.
        src: Source,
    },
    /// `r0 = -r0`
    Neg {
        /// Operand width.
        width: Width,
        /// Operand and result.
        dst: Reg,
    },
    /// `r0 = (s8)r1`
    MovSx {
        /// From how many bits to how many.
        form: SignExtend,
        /// Result.
        dst: Reg,
        /// Operand.
        src: Reg,
    },
    /// `r0 = be16 r0`
    ByteSwap {
        /// Which order.
        op: SwapOp,
        /// How many bits.
        bits: SwapBits,
        /// Operand and result.
        dst: Reg,
    },
    /// `r0 = addr_space_cast(r1, 0, 1)`
    AddrSpaceCast {
        /// Direction.
        cast: SpaceCast,
        /// Result.
        dst: Reg,
        /// Operand.
        src: Reg,
    },
    /// `r1 = 0x1234 ll` and the other 64-bit immediates; two slots
    LoadWide {
        /// Result.
        dst: Reg,
        /// What to load.
        value: Wide,
    },
    /// `r0 = *(u32 *)(r1 + 4)`, zero-extended
    Load {
        /// Size in memory.
        size: Size,
        /// Result.
        dst: Reg,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
    },
    /// `r0 = *(s32 *)(r1 + 4)`, sign-extended
    LoadSx {
        /// Size in memory.
        size: NarrowSize,
        /// Result.
        dst: Reg,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
    },
    /// `*(u32 *)(r1 + 4) = r2`, `*(u32 *)(r1 + 4) = 5`
    Store {
        /// Size in memory.
        size: Size,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
        /// What to store.
        src: Source,
    },
    /// `lock *(u64 *)(r1 + 0) += r2`, `r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)`
    Atomic {
        /// 4 or 8 bytes of memory.
        width: Width,
        /// Operation.
        op: AtomicOp,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
        /// Operand, and where the old value goes if fetched (except [`AtomicOp::CmpXchg`], which uses `r0`).
        src: Reg,
    },
    /// `r0 = load_acquire((u32 *)(r1 + 4))`, zero-extended
    LoadAcquire {
        /// Size in memory.
        size: Size,
        /// Result.
        dst: Reg,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
    },
    /// `store_release((u32 *)(r1 + 4), r2)`
    StoreRelease {
        /// Size in memory.
        size: Size,
        /// Address, before the offset.
        base: Reg,
        /// Bytes added to the base.
        off: i16,
        /// What to store.
        src: Reg,
    },
    /// `r0 = *(u16 *)skb[14]`; `r6` is the packet; leaves the program with 0 when outside it
    LoadAbs {
        /// Size in the packet.
        size: NarrowSize,
        /// Bytes from the start of the packet; the negative ranges of classic BPF too.
        off: i32,
    },
    /// `r0 = *(u16 *)skb[r2 + 14]`; `r6` is the packet; leaves the program with 0 when outside it
    LoadInd {
        /// Size in the packet.
        size: NarrowSize,
        /// Added to the offset.
        src: Reg,
        /// Bytes from the start of the packet.
        off: i32,
    },
    /// `goto +5`
    Jump {
        /// Slots from the next instruction.
        off: i16,
    },
    /// `gotol +100000`
    JumpLong {
        /// Slots from the next instruction.
        off: i32,
    },
    /// `gotox r1`: to an address loaded from an instruction array map (Linux 6.19)
    JumpReg {
        /// Holds the target.
        dst: Reg,
    },
    /// `if r1 s> 5 goto +3`
    JumpIf {
        /// Operand width.
        width: Width,
        /// Comparison.
        op: JmpOp,
        /// First operand.
        dst: Reg,
        /// Second operand.
        src: Source,
        /// Slots from the next instruction.
        off: i16,
    },
    /// `may_goto +2`: jumps once the kernel thinks that the loop has run for long enough
    MayGoto {
        /// Slots from the next instruction.
        off: i16,
    },
    /// `call 12`
    Call(Call),
    /// `callx r3`. LLVM emits it for calls through pointers; Linux does not accept it.
    CallReg {
        /// Holds the function's address.
        dst: Reg,
    },
    /// `exit`
    Exit,
}

impl Insn {
    /// How many slots the encoding takes: 2 for [`Insn::LoadWide`], else 1.
    pub const fn slots(&self) -> u32 {
        match self {
            Insn::LoadWide { .. } => 2,
            _ => 1,
        }
    }

    /// For an instruction that names another one by distance (jumps, calls of subprograms, function addresses): slots
    /// from the one after `self`'s first.
    pub fn relative(&self) -> Option<i32> {
        match *self {
            Insn::Jump { off } | Insn::JumpIf { off, .. } | Insn::MayGoto { off } => Some(off.into()),
            Insn::JumpLong { off } => Some(off),
            Insn::Call(Call::Subprog(rel)) | Insn::LoadWide { value: Wide::Func(rel), .. } => Some(rel),
            _ => None,
        }
    }

    /// The slot that [`Insn::relative`] leads to when `self` stands at `at`. `None` also where that is no slot number
    /// at all (before 0); it may still be past the end of the program.
    pub fn target(&self, at: InsnIdx) -> Option<InsnIdx> {
        let slot = i64::from(at.0) + 1 + i64::from(self.relative()?);
        u32::try_from(slot).ok().map(InsnIdx)
    }

    /// Whether control can continue at the next instruction.
    pub const fn falls_through(&self) -> bool {
        !matches!(self, Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpReg { .. } | Insn::Exit)
    }
}
