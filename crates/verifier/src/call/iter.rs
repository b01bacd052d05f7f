//! Open-coded iterators: a struct on the stack that `bpf_iter_X_new` makes, `_next` moves on, `_destroy` ends.
//!
//! ```text
//! new      the struct's slots become RegKind::Iter(type); a reference that must be given back
//! next     a fork: one way the iterator is drained and r0 is null, the other way r0 points to an element
//! destroy  the reference is given back, the slots are plain stack again
//! ```
//!
//! The first (highest) slot has the reference in `ref_id` and the number of turns in `aux`; [`RegFlags::DRAINED`] and, for
//! iterators over what RCU protects, [`RegFlags::RCU`] stand in all of them. A loop is left as soon as a turn sees no more than
//! an earlier one ([`crate::explore`]); numbers that decided nothing are widened for that. Elements belong to the iterator's
//! reference: they are void once it is destroyed.

use skep_btf::TypeId;
use skep_isa::Reg;

use crate::Code;
use crate::alu::describe;
use crate::exec::name;
use crate::explore::Verifier;
use crate::stack::Stored;
use crate::state::{ByteKind, RegFlags, RegKind, RegState, StackSlot};
use crate::stop::Stop;

/// An iterator that an argument points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IterRef {
    frame: usize,
    first: usize,
    slots: usize,
    /// Its reference.
    pub(super) ref_id: u32,
    pub(super) drained: bool,
    /// Whether its elements are protected by RCU only.
    pub(super) rcu: bool,
}

/// The kernel's type of an iterator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IterType<'b> {
    pub(super) ty: TypeId,
    /// Such as `bpf_iter_num`.
    pub(super) name: &'b str,
    pub(super) slots: usize,
}

impl Verifier<'_, '_> {
    fn iter_place(&self, reg: Reg, ty: &IterType<'_>) -> Result<(RegState, usize, usize), Stop> {
        let state = *self.read(reg)?;
        if !matches!(state.kind, RegKind::Stack(_)) {
            return Err(Stop::reject(Code::Iterator, format!("{} holds {}", name(reg), describe(&state)))
                .title("an iterator is wanted, which is kept on the stack")
                .about(reg)
                .help(format!("declare a local `struct {}` and pass its address", ty.name))
                .kernel(format!("arg#{} expected pointer to an iterator on stack", reg.number() - 1)));
        }
        let place = self.stack_address(&state).and_then(|(frame, off)| {
            let first = usize::try_from((-off - 1) / 8).ok()?;
            (off % 8 == 0 && off < 0 && first + 1 >= ty.slots).then_some((frame, first))
        });
        match place {
            Some((frame, first)) => Ok((state, frame, first)),
            None => Err(Stop::reject(Code::Iterator, format!("{} points elsewhere", name(reg)))
                .title(format!(
                    "this is no place for a struct {}: {} bytes of stack, at a fixed multiple of 8",
                    ty.name,
                    8 * ty.slots
                ))
                .about(reg)
                .kernel("cannot pass in iter at an offset")),
        }
    }

    /// `bpf_iter_X_new`. `rcu`: its elements are protected by RCU only.
    pub(super) fn make_iterator(&mut self, reg: Reg, ty: &IterType<'_>, rcu: bool) -> Result<(), Stop> {
        let (state, frame, first) = self.iter_place(reg, ty)?;
        let range = first + 1 - ty.slots..=first;
        if range.clone().any(|index| self.slot(frame, index).bytes.contains(&ByteKind::Iter)) {
            return Err(Stop::reject(Code::Iterator, "an iterator is here already")
                .title("an iterator is made where there is one")
                .about(reg)
                .help("destroy it first, or use a variable of its own")
                .kernel(format!("expected uninitialized {} as arg #{}", kernel_name(ty.name), reg.number() - 1)));
        }
        for slot in 0..ty.slots {
            self.write_stack(&state, 8 * slot as i32, 8, Stored::Unknown)?;
        }
        let id = self.acquire_reference()?;
        let flags = match rcu {
            true if self.in_rcu() => RegFlags::RCU,
            true => RegFlags::UNTRUSTED,
            false => RegFlags::NONE,
        };
        for index in range {
            let Some(place) = self.slot_mut(frame, index) else { continue };
            place.bytes = [ByteKind::Iter; 8];
            let ref_id = if index == first { id } else { 0 };
            place.reg = RegState { ref_id, ..RegState::pointer(RegKind::Iter(ty.ty), flags) };
        }
        Ok(())
    }

    /// An argument that must be an iterator of this type that was made.
    pub(super) fn initialised_iterator(&self, reg: Reg, ty: &IterType<'_>, function: &str) -> Result<IterRef, Stop> {
        let (_, frame, first) = self.iter_place(reg, ty)?;
        let top = self.slot(frame, first);
        for index in first + 1 - ty.slots..=first {
            let slot = self.slot(frame, index);
            let whole = slot.bytes == [ByteKind::Iter; 8] && slot.reg.kind == RegKind::Iter(ty.ty);
            if !whole || (slot.reg.ref_id != 0) != (index == first) {
                return Err(Stop::reject(Code::Iterator, format!("no {} is here", ty.name))
                    .title("an iterator is used that was not made, or is gone")
                    .about(reg)
                    .help(format!("call {}_new() first, and {}_destroy() once at the end", ty.name, ty.name))
                    .kernel(format!("expected an initialized {} as arg #{}", kernel_name(ty.name), reg.number() - 1)));
            }
            if slot.reg.flags.any(RegFlags::UNTRUSTED) {
                return Err(Stop::reject(Code::Iterator, "the RCU section it was made in has ended")
                    .title("an iterator is used outside of its RCU section")
                    .about(reg)
                    .help("keep the whole loop, from new to destroy, between bpf_rcu_read_lock() and bpf_rcu_read_unlock()")
                    .kernel(format!("expected an RCU CS when using {function}")));
            }
        }
        Ok(IterRef {
            frame,
            first,
            slots: ty.slots,
            ref_id: top.reg.ref_id,
            drained: top.reg.flags.any(RegFlags::DRAINED),
            rcu: top.reg.flags.any(RegFlags::RCU),
        })
    }

    /// `bpf_iter_X_destroy`.
    pub(super) fn destroy_iterator(&mut self, iter: &IterRef) {
        self.release_reference(iter.ref_id);
        for index in iter.first + 1 - iter.slots..=iter.first {
            if let Some(place) = self.slot_mut(iter.frame, index) {
                *place = StackSlot::empty();
            }
        }
    }

    /// `bpf_iter_X_next`, once r0 holds the element or null: the fork.
    pub(super) fn move_iterator(&mut self, iter: &IterRef) -> Result<(), Stop> {
        if !iter.drained {
            let earlier = self.earlier_turn();
            let next = self.insn + 1;
            self.fork(next, 1)?;
            let Some(mut body) = self.take_fork() else { return Err(Stop::unsupported("a branch without a state")) };
            if let Some(frame) = body.frames.get_mut(iter.frame)
                && let Some(slot) = frame.slots_mut(iter.first + 1).get_mut(iter.first)
            {
                slot.reg.aux = slot.reg.aux.saturating_add(1);
            }
            if let Some(earlier) = earlier {
                self.widen(earlier, &mut body);
            }
            let element = body.reg_mut(Reg::R0);
            element.flags = element.flags.without(RegFlags::MAYBE_NULL);
            element.id = 0;
            self.put_fork(body);
            for index in iter.first + 1 - iter.slots..=iter.first {
                if let Some(place) = self.slot_mut(iter.frame, index) {
                    place.reg.flags = place.reg.flags.with(RegFlags::DRAINED);
                }
            }
        }
        *self.cur.reg_mut(Reg::R0) = RegState::constant(0);
        Ok(())
    }
}

/// `iter_num` of `bpf_iter_num`.
fn kernel_name(name: &str) -> &str {
    name.strip_prefix("bpf_").unwrap_or(name)
}
