//! Loads, stores, atomics; in checked code behind a look at whether the program owns the memory.

use super::cold::Stub;
use super::{Asm, Emitted, FP, Gp, R0, S9, S10, S11, env_field};
use crate::env::STACK_FRAME_BYTES;
use iced_x86::code_asm::{byte_ptr, dword_ptr, qword_ptr, word_ptr};
use skep_isa::{AtomicOp, NarrowSize, Size, Width};

impl Asm<'_> {
    /// In checked code: goes on if the program owns these bytes, else to a fault. Uses r10 and r11.
    pub(super) fn check(&mut self, base: Gp, off: i32, size: u8, write: bool) -> Emitted {
        let frame = -(STACK_FRAME_BYTES as i32);
        if !self.options.checked || (base == FP && (frame..=-i32::from(size)).contains(&off)) {
            return Ok(());
        }
        let (label, back) = (self.a.create_label(), self.a.create_label());
        // Most accesses fall into the stretch that the last one of their kind fell into.
        let (start, len) = match write {
            true => (env_field!(writable.start), env_field!(writable.len)),
            false => (env_field!(readable.start), env_field!(readable.len)),
        };
        self.a.lea(S10.r64(), qword_ptr(base.r64() + off))?;
        self.a.sub(S10.r64(), qword_ptr(start))?;
        self.a.mov(S11.r64(), qword_ptr(len))?;
        self.a.sub(S11.r64(), S10.r64())?;
        self.a.jbe(label)?;
        if size > 1 {
            self.a.cmp(S11.r64(), i32::from(size))?;
            self.a.jb(label)?;
        }
        self.set_label(back)?;
        let place = self.place();
        self.stubs.push(Stub::Check { label, back, base, off, size, write, place });
        Ok(())
    }

    /// The same for an atomic access, which must be aligned too.
    pub(super) fn check_atomic(&mut self, base: Gp, off: i32, size: u8, write: bool) -> Emitted {
        self.check(base, off, size, write)?;
        if self.options.checked && size > 1 {
            let label = self.a.create_label();
            self.a.lea(S10.r64(), qword_ptr(base.r64() + off))?;
            self.a.test(S10.r8(), i32::from(size) - 1)?;
            self.a.jne(label)?;
            let place = self.place();
            self.stubs.push(Stub::Misaligned { label, base, off, size, place });
        }
        Ok(())
    }

    pub(super) fn load(&mut self, size: Size, dst: Gp, base: Gp, off: i32) -> Emitted {
        self.check(base, off, size.bytes(), false)?;
        self.plain_load(size, dst, base, off)
    }

    pub(super) fn plain_load(&mut self, size: Size, dst: Gp, base: Gp, off: i32) -> Emitted {
        let at = base.r64() + off;
        match size {
            Size::B => self.a.movzx(dst.r32(), byte_ptr(at)),
            Size::H => self.a.movzx(dst.r32(), word_ptr(at)),
            Size::W => self.a.mov(dst.r32(), dword_ptr(at)),
            Size::DW => self.a.mov(dst.r64(), qword_ptr(at)),
        }
    }

    pub(super) fn load_sx(&mut self, size: NarrowSize, dst: Gp, base: Gp, off: i32) -> Emitted {
        self.check(base, off, Size::from(size).bytes(), false)?;
        let at = base.r64() + off;
        match size {
            NarrowSize::B => self.a.movsx(dst.r64(), byte_ptr(at)),
            NarrowSize::H => self.a.movsx(dst.r64(), word_ptr(at)),
            NarrowSize::W => self.a.movsxd(dst.r64(), dword_ptr(at)),
        }
    }

    pub(super) fn store(&mut self, size: Size, base: Gp, off: i32, src: Gp) -> Emitted {
        self.check(base, off, size.bytes(), true)?;
        self.plain_store(size, base, off, src)
    }

    pub(super) fn plain_store(&mut self, size: Size, base: Gp, off: i32, src: Gp) -> Emitted {
        let at = base.r64() + off;
        match size {
            Size::B => self.a.mov(byte_ptr(at), src.r8()),
            Size::H => self.a.mov(word_ptr(at), src.r16()),
            Size::W => self.a.mov(dword_ptr(at), src.r32()),
            Size::DW => self.a.mov(qword_ptr(at), src.r64()),
        }
    }

    pub(super) fn store_imm(&mut self, size: Size, base: Gp, off: i32, imm: i32) -> Emitted {
        self.check(base, off, size.bytes(), true)?;
        let at = base.r64() + off;
        match size {
            Size::B => self.a.mov(byte_ptr(at), i32::from(imm as i8)),
            Size::H => self.a.mov(word_ptr(at), i32::from(imm as i16)),
            Size::W => self.a.mov(dword_ptr(at), imm),
            Size::DW => self.a.mov(qword_ptr(at), imm),
        }
    }

    pub(super) fn atomic(&mut self, width: Width, op: AtomicOp, base: Gp, off: i32, src: Gp) -> Emitted {
        let wide = width == Width::W64;
        self.check_atomic(base, off, if wide { 8 } else { 4 }, true)?;
        let at = base.r64() + off;
        macro_rules! locked {
            ($name:ident) => {
                if wide {
                    self.a.lock().$name(qword_ptr(at), src.r64())
                } else {
                    self.a.lock().$name(dword_ptr(at), src.r32())
                }
            };
        }
        match op {
            AtomicOp::Add { fetch: false } => locked!(add),
            AtomicOp::Or { fetch: false } => locked!(or),
            AtomicOp::And { fetch: false } => locked!(and),
            AtomicOp::Xor { fetch: false } => locked!(xor),
            AtomicOp::Add { fetch: true } => locked!(xadd),
            AtomicOp::Xchg if wide => self.a.xchg(qword_ptr(at), src.r64()),
            AtomicOp::Xchg => self.a.xchg(dword_ptr(at), src.r32()),
            AtomicOp::CmpXchg => {
                locked!(cmpxchg)?;
                // Where the exchange was made the processor leaves the upper half of r0 as it was.
                if wide { Ok(()) } else { self.a.mov(R0.r32(), R0.r32()) }
            }
            AtomicOp::Or { fetch: true } | AtomicOp::And { fetch: true } | AtomicOp::Xor { fetch: true } => {
                self.fetch_loop(wide, op, base, off, src)
            }
        }
    }

    /// Computes and tries to exchange until nobody came between; the old value goes to `src`.
    fn fetch_loop(&mut self, wide: bool, op: AtomicOp, base: Gp, off: i32, src: Gp) -> Emitted {
        self.a.lea(S9.r64(), qword_ptr(base.r64() + off))?;
        self.a.mov(S10.r64(), R0.r64())?;
        // The exchange compares with r0, so that the operand is taken from where r0 was put.
        let operand = if src == R0 { S10 } else { src };
        match wide {
            true => self.a.mov(R0.r64(), qword_ptr(S9.r64()))?,
            false => self.a.mov(R0.r32(), dword_ptr(S9.r64()))?,
        }
        let again = self.a.create_label();
        self.set_label(again)?;
        self.a.mov(S11.r64(), R0.r64())?;
        match op {
            AtomicOp::Or { .. } => self.a.or(S11.r64(), operand.r64())?,
            AtomicOp::And { .. } => self.a.and(S11.r64(), operand.r64())?,
            _ => self.a.xor(S11.r64(), operand.r64())?,
        }
        match wide {
            true => self.a.lock().cmpxchg(qword_ptr(S9.r64()), S11.r64())?,
            false => self.a.lock().cmpxchg(dword_ptr(S9.r64()), S11.r32())?,
        }
        self.a.jne(again)?;
        if src == R0 {
            return Ok(());
        }
        self.a.mov(src.r64(), R0.r64())?;
        self.a.mov(R0.r64(), S10.r64())
    }
}
