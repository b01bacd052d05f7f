//! The interpreter: the definition of the machine, which the compiler and the kernel are checked against.
//!
//! One function runs [`Code`] to its end or to a fault. In the checked mode every access is looked up in the run's regions
//! first, registers that a call may spoil become zero, and fresh frames are zero; in the fast mode a verifier has passed the
//! program and none of that is needed. Source of the semantics: RFC 9669, and `kernel/bpf/core.c` where Linux goes on.
//!
//! Limits: atomic operations must be aligned, in both modes.
#![expect(unsafe_code, reason = "BPF programs work on addresses")]

use crate::code::{Code, arms};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::memory::{load, store};
use skep_isa::{NarrowSize, opcode};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Sees every instruction before it runs. For tests that compare what a verifier computed with what really happens.
pub trait Trace {
    /// The operation with this index is next; registers r0 to r10.
    fn step(&mut self, op: usize, registers: &[u64]);
}

/// Sees nothing.
pub(crate) struct Untraced;

impl Trace for Untraced {
    #[inline(always)]
    fn step(&mut self, _: usize, _: &[u64]) {}
}

/// Calls a function of the program that runs. See `CallFunc`.
///
/// # Safety
/// As `CallFunc` says.
pub(crate) unsafe fn call_func(env: &mut Env, start: u32, args: [u64; 5]) -> u64 {
    // SAFETY: by the caller.
    let code = unsafe { &*env.code };
    let checked = env.checked;
    let mut regs = [0; 16];
    regs[1..6].copy_from_slice(&args);
    match checked {
        // SAFETY: by the caller.
        true => unsafe { run::<true, _>(env, code, start as usize, &mut regs, &mut Untraced) },
        // SAFETY: by the caller.
        false => unsafe { run::<false, _>(env, code, start as usize, &mut regs, &mut Untraced) },
    }
}

/// What a function call puts by.
struct Frame<'c> {
    code: &'c Code,
    resume: usize,
    kept: [u64; 4],
}

/// Runs from an operation to the `exit` of the function that it is in; gives r0. A fault is noted in `env`.
///
/// # Safety
/// `env` is started and `code` outlives the run. Unless `CHECKED`, a verifier has passed the program.
pub(crate) unsafe fn run<'c, const CHECKED: bool, T: Trace>(
    env: &mut Env,
    mut code: &'c Code,
    mut pc: usize,
    regs: &mut [u64; 16],
    trace: &mut T,
) -> u64 {
    let mut frames: Vec<Frame<'c>> = Vec::new();
    let mut ops = code.ops.as_ptr();
    let mut budget = env.budget;
    regs[10] = env.frame;
    env.code = code;

    macro_rules! dst {
        ($op:expr) => {
            regs[($op.dst & 15) as usize]
        };
    }
    macro_rules! src {
        ($op:expr) => {
            regs[($op.src & 15) as usize]
        };
    }
    // The run ends here; the fault is noted.
    macro_rules! fault {
        () => {{
            env.budget = budget;
            env.fault_at(code, pc - 1);
            return 0;
        }};
    }
    // The function that runs ends, with r0 as it is: back to its caller, or out of the run.
    macro_rules! leave {
        () => {
            match frames.pop() {
                Some(frame) => {
                    (code, pc) = (frame.code, frame.resume);
                    ops = code.ops.as_ptr();
                    regs[6..10].copy_from_slice(&frame.kept);
                    env.code = code;
                    env.pop_frame();
                    regs[10] = env.frame;
                }
                None => {
                    env.budget = budget;
                    return regs[0];
                }
            }
        };
    }
    macro_rules! check {
        ($addr:expr, $size:expr, $write:expr) => {
            if CHECKED && !env.check($addr, $size, $write) {
                fault!();
            }
        };
    }
    macro_rules! alu64 {
        ($op:expr, $b:expr, $f:expr) => {{
            let b: u64 = $b;
            let a = &mut dst!($op);
            *a = $f(*a, b);
        }};
    }
    macro_rules! alu32 {
        ($op:expr, $b:expr, $f:expr) => {{
            let b = $b as u32;
            let a = &mut dst!($op);
            *a = u64::from($f(*a as u32, b));
        }};
    }
    macro_rules! jump {
        ($op:expr, $taken:expr) => {
            if $taken {
                pc = $op.target();
            }
        };
    }
    macro_rules! j64 {
        ($op:expr, $b:expr, $f:expr) => {{
            let b: u64 = $b;
            jump!($op, $f(dst!($op), b))
        }};
    }
    macro_rules! j32 {
        ($op:expr, $b:expr, $f:expr) => {{
            let b = $b as u32;
            jump!($op, $f(dst!($op) as u32, b))
        }};
    }
    macro_rules! ld {
        ($op:expr, $ty:ty, $as:ty) => {{
            let addr = src!($op).wrapping_add($op.off as i64 as u64);
            check!(addr, size_of::<$ty>() as u64, false);
            // SAFETY: checked just now, or passed by a verifier.
            dst!($op) = unsafe { load::<$ty>(addr) } as $as as u64;
        }};
    }
    macro_rules! st {
        ($op:expr, $ty:ty, $value:expr) => {{
            let addr = dst!($op).wrapping_add($op.off as i64 as u64);
            check!(addr, size_of::<$ty>() as u64, true);
            // SAFETY: checked just now, or passed by a verifier.
            unsafe { store::<$ty>(addr, $value as $ty) };
        }};
    }
    // An atomic at an address that is checked and aligned.
    macro_rules! atomic_at {
        ($atomic:ty, $addr:expr, $write:expr) => {{
            const SIZE: u64 = size_of::<$atomic>() as u64;
            let addr: u64 = $addr;
            check!(addr, SIZE, $write);
            if !addr.is_multiple_of(SIZE) {
                env.stop(FaultKind::Misaligned { addr, size: SIZE as u8 });
                fault!();
            }
            // SAFETY: checked just now, or passed by a verifier; aligned.
            unsafe { &*std::ptr::with_exposed_provenance::<$atomic>(addr as usize) }
        }};
    }
    macro_rules! atomic {
        ($op:expr, $atomic:ty, $ty:ty) => {{
            let cell = atomic_at!($atomic, dst!($op).wrapping_add($op.off as i64 as u64), true);
            let value = src!($op) as $ty;
            let operation = $op.imm as i32;
            let old = match operation & !opcode::ATOMIC_FETCH {
                opcode::ATOMIC_ADD => cell.fetch_add(value, Ordering::SeqCst),
                opcode::ATOMIC_OR => cell.fetch_or(value, Ordering::SeqCst),
                opcode::ATOMIC_AND => cell.fetch_and(value, Ordering::SeqCst),
                opcode::ATOMIC_XOR => cell.fetch_xor(value, Ordering::SeqCst),
                _ if operation == opcode::ATOMIC_XCHG => cell.swap(value, Ordering::SeqCst),
                _ => {
                    let expected = regs[0] as $ty;
                    let old = cell.compare_exchange(expected, value, Ordering::SeqCst, Ordering::SeqCst);
                    regs[0] = u64::from(old.unwrap_or_else(|old| old));
                    0
                }
            };
            if operation & opcode::ATOMIC_FETCH != 0 && operation != opcode::ATOMIC_CMPXCHG {
                src!($op) = u64::from(old);
            }
        }};
    }

    loop {
        if budget == 0 {
            env.budget = 0;
            let more = env.refill();
            budget = env.budget;
            if !more {
                pc += 1;
                fault!();
            }
        }
        budget -= 1;
        trace.step(pc, &regs[..11]);
        // SAFETY: `Code::build` checked that control stays within the operations.
        let op = unsafe { *ops.add(pc) };
        pc += 1;
        match op.code {
            0x07 => alu64!(op, op.imm as u64, u64::wrapping_add),
            0x0f => alu64!(op, src!(op), u64::wrapping_add),
            0x04 => alu32!(op, op.imm, u32::wrapping_add),
            0x0c => alu32!(op, src!(op), u32::wrapping_add),
            0x17 => alu64!(op, op.imm as u64, u64::wrapping_sub),
            0x1f => alu64!(op, src!(op), u64::wrapping_sub),
            0x14 => alu32!(op, op.imm, u32::wrapping_sub),
            0x1c => alu32!(op, src!(op), u32::wrapping_sub),
            0x27 => alu64!(op, op.imm as u64, u64::wrapping_mul),
            0x2f => alu64!(op, src!(op), u64::wrapping_mul),
            0x24 => alu32!(op, op.imm, u32::wrapping_mul),
            0x2c => alu32!(op, src!(op), u32::wrapping_mul),
            0x37 => alu64!(op, op.imm as u64, div64),
            0x3f => alu64!(op, src!(op), div64),
            0x34 => alu32!(op, op.imm, div32),
            0x3c => alu32!(op, src!(op), div32),
            arms::SDIV64_K => alu64!(op, op.imm as u64, sdiv64),
            arms::SDIV64_X => alu64!(op, src!(op), sdiv64),
            arms::SDIV32_K => alu32!(op, op.imm, sdiv32),
            arms::SDIV32_X => alu32!(op, src!(op), sdiv32),
            0x47 => alu64!(op, op.imm as u64, |a, b| a | b),
            0x4f => alu64!(op, src!(op), |a, b| a | b),
            0x44 => alu32!(op, op.imm, |a: u32, b| a | b),
            0x4c => alu32!(op, src!(op), |a: u32, b| a | b),
            0x57 => alu64!(op, op.imm as u64, |a, b| a & b),
            0x5f => alu64!(op, src!(op), |a, b| a & b),
            0x54 => alu32!(op, op.imm, |a: u32, b| a & b),
            0x5c => alu32!(op, src!(op), |a: u32, b| a & b),
            0x67 => alu64!(op, op.imm as u64, |a: u64, b| a.wrapping_shl(b as u32)),
            0x6f => alu64!(op, src!(op), |a: u64, b| a.wrapping_shl(b as u32)),
            0x64 => alu32!(op, op.imm, u32::wrapping_shl),
            0x6c => alu32!(op, src!(op), u32::wrapping_shl),
            0x77 => alu64!(op, op.imm as u64, |a: u64, b| a.wrapping_shr(b as u32)),
            0x7f => alu64!(op, src!(op), |a: u64, b| a.wrapping_shr(b as u32)),
            0x74 => alu32!(op, op.imm, u32::wrapping_shr),
            0x7c => alu32!(op, src!(op), u32::wrapping_shr),
            0xc7 => alu64!(op, op.imm as u64, |a: u64, b| (a as i64).wrapping_shr(b as u32) as u64),
            0xcf => alu64!(op, src!(op), |a: u64, b| (a as i64).wrapping_shr(b as u32) as u64),
            0xc4 => alu32!(op, op.imm, |a: u32, b| (a as i32).wrapping_shr(b) as u32),
            0xcc => alu32!(op, src!(op), |a: u32, b| (a as i32).wrapping_shr(b) as u32),
            0x97 => alu64!(op, op.imm as u64, mod64),
            0x9f => alu64!(op, src!(op), mod64),
            0x94 => alu32!(op, op.imm, mod32),
            0x9c => alu32!(op, src!(op), mod32),
            arms::SMOD64_K => alu64!(op, op.imm as u64, smod64),
            arms::SMOD64_X => alu64!(op, src!(op), smod64),
            arms::SMOD32_K => alu32!(op, op.imm, smod32),
            arms::SMOD32_X => alu32!(op, src!(op), smod32),
            0xa7 => alu64!(op, op.imm as u64, |a, b| a ^ b),
            0xaf => alu64!(op, src!(op), |a, b| a ^ b),
            0xa4 => alu32!(op, op.imm, |a: u32, b| a ^ b),
            0xac => alu32!(op, src!(op), |a: u32, b| a ^ b),
            0xb7 | 0x18 => dst!(op) = op.imm as u64,
            0xbf => dst!(op) = src!(op),
            0xb4 => dst!(op) = u64::from(op.imm as u32),
            0xbc => dst!(op) = u64::from(src!(op) as u32),
            0x87 => dst!(op) = dst!(op).wrapping_neg(),
            0x84 => dst!(op) = u64::from((dst!(op) as u32).wrapping_neg()),
            arms::S8_TO_32 => dst!(op) = u64::from(i32::from(src!(op) as i8) as u32),
            arms::S16_TO_32 => dst!(op) = u64::from(i32::from(src!(op) as i16) as u32),
            arms::S8_TO_64 => dst!(op) = i64::from(src!(op) as i8) as u64,
            arms::S16_TO_64 => dst!(op) = i64::from(src!(op) as i16) as u64,
            arms::S32_TO_64 => dst!(op) = i64::from(src!(op) as i32) as u64,
            arms::TRUNCATE16 => dst!(op) = u64::from(dst!(op) as u16),
            arms::TRUNCATE32 => dst!(op) = u64::from(dst!(op) as u32),
            arms::TRUNCATE64 => {}
            arms::REVERSE16 => dst!(op) = u64::from((dst!(op) as u16).swap_bytes()),
            arms::REVERSE32 => dst!(op) = u64::from((dst!(op) as u32).swap_bytes()),
            arms::REVERSE64 => dst!(op) = dst!(op).swap_bytes(),

            0x71 => ld!(op, u8, u64),
            0x69 => ld!(op, u16, u64),
            0x61 => ld!(op, u32, u64),
            0x79 => ld!(op, u64, u64),
            0x91 => ld!(op, i8, i64),
            0x89 => ld!(op, i16, i64),
            0x81 => ld!(op, i32, i64),
            0x73 => st!(op, u8, src!(op)),
            0x6b => st!(op, u16, src!(op)),
            0x63 => st!(op, u32, src!(op)),
            0x7b => st!(op, u64, src!(op)),
            0x72 => st!(op, u8, op.imm),
            0x6a => st!(op, u16, op.imm),
            0x62 => st!(op, u32, op.imm),
            0x7a => st!(op, u64, op.imm),
            0xc3 => atomic!(op, AtomicU32, u32),
            0xdb => atomic!(op, AtomicU64, u64),
            arms::ACQUIRE8 => {
                dst!(op) = atomic_at!(AtomicU8, src!(op).wrapping_add(op.off as i64 as u64), false)
                    .load(Ordering::Acquire)
                    .into()
            }
            arms::ACQUIRE16 => {
                dst!(op) = atomic_at!(AtomicU16, src!(op).wrapping_add(op.off as i64 as u64), false)
                    .load(Ordering::Acquire)
                    .into()
            }
            arms::ACQUIRE32 => {
                dst!(op) = atomic_at!(AtomicU32, src!(op).wrapping_add(op.off as i64 as u64), false)
                    .load(Ordering::Acquire)
                    .into()
            }
            arms::ACQUIRE64 => {
                dst!(op) =
                    atomic_at!(AtomicU64, src!(op).wrapping_add(op.off as i64 as u64), false).load(Ordering::Acquire)
            }
            arms::RELEASE8 => atomic_at!(AtomicU8, dst!(op).wrapping_add(op.off as i64 as u64), true)
                .store(src!(op) as u8, Ordering::Release),
            arms::RELEASE16 => atomic_at!(AtomicU16, dst!(op).wrapping_add(op.off as i64 as u64), true)
                .store(src!(op) as u16, Ordering::Release),
            arms::RELEASE32 => atomic_at!(AtomicU32, dst!(op).wrapping_add(op.off as i64 as u64), true)
                .store(src!(op) as u32, Ordering::Release),
            arms::RELEASE64 => atomic_at!(AtomicU64, dst!(op).wrapping_add(op.off as i64 as u64), true)
                .store(src!(op), Ordering::Release),

            0x05 => pc = op.target(),
            0x15 => j64!(op, op.imm as u64, |a, b| a == b),
            0x1d => j64!(op, src!(op), |a, b| a == b),
            0x16 => j32!(op, op.imm, |a: u32, b| a == b),
            0x1e => j32!(op, src!(op), |a: u32, b| a == b),
            0x55 => j64!(op, op.imm as u64, |a, b| a != b),
            0x5d => j64!(op, src!(op), |a, b| a != b),
            0x56 => j32!(op, op.imm, |a: u32, b| a != b),
            0x5e => j32!(op, src!(op), |a: u32, b| a != b),
            0x25 => j64!(op, op.imm as u64, |a, b| a > b),
            0x2d => j64!(op, src!(op), |a, b| a > b),
            0x26 => j32!(op, op.imm, |a: u32, b| a > b),
            0x2e => j32!(op, src!(op), |a: u32, b| a > b),
            0x35 => j64!(op, op.imm as u64, |a, b| a >= b),
            0x3d => j64!(op, src!(op), |a, b| a >= b),
            0x36 => j32!(op, op.imm, |a: u32, b| a >= b),
            0x3e => j32!(op, src!(op), |a: u32, b| a >= b),
            0xa5 => j64!(op, op.imm as u64, |a, b| a < b),
            0xad => j64!(op, src!(op), |a, b| a < b),
            0xa6 => j32!(op, op.imm, |a: u32, b| a < b),
            0xae => j32!(op, src!(op), |a: u32, b| a < b),
            0xb5 => j64!(op, op.imm as u64, |a, b| a <= b),
            0xbd => j64!(op, src!(op), |a, b| a <= b),
            0xb6 => j32!(op, op.imm, |a: u32, b| a <= b),
            0xbe => j32!(op, src!(op), |a: u32, b| a <= b),
            0x45 => j64!(op, op.imm as u64, |a, b| a & b != 0),
            0x4d => j64!(op, src!(op), |a, b| a & b != 0),
            0x46 => j32!(op, op.imm, |a: u32, b| a & b != 0),
            0x4e => j32!(op, src!(op), |a: u32, b| a & b != 0),
            0x65 => j64!(op, op.imm as u64, |a, b| a as i64 > b as i64),
            0x6d => j64!(op, src!(op), |a, b| a as i64 > b as i64),
            0x66 => j32!(op, op.imm, |a: u32, b| a as i32 > b as i32),
            0x6e => j32!(op, src!(op), |a: u32, b| a as i32 > b as i32),
            0x75 => j64!(op, op.imm as u64, |a, b| a as i64 >= b as i64),
            0x7d => j64!(op, src!(op), |a, b| a as i64 >= b as i64),
            0x76 => j32!(op, op.imm, |a: u32, b| a as i32 >= b as i32),
            0x7e => j32!(op, src!(op), |a: u32, b| a as i32 >= b as i32),
            0xc5 => j64!(op, op.imm as u64, |a, b| (a as i64) < b as i64),
            0xcd => j64!(op, src!(op), |a, b| (a as i64) < b as i64),
            0xc6 => j32!(op, op.imm, |a: u32, b| (a as i32) < b as i32),
            0xce => j32!(op, src!(op), |a: u32, b| (a as i32) < b as i32),
            0xd5 => j64!(op, op.imm as u64, |a, b| a as i64 <= b as i64),
            0xdd => j64!(op, src!(op), |a, b| a as i64 <= b as i64),
            0xd6 => j32!(op, op.imm, |a: u32, b| a as i32 <= b as i32),
            0xde => j32!(op, src!(op), |a: u32, b| a as i32 <= b as i32),
            // may_goto: jumps once the run has gone round often enough.
            0xe5 => match env.may_goto.checked_sub(1) {
                Some(left) => env.may_goto = left,
                None => pc = op.target(),
            },

            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let (size, indirect) = match op.code {
                    0x20 => (NarrowSize::W, false),
                    0x28 => (NarrowSize::H, false),
                    0x30 => (NarrowSize::B, false),
                    0x40 => (NarrowSize::W, true),
                    0x48 => (NarrowSize::H, true),
                    _ => (NarrowSize::B, true),
                };
                let off = if indirect { (src!(op) as i32).wrapping_add(op.imm as i32) } else { op.imm as i32 };
                let loaded = crate::packet::load(env, off, size);
                if CHECKED {
                    regs[1..6].fill(0);
                }
                match loaded {
                    Some(value) => regs[0] = value.into(),
                    // Outside the packet: the function ends with 0, as if by exit.
                    None => {
                        regs[0] = 0;
                        leave!();
                    }
                }
            }

            0x85 => {
                env.budget = budget;
                env.callee = op.off as u32;
                // SAFETY: `imm` is the address of a `HelperFn`, put there by `Code::build`.
                let function = unsafe { std::mem::transmute::<usize, crate::helper::HelperFn>(op.imm as usize) };
                // SAFETY: the contract of `HelperFn`; the arguments are the program's.
                regs[0] = unsafe { function(regs[1], regs[2], regs[3], regs[4], regs[5], env) };
                budget = env.budget;
                if CHECKED {
                    regs[1..6].fill(0);
                }
                if env.faulted != 0 {
                    fault!();
                }
            }
            arms::TAIL_CALL => match crate::program::tail_target(env, regs[2], regs[3] as u32) {
                Ok(Some(target)) => {
                    // SAFETY: the run's guard keeps the program that the array holds.
                    code = unsafe { &*target };
                    ops = code.ops.as_ptr();
                    pc = 0;
                    env.code = code;
                }
                Ok(None) => {
                    // Nothing there: the program goes on.
                    regs[0] = -(libc::ENOENT as i64) as u64;
                    if CHECKED {
                        regs[1..6].fill(0);
                    }
                }
                Err(stop) => {
                    env.finish(Err(stop));
                    fault!();
                }
            },
            arms::CALL_SUB => {
                if !env.push_frame() {
                    fault!();
                }
                let mut kept = [0; 4];
                kept.copy_from_slice(&regs[6..10]);
                frames.push(Frame { code, resume: pc, kept });
                regs[10] = env.frame;
                pc = op.target();
            }
            0x95 => leave!(),
            // SAFETY: `Code::build` makes no other.
            _ => unsafe { std::hint::unreachable_unchecked() },
        }
    }
}

fn div64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(0)
}

fn div32(a: u32, b: u32) -> u32 {
    a.checked_div(b).unwrap_or(0)
}

fn mod64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(a)
}

fn mod32(a: u32, b: u32) -> u32 {
    a.checked_rem(b).unwrap_or(a)
}

fn sdiv64(a: u64, b: u64) -> u64 {
    if b == 0 { 0 } else { (a as i64).wrapping_div(b as i64) as u64 }
}

fn sdiv32(a: u32, b: u32) -> u32 {
    if b == 0 { 0 } else { (a as i32).wrapping_div(b as i32) as u32 }
}

fn smod64(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

fn smod32(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }
}
