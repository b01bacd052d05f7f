//! What can be told of registers and stack slots without running the program: constants, places in the frame, bounds.
//!
//! Followed along straight code, from a place that a jump leads to (nothing is known there) to the next. So a lookup in an
//! array whose address stands in the program becomes an addition, without a look at the index where that is bounded.
//!
//! ```text
//! w1 &= 1023                   r1: at most 1023
//! *(u32 *)(r10 - 4) = r1       slot -4: at most 1023, still in r1
//! r2 = r10; r2 += -4           r2: the frame's -4
//! r1 = map(table)              r1: this address
//! call bpf_map_lookup_elem     an array of 1024 entries: never null
//! ```

use crate::code::{Kind, Op};
use skep_isa::{AluOp, Size, Width};

/// What is known of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Any,
    Const(u64),
    /// The address so many bytes above r10.
    Frame(i64),
    /// An unsigned number up to this one.
    AtMost(u32),
}

impl Value {
    /// The largest that it can be, as 32 bits that are the whole number.
    fn most(self) -> Option<u32> {
        match self {
            Value::Const(value) => u32::try_from(value).ok(),
            Value::AtMost(most) => Some(most),
            Value::Any | Value::Frame(_) => None,
        }
    }

    /// What is known of its low 32 bits.
    fn low(self) -> Value {
        match self {
            Value::Const(value) => Value::Const(value & 0xffff_ffff),
            Value::AtMost(_) => self,
            Value::Any | Value::Frame(_) => Value::AtMost(u32::MAX),
        }
    }
}

/// Four bytes of the frame that were written from a register or a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    off: i64,
    pub(super) value: Value,
    /// The register that they were written from.
    pub(super) from: Option<u8>,
}

/// How many slots are remembered.
const SLOTS: usize = 8;

/// What is known at a place in a program.
#[derive(Clone, Debug)]
pub(super) struct Known {
    registers: [Value; 11],
    slots: Vec<Slot>,
}

impl Known {
    /// Nothing but what r10 is.
    pub(super) fn nothing() -> Known {
        let mut registers = [Value::Any; 11];
        registers[10] = Value::Frame(0);
        Known { registers, slots: Vec::new() }
    }

    pub(super) fn register(&self, reg: u8) -> Value {
        self.registers.get(usize::from(reg)).copied().unwrap_or(Value::Any)
    }

    /// What is known of the 32-bit number at a place in the frame.
    pub(super) fn slot(&self, off: i64) -> Option<Slot> {
        self.slots.iter().find(|slot| slot.off == off).copied()
    }

    fn set(&mut self, reg: u8, value: Value) {
        if let Some(register) = self.registers.get_mut(usize::from(reg)) {
            *register = value;
        }
    }

    /// Bytes of the frame were written.
    fn overwrite(&mut self, off: i64, size: i64) {
        self.slots.retain(|slot| slot.off + 4 <= off || off + size <= slot.off);
    }

    /// Something was written that may be the frame.
    fn overwrite_any(&mut self) {
        self.slots.clear();
    }

    /// A register was given another value by the machine code: slots are no longer in it.
    pub(super) fn changed(&mut self, reg: u8) {
        for slot in &mut self.slots {
            if slot.from == Some(reg) {
                slot.from = None;
            }
        }
    }

    /// Follows an operation.
    pub(super) fn step(&mut self, kind: Kind, op: Op) {
        match kind {
            Kind::Alu { width, op: alu, imm } => {
                let right = if imm { Value::Const(op.imm as u64) } else { self.register(op.src) };
                let result = alu_value(width, alu, self.register(op.dst), right);
                self.set(op.dst, result);
            }
            Kind::Wide => self.set(op.dst, Value::Const(op.imm as u64)),
            Kind::Load(Size::B) => self.set(op.dst, Value::AtMost(0xff)),
            Kind::Load(Size::H) => self.set(op.dst, Value::AtMost(0xffff)),
            Kind::Load(Size::W) => self.set(op.dst, Value::AtMost(u32::MAX)),
            Kind::Store { size, imm } => {
                let Value::Frame(base) = self.register(op.dst) else { return self.overwrite_any() };
                let off = base + i64::from(op.off);
                self.overwrite(off, i64::from(size.bytes()));
                let value = if imm { Value::Const(op.imm as u64) } else { self.register(op.src) };
                let from = (!imm).then_some(op.src);
                if matches!(size, Size::W | Size::DW) && self.slots.len() < SLOTS {
                    self.slots.push(Slot { off, value: value.low(), from });
                }
            }
            Kind::StoreRelease(_) => self.overwrite_any(),
            Kind::Atomic { .. } => {
                self.overwrite_any();
                self.set(op.src, Value::Any);
                self.set(0, Value::Any);
            }
            Kind::CallHelper | Kind::CallSub | Kind::TailCall | Kind::PacketLoad { .. } => {
                self.overwrite_any();
                for reg in 0..6 {
                    self.set(reg, Value::Any);
                }
            }
            _ => {
                if let Some(reg) = super::flow::written(kind, op.dst, op.src) {
                    self.set(reg, Value::Any);
                }
            }
        }
    }
}

fn alu_value(width: Width, op: AluOp, left: Value, right: Value) -> Value {
    let result = match (op, left, right) {
        (AluOp::Mov, _, right) => right,
        (AluOp::Add, Value::Frame(off), Value::Const(add)) if width == Width::W64 => {
            return off.checked_add(add as i64).map_or(Value::Any, Value::Frame);
        }
        (AluOp::And, left, right) => match (left.most(), right.most()) {
            (Some(a), Some(b)) => Value::AtMost(a.min(b)),
            (Some(most), None) | (None, Some(most)) => Value::AtMost(most),
            (None, None) => Value::Any,
        },
        (AluOp::Rsh, left, Value::Const(count)) if width == Width::W64 => match (left.most(), count & 63) {
            (Some(most), count) => Value::AtMost(most.checked_shr(count as u32).unwrap_or(0)),
            (None, count @ 32..) => Value::AtMost((u64::MAX >> count) as u32),
            _ => Value::Any,
        },
        (AluOp::Rsh, left, Value::Const(count)) => Value::AtMost(left.low().most().unwrap_or(u32::MAX) >> (count & 31)),
        (AluOp::Mod, _, Value::Const(divisor)) => {
            let divisor = if width == Width::W32 { divisor & 0xffff_ffff } else { divisor };
            match u32::try_from(divisor) {
                Ok(divisor @ 1..) => Value::AtMost(divisor - 1),
                _ => Value::Any,
            }
        }
        _ => Value::Any,
    };
    if width == Width::W32 { result.low() } else { result }
}

/// Registers that an operation reads by its own operands, as bits.
pub(super) fn reads(kind: Kind, op: Op) -> u16 {
    let (dst, src) = (1u16 << (op.dst & 15), 1u16 << (op.src & 15));
    match kind {
        Kind::Alu { op: AluOp::Mov, imm: true, .. } | Kind::Wide | Kind::Jump | Kind::MayGoto => 0,
        Kind::Alu { op: AluOp::Mov, imm: false, .. } | Kind::MovSx(_) => src,
        Kind::Alu { imm: true, .. } | Kind::Neg { .. } | Kind::Swap { .. } => dst,
        Kind::Load(_) | Kind::LoadSx(_) | Kind::LoadAcquire(_) => src,
        Kind::Store { imm: true, .. } | Kind::JumpIf { imm: true, .. } => dst,
        Kind::Alu { imm: false, .. }
        | Kind::Store { imm: false, .. }
        | Kind::StoreRelease(_)
        | Kind::JumpIf { imm: false, .. } => dst | src,
        // All that may be asked for.
        _ => u16::MAX,
    }
}

/// Whether an operation does nothing but write a register.
pub(super) fn is_pure(kind: Kind) -> bool {
    matches!(kind, Kind::Alu { .. } | Kind::Neg { .. } | Kind::MovSx(_) | Kind::Swap { .. } | Kind::Wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ops: &[(Kind, Op)]) -> Known {
        let mut known = Known::nothing();
        for (kind, op) in ops {
            known.step(*kind, *op);
        }
        known
    }

    fn alu(op: AluOp, dst: u8, imm: i64) -> (Kind, Op) {
        (Kind::Alu { width: Width::W64, op, imm: true }, Op { code: 0, dst, src: 0, off: 0, imm })
    }

    fn store(size: Size, base: u8, off: i32, src: u8) -> (Kind, Op) {
        (Kind::Store { size, imm: false }, Op { code: 0, dst: base, src, off, imm: 0 })
    }

    #[test]
    fn a_masked_index_is_bounded_on_the_stack() {
        let known = after(&[alu(AluOp::And, 1, 1023), store(Size::W, 10, -4, 1)]);
        let slot = known.slot(-4).expect("known");
        assert_eq!((slot.value, slot.from), (Value::AtMost(1023), Some(1)));
    }

    #[test]
    fn a_store_that_overlaps_or_may_do_so_ends_it() {
        let first = [alu(AluOp::Mov, 1, 7), store(Size::W, 10, -4, 1)];
        let with = |more: (Kind, Op)| after(&[first[0], first[1], more]).slot(-4).map(|slot| slot.value);
        assert_eq!(with(store(Size::W, 10, -8, 2)), Some(Value::Const(7)));
        assert_eq!(with(store(Size::B, 10, -1, 2)), None);
        assert_eq!(with(store(Size::DW, 10, -8, 2)), None);
        assert_eq!(with(store(Size::B, 3, 0, 2)), None);
    }

    #[test]
    fn upper_halves_are_not_forgotten() {
        let wide = (Kind::Wide, Op { code: 0, dst: 1, src: 0, off: 0, imm: 0x1_0000_0005 });
        assert_eq!(after(&[wide]).register(1).most(), None);
        assert_eq!(after(&[wide, store(Size::W, 10, -4, 1)]).slot(-4).map(|slot| slot.value), Some(Value::Const(5)));
        assert_eq!(after(&[wide, alu(AluOp::Rsh, 1, 40)]).register(1), Value::AtMost(0xff_ffff));
        assert_eq!(after(&[wide, alu(AluOp::And, 1, -1)]).register(1), Value::Any);
    }
}
