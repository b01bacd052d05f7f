//! Following every path: the loop over instructions, the stack of paths that wait, and the states kept to recognise what was
//! seen.
//!
//! Depth first: at a fork the other way is put on a stack with a copy of the state. At the places that [`crate::cfg`] marks the
//! state is compared with those kept there ([`crate::equal`]); a path that sees nothing new ends. A kept state counts the paths
//! that still go on from it; while there are any, meeting it again means a loop.
//!
//! Loops that end by other means than numbers (iterators, `may_goto`, callbacks) are left as soon as a turn sees no more than an
//! earlier one. What that earlier turn was precise about is known only when the whole loop is done, so the places where such
//! turns were cut off ([`Backedge`]) are kept until then, and precision is carried over them to a fixed point. The kernel's
//! scheme, with its numbers for when to keep and when to drop a state.

use std::collections::HashMap;
use std::rc::Rc;

use skep_isa::{Insn, InsnIdx, Reg};

use crate::cfg::{Cfg, Mark};
use crate::env::Env;
use crate::equal::{Comparison, Exact, IdMap, iterator_depths_differ, states_equal};
use crate::live::Live;
use crate::state::{
    ByteKind, Duties, Frames, FuncState, HistEntry, Linked, MAX_FRAMES, PathNode, RegState, StateId, VerifierState,
};
use crate::stop::Stop;
use crate::{Code, Stats, TraceEvent, TraceValue};

/// A state that is kept at an instruction.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: VerifierState,
    /// Paths that still go on from here.
    pub(crate) branches: u32,
    /// By frame: registers whose number decided something.
    pub(crate) precise_regs: [u16; MAX_FRAMES],
    /// By frame: stack slots whose number decided something.
    pub(crate) precise_slots: [u64; MAX_FRAMES],
    hits: u32,
    misses: u32,
    /// Whether it is still compared with.
    listed: bool,
}

/// How the present instruction goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// At the instruction behind it.
    Next,
    /// There.
    Goto(u32),
    /// The path ends here.
    End,
}

/// A path that ended within a loop because an earlier turn saw as much.
#[derive(Debug)]
struct Backedge {
    state: VerifierState,
    equal: StateId,
}

/// Where a loop runs: the calls that lead to it, and its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct LoopKey {
    callsites: [u32; MAX_FRAMES],
    number: u32,
}

#[derive(Debug, Default)]
struct LoopVisit {
    entry: Option<StateId>,
    backedges: Vec<Backedge>,
}

/// What the exploration started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Root {
    /// The entry function.
    Main,
    /// A global function, on its own.
    Global(u32),
}

/// Decisions to be taken again, to see one path a second time.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Where, and which way.
    pub(crate) decisions: Vec<(u32, u32)>,
    pub(crate) next: usize,
}

/// A check in progress.
pub(crate) struct Verifier<'e, 'a> {
    pub(crate) env: &'e Env<'a>,
    pub(crate) cfg: &'e Cfg,
    pub(crate) live: &'e Live,
    /// The state on the present path.
    pub(crate) cur: VerifierState,
    /// The present instruction.
    pub(crate) insn: u32,
    /// The one before it.
    pub(crate) prev: u32,
    /// The last id given.
    pub(crate) last_id: u32,
    /// Whether the present instruction has an entry in the history already.
    hist_open: bool,
    pub(crate) root: Root,
    /// Global functions that were called and are to be checked.
    pub(crate) globals_called: Vec<u32>,
    /// By function: bytes of stack used.
    pub(crate) stack_depths: Vec<u32>,
    /// By function: whether the kernel calls it later.
    pub(crate) async_callbacks: Vec<bool>,
    /// By instruction: the kind of pointer it accesses, where the kernel must know (0: not seen yet).
    pub(crate) pointer_kinds: Vec<u8>,
    /// Bytes of the caller's context that are accessed.
    pub(crate) caller_context: u32,
    /// Arguments by the target's types.
    pub(crate) typed: Option<crate::ctx::TypedContext>,
    pending: Vec<VerifierState>,
    explored: Vec<Vec<StateId>>,
    pub(crate) states: Vec<Option<Stored>>,
    free_states: Vec<u32>,
    live_states: u32,
    loops: HashMap<LoopKey, LoopVisit>,
    ids: IdMap,
    jumps: u32,
    jumps_at_state: u32,
    insns_at_state: u32,
    pub(crate) stats: Stats,
    pub(crate) complexity: Vec<u32>,
    pub(crate) warnings: Vec<String>,
    pub(crate) replay: Option<Replay>,
    /// What a replay finds out.
    pub(crate) recorder: Option<crate::record::Recorder>,
}

/// Reads of stack that was never written are allowed to privileged programs from here on.
const UNINIT_STACK_SINCE: (u16, u16) = (6, 3);

impl<'e, 'a> Verifier<'e, 'a> {
    pub(crate) fn new(env: &'e Env<'a>, cfg: &'e Cfg, live: &'e Live) -> Verifier<'e, 'a> {
        let complexity = if env.options.want_complexity { vec![0; env.insns.len()] } else { Vec::new() };
        Verifier {
            env,
            cfg,
            live,
            cur: entry_state(FuncState::new(InsnIdx(0), 0, 0), 0),
            insn: 0,
            prev: 0,
            last_id: 0,
            hist_open: false,
            root: Root::Main,
            globals_called: Vec::new(),
            stack_depths: vec![0; env.subprogs.len()],
            async_callbacks: vec![false; env.subprogs.len()],
            pointer_kinds: vec![0; env.insns.len()],
            caller_context: 0,
            typed: None,
            pending: Vec::new(),
            explored: vec![Vec::new(); env.insns.len()],
            states: Vec::new(),
            free_states: Vec::new(),
            live_states: 0,
            loops: HashMap::new(),
            ids: IdMap::default(),
            jumps: 0,
            jumps_at_state: 0,
            insns_at_state: 0,
            stats: Stats::default(),
            complexity,
            warnings: Vec::new(),
            replay: None,
            recorder: None,
        }
    }

    /// Checks the entry function, then each global function that is called.
    pub(crate) fn run(&mut self) -> Result<(), Stop> {
        self.typed = crate::ctx::typed_context(self.env)?;
        self.start(Root::Main)?;
        let mut done = 0;
        while let Some(&index) = self.globals_called.get(done) {
            done += 1;
            self.start(Root::Global(index))?;
        }
        self.check_stack_depth()
    }

    /// Checks from one entry.
    pub(crate) fn start(&mut self, root: Root) -> Result<(), Stop> {
        self.root = root;
        self.pending.clear();
        self.states.clear();
        self.free_states.clear();
        self.live_states = 0;
        self.loops.clear();
        self.explored.iter_mut().for_each(Vec::clear);
        let (subprog, start) = match root {
            Root::Main => (0, 0),
            Root::Global(index) => (index, self.env.subprog(index).map_or(0, |subprog| subprog.start)),
        };
        self.cur = entry_state(FuncState::new(InsnIdx(0), 0, subprog), start);
        self.cur.sleepable = self.env.place.sleepable;
        self.insn = start;
        self.prev = 0;
        self.enter_root(root)?;
        self.explore()
    }

    fn explore(&mut self) -> Result<(), Stop> {
        loop {
            self.hist_open = false;
            let at = self.insn;
            let Some(insn) = self.env.insn(at) else {
                return Err(Stop::reject(Code::FallsOffEnd, "the next instruction is outside of the program")
                    .at(InsnIdx(self.prev)));
            };
            self.stats.insns_processed += 1;
            if self.stats.insns_processed > self.env.options.limits.insns {
                return Err(Stop::reject(Code::TooComplex, "the check got this far")
                    .title(format!(
                        "the program is too complex: {} instructions were looked at along its paths",
                        self.env.options.limits.insns
                    ))
                    .help("make loops shorter or use bpf_loop(); put code that runs in many states into a global function; bound numbers before branching on them")
                    .kernel("BPF program is too large. Processed 1000001 insn"));
            }
            if let Some(count) = self.complexity.get_mut(at as usize) {
                *count = count.saturating_add(1);
            }
            self.cur.path_len = self.cur.path_len.saturating_add(1);
            self.cur.last_insn = self.prev;
            self.cur.insn = at;
            let mark = self.cfg.marks[at as usize];
            if mark.has(Mark::PRUNE) && self.replay.is_none() && self.seen_before(at, mark)? {
                if !self.next_path()? {
                    return Ok(());
                }
                continue;
            }
            if mark.has(Mark::JUMP) {
                self.push_history(None, Linked::default());
            }
            if self.env.options.trace.is_some() && self.replay.is_none() {
                self.trace();
            }
            let pending = self.pending.len();
            let flow = self.execute(at, insn)?;
            let flow = if self.replay.is_some() { self.decide_again(at, flow, pending) } else { flow };
            if let Some(recorder) = &mut self.recorder {
                recorder.after(&self.cur, flow);
            }
            match flow {
                Flow::Next => {
                    self.prev = at;
                    self.insn = at + insn.slots();
                }
                Flow::Goto(to) => {
                    self.prev = at;
                    self.insn = to;
                }
                Flow::End => {
                    if !self.next_path()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The present path is done: goes on with one that waits. `false` when there is none.
    fn next_path(&mut self) -> Result<bool, Stop> {
        self.stats.longest_path = self.stats.longest_path.max(self.cur.path_len);
        if self.replay.is_some() {
            return Ok(false);
        }
        let parent = self.cur.parent;
        self.leave(parent)?;
        let Some(state) = self.pending.pop() else { return Ok(false) };
        self.cur = state;
        self.insn = self.cur.insn;
        self.prev = self.cur.last_insn;
        Ok(true)
    }

    /// Puts a copy of the present state aside, to go on at `next` later. `way` tells it apart from the path that goes on now.
    /// Returns it, to be changed.
    pub(crate) fn fork(&mut self, next: u32, way: u32) -> Result<&mut VerifierState, Stop> {
        let mut other = self.cur.clone();
        other.insn = next;
        other.last_insn = self.insn;
        let parent = self.cur.path.clone();
        other.path = Some(Rc::new(PathNode { parent: parent.clone(), insn: self.insn, way }));
        self.cur.path = Some(Rc::new(PathNode { parent, insn: self.insn, way: 0 }));
        if let Some(parent) = other.parent.and_then(|id| self.stored_mut(id)) {
            parent.branches += 1;
        }
        self.pending.push(other);
        let count = self.pending.len() as u32;
        self.stats.peak_pending = self.stats.peak_pending.max(count);
        if count > self.env.options.limits.jumps {
            return Err(Stop::reject(Code::TooManyBranches, "the branch that is one too many")
                .help("split the program with tail calls or global functions")
                .kernel(format!("The sequence of {} jumps is too complex.", self.env.options.limits.jumps)));
        }
        match self.pending.last_mut() {
            Some(state) => Ok(state),
            None => Err(Stop::unsupported("more branches than memory")),
        }
    }

    /// The path just put aside by [`Self::fork`], to be changed beside the present one; [`Self::put_fork`] puts it back.
    pub(crate) fn take_fork(&mut self) -> Option<VerifierState> {
        self.pending.pop()
    }

    pub(crate) fn put_fork(&mut self, state: VerifierState) {
        self.pending.push(state);
    }

    /// In a replay: takes the way that was taken the first time.
    fn decide_again(&mut self, at: u32, flow: Flow, pending: usize) -> Flow {
        let mut forks: Vec<VerifierState> = self.pending.drain(pending..).collect();
        let Some(replay) = &mut self.replay else { return flow };
        for index in 0..forks.len() {
            let Some(&(insn, way)) = replay.decisions.get(replay.next) else { return flow };
            if insn != at {
                return flow;
            }
            replay.next += 1;
            if way != 0 {
                self.cur = forks.swap_remove(index);
                return Flow::Goto(self.cur.insn);
            }
        }
        flow
    }

    pub(crate) fn stored(&self, id: StateId) -> Option<&Stored> {
        self.states.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn stored_mut(&mut self, id: StateId) -> Option<&mut Stored> {
        self.states.get_mut(id.0 as usize)?.as_mut()
    }

    /// A new identity.
    pub(crate) fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn uninit_stack_readable(&self) -> bool {
        self.env.privileged && self.env.since(UNINIT_STACK_SINCE.0, UNINIT_STACK_SINCE.1)
    }

    pub(crate) fn count_jump(&mut self) {
        self.jumps += 1;
    }

    /// Remembers the present instruction, so that precision can be followed back over it.
    pub(crate) fn push_history(&mut self, stack: Option<(u8, u8)>, linked: Linked) {
        if self.hist_open {
            if let Some(entry) = self.cur.history.last_mut() {
                if stack.is_some() {
                    entry.stack = stack;
                }
                if linked.len() > 0 {
                    entry.linked = linked;
                }
            }
            return;
        }
        self.hist_open = true;
        self.cur.history.push(HistEntry { insn: self.insn, prev: self.prev, stack, linked });
    }

    /// Whether this state was seen before; if not, it may be kept.
    fn seen_before(&mut self, at: u32, mark: Mark) -> Result<bool, Stop> {
        let force = mark.has(Mark::FORCE) || self.cur.history.len() > 40;
        let since_jumps = self.jumps - self.jumps_at_state;
        let since_insns = self.stats.insns_processed - self.insns_at_state;
        let mut keep = force || (since_jumps >= 2 && since_insns >= 8);
        let mut index = 0;
        while let Some(&id) = self.explored.get(at as usize).and_then(|list| list.get(index)) {
            let Some(stored) = self.states.get(id.0 as usize).and_then(Option::as_ref) else {
                index += 1;
                continue;
            };
            let mut hit = None;
            if stored.branches > 0 {
                let (before, now) = (stored.state.top(), self.cur.top());
                let other_entry = before.in_async_callback && before.async_entries != now.async_entries;
                let same_may_goto = stored.state.may_goto_depth == self.cur.may_goto_depth;
                let same_unroll = stored.state.callback_unroll == self.cur.callback_unroll;
                if other_entry {
                    // Another call of the callback: no loop.
                } else if mark.has(Mark::ITER_NEXT) {
                    if self.equal(id, Exact::Range) && self.iterator_is_active() {
                        hit = Some(true);
                    }
                } else if mark.has(Mark::CALLBACK) {
                    if self.equal(id, Exact::Range) {
                        hit = Some(true);
                    }
                } else if mark.has(Mark::MAY_GOTO) && !same_may_goto && self.equal(id, Exact::Range) {
                    hit = Some(true);
                } else if same_may_goto
                    && same_unroll
                    && self.equal(id, Exact::Yes)
                    && self.stored(id).is_some_and(|stored| !iterator_depths_differ(&stored.state, &self.cur))
                {
                    return Err(Stop::reject(Code::InfiniteLoop, "comes here again with nothing changed")
                        .help("make sure that each turn changes what the loop's condition tests, and that the condition bounds it")
                        .kernel(format!("infinite loop detected at insn {at}")));
                }
                if hit.is_none() && !force && since_jumps < 20 && since_insns < 100 {
                    keep = false;
                }
            } else {
                let in_loop = self.loop_is_open(id);
                if self.equal(id, if in_loop { Exact::Range } else { Exact::No }) {
                    hit = Some(in_loop);
                }
            }
            if let Some(in_loop) = hit {
                if let Some(stored) = self.stored_mut(id) {
                    stored.hits += 1;
                }
                if mark.has(Mark::JUMP) {
                    self.push_history(None, Linked::default());
                }
                self.inherit_precision(id);
                if in_loop {
                    self.add_backedge(id);
                }
                return Ok(true);
            }
            let forced = mark.has(Mark::FORCE);
            let Some(stored) = self.stored_mut(id) else { break };
            if keep {
                stored.misses += 1;
            }
            let patience = if forced && stored.branches > 0 { 64 } else { 3 };
            if stored.misses > stored.hits * patience + patience {
                stored.listed = false;
                if let Some(list) = self.explored.get_mut(at as usize) {
                    list.remove(index);
                }
                self.maybe_free(id);
                continue;
            }
            index += 1;
        }
        if keep {
            self.keep_state(at);
        }
        Ok(false)
    }

    fn equal(&mut self, id: StateId, exact: Exact) -> bool {
        let uninit_stack = self.uninit_stack_readable();
        // Whoever watches the registers wants numbers that hold on every path, those of pruned ones too.
        let all_precise = !self.env.privileged || self.env.options.trace.is_some();
        self.ids.reset(self.last_id);
        let Some(stored) = self.states.get(id.0 as usize).and_then(Option::as_ref) else { return false };
        states_equal(stored, &self.cur, Comparison { ids: &mut self.ids, exact, uninit_stack, all_precise })
    }

    /// At a call that moves an iterator on: whether the iterator in r1 still has elements.
    fn iterator_is_active(&self) -> bool {
        self.iterator_at(self.cur.reg(Reg::R1)).is_some_and(|active| active)
    }

    fn keep_state(&mut self, at: u32) {
        self.stats.total_states += 1;
        self.jumps_at_state = self.jumps;
        self.insns_at_state = self.stats.insns_processed;
        self.clear_single_ids();
        let history = std::mem::take(&mut self.cur.history);
        let mut state = self.cur.clone();
        state.history = history;
        self.clean(&mut state);
        let stored = Stored {
            state,
            branches: 1,
            precise_regs: [0; MAX_FRAMES],
            precise_slots: [0; MAX_FRAMES],
            hits: 0,
            misses: 0,
            listed: true,
        };
        let id = match self.free_states.pop() {
            Some(index) => {
                self.states[index as usize] = Some(stored);
                StateId(index)
            }
            None => {
                self.states.push(Some(stored));
                StateId(self.states.len() as u32 - 1)
            }
        };
        self.live_states += 1;
        self.stats.peak_states = self.stats.peak_states.max(self.live_states);
        self.cur.parent = Some(id);
        self.cur.first_insn = at;
        if let Some(list) = self.explored.get_mut(at as usize) {
            list.insert(0, id);
        }
        if let Some(key) = self.loop_key(id) {
            let visit = self.loops.entry(key).or_default();
            if visit.entry.is_none() {
                visit.entry = Some(id);
            }
        }
    }

    /// Takes out of a state what is never read again.
    fn clean(&self, state: &mut VerifierState) {
        let depth = state.frames.depth();
        for index in 0..=depth {
            let (regs, slots) = if index == depth {
                let at = state.insn as usize;
                (self.live.regs[at], self.live.slots[at])
            } else {
                let Some(callsite) = state.frames.get(index + 1).map(|frame| frame.callsite.as_usize()) else {
                    continue;
                };
                // Callees keep r6 to r9; what they read of the caller's stack is live before the call.
                let (mut regs, mut slots) = (0, self.live.slots.get(callsite).copied().unwrap_or(u64::MAX));
                let next = callsite + self.env.insns.get(callsite).map_or(1, |insn| insn.slots() as usize);
                regs |= self.live.regs.get(next).copied().unwrap_or(u16::MAX) & !0b11_1111;
                // The call of a callback is looked at again, with the arguments it has.
                regs |= self.live.regs.get(callsite).copied().unwrap_or(u16::MAX);
                slots |= self.live.slots.get(next).copied().unwrap_or(u64::MAX);
                (regs, slots)
            };
            let Some(frame) = state.frames.get(index) else { continue };
            let dead = |number: usize| number < 10 && regs >> number & 1 == 0;
            let dead_reg = frame.regs.iter().enumerate().any(|(number, reg)| dead(number) && reg.is_init());
            let dead_slot =
                |number: usize, bytes: &[ByteKind; 8]| slots >> number & 1 == 0 && *bytes != [ByteKind::Invalid; 8];
            let any_dead_slot = frame.stack.iter().enumerate().any(|(number, slot)| dead_slot(number, &slot.bytes));
            if !dead_reg && !any_dead_slot {
                continue;
            }
            let Some(frame) = state.frames.get_mut(index) else { continue };
            if dead_reg {
                for (number, reg) in frame.regs.iter_mut().enumerate() {
                    if dead(number) {
                        *reg = RegState::not_init();
                    }
                }
            }
            if any_dead_slot {
                for (number, slot) in Rc::make_mut(&mut frame.stack).iter_mut().enumerate() {
                    if dead_slot(number, &slot.bytes) {
                        slot.bytes = [ByteKind::Invalid; 8];
                        slot.reg = RegState::not_init();
                    }
                }
            }
        }
    }

    /// An id that only one number has links nothing.
    fn clear_single_ids(&mut self) {
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for frame in self.cur.frames.iter() {
            let spilled = frame.stack.iter().filter(|slot| slot.is_spill()).map(|slot| &slot.reg);
            for reg in frame.regs.iter().chain(spilled) {
                if reg.is_scalar() && reg.id != 0 {
                    match counts.iter_mut().find(|(id, _)| *id == reg.base_id()) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((reg.base_id(), 1)),
                    }
                }
            }
        }
        counts.retain(|(_, count)| *count == 1);
        if counts.is_empty() {
            return;
        }
        self.cur.change_regs(
            |reg| reg.is_scalar() && reg.id != 0 && counts.iter().any(|(id, _)| *id == reg.base_id()),
            |reg| {
                reg.id = 0;
                reg.off = 0;
            },
        );
    }

    /// A path that went on from this state is done.
    fn leave(&mut self, mut at: Option<StateId>) -> Result<(), Stop> {
        while let Some(id) = at {
            let Some(stored) = self.stored_mut(id) else { break };
            stored.branches = stored.branches.saturating_sub(1);
            if stored.branches > 0 {
                break;
            }
            at = stored.state.parent;
            self.close_loop(id);
            self.maybe_free(id);
        }
        Ok(())
    }

    /// A state that is neither compared with nor on the way to a path that goes on is given back.
    fn maybe_free(&mut self, id: StateId) {
        let done = self.stored(id).is_some_and(|stored| !stored.listed && stored.branches == 0);
        if done
            && !self.loop_is_open(id)
            && let Some(place) = self.states.get_mut(id.0 as usize)
        {
            *place = None;
            self.free_states.push(id.0);
            self.live_states = self.live_states.saturating_sub(1);
        }
    }

    /// The outermost loop that a stored state is in.
    fn loop_key(&self, id: StateId) -> Option<LoopKey> {
        let state = &self.stored(id)?.state;
        let mut key = LoopKey { callsites: [0; MAX_FRAMES], number: 0 };
        for index in 0..state.frames.len() {
            let at = match state.frames.get(index + 1) {
                Some(callee) => callee.callsite.0,
                None => state.insn,
            };
            let number = self.cfg.loops.get(at as usize).copied().unwrap_or(0);
            if number != 0 {
                key.number = number;
                return Some(key);
            }
            key.callsites[index] = at;
        }
        None
    }

    /// Whether the loop that a state is in was cut off somewhere and is not done.
    fn loop_is_open(&self, id: StateId) -> bool {
        if self.loops.is_empty() {
            return false;
        }
        self.loop_key(id).and_then(|key| self.loops.get(&key)).is_some_and(|visit| !visit.backedges.is_empty())
    }

    fn add_backedge(&mut self, equal: StateId) {
        let Some(key) = self.loop_key(equal) else { return };
        let state = self.cur.clone();
        if let Some(visit) = self.loops.get_mut(&key) {
            visit.backedges.push(Backedge { state, equal });
        }
    }

    /// If this state is where a loop was entered, the loop is done: what turned out to be precise is carried to all places
    /// where a turn was cut off, until nothing changes.
    fn close_loop(&mut self, id: StateId) {
        const MAX_ROUNDS: u32 = 64;
        let Some(key) = self.loop_key(id) else { return };
        let Some(visit) = self.loops.get_mut(&key) else { return };
        if visit.entry != Some(id) {
            return;
        }
        visit.entry = None;
        let backedges = std::mem::take(&mut visit.backedges);
        for round in 0.. {
            let mut changed = false;
            for edge in &backedges {
                if round >= MAX_ROUNDS {
                    self.all_precise(edge.state.parent);
                } else {
                    changed |= self.carry_precision(edge.equal, &edge.state);
                }
            }
            if !changed {
                break;
            }
        }
    }

    fn trace(&self) {
        let Some(callback) = self.env.options.trace else { return };
        let mut registers = [TraceValue::Unknown; 11];
        for (value, reg) in registers.iter_mut().zip(&self.cur.top().regs) {
            *value = match reg {
                reg if reg.is_scalar() => TraceValue::Number(reg.num),
                reg if reg.is_pointer() => TraceValue::Pointer,
                _ => TraceValue::Unknown,
            };
        }
        callback(&TraceEvent { insn: InsnIdx(self.insn), depth: self.cur.frames.depth(), registers: &registers });
    }

    /// One instruction; a replay notes what it finds.
    fn execute(&mut self, at: u32, insn: Insn) -> Result<Flow, Stop> {
        if let Some(recorder) = &mut self.recorder {
            recorder.before(at, insn, &self.cur);
        }
        self.execute_insn(at, insn)
    }

    /// The decisions that led to the present state, in order.
    pub(crate) fn decisions(&self) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        let mut at = self.cur.path.as_deref();
        while let Some(node) = at {
            out.push((node.insn, node.way));
            at = node.parent.as_deref();
        }
        out.reverse();
        out
    }
}

fn entry_state(frame: FuncState, start: u32) -> VerifierState {
    VerifierState {
        frames: Frames::new(frame),
        duties: Rc::new(Duties::default()),
        parent: None,
        insn: start,
        first_insn: start,
        last_insn: 0,
        history: Vec::new(),
        path: None,
        may_goto_depth: 0,
        callback_unroll: 0,
        path_len: 0,
        sleepable: false,
    }
}
