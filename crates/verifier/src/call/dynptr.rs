//! Dynptrs: 16 bytes of stack that only the kernel writes, standing for memory whose bounds are known when the program runs.
//!
//! ```text
//! bpf_dynptr_from_skb(ctx, 0, &p)      both slots of `p` become RegKind::Dynptr(Skb) with one id
//! s = bpf_dynptr_slice(&p, 0, buf, 20) memory of 20 bytes or null, tied to that id
//! *(u64 *)&p = 0                       the dynptr is gone, and `s` with it
//! ```
//!
//! A dynptr over a ring buffer record is a reference too: it must be submitted or discarded, may not be overwritten, and its
//! clones share the reference. What a slice is tied to stands in its `ref_id`: the reference, or the dynptr's own id where
//! there is none (ids are given once, so that the two cannot be mixed up). Slices of packets are marked
//! [`RegFlags::DYNPTR_SLICE`] as well: they end when the packet may move.
//!
//! Limits: dynptrs over files are not modelled.

use skep_abi::MapType;
use skep_isa::Reg;

use crate::Code;
use crate::alu::describe;
use crate::exec::name;
use crate::explore::Verifier;
use crate::mem::may_write_packet;
use crate::stack::{HelperUse, Stored};
use crate::state::{ByteKind, DynptrKind, RegFlags, RegKind, RegState, StackSlot};
use crate::stop::Stop;

/// Numbers of the helpers that work on dynptrs. Source: `include/uapi/linux/bpf.h`.
const FROM_MEM: u32 = 197;
const RESERVE: u32 = 198;
const SUBMIT: u32 = 199;
const DISCARD: u32 = 200;
const READ: u32 = 201;
const WRITE: u32 = 202;
const DATA: u32 = 203;

/// A dynptr that an argument points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DynptrRef {
    pub(super) kind: DynptrKind,
    id: u32,
    /// The reference of the record beneath, 0 for none.
    pub(super) ref_id: u32,
    /// Frame and first (higher) slot; none for one that the kernel keeps.
    place: Option<(usize, usize)>,
}

impl DynptrRef {
    /// What slices of it are tied to.
    fn tie(&self) -> u32 {
        if self.ref_id != 0 { self.ref_id } else { self.id }
    }
}

fn is_packet(kind: DynptrKind) -> bool {
    matches!(kind, DynptrKind::Skb | DynptrKind::Xdp | DynptrKind::SkbMeta)
}

fn over(kind: DynptrKind) -> &'static str {
    match kind {
        DynptrKind::Local => "memory of the program",
        DynptrKind::Ringbuf => "a ring buffer record",
        DynptrKind::Skb | DynptrKind::Xdp => "a packet",
        DynptrKind::SkbMeta => "a packet's metadata",
    }
}

fn kernel_name(kind: DynptrKind) -> &'static str {
    match kind {
        DynptrKind::Local => "local",
        DynptrKind::Ringbuf => "ringbuf",
        DynptrKind::Skb => "skb",
        DynptrKind::Xdp => "xdp",
        DynptrKind::SkbMeta => "skb_meta",
    }
}

impl Verifier<'_, '_> {
    /// Helpers on dynptrs, 197 to 203; what is true of all helpers was checked before.
    pub(super) fn call_dynptr_helper(&mut self, id: u32) -> Result<(), Stop> {
        let mut result = RegState::unknown();
        match id {
            FROM_MEM => {
                let data = *self.read(Reg::R1)?;
                self.check_sized(Reg::R1, Reg::R2, true, HelperUse::Write)?;
                self.read(Reg::R3)?;
                if !matches!(data.kind, RegKind::MapValue(_)) {
                    return Err(Stop::reject(Code::Dynptr, format!("r1 holds {}", describe(&data)))
                        .title("a dynptr can only be made over a map value")
                        .about(Reg::R1)
                        .help("look the memory up in a map (a global variable is one too)")
                        .kernel("Unsupported reg type for bpf_dynptr_from_mem data"));
                }
                self.make_dynptr(Reg::R4, DynptrKind::Local, None)?;
            }
            RESERVE => {
                let map = *self.read(Reg::R1)?;
                let fits = match map.kind {
                    RegKind::MapPtr(id) => self.env.map(id).is_some_and(|map| map.map_type() == MapType::Ringbuf),
                    _ => false,
                };
                if !fits {
                    let what =
                        if matches!(map.kind, RegKind::MapPtr(_)) { "another kind of map" } else { describe(&map) };
                    return Err(Stop::reject(Code::MapMismatch, format!("r1 holds {what}, a ring buffer is wanted"))
                        .about(Reg::R1)
                        .kernel("cannot pass map_type into func bpf_ringbuf_reserve_dynptr#198"));
                }
                self.read(Reg::R2)?;
                self.read(Reg::R3)?;
                self.make_dynptr(Reg::R4, DynptrKind::Ringbuf, None)?;
            }
            SUBMIT | DISCARD => {
                self.check_owned_dynptr(Reg::R1)?;
                let dynptr = self.initialised_dynptr(Reg::R1)?;
                if dynptr.kind != DynptrKind::Ringbuf {
                    return Err(self.wrong_dynptr(Reg::R1, dynptr.kind, DynptrKind::Ringbuf));
                }
                self.read(Reg::R2)?;
                self.end_dynptr(&dynptr)?;
                result = RegState::not_init();
            }
            READ => {
                self.read(Reg::R1)?;
                let filled = self.check_sized(Reg::R1, Reg::R2, true, HelperUse::Fill)?;
                self.initialised_dynptr(Reg::R3)?;
                self.read(Reg::R4)?;
                self.read(Reg::R5)?;
                if let Some(size) = filled {
                    let target = *self.cur.reg(Reg::R1);
                    self.fill_stack(&target, 0, size)?;
                }
            }
            WRITE => {
                let dynptr = self.initialised_dynptr(Reg::R1)?;
                self.read(Reg::R2)?;
                self.read(Reg::R3)?;
                self.check_sized(Reg::R3, Reg::R4, true, HelperUse::Read)?;
                self.read(Reg::R5)?;
                if matches!(dynptr.kind, DynptrKind::Skb | DynptrKind::SkbMeta) {
                    self.forget_packet();
                }
            }
            DATA => {
                let dynptr = self.initialised_dynptr(Reg::R1)?;
                self.read(Reg::R2)?;
                let size = self.constant_size(Reg::R3)?;
                result = self.slice_of(&dynptr, size, false);
            }
            _ => return Err(Stop::unsupported(format!("helper {id}"))),
        }
        self.finish_call(result);
        Ok(())
    }

    /// Memory behind a dynptr, or null.
    pub(super) fn slice_of(&mut self, dynptr: &DynptrRef, size: u32, rdonly: bool) -> RegState {
        let mut flags = RegFlags::MAYBE_NULL;
        if rdonly {
            flags = flags.with(RegFlags::RDONLY);
        }
        if is_packet(dynptr.kind) {
            flags = flags.with(RegFlags::DYNPTR_SLICE);
        }
        let mut slice = RegState::pointer(RegKind::Mem, flags);
        slice.aux = size;
        slice.id = self.new_id();
        slice.ref_id = dynptr.tie();
        slice
    }

    /// Whether writable slices of packets may be had.
    pub(super) fn check_slice_writable(&self) -> Result<(), Stop> {
        if may_write_packet(self.env.place.prog_type) {
            return Ok(());
        }
        Err(Stop::reject(Code::ReadOnly, "a writable slice of it")
            .title(format!("{} programs cannot write the packet", self.env.place.prog_type))
            .help("use bpf_dynptr_slice()")
            .kernel("the prog does not allow writes to packet data"))
    }

    /// Where on the stack a register points to, for a dynptr: frame and first slot.
    fn dynptr_place(&self, reg: Reg, state: &RegState) -> Result<(usize, usize), Stop> {
        let Some((frame, off)) = self.stack_address(state) else {
            return Err(Stop::reject(Code::Dynptr, format!("{} has an offset that varies", name(reg)))
                .title("a dynptr has to be at a fixed place on the stack")
                .about(reg)
                .kernel("dynptr has to be at a constant offset"));
        };
        let slot = usize::try_from((-off - 1) / 8).ok().filter(|slot| off % 8 == 0 && off < 0 && *slot >= 1);
        let Some(slot) = slot else {
            return Err(Stop::reject(Code::Dynptr, format!("{} is r10{off:+}", name(reg)))
                .title("this is no place for a dynptr: it takes 16 bytes of stack, at a multiple of 8")
                .about(reg)
                .help("pass the address of the struct bpf_dynptr itself, not one within it")
                .kernel(format!("cannot pass in dynptr at an offset={off}")));
        };
        Ok((frame, slot))
    }

    fn dynptr_in(&self, frame: usize, first: usize) -> Option<DynptrRef> {
        let (upper, lower) = (self.slot(frame, first), self.slot(frame, first.checked_sub(1)?));
        let RegKind::Dynptr(kind) = upper.reg.kind else { return None };
        let whole = upper.bytes == [ByteKind::Dynptr; 8] && lower.bytes == [ByteKind::Dynptr; 8] && upper.reg.aux == 1;
        let ends = lower.reg.aux == 0 && lower.reg.id == upper.reg.id;
        (whole && ends).then_some(DynptrRef {
            kind,
            id: upper.reg.id,
            ref_id: upper.reg.ref_id,
            place: Some((frame, first)),
        })
    }

    fn no_dynptr_pointer(&self, reg: Reg, state: &RegState) -> Stop {
        Stop::reject(Code::Dynptr, format!("{} holds {}", name(reg), describe(state)))
            .title("a dynptr is wanted, which is kept on the stack")
            .about(reg)
            .help("declare a local `struct bpf_dynptr` and pass its address")
            .kernel(format!("arg#{} expected pointer to stack or const struct bpf_dynptr", reg.number() - 1))
    }

    /// An argument that must be a dynptr that was made.
    pub(super) fn initialised_dynptr(&mut self, reg: Reg) -> Result<DynptrRef, Stop> {
        let state = *self.read(reg)?;
        match state.kind {
            RegKind::Dynptr(kind) if state.off == 0 && state.num.as_const() == Some(0) => {
                return Ok(DynptrRef { kind, id: state.id, ref_id: state.ref_id, place: None });
            }
            RegKind::Stack(_) => {}
            _ => return Err(self.no_dynptr_pointer(reg, &state)),
        }
        let (frame, first) = self.dynptr_place(reg, &state)?;
        self.dynptr_in(frame, first).ok_or_else(|| {
            Stop::reject(Code::Dynptr, format!("there is no dynptr at r10{:+}", -8 * (first as i32 + 1)))
                .title("a dynptr is used that was not made, or is gone")
                .about(reg)
                .help("make it first (bpf_dynptr_from_mem() or the like); after it was submitted, discarded or overwritten it must be made again")
                .kernel(format!("Expected an initialized dynptr as arg #{}", reg.number() - 1))
        })
    }

    pub(super) fn wrong_dynptr(&self, reg: Reg, found: DynptrKind, wanted: DynptrKind) -> Stop {
        Stop::reject(Code::Dynptr, format!("{} points to a dynptr over {}", name(reg), over(found)))
            .title(format!("a dynptr over {} is wanted", over(wanted)))
            .about(reg)
            .kernel(format!("Expected a dynptr of type {} as arg #{}", kernel_name(wanted), reg.number() - 1))
    }

    /// What is released must be a reference of the program's own.
    fn check_owned_dynptr(&mut self, reg: Reg) -> Result<(), Stop> {
        let state = *self.read(reg)?;
        match state.kind {
            RegKind::Dynptr(_) => {
                return Err(Stop::reject(Code::BadRelease, "the kernel keeps this dynptr")
                    .about(reg)
                    .kernel("cannot release unowned const bpf_dynptr"));
            }
            RegKind::Stack(_) => {}
            _ => return Err(self.no_dynptr_pointer(reg, &state)),
        }
        let (frame, first) = self.dynptr_place(reg, &state)?;
        let slot = self.slot(frame, first);
        if !matches!(slot.reg.kind, RegKind::Dynptr(_)) || slot.reg.ref_id == 0 {
            return Err(Stop::reject(Code::BadRelease, format!("nothing is held at r10{:+}", -8 * (first as i32 + 1)))
                .title("a dynptr is submitted or discarded that holds no record")
                .about(reg)
                .help("submit or discard exactly once what bpf_ringbuf_reserve_dynptr() made, also where it failed")
                .kernel(format!("arg {} is an unacquired reference", reg.number())));
        }
        Ok(())
    }

    /// Makes a dynptr where a register points to. `shared`: the reference of the one it is a clone of.
    pub(super) fn make_dynptr(&mut self, reg: Reg, kind: DynptrKind, shared: Option<u32>) -> Result<(), Stop> {
        let state = *self.read(reg)?;
        if matches!(state.kind, RegKind::Dynptr(_)) {
            return Err(Stop::reject(Code::Dynptr, format!("{} holds a dynptr that the kernel keeps", name(reg)))
                .about(reg)
                .kernel("Dynptr has to be an uninitialized dynptr"));
        }
        if !matches!(state.kind, RegKind::Stack(_)) {
            return Err(self.no_dynptr_pointer(reg, &state));
        }
        let (frame, first) = self.dynptr_place(reg, &state)?;
        for off in [0, 8] {
            self.write_stack(&state, off, 8, Stored::Unknown)?;
        }
        let id = self.new_id();
        let ref_id = match (kind, shared) {
            (DynptrKind::Ringbuf, Some(shared)) => shared,
            (DynptrKind::Ringbuf, None) => self.acquire_reference()?,
            _ => 0,
        };
        for (slot, is_first) in [(first, 1), (first - 1, 0)] {
            let Some(place) = self.slot_mut(frame, slot) else { continue };
            place.bytes = [ByteKind::Dynptr; 8];
            place.reg =
                RegState { id, ref_id, aux: is_first, ..RegState::pointer(RegKind::Dynptr(kind), RegFlags::NONE) };
        }
        Ok(())
    }

    /// A dynptr's record is given back: all that share the reference end.
    fn end_dynptr(&mut self, dynptr: &DynptrRef) -> Result<(), Stop> {
        let Some((frame, first)) = dynptr.place else { return Ok(()) };
        if dynptr.ref_id == 0 {
            self.erase_dynptr(frame, first);
            return Ok(());
        }
        self.release_reference(dynptr.ref_id);
        for frame in 0..self.cur.frames.len() {
            let count = self.cur.frames.get(frame).map_or(0, |state| state.stack.len());
            for first in 1..count {
                let slot = self.slot(frame, first);
                let same = matches!(slot.reg.kind, RegKind::Dynptr(_)) && slot.reg.ref_id == dynptr.ref_id;
                if same && slot.reg.aux == 1 && slot.special() == ByteKind::Dynptr {
                    self.erase_dynptr(frame, first);
                }
            }
        }
        Ok(())
    }

    fn erase_dynptr(&mut self, frame: usize, first: usize) {
        for slot in [Some(first), first.checked_sub(1)].into_iter().flatten() {
            if let Some(place) = self.slot_mut(frame, slot) {
                *place = StackSlot::empty();
            }
        }
    }

    /// A store is about to hit this slot: if a dynptr is there, it ends, with its slices. One that must be released may not.
    pub(crate) fn destroy_dynptr_at(&mut self, frame: usize, index: usize) -> Result<(), Stop> {
        let slot = self.slot(frame, index);
        if slot.special() != ByteKind::Dynptr || !matches!(slot.reg.kind, RegKind::Dynptr(_)) {
            return Ok(());
        }
        let first = if slot.reg.aux == 1 { index } else { index + 1 };
        if slot.reg.ref_id != 0 {
            return Err(Stop::reject(
                Code::Dynptr,
                format!("overwrites the dynptr at r10{:+}", -8 * (first as i32 + 1)),
            )
            .title("a dynptr is overwritten while it holds a ring buffer record")
            .help("submit or discard it first")
            .kernel("cannot overwrite referenced dynptr"));
        }
        let id = slot.reg.id;
        self.erase_dynptr(frame, first);
        let void = self.void_pointer();
        self.cur.change_regs(|reg| reg.kind == RegKind::Mem && reg.ref_id == id, |reg| *reg = void);
        Ok(())
    }

    /// An argument of a global function that is declared as a dynptr.
    pub(crate) fn check_global_dynptr(&mut self, reg: Reg) -> Result<(), Stop> {
        self.initialised_dynptr(reg).map(|_| ())
    }

    /// A size that must be known: what is returned has that many bytes.
    pub(super) fn constant_size(&mut self, reg: Reg) -> Result<u32, Stop> {
        let size = self.constant_argument(reg, "the size of this memory")?;
        match u32::try_from(size).ok().filter(|size| *size < 1 << 29) {
            Some(size) => Ok(size),
            None => Err(Stop::reject(Code::ArgumentSize, format!("the size is {size}"))
                .about(reg)
                .kernel(format!("R{} unbounded memory access", reg.number()))),
        }
    }

    /// A number that must be known.
    pub(super) fn constant_argument(&mut self, reg: Reg, what: &str) -> Result<u64, Stop> {
        let state = *self.scalar(reg)?;
        let Some(size) = state.const_value() else {
            return Err(Stop::reject(
                Code::ArgumentSize,
                format!("{} is not known when the program is checked", name(reg)),
            )
            .title(format!("{what} must be a constant"))
            .about(reg)
            .help("use a constant; where a size varies, copy with bpf_dynptr_read()")
            .kernel(format!("R{} must be a known constant", reg.number())));
        };
        self.mark_precise(reg);
        Ok(size)
    }
}
