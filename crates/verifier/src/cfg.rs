//! The shape of the program: every jump lands on an instruction of its function, nothing is unreachable, no function calls
//! itself; and where the exploration keeps states.
//!
//! | mark | what it is for |
//! |---|---|
//! | [`Mark::PRUNE`] | the state here is compared with earlier ones, and maybe kept |
//! | [`Mark::JUMP`] | how control came here must be remembered to follow precision back |
//! | [`Mark::FORCE`] | a state is always kept here: loops that converge by comparison need it |
//!
//! The places are the kernel's, so that the number of instructions looked at is about the kernel's too.

use skep_abi::helpers::{self, HelperFlags};
use skep_abi::kfunc::KfuncFlags;
use skep_isa::{Call, Insn, InsnIdx, Wide};
use skep_object::{ExternKind, RelocKind};

use crate::Code;
use crate::env::Env;
use crate::stop::Stop;

/// Marks of an instruction, a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mark(pub(crate) u8);

impl Mark {
    pub(crate) const PRUNE: u8 = 1;
    pub(crate) const JUMP: u8 = 2;
    pub(crate) const FORCE: u8 = 4;
    /// A helper that calls a function of the program before it returns.
    pub(crate) const CALLBACK: u8 = 8;
    /// Moves an iterator on.
    pub(crate) const ITER_NEXT: u8 = 16;
    pub(crate) const MAY_GOTO: u8 = 32;

    pub(crate) fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// What [`build`] finds out.
pub(crate) struct Cfg {
    pub(crate) marks: Vec<Mark>,
    /// By instruction: the number of the loop it is in, 0 for none. Nested loops have the outermost one's.
    pub(crate) loops: Vec<u32>,
    /// Functions such that each stands behind those it calls.
    pub(crate) callees_first: Vec<u32>,
    /// By function: the functions it calls or takes the address of.
    pub(crate) calls: Vec<Vec<u32>>,
}

/// At most two instructions can follow within a function.
pub(crate) fn successors(env: &Env<'_>, at: u32) -> ([u32; 2], usize) {
    let Some(insn) = env.insn(at) else { return ([0; 2], 0) };
    let next = at + insn.slots();
    match insn {
        Insn::Exit | Insn::JumpReg { .. } => ([0; 2], 0),
        Insn::Jump { .. } | Insn::JumpLong { .. } => match insn.target(InsnIdx(at)) {
            Some(to) => ([to.0, 0], 1),
            None => ([0; 2], 0),
        },
        Insn::JumpIf { .. } | Insn::MayGoto { .. } => match insn.target(InsnIdx(at)) {
            Some(to) => ([next, to.0], 2),
            None => ([next, 0], 1),
        },
        _ => ([next, 0], 1),
    }
}

/// The name of the kernel function that a call is of, where it can be told.
pub(crate) fn kfunc_name<'e>(env: &'e Env<'_>, at: u32, btf_id: i32) -> Option<&'e str> {
    match env.reloc(at) {
        Some(RelocKind::ExternCall(index)) => {
            let spec = env.extern_spec(index)?;
            matches!(spec.kind, ExternKind::Kfunc { .. }).then(|| spec.lookup_name())
        }
        Some(_) => None,
        None => env.kernel_btf?.name(skep_btf::TypeId(u32::try_from(btf_id).ok().filter(|id| *id > 0)?)).ok(),
    }
}

fn is_iter_next(name: &str) -> bool {
    name.starts_with("bpf_iter_") && name.ends_with("_next")
}

/// Checks the shape and sets the marks.
pub(crate) fn build(env: &mut Env<'_>) -> Result<Cfg, Stop> {
    check_jumps(env)?;
    let len = env.len() as usize;
    let mut marks = vec![Mark::default(); len];
    let mut mark = |at: u32, bits: u8| {
        if let Some(mark) = marks.get_mut(at as usize) {
            mark.0 |= bits;
        }
    };
    let mut seen = vec![false; len];
    let mut open = vec![0u32];
    seen[0] = true;
    let mut calls: Vec<Vec<u32>> = vec![Vec::new(); env.subprogs.len()];
    let mut effects: Vec<(bool, bool, bool, bool)> = vec![(false, false, false, false); env.subprogs.len()];
    while let Some(at) = open.pop() {
        let Some(insn) = env.insn(at) else { continue };
        let caller = env.subprog_of(at) as usize;
        let next = at + insn.slots();
        let mut callee = None;
        match insn {
            Insn::LoadWide { value: Wide::Func(_), .. } => {
                callee = insn.target(InsnIdx(at));
                mark(next, Mark::PRUNE | Mark::JUMP);
                mark(at, Mark::PRUNE);
            }
            Insn::Call(call) => {
                mark(next, Mark::PRUNE | Mark::JUMP);
                match call {
                    Call::Subprog(_) => {
                        callee = insn.target(InsnIdx(at));
                        mark(at, Mark::PRUNE);
                    }
                    Call::Helper(id) => {
                        if let Some(helper) = helpers::by_id(id) {
                            let flags = helper.signature_in(env.place.prog_type).flags;
                            if flags.contains(HelperFlags::LATER_CALLBACK) {
                                mark(at, Mark::PRUNE);
                            }
                            if flags.contains(HelperFlags::CALLBACK) {
                                mark(at, Mark::PRUNE | Mark::JUMP | Mark::FORCE | Mark::CALLBACK);
                            }
                            effects[caller].2 |= flags.contains(HelperFlags::CHANGES_PACKET);
                            effects[caller].3 |= flags.contains(HelperFlags::SLEEPS);
                            effects[caller].0 |= id == 12;
                        }
                    }
                    Call::Kfunc { btf_id, .. } => {
                        let name = kfunc_name(env, at, btf_id);
                        effects[caller].2 |= name == Some("bpf_xdp_pull_data");
                        effects[caller].3 |= name
                            .and_then(skep_abi::kfuncs::by_name)
                            .is_some_and(|kfunc| kfunc.flags.contains(KfuncFlags::SLEEPABLE));
                        if name.is_some_and(is_iter_next) {
                            mark(at, Mark::PRUNE | Mark::FORCE | Mark::ITER_NEXT);
                        }
                    }
                }
            }
            Insn::LoadAbs { .. } | Insn::LoadInd { .. } => effects[caller].1 = true,
            Insn::Jump { .. } | Insn::JumpLong { .. } => {
                if let Some(to) = insn.target(InsnIdx(at)) {
                    mark(to.0, Mark::PRUNE | Mark::JUMP);
                }
            }
            Insn::JumpIf { .. } => {
                mark(at, Mark::PRUNE);
                if let Some(to) = insn.target(InsnIdx(at)) {
                    mark(to.0, Mark::PRUNE | Mark::JUMP);
                }
            }
            Insn::MayGoto { .. } => {
                mark(at, Mark::PRUNE | Mark::FORCE | Mark::MAY_GOTO);
                if let Some(to) = insn.target(InsnIdx(at)) {
                    mark(to.0, Mark::PRUNE | Mark::JUMP);
                }
            }
            Insn::JumpReg { .. } => return Err(Stop::unsupported("indirect jumps (gotox)").at(InsnIdx(at))),
            Insn::CallReg { .. } => {
                return Err(Stop::reject(Code::BadInstruction, "calls a function through a register")
                    .at(InsnIdx(at))
                    .title("functions cannot be called through pointers")
                    .help("call the functions by name; choose between them with if or switch"));
            }
            _ => {}
        }
        if let Some(target) = callee {
            mark(target.0, Mark::PRUNE | Mark::JUMP);
            if let Some(index) = env.subprog_at(target.0)
                && !calls[caller].contains(&index)
            {
                calls[caller].push(index);
            }
            if !std::mem::replace(&mut seen[target.as_usize()], true) {
                open.push(target.0);
            }
        }
        let (next, count) = successors(env, at);
        for &to in &next[..count] {
            if !std::mem::replace(&mut seen[to as usize], true) {
                open.push(to);
            }
        }
    }
    for (at, seen) in seen.iter().enumerate() {
        if !seen && !env.second[at] {
            return Err(Stop::reject(Code::UnreachableCode, "no path leads here")
                .at(InsnIdx(at as u32))
                .help("remove the code, or the jump that always goes past it; compile with -O2")
                .kernel(format!("unreachable insn {at}")));
        }
    }
    let callees_first = order(env, &calls)?;
    for &index in &callees_first {
        let mut merged = effects[index as usize];
        for &callee in &calls[index as usize] {
            let other = effects[callee as usize];
            merged.1 |= other.1;
            merged.2 |= other.2;
            merged.3 |= other.3;
        }
        effects[index as usize] = merged;
        if let Some(subprog) = env.subprogs.get_mut(index as usize) {
            (subprog.has_tail_call, subprog.has_ld_abs, subprog.changes_packet, subprog.might_sleep) = merged;
        }
    }
    let loops = find_loops(env, &marks);
    if !env.since(5, 3)
        && let Some(at) = loops.iter().position(|number| *number != 0)
    {
        return Err(Stop::reject(Code::KernelTooOld, "part of a loop")
            .at(InsnIdx(at as u32))
            .title(format!("Linux {} takes no loops; 5.3 is the first that does", env.kernel))
            .help("let the compiler unroll it: #pragma unroll")
            .kernel("back-edge from insn"));
    }
    Ok(Cfg { marks, loops, callees_first, calls })
}

/// Each function's jumps stay within it, and it ends in an exit or a jump.
fn check_jumps(env: &Env<'_>) -> Result<(), Stop> {
    for subprog in &env.subprogs {
        let mut last = None;
        for at in subprog.start..subprog.end {
            if env.second[at as usize] {
                continue;
            }
            let Some(insn) = env.insn(at) else { break };
            last = Some((at, insn));
            let is_jump =
                matches!(insn, Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpIf { .. } | Insn::MayGoto { .. });
            if !is_jump {
                continue;
            }
            let fits = insn.target(InsnIdx(at)).is_some_and(|to| {
                (subprog.start..subprog.end).contains(&to.0) && !env.second.get(to.as_usize()).is_some_and(|s| *s)
            });
            if !fits {
                return Err(Stop::reject(
                    Code::BadJump,
                    "jumps out of its function, or into the middle of an instruction",
                )
                .at(InsnIdx(at))
                .kernel("jump out of range"));
            }
        }
        if let Some((at, insn)) = last
            && !matches!(insn, Insn::Exit | Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpReg { .. })
        {
            return Err(Stop::reject(Code::FallsOffEnd, "the last instruction of the function")
                .at(InsnIdx(at))
                .help("end each function with a return; a call of a function that never returns is no end")
                .kernel("last insn is not an exit or jmp"));
        }
    }
    Ok(())
}

/// Functions such that callees stand first.
fn order(env: &Env<'_>, calls: &[Vec<u32>]) -> Result<Vec<u32>, Stop> {
    let mut state = vec![0u8; calls.len()];
    let mut out = Vec::with_capacity(calls.len());
    for root in 0..calls.len() {
        if state[root] != 0 {
            continue;
        }
        let mut open: Vec<(usize, usize)> = vec![(root, 0)];
        state[root] = 1;
        while let Some(top) = open.last_mut() {
            let (index, at) = *top;
            match calls[index].get(at) {
                Some(&callee) => {
                    top.1 += 1;
                    match state[callee as usize] {
                        0 => {
                            state[callee as usize] = 1;
                            open.push((callee as usize, 0));
                        }
                        1 => {
                            let name = env.subprog_name(callee);
                            let start = env.subprog(index as u32).map_or(0, |subprog| subprog.start);
                            return Err(Stop::reject(
                                Code::Recursion,
                                format!("{name} calls itself, maybe through others"),
                            )
                            .at(InsnIdx(start))
                            .help("use a loop with a bound; the stack has 512 bytes in all")
                            .kernel("recursive call / the call stack of 9 frames is too deep"));
                        }
                        _ => {}
                    }
                }
                None => {
                    state[index] = 2;
                    out.push(index as u32);
                    open.pop();
                }
            }
        }
    }
    Ok(out)
}

/// Numbers the strongly connected parts of the flow graph, from 1; 0 for what is in no cycle. Instructions whose callbacks are
/// looked at again and again count as cycles. Tarjan's algorithm without recursion.
fn find_loops(env: &Env<'_>, marks: &[Mark]) -> Vec<u32> {
    let len = env.len() as usize;
    const NONE: u32 = u32::MAX;
    let mut pre = vec![0u32; len];
    let mut low = vec![NONE; len];
    let mut out = vec![0u32; len];
    let mut stack: Vec<u32> = Vec::new();
    let mut dfs: Vec<(u32, usize)> = Vec::new();
    let (mut next_pre, mut next_loop) = (1u32, 1u32);
    for root in 0..len {
        if pre[root] != 0 || env.second[root] {
            continue;
        }
        dfs.push((root as u32, 0));
        while let Some(&(at, edge)) = dfs.last() {
            let v = at as usize;
            if edge == 0 && pre[v] == 0 {
                pre[v] = next_pre;
                low[v] = next_pre;
                next_pre += 1;
                stack.push(at);
            }
            let (next, count) = successors(env, at);
            if edge < count {
                if let Some(top) = dfs.last_mut() {
                    top.1 += 1;
                }
                let w = next[edge] as usize;
                if w >= len {
                    continue;
                }
                if pre[w] == 0 {
                    dfs.push((w as u32, 0));
                } else if low[w] != NONE {
                    low[v] = low[v].min(low[w]);
                }
                continue;
            }
            dfs.pop();
            if low[v] < pre[v] {
                if let Some(&(parent, _)) = dfs.last() {
                    low[parent as usize] = low[parent as usize].min(low[v]);
                }
                continue;
            }
            // `v` is the root of a component: it and all above it on the stack.
            let alone = stack.last() == Some(&at);
            let cyclic = !alone || next[..count].contains(&at) || marks[v].has(Mark::CALLBACK);
            while let Some(w) = stack.pop() {
                low[w as usize] = NONE;
                if cyclic {
                    out[w as usize] = next_loop;
                }
                if w == at {
                    break;
                }
            }
            if cyclic {
                next_loop += 1;
            }
            if let Some(&(parent, _)) = dfs.last() {
                let p = parent as usize;
                if low[v] != NONE {
                    low[p] = low[p].min(low[v]);
                }
            }
        }
    }
    out
}
