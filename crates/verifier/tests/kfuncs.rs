//! The table of kernel functions ([`skep_abi::kfuncs`]) against the running kernel: who may call each, which of them sleep, and
//! which want no null pointer.
//!
//! Each function is called with zeros from each type of program. What the kernel says then tells: it is not allowed; the program
//! must be sleepable; a pointer may be null; or something about the arguments, which means that it may be called.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::kfunc::KfuncFlags;
use skep_abi::{KernelVersion, ProgramType, kfuncs};
use skep_btf::{Btf, Kind, Type, TypeId};
use skep_isa::{Call, Insn, encode};
use skep_kernel::load::{LoadError, LoadOptions, load};
use skep_progen::Generated;

/// Types that load without more, or with what is named.
const PROGRAMS: &[&str] = &[
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb\nattach cgroup_inet_ingress",
    "cgroup_sock\nattach cgroup_inet_sock_create",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr\nattach cgroup_inet4_connect",
    "lwt_seg6local",
    "sk_reuseport\nattach sk_reuseport_select",
    "flow_dissector",
    "cgroup_sysctl",
    "cgroup_sockopt\nattach cgroup_getsockopt",
    "tracing\nattach trace_raw_tp\ntarget task_newtask",
    "sk_lookup\nattach sk_lookup",
    "syscall\nsleepable",
    "netfilter\nattach netfilter",
];

const CODE: &str = "code\n r6 = r1\n r1 = 0\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n r0 = 0\n r0 = 0\n exit\n";

/// What the kernel's log says of a call with zeros; `None` where the program type cannot be loaded here at all.
fn ask(program: &Generated, id: Option<TypeId>) -> Option<String> {
    let mut spec = program.to_spec();
    if let Some(id) = id {
        let insns = &mut spec.programs[0].insns;
        let call = encode(&[Insn::Call(Call::Kfunc { btf_id: id.0.cast_signed(), btf_idx: 0 })]);
        insns[6] = call[0];
    }
    match load(&spec, &LoadOptions::default()) {
        Ok(_) => Some(String::new()),
        Err(LoadError::Program(refusal)) => Some(refusal.log.clone()),
        Err(_) => None,
    }
}

/// The first argument that the kernel looks at, if it is a pointer for which null means null: neither the context nor ignored.
fn first_is_plain_pointer(btf: &Btf, id: TypeId) -> bool {
    let Ok(proto) = btf.prototype(id) else { return false };
    let Some(first) = proto.params.first() else { return false };
    let is_pointer = btf.resolve(first.ty).is_ok_and(|ty| matches!(btf.kind(ty), Ok(Kind::Ptr)));
    let named = ["__ign", "__nullable", "__opt", "__prog"].iter().any(|end| first.name.ends_with(end));
    is_pointer && !named
}

#[test]
fn who_may_call_what_is_as_the_kernel_says() {
    if !rustix::process::geteuid().is_root() {
        println!("needs root: the kernel is not asked");
        return;
    }
    let Some(btf) = std::fs::read("/sys/kernel/btf/vmlinux").ok().and_then(|bytes| Btf::parse(bytes).ok()) else {
        println!("needs a kernel with types: it is not asked");
        return;
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Ok(release) = release.trim().parse::<KernelVersion>() else { return };
    let known = KernelVersion::new(6, 18);
    if release < known || release >= KernelVersion::new(6, 19) {
        println!("the table is of 6.18, this is {release}: not compared");
        return;
    }
    let programs: Vec<Generated> = PROGRAMS
        .iter()
        .map(|head| Generated::parse(&format!("type {head}\n{CODE}")).expect("a program"))
        .filter(|program| match ask(program, None).as_deref() {
            Some("") => true,
            answer => {
                println!("{} programs cannot be asked: {}", program.prog_type, answer.unwrap_or("no answer"));
                false
            }
        })
        .collect();
    let registered: BTreeSet<TypeId> = btf
        .types()
        .filter_map(|(_, ty)| match ty {
            Ok(Type::DeclTag { name: "bpf_kfunc", target, .. }) => Some(target),
            _ => None,
        })
        .collect();
    let mut wrong: BTreeMap<String, String> = BTreeMap::new();
    let mut asked = 0;
    for kfunc in kfuncs::all() {
        // Functions that this kernel was built without, or that another place decides.
        let Some(id) = btf.find(kfunc.name, Kind::Func).filter(|id| registered.contains(id)) else { continue };
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        for program in &programs {
            let Some(log) = ask(program, Some(id)) else { continue };
            asked += 1;
            let allowed =
                !log.contains("is not allowed") && !log.contains("metadata kfuncs require device-bound program");
            let listed = kfunc.programs.contains(program.prog_type) && kfunc.places.is_empty();
            let bound = kfunc.name.starts_with("bpf_xdp_metadata_");
            match (allowed, listed && !bound) {
                (true, false) => more.push(program.prog_type.to_string()),
                (false, true) => fewer.push(program.prog_type.to_string()),
                (true, true) => {
                    let sleeps = kfunc.flags.contains(KfuncFlags::SLEEPABLE);
                    if program.prog_type != ProgramType::Syscall && log.contains("program must be sleepable") != sleeps
                    {
                        wrong.insert(format!("{} sleeps", kfunc.name), log.clone());
                    }
                    let trusts = [KfuncFlags::TRUSTED_ARGS, KfuncFlags::RCU, KfuncFlags::RELEASE]
                        .iter()
                        .any(|flag| kfunc.flags.contains(*flag));
                    let looked_at = first_is_plain_pointer(&btf, id) && !log.contains("must be sleepable");
                    if looked_at && log.contains("Possibly NULL pointer passed to trusted arg0") != trusts {
                        wrong.insert(format!("{} trusted", kfunc.name), log.clone());
                    }
                }
                (false, false) => {}
            }
        }
        if !more.is_empty() || !fewer.is_empty() {
            wrong.insert(kfunc.name.to_owned(), format!("also {more:?}, not {fewer:?}"));
        }
    }
    println!("{asked} calls asked about, from {} types of programs", programs.len());
    let text: Vec<String> = wrong
        .iter()
        .map(|(name, what)| {
            format!("{name}: {}", what.lines().rev().find(|l| !l.starts_with("processed")).unwrap_or(""))
        })
        .collect();
    assert!(text.is_empty(), "\n{}", text.join("\n"));
}
