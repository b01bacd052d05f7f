//! Whether a path can stop because an earlier one that came this way saw at least as much: [`states_equal`].
//!
//! The earlier state covers the present one if every value now is among the values then, as far as they can still be read
//! (dead ones were taken out when the state was stored) and as far as they mattered (numbers that never decided anything are
//! not compared: [`crate::precision`]). Ids are compared up to renaming.

use std::rc::Rc;

use crate::explore::Stored;
use crate::state::{ADD_CONST, ByteKind, FuncState, Held, RegFlags, RegKind, RegState, StackSlot, VerifierState};

/// How closely to compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exact {
    /// Numbers that did not matter are not compared.
    No,
    /// All is the same: nothing changed since then.
    Yes,
    /// All numbers are within what they were then, whether they mattered or not.
    Range,
}

/// Ids then to ids now.
#[derive(Debug, Default)]
pub(crate) struct IdMap {
    pairs: Vec<(u32, u32)>,
    fresh: u32,
}

impl IdMap {
    pub(crate) fn reset(&mut self, fresh: u32) {
        self.pairs.clear();
        self.fresh = fresh;
    }

    fn same(&mut self, old: u32, cur: u32) -> bool {
        if (old == 0) != (cur == 0) {
            return false;
        }
        if old == 0 {
            return true;
        }
        for &(o, c) in &self.pairs {
            if o == old {
                return c == cur;
            }
            if c == cur {
                return false;
            }
        }
        self.pairs.push((old, cur));
        true
    }

    fn same_number(&mut self, old: u32, cur: u32) -> bool {
        if old == 0 {
            return true;
        }
        let cur = if cur == 0 {
            self.fresh = self.fresh.wrapping_add(1);
            self.fresh
        } else {
            cur
        };
        self.same(old, cur)
    }
}

/// Parameters of a comparison that stay the same for all frames.
pub(crate) struct Comparison<'m> {
    pub(crate) ids: &'m mut IdMap,
    pub(crate) exact: Exact,
    /// Whether stack that was never written may be read as numbers.
    pub(crate) uninit_stack: bool,
    /// Whether every number matters.
    pub(crate) all_precise: bool,
}

/// Whether what was found safe from `old` on is safe from `cur` on.
pub(crate) fn states_equal(old: &Stored, cur: &VerifierState, mut how: Comparison<'_>) -> bool {
    let before = &old.state;
    if before.frames.len() != cur.frames.len() || before.sleepable != cur.sleepable {
        return false;
    }
    if !duties_equal(before, cur, how.ids) {
        return false;
    }
    for index in 0..cur.frames.len() {
        let (Some(old_frame), Some(cur_frame)) = (before.frames.get(index), cur.frames.get(index)) else {
            return false;
        };
        let precise = (
            if how.all_precise { u16::MAX } else { old.precise_regs[index] },
            if how.all_precise { u64::MAX } else { old.precise_slots[index] },
        );
        if !frames_equal(old_frame, cur_frame, precise, &mut how) {
            return false;
        }
    }
    true
}

fn duties_equal(old: &VerifierState, cur: &VerifierState, ids: &mut IdMap) -> bool {
    let (a, b) = (&old.duties, &cur.duties);
    if a.held.is_empty() && b.held.is_empty() {
        return a.locks == b.locks && a.preempt == b.preempt && a.rcu == b.rcu;
    }
    if a.held.len() != b.held.len() || a.locks != b.locks || a.preempt != b.preempt || a.rcu != b.rcu {
        return false;
    }
    a.held.iter().zip(&b.held).all(|(a, b)| {
        let same_kind = match (a.what, b.what) {
            (Held::Lock { reg_id: old_id, map: old_map }, Held::Lock { reg_id: cur_id, map: cur_map }) => {
                old_map == cur_map && ids.same(old_id, cur_id)
            }
            (a, b) => a == b,
        };
        same_kind && ids.same(a.id, b.id)
    })
}

fn frames_equal(old: &FuncState, cur: &FuncState, precise: (u16, u64), how: &mut Comparison<'_>) -> bool {
    if old.callsite != cur.callsite || old.subprog != cur.subprog || old.callback_depth > cur.callback_depth {
        return false;
    }
    for (number, (before, now)) in old.regs.iter().zip(&cur.regs).enumerate().take(10) {
        if !reg_safe(before, now, precise.0 >> number & 1 == 1, how) {
            return false;
        }
    }
    stack_safe(old, cur, precise.1, how)
}

/// What can be compared bit by bit: all but ids.
fn same_but_ids(old: &RegState, cur: &RegState) -> bool {
    old.kind == cur.kind && old.flags == cur.flags && old.off == cur.off && old.aux == cur.aux && old.num == cur.num
}

fn regs_exact(old: &RegState, cur: &RegState, ids: &mut IdMap) -> bool {
    same_but_ids(old, cur) && ids.same(old.id, cur.id) && ids.same(old.ref_id, cur.ref_id)
}

fn reg_safe(old: &RegState, cur: &RegState, precise: bool, how: &mut Comparison<'_>) -> bool {
    // In a stored state a register without a value is one that is never read again.
    if old.kind == RegKind::NotInit {
        return true;
    }
    if how.exact == Exact::Yes {
        return regs_exact(old, cur, how.ids);
    }
    if old.kind != cur.kind || old.flags != cur.flags {
        return false;
    }
    match old.kind {
        RegKind::Scalar => {
            if !precise && how.exact == Exact::No {
                return true;
            }
            if old.id & ADD_CONST != cur.id & ADD_CONST {
                return false;
            }
            if old.id & ADD_CONST != 0 && old.off != cur.off {
                return false;
            }
            old.num.contains(&cur.num) && how.ids.same_number(old.base_id(), cur.base_id())
        }
        RegKind::MapValue(_) | RegKind::MapKey(_) | RegKind::Mem | RegKind::Buf | RegKind::TpBuffer => {
            old.off == cur.off
                && old.aux == cur.aux
                && old.num.contains(&cur.num)
                && how.ids.same(old.id, cur.id)
                && how.ids.same(old.ref_id, cur.ref_id)
        }
        RegKind::Packet | RegKind::PacketMeta => {
            let (before, now) = (old.range(), cur.range());
            let enough = if before < 0 || now < 0 { before == now } else { before <= now };
            enough && old.off == cur.off && how.ids.same(old.id, cur.id) && old.num.contains(&cur.num)
        }
        _ => regs_exact(old, cur, how.ids),
    }
}

fn stack_safe(old: &FuncState, cur: &FuncState, precise: u64, how: &mut Comparison<'_>) -> bool {
    if Rc::ptr_eq(&old.stack, &cur.stack) && how.exact == Exact::No && precise == 0 && old.stack.iter().all(plain) {
        return true;
    }
    let unbound = RegState::unknown();
    for (index, before) in old.stack.iter().enumerate() {
        if before.bytes == [ByteKind::Invalid; 8] {
            continue;
        }
        let ignorable = |byte: ByteKind| {
            byte == ByteKind::Invalid || (how.uninit_stack && byte == ByteKind::Misc && how.exact != Exact::Yes)
        };
        if before.bytes.iter().all(|byte| ignorable(*byte)) {
            continue;
        }
        let Some(now) = cur.stack.get(index) else { return false };
        if how.exact == Exact::Yes && before.bytes != now.bytes {
            return false;
        }
        let is_precise = precise >> index & 1 == 1;
        if let (Some(a), Some(b)) =
            (as_number(before, &unbound, how.uninit_stack), as_number(now, &unbound, how.uninit_stack))
        {
            if !reg_safe(a, b, is_precise && before.is_spill(), how) {
                return false;
            }
            continue;
        }
        for (old_byte, cur_byte) in before.bytes.iter().zip(&now.bytes) {
            let covered = ignorable(*old_byte)
                || old_byte == cur_byte
                || (*old_byte == ByteKind::Misc && *cur_byte == ByteKind::Zero && how.exact != Exact::Yes);
            if !covered {
                return false;
            }
        }
        match before.bytes[7] {
            ByteKind::Spill => {
                if !reg_safe(&before.reg, &now.reg, is_precise, how) {
                    return false;
                }
            }
            ByteKind::Dynptr => {
                if before.reg.kind != now.reg.kind
                    || before.reg.flags != now.reg.flags
                    || before.reg.aux != now.reg.aux
                    || !how.ids.same(before.reg.id, now.reg.id)
                    || !how.ids.same(before.reg.ref_id, now.reg.ref_id)
                {
                    return false;
                }
            }
            // The depth of an iterator (`aux` of its first slot) only tells turns of a loop apart.
            ByteKind::Iter => {
                if before.reg.kind != now.reg.kind
                    || before.reg.flags != now.reg.flags
                    || !how.ids.same(before.reg.ref_id, now.reg.ref_id)
                {
                    return false;
                }
            }
            ByteKind::Invalid | ByteKind::Misc | ByteKind::Zero => {}
        }
    }
    true
}

/// Whether nothing in the slot has ids that must be entered in the map.
fn plain(slot: &StackSlot) -> bool {
    match slot.bytes[7] {
        ByteKind::Spill => slot.reg.is_scalar(),
        ByteKind::Dynptr | ByteKind::Iter => false,
        ByteKind::Invalid | ByteKind::Misc | ByteKind::Zero => true,
    }
}

/// The slot as a number: what is spilled, or anything where all bytes are something.
fn as_number<'s>(slot: &'s StackSlot, unbound: &'s RegState, uninit_stack: bool) -> Option<&'s RegState> {
    if slot.is_whole_scalar_spill() {
        return Some(&slot.reg);
    }
    let misc = |byte: &ByteKind| *byte == ByteKind::Misc || (uninit_stack && *byte == ByteKind::Invalid);
    slot.bytes.iter().all(misc).then_some(unbound)
}

/// Whether some iterator was moved on a different number of times.
pub(crate) fn iterator_depths_differ(old: &VerifierState, cur: &VerifierState) -> bool {
    old.frames.iter().zip(cur.frames.iter()).any(|(before, now)| {
        before.stack.iter().zip(now.stack.iter()).any(|(a, b)| {
            let active = |slot: &StackSlot| {
                slot.bytes[7] == ByteKind::Iter && !slot.reg.flags.any(RegFlags::DRAINED) && slot.reg.ref_id != 0
            };
            active(a) && active(b) && a.reg.aux != b.reg.aux
        })
    })
}
