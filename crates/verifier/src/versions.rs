//! What a kernel version lacks that a program needs: a helper, a map type, a program type, a kind of instruction.
//!
//! [`lacks`] compares a program with the tables of [`skep_abi`], each of which names the first kernel that has a thing. It is
//! about mainline releases: distributions port features back, so a kernel may have more than its number says, never less
//! in the tables' own terms (what is built without its configuration option is not seen here).
//!
//! ```no_run
//! # use skep_abi::KernelVersion;
//! let spec = skep_object::ObjectSpec::parse("prog", &std::fs::read("prog.bpf.o")?)?;
//! for lack in skep_verifier::versions::lacks(&spec, &spec.programs[0], None, KernelVersion::new(5, 4)) {
//!     println!("{lack}"); // map type ringbuf (`events`): since 5.8
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: fields of the context and rules of the analysis are judged by [`check`](crate::check), which takes the version
//! too; attach places only where the kernel demands them at load. Who may call a helper is known for some releases only, so
//! that a `since` about a program type may name a later release than the first.

use skep_abi::{AttachType, KernelVersion, MapType, ProgramType, helpers};
use skep_isa::{AluOp, AtomicOp, Call, Insn, InsnIdx, SwapOp, Wide, Width, decode};
use skep_object::{ExternKind, MapIdx, MapOrigin, MapSpec, ObjectSpec, ProgramSpec, RelocKind, Target};
use std::collections::BTreeSet;
use std::fmt;

/// Something that a program needs and a kernel does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lack {
    /// What, such as `helper bpf_ringbuf_output`.
    pub what: String,
    /// The first kernel that has it, where one does.
    pub since: Option<KernelVersion>,
    /// Where it is used, if at an instruction.
    pub insn: Option<InsnIdx>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since {
            Some(since) => write!(f, "{}: since {since}", self.what),
            None => write!(f, "{}: in no kernel known here", self.what),
        }
    }
}

/// Slots of a program before 5.2.
const OLD_MAX_INSNS: usize = 4096;

const fn v(major: u16, minor: u16) -> KernelVersion {
    KernelVersion::new(major, minor)
}

/// A program's needs, the most telling first: its type, maps, helpers, instructions. `prog_type` stands in for what the
/// section name says.
pub fn lacks(
    spec: &ObjectSpec,
    program: &ProgramSpec,
    prog_type: Option<ProgramType>,
    kernel: KernelVersion,
) -> Vec<Lack> {
    let mut search = Search { kernel, seen: BTreeSet::new(), found: Vec::new() };
    let prog_type = prog_type.unwrap_or(program.hook.prog_type);
    search.program(program, prog_type);
    search.maps(spec, program);
    search.instructions(program, prog_type);
    search.externs(spec, program);
    search.found
}

struct Search {
    kernel: KernelVersion,
    /// What was said before.
    seen: BTreeSet<String>,
    found: Vec<Lack>,
}

impl Search {
    fn need(&mut self, since: KernelVersion, insn: Option<InsnIdx>, what: impl FnOnce() -> String) {
        if self.kernel < since {
            self.lack(Some(since), insn, what());
        }
    }

    fn lack(&mut self, since: Option<KernelVersion>, insn: Option<InsnIdx>, what: String) {
        if self.seen.insert(what.clone()) {
            self.found.push(Lack { what, since, insn });
        }
    }

    fn program(&mut self, program: &ProgramSpec, prog_type: ProgramType) {
        let hook = &program.hook;
        self.need(prog_type.since(), None, || format!("program type {prog_type}"));
        if let Some(attach) = hook.attach_type.filter(|attach| named_at_load(prog_type, *attach)) {
            self.need(attach.since(), None, || format!("attach type {attach}"));
        }
        if hook.sleepable {
            // BPF_F_SLEEPABLE came with tracing and LSM programs, for others later.
            let since = match (prog_type, &hook.target) {
                (ProgramType::Kprobe, _) => v(6, 0),
                (ProgramType::Tracing, Target::Iter(_)) => v(6, 0),
                (ProgramType::Syscall, _) => v(5, 14),
                _ => v(5, 10),
            };
            self.need(since, None, || format!("{prog_type} programs that may sleep"));
        }
        if hook.xdp_frags {
            self.need(v(5, 18), None, || "XDP programs for packets in several buffers".to_owned());
        }
        if program.insns.len() > OLD_MAX_INSNS {
            self.need(v(5, 2), None, || format!("a program of {} instructions (4096 before)", program.insns.len()));
        }
    }

    fn maps(&mut self, spec: &ObjectSpec, program: &ProgramSpec) {
        for reloc in &program.relocs {
            let (RelocKind::Map(MapIdx(index)) | RelocKind::MapValue(MapIdx(index))) = reloc.kind else { continue };
            let Some(map) = spec.maps.get(index) else { continue };
            if matches!(reloc.kind, RelocKind::MapValue(_)) {
                self.need(v(5, 2), Some(reloc.insn), || "global variables".to_owned());
            }
            self.map(map, Some(reloc.insn));
            if let Some(inner) = &map.inner {
                self.map(inner, Some(reloc.insn));
            }
        }
    }

    fn map(&mut self, map: &MapSpec, insn: Option<InsnIdx>) {
        let kind = map.map_type;
        if !matches!(map.origin, MapOrigin::Declared | MapOrigin::Legacy) {
            return;
        }
        self.need(kind.since(), insn, || format!("map type {kind} (`{}`)", map.name));
        for (flag, since, name) in MAP_FLAGS {
            if map.flags & flag != 0 {
                self.need(*since, insn, || format!("map flag {name} (`{}`)", map.name));
            }
        }
        if map.inner.is_some() && !matches!(kind, MapType::ArrayOfMaps | MapType::HashOfMaps) {
            self.lack(None, insn, format!("a map of type {kind} with maps in it (`{}`)", map.name));
        }
    }

    fn instructions(&mut self, program: &ProgramSpec, prog_type: ProgramType) {
        // What is no program at all is not for this table: the check says so.
        let Ok(insns) = decode(&program.insns) else { return };
        for (at, insn) in insns {
            if let Insn::Call(Call::Helper(id)) = insn {
                if program.poisoned.iter().any(|(poisoned, _)| *poisoned == at) {
                    continue;
                }
                self.helper(id, prog_type, at);
            } else if let Some((since, what)) = instruction_since(&insn) {
                self.need(since, Some(at), || what.to_owned());
            }
            let jumps = matches!(insn, Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpIf { .. });
            if jumps && insn.target(at).is_some_and(|target| target <= at) {
                self.need(v(5, 3), Some(at), || "loops".to_owned());
            }
        }
    }

    fn helper(&mut self, id: u32, prog_type: ProgramType, at: InsnIdx) {
        let Some(helper) = helpers::by_id(id) else {
            self.lack(None, Some(at), format!("helper number {id}"));
            return;
        };
        if self.kernel < helper.since {
            self.lack(Some(helper.since), Some(at), format!("helper {}", helper.name));
        } else if !helper.programs_on(Some(self.kernel)).contains(prog_type)
            && helper.programs_on(None).contains(prog_type)
        {
            // Who may call a helper is known from some kernel on: before that the first one known stands for all.
            let since = helper.programs.iter().find(|(.., set)| set.contains(prog_type));
            let since = since.map(|(major, minor, _)| v(*major, *minor));
            self.lack(since, Some(at), format!("helper {} in {prog_type} programs", helper.name));
        }
    }

    fn externs(&mut self, spec: &ObjectSpec, program: &ProgramSpec) {
        for reloc in &program.relocs {
            let (RelocKind::Extern(index) | RelocKind::ExternCall(index)) = reloc.kind else { continue };
            let Some(external) = spec.externs.get(index.0).filter(|external| !external.weak) else { continue };
            match external.kind {
                ExternKind::Kfunc { .. } => match skep_abi::kfuncs::by_name(external.lookup_name()) {
                    Some(kfunc) => {
                        self.need(kfunc.since, Some(reloc.insn), || format!("kernel function {}", kfunc.name))
                    }
                    None => self.need(v(5, 13), Some(reloc.insn), || format!("kernel functions (`{}`)", external.name)),
                },
                ExternKind::TypedKsym { .. } => {
                    self.need(v(5, 10), Some(reloc.insn), || format!("variables of the kernel (`{}`)", external.name));
                }
                // The loader looks these up.
                ExternKind::Kconfig { .. } | ExternKind::UntypedKsym => {}
            }
        }
    }
}

/// Flags of map creation with their first kernel. Source: `enum` of `BPF_F_*` for map_create in `include/uapi/linux/bpf.h`.
const MAP_FLAGS: &[(u32, KernelVersion, &str)] = &[
    (1 << 0, v(4, 6), "BPF_F_NO_PREALLOC"),
    (1 << 1, v(4, 10), "BPF_F_NO_COMMON_LRU"),
    (1 << 2, v(4, 14), "BPF_F_NUMA_NODE"),
    (1 << 6, v(5, 0), "BPF_F_ZERO_SEED"),
    (1 << 7, v(5, 2), "BPF_F_RDONLY_PROG"),
    (1 << 8, v(5, 2), "BPF_F_WRONLY_PROG"),
    (1 << 9, v(5, 4), "BPF_F_CLONE"),
    (1 << 10, v(5, 5), "BPF_F_MMAPABLE"),
    (1 << 11, v(5, 8), "BPF_F_PRESERVE_ELEMS"),
    (1 << 12, v(5, 10), "BPF_F_INNER_MAP"),
    (1 << 13, v(6, 4), "BPF_F_LINK"),
];

/// Whether the kernel looks at the attach type when it loads a program, so that an old one refuses what it does not know.
/// Loaders leave it out for the others.
fn named_at_load(prog_type: ProgramType, attach: AttachType) -> bool {
    use ProgramType as P;
    match prog_type {
        P::Tracing | P::Lsm | P::CgroupSockAddr | P::CgroupSockopt | P::SkLookup | P::Netfilter => true,
        P::Kprobe => matches!(
            attach,
            AttachType::TraceKprobeMulti
                | AttachType::TraceKprobeSession
                | AttachType::TraceUprobeMulti
                | AttachType::TraceUprobeSession
        ),
        P::CgroupSock => attach != AttachType::CgroupInetSockCreate,
        P::Xdp => attach != AttachType::Xdp,
        P::SkReuseport => attach == AttachType::SkReuseportSelectOrMigrate,
        _ => false,
    }
}

/// The first kernel with this kind of instruction, where that is later than the first with eBPF at all. Source: the
/// changes to `kernel/bpf/core.c` and `kernel/bpf/verifier.c`.
pub(crate) fn instruction_since(insn: &Insn) -> Option<(KernelVersion, &'static str)> {
    use skep_isa::JmpOp as J;
    Some(match insn {
        Insn::JumpIf { width: Width::W32, .. } => (v(5, 1), "32-bit jumps (clang -mcpu=v3)"),
        Insn::JumpIf { op: J::Lt | J::Le | J::Slt | J::Sle, .. } => (v(4, 14), "jumps by less-than (clang -mcpu=v2)"),
        Insn::MovSx { .. } => (v(6, 6), "sign-extending moves (clang -mcpu=v4)"),
        Insn::LoadSx { .. } => (v(6, 6), "sign-extending loads (clang -mcpu=v4)"),
        Insn::Alu { op: AluOp::Sdiv | AluOp::Smod, .. } => (v(6, 6), "signed division (clang -mcpu=v4)"),
        Insn::ByteSwap { op: SwapOp::Swap, .. } => (v(6, 6), "unconditional byte swaps (clang -mcpu=v4)"),
        Insn::JumpLong { .. } => (v(6, 6), "long jumps (clang -mcpu=v4)"),
        Insn::Atomic { op: AtomicOp::Add { fetch: false }, .. } => return None,
        Insn::Atomic { .. } => (v(5, 12), "atomic operations other than plain addition (clang -mcpu=v3)"),
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => (v(6, 15), "load-acquire and store-release"),
        Insn::MayGoto { .. } => (v(6, 9), "may_goto loops"),
        Insn::AddrSpaceCast { .. } => (v(6, 9), "arena pointers"),
        Insn::JumpReg { .. } => (v(6, 19), "indirect jumps"),
        Insn::Call(Call::Subprog(_)) => (v(4, 16), "functions that are not inlined"),
        Insn::LoadWide { value: Wide::Func(_), .. } => (v(5, 13), "callback functions"),
        Insn::LoadWide { value: Wide::BtfVar { .. }, .. } => (v(5, 10), "variables of the kernel"),
        Insn::LoadWide { value: Wide::MapIdx(_) | Wide::MapIdxValue { .. }, .. } => {
            (v(5, 14), "maps by index in fd_array")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::test_spec;

    #[track_caller]
    fn check(text: &str, prog_type: ProgramType, kernel: (u16, u16), expected: &[&str]) {
        let spec = test_spec(text);
        let lacks = lacks(&spec, &spec.programs[0], Some(prog_type), v(kernel.0, kernel.1));
        let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        assert_eq!(lacks, expected);
    }

    #[test]
    fn each_thing_since_its_kernel() {
        let xdp = ProgramType::Xdp;
        check("r0 = 0\nexit", xdp, (4, 8), &[]);
        check("r0 = 0\nexit", xdp, (4, 7), &["program type xdp: since 4.8"]);
        check("call 130\nexit", xdp, (5, 7), &["helper bpf_ringbuf_output: since 5.8"]);
        check("call 130\ncall 130\nexit", xdp, (5, 8), &[]);
        check("call 9999\nexit", xdp, (6, 18), &["helper number 9999: in no kernel known here"]);
        check("r0 = (s8)r1\nexit", xdp, (6, 5), &["sign-extending moves (clang -mcpu=v4): since 6.6"]);
        check("r0 = (s8)r1\nexit", xdp, (6, 6), &[]);
        check("l: r0 = 0\nif w0 < 3 goto l\nexit", xdp, (5, 1), &["loops: since 5.3"]);
        check(
            "l: r0 = 0\nif w0 < 3 goto l\nexit",
            xdp,
            (4, 19),
            &["32-bit jumps (clang -mcpu=v3): since 5.1", "loops: since 5.3"],
        );
        check(
            "call 16\nexit",
            ProgramType::SocketFilter,
            (6, 12),
            &["helper bpf_get_current_comm in socket_filter programs: since 6.18"],
        );
    }
}
