//! Why a program was not attached: which program, to what, the cause, the next step.

use crate::error::{Class, Errno};
use crate::{Error, Program, privilege};
use skep_abi::ProgramType;
use std::io;

/// Why a program was not attached: `attach PROGRAM to PLACE: CAUSE; NEXT STEP`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("attach {program} to {place}: {cause}")]
pub struct AttachError {
    /// Name of the program.
    pub program: String,
    /// Where it was to be attached, for people.
    pub place: String,
    /// Why it was not.
    pub cause: Box<Cause>,
}

/// Why a program was not attached. `next` is what to do about it, `""` if nothing is known.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The hook, function, interface, binary or cgroup does not exist.
    #[error("there is no {what} `{name}`{}{}", near_names(near), tail(next))]
    NoSuch {
        /// What kind of thing, such as `tracepoint`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Names that are there and look alike, best first.
        near: Vec<String>,
        /// What to do.
        next: String,
    },
    /// Something is missing that only the caller can say, or makes no sense.
    #[error("{why}{}", tail(next))]
    Usage {
        /// What is missing or wrong.
        why: String,
        /// What to do.
        next: String,
    },
    /// Not permitted.
    #[error("not permitted: {missing}{}", tail(next))]
    Permission {
        /// What is missing, such as `CAP_NET_ADMIN`.
        missing: String,
        /// How to get it.
        next: String,
    },
    /// This machine can't.
    #[error("not supported here: {why}{}", tail(next))]
    Unsupported {
        /// Why it can't be.
        why: String,
        /// What to do instead.
        next: String,
    },
    /// Something is attached there already.
    #[error("busy: {by}{}", tail(next))]
    Busy {
        /// What is there.
        by: String,
        /// What to do.
        next: String,
    },
    /// The kernel refused for another reason.
    #[error("{errno}{}", tail(next))]
    Kernel {
        /// What it answered.
        errno: Errno,
        /// What to do.
        next: String,
    },
    /// Something on the way to attaching failed.
    #[error("{0}")]
    Other(Error),
}

impl AttachError {
    /// What it is to the person, which decides the exit code.
    pub fn class(&self) -> Class {
        match self.cause.as_ref() {
            Cause::NoSuch { .. } | Cause::Busy { .. } => Class::NotSo,
            Cause::Usage { .. } => Class::Usage,
            Cause::Permission { .. } | Cause::Unsupported { .. } => Class::NotPermittedOrUnsupported,
            Cause::Kernel { errno, .. } if errno.is_unsupported() => Class::NotPermittedOrUnsupported,
            Cause::Kernel { .. } => Class::NotSo,
            Cause::Other(cause) => cause.class(),
        }
    }
}

fn tail(next: &str) -> String {
    if next.is_empty() { String::new() } else { format!("; {next}") }
}

fn near_names(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!(" (is it `{one}`?)"),
        many => {
            let all = many.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            format!(" (near names: {all})")
        }
    }
}

/// One attempt, for making errors of: which program, to what.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) program: &'a Program,
    pub(crate) place: String,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(program: &'a Program, place: impl Into<String>) -> Attempt<'a> {
        Attempt { program, place: place.into() }
    }

    fn error(&self, cause: Cause) -> AttachError {
        AttachError { program: self.program.name().to_owned(), place: self.place.clone(), cause: Box::new(cause) }
    }

    pub(crate) fn no_such(
        &self,
        what: &'static str,
        name: &str,
        near: Vec<String>,
        next: impl Into<String>,
    ) -> AttachError {
        self.error(Cause::NoSuch { what, name: name.to_owned(), near, next: next.into() })
    }

    pub(crate) fn usage(&self, why: impl Into<String>, next: impl Into<String>) -> AttachError {
        self.error(Cause::Usage { why: why.into(), next: next.into() })
    }

    pub(crate) fn permission(&self, missing: impl Into<String>, next: impl Into<String>) -> AttachError {
        self.error(Cause::Permission { missing: missing.into(), next: next.into() })
    }

    pub(crate) fn unsupported(&self, why: impl Into<String>, next: impl Into<String>) -> AttachError {
        self.error(Cause::Unsupported { why: why.into(), next: next.into() })
    }

    pub(crate) fn busy(&self, by: impl Into<String>, next: impl Into<String>) -> AttachError {
        self.error(Cause::Busy { by: by.into(), next: next.into() })
    }

    pub(crate) fn other(&self, cause: Error) -> AttachError {
        self.error(Cause::Other(cause))
    }

    pub(crate) fn kernel(&self, errno: Errno, next: impl Into<String>) -> AttachError {
        self.error(Cause::Kernel { errno, next: next.into() })
    }

    /// What a refused system call means where the hook has nothing better to say.
    pub(crate) fn refused(&self, error: &io::Error) -> AttachError {
        let errno = Errno::of(error);
        match errno.0 {
            libc::EPERM | libc::EACCES => {
                let (missing, next) = missing_rights(self.program.prog_type());
                self.permission(missing, next)
            }
            524 | libc::EOPNOTSUPP | libc::ENOSYS => {
                self.unsupported(format!("the kernel answers {errno}"), "`skep doctor` lists what this machine can run")
            }
            libc::EEXIST => self.busy("this program is attached there already", "detach it first"),
            libc::E2BIG => self.busy(
                "the kernel runs at most 64 programs at one place",
                "detach one; `skep ps` lists what is attached",
            ),
            libc::EINVAL => {
                self.kernel(errno, "the kernel knows no such attachment, or the program was loaded for another one")
            }
            libc::EMFILE => self.kernel(errno, "raise the limit of open files: ulimit -n"),
            _ => self.kernel(errno, ""),
        }
    }
}

/// Which rights an attachment of this type takes that this process does not have, and how to get them.
fn missing_rights(prog_type: Option<ProgramType>) -> (String, String) {
    use ProgramType as P;
    privilege::diagnose(match prog_type {
        // Loading these takes less than attaching them.
        Some(P::SocketFilter | P::CgroupSkb) => &["CAP_BPF", "CAP_NET_ADMIN"],
        other => privilege::needed(other),
    })
}
