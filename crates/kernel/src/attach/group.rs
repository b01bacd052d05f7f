//! Programs of cgroups: every attach type, and LSM hooks for the processes of one cgroup.

use super::error::Attempt;
use super::{AttachError, AttachOptions, CgroupMode, Direction, names};
use crate::link::Held;
use crate::mounts;
use crate::sys::link;
use crate::{Link, Program};
use skep_abi::{AttachType, ProgramType};
use skep_object::Hook;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Flags of `BPF_PROG_ATTACH`. Source: `BPF_F_ALLOW_*`.
const ALLOW_OVERRIDE: u32 = 1;
const ALLOW_MULTI: u32 = 2;

/// Opens the directory of a version 2 cgroup.
pub(super) fn open(attempt: &Attempt<'_>, path: &Path) -> Result<OwnedFd, AttachError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let siblings: Vec<String> = std::fs::read_dir(parent)
                .map(|dir| dir.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
                .unwrap_or_default();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let near = crate::error::near(name, siblings.iter().map(String::as_str), names::NEAR);
            let root = mounts::cgroup2_root().map_or_else(mounts::not_cgroup2, |r| {
                format!("version 2 cgroups are under {}; make one with mkdir", r.display())
            });
            return Err(attempt.no_such("cgroup", &path.display().to_string(), near, root));
        }
        Err(e) => return Err(attempt.other(crate::Error::file("open cgroup", path, e))),
    };
    if !file.metadata().is_ok_and(|m| m.is_dir()) || !mounts::is_cgroup2(path) {
        return Err(attempt.usage(format!("{} is {}", path.display(), mounts::not_cgroup2()), ""));
    }
    Ok(file.into())
}

/// The path asked for, or the root of the version 2 cgroups.
fn path(program: &Program, what: &str, options: &AttachOptions) -> Result<PathBuf, AttachError> {
    match &options.cgroup {
        Some(path) => Ok(path.clone()),
        None => mounts::cgroup2_root().ok_or_else(|| {
            Attempt::new(program, format!("{what} of a cgroup")).unsupported(
                "no version 2 cgroups are mounted",
                "mount them: mount -t cgroup2 none /sys/fs/cgroup, or name a cgroup directory",
            )
        }),
    }
}

/// Where a cgroup program goes whose section does not say it.
fn derived(program: &Program, hook: &Hook, options: &AttachOptions) -> Result<AttachType, AttachError> {
    if let Some(attach_type) = hook.attach_type {
        return Ok(attach_type);
    }
    match hook.prog_type {
        ProgramType::CgroupSkb if options.direction == Direction::Egress => Ok(AttachType::CgroupInetEgress),
        ProgramType::CgroupSkb => Ok(AttachType::CgroupInetIngress),
        ProgramType::CgroupSock => Ok(AttachType::CgroupInetSockCreate),
        ProgramType::SockOps => Ok(AttachType::CgroupSockOps),
        ProgramType::CgroupDevice => Ok(AttachType::CgroupDevice),
        ProgramType::CgroupSysctl => Ok(AttachType::CgroupSysctl),
        other => Err(Attempt::new(program, format!("a cgroup ({other})"))
            .usage("its section does not say which operation", "write one such as SEC(\"cgroup/connect4\")")),
    }
}

pub(super) fn attach(program: &Program, hook: &Hook, options: &AttachOptions) -> Result<Link, AttachError> {
    let attach_type = derived(program, hook, options)?;
    let path = path(program, attach_type.word(), options)?;
    let place = format!("{} of cgroup {}", attach_type.word(), path.display());
    let attempt = Attempt::new(program, place.clone());
    let target = open(&attempt, &path)?;
    let flags = match options.cgroup_mode {
        CgroupMode::Multi => {
            match link::create(program.fd(), target.as_raw_fd() as u32, attach_type, 0, link::Extra::None) {
                Ok(fd) => return Ok(Link::new(Held::Bpf(fd), place)),
                // Kernels before 5.7 have no cgroup links; whether that is why, the older way tells.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => ALLOW_MULTI,
                Err(e) => return Err(refused(&attempt, &target, attach_type, &e)),
            }
        }
        CgroupMode::Overridable => ALLOW_OVERRIDE,
        CgroupMode::Exclusive => 0,
    };
    match link::prog_attach(program.fd(), target.as_fd(), attach_type, flags) {
        Ok(()) => {
            let program = program.fd().try_clone_to_owned().map_err(|e| attempt.refused(&e))?;
            Ok(Link::new(Held::Attached { target, program, attach_type }, place))
        }
        Err(e) => Err(refused(&attempt, &target, attach_type, &e)),
    }
}

fn refused(attempt: &Attempt<'_>, target: &OwnedFd, attach_type: AttachType, error: &std::io::Error) -> AttachError {
    if error.raw_os_error() == Some(libc::EPERM) {
        let there = link::prog_query(target.as_raw_fd() as u32, attach_type).unwrap_or_default();
        // EPERM is also what a program in the way gives: an exclusive one here or above.
        if let Some(id) = there.first() {
            return attempt.busy(
                format!("program {id} is attached there and does not share the hook"),
                "detach it first, or attach both as multi",
            );
        }
    }
    attempt.refused(error)
}

/// An LSM hook for the processes of a cgroup.
pub(super) fn lsm(program: &Program, name: Option<&str>, options: &AttachOptions) -> Result<Link, AttachError> {
    let Some(name) = name else {
        return Err(Attempt::new(program, "an LSM hook of a cgroup")
            .usage("its section names no hook", "write SEC(\"lsm_cgroup/HOOK\")"));
    };
    let path = path(program, &format!("LSM hook {name}"), options)?;
    let place = format!("LSM hook {name} of cgroup {}", path.display());
    let attempt = Attempt::new(program, place.clone());
    let target = open(&attempt, &path)?;
    match link::create(program.fd(), target.as_raw_fd() as u32, AttachType::LsmCgroup, 0, link::Extra::None) {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), place)),
        Err(e) if names::kernel_option("CONFIG_BPF_LSM") == Some(false) => Err(attempt.unsupported(
            format!("this kernel was built without CONFIG_BPF_LSM ({e})"),
            "use a kernel that has it (Debian's and Ubuntu's have)",
        )),
        Err(e) => Err(attempt.refused(&e)),
    }
}
