//! ELF objects for BPF to [`ObjectSpec`], and what is done to a spec before it is loaded.

mod spec;

pub use spec::*;

use std::sync::Arc;

/// Why an object could not be read. The object helper fills this in.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// To be replaced.
    #[error("not built yet: {0}")]
    Skeleton(Arc<str>),
}

impl ObjectSpec {
    /// Reads an ELF object made for BPF. `name` is for messages.
    pub fn parse(name: &str, _elf: &[u8]) -> Result<ObjectSpec, Error> {
        Err(Error::Skeleton(name.into()))
    }
}

/// CO-RE: fitting a program to the types of the kernel it will run in.
pub mod core {
    use super::{Error, ObjectSpec};
    use skep_btf::Btf;

    /// Applies every CO-RE record of every program against the target kernel's types. What cannot be satisfied poisons
    /// its instruction.
    pub fn relocate(_spec: &mut ObjectSpec, _target: &Btf) -> Result<(), Error> {
        Ok(())
    }
}
