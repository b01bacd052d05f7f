//! What compiled code calls besides helpers: checks, limits, faults, the way over to the interpreter.
//!
//! All of these are `extern "C"`, take the run first and note faults in it; compiled code then leaves by its own way out.
#![expect(unsafe_code, reason = "called by compiled code with addresses that it was given")]

use super::Options;
use crate::code::Code;
use crate::env::Env;
use crate::fault::FaultKind;
use crate::interp::{self, Untraced};
use skep_isa::NarrowSize;

/// Where an operation stands: its index, and how many that follow in its block were counted already.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) op: u32,
    pub(super) uncounted: u32,
}

impl Place {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.op) | u64::from(self.uncounted) << 32
    }

    fn unpack(packed: u64) -> Place {
        Place { op: packed as u32, uncounted: (packed >> 32) as u32 }
    }
}

/// The program that runs.
///
/// # Safety
/// The run is going on.
unsafe fn code_of<'c>(env: &Env) -> &'c Code {
    // SAFETY: `code` is valid for the length of the run.
    unsafe { &*env.code }
}

fn fault_at(env: &mut Env, place: Place) {
    env.budget += u64::from(place.uncounted);
    // SAFETY: called from a run.
    let code = unsafe { code_of(env) };
    env.fault_at(code, place.op as usize);
}

/// A helper has found something wrong: notes where.
pub(super) unsafe extern "C" fn fault(env: *mut Env, place: u64) {
    // SAFETY: compiled code passes its own run; nothing else uses it during the call.
    fault_at(unsafe { &mut *env }, Place::unpack(place));
}

/// Not 0: the access is to the program's own memory. 0: the fault is noted. `access` is the size, and 256 for a write.
pub(super) unsafe extern "C" fn check(env: *mut Env, addr: u64, access: u32, place: u64) -> u32 {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    if env.check(addr, u64::from(access & 0xff), access & 0x100 != 0) {
        return 1;
    }
    fault_at(env, Place::unpack(place));
    0
}

/// An atomic access to an address that is no multiple of its size.
pub(super) unsafe extern "C" fn misaligned(env: *mut Env, addr: u64, size: u32, place: u64) {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    env.stop(FaultKind::Misaligned { addr, size: size as u8 });
    fault_at(env, Place::unpack(place));
}

/// Takes a frame for a function that is called. 0: there is none left, and the fault is noted.
pub(super) unsafe extern "C" fn push_frame(env: *mut Env, place: u64) -> u32 {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    if env.push_frame() {
        return 1;
    }
    fault_at(env, Place::unpack(place));
    0
}

/// Counts a block of `len` operations that the budget does not cover. 0: the run's limit falls into the block.
pub(super) unsafe extern "C" fn refill(env: *mut Env, len: u64) -> u32 {
    // SAFETY: as in `fault`.
    u32::from(unsafe { &mut *env }.refill_for(len))
}

/// Runs the rest of the function that operation `op` stands in by the interpreter, from the registers in `Env::regs`.
pub(super) unsafe extern "C" fn interpret(env: *mut Env, op: u64) -> u64 {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    // SAFETY: as above.
    let code = unsafe { code_of(env) };
    let mut regs = [0; 16];
    regs[..11].copy_from_slice(&env.regs);
    match env.checked {
        // SAFETY: the run is going on, and the fast mode is for verified programs.
        true => unsafe { interp::run::<true, _>(env, code, op as usize, &mut regs, &mut Untraced) },
        // SAFETY: as above.
        false => unsafe { interp::run::<false, _>(env, code, op as usize, &mut regs, &mut Untraced) },
    }
}

/// Where to go for a tail call: 0 for nowhere (the program goes on), 1 when it faulted, else the address to call.
/// `interpreter` is the one that runs a program from its start by [`interpret`].
pub(super) unsafe extern "C" fn tail_call(
    env: *mut Env,
    map: u64,
    index: u64,
    place: u64,
    interpreter: u64,
    options: u64,
) -> u64 {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    let options = Options { checked: options & 1 != 0, counted: options & 2 != 0 };
    match crate::program::tail_target(env, map, index as u32) {
        Ok(None) => 0,
        Ok(Some(target)) => {
            env.code = target;
            // SAFETY: the run's guard keeps the program that the array holds.
            unsafe { &*target }.native_for(options).map_or(interpreter, |native| native.entry() as u64)
        }
        Err(stop) => {
            env.finish(Err(stop));
            fault_at(env, Place::unpack(place));
            1
        }
    }
}

/// The packet load of classic BPF; -1 outside the packet.
pub(super) unsafe extern "C" fn packet_load(env: *mut Env, off: u32, size: u32) -> i64 {
    // SAFETY: as in `fault`.
    let env = unsafe { &mut *env };
    let size = match size {
        1 => NarrowSize::B,
        2 => NarrowSize::H,
        _ => NarrowSize::W,
    };
    crate::packet::load(env, off as i32, size).map_or(-1, i64::from)
}
