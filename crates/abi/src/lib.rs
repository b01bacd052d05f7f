//! Facts of the kernel's BPF interface as tables.
//!
//! Data only: nothing here does I/O or decides anything.

mod enums;
mod version;

pub use enums::{AttachType, Command, LinkType, MapType, ProgramType};
pub use version::{KernelVersion, ParseVersionError};
