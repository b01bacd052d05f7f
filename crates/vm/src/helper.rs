//! How programs call out: the form of a helper function, and functions of the host program with their own types.
//!
//! ```
//! # use skep_vm::{Helper, Stop};
//! let double = Helper::new(4000, "double", |n: u64| n * 2);
//! let sum = Helper::with_env(4001, "sum", |env, [at, len, ..]| {
//!     Ok(env.bytes(at, len)?.iter().map(|&byte| u64::from(byte)).sum())
//! });
//! ```
#![expect(unsafe_code, reason = "helpers are called by compiled code, through a C function pointer")]

use crate::env::Env;
use crate::fault::FaultKind;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The form in which both engines call a helper: r1 to r5 and the run it belongs to; gives r0.
///
/// # Safety
/// The last argument points to the run that is going on, and nothing else uses it during the call.
pub(crate) type HelperFn = unsafe extern "C" fn(u64, u64, u64, u64, u64, *mut Env) -> u64;

/// Why a helper does not return to its program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It found something wrong: the run ends with this fault, at the calling instruction.
    Fault(FaultKind),
    /// A function that it called back has faulted; the fault is noted already.
    Nested,
}

impl From<FaultKind> for Stop {
    fn from(kind: FaultKind) -> Stop {
        Stop::Fault(kind)
    }
}

/// What a helper gives: r0, or the end of the run.
pub type HelperResult = Result<u64, Stop>;

/// Makes a [`HelperFn`] of a function `fn(&mut Env, [u64; 5]) -> HelperResult`.
macro_rules! helper_fn {
    ($function:path) => {{
        unsafe extern "C" fn call(r1: u64, r2: u64, r3: u64, r4: u64, r5: u64, env: *mut $crate::env::Env) -> u64 {
            // SAFETY: by the contract of `HelperFn`.
            let env = unsafe { &mut *env };
            let result = $function(env, [r1, r2, r3, r4, r5]);
            env.finish(result)
        }
        call as $crate::helper::HelperFn
    }};
}
pub(crate) use helper_fn;

/// A helper of the engine's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Builtin {
    /// Number in call instructions; 0 for kernel functions, which are found by name.
    pub(crate) id: u32,
    pub(crate) name: &'static str,
    pub(crate) function: HelperFn,
}

type HostFn = dyn Fn(&mut Env, [u64; 5]) -> HelperResult + Send + Sync;

/// A function of the host program that BPF programs can call by number.
#[derive(Clone)]
pub struct Helper {
    id: u32,
    name: &'static str,
    function: Arc<HostFn>,
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Helper({} = {})", self.id, self.name)
    }
}

/// A value that comes in a register.
pub trait FromRegister {
    /// From the 64 bits of the register.
    fn from_register(value: u64) -> Self;
}

/// A value that goes to r0.
pub trait IntoRegister {
    /// The 64 bits for the register; signed numbers are sign-extended.
    fn into_register(self) -> u64;
}

macro_rules! register_types {
    ($($ty:ty),*) => { $(
        impl FromRegister for $ty {
            fn from_register(value: u64) -> $ty { value as $ty }
        }
        impl IntoRegister for $ty {
            fn into_register(self) -> u64 { self as i64 as u64 }
        }
    )* };
}
register_types!(i8, i16, i32, i64);

macro_rules! unsigned_register_types {
    ($($ty:ty),*) => { $(
        impl FromRegister for $ty {
            fn from_register(value: u64) -> $ty { value as $ty }
        }
        impl IntoRegister for $ty {
            fn into_register(self) -> u64 { self as u64 }
        }
    )* };
}
unsigned_register_types!(u8, u16, u32, u64);

impl FromRegister for bool {
    fn from_register(value: u64) -> bool {
        value != 0
    }
}

impl IntoRegister for bool {
    fn into_register(self) -> u64 {
        self.into()
    }
}

impl IntoRegister for () {
    fn into_register(self) -> u64 {
        0
    }
}

/// A function whose arguments come in registers and whose result goes to r0.
pub trait HostFunction<Args>: Send + Sync + 'static {
    /// Calls it with r1 to r5.
    fn call(&self, registers: [u64; 5]) -> u64;
}

macro_rules! host_functions {
    ($(($($arg:ident $place:literal),*)),*) => { $(
        impl<F, R: IntoRegister, $($arg: FromRegister),*> HostFunction<($($arg,)*)> for F
        where F: Fn($($arg),*) -> R + Send + Sync + 'static
        {
            fn call(&self, registers: [u64; 5]) -> u64 {
                let _ = registers;
                self($($arg::from_register(registers[$place])),*).into_register()
            }
        }
    )* };
}
host_functions!((), (A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4));

impl Helper {
    /// A function of numbers: up to five arguments, each cut to its type, one result or none.
    pub fn new<Args>(id: u32, name: &'static str, function: impl HostFunction<Args>) -> Helper {
        Helper { id, name, function: Arc::new(move |_, registers| Ok(function.call(registers))) }
    }

    /// A function that also works on the program's memory, through [`Env::bytes`] and the like.
    pub fn with_env(
        id: u32,
        name: &'static str,
        function: impl Fn(&mut Env, [u64; 5]) -> HelperResult + Send + Sync + 'static,
    ) -> Helper {
        Helper { id, name, function: Arc::new(function) }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Calls it. A panic ends the run, not the process.
    pub(crate) fn call(&self, env: &mut Env, registers: [u64; 5]) -> HelperResult {
        catch_unwind(AssertUnwindSafe(|| (self.function)(env, registers)))
            .unwrap_or_else(|_| Err(Stop::Fault(FaultKind::Panic { name: self.name.to_owned() })))
    }
}

/// Calls the host function that [`Env`] was told is next.
fn call_host(env: &mut Env, registers: [u64; 5]) -> HelperResult {
    let Some(helper) = env.host_helper() else {
        return Err(FaultKind::Helper { helper: "host function", why: "it is not registered".to_owned() }.into());
    };
    helper.call(env, registers)
}

/// What both engines call for a [`Helper`]; which one is noted in the run before.
pub(crate) fn host_trampoline() -> HelperFn {
    helper_fn!(call_host)
}
