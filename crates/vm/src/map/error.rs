//! Errors of maps: the kernel's numbers, and why a map cannot be made.

use skep_abi::MapType;
use std::fmt;

/// An error number as the kernel gives it, positive. Programs see it negated, see [`Errno::to_ret`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

#[expect(missing_docs, reason = "the names of errno.h")]
impl Errno {
    pub const EPERM: Errno = Errno(1);
    pub const ENOENT: Errno = Errno(2);
    pub const E2BIG: Errno = Errno(7);
    pub const EBADF: Errno = Errno(9);
    pub const EAGAIN: Errno = Errno(11);
    pub const ENOMEM: Errno = Errno(12);
    pub const EACCES: Errno = Errno(13);
    pub const EBUSY: Errno = Errno(16);
    pub const EEXIST: Errno = Errno(17);
    pub const EINVAL: Errno = Errno(22);
    pub const ENOSPC: Errno = Errno(28);
    pub const EOPNOTSUPP: Errno = Errno(95);
    pub const ENOTSUPP: Errno = Errno(524);
}

impl Errno {
    /// What a helper returns for it.
    pub fn to_ret(self) -> i64 {
        -i64::from(self.0)
    }

    /// Such as `ENOENT`; `?` for a number without a name.
    pub fn name(self) -> &'static str {
        skep_abi::errno::name(i64::from(self.0)).unwrap_or("?")
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name())
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match skep_abi::errno::by_number(i64::from(self.0)) {
            Some(errno) => write!(f, "{} ({})", errno.text, errno.name),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

/// Result of an operation on a map.
pub type Result<T> = std::result::Result<T, Errno>;

/// What a helper returns.
pub(crate) fn ret(result: Result<()>) -> i64 {
    result.map_or_else(Errno::to_ret, |()| 0)
}

/// Why a map could not be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel would refuse it too, with this number.
    #[error("create map {what}: {why} ({})", errno.name())]
    Refused {
        /// What `BPF_MAP_CREATE` answers.
        errno: Errno,
        /// Name and shape of the map.
        what: String,
        /// The cause and what to change.
        why: String,
    },
    /// A type that the embedded engine does not have.
    #[error(
        "create map {name}: the embedded engine has no maps of type {map_type}; run it in the kernel (--engine kernel)"
    )]
    Unsupported {
        /// Name of the map.
        name: String,
        /// Its type.
        map_type: MapType,
    },
}

impl MapError {
    /// The number that a program or a caller of bpf(2) would see.
    pub fn errno(&self) -> Errno {
        match self {
            MapError::Refused { errno, .. } => *errno,
            MapError::Unsupported { .. } => Errno::EOPNOTSUPP,
        }
    }
}
