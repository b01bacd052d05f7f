//! Holds the tables against the running kernel by attempt: every helper from every program type, every context field
//! by every size, every map flag. The kernel is asked by `tests/abi/attempts.c`, built with clang as the test runs; where
//! there is no clang (in a guest), SKEP_ABI_ATTEMPTS names the built program.
//!
//! What the tables say of 6.18 is checked on 6.18 and newer; an older kernel is asked too, and held to the newest entry
//! that is not after it. A disagreement fails, unless it stands in one of the lists here with its reason.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use skep_abi::{
    AttachType as A, KernelVersion, MapType, ProgramType as P,
    context::{self, FieldKind},
    helpers::{self, ArgKind},
    map_helpers,
    maps::{self, EntriesRule, SizeRule},
};
use skep_btf::{Btf, Kind};

/// The program that asks, while it runs; ends with its standard input.
struct Kernel {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    release: KernelVersion,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        drop(self.questions.take());
        self.child.wait().expect("the asking program ends");
    }
}

fn clang() -> Option<PathBuf> {
    let named = std::env::var_os("CLANG").map(PathBuf::from);
    let versions = (14..=30).rev().map(|version| PathBuf::from(format!("clang-{version}")));
    named.into_iter().chain([PathBuf::from("clang")]).chain(versions).find(|name| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    })
}

impl Kernel {
    /// Builds and starts the asking program; `None`, said aloud, where the test cannot run.
    fn start(test: &str) -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let root = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
        if !root {
            eprintln!("{test} needs root: it loads programs and makes maps");
            return None;
        }
        if let Some(program) = std::env::var_os("SKEP_ABI_ATTEMPTS") {
            return Some(Self::run(Path::new(&program)));
        }
        let clang = clang().expect("clang, which skep needs to compile programs: apt-get install clang-19");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/abi/attempts.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("attempts-{test}-{}", std::process::id()));
        let built = Command::new(clang).args(["-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(&source).status();
        assert!(built.expect("clang starts").success(), "{} compiles", source.display());
        let kernel = Self::run(&program);
        std::fs::remove_file(&program).expect("the program that runs can be unlinked");
        Some(kernel)
    }

    fn run(program: &Path) -> Self {
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
        Self { child, questions, answers, release: release.parse().expect("a kernel version") }
    }

    fn ask(&mut self, question: &str) -> (i32, String) {
        let input = self.questions.as_mut().expect("open until dropped");
        writeln!(input, "{question}").expect("it reads the question");
        input.flush().expect("it reads the question");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        let (error, log) = answer.trim_end_matches('\n').split_once('\t').expect("an errno and a log");
        (error.parse().expect("an errno"), log.to_owned())
    }

    fn load(&mut self, place: &Place, licence: &str, code: &[[u8; 8]]) -> (i32, String) {
        let hex: String = code.concat().iter().map(|byte| format!("{byte:02x}")).collect();
        let Place { program, attach, btf_id, flags, .. } = place;
        self.ask(&format!("P {} {attach} {btf_id} {flags} {licence} {hex}", program.as_u32()))
    }

    fn map(&mut self, kind: MapType, key: u32, value: u32, entries: u32, flags: u64) -> i32 {
        let inner = u32::from(maps::facts(kind).holds_maps);
        self.ask(&format!("M {} {key} {value} {entries} {flags} {inner}", kind.as_u32())).0
    }
}

/// Where a program is loaded for.
#[derive(Clone, Debug)]
struct Place {
    program: P,
    attach: u32,
    btf_id: u32,
    flags: u32,
}

fn place(program: P, attach: Option<A>) -> Place {
    Place { program, attach: attach.map_or(0, A::as_u32), btf_id: 0, flags: 0 }
}

fn insn(opcode: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    [opcode, dst | src << 4, o0, o1, i0, i1, i2, i3]
}

const MOV: u8 = 0xb7;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const ENOMEM: i32 = 12;
/// Where programs find the map, see the asking program.
const MAP_FD: i32 = 50;

/// One place for each program type that can be loaded without a target, and with the targets that BTF gives.
fn places() -> Vec<Place> {
    let mut places: Vec<Place> = P::ALL
        .iter()
        .filter(|program| !matches!(program, P::Unspec | P::Tracing | P::Lsm | P::Ext | P::StructOps | P::Syscall))
        .map(|&program| match program {
            P::CgroupSock => place(program, Some(A::CgroupInetSockCreate)),
            P::CgroupSockAddr => place(program, Some(A::CgroupInet4Connect)),
            P::CgroupSockopt => place(program, Some(A::CgroupSetsockopt)),
            P::SkLookup => place(program, Some(A::SkLookup)),
            P::Netfilter => place(program, Some(A::Netfilter)),
            _ => place(program, None),
        })
        .collect();
    const SLEEPABLE: u32 = 1 << 4;
    places.push(Place { flags: SLEEPABLE, ..place(P::Syscall, None) });
    if let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") {
        let btf = Btf::parse(bytes).expect("the kernel's own BTF");
        let targets = [
            (P::Tracing, Some(A::TraceFentry), "vfs_read", Kind::Func),
            (P::Tracing, Some(A::TraceRawTp), "btf_trace_sched_switch", Kind::Typedef),
            (P::Tracing, Some(A::TraceIter), "bpf_iter_task", Kind::Func),
            (P::Lsm, Some(A::LsmMac), "bpf_lsm_file_open", Kind::Func),
            (P::StructOps, None, "tcp_congestion_ops", Kind::Struct),
        ];
        for (program, attach, name, kind) in targets {
            if let Some(id) = btf.find(name, kind) {
                places.push(Place { btf_id: id.0, ..place(program, attach) });
            }
        }
    }
    places
}

/// Helpers that configuration or a fix in a stable release takes away from a type (`None`: from all) that has them.
const CONFIGURED_AWAY: &[(&str, Option<P>, &str)] = &[
    ("bpf_override_return", None, "needs CONFIG_BPF_KPROBE_OVERRIDE and CONFIG_FUNCTION_ERROR_INJECTION"),
    ("bpf_probe_write_user", None, "refused under lockdown, and by kernels hardened against it"),
    ("bpf_probe_read", None, "only where user and kernel addresses do not overlap"),
    ("bpf_probe_read_str", None, "only where user and kernel addresses do not overlap"),
    (
        "bpf_skb_pull_data",
        Some(P::LwtSeg6local),
        "a fix that stable kernels got late (6.12.117 has it, 6.18.44 has not)",
    ),
];

/// Whether the verifier's log says that the helper is not for this program.
fn refused(log: &str) -> bool {
    ["program of this type cannot use helper", "unknown func", "invalid func"].iter().any(|text| log.contains(text))
}

#[test]
fn helpers_are_callable_where_the_table_says() {
    let Some(mut kernel) = Kernel::start("helpers") else { return };
    let release = kernel.release;
    let mut wrong = Vec::new();
    let mut asked = 0;
    let mut reached = BTreeSet::new();
    for place in places() {
        let (error, log) = kernel.load(&place, "GPL", &[insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
        // A type that the kernel was built without, or hooks that it refuses altogether.
        if error != 0 && log.is_empty() {
            eprintln!("not asked: {} (attach type {}), error {error}", place.program, place.attach);
            continue;
        }
        reached.insert(place.program);
        for helper in helpers::all().filter(|helper| helper.since <= release) {
            let code = [insn(CALL, 0, 0, 0, helper.id as i32), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)];
            let (_, log) = kernel.load(&place, "GPL", &code);
            asked += 1;
            let callable = !refused(&log);
            let expected = helper.programs_on(Some(release)).contains(place.program);
            // Before 6.12 a helper that sleeps does not exist for programs that may not.
            let sleeps = helper.signature_in(place.program).might_sleep() && release < KernelVersion::new(6, 12);
            let away = CONFIGURED_AWAY.iter().any(|(name, program, _)| {
                *name == helper.name && program.is_none_or(|program| program == place.program)
            });
            let explained = !callable && (helper.conditional.contains(place.program) || sleeps || away);
            if callable != expected && !explained {
                wrong.push(format!(
                    "{} in {} (attach type {}): callable {callable}",
                    helper.name, place.program, place.attach
                ));
            }
        }
    }
    eprintln!("{asked} calls asked for in {} program types", reached.len());
    assert!(reached.len() >= 10, "the kernel loads only {reached:?}");
    assert!(wrong.is_empty(), "{} disagreements on {release}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn gpl_helpers_are_those_the_table_says() {
    let Some(mut kernel) = Kernel::start("gpl") else { return };
    let release = kernel.release;
    let mut wrong = Vec::new();
    // struct_ops and lsm programs as a whole must be GPL-compatible, so there the helpers are not asked about.
    for place in places().into_iter().filter(|place| !matches!(place.program, P::StructOps | P::Lsm)) {
        for helper in helpers::all().filter(|helper| helper.programs_on(Some(release)).contains(place.program)) {
            let code = [insn(CALL, 0, 0, 0, helper.id as i32), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)];
            let (_, log) = kernel.load(&place, "Proprietary", &code);
            if refused(&log) || log.is_empty() || !log.contains('#') && !log.contains("R1") && !log.contains("GPL") {
                continue;
            }
            let gpl = log.contains("cannot call GPL-restricted function");
            if gpl != helper.signature_in(place.program).gpl_only() {
                wrong.push(format!("{} in {}: GPL only {gpl}: {log}", helper.name, place.program));
            }
        }
    }
    assert!(wrong.is_empty(), "{} disagreements on {release}:\n{}", wrong.len(), wrong.join("\n"));
}

/// With numbers in all argument registers but the last it needs, a helper must complain: of the number's type, or of
/// the register that is missing; with all it needs, never of a missing register.
#[test]
fn helpers_take_as_many_arguments_as_the_table_says() {
    let Some(mut kernel) = Kernel::start("arguments") else { return };
    let release = kernel.release;
    let mut wrong = Vec::new();
    let mut counted = 0;
    for place in places()
        .into_iter()
        .filter(|place| matches!(place.program, P::SchedCls | P::Xdp | P::Kprobe | P::SkMsg | P::SockOps))
    {
        for helper in helpers::all().filter(|helper| helper.programs_on(Some(release)).contains(place.program)) {
            let signature = helper.signature_in(place.program);
            // The context stays in r1; beyond that only plain numbers get past the verifier's type check.
            let plain = |kind| matches!(kind, ArgKind::Anything);
            let first = signature.args.first().map(|arg| arg.kind);
            if !signature.args.iter().skip(1).all(|arg| plain(arg.kind))
                || !first.is_none_or(|k| plain(k) || k == ArgKind::Ctx)
            {
                continue;
            }
            for given in signature.args.len().saturating_sub(1).max(1)..=signature.args.len().max(1) {
                let mut code: Vec<_> = (2..=given as u8).map(|register| insn(MOV, register, 0, 0, 0)).collect();
                code.extend([insn(CALL, 0, 0, 0, helper.id as i32), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
                let (_, log) = kernel.load(&place, "GPL", &code);
                if refused(&log) {
                    continue;
                }
                let missing = log.contains("!read_ok");
                counted += 1;
                if missing != (given < signature.args.len()) {
                    wrong.push(format!(
                        "{} in {} given {given} of {}: {log}",
                        helper.name,
                        place.program,
                        signature.args.len()
                    ));
                }
            }
        }
    }
    assert!(counted > 100, "only {counted} calls");
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the verifier says it expected where it gets the context instead, or `None` where it takes that too.
fn expected_words(kind: ArgKind) -> Option<&'static str> {
    Some(match kind {
        ArgKind::Anything | ArgKind::Ctx => return None,
        ArgKind::ConstMapPtr => "map_ptr",
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem => "fp, pkt",
        ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => "scalar",
        ArgKind::SpinLock | ArgKind::KptrXchgDest => "map_value, ptr_",
        ArgKind::Timer | ArgKind::ConstStr => "map_value",
        ArgKind::SockCommon => "sock_common, sock",
        ArgKind::Socket => "sock",
        ArgKind::BtfId => "ptr_, trusted_ptr_",
        ArgKind::RingbufMem => "ringbuf_mem",
        ArgKind::BtfIdSockCommon => "sock_common, sock",
        ArgKind::PercpuBtfId => "percpu_ptr_",
        ArgKind::Func => "func",
        ArgKind::Stack => "fp",
        ArgKind::Dynptr => "fp, dynptr_ptr",
    })
}

/// The start of a program that has its context in r6, and in r7 the address of 64 bytes of stack, all zero.
fn prologue() -> Vec<[u8; 8]> {
    let mut code = vec![insn(0xbf, 6, 1, 0, 0), insn(0xbf, 7, 10, 0, 0), insn(0x07, 7, 0, 0, -64)];
    code.extend((1..=8).map(|word| insn(0x7a, 10, 0, -8 * word, 0)));
    code
}

/// Puts good values for these arguments into r1 and on; false where there is none to be had.
fn pass(code: &mut Vec<[u8; 8]>, args: &[helpers::Arg]) -> bool {
    for (arg, register) in args.iter().zip(1..) {
        match arg.kind {
            ArgKind::Ctx => code.push(insn(0xbf, register, 6, 0, 0)),
            ArgKind::Anything => code.push(insn(MOV, register, 0, 0, 0)),
            ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => {
                code.push(insn(MOV, register, 0, 0, 8));
            }
            ArgKind::Mem | ArgKind::MapKey | ArgKind::MapValue => code.push(insn(0xbf, register, 7, 0, 0)),
            ArgKind::ConstMapPtr => code.extend([insn(0x18, register, 1, 0, MAP_FD), insn(0, 0, 0, 0, 0)]),
            _ => return false,
        }
    }
    true
}

#[test]
fn helpers_take_the_maps_the_table_says() {
    let Some(mut kernel) = Kernel::start("map-helpers") else { return };
    let release = kernel.release;
    let mut wrong = Vec::new();
    let (mut taken, mut refused_maps) = (0, 0);
    for &kind in MapType::ALL {
        let facts = maps::facts(kind);
        if kind == MapType::Unspec || facts.btf == maps::BtfRule::Required || kind.since() > release {
            continue;
        }
        let (key, value, entries) = sizes(kind);
        let (number, flags, inner) = (kind.as_u32(), facts.required_flags, u32::from(facts.holds_maps));
        let (error, _) = kernel.ask(&format!("K {number} {key} {value} {entries} {flags} {inner}"));
        if error == ENOMEM {
            eprintln!("not asked: {kind}, there is no memory for it here");
            continue;
        }
        assert_eq!(error, 0, "{kind}");
        for place in places().into_iter().filter(|place| {
            matches!(place.program, P::SchedCls | P::Xdp | P::Kprobe | P::SkSkb | P::SkMsg | P::SkReuseport)
        }) {
            for helper in helpers::all().filter(|helper| helper.programs_on(Some(release)).contains(place.program)) {
                let args = helper.signature_in(place.program).args;
                let mut code = prologue();
                if !args.iter().any(|arg| arg.kind == ArgKind::ConstMapPtr) || !pass(&mut code, args) {
                    continue;
                }
                code.extend([insn(CALL, 0, 0, 0, helper.id as i32), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
                let (error, log) = kernel.load(&place, "GPL", &code);
                let expected = map_helpers::takes(helper.name, kind);
                let cannot = log.contains("cannot pass map_type");
                // Another complaint says nothing: the verifier looked no further.
                if error != 0 && !cannot {
                    continue;
                }
                // A socket map that this type of program may not change is refused in the same words.
                let sockmap_change = matches!(kind, MapType::Sockmap | MapType::Sockhash)
                    && matches!(helper.name, "bpf_map_update_elem" | "bpf_map_delete_elem");
                let expected = expected && (!sockmap_change || map_helpers::SOCKMAP_UPDATERS.contains(place.program));
                if cannot {
                    refused_maps += 1
                } else {
                    taken += 1
                }
                if cannot == expected {
                    wrong.push(format!("{} with {kind} in {}: refused {cannot}: {log}", helper.name, place.program));
                }
            }
        }
    }
    eprintln!("{taken} pairs taken, {refused_maps} refused");
    assert!(taken > 50 && refused_maps > 100, "{taken} pairs taken, {refused_maps} refused");
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

/// Passes the context where something else is wanted, argument by argument, with good values before it.
#[test]
fn arguments_are_of_the_kind_the_table_says() {
    let Some(mut kernel) = Kernel::start("kinds") else { return };
    // The words are those of 6.12 to 6.18; the kernel chooses others from time to time.
    let known = KernelVersion::new(6, 12)..KernelVersion::new(7, 0);
    if !known.contains(&kernel.release) {
        eprintln!("skipped: needs a kernel from {} to before {}, this is {}", known.start, known.end, kernel.release);
        return;
    }
    let release = kernel.release;
    let mut wrong = Vec::new();
    let mut asked = BTreeSet::new();
    for place in places() {
        for helper in helpers::all().filter(|helper| helper.programs_on(Some(release)).contains(place.program)) {
            let args = helper.signature_in(place.program).args;
            for (index, asked_about) in args.iter().enumerate() {
                let register = index as u8 + 1;
                let mut code = prologue();
                let reachable = pass(&mut code, &args[..index]);
                if !reachable {
                    break;
                }
                code.push(insn(0xbf, register, 6, 0, 0));
                code.extend((register + 1..=5).map(|rest| insn(MOV, rest, 0, 0, 0)));
                code.extend([insn(CALL, 0, 0, 0, helper.id as i32), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)]);
                let (error, log) = kernel.load(&place, "GPL", &code);
                if refused(&log)
                    || error != 0 && log.is_empty()
                    || log.contains("might sleep")
                    || log.contains("not allowed in probe")
                {
                    break;
                }
                let complaint =
                    log.split('|').find(|line| line.starts_with(&format!("R{register} type=ctx expected=")));
                let said = complaint.and_then(|line| line.split_once("expected=")).map(|(_, kinds)| kinds);
                let agrees = match expected_words(asked_about.kind) {
                    Some(words) => said.is_some_and(|kinds| kinds.starts_with(words)),
                    None => said.is_none(),
                };
                asked.insert((helper.id, index));
                if !agrees {
                    wrong.push(format!(
                        "{} in {}, argument {register}: {:?} here; {}",
                        helper.name,
                        place.program,
                        asked_about.kind,
                        log.rsplit('|').find(|line| !line.is_empty() && !line.starts_with("processed")).unwrap_or(&log)
                    ));
                }
            }
        }
    }
    let all: usize = helpers::all().map(|helper| helper.signature.args.len()).sum();
    eprintln!("{} of {all} arguments asked about", asked.len());
    assert!(asked.len() > 300, "only {} arguments asked about", asked.len());
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn context_access_is_what_the_table_says() {
    let Some(mut kernel) = Kernel::start("context") else { return };
    if kernel.release < KernelVersion::new(6, 18) {
        eprintln!("skipped: needs 6.18, whose access the table has; this is {}", kernel.release);
        return;
    }
    let mut wrong = Vec::new();
    for access in context::all_access() {
        let places: Vec<Place> = match access.program {
            P::SkLookup => vec![place(access.program, Some(A::SkLookup))],
            P::Netfilter => vec![place(access.program, Some(A::Netfilter))],
            program if access.attach.is_empty() => vec![place(program, None)],
            program => access.attach.iter().map(|&attach| place(program, Some(attach))).collect(),
        };
        for place in places {
            for field in access.context.fields {
                // The whole of the registers, and the user's side of a union (see `FieldAccess`).
                if matches!(
                    (access.context.name, field.name),
                    ("bpf_perf_event_data", "regs") | ("bpf_sk_lookup", "cookie")
                ) {
                    continue;
                }
                let (mut reads, mut writes) = (0, 0);
                let mut kind = None;
                for (size, load, store) in [(1, 0x71, 0x73), (2, 0x69, 0x6b), (4, 0x61, 0x63), (8, 0x79, 0x7b)] {
                    if size > field.size.max(4) {
                        continue;
                    }
                    let end = [insn(MOV, 0, 0, 0, 1), insn(EXIT, 0, 0, 0, 0)];
                    let code = [insn(load, 6, 1, field.offset as i16, 0), end[0], end[1]];
                    let (_, log) = kernel.load(&place, "GPL", &code);
                    assert!(!log.is_empty(), "{place:?} cannot be loaded at all");
                    if !log.contains("invalid bpf_context access") {
                        reads |= size as u8;
                        let got = log.split("R6_w=").nth(1).or_else(|| log.split("R6=").nth(1)).unwrap_or("");
                        let got: String = got.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                        kind = kind.or(Some(got));
                    }
                    let code = [insn(MOV, 6, 0, 0, 0), insn(store, 1, 6, field.offset as i16, 0), end[0], end[1]];
                    if !kernel.load(&place, "GPL", &code).1.contains("invalid bpf_context access") {
                        writes |= size as u8;
                    }
                }
                let said = access.of(field.name).map_or((0, 0), |access| (access.reads, access.writes));
                if said != (reads, writes) {
                    wrong.push(format!(
                        "{place:?} {}.{}: {said:?} here, {:?} there",
                        access.context.name,
                        field.name,
                        (reads, writes)
                    ));
                }
                let expected = match field.kind {
                    FieldKind::Scalar => "scalar".to_owned(),
                    FieldKind::Packet => "pkt".to_owned(),
                    FieldKind::PacketEnd => "pkt_end".to_owned(),
                    FieldKind::PacketMeta => "pkt_meta".to_owned(),
                    FieldKind::FlowKeys => "flow_keys".to_owned(),
                    FieldKind::SockCommonOrNull => "sock_common_or_null".to_owned(),
                    FieldKind::Sock => "sock".to_owned(),
                    FieldKind::SockOrNull => "sock_or_null".to_owned(),
                    FieldKind::Kernel(name) => format!("trusted_ptr_{name}"),
                };
                if kind.as_ref().is_some_and(|kind| *kind != expected) {
                    wrong.push(format!(
                        "{place:?} {}.{}: {expected} here, {kind:?} there",
                        access.context.name, field.name
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

/// A key and value size, and a number of entries, that the rules allow.
fn sizes(kind: MapType) -> (u32, u32, u32) {
    let facts = maps::facts(kind);
    let pick = |rule: SizeRule| match rule {
        SizeRule::OneOf(sizes) => sizes[0],
        SizeRule::Between(low, high) => 8.clamp(low, high),
        SizeRule::MultipleOf(unit) => unit * 2,
        SizeRule::KernelStruct => 8,
    };
    let entries = match facts.entries {
        EntriesRule::Some | EntriesRule::Pages => 1,
        EntriesRule::Exactly(count) => count,
        EntriesRule::PowerOfTwoPages => 4096,
    };
    (pick(facts.key), pick(facts.value), entries)
}

#[test]
fn maps_take_what_the_table_says() {
    let Some(mut kernel) = Kernel::start("maps") else { return };
    let release = kernel.release;
    let mut wrong = Vec::new();
    for &kind in MapType::ALL {
        let facts = maps::facts(kind);
        // Those that cannot be made without type information are made by the loader's own tests.
        if kind == MapType::Unspec || facts.btf == maps::BtfRule::Required || kind.since() > release {
            continue;
        }
        let (key, value, entries) = sizes(kind);
        let error = kernel.map(kind, key, value, entries, facts.required_flags);
        if error == ENOMEM {
            eprintln!("not asked: {kind}, there is no memory for it here");
            continue;
        }
        if error != 0 {
            wrong.push(format!("{kind}: cannot be made at all, error {error}"));
            continue;
        }
        for size in 0..=20 {
            if (kernel.map(kind, size, value, entries, facts.required_flags) == 0) != facts.key.allows(size) {
                wrong.push(format!("{kind}: key of {size} bytes"));
            }
            if (kernel.map(kind, key, size, entries, facts.required_flags) == 0) != facts.value.allows(size) {
                wrong.push(format!("{kind}: value of {size} bytes"));
            }
        }
        if (kernel.map(kind, key, value, 0, facts.required_flags) == 0) != (facts.entries == EntriesRule::Exactly(0)) {
            wrong.push(format!("{kind}: no entries"));
        }
        if facts.required_flags != 0 && kernel.map(kind, key, value, entries, 0) == 0 {
            wrong.push(format!("{kind}: taken without its required flags"));
        }
        for flag in skep_abi::flags::map_create::ALL {
            // Tokens need a descriptor; build ids need values of 32 bytes a frame.
            if flag.name == "BPF_F_TOKEN_FD" || flag.since > release {
                continue;
            }
            let value = if flag.name == "BPF_F_STACK_BUILD_ID" && kind == MapType::StackTrace { 32 } else { value };
            let taken = kernel.map(kind, key, value, entries, facts.required_flags | flag.bit) == 0;
            if taken != (facts.flags & flag.bit != 0) {
                wrong.push(format!("{kind}: {} taken {taken}", flag.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} disagreements on {release}:\n{}", wrong.len(), wrong.join("\n"));
}
