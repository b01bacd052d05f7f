//! The embedded engine: eBPF programs run in this process, interpreted or compiled to machine code, with maps and helpers.

pub mod map;
pub mod source;
