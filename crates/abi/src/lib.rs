//! Facts of the kernel's BPF interface as tables.
//!
//! Data only: nothing here does I/O or decides anything.

mod enums;

pub use enums::{AttachType, Command, LinkType, MapType, ProgramType};
