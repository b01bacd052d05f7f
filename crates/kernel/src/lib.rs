//! Everything that talks to Linux: bpf(2), perf events, links, pins, buffers, inspection.

mod btf_object;
pub mod cpu;
mod error;
pub mod features;
pub mod info;
pub mod kallsyms;
pub mod kconfig;
pub mod load;
pub mod log;
mod map;
pub mod pin;
pub mod privilege;
mod program;
mod sys;
#[cfg(test)]
mod test;

pub use btf_object::{BtfObject, BtfRefused, kernel_btf};
pub use error::{Class, Errno, Error, Result};
pub use map::{Batch, Iter, Map, MapParams, Update};
pub use program::{LineRecord, LoadRefused, LogLevel, Program, ProgramParams, TestInput, TestOutput, flags};
