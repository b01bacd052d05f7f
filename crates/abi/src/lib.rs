//! Facts of the kernel's BPF interface as tables, by kernel version.
//!
//! ```
//! use skep_abi::{KernelVersion, MapType, ProgramType, helpers};
//! let old: KernelVersion = "5.4.0-150-generic".parse()?;
//! assert!(MapType::Ringbuf.since() > old);
//! let output = helpers::by_name("ringbuf_output").expect("helper 130");
//! assert!(!output.programs_on(Some(old)).contains(ProgramType::Xdp));
//! # Ok::<(), skep_abi::ParseVersionError>(())
//! ```
//!
//! Data and look-ups only: nothing here does I/O, and what follows from a fact (whether a program is safe, what an
//! error means) is said elsewhere. Every table names the kernel file it is from. A first kernel (`since`) is the
//! mainline release: distributions port features back and leave others out, so it is good for a hint and for checking a
//! program against a kernel that is not there, and an attempt decides for the one that is.
//!
//! The tests hold the tables against the running kernel: numbers and layouts against its BTF (`tests/kernel_btf.rs`),
//! helpers, context access and map rules by asking it (`tests/attempts.rs`), names against bpftool.

pub mod attach;
pub mod context;
mod enums;
pub mod errno;
pub mod flags;
pub mod helpers;
pub mod insn;
pub mod kfunc;
pub mod kfuncs;
pub mod licence;
pub mod map_helpers;
pub mod maps;
pub mod perf;
pub mod signal;
pub mod syscalls;
pub mod verdict;
mod version;

pub use enums::{AttachType, Command, LinkType, MapType, ProgramType};
pub use version::{KernelVersion, ParseVersionError};
