//! The embedded engine: eBPF programs run in this process, interpreted or compiled to machine code, with maps and helpers.
//!
//! ```
//! use skep_vm::{Config, Context, Vm, Memory};
//! use skep_abi::ProgramType;
//! let slots = skep_isa::encode(&skep_isa::assemble("r0 = *(u8 *)(r1 + 0)\nr0 += r2\nexit").expect("it is right"));
//! let vm = Vm::new(Config::default());
//! let program = vm.load_slots("sum", ProgramType::Unspec, &slots)?;
//! let mut memory = [40, 0];
//! assert_eq!(vm.run(&program, &mut Context::memory(&mut memory))?, 42);
//!
//! // The same program over no memory: a fault that says what it tried.
//! let fault = vm.run(&program, &mut Context::memory(&mut [])).unwrap_err();
//! assert!(fault.to_string().starts_with("sum: instruction 0: read of 1 byte at 0x0"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod code;
pub mod context;
mod cpus;
mod env;
mod fault;
mod helper;
mod helpers;
mod host;
mod interp;
#[cfg(test)]
mod interp_tests;
mod jit;
mod load;
pub mod map;
mod memory;
mod packet;
mod program;
pub mod source;
mod stable;
mod system;

pub use code::CodeError;
pub use context::{Access, Context, Packet};
pub use env::{Env, Limits, MAX_MAY_GOTO, MAX_TAIL_CALLS, STACK_FRAME_BYTES};
pub use fault::{BadAccess, Fault, FaultKind, RegionView};
pub use helper::{FromRegister, Helper, HelperResult, HostFunction, IntoRegister, Stop};
pub use host::{BadAddress, Clock, Host, Print, Task};
pub use interp::Trace;
pub use load::{LIKE_KERNEL, Object, ObjectOptions};
pub use memory::RegionName;
pub use program::{Config, LoadError, Memory, Mode, Program, Runner, Vm};
pub use system::{MAX_PRINTS, OwnTask, Printed, SystemHost};
