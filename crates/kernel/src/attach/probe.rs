//! Probes by perf event: kprobes, uprobes, sampling.

use super::error::Attempt;
use super::tracing::into_event;
use super::{AttachError, AttachOptions, Rate, names};
use crate::binaries::{self, Binary, Function};
use crate::error::Near;
use crate::sys::perf::{self, EventAttr, Sampling};
use crate::{Link, Program, cpu};
use skep_abi::perf::PerfType;
use skep_object::UprobeTarget;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// What kernels call the entry functions of system calls, by machine. Source: `arch/*/include/asm/syscall_wrapper.h`.
#[cfg(target_arch = "x86_64")]
const SYSCALL_PREFIX: &str = "__x64_sys_";
#[cfg(target_arch = "aarch64")]
const SYSCALL_PREFIX: &str = "__arm64_sys_";
#[cfg(target_arch = "riscv64")]
const SYSCALL_PREFIX: &str = "__riscv_sys_";
#[cfg(target_arch = "s390x")]
const SYSCALL_PREFIX: &str = "__s390x_sys_";
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "s390x")))]
const SYSCALL_PREFIX: &str = "sys_";

/// A PMU of dynamic probes: its number, and the `config` bit that makes a return probe.
struct ProbePmu {
    number: u32,
    return_bit: u64,
}

/// Reads what sysfs says of `kprobe` or `uprobe`; `None` where the kernel has none.
fn pmu(name: &str) -> Option<ProbePmu> {
    let base = format!("/sys/bus/event_source/devices/{name}");
    let number = std::fs::read_to_string(format!("{base}/type")).ok()?.trim().parse().ok()?;
    // "config:0"
    let format = std::fs::read_to_string(format!("{base}/format/retprobe")).ok();
    let bit: u32 = format.and_then(|f| f.trim().strip_prefix("config:")?.parse().ok()).unwrap_or(0);
    Some(ProbePmu { number, return_bit: 1u64.checked_shl(bit).unwrap_or(1) })
}

pub(super) fn kprobe(
    program: &Program,
    func: Option<&(String, u64)>,
    ret: bool,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let kind = if ret { "kretprobe" } else { "kprobe" };
    let Some((func, offset)) = func else {
        return Err(Attempt::new(program, format!("a {kind}"))
            .usage("its section names no function", format!("write SEC(\"{kind}/FUNCTION\")")));
    };
    let place = match offset {
        0 => format!("{kind} {func}"),
        n => format!("{kind} {func}+{n:#x}"),
    };
    let attempt = Attempt::new(program, place.clone());
    let pmu = kprobe_pmu(&attempt)?;
    let name = CString::new(func.as_str()).map_err(|_| attempt.usage("the name contains a zero byte", ""))?;
    let attr = EventAttr::probe(pmu.number, if ret { pmu.return_bit } else { 0 }, &name, *offset);
    let event = perf::open(&attr, -1, 0).map_err(|e| kprobe_refused(&attempt, func, *offset, &e))?;
    Ok(Link::new(into_event(&attempt, event, options.cookie)?, place))
}

fn kprobe_pmu(attempt: &Attempt<'_>) -> Result<ProbePmu, AttachError> {
    pmu("kprobe").ok_or_else(|| {
        let missing: Vec<&str> = ["CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS"]
            .into_iter()
            .filter(|o| names::kernel_option(o) == Some(false))
            .collect();
        let why = match missing.as_slice() {
            [] => "this kernel has no perf events for kprobes (/sys/bus/event_source/devices/kprobe)".into(),
            _ => format!("this kernel was built without {}", missing.join(" and ")),
        };
        attempt.unsupported(why, "use a tracepoint, fentry, or a kernel that has kprobes")
    })
}

fn kprobe_refused(attempt: &Attempt<'_>, func: &str, offset: u64, error: &io::Error) -> AttachError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => attempt.no_such(
            "kernel function",
            func,
            names::near_functions(func),
            "the compiler may have inlined it, or given it a suffix such as .isra.0",
        ),
        Some(libc::EADDRNOTAVAIL) => attempt.usage(
            format!("several kernel functions are called {func}"),
            "say which by an offset from a function whose name is its own, or use a caller",
        ),
        Some(libc::EILSEQ) => attempt.usage(
            format!("{offset:#x} is not where an instruction of {func} starts"),
            "take an offset from a disassembly",
        ),
        Some(libc::EINVAL) => {
            let (mut there, mut near) = (false, Near::new(func, names::NEAR));
            let walked = names::each_kernel_function(|known| {
                there |= known == func;
                near.offer(known);
            });
            match walked {
                Ok(()) if !there => attempt.no_such("kernel function", func, near.found(), ""),
                _ => attempt.unsupported(
                    format!("the kernel lets nobody probe {func} here"),
                    "probes would loop there; probe a caller of it (see kprobes/blacklist in debugfs)",
                ),
            }
        }
        _ => attempt.refused(error),
    }
}

pub(super) fn ksyscall(
    program: &Program,
    name: Option<&str>,
    ret: bool,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let kind = if ret { "kretsyscall" } else { "ksyscall" };
    let Some(name) = name else {
        return Err(Attempt::new(program, format!("a {kind}"))
            .usage("its section names no system call", format!("write SEC(\"{kind}/openat\")")));
    };
    let attempt = Attempt::new(program, format!("{kind} {name}"));
    kprobe_pmu(&attempt)?;
    // Best first: where a kernel has several of them, only the first is called by every way in.
    let candidates = [format!("{SYSCALL_PREFIX}{name}"), format!("__se_sys_{name}"), format!("sys_{name}")];
    let (mut best, mut any, mut near) = (None, false, Near::new(name, names::NEAR));
    let walked = names::each_kernel_function(|known| {
        any = true;
        let rank = candidates.iter().position(|c| c == known);
        best = [best, rank].into_iter().flatten().min();
        if let Some(call) = known.strip_prefix(SYSCALL_PREFIX) {
            near.offer(call);
        }
    });
    let rank = match best {
        Some(rank) => rank,
        // Without symbols to look at, the kernel is asked for the usual name.
        None if !any || walked.is_err() => 0,
        None => return Err(attempt.no_such("system call", name, near.found(), "")),
    };
    let [first, second, third] = candidates;
    let func = match rank {
        0 => first,
        1 => second,
        _ => third,
    };
    kprobe(program, Some(&(func, 0)), ret, options)
}

/// Finds a binary as a section or a person names it.
pub(super) fn find_binary(attempt: &Attempt<'_>, name: &str, pid: Option<u32>) -> Result<Binary, AttachError> {
    binaries::find(name, pid).map_err(|missing| match missing {
        binaries::NotFound::Process(pid) => attempt.no_such("process", &pid.to_string(), Vec::new(), ""),
        binaries::NotFound::Binary { near } => attempt.no_such(
            "binary or library",
            name,
            near,
            "give its path; libraries are looked for where the loader looks",
        ),
    })
}

pub(super) fn uprobe(
    program: &Program,
    at: Option<&UprobeTarget>,
    ret: bool,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let kind = if ret { "uretprobe" } else { "uprobe" };
    let Some(at) = at else {
        return Err(Attempt::new(program, format!("a {kind}"))
            .usage("its section names no function", format!("write SEC(\"{kind}/PATH:FUNCTION\")")));
    };
    let what = match (&at.func, at.offset) {
        (Some(func), 0) => func.clone(),
        (Some(func), n) => format!("{func}+{n:#x}"),
        (None, n) => format!("{n:#x}"),
    };
    let attempt = Attempt::new(program, format!("{kind} {}:{what}", at.binary));
    let binary = find_binary(&attempt, &at.binary, options.pid)?;
    let function = at.func.as_deref().map(|func| function(&attempt, &binary, func)).transpose()?;
    let offset = function.as_ref().map_or(0, |f| f.offset).saturating_add(at.offset);
    let Some(pmu) = pmu("uprobe") else {
        let why = match names::kernel_option("CONFIG_UPROBE_EVENTS") {
            Some(false) => "this kernel was built without CONFIG_UPROBE_EVENTS",
            _ => "this kernel has no perf events for uprobes (/sys/bus/event_source/devices/uprobe)",
        };
        return Err(attempt.unsupported(why, "use a kernel that has uprobes"));
    };
    let path = CString::new(binary.path.as_os_str().as_bytes())
        .map_err(|_| attempt.usage("the path contains a zero byte", ""))?;
    let attr = EventAttr::probe(pmu.number, if ret { pmu.return_bit } else { 0 }, &path, offset);
    // With a process the probe is put into it alone, wherever it runs; else into all, and the CPU does not matter.
    let (pid, cpu) = match options.pid {
        Some(pid) => (i32::try_from(pid).unwrap_or(i32::MAX), -1),
        None => (-1, 0),
    };
    let event = perf::open(&attr, pid, cpu).map_err(|e| match e.raw_os_error() {
        Some(libc::ESRCH) => attempt.no_such("process", &pid.to_string(), Vec::new(), ""),
        Some(libc::EINVAL | libc::EIO) => attempt.usage(
            format!("{} has no code at offset {offset:#x} where a probe can stand", binary.path.display()),
            "check the offset; the file must lie in a file system of disks or memory",
        ),
        _ => attempt.refused(&e),
    })?;
    let of = options.pid.map_or_else(String::new, |p| format!(" in process {p}"));
    let held = into_event(&attempt, event, options.cookie)?;
    let link = Link::new(held, format!("{kind} {}:{what}{of}", binary.shown.display()));
    Ok(match function {
        Some(f) if f.indirect => link.with_note(format!(
            "{} is an indirect function: the probe is at what chooses its implementation, which runs once a process; the \
             calls go to the implementation",
            f.full_name()
        )),
        _ => link,
    })
}

/// A function in a binary's file.
pub(super) fn function(attempt: &Attempt<'_>, binary: &Binary, func: &str) -> Result<Function, AttachError> {
    binaries::function(&binary.path, func).map_err(|e| no_symbols(attempt, binary, func, e))
}

/// Why there is no such function.
pub(super) fn no_symbols(
    attempt: &Attempt<'_>,
    binary: &Binary,
    func: &str,
    error: binaries::SymbolError,
) -> AttachError {
    match error {
        binaries::SymbolError::Missing { near, stripped } => {
            let next = if stripped {
                "the binary has only the symbols that it exports; give an offset (PATH:0x1234), or install one with symbols"
            } else {
                ""
            };
            attempt.no_such("function in this binary", func, near, next)
        }
        binaries::SymbolError::Ambiguous { places } => attempt.usage(
            format!("{} has several functions of this name: {}", binary.shown.display(), places.join(", ")),
            "say which by its version (PATH:NAME@VERSION) or its place (PATH:0x1234)",
        ),
        binaries::SymbolError::Unreadable(why) => attempt.usage(format!("{}: {why}", binary.shown.display()), ""),
        binaries::SymbolError::File(e) => attempt.other(crate::Error::file("read", &binary.shown, e)),
    }
}

/// What to count, by the names of perf.
fn event_of(attempt: &Attempt<'_>, name: &str) -> Result<(u32, u64), AttachError> {
    if let Some(event) = skep_abi::perf::by_name(name) {
        return Ok((event.kind as u32, event.config));
    }
    if let Some(code) = name.strip_prefix('r').and_then(|c| u64::from_str_radix(c, 16).ok()) {
        return Ok((PerfType::Raw as u32, code));
    }
    if let Some((category, name)) = name.split_once(':') {
        return Err(attempt.usage(
            format!("{category}:{name} is a tracepoint, which a perf_event program cannot sample"),
            format!("make it SEC(\"tracepoint/{category}/{name}\")"),
        ));
    }
    let known = skep_abi::perf::EVENTS.iter().flat_map(|e| e.names.iter().copied());
    let near = crate::error::near(name, known, names::NEAR);
    Err(attempt.no_such("perf event", name, near, "`perf list` shows names"))
}

/// One link for each CPU, or for each thread of a process.
pub(super) fn perf_event(program: &Program, options: &AttachOptions) -> Result<Vec<Link>, AttachError> {
    let wanted = &options.sampling;
    let (rate, said) = match wanted.rate {
        Rate::FrequencyHz(hz) => (Sampling::Frequency(hz), format!("{hz} Hz")),
        Rate::Period(n) => (Sampling::Period(n), format!("every {n}")),
    };
    let what = format!("perf event {} ({said})", wanted.event);
    let attempt = Attempt::new(program, what.clone());
    if matches!(wanted.rate, Rate::FrequencyHz(0) | Rate::Period(0)) {
        return Err(attempt.usage("a rate of 0 takes no samples", "give a frequency or a period"));
    }
    let (kind, config) = event_of(&attempt, &wanted.event)?;
    let attr = EventAttr::sampling(kind, config, rate, options.pid.is_some());
    let targets: Vec<(i32, i32, String)> = match options.pid {
        Some(pid) => threads(pid)
            .ok_or_else(|| attempt.no_such("process", &pid.to_string(), Vec::new(), ""))?
            .into_iter()
            .map(|tid| (tid, -1, format!("{what} in thread {tid}")))
            .collect(),
        None => cpu::online()
            .map_err(|e| attempt.other(e))?
            .into_iter()
            .map(|cpu| (-1, cpu as i32, format!("{what} on CPU {cpu}")))
            .collect(),
    };
    let mut links = Vec::with_capacity(targets.len());
    for (pid, cpu, place) in targets {
        let event = match perf::open(&attr, pid, cpu) {
            Ok(event) => event,
            // Went offline, or ended, since it was listed.
            Err(e) if cpu >= 0 && e.raw_os_error() == Some(libc::ENODEV) && is_offline(cpu) => continue,
            Err(e) if pid > 0 && e.raw_os_error() == Some(libc::ESRCH) => continue,
            Err(e) => return Err(event_refused(&attempt, kind, &wanted.event, wanted.rate, &e)),
        };
        links.push(Link::new(into_event(&attempt, event, options.cookie)?, place));
    }
    if links.is_empty() {
        return Err(match options.pid {
            Some(pid) => attempt.no_such("process", &pid.to_string(), Vec::new(), "it has just ended"),
            None => attempt.unsupported("no CPU took the event", ""),
        });
    }
    Ok(links)
}

fn is_offline(cpu: i32) -> bool {
    cpu::online().is_ok_and(|online| !online.iter().any(|c| *c as i32 == cpu))
}

/// The threads of a process; `None` if there is no such process.
fn threads(pid: u32) -> Option<Vec<i32>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    Some(tasks.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

fn event_refused(attempt: &Attempt<'_>, kind: u32, name: &str, rate: Rate, error: &io::Error) -> AttachError {
    match (error.raw_os_error(), rate) {
        (Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP), _) => {
            let hardware = kind != PerfType::Software as u32;
            let why = if hardware {
                format!("this machine has no counter {name} (a virtual machine often has none)")
            } else {
                format!("this kernel does not count {name}")
            };
            attempt.unsupported(why, "sample by time: cpu-clock")
        }
        (Some(libc::EINVAL), Rate::FrequencyHz(hz)) => {
            let limit = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate")
                .ok()
                .and_then(|t| t.trim().parse::<u64>().ok());
            match limit {
                Some(limit) if hz > limit => attempt.usage(
                    format!("{hz} Hz is more than this machine allows ({limit})"),
                    "take fewer, or raise kernel.perf_event_max_sample_rate",
                ),
                _ => attempt.refused(error),
            }
        }
        (Some(libc::EBUSY), _) => attempt.busy("all hardware counters are in use", "end the other profiler"),
        _ => attempt.refused(error),
    }
}
