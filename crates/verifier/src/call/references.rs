//! References: what a call gives that must be given back exactly once, on every path.
//!
//! A reference is an id in [`crate::state::Duties::held`]; all registers that carry it as `ref_id` are the thing itself or point
//! into it. Giving it back ends them all. A path on which the pointer was found to be null holds nothing
//! ([`crate::branch`] takes the duty away there).

use skep_isa::InsnIdx;

use crate::Code;
use crate::call::args::CallMeta;
use crate::explore::Verifier;
use crate::state::{Held, HeldRef, RegState};
use crate::stop::Stop;

/// References of one path.
const MAX_HELD: usize = 1 << 12;

impl Verifier<'_, '_> {
    /// Takes on a reference; returns its id.
    pub(crate) fn acquire_reference(&mut self) -> Result<u32, Stop> {
        let id = self.new_id();
        let insn = InsnIdx(self.insn);
        let held = &mut self.cur.duties_mut().held;
        if held.len() >= MAX_HELD {
            return Err(Stop::reject(Code::TooComplex, "one more reference on this path")
                .title(format!("{MAX_HELD} references are held on one path")));
        }
        held.push(HeldRef { what: Held::Reference, id, insn });
        Ok(id)
    }

    /// Gives a reference back: whatever carries it is void. `false` if it is not held.
    pub(crate) fn release_reference(&mut self, id: u32) -> bool {
        let is_it = |held: &HeldRef| held.id == id && held.what == Held::Reference;
        if id == 0 || !self.cur.duties.held.iter().any(is_it) {
            return false;
        }
        self.cur.duties_mut().held.retain(|held| !is_it(held));
        let void = self.void_pointer();
        self.cur.change_regs(|reg| reg.ref_id == id, |reg| *reg = void);
        true
    }

    /// What is left of a pointer to something that is gone: for privileged programs some number, for others nothing.
    pub(crate) fn void_pointer(&self) -> RegState {
        if self.env.privileged { RegState::unknown() } else { RegState::not_init() }
    }

    /// The argument that the helper releases.
    pub(crate) fn release_argument(&mut self, meta: &CallMeta) -> Result<(), Stop> {
        let Some(reg) = meta.release else { return Ok(()) };
        if meta.ref_id == 0 && self.cur.reg(reg).is_null() {
            return Ok(());
        }
        if self.release_reference(meta.ref_id) {
            return Ok(());
        }
        Err(Stop::reject(Code::BadRelease, "the reference is not held here")
            .about(reg)
            .help("release it once, where it was acquired on this path")
            .kernel(format!("func {}#{} reference has not been acquired before", meta.name, meta.id)))
    }
}
