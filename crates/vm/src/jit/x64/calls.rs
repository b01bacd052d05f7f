//! Functions: how they are entered and left, and everything that calls.

use super::cold::Stub;
use super::{A64, Asm, ENV, Emitted, FP, Gp, R0, S9, S11, env_field};
use crate::code::Op;
use crate::env::STACK_FRAME_BYTES;
use crate::jit::runtime;
use iced_x86::code_asm::{
    CodeLabel, dword_ptr, qword_ptr,
    registers::{gpr32::*, gpr64::*},
};
use skep_isa::{NarrowSize, Size};

/// r1 to r5.
const ARGUMENTS: std::ops::Range<usize> = 1..6;

impl Asm<'_> {
    /// Calls a function of this program's own.
    pub(super) fn call_native(&mut self, function: usize) -> Emitted {
        // The assembler makes it an indirect call where the function is out of reach.
        self.a.call(function as u64)
    }

    /// Of r6 to r9 those that the function must give back as they were.
    fn saved(&self) -> impl DoubleEndedIterator<Item = Gp> + use<> {
        let is_program =
            self.code.funcs.first().is_some_and(|func| func.start <= self.at as u32 && (self.at as u32) < func.end);
        // The program itself gives back to `enter`, which has saved everything. A tail call may come back with any
        // register changed.
        let keeps = !is_program || self.start_is_called || self.func.tail_calls;
        let writes = self.func.writes.map(|writes| keeps && (writes || self.func.tail_calls));
        (6..10).zip(writes).filter(|(_, saved)| *saved).map(|(reg, _)| Gp(reg))
    }

    /// Whether a word must be pushed so that the stack pointer becomes a multiple of 16.
    fn padded(&self) -> bool {
        self.aligned && self.saved().count().is_multiple_of(2)
    }

    pub(super) fn prologue(&mut self) -> Emitted {
        for reg in self.saved() {
            self.a.push(reg.r64())?;
        }
        if self.padded() { self.a.push(rax) } else { Ok(()) }
    }

    /// Leaves the function; uses r9.
    pub(super) fn epilogue(&mut self) -> Emitted {
        if self.padded() {
            self.a.pop(r9)?;
        }
        for reg in self.saved().rev() {
            self.a.pop(reg.r64())?;
        }
        self.a.ret()
    }

    /// In checked code r1 to r5 are zero after a call.
    fn clear_arguments(&mut self) -> Emitted {
        if self.options.checked {
            for reg in ARGUMENTS {
                self.mov_imm(Gp(reg as u8), 0)?;
            }
        }
        Ok(())
    }

    pub(super) fn call_helper(&mut self, op: Op) -> Emitted {
        if self.code.callees.get(op.target()).is_some_and(|callee| callee.host.is_some()) {
            self.a.mov(dword_ptr(env_field!(callee)), op.off)?;
        }
        // r1 to r5 are where the function takes them.
        self.a.mov(S9.r64(), ENV.r64())?;
        self.call_native(op.imm as usize)?;
        self.clear_arguments()?;
        let fault = self.fault();
        self.a.cmp(dword_ptr(env_field!(faulted)), 0)?;
        self.a.jne(fault)
    }

    /// Where to go when the operation has found a fault.
    fn fault(&mut self) -> CodeLabel {
        let label = self.a.create_label();
        let place = self.place();
        self.stubs.push(Stub::Fault { label, place });
        label
    }

    pub(super) fn call_sub(&mut self, target: usize) -> Emitted {
        let place = self.place();
        let frame = STACK_FRAME_BYTES as i32;
        let callee = self.entry_of(target);
        if self.options.checked {
            // Clears the frame, too.
            self.mov_imm(S11, place.pack())?;
            self.a.call(self.shared.push_frame)?;
            self.a.mov(FP.r64(), qword_ptr(env_field!(frame)))?;
        } else {
            let label = self.a.create_label();
            self.a.lea(S9.r64(), qword_ptr(FP.r64() - frame))?;
            self.a.cmp(S9.r64(), qword_ptr(env_field!(lowest_frame)))?;
            self.a.jb(label)?;
            self.stubs.push(Stub::NoFrame { label, place });
            self.a.mov(qword_ptr(env_field!(frame)), S9.r64())?;
            self.a.mov(FP.r64(), S9.r64())?;
        }
        self.a.call(callee)?;
        self.a.add(FP.r64(), frame)?;
        self.a.mov(qword_ptr(env_field!(frame)), FP.r64())?;
        if self.options.checked {
            // The frame that was left is no longer the program's.
            self.a.mov(qword_ptr(env_field!(readable.len)), 0)?;
            self.a.mov(qword_ptr(env_field!(writable.len)), 0)?;
        }
        Ok(())
    }

    pub(super) fn tail_call(&mut self) -> Emitted {
        let stays = self.a.create_label();
        self.a.push(qword_ptr(env_field!(code)))?;
        self.a.push(rax)?;
        let place = self.place();
        self.mov_imm(S11, place.pack())?;
        self.a.call(self.shared.tail_call)?;
        self.a.cmp(S11.r64(), 1)?;
        self.a.jb(stays)?;
        self.a.je(self.shared.faulted)?;
        self.a.call(S11.r64())?;
        // The target has ended, and with it this function.
        self.a.pop(S9.r64())?;
        self.a.pop(qword_ptr(env_field!(code)))?;
        self.epilogue()?;
        self.set_label(stays)?;
        self.a.add(rsp, 16)?;
        self.mov_imm(R0, -i64::from(libc::ENOENT) as u64)?;
        self.clear_arguments()
    }

    pub(super) fn packet_load(&mut self, size: NarrowSize, indirect: Option<Gp>, off: i32) -> Emitted {
        match indirect {
            Some(src) => self.a.lea(esi, dword_ptr(src.r64() + off))?,
            None => self.a.mov(esi, off)?,
        }
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(edx, u32::from(Size::from(size).bytes()))?;
        self.call_native(runtime::packet_load as *const () as usize)?;
        self.clear_arguments()?;
        let label = self.a.create_label();
        self.a.test(rax, rax)?;
        self.a.js(label)?;
        self.stubs.push(Stub::OutsidePacket { label });
        Ok(())
    }

    /// The way in from Rust: a function of the run, the arguments and the function to call.
    pub(super) fn enter(&mut self) -> Emitted {
        for reg in [rbp, rbx, r12, r13, r14, r15] {
            self.a.push(reg)?;
        }
        self.a.mov(r12, rdi)?;
        self.a.push(qword_ptr(env_field!(native_sp)))?;
        self.a.mov(qword_ptr(env_field!(native_sp)), rsp)?;
        self.a.mov(r11, rdx)?;
        self.a.mov(r10, rsi)?;
        for (place, reg) in ARGUMENTS.enumerate() {
            self.a.mov(A64[reg], qword_ptr(r10 + 8 * place as i32))?;
        }
        self.a.mov(FP.r64(), qword_ptr(env_field!(frame)))?;
        for reg in [0, 6, 7, 8, 9] {
            self.mov_imm(Gp(reg), 0)?;
        }
        self.a.call(r11)?;
        self.set_label(self.shared.leave)?;
        self.a.pop(qword_ptr(env_field!(native_sp)))?;
        for reg in [r15, r14, r13, r12, rbx, rbp] {
            self.a.pop(reg)?;
        }
        self.a.ret()
    }
}
