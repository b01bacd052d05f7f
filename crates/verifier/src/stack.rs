//! The stack: byte by byte, with spilled registers kept whole.

use std::rc::Rc;

use skep_isa::Reg;

use crate::Code;
use crate::explore::Verifier;
use crate::mem::Access;
use crate::scalar::Scalar;
use crate::state::{ByteKind, FuncState, Linked, MAX_STACK, MAX_VAR_OFF, RegKind, RegState, StackSlot};
use crate::stop::Stop;

/// What a stack store writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored {
    /// A register.
    Reg(Reg),
    /// A constant.
    Imm(i32),
    /// Something.
    Unknown,
}

/// How a helper uses memory it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HelperUse {
    Read,
    /// Reads and writes.
    Write,
    /// Writes all of it without reading it first.
    Fill,
}

fn slot_of(off: i32) -> usize {
    ((-off - 1) / 8) as usize
}

fn byte_of(off: i32) -> usize {
    ((-off - 1) % 8) as usize
}

/// Bits that a number needs: the kernel's `get_reg_width`.
fn width(num: &Scalar) -> u32 {
    64 - num.umax.leading_zeros()
}

impl Verifier<'_, '_> {
    /// Where a stack access through `reg` can be: least offset, and one past the greatest, from the frame pointer.
    pub(crate) fn stack_bounds(
        &mut self,
        reg: &RegState,
        off: i32,
        size: i32,
        write: bool,
    ) -> Result<(i32, i32), Stop> {
        let RegKind::Stack(frame) = reg.kind else {
            return Err(Stop::unsupported("a stack access by no stack pointer"));
        };
        let refuse = |label: String| {
            Stop::reject(Code::StackBounds, label)
                .fact("a function has 512 bytes of stack, from r10-512 to r10-1")
                .kernel(format!(
                    "invalid {}stack off={off} size={size}",
                    if write { "write to " } else { "read from " }
                ))
        };
        let off = i64::from(off) + i64::from(reg.off);
        let (lo, hi) = match reg.num.as_const() {
            Some(n) => (n as i64 + off, n as i64 + off),
            None => {
                if reg.num.smax >= MAX_VAR_OFF || reg.num.smin <= -MAX_VAR_OFF {
                    return Err(Stop::reject(Code::UnboundedOffset, "the offset on the stack has no bound")
                        .help("bound the index before it is used: compare it as unsigned, or mask it with &")
                        .kernel("invalid unbounded variable-offset stack access"));
                }
                (reg.num.smin + off, reg.num.smax + off)
            }
        };
        let end = hi + i64::from(size);
        let lowest = if write || self.uninit_stack_readable() {
            -i64::from(MAX_STACK)
        } else {
            let slots = self.cur.frames.get(usize::from(frame)).map_or(0, |frame| frame.stack.len());
            -(slots as i64 * 8)
        };
        if lo < lowest || lo > -1 || end > 0 {
            let part = if lo == hi { format!("at r10{lo:+}") } else { format!("between r10{lo:+} and r10{end:+}") };
            return Err(refuse(format!("{size} bytes {part}")));
        }
        let (lo, end) = (lo as i32, end as i32);
        self.grow_stack(usize::from(frame), -lo);
        Ok((lo, end))
    }

    /// Makes room and remembers how much stack the function needs.
    fn grow_stack(&mut self, frame: usize, bytes: i32) {
        let Some(state) = self.cur.frames.get(frame) else { return };
        let subprog = state.subprog as usize;
        let slots = (bytes.clamp(0, MAX_STACK) as usize).div_ceil(8);
        if let Some(depth) = self.stack_depths.get_mut(subprog) {
            *depth = (*depth).max(bytes.clamp(0, MAX_STACK) as u32);
        }
        if state.stack.len() < slots
            && let Some(state) = self.cur.frames.get_mut(frame)
        {
            state.slots_mut(slots);
        }
    }

    /// Reads stack into a register, or only asks (`dst` none) whether it may be read as numbers.
    pub(crate) fn read_stack(&mut self, reg: &RegState, off: i32, size: i32, dst: Option<Reg>) -> Result<(), Stop> {
        let RegKind::Stack(frame) = reg.kind else {
            return Err(Stop::unsupported("a stack access by no stack pointer"));
        };
        let frame = usize::from(frame);
        let (lo, end) = self.stack_bounds(reg, off, size, false)?;
        if reg.num.is_const() {
            return self.read_slot(frame, lo, size, dst);
        }
        let Some(dst) = dst else {
            return Err(Stop::reject(Code::StackBounds, "the offset must be constant here")
                .kernel("variable offset stack pointer cannot be passed into helper function"));
        };
        if !self.env.privileged {
            return Err(Stop::reject(Code::StackBounds, "a variable offset on the stack needs CAP_PERFMON")
                .kernel("variable offset stack access prohibited for !root"));
        }
        self.check_stack_bytes(frame, lo, end, false)?;
        let value = self.plain_bytes(frame, lo, end);
        *self.cur.reg_mut(dst) = value;
        Ok(())
    }

    /// A number from bytes none of which is known: 0 where all are, else anything.
    fn plain_bytes(&self, frame: usize, lo: i32, end: i32) -> RegState {
        let zero = self.cur.frames.get(frame).is_some_and(|state| {
            (lo..end).all(|at| state.slot(slot_of(at)).is_some_and(|slot| slot.bytes[byte_of(at)] == ByteKind::Zero))
        });
        if zero { RegState::constant(0) } else { RegState::unknown() }
    }

    fn read_slot(&mut self, frame: usize, lo: i32, size: i32, dst: Option<Reg>) -> Result<(), Stop> {
        let (index, first) = (slot_of(lo), byte_of(lo));
        let slot =
            self.cur.frames.get(frame).and_then(|state| state.slot(index)).copied().unwrap_or_else(StackSlot::empty);
        if !slot.is_spill() {
            self.check_stack_bytes(frame, lo, lo + size, true)?;
            if let Some(dst) = dst {
                *self.cur.reg_mut(dst) = self.plain_bytes(frame, lo, lo + size);
            }
            return Ok(());
        }
        let spilled = slot.bytes.iter().rev().take_while(|byte| **byte == ByteKind::Spill).count() as i32;
        if size == 8 && spilled == 8 {
            if slot.reg.is_pointer() && dst.is_none() && !self.env.privileged {
                return Err(Stop::reject(Code::PointerLeak, "a pointer is kept here")
                    .kernel(format!("leaking pointer from stack off {lo}")));
            }
            let Some(dst) = dst else { return Ok(()) };
            let value = self.identify_slot(frame, index, &slot.reg);
            *self.cur.reg_mut(dst) = value;
            self.push_history(Some((frame as u8, index as u8)), Linked::default());
            return Ok(());
        }
        if !slot.reg.is_scalar() {
            return Err(Stop::reject(Code::PartialSpill, format!("{size} of the 8 bytes of a pointer"))
                .fact(format!("{} is kept at r10{:+}", crate::alu::describe(&slot.reg), -8 * (index as i32 + 1)))
                .kernel("invalid size of register fill"));
        }
        let Some(dst) = dst else { return Ok(()) };
        // Little endian: the low part of the number is at the slot's lowest address.
        if size <= spilled && lo % 8 == 0 {
            let mut value = slot.reg;
            if size == 4 && spilled == 4 && width(&value.num) <= 32 {
                value = self.identify_slot(frame, index, &value);
            }
            if width(&value.num) > size as u32 * 8 {
                value.id = 0;
                value.off = 0;
            }
            *self.cur.reg_mut(dst) = value;
            self.push_history(Some((frame as u8, index as u8)), Linked::default());
            return Ok(());
        }
        let (mut from_spill, mut zeros) = (0, 0);
        for at in 0..size {
            let Some(byte) = first.checked_sub(at as usize).and_then(|byte| slot.bytes.get(byte)) else { break };
            match byte {
                ByteKind::Spill => from_spill += 1,
                ByteKind::Zero => zeros += 1,
                ByteKind::Misc => {}
                ByteKind::Invalid if self.uninit_stack_readable() => {}
                _ => return Err(self.uninit_stack(lo + at)),
            }
        }
        if from_spill == size && slot.reg.num.as_const() == Some(0) {
            *self.cur.reg_mut(dst) = RegState::constant(0);
            self.push_history(Some((frame as u8, index as u8)), Linked::default());
        } else {
            *self.cur.reg_mut(dst) = if zeros == size { RegState::constant(0) } else { RegState::unknown() };
        }
        Ok(())
    }

    /// The spilled value, with an identity that slot and register share.
    fn identify_slot(&mut self, frame: usize, index: usize, value: &RegState) -> RegState {
        let Some(changed) = self.identified(value) else { return *value };
        self.last_id = self.last_id.max(changed.id);
        if let Some(state) = self.cur.frames.get_mut(frame) {
            state.slots_mut(index + 1)[index].reg = changed;
        }
        changed
    }

    fn uninit_stack(&self, at: i32) -> Stop {
        Stop::reject(Code::UninitStack, format!("the byte at r10{at:+} has no value here"))
            .help("initialise the whole variable, with padding: `struct key key = {};` or memset")
            .kernel(format!("invalid read from stack off {at}"))
    }

    /// Whether bytes may be read as numbers; spilled numbers too, spilled pointers if they may be seen.
    fn check_stack_bytes(&self, frame: usize, lo: i32, end: i32, into_register: bool) -> Result<(), Stop> {
        let uninit_readable = self.uninit_stack_readable();
        let Some(state) = self.cur.frames.get(frame) else { return Ok(()) };
        for at in lo..end {
            let slot = state.slot(slot_of(at));
            let byte = slot.map_or(ByteKind::Invalid, |slot| slot.bytes[byte_of(at)]);
            let fine = match byte {
                ByteKind::Misc | ByteKind::Zero => true,
                ByteKind::Invalid => uninit_readable,
                ByteKind::Spill => {
                    !into_register && (self.env.privileged || slot.is_some_and(|slot| slot.reg.is_scalar()))
                }
                ByteKind::Dynptr | ByteKind::Iter => {
                    return Err(Stop::reject(
                        if byte == ByteKind::Dynptr { Code::Dynptr } else { Code::Iterator },
                        format!(
                            "the bytes at r10{at:+} belong to a {}",
                            if byte == ByteKind::Dynptr { "dynptr" } else { "iterator" }
                        ),
                    )
                    .kernel(format!("invalid read from stack off {at}")));
                }
            };
            if !fine {
                return Err(self.uninit_stack(at));
            }
        }
        Ok(())
    }

    pub(crate) fn write_stack(&mut self, reg: &RegState, off: i32, size: i32, value: Stored) -> Result<(), Stop> {
        let RegKind::Stack(frame) = reg.kind else {
            return Err(Stop::unsupported("a stack access by no stack pointer"));
        };
        let frame = usize::from(frame);
        let (lo, end) = self.stack_bounds(reg, off, size, true)?;
        if reg.num.is_const() {
            self.write_slot(frame, lo, size, value)
        } else {
            self.write_somewhere(frame, lo, end, value)
        }
    }

    fn write_slot(&mut self, frame: usize, lo: i32, size: i32, value: Stored) -> Result<(), Stop> {
        let (index, first) = (slot_of(lo), byte_of(lo));
        self.destroy_dynptr_at(frame, index)?;
        let slot =
            self.cur.frames.get(frame).and_then(|state| state.slot(index)).copied().unwrap_or_else(StackSlot::empty);
        if !self.env.privileged && slot.is_spill() && !slot.reg.is_scalar() && size != 8 {
            return Err(Stop::reject(Code::PartialSpill, "part of a pointer is overwritten")
                .kernel("attempt to corrupt spilled pointer on stack"));
        }
        let aligned = lo % 8 == 0;
        let top = self.cur.frames.depth();
        let spill = match value {
            Stored::Reg(reg) if aligned && self.cur.reg(reg).is_scalar() && self.env.privileged => {
                let fits = width(&self.cur.reg(reg).num) <= size as u32 * 8;
                if fits {
                    self.give_id(reg);
                }
                let mut spilled = *self.cur.reg(reg);
                if !fits {
                    spilled.id = 0;
                    spilled.off = 0;
                }
                Some(spilled)
            }
            Stored::Imm(imm) if aligned && self.env.privileged => Some(RegState::number(Scalar::immediate(imm))),
            Stored::Reg(reg) if spillable(self.cur.reg(reg)) => {
                let state = *self.cur.reg(reg);
                if size != 8 {
                    return Err(Stop::reject(Code::PartialSpill, format!("{size} of the 8 bytes of a pointer"))
                        .about(reg)
                        .help("store the whole pointer")
                        .kernel("invalid size of register spill"));
                }
                if frame != top && matches!(state.kind, RegKind::Stack(_)) {
                    return Err(Stop::reject(Code::PointerLeak, "a stack address would outlive its function")
                        .about(reg)
                        .kernel("cannot spill pointers to stack into stack frame of the caller"));
                }
                Some(state)
            }
            Stored::Reg(_) | Stored::Imm(_) | Stored::Unknown => None,
        };
        let privileged = self.env.privileged;
        if let Some(spilled) = spill {
            let Some(state) = self.cur.frames.get_mut(frame) else { return Ok(()) };
            let place = &mut state.slots_mut(index + 1)[index];
            place.reg = spilled;
            for number in 0..8 {
                if number >= 8 - size as usize {
                    place.bytes[number] = ByteKind::Spill;
                } else {
                    misc(&mut place.bytes[number], privileged);
                }
            }
            self.push_history(Some((frame as u8, index as u8)), Linked::default());
            return Ok(());
        }
        let zero = match value {
            Stored::Reg(reg) if self.cur.reg(reg).is_null() => {
                self.mark_precise(reg);
                true
            }
            Stored::Imm(0) => true,
            _ => false,
        };
        let Some(state) = self.cur.frames.get_mut(frame) else { return Ok(()) };
        let place = &mut state.slots_mut(index + 1)[index];
        forget_spill(place);
        for at in 0..size as usize {
            if let Some(byte) = first.checked_sub(at).and_then(|byte| place.bytes.get_mut(byte)) {
                *byte = if zero { ByteKind::Zero } else { ByteKind::Misc };
            }
        }
        Ok(())
    }

    fn write_somewhere(&mut self, frame: usize, lo: i32, end: i32, value: Stored) -> Result<(), Stop> {
        for index in slot_of(end - 1)..=slot_of(lo) {
            self.destroy_dynptr_at(frame, index)?;
        }
        let (zero, reg) = match value {
            Stored::Reg(reg) => (self.cur.reg(reg).is_null(), Some(reg)),
            Stored::Imm(imm) => (imm == 0, None),
            Stored::Unknown => (false, None),
        };
        let (privileged, uninit_readable) = (self.env.privileged, self.uninit_stack_readable());
        let mut zero_used = false;
        for at in lo..end {
            let Some(state) = self.cur.frames.get_mut(frame) else { return Ok(()) };
            let index = slot_of(at);
            let place = &mut state.slots_mut(index + 1)[index];
            let before = place.bytes[byte_of(at)];
            if !privileged && !matches!(before, ByteKind::Misc | ByteKind::Zero) {
                return Err(Stop::reject(Code::PartialSpill, format!("the write may hit what is kept at r10{at:+}"))
                    .kernel("spilled ptr in range of var-offset stack write"));
            }
            if zero && before == ByteKind::Spill && place.reg.is_null() {
                zero_used = true;
                continue;
            }
            if before == ByteKind::Invalid && !uninit_readable {
                return Err(Stop::reject(
                    Code::UninitStack,
                    format!("the write may leave the byte at r10{at:+} without a value"),
                )
                .help("initialise the whole array first")
                .kernel("uninit stack in range of var-offset write prohibited for !root"));
            }
            if place.is_spill() {
                forget_spill(place);
            }
            let after = if zero && before == ByteKind::Zero {
                zero_used = true;
                ByteKind::Zero
            } else {
                ByteKind::Misc
            };
            place.bytes[byte_of(at)] = after;
        }
        if let Some(reg) = reg.filter(|_| zero_used) {
            self.mark_precise(reg);
        }
        Ok(())
    }

    /// Memory on the stack that a helper gets. Returns `true` if it fills all of it and the caller is to mark that with
    /// [`Self::fill_stack`] when the call is done.
    pub(crate) fn check_stack_range(
        &mut self,
        reg: &RegState,
        off: i32,
        size: i32,
        how: HelperUse,
    ) -> Result<bool, Stop> {
        let RegKind::Stack(frame) = reg.kind else {
            return Err(Stop::unsupported("a stack access by no stack pointer"));
        };
        let frame = usize::from(frame);
        let (lo, end) = self.stack_bounds(reg, off, size, how != HelperUse::Read)?;
        if !reg.num.is_const() && !self.env.privileged {
            return Err(Stop::reject(Code::StackBounds, "a variable offset on the stack needs CAP_PERFMON")
                .kernel("variable offset stack access prohibited for !root"));
        }
        if how == HelperUse::Fill && reg.num.is_const() {
            let Some(state) = self.cur.frames.get(frame) else { return Ok(true) };
            for at in lo..end {
                if state.slot(slot_of(at)).is_some_and(|slot| slot.bytes[byte_of(at)] == ByteKind::Dynptr) {
                    return Err(Stop::reject(Code::Dynptr, "the memory overlaps a dynptr")
                        .kernel(format!("potential write to dynptr at off={at} disallowed")));
                }
            }
            return Ok(true);
        }
        self.check_stack_bytes(frame, lo, end, false)?;
        if how != HelperUse::Read {
            let Some(state) = self.cur.frames.get_mut(frame) else { return Ok(false) };
            for at in lo..end {
                let index = slot_of(at);
                let place = &mut state.slots_mut(index + 1)[index];
                if place.is_spill() {
                    // The helper may write any of it.
                    forget_spill(place);
                }
                if matches!(place.bytes[byte_of(at)], ByteKind::Zero | ByteKind::Invalid) {
                    place.bytes[byte_of(at)] = ByteKind::Misc;
                }
            }
        }
        Ok(false)
    }

    /// A helper has filled `size` bytes of stack at a known offset.
    pub(crate) fn fill_stack(&mut self, reg: &RegState, off: i32, size: i32) -> Result<(), Stop> {
        if size <= 0 {
            return Ok(());
        }
        let RegKind::Stack(frame) = reg.kind else { return Ok(()) };
        let (lo, end) = self.stack_bounds(reg, off, size, true)?;
        self.write_somewhere_unknown(usize::from(frame), lo, end)
    }

    fn write_somewhere_unknown(&mut self, frame: usize, lo: i32, end: i32) -> Result<(), Stop> {
        for index in slot_of(end - 1)..=slot_of(lo) {
            self.destroy_dynptr_at(frame, index)?;
        }
        let Some(state) = self.cur.frames.get_mut(frame) else { return Ok(()) };
        for at in lo..end {
            let index = slot_of(at);
            let place = &mut state.slots_mut(index + 1)[index];
            if place.special() != ByteKind::Misc
                && matches!(place.special(), ByteKind::Spill | ByteKind::Iter | ByteKind::Dynptr)
            {
                forget_spill(place);
            }
            place.bytes[byte_of(at)] = ByteKind::Misc;
        }
        Ok(())
    }

    /// Reads a whole frame's slot for the call module.
    pub(crate) fn slot(&self, frame: usize, index: usize) -> StackSlot {
        self.cur.frames.get(frame).and_then(|state| state.slot(index)).copied().unwrap_or_else(StackSlot::empty)
    }

    /// Changes a slot, making room.
    pub(crate) fn slot_mut(&mut self, frame: usize, index: usize) -> Option<&mut StackSlot> {
        self.grow_stack(frame, 8 * (index as i32 + 1));
        let state: &mut FuncState = self.cur.frames.get_mut(frame)?;
        Rc::make_mut(&mut state.stack).get_mut(index)
    }

    /// The stack address in a register, if its offset is known: frame, and offset from the frame pointer.
    pub(crate) fn stack_address(&self, reg: &RegState) -> Option<(usize, i32)> {
        let RegKind::Stack(frame) = reg.kind else { return None };
        let off = i64::from(reg.off) + reg.num.as_const()? as i64;
        Some((usize::from(frame), i32::try_from(off).ok()?))
    }

    /// How the access is called in messages.
    pub(crate) fn access_word(access: Access) -> &'static str {
        match access {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// Pointers that the kernel keeps track of on the stack. Others become plain bytes there.
fn spillable(reg: &RegState) -> bool {
    reg.is_pointer() && !matches!(reg.kind, RegKind::TpBuffer | RegKind::Dynptr(_) | RegKind::Iter(_))
}

/// The bytes of a slot hold no register any longer, but something.
fn forget_spill(place: &mut StackSlot) {
    place.reg = RegState::not_init();
    for byte in &mut place.bytes {
        if matches!(byte, ByteKind::Spill | ByteKind::Dynptr | ByteKind::Iter) {
            *byte = ByteKind::Misc;
        }
    }
}

/// A byte beside a narrow spill: what it was is no longer told apart.
fn misc(byte: &mut ByteKind, privileged: bool) {
    match byte {
        ByteKind::Zero => {}
        ByteKind::Invalid if privileged => {}
        _ => *byte = ByteKind::Misc,
    }
}
