//! Why an object was not loaded.

use crate::error::{Class, Error};
use crate::log::Refusal;

/// Why an object was not loaded. Nothing of it stays in the kernel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A map could not be made, filled or adopted.
    #[error("map `{name}`: {cause}")]
    Map {
        /// Its name.
        name: String,
        /// Why.
        cause: Error,
    },
    /// The kernel refused a program.
    #[error("{0}")]
    Program(Box<Refusal>),
    /// Something around a program could not be done: its hook does not exist, its target is missing.
    #[error("program `{name}`: {cause}")]
    Hook {
        /// Its name.
        name: String,
        /// Why.
        cause: Error,
    },
    /// The kernel refused the object's BTF, or types could not be read or relocated.
    #[error("types: {what}{}", if .log.is_empty() { String::new() } else { format!("\n{log}") })]
    Btf {
        /// What went wrong.
        what: String,
        /// What the kernel said, `""` if nothing.
        log: String,
    },
    /// An extern could not be resolved.
    #[error("extern `{name}`: {cause}")]
    Extern {
        /// Its name.
        name: String,
        /// Why.
        cause: Error,
    },
    /// Not permitted.
    #[error("load {object}: not permitted: {missing}; {remedy}")]
    Permission {
        /// What was to be loaded.
        object: String,
        /// What is missing, such as `CAP_BPF`.
        missing: String,
        /// How to get it.
        remedy: String,
    },
    /// This kernel can't.
    #[error("{what}: not supported here: {why}; {remedy}")]
    Unsupported {
        /// What was wanted, such as `program handle (fentry/do_unlinkat)`.
        what: String,
        /// Why it can't be.
        why: String,
        /// What to do instead.
        remedy: String,
    },
    /// The object asks for something that makes no sense.
    #[error("{object}: {why}")]
    Invalid {
        /// The object.
        object: String,
        /// What is wrong.
        why: String,
    },
}

impl LoadError {
    /// What it is to the person, which decides the exit code.
    pub fn class(&self) -> Class {
        match self {
            LoadError::Permission { .. } | LoadError::Unsupported { .. } => Class::NotPermittedOrUnsupported,
            LoadError::Map { cause, .. } | LoadError::Hook { cause, .. } | LoadError::Extern { cause, .. } => {
                match cause.class() {
                    Class::Usage => Class::NotSo,
                    class => class,
                }
            }
            LoadError::Program(_) | LoadError::Btf { .. } | LoadError::Invalid { .. } => Class::NotSo,
        }
    }
}
