//! Seeing one path a second time, to tell how the program gets to the instruction that is refused.

use skep_isa::Insn;

use crate::explore::Flow;
use crate::state::VerifierState;

/// What a replay finds out.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Instructions in order.
    pub(crate) trail: Vec<u32>,
}

impl Recorder {
    pub(crate) fn before(&mut self, at: u32, _insn: Insn, _state: &VerifierState) {
        self.trail.push(at);
    }

    pub(crate) fn after(&mut self, _at: u32, _insn: Insn, _state: &VerifierState, _flow: Flow) {}
}
