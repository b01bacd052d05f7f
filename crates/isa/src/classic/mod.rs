//! Classic BPF: `struct sock_filter` <-> instructions <-> the text of `tcpdump -d`.
//!
//! ```
//! use skep_isa::classic;
//! let text = "(000) ldh [12]\n(001) jeq #0x800 jt 2 jf 3\n(002) ret #262144\n(003) ret #0";
//! let program = classic::assemble(text).unwrap();
//! let filter = classic::encode(&program);
//! classic::check(&filter).unwrap();
//! assert_eq!(classic::to_numbers(&filter), "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n");
//! ```
//!
//! The machine has an accumulator `A`, an index register `X`, sixteen words of scratch memory `M[]`, and a packet.
//! [`decode`] says what an instruction is, [`check`] whether Linux takes the whole program (`bpf_check_classic` in
//! `net/core/filter.c`).
//!
//! Limits: the instructions of Linux, which are those of BSD with `mod`, `xor` and the ancillary loads. No conversion to
//! eBPF: Linux makes its own when the filter is attached.

mod check;
mod text;

use std::fmt::{self, Display, Formatter};

use thiserror::Error;

pub use check::{CheckError, CheckProblem, MAX_INSNS, check};
pub use text::{Text, assemble, parse_numbers, to_numbers};

use crate::{Endian, NarrowSize, Size};

/// Words of scratch memory (`BPF_MEMWORDS`).
pub const MEM_WORDS: u32 = 16;
/// Packet offsets from here on are not offsets but [`Ancillary`] data (`SKF_AD_OFF`, -0x1000).
pub const AD_OFF: u32 = -0x1000_i32 as u32;
/// Packet offsets from here on count from the network header (`SKF_NET_OFF`, -0x100000).
pub const NET_OFF: u32 = -0x10_0000_i32 as u32;
/// Packet offsets from here on count from the link-layer header (`SKF_LL_OFF`, -0x200000).
pub const LL_OFF: u32 = -0x20_0000_i32 as u32;

/// `struct sock_filter` of `include/uapi/linux/filter.h`; any eight bytes make one.
///
/// Displayed as `tcpdump -dd` does, a C initializer: `{ 0x28, 0, 0, 0x0000000c },`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SockFilter {
    /// Class, size, mode, operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The bytes of a filter are not a whole number of instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a classic filter has 8 bytes an instruction, but {len} bytes are not a multiple of that")]
pub struct LengthError {
    /// Bytes given.
    pub len: usize,
}

impl SockFilter {
    /// Bytes of an instruction.
    pub const SIZE: usize = 8;

    /// Takes eight bytes apart.
    pub fn from_bytes(bytes: [u8; 8], endian: Endian) -> SockFilter {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        let (code, k) = match endian {
            Endian::Little => (u16::from_le_bytes([c0, c1]), u32::from_le_bytes([k0, k1, k2, k3])),
            Endian::Big => (u16::from_be_bytes([c0, c1]), u32::from_be_bytes([k0, k1, k2, k3])),
        };
        SockFilter { code, jt, jf, k }
    }

    /// The eight bytes again.
    pub fn to_bytes(self, endian: Endian) -> [u8; 8] {
        let ([c0, c1], [k0, k1, k2, k3]) = match endian {
            Endian::Little => (self.code.to_le_bytes(), self.k.to_le_bytes()),
            Endian::Big => (self.code.to_be_bytes(), self.k.to_be_bytes()),
        };
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// Takes a whole filter apart.
    ///
    /// # Errors
    /// The length is not a multiple of eight.
    pub fn parse(bytes: &[u8], endian: Endian) -> Result<Vec<SockFilter>, LengthError> {
        let (chunks, []) = bytes.as_chunks() else { return Err(LengthError { len: bytes.len() }) };
        Ok(chunks.iter().map(|&chunk| SockFilter::from_bytes(chunk, endian)).collect())
    }
}

impl Display for SockFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{ {:#x}, {}, {}, {:#010x} }},", self.code, self.jt, self.jf, self.k)
    }
}

/// One of the two registers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Register {
    /// The accumulator.
    A,
    /// The index register.
    X,
}

/// Second operand of arithmetic and comparisons; the first is `A`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// The number in the instruction.
    K(u32),
    /// The index register.
    X,
}

/// A word of scratch memory, `M[0]` to `M[15]`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Scratch(u8);

impl Scratch {
    /// The word with this number, if there is one (0 to 15).
    pub fn new(number: u32) -> Option<Scratch> {
        u8::try_from(number).ok().filter(|_| number < MEM_WORDS).map(Scratch)
    }

    /// 0 to 15.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Arithmetic on `A`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Lsh,
    Rsh,
}

impl AluOp {
    /// Every operation.
    pub const ALL: [AluOp; 10] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::Mod,
        AluOp::And,
        AluOp::Or,
        AluOp::Xor,
        AluOp::Lsh,
        AluOp::Rsh,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            AluOp::Add => "add",
            AluOp::Sub => "sub",
            AluOp::Mul => "mul",
            AluOp::Div => "div",
            AluOp::Mod => "mod",
            AluOp::And => "and",
            AluOp::Or => "or",
            AluOp::Xor => "xor",
            AluOp::Lsh => "lsh",
            AluOp::Rsh => "rsh",
        }
    }

    const fn code(self) -> u16 {
        match self {
            AluOp::Add => 0x00,
            AluOp::Sub => 0x10,
            AluOp::Mul => 0x20,
            AluOp::Div => 0x30,
            AluOp::Or => 0x40,
            AluOp::And => 0x50,
            AluOp::Lsh => 0x60,
            AluOp::Rsh => 0x70,
            AluOp::Mod => 0x90,
            AluOp::Xor => 0xa0,
        }
    }
}

/// Comparison of `A`, unsigned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum JmpOp {
    /// Equal.
    Eq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Any common bit.
    Set,
}

impl JmpOp {
    /// Every comparison.
    pub const ALL: [JmpOp; 4] = [JmpOp::Eq, JmpOp::Gt, JmpOp::Ge, JmpOp::Set];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            JmpOp::Eq => "jeq",
            JmpOp::Gt => "jgt",
            JmpOp::Ge => "jge",
            JmpOp::Set => "jset",
        }
    }

    const fn code(self) -> u16 {
        match self {
            JmpOp::Eq => 0x10,
            JmpOp::Gt => 0x20,
            JmpOp::Ge => 0x30,
            JmpOp::Set => 0x40,
        }
    }
}

/// What Linux knows about a packet beyond its bytes; loaded from [`AD_OFF`] plus the number (`SKF_AD_*` in
/// `include/uapi/linux/filter.h`). The names in brackets are those of `tcpdump -d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Ancillary {
    /// `[proto]`: Ethernet protocol.
    Protocol = 0,
    /// `[type]`: to us, broadcast, outgoing...
    PktType = 4,
    /// `[ifidx]`: interface index.
    IfIndex = 8,
    /// `[nla]`: offset of the netlink attribute of type `X` from offset `A`.
    Nlattr = 12,
    /// `[nlan]`: the same, nested.
    NlattrNest = 16,
    /// `[mark]`: the packet's mark.
    Mark = 20,
    /// `[queue]`: receive queue.
    Queue = 24,
    /// `[hatype]`: type of the interface's hardware address.
    HaType = 28,
    /// `[rxhash]`: flow hash.
    RxHash = 32,
    /// `[cpu]`: this processor.
    Cpu = 36,
    /// `[xor_x]`: not a load: `A ^= X`.
    AluXorX = 40,
    /// `[vlan_tci]`: VLAN tag.
    VlanTag = 44,
    /// `[vlanp]`: whether there is a VLAN tag.
    VlanTagPresent = 48,
    /// `[poff]`: offset of the payload behind the headers that Linux knows.
    PayOffset = 52,
    /// `[random]`: a random number.
    Random = 56,
    /// `[vlan_tpid]`: protocol of the VLAN tag.
    VlanTpid = 60,
}

impl Ancillary {
    /// All of it, by number.
    pub const ALL: [Ancillary; 16] = [
        Ancillary::Protocol,
        Ancillary::PktType,
        Ancillary::IfIndex,
        Ancillary::Nlattr,
        Ancillary::NlattrNest,
        Ancillary::Mark,
        Ancillary::Queue,
        Ancillary::HaType,
        Ancillary::RxHash,
        Ancillary::Cpu,
        Ancillary::AluXorX,
        Ancillary::VlanTag,
        Ancillary::VlanTagPresent,
        Ancillary::PayOffset,
        Ancillary::Random,
        Ancillary::VlanTpid,
    ];

    /// What a load from this offset means, if it is ancillary data that exists.
    pub fn from_offset(k: u32) -> Option<Ancillary> {
        Ancillary::ALL.into_iter().find(|ancillary| ancillary.offset() == k)
    }

    /// The offset to load from.
    pub const fn offset(self) -> u32 {
        AD_OFF + self as u32
    }

    /// As `tcpdump -d` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Ancillary::Protocol => "proto",
            Ancillary::PktType => "type",
            Ancillary::IfIndex => "ifidx",
            Ancillary::Nlattr => "nla",
            Ancillary::NlattrNest => "nlan",
            Ancillary::Mark => "mark",
            Ancillary::Queue => "queue",
            Ancillary::HaType => "hatype",
            Ancillary::RxHash => "rxhash",
            Ancillary::Cpu => "cpu",
            Ancillary::AluXorX => "xor_x",
            Ancillary::VlanTag => "vlan_tci",
            Ancillary::VlanTagPresent => "vlanp",
            Ancillary::PayOffset => "poff",
            Ancillary::Random => "random",
            Ancillary::VlanTpid => "vlan_tpid",
        }
    }
}

/// Where a load takes its value from, within the packet or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PacketOffset(u32);

impl PacketOffset {
    /// An offset into the packet; `None` for what would be ancillary data.
    pub fn new(k: u32) -> Option<PacketOffset> {
        (k < AD_OFF).then_some(PacketOffset(k))
    }

    /// Bytes from the start of the packet, or from [`NET_OFF`] or [`LL_OFF`].
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// A decoded instruction; it can be encoded, but may still be wrong in its place (see [`check`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Insn {
    /// `ldh [12]`: `A` = bytes of the packet, in network order.
    LoadAbs {
        /// How many bytes.
        size: NarrowSize,
        /// From where.
        at: PacketOffset,
    },
    /// `ld [ifidx]`: `A` = what Linux knows about the packet.
    LoadAncillary {
        /// Has no effect on the value.
        size: NarrowSize,
        /// What.
        what: Ancillary,
    },
    /// `ldh [x + 14]`: `A` = bytes of the packet, in network order.
    LoadInd {
        /// How many bytes.
        size: NarrowSize,
        /// Offset added to `X`.
        k: u32,
    },
    /// `ld #pktlen`
    LoadLen(Register),
    /// `ld #0x5`
    LoadImm(Register, u32),
    /// `ld M[3]`
    LoadMem(Register, Scratch),
    /// `ldxb 4*([14]&0xf)`: `X` = length of the IPv4 header at this offset.
    LoadMsh(u32),
    /// `st M[3]`
    Store(Register, Scratch),
    /// `add #5`, `add x`
    Alu(AluOp, Operand),
    /// `neg`
    Neg,
    /// `ja 7`: skips this many instructions.
    Jump(u32),
    /// `jeq #0x800 jt 2 jf 5`
    JumpIf {
        /// Comparison.
        op: JmpOp,
        /// What `A` is compared with.
        with: Operand,
        /// Instructions to skip if true.
        jt: u8,
        /// Instructions to skip if false.
        jf: u8,
    },
    /// `ret #262144`: bytes of the packet to keep.
    Ret(u32),
    /// `ret`: as many bytes as `A` says.
    RetA,
    /// `tax`: `X = A`
    Tax,
    /// `txa`: `A = X`
    Txa,
}

/// Why a `struct sock_filter` is no instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("instruction {at}: {problem}")]
pub struct DecodeError {
    /// Index of the instruction.
    pub at: usize,
    /// What stands there.
    pub raw: SockFilter,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a `struct sock_filter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Problem {
    /// No such code.
    #[error("no instruction has code {0:#x}")]
    Code(u16),
    /// No such word of scratch memory.
    #[error("there is no M[{0}], only M[0] to M[15]")]
    Scratch(u32),
    /// No such ancillary data.
    #[error("Linux has no ancillary data at offset {}", .0.cast_signed())]
    Ancillary(u32),
}

/// Decodes a whole filter.
///
/// # Errors
/// The first `struct sock_filter` that is no instruction.
pub fn decode(filter: &[SockFilter]) -> Result<Vec<Insn>, DecodeError> {
    let decode = |(at, &raw): (usize, &SockFilter)| raw.decode().map_err(|problem| DecodeError { at, raw, problem });
    filter.iter().enumerate().map(decode).collect()
}

/// Encodes a whole filter.
pub fn encode(program: &[Insn]) -> Vec<SockFilter> {
    program.iter().map(|insn| insn.encode()).collect()
}

const CLASS_LD: u16 = 0;
const CLASS_LDX: u16 = 1;
const CLASS_ST: u16 = 2;
const CLASS_STX: u16 = 3;
const CLASS_ALU: u16 = 4;
const CLASS_JMP: u16 = 5;
const CLASS_RET: u16 = 6;
const CLASS_MISC: u16 = 7;
const SIZE_MASK: u16 = 0x18;
const SIZE_H: u16 = 0x08;
const SIZE_B: u16 = 0x10;
const MODE_MASK: u16 = 0xe0;
const MODE_ABS: u16 = 0x20;
const MODE_IND: u16 = 0x40;
const MODE_MEM: u16 = 0x60;
const MODE_LEN: u16 = 0x80;
const MODE_MSH: u16 = 0xa0;
const SRC_X: u16 = 0x08;
const NEG: u16 = 0x80;
const RET_A: u16 = 0x10;
const TXA: u16 = 0x80;

impl SockFilter {
    /// The instruction that this is. Fields that it does not use may hold anything, as for Linux: libpcap leaves
    /// remains of its optimizer there.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(self) -> Result<Insn, Problem> {
        let unknown = Problem::Code(self.code);
        if self.code > 0xff {
            return Err(unknown);
        }
        let class = self.code & 7;
        let insn = match class {
            CLASS_LD | CLASS_LDX => self.decode_load()?,
            CLASS_ST | CLASS_STX if self.code == class => Insn::Store(register(class == CLASS_STX), self.scratch()?),
            CLASS_ALU if self.code == CLASS_ALU | NEG => Insn::Neg,
            CLASS_ALU => {
                let op = AluOp::ALL.into_iter().find(|op| op.code() == self.code & 0xf0).ok_or(unknown)?;
                Insn::Alu(op, self.operand())
            }
            CLASS_JMP if self.code == CLASS_JMP => Insn::Jump(self.k),
            CLASS_JMP => {
                let op = JmpOp::ALL.into_iter().find(|op| op.code() == self.code & 0xf0).ok_or(unknown)?;
                Insn::JumpIf { op, with: self.operand(), jt: self.jt, jf: self.jf }
            }
            CLASS_RET if self.code == CLASS_RET => Insn::Ret(self.k),
            CLASS_RET if self.code == CLASS_RET | RET_A => Insn::RetA,
            CLASS_MISC if self.code == CLASS_MISC => Insn::Tax,
            CLASS_MISC if self.code == CLASS_MISC | TXA => Insn::Txa,
            _ => return Err(unknown),
        };
        Ok(insn)
    }

    fn decode_load(self) -> Result<Insn, Problem> {
        let to = register(self.code & 7 == CLASS_LDX);
        let size = match self.code & SIZE_MASK {
            SIZE_B => Some(NarrowSize::B),
            SIZE_H => Some(NarrowSize::H),
            0 => Some(NarrowSize::W),
            _ => None,
        };
        match (self.code & MODE_MASK, to, size) {
            (MODE_ABS, Register::A, Some(size)) => match PacketOffset::new(self.k) {
                Some(at) => Ok(Insn::LoadAbs { size, at }),
                None => {
                    let what = Ancillary::from_offset(self.k).ok_or(Problem::Ancillary(self.k))?;
                    Ok(Insn::LoadAncillary { size, what })
                }
            },
            (MODE_IND, Register::A, Some(size)) => Ok(Insn::LoadInd { size, k: self.k }),
            (0, _, Some(NarrowSize::W)) => Ok(Insn::LoadImm(to, self.k)),
            (MODE_MEM, _, Some(NarrowSize::W)) => Ok(Insn::LoadMem(to, self.scratch()?)),
            (MODE_LEN, _, Some(NarrowSize::W)) => Ok(Insn::LoadLen(to)),
            (MODE_MSH, Register::X, Some(NarrowSize::B)) => Ok(Insn::LoadMsh(self.k)),
            _ => Err(Problem::Code(self.code)),
        }
    }

    fn scratch(self) -> Result<Scratch, Problem> {
        Scratch::new(self.k).ok_or(Problem::Scratch(self.k))
    }

    fn operand(self) -> Operand {
        if self.code & SRC_X == 0 { Operand::K(self.k) } else { Operand::X }
    }
}

fn register(is_x: bool) -> Register {
    if is_x { Register::X } else { Register::A }
}

impl Insn {
    /// The `struct sock_filter` of this instruction, zero in the fields that it does not use.
    /// [`SockFilter::decode`] gives back the same instruction.
    pub fn encode(&self) -> SockFilter {
        let plain = |code, k| SockFilter { code, jt: 0, jf: 0, k };
        let load = |to| if to == Register::X { CLASS_LDX } else { CLASS_LD };
        let store = |from| if from == Register::X { CLASS_STX } else { CLASS_ST };
        let operand = |operand| match operand {
            Operand::K(k) => (0, k),
            Operand::X => (SRC_X, 0),
        };
        match *self {
            Insn::LoadAbs { size, at } => plain(CLASS_LD | MODE_ABS | size_code(size), at.value()),
            Insn::LoadAncillary { size, what } => plain(CLASS_LD | MODE_ABS | size_code(size), what.offset()),
            Insn::LoadInd { size, k } => plain(CLASS_LD | MODE_IND | size_code(size), k),
            Insn::LoadLen(to) => plain(load(to) | MODE_LEN, 0),
            Insn::LoadImm(to, k) => plain(load(to), k),
            Insn::LoadMem(to, word) => plain(load(to) | MODE_MEM, word.0.into()),
            Insn::LoadMsh(k) => plain(CLASS_LDX | MODE_MSH | SIZE_B, k),
            Insn::Store(from, word) => plain(store(from), word.0.into()),
            Insn::Alu(op, with) => {
                let (src, k) = operand(with);
                plain(CLASS_ALU | op.code() | src, k)
            }
            Insn::Neg => plain(CLASS_ALU | NEG, 0),
            Insn::Jump(k) => plain(CLASS_JMP, k),
            Insn::JumpIf { op, with, jt, jf } => {
                let (src, k) = operand(with);
                SockFilter { code: CLASS_JMP | op.code() | src, jt, jf, k }
            }
            Insn::Ret(k) => plain(CLASS_RET, k),
            Insn::RetA => plain(CLASS_RET | RET_A, 0),
            Insn::Tax => plain(CLASS_MISC, 0),
            Insn::Txa => plain(CLASS_MISC | TXA, 0),
        }
    }
}

fn size_code(size: NarrowSize) -> u16 {
    match Size::from(size) {
        Size::B => SIZE_B,
        Size::H => SIZE_H,
        Size::W | Size::DW => 0,
    }
}
