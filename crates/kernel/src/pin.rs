//! Pins: paths in a BPF file system that hold an object.
//!
//! A path must lie in a mounted bpffs; the parent directories below the mount are made, elsewhere none. Where `/sys/fs/bpf` is not
//! mounted yet, it is mounted first, see [`crate::mounts::mount_bpffs`].

use crate::error::{Errno, Error, Result};
use crate::sys::{self, obj};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Where a BPF file system is mounted by convention.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Magic number of a bpffs. Source: `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Invalid {
        action: "use path",
        object: path.display().to_string(),
        why: "it contains a zero byte".into(),
    })
}

/// Gives an object a path. `what` says what it is, for messages.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path, what: impl Fn() -> String) -> Result<()> {
    prepare(path, &what)?;
    let c = c_path(path)?;
    obj::pin(fd, &c).map_err(|e| {
        let errno = Errno::of(&e);
        let object = format!("{} to {}", what(), path.display());
        let error = Error::kernel("pin", object, e);
        match errno.0 {
            libc::EEXIST => error.with_next("something is pinned there already; remove it or choose another path"),
            libc::EPERM => error.with_next("pinning takes CAP_BPF, and a name must not contain a dot"),
            _ => error,
        }
    })
}

/// Sees to the mount and to the directories above `path`. They are made only in a BPF file system.
fn prepare(path: &Path, what: impl Fn() -> String) -> Result<()> {
    let invalid =
        |why: String| Error::Invalid { action: "pin", object: format!("{} to {}", what(), path.display()), why };
    if path.starts_with(BPFFS) && !is_bpffs(Path::new(BPFFS)) {
        crate::mounts::mount_bpffs()?;
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Some(there) = parent.ancestors().find(|path| *path != Path::new("") && path.exists()) else {
        return Err(invalid(format!("{} does not exist", parent.display())));
    };
    if !is_bpffs(there) {
        return Err(invalid(format!("it is not in a BPF file system; use a path below {BPFFS}")));
    }
    if there != parent {
        // What is to be made could lead out again.
        if parent.components().any(|part| part == Component::ParentDir) {
            return Err(invalid("a path through `..` to a directory that does not exist; write it without".into()));
        }
        std::fs::create_dir_all(parent).map_err(|e| Error::file("make directory", parent, e))?;
    }
    Ok(())
}

/// Whether a path lies in a BPF file system.
pub fn is_bpffs(path: &Path) -> bool {
    c_path(path).ok().and_then(|c| sys::fs_magic(&c)) == Some(BPF_FS_MAGIC)
}

/// Opens what is pinned at `path`, of whatever kind.
pub(crate) fn get(path: &Path) -> Result<OwnedFd> {
    let c = c_path(path)?;
    obj::get(&c, 0).map_err(|e| {
        let errno = Errno::of(&e);
        let error = Error::kernel("open pin", path.display().to_string(), e);
        match errno.0 {
            libc::EACCES | libc::EPERM if path.exists() && !is_bpffs(path) => {
                error.with_next("it is not in a BPF file system, so nothing can be pinned there")
            }
            _ => error,
        }
    })
}

/// Opens what is pinned at `path`, which must be of a kind.
pub(crate) fn get_kind(path: &Path, kind: obj::Kind) -> Result<OwnedFd> {
    let fd = get(path)?;
    match sys::fd_kind(fd.as_fd()) {
        Some(found) if found == kind => Ok(fd),
        found => Err(Error::Invalid {
            action: "open pin",
            object: path.display().to_string(),
            why: format!("it is {}, not {}", kind_name(found), kind_name(Some(kind))),
        }),
    }
}

fn kind_name(kind: Option<obj::Kind>) -> &'static str {
    match kind {
        Some(obj::Kind::Map) => "a map",
        Some(obj::Kind::Program) => "a program",
        Some(obj::Kind::Link) => "a link",
        Some(obj::Kind::Btf) => "a BTF object",
        None => "something unknown",
    }
}

/// Removes a pin; what it held goes away unless something else holds it. That it is not there is no error.
pub fn unpin(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::file("remove pin", path, e)),
    }
}
