//! What can go wrong when talking to Linux, said for the person who has to act: what was attempted, on what, why it
//! failed, what to do next.

use std::fmt;

/// An error number of a system call, shown as `EPERM (not permitted)`.
///
/// BPF also returns `ENOTSUPP` (524), which the C library has no text for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// `ENOTSUPP`: the kernel's own "not supported", which is not `EOPNOTSUPP`. Source: `include/linux/errno.h`.
    pub const ENOTSUPP: Errno = Errno(524);

    /// The name as in `errno.h`, where it has one here.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::E2BIG => "E2BIG",
            libc::ENOEXEC => "ENOEXEC",
            libc::EBADF => "EBADF",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::ENOTDIR => "ENOTDIR",
            libc::EISDIR => "EISDIR",
            libc::EINVAL => "EINVAL",
            libc::ENFILE => "ENFILE",
            libc::EMFILE => "EMFILE",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::EROFS => "EROFS",
            libc::EDOM => "EDOM",
            libc::ERANGE => "ERANGE",
            libc::ENAMETOOLONG => "ENAMETOOLONG",
            libc::ENOSYS => "ENOSYS",
            libc::ELOOP => "ELOOP",
            libc::ENODATA => "ENODATA",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::EILSEQ => "EILSEQ",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EADDRINUSE => "EADDRINUSE",
            libc::ENETDOWN => "ENETDOWN",
            libc::ENOTCONN => "ENOTCONN",
            libc::ETIMEDOUT => "ETIMEDOUT",
            libc::ESTALE => "ESTALE",
            524 => "ENOTSUPP",
            _ => return None,
        })
    }

    /// What it means, in a few words.
    pub fn text(self) -> String {
        match self.0 {
            524 => "not supported by this kernel".into(),
            libc::E2BIG => "too big, or a field the kernel does not know".into(),
            libc::EPERM => "not permitted".into(),
            libc::ENOENT => "does not exist".into(),
            n => {
                let text = std::io::Error::from_raw_os_error(n).to_string();
                let text = text.split(" (os error").next().unwrap_or(&text);
                let mut chars = text.chars();
                chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
            }
        }
    }

    /// The error number of an I/O error, 0 if it has none.
    pub fn of(error: &std::io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(0))
    }

    /// Whether it is one that the kernel answers when it does not know what was asked for.
    pub fn is_unsupported(self) -> bool {
        matches!(self.0, 524 | libc::EOPNOTSUPP | libc::ENOSYS)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.text()),
            None => write!(f, "{} (errno {})", self.text(), self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno::of(&error)
    }
}

/// What an error is to the person, which decides the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The thing asked about is not so: a program is unsafe, an object is broken. Exit code 1.
    NotSo,
    /// Asked wrongly. Exit code 2.
    Usage,
    /// Not permitted, or not supported on this machine. Exit code 3.
    NotPermittedOrUnsupported,
}

impl Class {
    /// The exit code of the `skep` command for this class.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::NotSo => 1,
            Class::Usage => 2,
            Class::NotPermittedOrUnsupported => 3,
        }
    }
}

/// Why something asked of the kernel was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{action} {object}: {errno}{}", tail(next))]
    Kernel {
        /// What was attempted, such as `create map`.
        action: &'static str,
        /// On what, such as `counts (hash, key 4, value 8, 1024 entries)`.
        object: String,
        /// What the kernel answered.
        errno: Errno,
        /// What to do about it, `""` if nothing is known.
        next: String,
    },
    /// Key or value of another size than the map has.
    #[error("map {map}: {what} takes {expected} bytes, not {given}")]
    Size {
        /// Name of the map.
        map: String,
        /// `a key`, `a value`.
        what: &'static str,
        /// Bytes it takes.
        expected: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// A name that is not there.
    #[error("there is no {what} `{name}`{}{}", near_names(near), tail(next))]
    NoSuch {
        /// What kind of thing, such as `kernel function`.
        what: &'static str,
        /// The name.
        name: String,
        /// Names that are there and look alike, best first.
        near: Vec<String>,
        /// What to do about it, `""` if nothing is known.
        next: String,
    },
    /// Missing a right.
    #[error("{action} {object}: not permitted: {missing}{}", tail(next))]
    Permission {
        /// What was attempted.
        action: &'static str,
        /// On what.
        object: String,
        /// What is missing, such as `CAP_BPF`.
        missing: String,
        /// How to get it.
        next: String,
    },
    /// This machine can't.
    #[error("{what}: not supported here: {why}{}", tail(next))]
    Unsupported {
        /// What was wanted.
        what: String,
        /// Why it can't be.
        why: String,
        /// What to do instead.
        next: String,
    },
    /// Asked for something that makes no sense.
    #[error("{action} {object}: {why}")]
    Invalid {
        /// What was attempted.
        action: &'static str,
        /// On what.
        object: String,
        /// What is wrong.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{action} {path}: {errno}{}", tail(next))]
    File {
        /// What was attempted.
        action: &'static str,
        /// Which file.
        path: String,
        /// Why not.
        errno: Errno,
        /// What to do about it, `""` if nothing is known.
        next: String,
    },
    /// Type information that could not be read.
    #[error("type information of {of}: {source}")]
    Btf {
        /// Whose.
        of: String,
        /// What is wrong with it.
        source: skep_btf::Error,
    },
}

impl Error {
    /// A failed system call.
    pub(crate) fn kernel(action: &'static str, object: impl Into<String>, error: impl Into<Errno>) -> Error {
        Error::Kernel { action, object: object.into(), errno: error.into(), next: String::new() }
    }

    /// A file that could not be read or written.
    pub(crate) fn file(action: &'static str, path: impl AsRef<std::path::Path>, error: impl Into<Errno>) -> Error {
        Error::File { action, path: path.as_ref().display().to_string(), errno: error.into(), next: String::new() }
    }

    /// The same with a next step; those that carry none stay as they are.
    pub(crate) fn with_next(mut self, step: impl Into<String>) -> Error {
        if let Error::Kernel { next, .. }
        | Error::NoSuch { next, .. }
        | Error::Permission { next, .. }
        | Error::Unsupported { next, .. }
        | Error::File { next, .. } = &mut self
        {
            *next = step.into();
        }
        self
    }

    /// The error number, where a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } | Error::File { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// What it is to the person.
    pub fn class(&self) -> Class {
        match self {
            Error::Permission { .. } | Error::Unsupported { .. } => Class::NotPermittedOrUnsupported,
            Error::Kernel { errno, .. } | Error::File { errno, .. }
                if matches!(errno.0, libc::EPERM | libc::EACCES) || errno.is_unsupported() =>
            {
                Class::NotPermittedOrUnsupported
            }
            Error::Size { .. } | Error::Invalid { .. } => Class::Usage,
            _ => Class::NotSo,
        }
    }
}

/// Result of what asks the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn tail(next: &str) -> String {
    if next.is_empty() { String::new() } else { format!("; {next}") }
}

fn near_names(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!(" (is it `{one}`?)"),
        [rest @ .., last] => {
            let rest = rest.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            format!(" (near names: {rest} and `{last}`)")
        }
    }
}

/// The up to `limit` names most like `name`, best first; only those that are close enough to be a slip of the pen or
/// that contain it.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>, limit: usize) -> Vec<String> {
    let mut near = Near::new(name, limit);
    known.for_each(|k| near.offer(k));
    near.found()
}

/// [`near`] for names that come one by one and are too many to be kept.
#[derive(Debug)]
pub(crate) struct Near<'n> {
    name: &'n str,
    limit: usize,
    /// Best first.
    best: Vec<(f64, String)>,
}

impl<'n> Near<'n> {
    pub(crate) fn new(name: &'n str, limit: usize) -> Near<'n> {
        Near { name, limit, best: Vec::new() }
    }

    /// One that is known.
    pub(crate) fn offer(&mut self, known: &str) {
        let difference = known.len().abs_diff(self.name.len());
        if difference > 8 || known == self.name {
            return;
        }
        let alike = strsim::jaro_winkler(self.name, known);
        // Slips of one letter; the distance is dear, and is 1 only where the lengths say so (in letters of ASCII).
        let slip = difference <= 1 && strsim::osa_distance(self.name, known) == 1;
        let score = match slip {
            true => alike.max(0.95),
            false if known.contains(self.name) => alike + 0.15,
            false => alike,
        };
        if score <= 0.88 || self.best.iter().any(|(_, there)| there == known) {
            return;
        }
        let worse = |(there, name): &(f64, String)| there.total_cmp(&score).then(known.cmp(name)).is_lt();
        let place = self.best.iter().position(worse).unwrap_or(self.best.len());
        if place < self.limit {
            self.best.insert(place, (score, known.to_owned()));
            self.best.truncate(self.limit);
        }
    }

    pub(crate) fn found(self) -> Vec<String> {
        self.best.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_sentences() {
        let e = Error::kernel("create map", "counts", Errno::ENOTSUPP).with_next("use a hash");
        assert_eq!(e.to_string(), "create map counts: not supported by this kernel (ENOTSUPP); use a hash");
        assert_eq!(e.class(), Class::NotPermittedOrUnsupported);
        let e = Error::NoSuch {
            what: "kernel function",
            name: "do_unlinkatt".into(),
            near: near("do_unlinkatt", ["do_unlinkat", "do_exit"].into_iter(), 3),
            next: String::new(),
        };
        assert_eq!(e.to_string(), "there is no kernel function `do_unlinkatt` (is it `do_unlinkat`?)");
        assert_eq!(Errno(libc::ENOSPC).to_string(), "no space left on device (ENOSPC)");
    }
}
