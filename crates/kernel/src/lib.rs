//! Everything that talks to Linux: bpf(2), perf events, links, pins, buffers, inspection.

pub mod attach;
pub mod binaries;
mod btf_object;
pub mod cpu;
pub mod doctor;
mod error;
pub mod features;
pub mod info;
pub mod inspect;
pub mod iter;
pub mod kallsyms;
pub mod kconfig;
mod link;
pub mod load;
pub mod log;
mod map;
pub mod mounts;
mod netlink;
pub mod perfbuf;
pub mod pin;
pub mod privilege;
mod program;
pub mod reader;
pub mod ringbuf;
pub mod stats;
mod sys;
#[cfg(test)]
mod test;
pub mod trace_pipe;

pub use btf_object::{BtfObject, BtfRefused, btf_of_file, kernel_btf};
pub use error::{Class, Errno, Error, Result};
pub use link::{Link, LinkSummary};
pub use map::{Batch, Iter, Map, MapParams, Update};
pub use program::{LineRecord, LoadRefused, LogLevel, Program, ProgramParams, TestInput, TestOutput, flags};
