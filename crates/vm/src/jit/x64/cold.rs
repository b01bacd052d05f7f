//! What stands behind the code: ways out of it that are seldom taken, and the pieces that these share.

use super::{A64, Asm, ENV, Emitted, Gp, S9, S10, S11, env_field};
use crate::jit::runtime::{self, Place};
use iced_x86::code_asm::{
    AsmRegister64, CodeAssembler, CodeLabel, dword_ptr, qword_ptr,
    registers::{gpr32::*, gpr64::*},
};

/// A way out of the straight code.
pub(super) enum Stub {
    /// The access is not where the last one was: a look at all of the program's memory.
    Check {
        label: CodeLabel,
        back: CodeLabel,
        base: Gp,
        off: i32,
        size: u8,
        write: bool,
        place: Place,
    },
    Misaligned {
        label: CodeLabel,
        base: Gp,
        off: i32,
        size: u8,
        place: Place,
    },
    /// A helper has noted a fault.
    Fault {
        label: CodeLabel,
        place: Place,
    },
    /// A call that there is no frame for.
    NoFrame {
        label: CodeLabel,
        place: Place,
    },
    /// A block that the budget does not cover.
    Refill {
        label: CodeLabel,
        back: CodeLabel,
        len: u32,
        op: u32,
    },
    /// A lookup that finds nothing.
    Null {
        label: CodeLabel,
        to: CodeLabel,
    },
    /// A packet load outside the packet: the function ends with 0.
    OutsidePacket {
        label: CodeLabel,
    },
}

/// Pieces of code that there is one of in a program.
pub(super) struct Shared {
    /// Back to Rust, with the stack pointer of `enter` and r0.
    pub(super) leave: CodeLabel,
    /// To the end of the run; the fault is noted.
    pub(super) faulted: CodeLabel,
    /// r11: the place. Notes a fault.
    fault: CodeLabel,
    /// r9: address, r10: access, r11: place. Keeps the registers of the program.
    check: CodeLabel,
    /// r11: place. The same.
    pub(super) push_frame: CodeLabel,
    /// r11: place. The same; gives in r11 where to go.
    pub(super) tail_call: CodeLabel,
    /// r10: operations of the block, r11: the first. The same.
    refill: CodeLabel,
    /// Entry for a program that is not compiled.
    interpreter: CodeLabel,
}

impl Shared {
    pub(super) fn new(a: &mut CodeAssembler) -> Shared {
        Shared {
            leave: a.create_label(),
            faulted: a.create_label(),
            fault: a.create_label(),
            check: a.create_label(),
            push_frame: a.create_label(),
            tail_call: a.create_label(),
            refill: a.create_label(),
            interpreter: a.create_label(),
        }
    }
}

/// Registers of the program that a function in C may change, but for one that keeps the count odd: with the return
/// address the stack pointer is a multiple of 16 again.
const CHANGED: [AsmRegister64; 6] = [rax, rcx, rdx, rsi, rdi, r8];

impl Asm<'_> {
    /// The stubs of the function that was compiled last.
    pub(super) fn cold(&mut self) -> Emitted {
        for stub in std::mem::take(&mut self.stubs) {
            match stub {
                Stub::Check { label, back, base, off, size, write, place } => {
                    self.set_label(label)?;
                    self.a.lea(S9.r64(), qword_ptr(base.r64() + off))?;
                    self.a.mov(S10.r32(), u32::from(size) | u32::from(write) << 8)?;
                    self.mov_imm(S11, place.pack())?;
                    self.a.call(self.shared.check)?;
                    self.a.jmp(back)?;
                }
                Stub::Misaligned { label, base, off, size, place } => {
                    self.set_label(label)?;
                    self.a.lea(rsi, qword_ptr(base.r64() + off))?;
                    self.a.mov(rdi, ENV.r64())?;
                    self.a.mov(edx, u32::from(size))?;
                    self.mov_imm(Gp(4), place.pack())?;
                    self.call_native(runtime::misaligned as *const () as usize)?;
                    self.a.jmp(self.shared.faulted)?;
                }
                Stub::Fault { label, place } => {
                    self.set_label(label)?;
                    self.mov_imm(S11, place.pack())?;
                    self.a.jmp(self.shared.fault)?;
                }
                Stub::NoFrame { label, place } => {
                    self.set_label(label)?;
                    self.mov_imm(S11, place.pack())?;
                    // Finds that there is none and does not come back.
                    self.a.call(self.shared.push_frame)?;
                    self.a.jmp(self.shared.faulted)?;
                }
                Stub::Refill { label, back, len, op } => {
                    self.set_label(label)?;
                    self.a.mov(S10.r32(), len)?;
                    self.a.mov(S11.r32(), op)?;
                    self.a.call(self.shared.refill)?;
                    self.a.jmp(back)?;
                }
                Stub::Null { label, to } => {
                    self.set_label(label)?;
                    self.a.xor(eax, eax)?;
                    self.a.jmp(to)?;
                }
                Stub::OutsidePacket { label } => {
                    self.set_label(label)?;
                    self.a.xor(eax, eax)?;
                    self.epilogue()?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn shared_code(&mut self) -> Emitted {
        let shared = |asm: &mut Self, label: CodeLabel| asm.set_label(label).map(drop);
        shared(self, self.shared.fault)?;
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(rsi, r11)?;
        self.call_native(runtime::fault as *const () as usize)?;
        shared(self, self.shared.faulted)?;
        self.a.mov(rsp, qword_ptr(env_field!(native_sp)))?;
        self.a.xor(eax, eax)?;
        self.a.jmp(self.shared.leave)?;

        if self.options.checked {
            shared(self, self.shared.check)?;
            self.save(S9)?;
            self.a.mov(rdi, ENV.r64())?;
            self.a.mov(rsi, S9.r64())?;
            self.a.mov(edx, S10.r32())?;
            self.a.mov(rcx, S11.r64())?;
            self.call_native(runtime::check as *const () as usize)?;
            self.a.test(eax, eax)?;
            self.a.je(self.shared.faulted)?;
            self.restore(S9)?;
            self.a.ret()?;
        }

        shared(self, self.shared.push_frame)?;
        self.save(S9)?;
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(rsi, S11.r64())?;
        self.call_native(runtime::push_frame as *const () as usize)?;
        self.a.test(eax, eax)?;
        self.a.je(self.shared.faulted)?;
        self.restore(S9)?;
        self.a.ret()?;

        if self.flow.funcs.iter().any(|func| func.tail_calls) {
            self.shared_tail_call()?;
        }
        if self.options.counted {
            self.shared_refill()?;
        }
        Ok(())
    }

    /// Saves what a function in C may change, and one more, which makes the stack pointer a multiple of 16.
    fn save(&mut self, also: Gp) -> Emitted {
        for reg in CHANGED {
            self.a.push(reg)?;
        }
        self.a.push(also.r64())
    }

    fn restore(&mut self, also: Gp) -> Emitted {
        self.a.pop(also.r64())?;
        for reg in CHANGED.iter().rev() {
            self.a.pop(*reg)?;
        }
        Ok(())
    }

    fn shared_tail_call(&mut self) -> Emitted {
        let options = u32::from(self.options.checked) | u32::from(self.options.counted) << 1;
        self.set_label(self.shared.tail_call)?;
        self.save(S9)?;
        // r2 and r3 are the second and third argument already.
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(rcx, S11.r64())?;
        self.a.lea(r8, qword_ptr(self.shared.interpreter))?;
        self.a.mov(r9d, options)?;
        self.call_native(runtime::tail_call as *const () as usize)?;
        self.a.mov(S11.r64(), rax)?;
        self.restore(S9)?;
        self.a.ret()?;

        // Called as a function of the program is: with the program's registers, on a stack that is 8 bytes off.
        self.set_label(self.shared.interpreter)?;
        self.a.push(rax)?;
        self.spill()?;
        self.a.mov(rdi, ENV.r64())?;
        self.a.xor(esi, esi)?;
        self.call_native(runtime::interpret as *const () as usize)?;
        self.a.cmp(dword_ptr(env_field!(faulted)), 0)?;
        self.a.jne(self.shared.faulted)?;
        self.a.pop(r9)?;
        self.a.ret()
    }

    fn shared_refill(&mut self) -> Emitted {
        let limit = self.a.create_label();
        self.set_label(self.shared.refill)?;
        self.a.add(qword_ptr(env_field!(budget)), S10.r64())?;
        self.save(S11)?;
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(rsi, S10.r64())?;
        self.call_native(runtime::refill as *const () as usize)?;
        self.a.mov(S10.r32(), eax)?;
        self.restore(S11)?;
        self.a.test(S10.r32(), S10.r32())?;
        self.a.je(limit)?;
        self.a.ret()?;
        // The limit falls into the block: the interpreter runs it up to there.
        self.set_label(limit)?;
        self.a.pop(S9.r64())?;
        self.spill()?;
        self.a.mov(rdi, ENV.r64())?;
        self.a.mov(esi, S11.r32())?;
        self.call_native(runtime::interpret as *const () as usize)?;
        self.a.jmp(self.shared.faulted)
    }

    /// Puts r0 to r10 where the interpreter takes them from.
    fn spill(&mut self) -> Emitted {
        for (place, reg) in A64.iter().take(11).enumerate() {
            let at = env_field!(regs) + 8 * place as i32;
            self.a.mov(qword_ptr(at), *reg)?;
        }
        Ok(())
    }
}
