//! Sources of events: where a program's contexts come from when no kernel fires them.

pub mod packets;
pub mod syscalls;
pub mod tracepoints;
