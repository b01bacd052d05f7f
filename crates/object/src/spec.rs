//! What is to be loaded, as plain values: the one shape that every front end makes and every back end takes.
//!
//! An [`ObjectSpec`] is the same on every machine: whatever depends on the kernel (map file descriptors, addresses of
//! kernel symbols, field offsets) is still a [`Reloc`], an [`ExternSpec`] or a [`CoreReloc`].

use std::sync::Arc;

use skep_abi::{AttachType, MapType, ProgramType};
use skep_btf::{Btf, TypeId};
use skep_isa::{Endian, InsnIdx, Raw};

/// Index into [`ObjectSpec::maps`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MapIdx(pub usize);

/// Index into [`ObjectSpec::programs`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProgramIdx(pub usize);

/// Index into [`ObjectSpec::externs`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExternIdx(pub usize);

/// Everything a file or a script wants loaded.
#[derive(Clone, Debug)]
pub struct ObjectSpec {
    /// Name for messages: the file's stem, or what the front end says.
    pub name: String,
    /// Byte order of the code and data.
    pub endian: Endian,
    /// `license` section, `""` if there is none.
    pub license: String,
    /// `version` section (`LINUX_VERSION_CODE`), 0 if there is none. Modern kernels ignore it.
    pub kernel_version: u32,
    /// Entry programs in file order (subprograms are linked into each).
    pub programs: Vec<ProgramSpec>,
    /// Maps: declared ones in file order, then the data sections.
    pub maps: Vec<MapSpec>,
    /// Things that only the running kernel knows.
    pub externs: Vec<ExternSpec>,
    /// The file's type information, data sections' sizes and offsets already filled in.
    pub btf: Option<Btf>,
    /// What was odd but not wrong, for the person.
    pub warnings: Vec<String>,
}

/// One program with everything it calls linked in behind it.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// Function name.
    pub name: String,
    /// ELF section as written, such as `tracepoint/sched/sched_switch`.
    pub section: String,
    /// What the section name says.
    pub hook: Hook,
    /// Entry function first, then each subprogram it reaches. Calls between them are resolved.
    pub insns: Vec<Raw>,
    /// What must be filled in before loading, by instruction.
    pub relocs: Vec<Reloc>,
    /// CO-RE records, by instruction, at most one for each; emptied by [`crate::core::relocate`].
    pub core_relocs: Vec<CoreReloc>,
    /// Where functions start.
    pub funcs: Vec<FuncSpan>,
    /// Source lines, by instruction, at most one for each.
    pub lines: Vec<Line>,
    /// Instructions that a CO-RE relocation or a weak extern could not satisfy, and why: they were replaced by a call
    /// to a helper that does not exist, so that the verifier refuses them only where they can be reached.
    pub poisoned: Vec<(InsnIdx, String)>,
}

/// What a section name says of its program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Program type; `Unspec` for a section that no convention knows.
    pub prog_type: ProgramType,
    /// `expected_attach_type` of the load, where the type has one.
    pub attach_type: Option<AttachType>,
    /// Where to attach.
    pub target: Target,
    /// `.s`: may sleep (`BPF_F_SLEEPABLE`).
    pub sleepable: bool,
    /// `.frags`: an XDP program for multi-buffer packets (`BPF_F_XDP_HAS_FRAGS`).
    pub xdp_frags: bool,
    /// `false` for a section that starts with `?`: loaded only when asked for.
    pub autoload: bool,
}

/// Where a section name wants its program attached. `None` inside means the name leaves it open.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields are the parts of the section name")]
pub enum Target {
    /// The type says it all (XDP, tc, cgroup, sk_lookup, ...): the caller brings interface or cgroup.
    Unspecified,
    /// `tracepoint/CATEGORY/NAME`
    Tracepoint(Option<(String, String)>),
    /// `raw_tracepoint/NAME`
    RawTracepoint(Option<String>),
    /// `tp_btf/NAME`
    BtfTracepoint(Option<String>),
    /// `fentry/FUNC`, `fexit/FUNC`, `fmod_ret/FUNC`, `freplace/FUNC`
    BtfFunc(Option<String>),
    /// `lsm/HOOK`, `lsm_cgroup/HOOK`
    Lsm(Option<String>),
    /// `iter/KIND`
    Iter(Option<String>),
    /// `kprobe/FUNC+OFFSET`, `kretprobe/FUNC`
    Kprobe { func: Option<(String, u64)>, ret: bool },
    /// `kprobe.multi/PATTERN`, `kretprobe.multi/PATTERN`, `kprobe.session/PATTERN`
    KprobeMulti { pattern: Option<String>, ret: bool, session: bool },
    /// `ksyscall/NAME`, `kretsyscall/NAME`
    Ksyscall { name: Option<String>, ret: bool },
    /// `uprobe/PATH:FUNC+OFFSET`, `uretprobe/PATH:FUNC`
    Uprobe { at: Option<UprobeTarget>, ret: bool },
    /// `uprobe.multi/PATH:PATTERN`
    UprobeMulti { at: Option<(String, String)>, ret: bool, session: bool },
    /// `usdt/PATH:PROVIDER:NAME`
    Usdt(Option<(String, String, String)>),
    /// `struct_ops/NAME`
    StructOps(Option<String>),
}

/// Where in a binary a uprobe goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UprobeTarget {
    /// A path, or a library name such as `libc.so.6` for the loader to find.
    pub binary: String,
    /// Function symbol, `None` when only an offset is given.
    pub func: Option<String>,
    /// Bytes from the function's start (or from the file's start where there is no function).
    pub offset: u64,
}

/// A value that only the loader knows, and the instruction that wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reloc {
    /// The instruction: a wide load, or a call.
    pub insn: InsnIdx,
    /// What it wants.
    pub kind: RelocKind,
}

/// What a [`Reloc`] wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelocKind {
    /// Wide load of a map (`BPF_PSEUDO_MAP_FD`).
    Map(MapIdx),
    /// Wide load of an address within a data map (`BPF_PSEUDO_MAP_VALUE`); the offset already stands in the second
    /// slot's immediate.
    MapValue(MapIdx),
    /// Wide load of an extern variable or of a kernel function's address.
    Extern(ExternIdx),
    /// Call of an extern kernel function (`BPF_PSEUDO_KFUNC_CALL`).
    ExternCall(ExternIdx),
}

/// A CO-RE record placed in a linked program. Source: `struct bpf_core_relo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreReloc {
    /// The instruction to patch.
    pub insn: InsnIdx,
    /// Root type, in the object's BTF.
    pub ty: TypeId,
    /// Access path, such as `0:1:2`; shared by the copies of a record.
    pub access: Arc<str>,
    /// `enum bpf_core_relo_kind`.
    pub kind: u32,
}

/// A function within a linked program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FuncSpan {
    /// First instruction.
    pub start: InsnIdx,
    /// Name; shared by the copies of a function.
    pub name: Arc<str>,
    /// Its `Func` in the object's BTF, [`TypeId::VOID`] when unknown.
    pub ty: TypeId,
}

/// A source line; strings are offsets in the object's BTF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// First instruction made from it.
    pub insn: InsnIdx,
    /// Offset of the file name.
    pub file_name_off: u32,
    /// Offset of the text of the line.
    pub text_off: u32,
    /// From 1.
    pub line: u32,
    /// From 1; 0 when unknown.
    pub column: u32,
}

/// A map to be made.
#[derive(Clone, Debug)]
pub struct MapSpec {
    /// Name as in the source, or `.rodata`, `.bss`, `.data.NAME`, `.kconfig`.
    pub name: String,
    /// Where it comes from.
    pub origin: MapOrigin,
    /// Type.
    pub map_type: MapType,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// 0 where the loader decides (per-CPU event arrays take the number of CPUs).
    pub max_entries: u32,
    /// `BPF_F_*` of map creation.
    pub flags: u32,
    /// With `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// `map_extra` (hash functions of a bloom filter, address of an arena).
    pub map_extra: u64,
    /// Key type in the object's BTF, where declared.
    pub key_type: Option<TypeId>,
    /// Value type in the object's BTF, where declared; for a data section its `Datasec`.
    pub value_type: Option<TypeId>,
    /// Type of the records in a ring or perf buffer, where declared (see `bpf/include/skep.h`).
    pub record_type: Option<TypeId>,
    /// Whether it lives under a bpffs path of its name.
    pub pin_by_name: bool,
    /// Template of the maps in a map of maps.
    pub inner: Option<Box<MapSpec>>,
    /// Slots set before the programs run.
    pub initial: Vec<InitialSlot>,
    /// Contents of a data section.
    pub data: Option<Vec<u8>>,
    /// Variables of a data section.
    pub vars: Vec<VarSpec>,
}

/// Where a map comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapOrigin {
    /// `.maps`, or what a front end declares.
    Declared,
    /// The old `maps` section of `struct bpf_map_def`.
    Legacy,
    /// `.rodata*`: frozen after it is filled.
    Rodata,
    /// `.data*`
    Data,
    /// `.bss*`
    Bss,
    /// `.kconfig`: values of the running kernel's configuration, frozen.
    Kconfig,
}

/// A slot of a map with its first content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InitialSlot {
    /// Key.
    pub slot: u32,
    /// Content.
    pub value: InitialValue,
}

/// What an [`InitialSlot`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InitialValue {
    /// In a map of maps.
    Map(MapIdx),
    /// In a program array.
    Program(ProgramIdx),
}

/// A global variable within a data section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VarSpec {
    /// Name.
    pub name: String,
    /// Bytes from the start of the section.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Its type (not the `Var`), [`TypeId::VOID`] without BTF.
    pub ty: TypeId,
    /// Whether it is `static`.
    pub is_static: bool,
}

/// A name that only the running kernel can resolve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternSpec {
    /// Name; the part after `___` of a kernel function is a flavour, see [`ExternSpec::lookup_name`].
    pub name: String,
    /// Weak: may be missing (then 0).
    pub weak: bool,
    /// What kind of thing.
    pub kind: ExternKind,
}

/// Kinds of extern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExternKind {
    /// `CONFIG_*` or `LINUX_KERNEL_VERSION`, `LINUX_HAS_SYSCALL_WRAPPER`: a variable in `.kconfig`.
    Kconfig {
        /// Bytes from the start of `.kconfig`.
        offset: u32,
        /// Bytes.
        size: u32,
        /// Type.
        ty: TypeId,
    },
    /// A kernel variable with a type: its BTF id is loaded.
    TypedKsym {
        /// Type in the object's BTF.
        ty: TypeId,
    },
    /// A kernel symbol without a type (`void`): its address from kallsyms is loaded.
    UntypedKsym,
    /// A kernel function.
    Kfunc {
        /// `Func` in the object's BTF.
        ty: TypeId,
    },
}

impl Hook {
    /// Whether the program is attached to a cgroup.
    pub fn wants_cgroup(&self) -> bool {
        use ProgramType as P;
        self.attach_type == Some(AttachType::LsmCgroup)
            || matches!(
                self.prog_type,
                P::CgroupSkb
                    | P::CgroupSock
                    | P::SockOps
                    | P::CgroupDevice
                    | P::CgroupSockAddr
                    | P::CgroupSysctl
                    | P::CgroupSockopt
            )
    }
}

impl ObjectSpec {
    /// The map of this name.
    pub fn map(&self, name: &str) -> Option<(MapIdx, &MapSpec)> {
        self.maps.iter().enumerate().find(|(_, m)| m.name == name).map(|(i, m)| (MapIdx(i), m))
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<(ProgramIdx, &ProgramSpec)> {
        self.programs.iter().enumerate().find(|(_, p)| p.name == name).map(|(i, p)| (ProgramIdx(i), p))
    }
}

impl ProgramSpec {
    /// The source line that an instruction was made from.
    pub fn line_of(&self, insn: InsnIdx) -> Option<&Line> {
        match self.lines.partition_point(|l| l.insn <= insn) {
            0 => None,
            n => self.lines.get(n - 1),
        }
    }
}
