//! Programs ready to run -> machine code.
//!
//! A [`Compiler`] makes a [`Native`] of [`Code`]; there is one for x86-64, and a second machine needs no more than a second
//! `Compiler`. The interpreter defines what compiled code does: results, memory, maps, faults (instruction and cause) and,
//! where runs are limited, the very instruction at which a run stops. Whatever compiled code does not do itself it hands to
//! the interpreter in the middle of a run: the last instructions before a limit, and programs in a program array that are
//! not compiled alike.
//!
//! Two forms, by [`Options`]: checked code looks every access up, as the interpreter's checked mode does; fast code is for
//! programs that a verifier has passed. Counting costs a few cycles a block, so code for unlimited runs does not count.
//!
//! Limits: x86-64 only; elsewhere programs are interpreted.
#![expect(unsafe_code, reason = "compiled code is entered by address")]

mod exec;
mod flow;
mod known;
mod runtime;
#[cfg(target_arch = "x86_64")]
mod x64;

use crate::code::Code;
use crate::env::Env;

/// What compiled code sees to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// Every access must fall into memory that the program owns.
    pub(crate) checked: bool,
    /// Instructions are counted, because a run may use so many only.
    pub(crate) counted: bool,
}

impl Options {
    /// Those that a run asks for.
    pub(crate) fn of(env: &Env) -> Options {
        Options { checked: env.checked, counted: env.is_counted() }
    }
}

/// Makes machine code for one kind of machine.
pub(crate) trait Compiler: Sync {
    /// Compiles a program, or says why that cannot be.
    fn compile(&self, code: &Code, options: Options) -> Result<Box<dyn Native>, String>;
}

/// Machine code of a program.
pub(crate) trait Native: Send + Sync {
    /// What it was compiled to see to.
    fn options(&self) -> Options;

    /// Where other compiled code goes for a tail call.
    fn entry(&self) -> usize;

    /// The machine code, to be shown.
    fn bytes(&self) -> &[u8];

    /// Runs one of its functions, given by its first operation, to its end or to a fault, which is noted in `env`; gives r0.
    ///
    /// # Safety
    /// The run is started, `Env::code` is the program that this was compiled from, `start` the first operation of one of
    /// its functions, and the options are those of the run. If it is not checked, a verifier has passed the program.
    unsafe fn run(&self, env: &mut Env, start: u32, args: [u64; 5]) -> u64;
}

/// The compiler for this machine, if there is one.
pub(crate) fn compiler() -> Option<&'static dyn Compiler> {
    #[cfg(target_arch = "x86_64")]
    return Some(&x64::X64);
    #[cfg(not(target_arch = "x86_64"))]
    return None;
}

/// Calls a function of the program that runs: compiled where it is compiled for runs like this one.
///
/// # Safety
/// As `CallFunc` says.
pub(crate) unsafe fn call_func(env: &mut Env, start: u32, args: [u64; 5]) -> u64 {
    // SAFETY: by the caller.
    let code = unsafe { &*env.code };
    match code.native_for(Options::of(env)) {
        // SAFETY: by the caller; the options agree.
        Some(native) => unsafe { native.run(env, start, args) },
        // SAFETY: by the caller.
        None => unsafe { crate::interp::call_func(env, start, args) },
    }
}
