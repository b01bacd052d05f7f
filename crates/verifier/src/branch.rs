//! Conditional jumps: which ways are possible, and what is known on each.
//!
//! - Numbers: [`crate::scalar::refine`] narrows both operands on both ways, and all numbers linked to them by id.
//! - A pointer that may be null, compared with 0: on one way it is null, on the other it is not, and so are all copies of it.
//! - A packet pointer compared with the packet's end: the way where it lies before the end makes that many bytes accessible
//!   through every packet pointer with the same variable part.

use skep_isa::{JmpOp, Reg, Source, Width};

use crate::env::FieldKind;
use crate::explore::{Flow, Verifier};
use crate::scalar::{self, Scalar};
use crate::state::{
    ADD_CONST, AT_PACKET_END, At, BEYOND_PACKET_END, Linked, MAX_PACKET_OFF, RegFlags, RegKind, RegState, VerifierState,
};
use crate::stop::Stop;

/// The comparison with operands exchanged.
fn flip(op: JmpOp) -> JmpOp {
    match op {
        JmpOp::Gt => JmpOp::Lt,
        JmpOp::Ge => JmpOp::Le,
        JmpOp::Lt => JmpOp::Gt,
        JmpOp::Le => JmpOp::Ge,
        JmpOp::Sgt => JmpOp::Slt,
        JmpOp::Sge => JmpOp::Sle,
        JmpOp::Slt => JmpOp::Sgt,
        JmpOp::Sle => JmpOp::Sge,
        same => same,
    }
}

/// Whether the pointer is known not to be null. Stack, packet and kernel-object pointers are not asked, as in the kernel.
fn not_null(reg: &RegState) -> bool {
    if reg.maybe_null() {
        return false;
    }
    match reg.kind {
        RegKind::Sock
        | RegKind::TcpSock
        | RegKind::SockCommon
        | RegKind::MapValue(_)
        | RegKind::MapKey(_)
        | RegKind::MapPtr(_) => true,
        RegKind::Mem => !reg.flags.any(RegFlags::UNTRUSTED),
        RegKind::Btf(..) => reg.flags.any(RegFlags::TRUSTED) || reg.ref_id != 0,
        _ => false,
    }
}

impl Verifier<'_, '_> {
    pub(crate) fn branch(&mut self, width: Width, op: JmpOp, dst: Reg, src: Source, target: u32) -> Result<Flow, Stop> {
        let left = *self.read(dst)?;
        let right = self.operand(src, width)?;
        let src_reg = match src {
            Source::Reg(reg) => Some(reg),
            Source::Imm(_) => None,
        };
        let both_packet = left.is_any_packet() && right.is_any_packet();
        if let Some(reg) = src_reg.filter(|_| !both_packet && self.leaks(&right)) {
            return Err(self.leak(reg, "into a comparison"));
        }
        if let Some(taken) = self.decided(width, op, &left, &right, src_reg == Some(dst)) {
            if left.is_scalar() {
                self.mark_precise(dst);
            }
            if let Some(reg) = src_reg.filter(|_| right.is_scalar()) {
                self.mark_precise(reg);
            }
            return Ok(if taken { Flow::Goto(target) } else { Flow::Next });
        }
        let mut linked = Linked::default();
        let links = |reg: &RegState| reg.is_scalar() && reg.id != 0;
        if src_reg.is_some() && links(&right) {
            self.collect_linked(right.base_id(), &mut linked);
        }
        if links(&left) {
            self.collect_linked(left.base_id(), &mut linked);
        }
        if linked.len() > 1 {
            self.push_history(None, linked);
        }
        // Collecting may have unlinked what did not fit.
        let left = *self.cur.reg(dst);
        let right = match src_reg {
            Some(reg) => *self.cur.reg(reg),
            None => right,
        };
        let (mut here, mut there) = ((left.num, right.num), (left.num, right.num));
        let numbers = left.is_scalar() && right.is_scalar();
        let (mut fall_possible, mut jump_possible) = (true, true);
        if numbers {
            fall_possible = scalar::refine(op, width, &mut here.0, &mut here.1, false);
            jump_possible = scalar::refine(op, width, &mut there.0, &mut there.1, true);
        }
        // Where bounds that were not put together show that one way is impossible, the numbers decided.
        if numbers && !(fall_possible && jump_possible) {
            self.mark_precise(dst);
            if let Some(reg) = src_reg {
                self.mark_precise(reg);
            }
            let (taken, known) = if fall_possible { (false, here) } else { (true, there) };
            apply(&mut self.cur, dst, src_reg, known, linked);
            return Ok(if taken { Flow::Goto(target) } else { Flow::Next });
        }
        let env = self.env;
        self.fork(target, 1)?;
        let Some(mut other) = self.take_fork() else { return Err(Stop::unsupported("a branch without a state")) };
        if numbers {
            apply(&mut self.cur, dst, src_reg, here, linked);
            apply(&mut other, dst, src_reg, there, linked);
        }
        let mut understood = numbers;
        if width == Width::W64 {
            if let Some(reg) = src_reg.filter(|_| left.is_pointer() && right.is_pointer()) {
                self.compare_with_valid(op, dst, reg, &left, &right, &mut other);
                understood |= packet_comparison(op, dst, reg, &left, &right, &mut self.cur, &mut other);
            } else if src == Source::Imm(0) && matches!(op, JmpOp::Eq | JmpOp::Ne) && left.maybe_null() {
                self.null_or_not(&mut other, dst, op == JmpOp::Eq);
                let mut cur = std::mem::replace(&mut self.cur, other);
                self.null_or_not(&mut cur, dst, op == JmpOp::Ne);
                other = std::mem::replace(&mut self.cur, cur);
                understood = true;
            }
        }
        if !understood && !env.privileged && left.is_pointer() {
            return Err(self.leak(dst, "into a comparison"));
        }
        self.put_fork(other);
        Ok(Flow::Next)
    }

    /// Whether the outcome is known.
    fn decided(&self, width: Width, op: JmpOp, left: &RegState, right: &RegState, same: bool) -> Option<bool> {
        if left.is_any_packet() && right.is_any_packet() && width == Width::W64 {
            return packet_decided(op, left, right);
        }
        if left.is_scalar() && right.is_scalar() {
            if same && self.env.since(7, 0) {
                return match op {
                    JmpOp::Eq | JmpOp::Ge | JmpOp::Le | JmpOp::Sge | JmpOp::Sle => Some(true),
                    JmpOp::Ne | JmpOp::Gt | JmpOp::Lt | JmpOp::Sgt | JmpOp::Slt => Some(false),
                    JmpOp::Set => scalar::decide(op, width, &left.num, &right.num),
                };
            }
            return scalar::decide(op, width, &left.num, &right.num);
        }
        let (pointer, number, op) = if right.is_scalar() {
            (left, right, op)
        } else if left.is_scalar() {
            (right, left, flip(op))
        } else {
            return None;
        };
        let value = match width {
            Width::W64 => number.num.as_const()?,
            Width::W32 => number.num.low_as_const()?.into(),
        };
        if !not_null(pointer) || value != 0 {
            return None;
        }
        match op {
            JmpOp::Eq => Some(false),
            JmpOp::Ne => Some(true),
            _ => None,
        }
    }

    /// The places whose number is linked to this id. What is one too many is unlinked.
    fn collect_linked(&mut self, id: u32, linked: &mut Linked) {
        let mut too_many: Vec<At> = Vec::new();
        for frame in (0..self.cur.frames.len()).rev() {
            let Some(state) = self.cur.frames.get(frame) else { continue };
            let mut add = |at: At| {
                if !linked.push(at) {
                    too_many.push(at);
                }
            };
            for (index, reg) in state.regs.iter().enumerate().take(10) {
                if reg.is_scalar() && reg.id != 0 && reg.base_id() == id {
                    add(At { frame: frame as u8, is_slot: false, index: index as u8 });
                }
            }
            for (index, slot) in state.stack.iter().enumerate() {
                if slot.is_scalar_spill() && slot.reg.id != 0 && slot.reg.base_id() == id {
                    add(At { frame: frame as u8, is_slot: true, index: index as u8 });
                }
            }
        }
        for at in too_many {
            let Some(frame) = self.cur.frames.get_mut(usize::from(at.frame)) else { continue };
            let reg = if at.is_slot {
                let slots = frame.slots_mut(usize::from(at.index) + 1);
                &mut slots[usize::from(at.index)].reg
            } else {
                &mut frame.regs[usize::from(at.index)]
            };
            reg.id = 0;
            reg.off = 0;
        }
    }

    /// `p == q` where q is not null: then p is not null either.
    fn compare_with_valid(
        &mut self,
        op: JmpOp,
        dst: Reg,
        src: Reg,
        left: &RegState,
        right: &RegState,
        other: &mut VerifierState,
    ) {
        let kernel_object = |reg: &RegState| matches!(reg.kind, RegKind::Btf(..));
        if left.maybe_null() == right.maybe_null() || kernel_object(left) || kernel_object(right) {
            return;
        }
        let reg = if left.maybe_null() { dst } else { src };
        let mut changed = if reg == dst { *left } else { *right };
        self.not_null(&mut changed);
        let state = match op {
            JmpOp::Eq => other,
            JmpOp::Ne => &mut self.cur,
            _ => return,
        };
        *state.reg_mut(reg) = changed;
    }

    /// What was compared with null and everything that is the same pointer.
    fn null_or_not(&self, state: &mut VerifierState, reg: Reg, is_null: bool) {
        let (id, ref_id) = (state.reg(reg).id, state.reg(reg).ref_id);
        if is_null && ref_id != 0 && ref_id == id {
            state.duties_mut().held.retain(|held| held.id != id);
        }
        state.change_regs(
            |reg| reg.maybe_null() && reg.id == id,
            |reg| {
                if is_null {
                    *reg = RegState::constant(0);
                    return;
                }
                self.not_null(reg);
                let has_lock = match reg.kind {
                    RegKind::MapValue(map) => self.env.map(map).is_some_and(|map| {
                        map.field(FieldKind::SpinLock).is_some() || map.field(FieldKind::ResSpinLock).is_some()
                    }),
                    RegKind::Btf(..) => reg.flags.any(RegFlags::ALLOC),
                    _ => false,
                };
                if !has_lock {
                    reg.id = 0;
                }
            },
        );
    }

    /// The pointer is found not to be null. What looked like a map value may then turn out to be something else.
    fn not_null(&self, reg: &mut RegState) {
        reg.flags = reg.flags.without(RegFlags::MAYBE_NULL);
        if let RegKind::MapValue(map) = reg.kind {
            let Some(info) = self.env.map(map) else { return };
            match (info.inner, info.map_type()) {
                (Some(inner), _) => {
                    reg.kind = RegKind::MapPtr(inner);
                    let managed = self.env.map(inner).is_some_and(|map| {
                        map.field(FieldKind::Timer).is_some()
                            || map.field(FieldKind::WorkQueue).is_some()
                            || map.field(FieldKind::TaskWork).is_some()
                    });
                    reg.aux = if managed { reg.id } else { 0 };
                }
                (None, skep_abi::MapType::Xskmap) => reg.kind = RegKind::XdpSock,
                (None, skep_abi::MapType::Sockmap | skep_abi::MapType::Sockhash) => reg.kind = RegKind::Sock,
                _ => {}
            }
        }
    }

    /// `may_goto`: the loop's body is looked at as often as it shows anything new.
    pub(crate) fn may_goto(&mut self, target: u32) -> Result<Flow, Stop> {
        let earlier = self.earlier_turn();
        let next = self.insn + 1;
        self.fork(next, 1)?;
        let Some(mut body) = self.take_fork() else { return Err(Stop::unsupported("a branch without a state")) };
        body.may_goto_depth += 1;
        if let Some(earlier) = earlier {
            self.widen(earlier, &mut body);
        }
        self.put_fork(body);
        Ok(Flow::Goto(target))
    }

    /// The state of the turn before, at the same instruction on this path.
    pub(crate) fn earlier_turn(&self) -> Option<crate::state::StateId> {
        let newest = self.cur.parent?;
        let mut at = self.stored(newest)?.state.parent;
        while let Some(id) = at {
            let state = &self.stored(id)?.state;
            let same_calls = state.frames.len() == self.cur.frames.len()
                && state.frames.iter().zip(self.cur.frames.iter()).all(|(a, b)| a.callsite == b.callsite);
            if state.insn == self.insn && same_calls {
                return Some(id);
            }
            at = state.parent;
        }
        None
    }

    /// Numbers that changed since an earlier turn without mattering to anything become unknown, so that loops converge.
    pub(crate) fn widen(&mut self, earlier: crate::state::StateId, state: &mut VerifierState) {
        let all_precise = !self.env.privileged;
        let Some(old) = self.stored(earlier) else { return };
        if all_precise {
            return;
        }
        for index in 0..state.frames.len() {
            let Some(before) = old.state.frames.get(index) else { continue };
            let (precise_regs, precise_slots) = (old.precise_regs[index], old.precise_slots[index]);
            let changed = |old: &RegState, now: &RegState| {
                old.is_scalar() && now.is_scalar() && (old.num != now.num || old.id != now.id)
            };
            let Some(frame) = state.frames.get_mut(index) else { continue };
            for number in 0..10 {
                if precise_regs >> number & 1 == 0 && changed(&before.regs[number], &frame.regs[number]) {
                    frame.regs[number] = RegState::unknown();
                }
            }
            for number in 0..before.stack.len().min(frame.stack.len()) {
                let (old, now) = (&before.stack[number], &frame.stack[number]);
                if precise_slots >> number & 1 == 0 && old.is_spill() && now.is_spill() && changed(&old.reg, &now.reg) {
                    let slots = frame.slots_mut(number + 1);
                    slots[number].reg = RegState::unknown();
                }
            }
        }
    }
}

/// Writes what a branch told of its operands, and passes it on to all that is linked to them.
fn apply(state: &mut VerifierState, dst: Reg, src: Option<Reg>, known: (Scalar, Scalar), linked: Linked) {
    let set = |state: &mut VerifierState, reg: Reg, num: Scalar| {
        if state.reg(reg).num != num {
            state.reg_mut(reg).num = num;
        }
    };
    set(state, dst, known.0);
    if let Some(src) = src {
        set(state, src, known.1);
        sync_linked(state, src, linked);
    }
    sync_linked(state, dst, linked);
}

fn sync_linked(state: &mut VerifierState, from: Reg, linked: Linked) {
    let known = *state.reg(from);
    if !known.is_scalar() || known.id == 0 || linked.len() < 2 {
        return;
    }
    let top = state.frames.depth();
    for at in linked.iter() {
        if !at.is_slot && usize::from(at.frame) == top && usize::from(at.index) == from.index() {
            continue;
        }
        let Some(frame) = state.frames.get(usize::from(at.frame)) else { continue };
        let place = if at.is_slot {
            frame.stack.get(usize::from(at.index)).filter(|slot| slot.is_spill()).map(|slot| &slot.reg)
        } else {
            frame.regs.get(usize::from(at.index))
        };
        let Some(before) = place.filter(|reg| reg.is_scalar() && reg.base_id() == known.base_id()) else { continue };
        let offsets = (delta(before), delta(&known));
        let after = if before.off == known.off && before.id & ADD_CONST == known.id & ADD_CONST {
            known
        } else {
            let difference = Scalar::constant((i64::from(offsets.0) - i64::from(offsets.1)) as u64);
            let num = known.num.alu(skep_isa::AluOp::Add, Width::W64, &difference);
            RegState { num, ..*before }
        };
        if *before == after {
            continue;
        }
        let Some(frame) = state.frames.get_mut(usize::from(at.frame)) else { continue };
        if at.is_slot {
            let slots = frame.slots_mut(usize::from(at.index) + 1);
            slots[usize::from(at.index)].reg = after;
        } else {
            frame.regs[usize::from(at.index)] = after;
        }
    }
}

fn delta(reg: &RegState) -> i32 {
    if reg.id & ADD_CONST != 0 { reg.off } else { 0 }
}

/// A packet pointer that was found at or past the end stays there.
fn packet_decided(op: JmpOp, left: &RegState, right: &RegState) -> Option<bool> {
    let (pointer, op) = if right.kind == RegKind::PacketEnd {
        (left, op)
    } else if left.kind == RegKind::PacketEnd {
        (right, flip(op))
    } else {
        return None;
    };
    if !pointer.is_packet() {
        return None;
    }
    match (op, pointer.range()) {
        (JmpOp::Le, BEYOND_PACKET_END) => Some(false),
        (JmpOp::Gt, BEYOND_PACKET_END) => Some(true),
        (JmpOp::Lt, BEYOND_PACKET_END | AT_PACKET_END) => Some(false),
        (JmpOp::Ge, BEYOND_PACKET_END | AT_PACKET_END) => Some(true),
        _ => None,
    }
}

/// Whether it is the plain start of the packet.
fn is_packet_start(reg: &RegState) -> bool {
    reg.kind == RegKind::Packet && reg.id == 0 && reg.off == 0 && reg.num.as_const() == Some(0)
}

/// A comparison of a packet pointer with the end (or of metadata with the packet's start). `cur` goes on behind the jump,
/// `other` at its target. Whether it was one.
fn packet_comparison(
    op: JmpOp,
    dst: Reg,
    src: Reg,
    left: &RegState,
    right: &RegState,
    cur: &mut VerifierState,
    other: &mut VerifierState,
) -> bool {
    let bounded = |a: &RegState, b: &RegState| {
        (a.kind == RegKind::Packet && b.kind == RegKind::PacketEnd)
            || (a.kind == RegKind::PacketMeta && is_packet_start(b))
    };
    // The pointer on the left of the comparison, with the end on the right.
    let (op, pointer, reg) = if bounded(left, right) {
        (op, left, dst)
    } else if bounded(right, left) {
        (flip(op), right, src)
    } else {
        return false;
    };
    // `open`: the pointer is known to lie before the end and not only at it.
    let (within, without, open) = match op {
        JmpOp::Gt => (cur, other, false),
        JmpOp::Lt => (other, cur, true),
        JmpOp::Ge => (cur, other, true),
        JmpOp::Le => (other, cur, false),
        _ => return false,
    };
    found_range(within, pointer, open);
    if pointer.kind == RegKind::Packet {
        let range = if open { AT_PACKET_END } else { BEYOND_PACKET_END };
        without.reg_mut(reg).set_range(range);
    }
    true
}

fn found_range(state: &mut VerifierState, pointer: &RegState, open: bool) {
    if pointer.off < 0 || (pointer.off == 0 && open) {
        return;
    }
    let max = pointer.num.umax;
    if max > MAX_PACKET_OFF as u64 || max + pointer.off as u64 > MAX_PACKET_OFF as u64 {
        return;
    }
    let range = pointer.off + i32::from(open);
    let (kind, id) = (pointer.kind, pointer.id);
    state.change_regs(|reg| reg.kind == kind && reg.id == id && reg.range() < range, |reg| reg.set_range(range));
}
