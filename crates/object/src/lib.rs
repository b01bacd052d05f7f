//! ELF objects for BPF to [`ObjectSpec`], and what is done to a spec before it is loaded.
//!
//! | from | to | by |
//! |---|---|---|
//! | bytes of an ELF file | [`ObjectSpec`] | [`ObjectSpec::parse`] |
//! | a section name | [`Hook`] | [`sections::hook`] |
//! | a spec with CO-RE records, a kernel's types | a spec that fits this kernel | [`core::relocate`] |
//! | `NAME=VALUE` for a global | changed contents of its data section | [`ObjectSpec::set_global`] |
//! | a kernel's configuration and symbols | filled externs | [`externs::set_kconfig`], [`externs::resolve`] |
//! | a spec | text for tests and people | [`ObjectSpec::dump`] |
//!
//! The same bytes give the same spec on every machine: nothing here looks at the running kernel, does I/O, or
//! panics on any input. A file is refused with an [`Error`] that names the part; what is odd but usable is a warning in
//! [`ObjectSpec::warnings`].
//!
//! Limits, each with what happens at it: [`MAX_SECTIONS`], [`MAX_NAME`], [`MAX_SECTION_SIZE`], [`MAX_PROGRAMS`], [`MAX_INSNS`],
//! [`MAX_TOTAL_INSNS`], [`MAX_TOTAL_CORE`], [`MAX_MAPS`], [`externs::MAX_EXTERNS`]: the file is refused with [`Error::Limit`].

pub mod core;
pub mod externs;
pub mod sections;

mod data;
mod dump;
mod elf;
mod error;
mod globals;
mod link;
mod maps;
mod near;
mod read;
mod spec;
mod warnings;

pub use dump::Dump;
pub use elf::{MAX_NAME, MAX_SECTION_SIZE, MAX_SECTIONS};
pub use error::Error;
pub use link::{MAX_INSNS, MAX_PROGRAMS, MAX_TOTAL_CORE, MAX_TOTAL_INSNS};
pub use maps::MAX_MAPS;
pub use spec::*;

impl ObjectSpec {
    /// Reads an ELF object made for BPF. `name` is for messages.
    ///
    /// # Errors
    /// Not ELF, not for BPF, truncated or inconsistent, broken type information or map definitions, references to what
    /// is not there. One error is returned, the first.
    pub fn parse(name: &str, elf: &[u8]) -> Result<ObjectSpec, Error> {
        read::read(name, elf)
    }
}
