//! The steps of a path as remarks on the lines where they happen.

use super::MAX_STEPS;
use super::names::Names;
use super::source::{Mark, Sources};
use crate::scalar::Scalar;
use crate::{LostBy, Origin, Place, Rejection, Step, StepKind};
use skep_isa::{Insn, InsnIdx, decode_at};
use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};

/// Branches that are shown, the last ones.
const MAX_BRANCHES: usize = 4;

/// Remarks in the order in which they happen, those that say most.
pub(super) fn marks(sources: &Sources<'_>, rejection: &Rejection, names: &Names) -> Vec<Mark> {
    let mut said: Vec<(Discriminant<StepKind>, Mark)> = Vec::new();
    let mut pointers: HashSet<Place> = HashSet::new();
    for step in &rejection.path {
        let text = remark(sources, step, names, &pointers);
        follow(step, &mut pointers);
        let Some(text) = text else { continue };
        // A loop passes the same place often: the last time counts.
        let kind = discriminant(&step.kind);
        said.retain(|(other, mark)| mark.insn != step.insn || *other != kind);
        said.push((kind, Mark { insn: step.insn, text: super::clean(&text), primary: false }));
    }
    let is_branch = |kind: &Discriminant<StepKind>| *kind == discriminant(&StepKind::Branch { taken: true });
    let mut branches = said.iter().filter(|(kind, _)| is_branch(kind)).count();
    let mut others = said.len() - branches;
    said.retain(|(kind, _)| {
        let (left, most) = match is_branch(kind) {
            true => (&mut branches, MAX_BRANCHES),
            false => (&mut others, MAX_STEPS - MAX_BRANCHES),
        };
        *left -= 1;
        *left < most
    });
    said.into_iter().map(|(_, mark)| mark).collect()
}

/// Keeps track of which of the places in question hold addresses.
fn follow(step: &Step, pointers: &mut HashSet<Place>) {
    let (place, is_pointer) = match &step.kind {
        StepKind::Origin { place, what } => {
            let is_pointer = match what {
                Origin::Lookup { .. } | Origin::Map { .. } | Origin::Stack => true,
                Origin::Context { field, .. } => matches!(field, Some("data" | "data_end" | "data_meta")),
                _ => false,
            };
            (*place, is_pointer)
        }
        StepKind::Copied { from, to } => (*to, pointers.contains(from)),
        _ => return,
    };
    if is_pointer {
        pointers.insert(place);
    } else {
        pointers.remove(&place);
    }
}

/// `7`, `between 0 and 252, a multiple of 4`.
fn bounds(number: &Scalar) -> String {
    if let Some(value) = number.as_const() {
        return value.cast_signed().to_string();
    }
    if number.is_unknown() {
        return "any number".to_owned();
    }
    let mut text = if number.smin < 0 && (number.smin, number.smax) != (i64::MIN, i64::MAX) {
        format!("between {} and {}", number.smin, number.smax)
    } else {
        format!("between {} and {}", number.umin, number.umax)
    };
    match number.tnum.max().trailing_zeros() {
        0 => {}
        zeros => text.push_str(&format!(", a multiple of {}", 1_u64 << zeros.min(63))),
    }
    text
}

fn remark(sources: &Sources<'_>, step: &Step, names: &Names, pointers: &HashSet<Place>) -> Option<String> {
    let (spec, program) = (sources.spec, sources.program);
    let name = |place: Place| match (names.get(place), place) {
        (Some(name), _) => format!("`{name}`"),
        (None, Place::Reg(register)) => format!("r{}", register.number()),
        (None, Place::Stack(offset)) => format!("the stack at r10{offset:+}"),
    };
    Some(match &step.kind {
        StepKind::Branch { taken } => return branch(sources, step.insn, *taken),
        StepKind::Origin { place, what } => {
            let it = name(*place);
            match what {
                Origin::Lookup { map } => match map.and_then(|map| spec.maps.get(map.0)) {
                    Some(map) => {
                        format!("{it} is looked up in map `{}` here: null if there is no such element", map.name)
                    }
                    None => format!("{it} is looked up here: null if there is no such element"),
                },
                Origin::Context { field: Some(field), .. } => {
                    format!("{it} is loaded from `{field}` of the context here")
                }
                Origin::Context { field: None, offset } => {
                    format!("{it} is loaded from the context here, byte {offset}")
                }
                Origin::Call { function } => format!("{it} is what `{function}` returns here"),
                Origin::Map { map, value_offset } => match (spec.maps.get(map.0), value_offset) {
                    (Some(map), None) => format!("{it} is map `{}` here", map.name),
                    (Some(map), Some(offset)) => {
                        let var =
                            map.vars.iter().find(|var| offset.checked_sub(var.offset).is_some_and(|at| at < var.size));
                        match var {
                            Some(var) => format!("{it} is the address of `{}` here", var.name),
                            None => format!("{it} is an address in `{}` here", map.name),
                        }
                    }
                    (None, _) => format!("{it} is the address of a map here"),
                },
                // In C the constant stands in the line anyway.
                Origin::Constant(_) if names.get(*place).is_none() && sources.line(step.insn).is_some() => return None,
                Origin::Constant(value) => {
                    let value = value.cast_signed();
                    format!("{it} is set to {value} here")
                }
                Origin::Memory => format!("{it} is loaded from memory here: it may be any number of its size"),
                Origin::Argument(number) => format!("{it} is argument {number} of this function"),
                Origin::Stack => format!("{it} is an address on the stack here"),
                Origin::Uninitialised => format!("{it} has no value from here on"),
                Origin::Other => format!("{it} comes from here"),
            }
        }
        // A copy says little, but its names have been used.
        StepKind::Copied { .. } => return None,
        StepKind::CheckLost { place, by } => {
            let it = name(*place);
            match by {
                LostBy::Call { function } => {
                    format!("what was checked of {it} no longer holds after `{function}`: check again behind it")
                }
                LostBy::Write => format!("this write may change {it}: what was checked no longer holds"),
                LostBy::Release => format!("{it} may no longer be used from here on"),
            }
        }
        // Constants are part of an address: only what is added beside them is known by bounds.
        StepKind::Changed { place, now } if pointers.contains(place) => match now.as_const() {
            Some(_) => return None,
            None => format!("what is added to {} is {} after this", name(*place), bounds(now)),
        },
        // What is computed on the way to an address is of no use to someone who reads C.
        StepKind::Changed { place, now }
            if now.is_const() && names.get(*place).is_none() && sources.line(step.insn).is_some() =>
        {
            return None;
        }
        StepKind::Changed { place, now } => format!("{} is {} after this", name(*place), bounds(now)),
        StepKind::Call { function } => match super::source::function_at(program, *function) {
            Some(function) => format!("calls `{function}`"),
            None => return None,
        },
        StepKind::Return => return None,
        StepKind::Acquired { by } => format!("taken by `{by}` here"),
    })
}

/// Where a path goes on. The compiler may have turned the condition round, so that the line is named rather than an outcome.
fn branch(sources: &Sources<'_>, insn: InsnIdx, taken: bool) -> Option<String> {
    let decoded = decode_at(&sources.program.insns, insn).ok()?;
    let next = if taken { decoded.target(insn)? } else { InsnIdx(insn.0 + decoded.slots()) };
    let condition = match decoded {
        Insn::JumpIf { .. } if taken => "jumps",
        Insn::JumpIf { .. } => "does not jump",
        _ => return None,
    };
    let here = sources.line(insn);
    let Some(here) = here else { return Some(format!("{condition} here")) };
    let there = sources.line(next)?;
    if here.file != there.file {
        return Some("this path goes on from here".to_owned());
    }
    // Within one line (`a && b`) there is nothing to say; the line of what is done next says it all.
    if here.line == there.line { None } else { Some(format!("this path goes on at line {}", there.line)) }
}
