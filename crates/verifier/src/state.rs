//! What the analysis knows at one point of one path: registers, stack, held references.
//!
//! A [`VerifierState`] is a stack of frames ([`FuncState`]), shared copy-on-write: a fork of the path costs a few pointers, and
//! a frame is copied when it is next written. All offsets are bytes, stack slots are 8 bytes and counted downwards from the
//! frame pointer (slot 0 is `r10-8..r10`).

use std::rc::Rc;

use skep_btf::TypeId;
use skep_isa::{InsnIdx, Reg};

use crate::scalar::Scalar;

/// Functions within one another.
pub(crate) const MAX_FRAMES: usize = 8;
/// Bytes of a frame's stack.
pub(crate) const MAX_STACK: i32 = 512;
/// Greatest offset that the packet can be reached at.
pub(crate) const MAX_PACKET_OFF: i64 = 0xffff;
/// Greatest part of a pointer's offset, fixed or variable, either way.
pub(crate) const MAX_VAR_OFF: i64 = 1 << 29;

/// Index into the maps of the check ([`crate::env::MapInfo`]): the object's maps, then templates of inner maps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct MapId(pub(crate) u32);

/// Whose types a [`RegKind::Btf`] is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum BtfOf {
    /// The kernel's ([`crate::Options::target_btf`]).
    Kernel,
    /// The object's own (what programs allocate).
    Object,
}

/// What a dynptr is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum DynptrKind {
    Local,
    Ringbuf,
    Skb,
    Xdp,
    SkbMeta,
}

/// What kind of value a register holds, or what a stack slot holds in the place of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum RegKind {
    /// Nothing that may be read.
    NotInit,
    /// A number ([`RegState::num`]).
    Scalar,
    /// The program's context.
    Ctx,
    /// A map itself. `aux` tells apart the results of different look-ups of inner maps.
    MapPtr(MapId),
    /// Within a value of the map. `aux` as for [`RegKind::MapPtr`].
    MapValue(MapId),
    /// A key of the map, as for-each callbacks get it.
    MapKey(MapId),
    /// On the stack of the frame with this number.
    Stack(u8),
    /// Within the packet; `aux` is the checked range ([`RegState::range`]).
    Packet,
    /// Within the metadata in front of the packet; range as for the packet.
    PacketMeta,
    /// The packet's end.
    PacketEnd,
    /// `struct bpf_flow_keys`.
    FlowKeys,
    /// A full socket.
    Sock,
    /// A socket of which only the common fields are there.
    SockCommon,
    /// `struct bpf_tcp_sock`.
    TcpSock,
    /// `struct bpf_xdp_sock`.
    XdpSock,
    /// The record of a writable raw tracepoint.
    TpBuffer,
    /// A kernel object, or one the program allocated, of this type.
    Btf(BtfOf, TypeId),
    /// Memory of `aux` bytes.
    Mem,
    /// Memory whose size the caller decides (BPF iterators).
    Buf,
    /// A function of the program, by subprogram number.
    Func(u32),
    /// In a register: a dynptr that the kernel keeps (callback argument). In a stack slot: half of a dynptr, `aux` is 1 in its first
    /// (higher) slot.
    Dynptr(DynptrKind),
    /// In a stack slot: part of an iterator of this kernel type. `aux`: see [`crate::call`].
    Iter(TypeId),
}

/// Modifiers of a [`RegKind`], a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct RegFlags(pub(crate) u16);

impl RegFlags {
    pub(crate) const NONE: RegFlags = RegFlags(0);
    /// May be null: must be compared before it is followed.
    pub(crate) const MAYBE_NULL: RegFlags = RegFlags(1);
    /// May only be read.
    pub(crate) const RDONLY: RegFlags = RegFlags(2);
    /// A ring buffer record.
    pub(crate) const RINGBUF: RegFlags = RegFlags(4);
    /// An address of user space.
    pub(crate) const USER: RegFlags = RegFlags(8);
    /// One for each CPU.
    pub(crate) const PERCPU: RegFlags = RegFlags(16);
    /// Known to be valid.
    pub(crate) const TRUSTED: RegFlags = RegFlags(32);
    /// Not known to be valid: reads are done with exception handling.
    pub(crate) const UNTRUSTED: RegFlags = RegFlags(64);
    /// Valid until the RCU section ends.
    pub(crate) const RCU: RegFlags = RegFlags(128);
    /// Allocated by the program.
    pub(crate) const ALLOC: RegFlags = RegFlags(256);
    /// Memory behind a dynptr: ends with it.
    pub(crate) const DYNPTR_SLICE: RegFlags = RegFlags(512);
    /// An iterator whose elements are all gone through (in iterator slots).
    pub(crate) const DRAINED: RegFlags = RegFlags(1024);

    pub(crate) const fn any(self, other: RegFlags) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn with(self, other: RegFlags) -> RegFlags {
        RegFlags(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: RegFlags) -> RegFlags {
        RegFlags(self.0 & !other.0)
    }
}

/// In [`RegState::id`] of a number: it is another number of this id plus `off`, computed in 64 bits.
pub(crate) const ADD_CONST: u32 = 1 << 31;

/// A register, or what is spilled in a stack slot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct RegState {
    /// What kind of value.
    pub(crate) kind: RegKind,
    /// Modifiers.
    pub(crate) flags: RegFlags,
    /// Fixed part of a pointer's offset. For a number with [`ADD_CONST`]: what it is above the number it is linked to.
    pub(crate) off: i32,
    /// Pointers: those of the same non-zero id were the same pointer (null checks, packet ranges). Numbers: those of the same id
    /// are equal (up to [`ADD_CONST`]).
    pub(crate) id: u32,
    /// The reference this belongs to, 0 for none.
    pub(crate) ref_id: u32,
    /// Depends on the kind.
    pub(crate) aux: u32,
    /// The number, or the variable part of the pointer's offset.
    pub(crate) num: Scalar,
}

/// [`RegState::range`] of a packet pointer that was found to be at the packet's end.
pub(crate) const AT_PACKET_END: i32 = -1;
/// [`RegState::range`] of a packet pointer that was found to lie past the packet's end.
pub(crate) const BEYOND_PACKET_END: i32 = -2;

impl RegState {
    /// Nothing.
    pub(crate) fn not_init() -> RegState {
        RegState {
            kind: RegKind::NotInit,
            flags: RegFlags::NONE,
            off: 0,
            id: 0,
            ref_id: 0,
            aux: 0,
            num: Scalar::unknown(),
        }
    }

    /// Any number.
    pub(crate) fn unknown() -> RegState {
        RegState { kind: RegKind::Scalar, ..RegState::not_init() }
    }

    /// This number.
    pub(crate) fn constant(value: u64) -> RegState {
        RegState::number(Scalar::constant(value))
    }

    /// One of these numbers.
    pub(crate) fn number(num: Scalar) -> RegState {
        RegState { kind: RegKind::Scalar, num, ..RegState::not_init() }
    }

    /// A pointer of this kind, at its start.
    pub(crate) fn pointer(kind: RegKind, flags: RegFlags) -> RegState {
        RegState { kind, flags, num: Scalar::constant(0), ..RegState::not_init() }
    }

    pub(crate) fn is_init(&self) -> bool {
        self.kind != RegKind::NotInit
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.kind == RegKind::Scalar
    }

    pub(crate) fn is_pointer(&self) -> bool {
        !matches!(self.kind, RegKind::NotInit | RegKind::Scalar)
    }

    pub(crate) fn maybe_null(&self) -> bool {
        self.flags.any(RegFlags::MAYBE_NULL)
    }

    /// The value of a number that is known.
    pub(crate) fn const_value(&self) -> Option<u64> {
        if self.is_scalar() { self.num.as_const() } else { None }
    }

    /// Known to be the number 0.
    pub(crate) fn is_null(&self) -> bool {
        self.const_value() == Some(0)
    }

    pub(crate) fn is_packet(&self) -> bool {
        matches!(self.kind, RegKind::Packet | RegKind::PacketMeta)
    }

    /// Any of the pointers that a change of the packet makes void.
    pub(crate) fn is_any_packet(&self) -> bool {
        matches!(self.kind, RegKind::Packet | RegKind::PacketMeta | RegKind::PacketEnd)
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, RegKind::Sock | RegKind::SockCommon | RegKind::TcpSock | RegKind::XdpSock)
    }

    /// Bytes that are known to be there behind a packet pointer's fixed offset 0 (see [`AT_PACKET_END`] for negative ones).
    pub(crate) fn range(&self) -> i32 {
        self.aux as i32
    }

    pub(crate) fn set_range(&mut self, range: i32) {
        self.aux = range as u32;
    }

    /// Id without [`ADD_CONST`].
    pub(crate) fn base_id(&self) -> u32 {
        self.id & !ADD_CONST
    }
}

/// What a byte of the stack holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub(crate) enum ByteKind {
    /// Nothing that was written.
    Invalid,
    /// Part of the spilled register.
    Spill,
    /// Something.
    Misc,
    /// 0.
    Zero,
    /// Part of a dynptr.
    Dynptr,
    /// Part of an iterator.
    Iter,
}

/// Eight bytes of stack.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct StackSlot {
    /// By byte, highest address first: the byte at offset `o` from the frame pointer is number `(-1 - o) % 8`.
    pub(crate) bytes: [ByteKind; 8],
    /// What is spilled there, where a byte says so. A spill of fewer than 8 bytes lies at the slot's lowest addresses.
    pub(crate) reg: RegState,
}

impl StackSlot {
    pub(crate) fn empty() -> StackSlot {
        StackSlot { bytes: [ByteKind::Invalid; 8], reg: RegState::not_init() }
    }

    /// Whether a register is spilled here, whole or its low part.
    pub(crate) fn is_spill(&self) -> bool {
        self.bytes[7] == ByteKind::Spill
    }

    /// Whether a number, or the low part of one, is spilled here.
    pub(crate) fn is_scalar_spill(&self) -> bool {
        self.is_spill() && self.reg.is_scalar()
    }

    /// Whether a number is spilled with all its 8 bytes.
    pub(crate) fn is_whole_scalar_spill(&self) -> bool {
        self.bytes[0] == ByteKind::Spill && self.is_scalar_spill()
    }

    /// What the slot holds other than plain bytes.
    pub(crate) fn special(&self) -> ByteKind {
        self.bytes[7]
    }
}

/// A function that is being executed.
#[derive(Clone, Debug)]
pub(crate) struct FuncState {
    /// r0 to r10.
    pub(crate) regs: [RegState; 11],
    /// Slots written so far, from the frame pointer downwards.
    pub(crate) stack: Rc<Vec<StackSlot>>,
    /// The call instruction in the frame before; for the entry function 0.
    pub(crate) callsite: InsnIdx,
    /// Which function.
    pub(crate) subprog: u32,
    /// What a callback may return.
    pub(crate) callback_range: (i32, i32),
    /// Called by a helper.
    pub(crate) in_callback: bool,
    /// Called by the kernel later (timers).
    pub(crate) in_async_callback: bool,
    /// Tells apart entries into async callbacks.
    pub(crate) async_entries: u32,
    /// Iterations of a callback's caller that were looked at.
    pub(crate) callback_depth: u32,
}

impl FuncState {
    pub(crate) fn new(callsite: InsnIdx, frame: u8, subprog: u32) -> FuncState {
        let mut regs = [RegState::not_init(); 11];
        regs[Reg::R10.index()] = RegState::pointer(RegKind::Stack(frame), RegFlags::NONE);
        FuncState {
            regs,
            stack: Rc::new(Vec::new()),
            callsite,
            subprog,
            callback_range: (0, 0),
            in_callback: false,
            in_async_callback: false,
            async_entries: 0,
            callback_depth: 0,
        }
    }

    pub(crate) fn slot(&self, index: usize) -> Option<&StackSlot> {
        self.stack.get(index)
    }

    /// The slots, to be written; there are at least `count`.
    pub(crate) fn slots_mut(&mut self, count: usize) -> &mut Vec<StackSlot> {
        let slots = Rc::make_mut(&mut self.stack);
        if slots.len() < count {
            slots.resize(count, StackSlot::empty());
        }
        slots
    }
}

/// A duty that the program has taken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// A reference with this id.
    Reference,
    /// A spin lock: the register's id and which object it is in.
    Lock {
        /// `id` of the map value, or 0.
        reg_id: u32,
        /// The map or allocation it is in.
        map: Option<MapId>,
    },
    /// Another kind, told apart by a number of the call module's own.
    Other(u32),
}

/// A [`Held`] duty with its identity and where it was taken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeldRef {
    pub(crate) what: Held,
    pub(crate) id: u32,
    pub(crate) insn: InsnIdx,
}

/// All duties of a path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Duties {
    pub(crate) held: Vec<HeldRef>,
    /// Spin locks held.
    pub(crate) locks: u32,
    /// Nested `bpf_preempt_disable`.
    pub(crate) preempt: u32,
    /// Nested `bpf_rcu_read_lock`.
    pub(crate) rcu: u32,
}

/// Places whose numbers are linked by id, packed: 10 bits each (frame 3, whether a slot 1, number 6), at most 6, count in the
/// lowest 4 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Linked(u64);

/// Where a number is: frame, and a register or a stack slot there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) frame: u8,
    pub(crate) is_slot: bool,
    pub(crate) index: u8,
}

impl Linked {
    /// How many fit.
    pub(crate) const MAX: usize = 6;

    pub(crate) fn len(self) -> usize {
        (self.0 & 15) as usize
    }

    /// Adds a place; `false` when it is full.
    #[must_use]
    pub(crate) fn push(&mut self, at: At) -> bool {
        let len = self.len();
        if len >= Linked::MAX {
            return false;
        }
        let packed = u64::from(at.frame & 7) << 7 | u64::from(at.is_slot) << 6 | u64::from(at.index & 63);
        self.0 = (self.0 & !15) | (len as u64 + 1) | packed << (4 + 10 * len);
        true
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = At> {
        (0..self.len()).map(move |i| {
            let packed = self.0 >> (4 + 10 * i) & 0x3ff;
            At { frame: (packed >> 7) as u8, is_slot: packed >> 6 & 1 == 1, index: (packed & 63) as u8 }
        })
    }
}

/// A step of the history that precision is tracked back through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HistEntry {
    pub(crate) insn: u32,
    pub(crate) prev: u32,
    /// If the instruction accessed a stack slot at an offset that is known: frame and slot.
    pub(crate) stack: Option<(u8, u8)>,
    /// Registers that got their bounds together at a jump: see [`crate::precision`].
    pub(crate) linked: Linked,
}

/// A decision on the way to a state: which of the ways an instruction forks into was taken. Shared by all states behind it.
#[derive(Debug)]
pub(crate) struct PathNode {
    pub(crate) parent: Option<Rc<PathNode>>,
    /// Where.
    pub(crate) insn: u32,
    /// Which way: 0 for the one that goes on, others as the instruction numbers them.
    pub(crate) way: u32,
}

impl Drop for PathNode {
    /// A path of a million decisions must not be taken down by recursion.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(node) = next {
            match Rc::try_unwrap(node) {
                Ok(mut node) => next = node.parent.take(),
                Err(_) => break,
            }
        }
    }
}

/// Index of a stored state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct StateId(pub(crate) u32);

/// A stack of frames of at most [`MAX_FRAMES`].
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    top: Rc<FuncState>,
    outer: [Option<Rc<FuncState>>; MAX_FRAMES - 1],
    depth: u8,
}

impl Frames {
    pub(crate) fn new(entry: FuncState) -> Frames {
        Frames { top: Rc::new(entry), outer: Default::default(), depth: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.depth) + 1
    }

    /// Number of the innermost frame.
    pub(crate) fn depth(&self) -> usize {
        usize::from(self.depth)
    }

    pub(crate) fn top(&self) -> &FuncState {
        &self.top
    }

    pub(crate) fn top_mut(&mut self) -> &mut FuncState {
        Rc::make_mut(&mut self.top)
    }

    fn rc(&self, index: usize) -> Option<&Rc<FuncState>> {
        if index == self.depth() { Some(&self.top) } else { self.outer.get(index)?.as_ref() }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&FuncState> {
        self.rc(index).map(|frame| &**frame)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut FuncState> {
        if index == self.depth() {
            return Some(Rc::make_mut(&mut self.top));
        }
        self.outer.get_mut(index)?.as_mut().map(Rc::make_mut)
    }

    /// Puts a frame on top; `false` when there are too many.
    #[must_use]
    pub(crate) fn push(&mut self, frame: FuncState) -> bool {
        let Some(place) = self.outer.get_mut(usize::from(self.depth)) else { return false };
        *place = Some(std::mem::replace(&mut self.top, Rc::new(frame)));
        self.depth += 1;
        true
    }

    /// Takes the innermost frame off; `None` for the last one, which stays.
    pub(crate) fn pop(&mut self) -> Option<Rc<FuncState>> {
        let below = self.depth.checked_sub(1)?;
        let caller = self.outer.get_mut(usize::from(below))?.take()?;
        self.depth = below;
        Some(std::mem::replace(&mut self.top, caller))
    }

    /// From the entry function inwards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FuncState> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Everything that is known at one point of one path.
#[derive(Clone, Debug)]
pub(crate) struct VerifierState {
    /// Functions being executed, entry function first.
    pub(crate) frames: Frames,
    /// What is held.
    pub(crate) duties: Rc<Duties>,
    /// The stored state that this path went through last.
    pub(crate) parent: Option<StateId>,
    /// The next instruction.
    pub(crate) insn: u32,
    /// Where the path since `parent` starts.
    pub(crate) first_insn: u32,
    /// The instruction before `insn`.
    pub(crate) last_insn: u32,
    /// Jumps and stack accesses since `parent`.
    pub(crate) history: Vec<HistEntry>,
    /// Decisions since the program's start.
    pub(crate) path: Option<Rc<PathNode>>,
    /// `may_goto`s gone through.
    pub(crate) may_goto_depth: u32,
    /// Iterations of callbacks gone through.
    pub(crate) callback_unroll: u32,
    /// Instructions since the program's start.
    pub(crate) path_len: u32,
    /// Whether sleeping is allowed (in async callbacks it may not be).
    pub(crate) sleepable: bool,
}

impl VerifierState {
    /// The frame being executed.
    pub(crate) fn top(&self) -> &FuncState {
        self.frames.top()
    }

    /// The frame being executed, to be changed.
    pub(crate) fn top_mut(&mut self) -> &mut FuncState {
        self.frames.top_mut()
    }

    pub(crate) fn reg(&self, reg: Reg) -> &RegState {
        &self.frames.top().regs[reg.index()]
    }

    pub(crate) fn reg_mut(&mut self, reg: Reg) -> &mut RegState {
        &mut self.frames.top_mut().regs[reg.index()]
    }

    pub(crate) fn duties_mut(&mut self) -> &mut Duties {
        Rc::make_mut(&mut self.duties)
    }

    /// Changes all registers and spilled registers that fulfil a condition. Frames that have none stay shared.
    pub(crate) fn change_regs(
        &mut self,
        mut wanted: impl FnMut(&RegState) -> bool,
        mut change: impl FnMut(&mut RegState),
    ) {
        for index in 0..self.frames.len() {
            let Some(frame) = self.frames.get(index) else { continue };
            let in_regs = frame.regs.iter().any(&mut wanted);
            let in_stack = frame.stack.iter().any(|slot| slot.is_spill() && wanted(&slot.reg));
            if !in_regs && !in_stack {
                continue;
            }
            let Some(frame) = self.frames.get_mut(index) else { continue };
            if in_regs {
                frame.regs.iter_mut().filter(|reg| wanted(reg)).for_each(&mut change);
            }
            if in_stack {
                let slots = Rc::make_mut(&mut frame.stack);
                for slot in slots.iter_mut().filter(|slot| slot.is_spill()) {
                    if wanted(&slot.reg) {
                        change(&mut slot.reg);
                    }
                }
            }
        }
    }
}
