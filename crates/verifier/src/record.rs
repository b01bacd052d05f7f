//! Seeing one path a second time, to tell how the program gets to the instruction that is refused.
//!
//! The first time nothing is recorded. When a path fails, its decisions are taken again in a check of their own
//! ([`crate::explore::Replay`]), and each instruction leaves an [`Event`]. From the last one backwards, [`Recorder::steps`]
//! follows the value in question: copies, arithmetic, where it was loaded, and the branches on the way.
//!
//! Limits: the last [`MAX_EVENTS`] instructions of the path; at most [`MAX_STEPS`] steps. Where the second time does not fail at
//! the same place (loops that were cut short the first time), there are no steps.

use std::collections::VecDeque;

use skep_abi::context;
use skep_abi::helpers::{self, RetKind};
use skep_isa::{AluOp, Call, Insn, InsnIdx, Reg, Source, Wide};
use skep_object::RelocKind;

use crate::cfg::kfunc_name;
use crate::env::Env;
use crate::explore::Flow;
use crate::scalar::Scalar;
use crate::state::{RegKind, RegState, VerifierState};
use crate::{LostBy, Origin, Place, Step, StepKind};

/// Instructions of a path that are kept.
const MAX_EVENTS: usize = 1 << 16;
/// Steps that are told.
const MAX_STEPS: usize = 24;
/// Branches that are told though they do not test the value in question.
const MAX_OTHER_BRANCHES: usize = 4;

/// An instruction of the path.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: u32,
    insn: Insn,
    depth: u8,
    /// For a conditional jump: whether it jumped.
    taken: Option<bool>,
    /// For a load or store on the stack at a known offset: frame and offset.
    stack: Option<(u8, i16)>,
    /// For a load: the kind of the pointer it is made through.
    base: RegKind,
    /// What the destination holds after, if a number, or the variable part of its offset.
    now: Option<Scalar>,
    /// Registers that a call took the value of.
    lost: u16,
    /// Whether the call released what a register pointed to.
    released: bool,
    /// The map that r1 held at a call.
    map: Option<u32>,
    /// Whether the right operand was a pointer and the left one a number.
    swapped: bool,
}

/// What a replay finds out.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    events: VecDeque<Event>,
    before: Vec<RegKind>,
}

/// What is followed back: a register or a stack slot of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Followed {
    depth: u8,
    place: Place,
}

impl Recorder {
    pub(crate) fn before(&mut self, at: u32, insn: Insn, state: &VerifierState) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        let address = |base: Reg, off: i16| {
            let reg = state.reg(base);
            let RegKind::Stack(frame) = reg.kind else { return None };
            let at = i64::from(reg.off) + reg.num.as_const()? as i64 + i64::from(off);
            Some((frame, i16::try_from(at).ok()?))
        };
        let mut base_kind = RegKind::NotInit;
        let mut stack = None;
        let mut swapped = false;
        match insn {
            Insn::Load { base, off, .. } | Insn::LoadSx { base, off, .. } | Insn::LoadAcquire { base, off, .. } => {
                base_kind = state.reg(base).kind;
                stack = address(base, off);
            }
            Insn::Store { base, off, .. } | Insn::StoreRelease { base, off, .. } | Insn::Atomic { base, off, .. } => {
                base_kind = state.reg(base).kind;
                stack = address(base, off);
            }
            Insn::Alu { dst, src: Source::Reg(src), .. } => {
                swapped = state.reg(dst).is_scalar() && state.reg(src).is_pointer();
            }
            _ => {}
        }
        let map = match state.reg(Reg::R1).kind {
            RegKind::MapPtr(map) => Some(map.0),
            _ => None,
        };
        self.before = state.top().regs.iter().map(|reg| reg.kind).collect();
        self.events.push_back(Event {
            at,
            insn,
            depth: state.frames.depth() as u8,
            taken: None,
            stack,
            base: base_kind,
            now: None,
            lost: 0,
            released: false,
            map,
            swapped,
        });
    }

    pub(crate) fn after(&mut self, state: &VerifierState, flow: Flow) {
        let Some(event) = self.events.back_mut() else { return };
        if let Insn::JumpIf { .. } | Insn::MayGoto { .. } = event.insn {
            event.taken =
                Some(matches!(flow, Flow::Goto(to) if Some(InsnIdx(to)) == event.insn.target(InsnIdx(event.at))));
        }
        let variable = |reg: &RegState| reg.is_init().then_some(reg.num);
        match event.insn {
            Insn::Alu { dst, .. } | Insn::Neg { dst, .. } | Insn::ByteSwap { dst, .. } | Insn::MovSx { dst, .. } => {
                event.now = variable(state.reg(dst));
            }
            Insn::Load { dst, .. } | Insn::LoadSx { dst, .. } => event.now = variable(state.reg(dst)),
            Insn::Call(_) if state.frames.depth() == usize::from(event.depth) => {
                for (number, (before, now)) in self.before.iter().zip(&state.top().regs).enumerate() {
                    let held = !matches!(before, RegKind::NotInit | RegKind::Scalar);
                    let released = held && now.is_scalar() && number > 5;
                    if (*before != RegKind::NotInit && !now.is_init()) || released {
                        event.lost |= 1 << number;
                    }
                    event.released |= released;
                }
            }
            _ => {}
        }
    }

    /// How the program got to the last instruction, with what there is to tell of a value that it uses.
    pub(crate) fn steps(&self, env: &Env<'_>, about: Option<Place>) -> Vec<Step> {
        let Some(last) = self.events.back() else { return Vec::new() };
        let mut followed: Vec<Followed> = Vec::new();
        if let Some(place) = about {
            followed.push(Followed { depth: last.depth, place });
        }
        let mut steps: Vec<Step> = Vec::new();
        let mut other_branches = 0;
        for event in self.events.iter().rev().skip(1) {
            if steps.len() >= MAX_STEPS
                || (about.is_some() && followed.is_empty() && other_branches >= MAX_OTHER_BRANCHES)
            {
                break;
            }
            self.step(env, event, &mut followed, &mut steps, &mut other_branches);
        }
        steps.reverse();
        steps
    }

    fn step(
        &self,
        env: &Env<'_>,
        event: &Event,
        followed: &mut Vec<Followed>,
        steps: &mut Vec<Step>,
        other_branches: &mut usize,
    ) {
        let at = InsnIdx(event.at);
        let mut tell = |kind: StepKind| steps.push(Step { insn: at, kind });
        let find = |followed: &[Followed], place: Place| {
            followed.iter().position(|f| f.depth == event.depth && f.place == place)
        };
        if let Some(taken) = event.taken {
            let tests = match event.insn {
                Insn::JumpIf { dst, src, .. } => {
                    find(followed, Place::Reg(dst)).is_some()
                        || matches!(src, Source::Reg(reg) if find(followed, Place::Reg(reg)).is_some())
                }
                _ => false,
            };
            if tests || *other_branches < MAX_OTHER_BRANCHES {
                *other_branches += usize::from(!tests);
                tell(StepKind::Branch { taken });
            }
            return;
        }
        let written = match event.insn {
            Insn::Alu { dst, .. }
            | Insn::Neg { dst, .. }
            | Insn::ByteSwap { dst, .. }
            | Insn::MovSx { dst, .. }
            | Insn::AddrSpaceCast { dst, .. }
            | Insn::LoadWide { dst, .. }
            | Insn::Load { dst, .. }
            | Insn::LoadSx { dst, .. }
            | Insn::LoadAcquire { dst, .. } => Some(dst),
            Insn::Atomic { op, src, .. } => op.fetches_into(src),
            Insn::LoadAbs { .. } | Insn::LoadInd { .. } => Some(Reg::R0),
            _ => None,
        };
        if let Some(index) = written.and_then(|reg| find(followed, Place::Reg(reg))) {
            let dst = followed[index].place;
            match event.insn {
                Insn::Alu { op: AluOp::Mov, src: Source::Reg(src), .. } => {
                    tell(StepKind::Copied { from: Place::Reg(src), to: dst });
                    followed[index].place = Place::Reg(src);
                }
                Insn::Alu { op: AluOp::Mov, src: Source::Imm(imm), .. } => {
                    tell(StepKind::Origin { place: dst, what: Origin::Constant(i64::from(imm) as u64) });
                    followed.swap_remove(index);
                }
                Insn::MovSx { src, .. } => {
                    if let Some(now) = event.now {
                        tell(StepKind::Changed { place: dst, now });
                    }
                    followed[index].place = Place::Reg(src);
                }
                Insn::Alu { src, .. } => {
                    if let Some(now) = event.now {
                        tell(StepKind::Changed { place: dst, now });
                    }
                    if let Source::Reg(src) = src {
                        // Both operands are part of it.
                        let other = Followed { depth: event.depth, place: Place::Reg(src) };
                        if event.swapped || (followed.len() < 3 && !followed.contains(&other)) {
                            followed.push(other);
                        }
                    }
                }
                Insn::Neg { .. } | Insn::ByteSwap { .. } => {
                    if let Some(now) = event.now {
                        tell(StepKind::Changed { place: dst, now });
                    }
                }
                Insn::LoadWide { value, .. } => {
                    tell(StepKind::Origin { place: dst, what: wide_origin(env, event.at, value) });
                    followed.swap_remove(index);
                }
                _ => match (event.stack, event.base) {
                    (Some((frame, off)), _) => {
                        tell(StepKind::Copied { from: Place::Stack(off), to: dst });
                        followed[index] = Followed { depth: frame, place: Place::Stack(off) };
                    }
                    (None, RegKind::Ctx) => {
                        tell(StepKind::Origin { place: dst, what: context_origin(env, event.insn) });
                        followed.swap_remove(index);
                    }
                    _ => {
                        tell(StepKind::Origin { place: dst, what: Origin::Memory });
                        followed.swap_remove(index);
                    }
                },
            }
            return;
        }
        match event.insn {
            Insn::Store { src, .. } => {
                let Some((frame, off)) = event.stack else { return };
                let slot = Followed { depth: frame, place: Place::Stack(off) };
                let Some(index) = followed.iter().position(|f| *f == slot) else { return };
                match src {
                    Source::Reg(reg) => {
                        tell(StepKind::Copied { from: Place::Reg(reg), to: slot.place });
                        followed[index] = Followed { depth: event.depth, place: Place::Reg(reg) };
                    }
                    Source::Imm(imm) => {
                        tell(StepKind::Origin { place: slot.place, what: Origin::Constant(i64::from(imm) as u64) });
                        followed.swap_remove(index);
                    }
                }
            }
            Insn::Call(Call::Subprog(_)) => {
                let target = event.insn.target(at);
                // The callee's arguments are the caller's registers.
                let inner = event.depth + 1;
                for f in followed.iter_mut().filter(|f| f.depth == inner) {
                    if matches!(f.place, Place::Reg(reg) if (1..=5).contains(&reg.number())) {
                        f.depth = event.depth;
                    }
                }
                if let Some(function) = target {
                    tell(StepKind::Call { function });
                }
            }
            Insn::Call(call) => {
                if let Some(index) = find(followed, Place::Reg(Reg::R0)) {
                    tell(StepKind::Origin { place: Place::Reg(Reg::R0), what: call_origin(env, event, call) });
                    followed.swap_remove(index);
                }
                let mut kept = Vec::new();
                for f in followed.drain(..) {
                    let lost = matches!(f.place, Place::Reg(reg) if event.lost >> reg.number() & 1 == 1);
                    if f.depth == event.depth && lost {
                        let by = if event.released {
                            LostBy::Release
                        } else {
                            LostBy::Call { function: call_name(env, event.at, call) }
                        };
                        tell(StepKind::CheckLost { place: f.place, by });
                    } else {
                        kept.push(f);
                    }
                }
                *followed = kept;
            }
            Insn::Exit => {
                // Going back into a callee: its result is the caller's r0.
                let outer = event.depth.wrapping_sub(1);
                for f in followed.iter_mut() {
                    if f.depth == outer && f.place == Place::Reg(Reg::R0) {
                        f.depth = event.depth;
                    }
                }
                tell(StepKind::Return);
            }
            _ => {}
        }
    }
}

fn wide_origin(env: &Env<'_>, at: u32, value: Wide) -> Origin {
    match (env.reloc(at), value) {
        (Some(RelocKind::Map(map)), _) => Origin::Map { map, value_offset: None },
        (Some(RelocKind::MapValue(map)), Wide::MapValue { off, .. } | Wide::MapIdxValue { off, .. }) => {
            Origin::Map { map, value_offset: Some(off) }
        }
        (Some(RelocKind::MapValue(map)), Wide::Imm64(bits)) => {
            Origin::Map { map, value_offset: Some((bits >> 32) as u32) }
        }
        (None, Wide::Imm64(bits)) => Origin::Constant(bits),
        _ => Origin::Other,
    }
}

fn context_origin(env: &Env<'_>, insn: Insn) -> Origin {
    let offset = match insn {
        Insn::Load { off, .. } | Insn::LoadSx { off, .. } => off,
        _ => 0,
    };
    let field = match context::kind(env.place.prog_type) {
        context::ContextKind::Struct(context) => {
            let access = context::access(env.place.prog_type, env.place.attach);
            let allowed = |field: &context::Field| access.is_none_or(|access| access.of(field.name).is_some());
            u16::try_from(offset)
                .ok()
                .and_then(|at| {
                    let here = |field: &&context::Field| (field.offset..field.offset + field.size).contains(&at);
                    context.fields.iter().filter(here).find(|field| allowed(field))
                })
                .map(|field| field.name)
        }
        _ => None,
    };
    Origin::Context { field, offset: offset.into() }
}

/// The name of what is called.
pub(crate) fn call_name(env: &Env<'_>, at: u32, call: Call) -> String {
    match call {
        Call::Helper(id) => helpers::by_id(id).map_or_else(|| format!("helper {id}"), |helper| helper.name.to_owned()),
        Call::Kfunc { btf_id, .. } => kfunc_name(env, at, btf_id).unwrap_or("a kernel function").to_owned(),
        Call::Subprog(_) => "a function".to_owned(),
    }
}

fn call_origin(env: &Env<'_>, event: &Event, call: Call) -> Origin {
    if let Call::Helper(id) = call {
        let is_lookup = helpers::by_id(id)
            .is_some_and(|helper| helper.signature_in(env.place.prog_type).ret.kind == RetKind::MapValue);
        if is_lookup {
            let map = event.map.and_then(|map| env.maps.get(map as usize)?.idx);
            return Origin::Lookup { map };
        }
    }
    Origin::Call { function: call_name(env, event.at, call) }
}
