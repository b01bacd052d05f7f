//! Facts of the kernel's BPF interface as tables.
//!
//! Data only: nothing here does I/O or decides anything.

pub mod context;
mod enums;
pub mod errno;
pub mod flags;
pub mod helpers;
pub mod insn;
pub mod kfunc;
pub mod maps;
pub mod perf;
pub mod signal;
pub mod syscalls;
pub mod verdict;
mod version;

pub use enums::{AttachType, Command, LinkType, MapType, ProgramType};
pub use version::{KernelVersion, ParseVersionError};
