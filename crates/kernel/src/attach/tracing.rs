//! Tracepoints of the three kinds, functions and LSM hooks by BTF, iterators.

use super::error::Attempt;
use super::{AttachError, AttachOptions, names};
use crate::error::near;
use crate::link::Held;
use crate::mounts::{self, TraceFs};
use crate::sys::{link, perf};
use crate::{Error, Link, Program};
use skep_abi::AttachType;
use skep_object::Hook;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Puts a program into a perf event and starts it: by a link, or where the kernel has none for perf events (before 5.15)
/// by the ioctl.
pub(super) fn into_event(attempt: &Attempt<'_>, event: OwnedFd, cookie: u64) -> Result<Held, AttachError> {
    let extra = if cookie == 0 { link::Extra::None } else { link::Extra::PerfEvent { cookie } };
    let target = event.as_raw_fd() as u32;
    let program = attempt.program.fd();
    let held = match link::create(program, target, AttachType::PerfEvent, 0, extra) {
        Ok(fd) => Held::Bpf(fd),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => match perf::set_program(event.as_fd(), program) {
            Ok(()) if cookie != 0 => {
                return Err(attempt.unsupported("this kernel has no attach cookies", "use a kernel from 5.15 on"));
            }
            Ok(()) => {
                perf::enable(event.as_fd()).map_err(|e| attempt.refused(&e))?;
                return Ok(Held::PerfEvent(event));
            }
            // Both refuse: the reason is not the missing link.
            Err(e) => return Err(attempt.refused(&e)),
        },
        Err(e) => return Err(attempt.refused(&e)),
    };
    // The link holds the event from now on.
    perf::enable(event.as_fd()).map_err(|e| attempt.refused(&e))?;
    Ok(held)
}

/// The id of a tracepoint in tracefs.
fn tracepoint_id(attempt: &Attempt<'_>, category: &str, name: &str) -> Result<u64, AttachError> {
    let tracefs = TraceFs::shared().map_err(|e| attempt.other(e))?;
    let plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
    let text = match tracefs.read_text(&format!("events/{category}/{name}/id")) {
        _ if !plain(category) || !plain(name) => None,
        Ok(text) => Some(text),
        Err(e) if e.errno().is_some_and(|e| e.0 == libc::ENOENT || e.0 == libc::ENOTDIR) => None,
        Err(Error::File { errno, .. }) if matches!(errno.0, libc::EACCES | libc::EPERM) => {
            return Err(attempt.refused(&io::Error::from_raw_os_error(errno.0)));
        }
        Err(e) => return Err(attempt.other(e)),
    };
    if let Some(id) = text.as_deref().and_then(|t| t.trim().parse().ok()) {
        return Ok(id);
    }
    let known = names::tracepoints();
    let full = format!("{category}/{name}");
    let slashed: Vec<String> = known.iter().map(|(c, n)| format!("{c}/{n}")).collect();
    // The right name under another category is the likeliest slip.
    let mut found: Vec<String> = known.iter().filter(|(_, n)| n == name).map(|(c, n)| format!("{c}/{n}")).collect();
    found.extend(near(&full, slashed.iter().map(String::as_str), names::NEAR));
    if found.is_empty() {
        let by_name = near(name, known.iter().map(|(_, n)| n.as_str()), names::NEAR);
        found.extend(known.iter().filter(|(_, n)| by_name.contains(n)).map(|(c, n)| format!("{c}/{n}")));
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|f| seen.insert(f.clone()));
    found.truncate(names::NEAR);
    let next = match names::kernel_option("CONFIG_FTRACE_SYSCALLS") {
        Some(false) if category == "syscalls" => "this kernel was built without CONFIG_FTRACE_SYSCALLS",
        _ => "",
    };
    Err(attempt.no_such("tracepoint", &full, found, next))
}

pub(super) fn tracepoint(
    program: &Program,
    name: Option<&(String, String)>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let Some((category, name)) = name else {
        return Err(Attempt::new(program, "a tracepoint")
            .usage("its section names no tracepoint", "write SEC(\"tracepoint/CATEGORY/NAME\")"));
    };
    let place = format!("tracepoint {category}/{name}");
    let attempt = Attempt::new(program, place.clone());
    let id = tracepoint_id(&attempt, category, name)?;
    // The event belongs to one CPU, but the program hangs on the tracepoint and sees all of them.
    let event = perf::open(&perf::EventAttr::tracepoint(id), -1, 0).map_err(|e| attempt.refused(&e))?;
    Ok(Link::new(into_event(&attempt, event, options.cookie)?, place))
}

pub(super) fn raw_tracepoint(
    program: &Program,
    name: Option<&str>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let Some(name) = name else {
        return Err(Attempt::new(program, "a raw tracepoint")
            .usage("its section names no tracepoint", "write SEC(\"raw_tracepoint/NAME\")"));
    };
    let place = format!("raw tracepoint {name}");
    let attempt = Attempt::new(program, place.clone());
    let c_name = CString::new(name).map_err(|_| attempt.usage("the name contains a zero byte", ""))?;
    match link::raw_tracepoint(program.fd(), Some(&c_name), options.cookie) {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), place)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
            let known = names::raw_tracepoints();
            let near = near(name, known.iter().map(String::as_str), names::NEAR);
            let next = match name.strip_prefix("sys_enter_").or_else(|| name.strip_prefix("sys_exit_")) {
                Some(_) => "system calls share the raw tracepoints sys_enter and sys_exit",
                None => "",
            };
            Err(attempt.no_such("raw tracepoint", name, near, next))
        }
        Err(e) if options.cookie != 0 && matches!(e.raw_os_error(), Some(libc::E2BIG | libc::EINVAL)) => {
            Err(attempt.unsupported("this kernel has no cookies for raw tracepoints", "use a kernel from 6.10 on"))
        }
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(attempt
            .kernel(crate::error::Errno(libc::EINVAL), "the program reads more arguments than this tracepoint has")),
        Err(e) => Err(attempt.refused(&e)),
    }
}

/// Programs that were loaded for their target: BTF tracepoints, kernel functions, LSM hooks, replaced functions.
pub(super) fn by_btf(
    program: &Program,
    hook: &Hook,
    kind: &str,
    name: Option<&str>,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let Some(name) = name else {
        return Err(Attempt::new(program, format!("{kind} (unnamed)"))
            .usage("its section names nothing to attach to", "write the name behind a slash in SEC()"));
    };
    let place = format!("{kind} {name}");
    let attempt = Attempt::new(program, place.clone());
    let result = match (options.cookie, hook.attach_type) {
        (0, _) | (_, None) => link::raw_tracepoint(program.fd(), None, 0),
        (cookie, Some(attach_type)) => {
            link::create(program.fd(), 0, attach_type, 0, link::Extra::Tracing { target_btf_id: 0, cookie })
        }
    };
    match result {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), place)),
        Err(e) => Err(by_btf_refused(&attempt, hook, name, &e)),
    }
}

/// Why a program that was accepted for its target can't be attached to it.
fn by_btf_refused(attempt: &Attempt<'_>, hook: &Hook, name: &str, error: &io::Error) -> AttachError {
    let errno = error.raw_os_error().unwrap_or(0);
    let lsm = hook.attach_type == Some(AttachType::LsmMac);
    match errno {
        524 | libc::EOPNOTSUPP | libc::ENODEV | libc::EINVAL | libc::EBUSY if lsm => {
            if let Some(false) = names::kernel_option("CONFIG_BPF_LSM") {
                return attempt.unsupported(
                    "this kernel was built without CONFIG_BPF_LSM",
                    "use a kernel that has it (Debian's and Ubuntu's have)",
                );
            }
            trampoline_refused(attempt, name, error)
        }
        524 | libc::EOPNOTSUPP | libc::ENODEV | libc::EINVAL | libc::EBUSY => trampoline_refused(attempt, name, error),
        libc::E2BIG => attempt.busy(
            "the function has as many programs as the kernel takes (38)",
            "detach one first; `skep ps` lists them",
        ),
        libc::ENOENT => attempt.no_such("function that can be traced", name, Vec::new(), ""),
        _ => attempt.refused(error),
    }
}

/// Trampolines need what hardened kernels leave out.
fn trampoline_refused(attempt: &Attempt<'_>, name: &str, error: &io::Error) -> AttachError {
    let errno = crate::error::Errno::of(error);
    let missing: Vec<&str> =
        ["CONFIG_FUNCTION_TRACER", "CONFIG_DYNAMIC_FTRACE", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"]
            .into_iter()
            .filter(|option| names::kernel_option(option) == Some(false))
            .collect();
    if !missing.is_empty() {
        return attempt.unsupported(
            format!("this kernel was built without {}", missing.join(" and ")),
            "use a tracepoint, or a kernel that has it",
        );
    }
    if errno.is_unsupported() || errno.0 == libc::ENODEV {
        return attempt.unsupported(
            format!("the kernel puts no trampoline at {name}: {errno}"),
            "the function may be marked as not to be traced; try a caller of it, a kprobe or a tracepoint",
        );
    }
    match errno.0 {
        libc::EBUSY => attempt.busy(
            "something else patches this function (a live patch, or a tracer)",
            "see enabled_functions in tracefs",
        ),
        _ => attempt.refused(error),
    }
}

pub(super) fn iterator(program: &Program, kind: Option<&str>, options: &AttachOptions) -> Result<Link, AttachError> {
    let Some(kind) = kind else {
        return Err(Attempt::new(program, "an iterator").usage("its section names no kind", "write SEC(\"iter/task\")"));
    };
    let place = format!("iterator over {kind}");
    let attempt = Attempt::new(program, place.clone());
    // union bpf_iter_link_info: map_fd | cgroup { order, fd, id } | task { tid, pid, pid_fd }, 16 bytes.
    let words = |a: u32, b: u32| [a, b, 0, 0].map(u32::to_ne_bytes).concat();
    let mut cgroup = None;
    let info = match kind {
        "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap" => match &options.map {
            Some(map) => words(map.as_raw_fd() as u32, 0),
            None => return Err(attempt.usage("it walks one map, and none was given", "say which map")),
        },
        "cgroup" => {
            let path = match &options.cgroup {
                Some(path) => path.clone(),
                None => mounts::cgroup2_root()
                    .ok_or_else(|| attempt.unsupported(mounts::not_cgroup2(), "mount the version 2 cgroups"))?,
            };
            let fd = cgroup.insert(super::group::open(&attempt, &path)?);
            // BPF_CGROUP_ITER_DESCENDANTS_PRE
            words(2, fd.as_raw_fd() as u32)
        }
        "task" | "task_file" | "task_vma" => options.pid.map(|pid| words(0, pid)).unwrap_or_default(),
        _ => Vec::new(),
    };
    match link::create(program.fd(), 0, AttachType::TraceIter, 0, link::Extra::Iter { info: &info }) {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), place)),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
            Err(attempt.no_such("process", &options.pid.unwrap_or(0).to_string(), Vec::new(), ""))
        }
        Err(e) => Err(attempt.refused(&e)),
    }
}
