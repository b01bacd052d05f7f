//! File systems that the kernel's interfaces live in: tracefs, cgroup2, bpffs; found, or reached without leaving a trace.
//!
//! ```no_run
//! let tracefs = skep_kernel::mounts::TraceFs::open()?;
//! let id = tracefs.read_text("events/sched/sched_switch/id")?;
//! # Ok::<(), skep_kernel::Error>(())
//! ```
//!
//! A tracefs that is mounted nowhere is mounted *detached* (fsopen(2), fsmount(2)): it has a descriptor but no place in
//! the directory tree, so nothing of the machine changes and it goes away with the process. Kernels before 5.2 don't have
//! that; there it is mounted at `/sys/kernel/tracing`, where it belongs.
//!
//! Limits: a mount that another file system hides is found only by trying; `/proc` must be mounted.

use crate::error::{Errno, Error, Result};
use crate::sys;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Magic numbers of file systems. Source: `include/uapi/linux/magic.h`.
const TRACEFS_MAGIC: i64 = 0x7472_6163;
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountEntry {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Directory of the file system that is mounted there, `/` for the whole.
    pub root: PathBuf,
    /// Type, such as `cgroup2`.
    pub fs_type: String,
}

/// Reads the format of `/proc/PID/mountinfo`. Lines that don't fit are left out. Source: proc(5).
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountEntry> {
    text.split(|b| *b == b'\n')
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            let dash = fields.iter().position(|f| *f == b"-")?;
            Some(MountEntry {
                root: unescape(fields.get(3)?),
                mount_point: unescape(fields.get(4)?),
                fs_type: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
            })
        })
        .collect()
}

/// Undoes the octal escapes (`\040` for a blank).
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |b: u8| (b'0'..=b'7').contains(&b).then(|| u32::from(b - b'0'));
        if let (b'\\', [a, b, c, tail @ ..]) = (first, after)
            && let (Some(a), Some(b), Some(c)) = (octal(*a), octal(*b), octal(*c))
        {
            out.push((a * 64 + b * 8 + c) as u8);
            rest = tail;
            continue;
        }
        out.push(first);
        rest = after;
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// Where file systems of a type are mounted, as this process sees it.
pub fn mounted(fs_type: &str) -> Vec<MountEntry> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    parse_mountinfo(&text).into_iter().filter(|m| m.fs_type == fs_type).collect()
}

fn has_magic(path: &Path, magic: i64) -> bool {
    CString::new(path.as_os_str().as_bytes()).ok().and_then(|c| sys::fs_magic(&c)) == Some(magic)
}

/// A way into tracefs, mounted or not.
#[derive(Debug)]
pub struct TraceFs {
    base: PathBuf,
    /// Keeps a detached mount alive; `base` leads through it.
    detached: Option<OwnedFd>,
}

impl TraceFs {
    /// Finds it, or reaches it without a mount point.
    pub fn open() -> Result<TraceFs> {
        let known = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(PathBuf::from);
        let elsewhere = mounted("tracefs").into_iter().map(|m| m.mount_point);
        if let Some(base) = known.into_iter().chain(elsewhere).find(|p| has_magic(p, TRACEFS_MAGIC)) {
            return Ok(TraceFs { base, detached: None });
        }
        match detached_mount("tracefs") {
            Ok(fd) => {
                let base = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                Ok(TraceFs { base, detached: Some(fd) })
            }
            Err(errno) if errno.0 == libc::ENOSYS => mount_tracefs(),
            Err(errno) => Err(tracefs_error(errno)),
        }
    }

    /// One that is shared by the whole process, opened at first use.
    pub fn shared() -> Result<&'static TraceFs> {
        static SHARED: OnceLock<Result<TraceFs>> = OnceLock::new();
        SHARED.get_or_init(TraceFs::open).as_ref().map_err(Clone::clone)
    }

    /// Whether it is a mount of its own without a place in the directory tree.
    pub fn is_detached(&self) -> bool {
        self.detached.is_some()
    }

    /// The path of a file in it, which is good for this process as long as `self` lives.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.base.join(relative)
    }

    /// Reads a file, such as `events/sched/sched_switch/id`. The error names the file as it is known elsewhere.
    pub fn read_text(&self, relative: &str) -> Result<String> {
        let bytes = std::fs::read(self.path(relative))
            .map_err(|e| Error::file("read", Path::new("/sys/kernel/tracing").join(relative), e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a directory, directories only; empty if it can't be read.
    pub fn directories(&self, relative: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(relative)) else { return Vec::new() };
        entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect()
    }
}

fn tracefs_error(errno: Errno) -> Error {
    match errno.0 {
        libc::EPERM | libc::EACCES => Error::Permission {
            action: "open",
            object: "tracefs".into(),
            missing: "it is not mounted, and mounting it takes CAP_SYS_ADMIN".into(),
            next: "run as root, or have it mounted: mount -t tracefs tracefs /sys/kernel/tracing".into(),
        },
        libc::ENODEV => Error::Unsupported {
            what: "tracefs".into(),
            why: "this kernel was built without CONFIG_TRACING".into(),
            next: "use a kernel that has tracepoints".into(),
        },
        _ => Error::kernel("mount", "tracefs", errno),
    }
}

/// A mount without a place in the directory tree.
fn detached_mount(fs_type: &str) -> Result<OwnedFd, Errno> {
    let errno = |e: rustix::io::Errno| Errno(e.raw_os_error());
    let context = rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC).map_err(errno)?;
    rustix::mount::fsconfig_create(&context).map_err(errno)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(errno)
}

fn mount_tracefs() -> Result<TraceFs> {
    let base = PathBuf::from("/sys/kernel/tracing");
    rustix::mount::mount("tracefs", &base, "tracefs", MountFlags::empty(), None)
        .map_err(|e| tracefs_error(Errno(e.raw_os_error())))?;
    Ok(TraceFs { base, detached: None })
}

/// Mounts the BPF file system where it belongs, `/sys/fs/bpf`, unless it is there. Pins must outlive the process, so this
/// mount is a real one.
pub fn mount_bpffs() -> Result<()> {
    let place = Path::new(crate::pin::BPFFS);
    if crate::pin::is_bpffs(place) {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("bpf", place, "bpf", flags, Some(c"mode=0700")).map_err(|e| {
        let errno = Errno(e.raw_os_error());
        let error = Error::kernel("mount", format!("the BPF file system at {}", place.display()), errno);
        match errno.0 {
            libc::EPERM => error.with_next("mounting takes CAP_SYS_ADMIN; run as root"),
            libc::ENOENT => error.with_next("mount /sys first"),
            libc::ENODEV => error.with_next("this kernel was built without CONFIG_BPF_SYSCALL"),
            _ => error,
        }
    })
}

/// Where the root of the version 2 cgroups is: `/sys/fs/cgroup`, or on a machine with both versions
/// `/sys/fs/cgroup/unified`, or elsewhere. `None` if it is mounted nowhere.
pub fn cgroup2_root() -> Option<PathBuf> {
    let mut all: Vec<PathBuf> =
        mounted("cgroup2").into_iter().map(|m| m.mount_point).filter(|p| is_cgroup2(p)).collect();
    all.sort_by_key(|p| (!p.starts_with("/sys/fs/cgroup"), p.components().count()));
    all.into_iter().next()
}

/// Whether a path lies in a version 2 cgroup file system.
pub fn is_cgroup2(path: &Path) -> bool {
    has_magic(path, CGROUP2_MAGIC)
}

/// The id of a version 2 cgroup, as `bpf_get_current_cgroup_id` gives it. It is the inode number of its directory.
pub fn cgroup_id(path: &Path) -> Result<u64> {
    let meta = std::fs::metadata(path).map_err(|e| Error::file("open cgroup", path, e))?;
    if !meta.is_dir() || !is_cgroup2(path) {
        return Err(Error::Invalid { action: "open cgroup", object: path.display().to_string(), why: not_cgroup2() });
    }
    Ok(meta.ino())
}

/// What to say of a path that is no version 2 cgroup.
pub(crate) fn not_cgroup2() -> String {
    match cgroup2_root() {
        Some(root) => {
            format!("not a directory of version 2 cgroups; on this machine they are under {}", root.display())
        }
        None => "not a directory of version 2 cgroups; none is mounted here: mount -t cgroup2 none DIRECTORY".into(),
    }
}

/// The version 2 cgroup that a process is in, as a path; `None` if that can't be seen from here.
pub fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    let full = cgroup2_root()?.join(path.trim_start_matches('/'));
    full.is_dir().then_some(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            41 31 0:38 / /sys/fs/cgroup/my\\040dir rw shared:5 master:1 - cgroup2 cgroup2 rw\nbroken\n";
        let all = parse_mountinfo(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].mount_point, Path::new("/sys/fs/cgroup/my dir"));
        assert_eq!(all[1].fs_type, "cgroup2");
        assert_eq!(unescape(b"a\\04"), Path::new("a\\04"));
    }

    #[test]
    fn tracefs_without_a_mount() {
        if !crate::test::root("tracefs") {
            return;
        }
        let before = std::fs::read("/proc/self/mountinfo").expect("mountinfo");
        let tracefs = TraceFs::open().expect("tracefs");
        let id = tracefs.read_text("events/sched/sched_switch/id").expect("id");
        assert!(id.trim().parse::<u32>().is_ok(), "{id}");
        assert!(tracefs.directories("events").iter().any(|d| d == "sched"));
        assert_eq!(before, std::fs::read("/proc/self/mountinfo").expect("mountinfo"), "nothing was mounted");
    }
}
