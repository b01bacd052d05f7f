//! Sources of events: where a program's contexts come from when no kernel fires them.

pub mod syscalls;
pub mod tracepoints;
