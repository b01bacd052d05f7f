//! Calls that need none: lookups in arrays become an addition, lookups in other maps go straight to the function made for
//! the map, the number of the CPU is read from the run.
//!
//! In fast code only. First every call is looked at once ([`Plans::of`]): which map, which index; and which operations
//! before it did nothing but prepare arguments that it does not need (the map's address, the key's). Those are left out.
//! A comparison of the result with null that follows is made part of the lookup.

use super::cold::Stub;
use super::{Asm, Emitted, Gp, R0, S9, S10, env_field};
use crate::code::{Code, Kind};
use crate::jit::flow::{Flow, ends_block, written};
use crate::jit::known::{Known, Value, is_pure, reads};
use crate::map::{ArrayFacts, LookupCall, Map};
use iced_x86::code_asm::{
    CodeLabel, dword_ptr, qword_ptr,
    registers::{gpr32::*, gpr64::*},
};
use skep_abi::MapType;
use skep_isa::JmpOp;
use std::collections::HashMap;
use std::sync::Arc;

const LOOKUP: u32 = 1;
const GET_SMP_PROCESSOR_ID: u32 = 8;

/// What to do in place of a call.
#[derive(Clone, Copy)]
pub(super) enum Plan {
    /// The index lies in the frame at this place, or where r2 points to. `cpus`: how many have values.
    Array {
        facts: ArrayFacts,
        key: Option<i64>,
        cpus: u32,
    },
    /// `cpus`: how many have values, where each has.
    Lookup {
        call: LookupCall,
        cpus: Option<u32>,
    },
    Cpu,
}

/// What to do in place of calls, and what to leave out.
#[derive(Default)]
pub(super) struct Plans {
    calls: HashMap<usize, Plan>,
    /// By operation; empty where nothing is left out.
    dropped: Vec<bool>,
}

impl Plans {
    pub(super) fn at(&self, op: usize) -> Option<Plan> {
        self.calls.get(&op).copied()
    }

    /// Whether the operation only prepares what nobody asks for.
    pub(super) fn drops(&self, op: usize) -> bool {
        self.dropped.get(op).copied().unwrap_or(false)
    }

    pub(super) fn of(code: &Code, flow: &Flow) -> Plans {
        let mut plans = Plans::default();
        let mut known = Known::nothing();
        for (at, (kind, op)) in code.kinds.iter().zip(&code.ops).enumerate() {
            if flow.entered[at] {
                known = Known::nothing();
            }
            if *kind == Kind::CallHelper
                && let Some(plan) = plan(code, op.target(), &known)
            {
                plans.calls.insert(at, plan);
                plans.drop_arguments(code, at, plan);
            }
            known.step(*kind, *op);
        }
        plans
    }

    /// Finds what only prepares arguments that the plan does not use: after a call r1 to r5 are gone, and r0 is new.
    fn drop_arguments(&mut self, code: &Code, call: usize, plan: Plan) {
        let uses_key = match plan {
            Plan::Array { key, .. } => key.is_none(),
            Plan::Lookup { .. } => true,
            Plan::Cpu => false,
        };
        let mut unused: u16 = if uses_key { 0b11_1011 } else { 0b11_1111 };
        let start = code.funcs.iter().map(|func| func.start as usize).rfind(|start| *start <= call).unwrap_or(0);
        for at in (start..call).rev() {
            let (kind, op) = (code.kinds[at], code.ops[at]);
            if ends_block(kind) {
                break;
            }
            let writes = written(kind, op.dst, op.src).map_or(0, |reg| 1u16 << reg);
            if is_pure(kind) && writes & unused != 0 {
                self.dropped.resize(code.ops.len(), false);
                self.dropped[at] = true;
            } else {
                unused = (unused | writes) & !reads(kind, op);
            }
        }
    }
}

/// What to do in place of a call, if anything.
fn plan(code: &Code, callee: usize, known: &Known) -> Option<Plan> {
    let callee = code.callees.get(callee).filter(|callee| callee.host.is_none())?;
    match callee.id {
        LOOKUP => lookup_plan(code, known),
        GET_SMP_PROCESSOR_ID => Some(Plan::Cpu),
        _ => None,
    }
}

fn lookup_plan(code: &Code, known: &Known) -> Option<Plan> {
    let Value::Const(address) = known.register(1) else { return None };
    let map: &Map = code.linked.maps.iter().find(|map| Arc::as_ptr(map).addr() as u64 == address)?;
    if let Some(facts) = map.array_facts() {
        let key = match known.register(2) {
            Value::Frame(off) if i32::try_from(off).is_ok() => Some(off),
            _ => None,
        };
        let fits = i32::try_from(facts.stride).is_ok() && facts.max_entries > 0;
        return fits.then_some(Plan::Array { facts, key, cpus: map.cpus() });
    }
    match map.map_type() {
        MapType::Hash | MapType::LruHash | MapType::LpmTrie => {
            Some(Plan::Lookup { call: map.lookup_call(), cpus: None })
        }
        MapType::PercpuHash | MapType::LruPercpuHash => {
            Some(Plan::Lookup { call: map.lookup_call(), cpus: Some(map.cpus()) })
        }
        _ => None,
    }
}

/// A comparison of r0 with null that follows a lookup: where it goes when there is nothing, and where when there is
/// something; `None` for on to the next operation.
#[derive(Clone, Copy)]
struct NullCheck {
    null: Option<CodeLabel>,
    there: Option<CodeLabel>,
}

impl Asm<'_> {
    /// Takes the comparison with null that follows, if one does.
    fn take_null_check(&mut self) -> NullCheck {
        let none = NullCheck { null: None, there: None };
        let next = self.at + 1;
        // In counted code it is a block of its own.
        if self.options.counted || self.flow.entered.get(next) != Some(&false) {
            return none;
        }
        let (Some(kind), Some(op)) = (self.code.kinds.get(next), self.code.ops.get(next)) else { return none };
        let Kind::JumpIf { op: jump @ (JmpOp::Eq | JmpOp::Ne), imm: true, width: skep_isa::Width::W64 } = kind else {
            return none;
        };
        if op.dst != 0 || op.imm != 0 {
            return none;
        }
        self.skip = Some(next);
        let target = Some(self.label_of(op.target()));
        match jump {
            JmpOp::Eq => NullCheck { null: target, there: None },
            _ => NullCheck { null: None, there: target },
        }
    }

    /// Does what is planned in place of the call.
    pub(super) fn inlined(&mut self, plan: Plan) -> Emitted {
        match plan {
            Plan::Array { facts, key, cpus } => self.array_lookup(facts, key, cpus),
            Plan::Lookup { call, cpus } => self.direct_lookup(call, cpus),
            Plan::Cpu => self.a.mov(eax, dword_ptr(env_field!(cpu))),
        }
    }

    fn array_lookup(&mut self, facts: ArrayFacts, key: Option<i64>, cpus: u32) -> Emitted {
        let slot = key.and_then(|off| self.known.slot(off));
        let check = self.take_null_check();
        let per_cpu = facts.cpu_stride != 0;
        // Where to when there is nothing: made when it is first needed.
        let mut null = None;
        let index = match slot.map(|slot| slot.value) {
            Some(Value::Const(index)) => Some(index as u32),
            _ => None,
        };
        match index {
            Some(index) if index < facts.max_entries => {
                let at = facts.base.addr() + index as usize * facts.stride;
                self.mov_imm(R0, at as u64)?;
            }
            _ => {
                match (slot.and_then(|slot| slot.from), key) {
                    (Some(reg), _) => self.a.mov(eax, Gp(reg).r32())?,
                    (None, Some(off)) => self.a.mov(eax, dword_ptr(rbp + off as i32))?,
                    (None, None) => self.a.mov(eax, dword_ptr(rsi))?,
                }
                let bounded =
                    slot.is_some_and(|slot| matches!(slot.value, Value::AtMost(most) if most < facts.max_entries));
                if !bounded {
                    let label = *null.get_or_insert(self.a.create_label());
                    self.a.cmp(eax, facts.max_entries as i32)?;
                    self.a.jae(label)?;
                }
                self.mov_imm(S9, facts.base.addr() as u64)?;
                match facts.stride {
                    1 => self.a.add(rax, r9)?,
                    2 => self.a.lea(rax, qword_ptr(r9 + rax * 2))?,
                    4 => self.a.lea(rax, qword_ptr(r9 + rax * 4))?,
                    8 => self.a.lea(rax, qword_ptr(r9 + rax * 8))?,
                    stride => {
                        match stride.is_power_of_two() {
                            true => self.a.shl(rax, stride.trailing_zeros())?,
                            false => self.a.imul_3(rax, rax, stride as i32)?,
                        }
                        self.a.add(rax, r9)?;
                    }
                }
            }
        }
        if per_cpu {
            let label = *null.get_or_insert(self.a.create_label());
            self.a.mov(r10d, dword_ptr(env_field!(cpu)))?;
            self.a.cmp(r10d, cpus as i32)?;
            self.a.jae(label)?;
            if facts.cpu_stride.is_power_of_two() {
                self.a.shl(r10, facts.cpu_stride.trailing_zeros())?;
            } else if let Ok(stride) = i32::try_from(facts.cpu_stride) {
                self.a.imul_3(r10, r10, stride)?;
            } else {
                self.mov_imm(S9, facts.cpu_stride as u64)?;
                self.a.imul_2(r10, r9)?;
            }
            self.a.add(R0.r64(), S10.r64())?;
        }
        self.after_lookup(check, null)
    }

    /// Goes on after a lookup whose value's address is in r0; jumps to `null` were made where there is none.
    fn after_lookup(&mut self, check: NullCheck, null: Option<CodeLabel>) -> Emitted {
        let after = self.a.create_label();
        if let Some(label) = null {
            self.stubs.push(Stub::Null { label, to: check.null.unwrap_or(after) });
        }
        if let Some(there) = check.there {
            self.a.jmp(there)?;
        }
        if null.is_some() && check.null.is_none() {
            self.set_label(after)?;
        }
        Ok(())
    }

    fn direct_lookup(&mut self, call: LookupCall, cpus: Option<u32>) -> Emitted {
        self.a.mov(edx, dword_ptr(env_field!(cpu)))?;
        let mut null = None;
        if let Some(cpus) = cpus {
            let label = self.a.create_label();
            self.a.cmp(edx, cpus as i32)?;
            self.a.jae(label)?;
            null = Some(label);
        }
        self.mov_imm(Gp(1), call.object.addr() as u64)?;
        self.call_native(call.function as *const () as usize)?;
        self.after_lookup(NullCheck { null: None, there: None }, null)
    }
}
