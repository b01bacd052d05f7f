//! Which numbers mattered: following a number back to where it came from.
//!
//! Most numbers in a program decide nothing about its safety. When one does (it is added to a pointer, it decides which way a
//! branch goes, it is a size), the instructions of the path are gone through backwards, and in each kept state on the way the
//! registers and stack slots that it was made from are marked. Only marked numbers are compared when a later path reaches that
//! state ([`crate::equal`]).
//!
//! The path back is known from the history: between two entries it is straight code. Where the way back is not understood,
//! every number of every earlier state is marked, which is always sound.

use skep_isa::{AluOp, Call, Insn, InsnIdx, Reg, Source};

use crate::cfg::Mark;
use crate::explore::{Root, Verifier};
use crate::state::{At, HistEntry, Linked, MAX_FRAMES, StateId, VerifierState};

const ARGS: u16 = 0b11_1110;

/// What is still to be followed back: by frame, registers and stack slots.
#[derive(Clone, Debug)]
struct Wanted {
    frame: usize,
    regs: [u16; MAX_FRAMES],
    slots: [u64; MAX_FRAMES],
}

/// The way back is not understood.
struct Lost;

impl Wanted {
    fn new(frame: usize) -> Wanted {
        Wanted { frame, regs: [0; MAX_FRAMES], slots: [0; MAX_FRAMES] }
    }

    fn is_empty(&self) -> bool {
        self.regs == [0; MAX_FRAMES] && self.slots == [0; MAX_FRAMES]
    }

    fn has(&self, reg: Reg) -> bool {
        self.regs[self.frame] >> reg.number() & 1 == 1
    }

    fn add(&mut self, reg: Reg) {
        if reg != Reg::R10 {
            self.regs[self.frame] |= 1 << reg.number();
        }
    }

    fn drop(&mut self, reg: Reg) {
        self.regs[self.frame] &= !(1 << reg.number());
    }

    fn place(&mut self, at: At) -> bool {
        let (frame, index) = (usize::from(at.frame), at.index);
        if at.is_slot { self.slots[frame] >> index & 1 == 1 } else { self.regs[frame] >> index & 1 == 1 }
    }

    /// If one of the linked places is wanted, all are.
    fn sync(&mut self, linked: Linked) {
        if linked.len() == 0 || !linked.iter().any(|at| self.place(at)) {
            return;
        }
        for at in linked.iter() {
            let frame = usize::from(at.frame);
            if at.is_slot {
                self.slots[frame] |= 1 << at.index;
            } else {
                self.regs[frame] |= 1 << at.index;
            }
        }
    }
}

/// The part of a state's way that lies behind its parent.
struct Stretch<'h> {
    first: u32,
    last: u32,
    history: &'h [HistEntry],
}

impl Verifier<'_, '_> {
    /// A number in a register of the present frame decides something.
    pub(crate) fn mark_precise(&mut self, reg: Reg) {
        if !self.env.privileged || self.replay.is_some() || !self.cur.reg(reg).is_scalar() {
            return;
        }
        let mut wanted = Wanted::new(self.cur.frames.depth());
        wanted.add(reg);
        self.follow_current(wanted);
    }

    /// The same for a number spilled on the stack of a frame.
    pub(crate) fn mark_slot_precise(&mut self, frame: usize, slot: usize) {
        if !self.env.privileged || self.replay.is_some() || frame >= MAX_FRAMES || slot >= 64 {
            return;
        }
        let mut wanted = Wanted::new(self.cur.frames.depth());
        wanted.slots[frame] |= 1 << slot;
        self.follow_current(wanted);
    }

    fn follow_current(&mut self, wanted: Wanted) {
        let history = std::mem::take(&mut self.cur.history);
        let stretch = Stretch { first: self.cur.first_insn, last: self.insn, history: &history };
        self.follow(wanted, &stretch, self.cur.parent);
        self.cur.history = history;
    }

    /// What mattered from a kept state on matters for a state that it covers, and so for where that came from. Whether
    /// anything was new.
    pub(crate) fn carry_precision(&mut self, from: StateId, to: &VerifierState) -> bool {
        if !self.env.privileged {
            return false;
        }
        let Some(wanted) = self.precise_in(from, to.frames.depth()) else { return false };
        let stretch = Stretch { first: to.first_insn, last: to.insn, history: &to.history };
        self.follow(wanted, &stretch, to.parent)
    }

    /// As [`Self::carry_precision`], to the present path.
    pub(crate) fn inherit_precision(&mut self, from: StateId) {
        if !self.env.privileged {
            return;
        }
        if let Some(wanted) = self.precise_in(from, self.cur.frames.depth()) {
            self.follow_current(wanted);
        }
    }

    /// The marks of a kept state.
    fn precise_in(&self, from: StateId, depth: usize) -> Option<Wanted> {
        let mut wanted = Wanted::new(depth);
        let old = self.stored(from)?;
        for (index, frame) in old.state.frames.iter().enumerate() {
            for (number, reg) in frame.regs.iter().enumerate().take(10) {
                if reg.is_scalar() {
                    wanted.regs[index] |= old.precise_regs[index] & 1 << number;
                }
            }
            for (number, slot) in frame.stack.iter().enumerate().take(64) {
                if slot.is_scalar_spill() {
                    wanted.slots[index] |= old.precise_slots[index] & 1 << number;
                }
            }
        }
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Marks every number in every state on the way.
    pub(crate) fn all_precise(&mut self, mut at: Option<StateId>) {
        while let Some(stored) = at.and_then(|id| self.stored_mut(id)) {
            stored.precise_regs = [u16::MAX; MAX_FRAMES];
            stored.precise_slots = [u64::MAX; MAX_FRAMES];
            at = stored.state.parent;
        }
    }

    fn follow(&mut self, mut wanted: Wanted, stretch: &Stretch<'_>, parent: Option<StateId>) -> bool {
        // The first instruction is where the number is wanted: what it does comes after.
        match self.walk(&mut wanted, stretch, true, None) {
            Err(Lost) => {
                self.all_precise(parent);
                return true;
            }
            Ok(()) if wanted.is_empty() => return false,
            Ok(()) => {}
        }
        let mut changed = false;
        let mut at = parent;
        let mut subsequent = stretch.first;
        while let Some(id) = at {
            let Some(stored) = self.stored_mut(id) else { break };
            changed |= mark_state(stored, &mut wanted);
            if wanted.is_empty() {
                return changed;
            }
            let history = std::mem::take(&mut stored.state.history);
            let (first, last, next) = (stored.state.first_insn, stored.state.last_insn, stored.state.parent);
            let stretch = Stretch { first, last, history: &history };
            let walked = self.walk(&mut wanted, &stretch, false, Some(subsequent));
            if let Some(stored) = self.stored_mut(id) {
                stored.state.history = history;
            }
            if walked.is_err() {
                self.all_precise(parent);
                return true;
            }
            if wanted.is_empty() {
                return changed;
            }
            subsequent = first;
            at = next;
        }
        // At the entry of a global function only its arguments are left to want, at that of the program nothing.
        let only_args =
            wanted.slots == [0; MAX_FRAMES] && wanted.regs[0] & !ARGS == 0 && wanted.regs[1..] == [0; MAX_FRAMES - 1];
        if !(only_args && matches!(self.root, Root::Global(_))) {
            self.all_precise(parent);
            changed = true;
        }
        changed
    }

    /// Goes back over the instructions of a stretch.
    fn walk(
        &self,
        wanted: &mut Wanted,
        stretch: &Stretch<'_>,
        skip_last: bool,
        subsequent: Option<u32>,
    ) -> Result<(), Lost> {
        let mut left = stretch.history.len();
        let mut at = stretch.last;
        let mut subsequent = subsequent;
        let mut skip = skip_last;
        loop {
            if !std::mem::take(&mut skip) {
                let entry = left.checked_sub(1).and_then(|i| stretch.history.get(i)).filter(|entry| entry.insn == at);
                self.back(wanted, at, subsequent, entry)?;
            }
            if wanted.is_empty() {
                return Ok(());
            }
            subsequent = Some(at);
            let top = left.checked_sub(1).and_then(|i| stretch.history.get(i)).filter(|entry| entry.insn == at);
            if at == stretch.first && (left == 0 || (left == 1 && top.is_some())) {
                return Ok(());
            }
            match top {
                Some(entry) => {
                    at = entry.prev;
                    left -= 1;
                }
                None => at = at.checked_sub(1).ok_or(Lost)?,
            }
        }
    }

    /// Goes back over one instruction.
    fn back(
        &self,
        wanted: &mut Wanted,
        at: u32,
        subsequent: Option<u32>,
        entry: Option<&HistEntry>,
    ) -> Result<(), Lost> {
        if self.env.second.get(at as usize).copied().unwrap_or(false) {
            return Ok(());
        }
        let Some(insn) = self.env.insn(at) else { return Err(Lost) };
        let linked = entry.map_or(Linked::default(), |entry| entry.linked);
        wanted.sync(linked);
        let stack = entry.and_then(|entry| entry.stack);
        match insn {
            Insn::Alu { op, dst, src, .. } if wanted.has(dst) => {
                if op == AluOp::Mov {
                    wanted.drop(dst);
                }
                if let Source::Reg(src) = src {
                    wanted.add(src);
                }
            }
            Insn::MovSx { dst, src, .. } if wanted.has(dst) => {
                wanted.drop(dst);
                wanted.add(src);
            }
            Insn::AddrSpaceCast { dst, .. } if wanted.has(dst) => return Err(Lost),
            Insn::LoadWide { dst, .. } => wanted.drop(dst),
            Insn::LoadAbs { .. } | Insn::LoadInd { .. } if wanted.has(Reg::R0) => return Err(Lost),
            Insn::Load { dst, .. } | Insn::LoadSx { dst, .. } | Insn::LoadAcquire { dst, .. } if wanted.has(dst) => {
                wanted.drop(dst);
                if let Some((frame, slot)) = stack {
                    wanted.slots[usize::from(frame)] |= 1 << slot;
                }
            }
            Insn::Store { base, src, .. } => {
                let src = match src {
                    Source::Reg(src) => Some(src),
                    Source::Imm(_) => None,
                };
                store(wanted, base, src, stack)?;
            }
            Insn::StoreRelease { base, src, .. } | Insn::Atomic { base, src, .. } => {
                store(wanted, base, Some(src), stack)?;
            }
            Insn::JumpIf { dst, src, .. } => {
                if let Source::Reg(src) = src
                    && (wanted.has(dst) || wanted.has(src))
                {
                    wanted.add(dst);
                    wanted.add(src);
                }
            }
            Insn::Call(call) => self.back_over_call(wanted, at, subsequent, call)?,
            Insn::Exit => {
                let calls_back = subsequent.is_some_and(|next| self.cfg.marks[next as usize].has(Mark::CALLBACK));
                if calls_back {
                    wanted.regs[wanted.frame] &= !ARGS;
                }
                if wanted.regs[wanted.frame] & ARGS != 0 {
                    return Err(Lost);
                }
                let from_call = subsequent.and_then(|next| next.checked_sub(1)).is_some_and(|call| {
                    matches!(self.env.insn(call), Some(Insn::Call(Call::Subprog(_))))
                        && !self.env.second.get(call as usize).copied().unwrap_or(false)
                });
                let result = from_call && wanted.has(Reg::R0);
                wanted.drop(Reg::R0);
                if wanted.frame + 1 >= MAX_FRAMES {
                    return Err(Lost);
                }
                wanted.frame += 1;
                if result {
                    wanted.add(Reg::R0);
                }
                return Ok(());
            }
            _ => {}
        }
        wanted.sync(linked);
        Ok(())
    }

    fn back_over_call(&self, wanted: &mut Wanted, at: u32, subsequent: Option<u32>, call: Call) -> Result<(), Lost> {
        let leave_frame = |wanted: &mut Wanted| {
            let below = wanted.frame.checked_sub(1).ok_or(Lost)?;
            wanted.frame = below;
            Ok(())
        };
        // A tail call out of a function, after which its caller goes on.
        if call == Call::Helper(12) && subsequent.is_some_and(|next| next != at + 1) {
            return Err(Lost);
        }
        if let Call::Subprog(_) = call {
            let callee = self.env.insn(at).and_then(|insn| insn.target(InsnIdx(at)));
            let callee =
                callee.and_then(|target| self.env.subprog_at(target.0)).and_then(|index| self.env.subprog(index));
            if callee.is_some_and(|subprog| subprog.global) {
                if wanted.regs[wanted.frame] & ARGS != 0 {
                    return Err(Lost);
                }
                wanted.drop(Reg::R0);
                return Ok(());
            }
            let frame = wanted.frame;
            if wanted.regs[frame] & !ARGS != 0 || wanted.slots[frame] != 0 {
                return Err(Lost);
            }
            let args = std::mem::take(&mut wanted.regs[frame]);
            leave_frame(wanted)?;
            wanted.regs[wanted.frame] |= args;
            return Ok(());
        }
        let is_callback = self.cfg.marks[at as usize].has(Mark::CALLBACK);
        if is_callback && subsequent.is_some_and(|next| next != at + 1) {
            let frame = wanted.frame;
            if wanted.regs[frame] & !ARGS != 0 || wanted.slots[frame] != 0 {
                return Err(Lost);
            }
            wanted.regs[frame] = 0;
            return leave_frame(wanted);
        }
        wanted.drop(Reg::R0);
        if wanted.regs[wanted.frame] & ARGS != 0 {
            return Err(Lost);
        }
        Ok(())
    }
}

fn store(wanted: &mut Wanted, base: Reg, src: Option<Reg>, stack: Option<(u8, u8)>) -> Result<(), Lost> {
    if wanted.has(base) {
        return Err(Lost);
    }
    let Some((frame, slot)) = stack else { return Ok(()) };
    let slots = &mut wanted.slots[usize::from(frame)];
    if *slots >> slot & 1 == 0 {
        return Ok(());
    }
    *slots &= !(1 << slot);
    if let Some(src) = src {
        wanted.add(src);
    }
    Ok(())
}

/// Marks what is wanted in a kept state, and stops wanting what was marked before or is no number there.
fn mark_state(stored: &mut crate::explore::Stored, wanted: &mut Wanted) -> bool {
    let mut changed = false;
    for index in 0..MAX_FRAMES {
        let Some(frame) = stored.state.frames.get(index) else {
            wanted.regs[index] = 0;
            wanted.slots[index] = 0;
            continue;
        };
        if wanted.regs[index] != 0 {
            let numbers = frame
                .regs
                .iter()
                .enumerate()
                .fold(0u16, |mask, (number, reg)| mask | u16::from(reg.is_scalar()) << number);
            wanted.regs[index] &= numbers & !stored.precise_regs[index];
            changed |= wanted.regs[index] != 0;
            stored.precise_regs[index] |= wanted.regs[index];
        }
        if wanted.slots[index] != 0 {
            let numbers = frame
                .stack
                .iter()
                .enumerate()
                .take(64)
                .fold(0u64, |mask, (number, slot)| mask | u64::from(slot.is_scalar_spill()) << number);
            wanted.slots[index] &= numbers & !stored.precise_slots[index];
            changed |= wanted.slots[index] != 0;
            stored.precise_slots[index] |= wanted.slots[index];
        }
    }
    changed
}
