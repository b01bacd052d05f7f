//! Many functions with one link: kprobe.multi, kprobe.session, uprobe.multi, uprobe.session.

use super::error::Attempt;
use super::{AttachError, AttachOptions, names, probe};
use crate::binaries;
use crate::link::Held;
use crate::sys::link;
use crate::{Link, Program};
use skep_abi::AttachType;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// `BPF_F_KPROBE_MULTI_RETURN`, `BPF_F_UPROBE_MULTI_RETURN`.
const RETURN: u32 = 1;

/// The most functions of one link. Source: `MAX_KPROBE_MULTI_CNT`, `MAX_UPROBE_MULTI_CNT`.
const LIMIT: usize = 1 << 20;

pub(super) fn kprobes(
    program: &Program,
    pattern: Option<&str>,
    ret: bool,
    session: bool,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let kind = match (session, ret) {
        (true, _) => "kprobe.session",
        (false, true) => "kretprobe.multi",
        (false, false) => "kprobe.multi",
    };
    let Some(pattern) = pattern else {
        return Err(Attempt::new(program, format!("a {kind}"))
            .usage("its section names no function", format!("write SEC(\"{kind}/vfs_*\")")));
    };
    let attempt = Attempt::new(program, format!("{kind} {pattern}"));
    let wild = pattern.contains(['*', '?']);
    let functions = match wild {
        true => names::matching_functions(pattern).map_err(|e| attempt.other(e))?,
        false => vec![pattern.to_owned()],
    };
    if functions.is_empty() {
        return Err(attempt.no_such(
            "kernel function that fits",
            pattern,
            Vec::new(),
            "`*` is any text, `?` any character",
        ));
    }
    if functions.len() > LIMIT {
        return Err(attempt.usage(format!("{} functions fit, the kernel takes {LIMIT}", functions.len()), ""));
    }
    let owned: Vec<CString> = functions.iter().filter_map(|f| CString::new(f.as_str()).ok()).collect();
    let symbols: Vec<&CStr> = owned.iter().map(CString::as_c_str).collect();
    let cookies = if options.cookie == 0 { Vec::new() } else { vec![options.cookie; symbols.len()] };
    let attach_type = if session { AttachType::TraceKprobeSession } else { AttachType::TraceKprobeMulti };
    let flags = if ret { RETURN } else { 0 };
    let extra = link::Extra::KprobeMulti { flags, symbols: &symbols, cookies: &cookies };
    match link::create(program.fd(), 0, attach_type, 0, extra) {
        Ok(fd) => Ok(Link::new(Held::Bpf(fd), format!("{kind} {pattern} ({} functions)", symbols.len()))),
        Err(e) => Err(kprobes_refused(&attempt, pattern, wild, session, &e)),
    }
}

fn kprobes_refused(attempt: &Attempt<'_>, pattern: &str, wild: bool, session: bool, error: &io::Error) -> AttachError {
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) if !wild => attempt.no_such(
            "traceable kernel function",
            pattern,
            names::near_functions(pattern),
            "functions must be in available_filter_functions in tracefs",
        ),
        // What the kernel has in place of the attachment when it is built without.
        Some(libc::EOPNOTSUPP) => attempt.unsupported(
            "this kernel was built without CONFIG_FPROBE",
            "use SEC(\"kprobe/FUNCTION\"), a tracepoint, or a kernel that has it",
        ),
        Some(libc::EINVAL) if session => attempt.unsupported(
            format!("the kernel refuses it: {error}"),
            "kprobe.session is known from 6.10 on; use kprobe.multi and kretprobe.multi",
        ),
        Some(libc::EINVAL) => attempt.unsupported(
            format!("the kernel refuses it: {error}"),
            "kprobe.multi is known from 5.18 on; use SEC(\"kprobe/FUNCTION\")",
        ),
        _ => attempt.refused(error),
    }
}

pub(super) fn uprobes(
    program: &Program,
    at: Option<&(String, String)>,
    ret: bool,
    session: bool,
    options: &AttachOptions,
) -> Result<Link, AttachError> {
    let kind = match (session, ret) {
        (true, _) => "uprobe.session",
        (false, true) => "uretprobe.multi",
        (false, false) => "uprobe.multi",
    };
    let Some((name, pattern)) = at else {
        return Err(Attempt::new(program, format!("a {kind}"))
            .usage("its section names no functions", format!("write SEC(\"{kind}/PATH:PATTERN\")")));
    };
    let attempt = Attempt::new(program, format!("{kind} {name}:{pattern}"));
    let binary = probe::find_binary(&attempt, name, options.pid)?;
    let offsets = if pattern.contains(['*', '?']) {
        let all = binaries::functions(&binary.path).map_err(|e| probe::no_symbols(&attempt, &binary, pattern, e))?;
        // Several names may stand for one place, which the kernel takes once; a name may stand for several, which all fit.
        let fits = |f: &binaries::Function| names::glob(pattern, &f.name) || names::glob(pattern, &f.full_name());
        let found: std::collections::BTreeSet<u64> = all.iter().filter(|f| fits(f)).map(|f| f.offset).collect();
        found.into_iter().collect()
    } else {
        vec![probe::function(&attempt, &binary, pattern)?.offset]
    };
    if offsets.is_empty() {
        return Err(attempt.no_such("function that fits", pattern, Vec::new(), "`*` is any text, `?` any character"));
    }
    let path = CString::new(binary.path.as_os_str().as_bytes())
        .map_err(|_| attempt.usage("the path contains a zero byte", ""))?;
    let cookies = if options.cookie == 0 { Vec::new() } else { vec![options.cookie; offsets.len()] };
    let attach_type = if session { AttachType::TraceUprobeSession } else { AttachType::TraceUprobeMulti };
    let extra = link::Extra::UprobeMulti {
        flags: if ret { RETURN } else { 0 },
        path: &path,
        offsets: &offsets,
        cookies: &cookies,
        pid: options.pid.unwrap_or(0),
    };
    match link::create(program.fd(), 0, attach_type, 0, extra) {
        Ok(fd) => {
            let shown = binary.shown.display();
            Ok(Link::new(Held::Bpf(fd), format!("{kind} {shown}:{pattern} ({} functions)", offsets.len())))
        }
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
            Err(attempt.no_such("process", &options.pid.unwrap_or(0).to_string(), Vec::new(), ""))
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | 524)) => Err(attempt.unsupported(
            format!("the kernel refuses it: {e}"),
            "uprobe.multi is known from 6.6 on, uprobe.session from 6.13 on; use SEC(\"uprobe/PATH:FUNCTION\")",
        )),
        Err(e) => Err(attempt.refused(&e)),
    }
}
