//! Why a program was not attached: which program, to what, the cause, the next step.

use crate::error::{Class, Errno};
use crate::{Error, Program, privilege};
use skep_abi::ProgramType;
use std::io;

/// Why a program was not attached.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The hook, function, interface, binary or cgroup does not exist.
    #[error("attach {program} to {place}: there is no {what} `{name}`{}{}", near_names(near), tail(next))]
    NoSuch {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// What kind of thing, such as `tracepoint`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Names that are there and look alike, best first.
        near: Vec<String>,
        /// What to do, `""` if nothing is known.
        next: String,
    },
    /// Something is missing that only the caller can say, or makes no sense.
    #[error("attach {program} to {place}: {why}{}", tail(next))]
    Usage {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// What is missing or wrong.
        why: String,
        /// What to do.
        next: String,
    },
    /// Not permitted.
    #[error("attach {program} to {place}: not permitted: {missing}{}", tail(next))]
    Permission {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// What is missing, such as `CAP_NET_ADMIN`.
        missing: String,
        /// How to get it.
        next: String,
    },
    /// This machine can't.
    #[error("attach {program} to {place}: not supported here: {why}{}", tail(next))]
    Unsupported {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// Why it can't be.
        why: String,
        /// What to do instead.
        next: String,
    },
    /// Something is attached there already.
    #[error("attach {program} to {place}: busy: {by}{}", tail(next))]
    Busy {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// What is there.
        by: String,
        /// What to do about it.
        next: String,
    },
    /// The kernel refused for another reason.
    #[error("attach {program} to {place}: {errno}{}", tail(next))]
    Kernel {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// What it answered.
        errno: Errno,
        /// What to do, `""` if nothing is known.
        next: String,
    },
    /// Something on the way to attaching failed.
    #[error("attach {program} to {place}: {cause}")]
    Other {
        /// Name of the program.
        program: String,
        /// Where it was to be attached.
        place: String,
        /// Why.
        cause: Error,
    },
}

impl AttachError {
    /// What it is to the person, which decides the exit code.
    pub fn class(&self) -> Class {
        match self {
            AttachError::NoSuch { .. } | AttachError::Busy { .. } => Class::NotSo,
            AttachError::Usage { .. } => Class::Usage,
            AttachError::Permission { .. } | AttachError::Unsupported { .. } => Class::NotPermittedOrUnsupported,
            AttachError::Kernel { errno, .. } if errno.is_unsupported() => Class::NotPermittedOrUnsupported,
            AttachError::Kernel { .. } => Class::NotSo,
            AttachError::Other { cause, .. } => cause.class(),
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

    fn who(&self) -> (String, String) {
        (self.program.name().to_owned(), self.place.clone())
    }

    pub(crate) fn no_such(
        &self,
        what: &'static str,
        name: &str,
        near: Vec<String>,
        next: impl Into<String>,
    ) -> AttachError {
        let (program, place) = self.who();
        AttachError::NoSuch { program, place, what, name: name.to_owned(), near, next: next.into() }
    }

    pub(crate) fn usage(&self, why: impl Into<String>, next: impl Into<String>) -> AttachError {
        let (program, place) = self.who();
        AttachError::Usage { program, place, why: why.into(), next: next.into() }
    }

    pub(crate) fn unsupported(&self, why: impl Into<String>, next: impl Into<String>) -> AttachError {
        let (program, place) = self.who();
        AttachError::Unsupported { program, place, why: why.into(), next: next.into() }
    }

    pub(crate) fn busy(&self, by: impl Into<String>, next: impl Into<String>) -> AttachError {
        let (program, place) = self.who();
        AttachError::Busy { program, place, by: by.into(), next: next.into() }
    }

    pub(crate) fn other(&self, cause: Error) -> AttachError {
        let (program, place) = self.who();
        AttachError::Other { program, place, cause }
    }

    pub(crate) fn kernel(&self, errno: Errno, next: impl Into<String>) -> AttachError {
        let (program, place) = self.who();
        AttachError::Kernel { program, place, errno, next: next.into() }
    }

    /// What a refused system call means where the hook has nothing better to say.
    pub(crate) fn refused(&self, error: &io::Error) -> AttachError {
        let errno = Errno::of(error);
        let (program, place) = self.who();
        match errno.0 {
            libc::EPERM | libc::EACCES => {
                let (missing, next) = missing_rights(self.program.prog_type());
                AttachError::Permission { program, place, missing, next }
            }
            524 | libc::EOPNOTSUPP | libc::ENOSYS => AttachError::Unsupported {
                program,
                place,
                why: format!("the kernel answers {errno}"),
                next: "`skep doctor` lists what this machine can run".into(),
            },
            libc::EEXIST => AttachError::Busy {
                program,
                place,
                by: "this program is attached there already".into(),
                next: "detach it first".into(),
            },
            libc::E2BIG => AttachError::Busy {
                program,
                place,
                by: "there is no room for another program".into(),
                next: "detach one first; `skep ps` lists what is attached".into(),
            },
            libc::EINVAL => AttachError::Kernel {
                program,
                place,
                errno,
                next: "the kernel knows no such attachment, or the program was loaded for another one".into(),
            },
            libc::EMFILE => {
                AttachError::Kernel { program, place, errno, next: "raise the limit of open files: ulimit -n".into() }
            }
            _ => AttachError::Kernel { program, place, errno, next: String::new() },
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
