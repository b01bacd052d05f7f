//! What this machine can run, what is missing, and how to get it: the answers behind `skep doctor`.
//!
//! Everything is tried. Hooks are attached for a moment and let go: kprobes and BPF trampolines at `kernel_halt`, which
//! runs once in the life of a machine; uprobes at a function of this very process, for this process only; a tcx link is
//! asked for on an interface that cannot exist, and the kind of refusal tells.

use crate::error::Errno;
use crate::features::{self, State};
use crate::load::{LoadError, LoadOptions, load};
use crate::program::{LogLevel, Program, ProgramParams};
use crate::{attach, mounts, pin, privilege, sys};
use skep_abi::{AttachType, MapType, ProgramType};
use skep_isa::{Endian, Raw};
use skep_object::{Hook, ObjectSpec, ProgramSpec, Target, UprobeTarget};

/// One line of the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// What was tried, such as `kprobe` or `ringbuf`.
    pub name: String,
    /// How it went.
    pub state: State,
    /// What was found, `""` if there is nothing to add.
    pub detail: String,
    /// What to do where it did not work, `""` if nothing is known or needed.
    pub remedy: String,
}

/// The parts of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Area {
    /// The machine and this process's rights.
    Machine,
    /// Places to attach programs.
    Hook,
    /// What programs and their types may use.
    Feature,
    /// Program types.
    ProgramType,
    /// Map types.
    MapType,
}

impl Area {
    /// Lower-case name, stable.
    pub fn name(self) -> &'static str {
        match self {
            Area::Machine => "machine",
            Area::Hook => "hook",
            Area::Feature => "feature",
            Area::ProgramType => "program_type",
            Area::MapType => "map_type",
        }
    }
}

fn finding(area: Area, name: impl Into<String>, state: State) -> Finding {
    Finding { area, name: name.into(), state, detail: String::new(), remedy: String::new() }
}

impl Finding {
    fn detail(mut self, text: impl Into<String>) -> Finding {
        self.detail = text.into();
        self
    }

    fn remedy(mut self, text: impl Into<String>) -> Finding {
        if self.state != State::Ok {
            self.remedy = text.into();
        }
        self
    }
}

/// Tries everything.
pub fn report() -> Vec<Finding> {
    let mut out = machine();
    out.extend(hooks());
    out.extend(kernel_features());
    out.extend(program_types());
    out.extend(map_types());
    out
}

/// The machine and this process's rights.
pub fn machine() -> Vec<Finding> {
    let area = Area::Machine;
    let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_owned()).ok();
    let mut out = vec![finding(area, "kernel", State::Ok).detail(format!(
        "{} {}",
        sys::kernel_release(),
        std::env::consts::ARCH
    ))];
    let wanted = ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"];
    let missing = privilege::Capabilities::current().missing(&wanted);
    out.push(if missing.is_empty() {
        finding(area, "rights", State::Ok).detail("all that BPF needs")
    } else {
        finding(area, "rights", State::Denied)
            .detail(format!("missing {}", missing.join(", ")))
            .remedy("run as root (sudo)")
    });
    out.push(match features::btf_load() {
        State::Denied => finding(area, "bpf(2)", State::Denied)
            .detail(privilege::diagnose(&["CAP_BPF"]).0)
            .remedy(privilege::diagnose(&["CAP_BPF"]).1),
        state => finding(area, "bpf(2)", state).remedy("use a kernel with CONFIG_BPF_SYSCALL=y"),
    });
    out.push(match crate::kernel_btf() {
        Ok(btf) => finding(area, "kernel types (BTF)", State::Ok).detail(format!("{} types", btf.type_count())),
        Err(e) => finding(area, "kernel types (BTF)", State::Missing)
            .detail(e.to_string())
            .remedy("use a kernel with CONFIG_DEBUG_INFO_BTF=y, as all large distributions have"),
    });
    let jit = read("/proc/sys/net/core/bpf_jit_enable");
    out.push(match jit.as_deref() {
        Some("0") => finding(area, "just-in-time compiler", State::Missing)
            .detail("programs are interpreted")
            .remedy("sysctl net.core.bpf_jit_enable=1"),
        Some(_) => finding(area, "just-in-time compiler", State::Ok),
        None => finding(area, "just-in-time compiler", State::Missing).detail("not in this kernel"),
    });
    out.push(match mounts::TraceFs::open() {
        Ok(fs) if fs.is_detached() => {
            finding(area, "tracefs", State::Ok).detail("not mounted; skep reaches it without")
        }
        Ok(_) => finding(area, "tracefs", State::Ok),
        Err(e) => finding(area, "tracefs", State::Missing).detail(e.to_string()),
    });
    out.push(match pin::is_bpffs(std::path::Path::new(pin::BPFFS)) {
        true => finding(area, "bpffs", State::Ok).detail(pin::BPFFS),
        false => finding(area, "bpffs", State::Ok).detail("not mounted; skep mounts it when something is pinned"),
    });
    out.push(match mounts::cgroup2_root() {
        Some(root) => finding(area, "cgroup v2", State::Ok).detail(root.display().to_string()),
        None => finding(area, "cgroup v2", State::Missing)
            .detail("not mounted")
            .remedy("mount -t cgroup2 none /sys/fs/cgroup"),
    });
    out
}

/// The name of an interface-less tcx attempt: an index that no machine reaches.
const NO_INTERFACE: u32 = i32::MAX as u32;

/// A function that runs once in the life of a machine.
const QUIET_FUNCTION: &str = "kernel_halt";

/// Places to attach programs.
pub fn hooks() -> Vec<Finding> {
    use ProgramType as P;
    let plain = |prog_type, target| hook(prog_type, None, target);
    let quiet = || Some(QUIET_FUNCTION.to_owned());
    let tracing = |attach_type| hook(P::Tracing, Some(attach_type), Target::BtfFunc(quiet()));
    let mut out = vec![
        try_hook(
            "tracepoint",
            plain(P::Tracepoint, Target::Tracepoint(Some(("sched".into(), "sched_process_hang".into())))),
        ),
        try_hook("raw tracepoint", plain(P::RawTracepoint, Target::RawTracepoint(Some("sched_process_hang".into())))),
        try_hook(
            "BTF tracepoint (tp_btf)",
            hook(P::Tracing, Some(AttachType::TraceRawTp), Target::BtfTracepoint(Some("sched_process_hang".into()))),
        ),
        try_hook("kprobe", plain(P::Kprobe, Target::Kprobe { func: Some((QUIET_FUNCTION.into(), 0)), ret: false })),
        try_hook("kretprobe", plain(P::Kprobe, Target::Kprobe { func: Some((QUIET_FUNCTION.into(), 0)), ret: true })),
        try_hook(
            "kprobe.multi",
            hook(
                P::Kprobe,
                Some(AttachType::TraceKprobeMulti),
                Target::KprobeMulti { pattern: quiet(), ret: false, session: false },
            ),
        ),
        try_hook("fentry", tracing(AttachType::TraceFentry)),
        try_hook("fexit", tracing(AttachType::TraceFexit)),
    ];
    out.push(lsm());
    out.extend(uprobes());
    out.push(try_hook("perf_event (software)", plain(P::PerfEvent, Target::Unspecified)));
    out.push(hardware_counters());
    out.push(try_hook("iterator", hook(P::Tracing, Some(AttachType::TraceIter), Target::Iter(Some("task".into())))));
    out.push(tcx());
    out
}

fn hook(prog_type: ProgramType, attach_type: Option<AttachType>, target: Target) -> Hook {
    Hook { prog_type, attach_type, target, sleepable: false, xdp_frags: false, autoload: true }
}

fn least_program() -> Vec<Raw> {
    vec![Raw { opcode: 0xb7, ..Raw::default() }, Raw { opcode: 0x95, ..Raw::default() }]
}

/// Loads the least program for a hook.
fn load_for(hook: &Hook) -> Result<crate::load::Loaded, LoadError> {
    let program = ProgramSpec {
        name: "skep_doctor".into(),
        section: "doctor".into(),
        hook: hook.clone(),
        insns: least_program(),
        relocs: Vec::new(),
        core_relocs: Vec::new(),
        funcs: Vec::new(),
        lines: Vec::new(),
        poisoned: Vec::new(),
    };
    let spec = ObjectSpec {
        name: "doctor".into(),
        endian: Endian::NATIVE,
        license: "GPL".into(),
        kernel_version: 0,
        programs: vec![program],
        maps: Vec::new(),
        externs: Vec::new(),
        btf: None,
        warnings: Vec::new(),
    };
    load(&spec, &LoadOptions::default())
}

/// Loads and attaches the least program, and lets go of it.
fn try_hook(name: &str, hook: Hook) -> Finding {
    try_with(name, &hook, &attach::AttachOptions::default())
}

fn try_with(name: &str, hook: &Hook, options: &attach::AttachOptions) -> Finding {
    let area = Area::Hook;
    let loaded = match load_for(hook) {
        Ok(loaded) => loaded,
        Err(LoadError::Permission { missing, remedy, .. }) => {
            return finding(area, name, State::Denied).detail(missing).remedy(remedy);
        }
        Err(LoadError::Unsupported { why, remedy, .. }) => {
            return finding(area, name, State::Missing).detail(why).remedy(remedy);
        }
        Err(e) => return finding(area, name, State::Missing).detail(e.to_string()),
    };
    let Some(program) = loaded.programs().next() else { return finding(area, name, State::Missing) };
    match attach::attach(program, hook, options) {
        Ok(_links) => finding(area, name, State::Ok),
        Err(e) => match *e.cause {
            attach::Cause::Permission { missing, next } => {
                finding(area, name, State::Denied).detail(missing).remedy(next)
            }
            attach::Cause::Unsupported { why, next } => finding(area, name, State::Missing).detail(why).remedy(next),
            cause => finding(area, name, State::Missing).detail(cause.to_string()),
        },
    }
}

fn lsm() -> Finding {
    let name = "LSM";
    // securityfs is often not mounted in small systems; then only the attempt tells.
    let active = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let found =
        try_hook(name, hook(ProgramType::Lsm, Some(AttachType::LsmMac), Target::Lsm(Some("sb_remount".into()))));
    if found.state == State::Ok && !active.is_empty() && !active.trim().split(',').any(|l| l == "bpf") {
        return finding(Area::Hook, name, State::Missing)
            .detail(format!("programs attach but never run: bpf is not among the active modules ({})", active.trim()))
            .remedy(format!("boot with lsm={},bpf", active.trim()));
    }
    found
}

/// Never called; a uprobe is put here for a moment.
#[inline(never)]
extern "C" fn uprobe_place() -> u64 {
    std::hint::black_box(0x5ce9)
}

fn uprobes() -> Vec<Finding> {
    let both = [("uprobe", false), ("uretprobe", true)];
    let Some((binary, offset)) = place_in_file(uprobe_place as *const () as u64) else {
        return both
            .map(|(name, _)| finding(Area::Hook, name, State::Missing).detail("/proc/self/maps could not be read"))
            .to_vec();
    };
    let options = attach::AttachOptions { pid: Some(std::process::id()), ..Default::default() };
    both.map(|(name, ret)| {
        let at = Some(UprobeTarget { binary: binary.clone(), func: None, offset });
        try_with(name, &hook(ProgramType::Kprobe, None, Target::Uprobe { at, ret }), &options)
    })
    .to_vec()
}

/// The file that an address of this process is mapped from, and where in it.
fn place_in_file(address: u64) -> Option<(String, u64)> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let path = fields.nth(2)?;
        ((start..end).contains(&address) && path.starts_with('/')).then(|| (path.to_owned(), address - start + offset))
    })
}

fn hardware_counters() -> Finding {
    let name = "perf_event (hardware)";
    // PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES
    let attr = sys::perf::EventAttr::sampling(0, 0, sys::perf::Sampling::Frequency(1), false);
    match sys::perf::open(&attr, std::process::id() as i32, -1).map_err(|e| Errno::of(&e)) {
        Ok(_) => finding(Area::Hook, name, State::Ok),
        Err(e) if matches!(e.0, libc::EPERM | libc::EACCES) => finding(Area::Hook, name, State::Denied)
            .detail(e.to_string())
            .remedy("sysctl kernel.perf_event_paranoid=-1, or run as root"),
        Err(e) => finding(Area::Hook, name, State::Missing)
            .detail(format!("no hardware counters: {e}"))
            .remedy("virtual machines need them passed through; use software events such as cpu-clock"),
    }
}

fn tcx() -> Finding {
    let name = "tcx";
    let insns = least_program();
    let program =
        match Program::load(&ProgramParams::new("skep_doctor", ProgramType::SchedCls, &insns, "GPL"), LogLevel::None) {
            Ok(program) => program,
            Err(e) => return finding(Area::Hook, name, State::Denied).detail(e.errno.to_string()),
        };
    let attempt = sys::link::create(
        program.fd(),
        NO_INTERFACE,
        AttachType::TcxIngress,
        0,
        sys::link::Extra::Relative { fd_or_id: 0, revision: 0 },
    );
    match attempt.map_err(|e| Errno::of(&e)) {
        // The kernel looked for the interface, so it knows the hook.
        Ok(_) | Err(Errno(libc::ENODEV)) => finding(Area::Hook, name, State::Ok),
        Err(e) if e.0 == libc::EPERM => finding(Area::Hook, name, State::Denied)
            .detail(e.to_string())
            .remedy("this takes CAP_NET_ADMIN; run as root"),
        Err(_) => finding(Area::Hook, name, State::Missing)
            .detail("it came with Linux 6.6")
            .remedy("skep uses the classic tc hook instead"),
    }
}

/// What programs and their types may use.
pub fn kernel_features() -> Vec<Finding> {
    let area = Area::Feature;
    let btf = features::btf();
    let yes = |name: &str, has: bool| finding(area, name, if has { State::Ok } else { State::Missing });
    let replaced = |has: bool, f: Finding| if has { f } else { f.detail("skep replaces it when it loads types") };
    let mut findings =
        vec![
            finding(area, "names of objects", features::names()),
            finding(area, "global variables", features::global_data()).remedy("use a kernel from 5.2 on"),
            finding(area, "bounded loops", features::bounded_loops())
                .remedy("unroll loops, or use a kernel from 5.3 on"),
            finding(area, "arrays mapped into memory", features::array_mmap()),
            finding(area, "batch commands of maps", features::map_batch())
                .detail(if features::map_batch() == State::Ok { "" } else { "skep walks key by key" }),
            finding(area, "ring buffer", features::map_type(MapType::Ringbuf)).remedy("use a perf event array"),
            yes("cookies (bpf_get_attach_cookie)", features::bpf_cookie()),
            yes("bpf_loop", features::helper(ProgramType::Tracepoint, 181) == Some(true)),
            replaced(btf.func, yes("BTF func", btf.func)),
            replaced(btf.global_func, yes("BTF global func", btf.global_func)),
            replaced(btf.datasec, yes("BTF datasec", btf.datasec)),
            replaced(btf.float, yes("BTF float", btf.float)),
            replaced(btf.decl_tag, yes("BTF decl_tag", btf.decl_tag)),
            replaced(btf.type_tag, yes("BTF type_tag", btf.type_tag)),
            replaced(btf.enum64, yes("BTF enum64", btf.enum64)),
        ];
    deny_untried(&mut findings);
    findings
}

/// What this process may not try is not known to be missing.
fn deny_untried(findings: &mut [Finding]) {
    if features::map_type(MapType::Array) == State::Denied {
        for found in findings {
            *found = finding(found.area, found.name.clone(), State::Denied);
        }
    }
}

/// Program types that the kernel takes.
pub fn program_types() -> Vec<Finding> {
    let all = ProgramType::ALL.iter().filter(|t| **t != ProgramType::Unspec);
    let tried = all.map(|t| since(finding(Area::ProgramType, t.to_string(), features::program_type(*t)), t.since()));
    let mut findings: Vec<Finding> = tried.collect();
    deny_untried(&mut findings);
    findings
}

/// Map types that the kernel makes.
pub fn map_types() -> Vec<Finding> {
    let all = MapType::ALL.iter().filter(|t| **t != MapType::Unspec);
    let tried = all.map(|t| since(finding(Area::MapType, t.to_string(), features::map_type(*t)), t.since()));
    let mut findings: Vec<Finding> = tried.collect();
    deny_untried(&mut findings);
    findings
}

fn since(found: Finding, version: skep_abi::KernelVersion) -> Finding {
    match found.state {
        State::Missing => {
            found.detail(format!("came with Linux {version}, or left out of this kernel's configuration"))
        }
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_an_answer() {
        if !crate::test::root("doctor") {
            return;
        }
        let report = report();
        let state = |name: &str| report.iter().find(|f| f.name == name).map(|f| f.state);
        assert_eq!(state("rights"), Some(State::Ok));
        assert_eq!(state("bpf(2)"), Some(State::Ok));
        assert_eq!(state("raw tracepoint"), Some(State::Ok));
        assert_eq!(state("hash"), Some(State::Ok));
        for f in &report {
            println!("{:12} {:32} {:?} {} {}", f.area.name(), f.name, f.state, f.detail, f.remedy);
        }
    }

    #[test]
    fn places() {
        let (file, offset) = place_in_file(uprobe_place as *const () as u64).expect("mapped from a file");
        assert!(file.starts_with('/') && offset > 0);
        assert_eq!(uprobe_place(), 0x5ce9);
    }
}
