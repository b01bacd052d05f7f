//! Changing a program that is there: dropping instructions, small mutations, shrinking to what matters.
//!
//! Distances are kept right by naming the instruction they lead to; one that leads to a dropped instruction leads to the
//! next that is left.

use skep_isa::{AluOp, Call, Insn, InsnIdx, JmpOp, Reg, SignExtend, Size, Source, Wide, Width};

use crate::Choices;
use crate::build::set_distance;
use crate::program::Generated;

/// Programs that a shrinker tries at most.
const MOST_TRIES: usize = 4000;

/// First slot of each instruction, and the end.
fn slots(insns: &[Insn]) -> Vec<u32> {
    let mut at = 0;
    let mut out = Vec::with_capacity(insns.len() + 1);
    for insn in insns {
        out.push(at);
        at += insn.slots();
    }
    out.push(at);
    out
}

/// The instruction that each relative one leads to; `None` where it leads to no instruction.
fn goals(insns: &[Insn]) -> Vec<Option<usize>> {
    let slots = slots(insns);
    let goal = |(index, insn): (usize, &Insn)| {
        let target = insn.target(InsnIdx(slots.get(index).copied()?))?;
        slots.binary_search(&target.0).ok()
    };
    insns.iter().enumerate().map(goal).collect()
}

impl Generated {
    /// The program without the instructions for which `keep` is false. Functions that lose all of them are gone too.
    fn retain(&self, keep: impl Fn(usize) -> bool) -> Generated {
        let old_slots = slots(&self.insns);
        let goals = goals(&self.insns);
        // The new index of each old instruction, or of the next one that is kept; one more for the end.
        let mut moved = vec![0; self.insns.len() + 1];
        let mut kept = Vec::new();
        for (index, insn) in self.insns.iter().enumerate() {
            moved[index] = kept.len();
            if keep(index) {
                kept.push((*insn, goals[index]));
            }
        }
        moved[self.insns.len()] = kept.len();
        let mut insns: Vec<Insn> = kept.iter().map(|(insn, _)| *insn).collect();
        let new_slots = slots(&insns);
        for (index, (_, goal)) in kept.iter().enumerate() {
            if let Some(goal) = goal {
                let target = new_slots[moved[*goal]];
                set_distance(&mut insns[index], target as i32 - new_slots[index] as i32 - 1);
            }
        }
        let end = new_slots.last().copied().unwrap_or(0);
        let mut funcs = self.funcs.clone();
        for func in &mut funcs {
            let old = old_slots.partition_point(|slot| *slot < func.start.0).min(self.insns.len());
            func.start = InsnIdx(new_slots[moved[old]]);
        }
        let starts: Vec<u32> = funcs.iter().skip(1).map(|func| func.start.0).chain([end]).collect();
        let mut next = starts.iter();
        funcs.retain(|func| next.next().is_some_and(|next| func.start.0 < *next));
        if let Some(first) = funcs.first_mut() {
            first.start = InsnIdx(0);
        }
        Generated { insns, funcs, ..self.clone() }
    }

    /// The program without these instructions (by position, not by slot).
    #[must_use]
    pub fn without(&self, range: std::ops::Range<usize>) -> Generated {
        self.retain(|index| !range.contains(&index))
    }

    /// The smallest program that can be found by dropping instructions and making constants simpler for which `holds` is
    /// still true. `holds` must be true of the program itself; it is asked at most 4,000 times.
    #[must_use]
    pub fn shrink(&self, mut holds: impl FnMut(&Generated) -> bool) -> Generated {
        let mut best = self.clone();
        let mut tries = 0;
        loop {
            let before = best.insns.len();
            let mut chunk = (best.insns.len() / 2).max(1);
            loop {
                let mut at = best.insns.len().saturating_sub(chunk);
                loop {
                    let candidate = best.without(at..at + chunk);
                    if !candidate.insns.is_empty() && candidate.insns.len() < best.insns.len() {
                        tries += 1;
                        if tries > MOST_TRIES {
                            return best.tidied(&mut holds);
                        }
                        if holds(&candidate) {
                            best = candidate;
                        }
                    }
                    if at == 0 {
                        break;
                    }
                    at = at.saturating_sub(chunk);
                }
                if chunk == 1 {
                    break;
                }
                chunk /= 2;
            }
            if best.insns.len() == before {
                return best.tidied(&mut holds);
            }
        }
    }

    /// Maps and kernel functions that nothing refers to are taken out, constants made 0 or 1, if `holds` stays true.
    fn tidied(&self, holds: &mut impl FnMut(&Generated) -> bool) -> Generated {
        let mut best = self.clone();
        for index in 0..best.insns.len() {
            for value in [0, 1] {
                let mut candidate = best.clone();
                let Some(Insn::Alu { src: Source::Imm(imm), .. } | Insn::Store { src: Source::Imm(imm), .. }) =
                    candidate.insns.get_mut(index)
                else {
                    break;
                };
                if *imm == value {
                    break;
                }
                *imm = value;
                if holds(&candidate) {
                    best = candidate;
                    break;
                }
            }
        }
        let slim = best.without_unused();
        if slim != best && holds(&slim) { slim } else { best }
    }

    fn without_unused(&self) -> Generated {
        let mut out = self.clone();
        let mut maps: Vec<i32> = Vec::new();
        let mut kfuncs: Vec<i32> = Vec::new();
        let place = |list: &mut Vec<i32>, old: i32| {
            let found = list.iter().position(|have| *have == old);
            found.unwrap_or_else(|| {
                list.push(old);
                list.len() - 1
            }) as i32
        };
        for insn in &mut out.insns {
            match insn {
                Insn::LoadWide { value: Wide::MapIdx(idx) | Wide::MapIdxValue { idx, .. }, .. } => {
                    *idx = place(&mut maps, *idx);
                }
                Insn::Call(Call::Kfunc { btf_id, .. }) => *btf_id = place(&mut kfuncs, *btf_id),
                _ => {}
            }
        }
        let map = |old: &i32| self.maps.get(*old as usize).cloned();
        out.maps = maps.iter().filter_map(map).collect();
        out.kfuncs = kfuncs.iter().filter_map(|old| self.kfuncs.get(*old as usize).cloned()).collect();
        if out.maps.len() == maps.len() && out.kfuncs.len() == kfuncs.len() { out } else { self.clone() }
    }

    /// Changes one instruction a little: an operand, a constant, a size, an offset, a condition; or drops one, or does
    /// one twice. What was done stands in [`Generated::notes`].
    pub fn mutate(&mut self, choices: &mut Choices<'_>) {
        if self.insns.is_empty() {
            return;
        }
        let at = choices.below(self.insns.len());
        let was = self.insns[at];
        if choices.chance(15) {
            let note = format!("mutation: dropped `{was}` (instruction {at})");
            *self = self.without(at..at + 1);
            self.notes.push(note);
            return;
        }
        let changed = mutated(was, &near(&self.insns, at), choices);
        // An instruction of another length would need every distance anew; none of the changes makes one.
        if changed.slots() == was.slots() {
            self.insns[at] = changed;
            self.notes.push(format!("mutation: `{was}` became `{changed}` (instruction {at})"));
        }
    }
}

/// Registers that the instructions around use: others are mostly not set, which is no interesting mistake.
fn near(insns: &[Insn], at: usize) -> Vec<Reg> {
    let around = insns.get(at.saturating_sub(6)..(at + 3).min(insns.len())).unwrap_or_default();
    let text: String = around.iter().map(|insn| format!("{insn} ")).collect();
    let has = |reg: &Reg| ["r", "w"].iter().any(|letter| text.contains(&format!("{letter}{} ", reg.number())));
    let mut regs: Vec<Reg> = Reg::ALL.into_iter().filter(has).collect();
    if regs.is_empty() {
        regs.push(Reg::R0);
    }
    regs
}

fn any_op<T: Copy>(choices: &mut Choices<'_>, from: &[T], old: T) -> T {
    choices.pick_ref(from).copied().unwrap_or(old)
}

fn other_width(width: Width) -> Width {
    match width {
        Width::W32 => Width::W64,
        Width::W64 => Width::W32,
    }
}

fn nudged(choices: &mut Choices<'_>, number: i32) -> i32 {
    match choices.below(4) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number.wrapping_neg(),
        _ => choices.imm32(),
    }
}

fn nudged16(choices: &mut Choices<'_>, number: i16) -> i16 {
    let by = *choices.pick_ref(&[1, -1, 4, -4, 8, -8, 2, -16]).unwrap_or(&1);
    number.wrapping_add(by)
}

fn source(choices: &mut Choices<'_>, near: &[Reg], src: Source) -> Source {
    match src {
        Source::Reg(_) if choices.chance(70) => Source::Reg(choices.reg(near)),
        Source::Reg(_) => Source::Imm(choices.imm32()),
        Source::Imm(imm) if choices.chance(85) => Source::Imm(nudged(choices, imm)),
        Source::Imm(_) => Source::Reg(choices.reg(near)),
    }
}

fn mutated(insn: Insn, near: &[Reg], c: &mut Choices<'_>) -> Insn {
    match insn {
        Insn::Alu { width, op, dst, src } => match c.below(4) {
            0 => Insn::Alu { width: other_width(width), op, dst, src },
            1 => Insn::Alu { width, op: any_op(c, &AluOp::ALL, op), dst, src },
            2 => Insn::Alu { width, op, dst: c.reg(near), src },
            _ => Insn::Alu { width, op, dst, src: source(c, near, src) },
        },
        Insn::Neg { width, dst } => Insn::Neg { width: other_width(width), dst },
        Insn::MovSx { form, dst, src } => {
            if c.chance(50) {
                Insn::MovSx { form: any_op(c, &SignExtend::ALL, form), dst, src }
            } else {
                Insn::MovSx { form, dst, src: c.reg(near) }
            }
        }
        Insn::LoadWide { dst, value } => match value {
            Wide::Imm64(number) => Insn::LoadWide { dst, value: Wide::Imm64(number ^ 1 << c.below(64)) },
            Wide::MapIdxValue { idx, off } => {
                Insn::LoadWide { dst, value: Wide::MapIdxValue { idx, off: off.wrapping_add(c.below(9) as u32) } }
            }
            _ => Insn::LoadWide { dst: c.reg(near), value },
        },
        Insn::Load { size, dst, base, off } => match c.below(4) {
            0 => Insn::Load { size: any_op(c, &Size::ALL, size), dst, base, off },
            1 => Insn::Load { size, dst: c.reg(near), base, off },
            2 => Insn::Load { size, dst, base: c.reg(near), off },
            _ => Insn::Load { size, dst, base, off: nudged16(c, off) },
        },
        Insn::LoadSx { size, dst, base, off } => Insn::LoadSx { size, dst, base, off: nudged16(c, off) },
        Insn::Store { size, base, off, src } => match c.below(4) {
            0 => Insn::Store { size: any_op(c, &Size::ALL, size), base, off, src },
            1 => Insn::Store { size, base: c.reg(near), off, src },
            2 => Insn::Store { size, base, off: nudged16(c, off), src },
            _ => Insn::Store { size, base, off, src: source(c, near, src) },
        },
        Insn::Atomic { width, op, base, off, src } => match c.below(4) {
            0 => Insn::Atomic { width: other_width(width), op, base, off, src },
            1 => Insn::Atomic { width, op, base: c.reg(near), off, src },
            2 => Insn::Atomic { width, op, base, off: nudged16(c, off), src },
            _ => Insn::Atomic { width, op, base, off, src: c.reg(near) },
        },
        Insn::LoadAcquire { size, dst, base, off } => Insn::LoadAcquire { size, dst, base, off: nudged16(c, off) },
        Insn::StoreRelease { size, base, off, src } => Insn::StoreRelease { size, base, off: nudged16(c, off), src },
        Insn::JumpIf { width, op, dst, src, off } => match c.below(5) {
            0 => Insn::JumpIf { width: other_width(width), op, dst, src, off },
            1 => Insn::JumpIf { width, op: any_op(c, &JmpOp::ALL, op), dst, src, off },
            2 => Insn::JumpIf { width, op, dst: c.reg(near), src, off },
            3 => Insn::JumpIf { width, op, dst, src, off: off.wrapping_add(c.pick(&[1, -1, 2])) },
            _ => Insn::JumpIf { width, op, dst, src: source(c, near, src), off },
        },
        Insn::Jump { off } => Insn::Jump { off: off.wrapping_add(c.pick(&[1, -1, 2])) },
        Insn::ByteSwap { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadAbs { .. }
        | Insn::LoadInd { .. }
        | Insn::JumpLong { .. }
        | Insn::JumpReg { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(_)
        | Insn::CallReg { .. }
        | Insn::Exit => insn,
    }
}
